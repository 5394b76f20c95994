//! A bounded reservoir of malformed frames, always on: of every interface, direction and reason the first and the latest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{event::Event, snapshot::Senders};

/// Version of the JSON form. Keys are added, never renamed.
pub const SCHEMA: u32 = 1;
/// Where the agent shows it, on its unix socket.
pub const PATH: &str = "/api/v1/evidence";

/// Interfaces, directions and reasons of which frames are kept.
const MOST_KINDS: usize = 256;
/// Bytes of all frames that are kept.
const MOST_BYTES: usize = 1 << 20;

/// What has been kept.
#[derive(Debug, Default)]
pub struct Reservoir {
    kinds: BTreeMap<Kind, Kept>,
    bytes: usize,
    lost: u64,
}

/// Interface, direction, reason.
type Kind = (String, Option<String>, String);

#[derive(Debug)]
struct Kept {
    first: Event,
    /// `None` while there was only one.
    latest: Option<Event>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.first.bytes.len() + self.latest.as_ref().map_or(0, |latest| latest.bytes.len())
    }
}

/// What the agent answers at [`PATH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Malformed frames, by interface, direction and reason; the first of each and, if there were more, the latest.
    pub frames: Vec<Event>,
    /// Frames that were to be kept and found no room.
    pub lost: u64,
    /// Who has sent malformed frames last, by interface.
    #[serde(default)]
    pub senders: Vec<Senders>,
}

impl Reservoir {
    /// Keeps malformed frames, as far as there is room for them. The first that finds none makes room by what is kept of
    /// interfaces that are gone: once for all of `events`, since a flood must not look for them with each frame.
    pub fn keep(&mut self, events: &[Event], present: impl FnOnce() -> BTreeSet<String>) {
        let mut present = Some(present);
        for event in events {
            let mut is_kept = self.put(event);
            if !is_kept && let Some(present) = present.take() {
                let present = present();
                self.kinds.retain(|(interface, ..), _| present.contains(interface));
                self.bytes = self.kinds.values().map(Kept::bytes).sum();
                is_kept = self.put(event);
            }
            self.lost += u64::from(!is_kept);
        }
    }

    fn put(&mut self, event: &Event) -> bool {
        let kind = (event.interface.clone(), event.direction.clone(), event.reason.clone());
        let bytes = event.bytes.len();
        let is_known = self.kinds.contains_key(&kind);
        let freed = self.kinds.get(&kind).and_then(|kept| kept.latest.as_ref()).map_or(0, |latest| latest.bytes.len());
        if (!is_known && self.kinds.len() >= MOST_KINDS) || self.bytes - freed + bytes > MOST_BYTES {
            return false;
        }
        self.bytes = self.bytes - freed + bytes;
        match self.kinds.get_mut(&kind) {
            Some(kept) => kept.latest = Some(event.clone()),
            None => {
                self.kinds.insert(kind, Kept { first: event.clone(), latest: None });
            }
        }
        true
    }

    /// Everything, and how much of what was to be kept was not.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let frames = self.kinds.values().flat_map(|kept| [Some(&kept.first), kept.latest.as_ref()]);
        Evidence { schema: SCHEMA, frames: frames.flatten().cloned().collect(), lost: self.lost, senders: Vec::new() }
    }

    /// Frames that found no room.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    fn frame(interface: &str, reason: &str, time: &str, bytes: usize) -> Event {
        Event {
            interface: interface.to_owned(),
            reason: reason.to_owned(),
            time: time.to_owned(),
            bytes: "00".repeat(bytes),
            ..example()
        }
    }

    #[test]
    fn the_first_and_the_latest_stay() {
        let mut reservoir = Reservoir::default();
        for (interface, reason, time) in
            [("b", "ip4_csum", "1"), ("a", "ip4_csum", "2"), ("b", "ip4_csum", "3"), ("b", "ip4_csum", "4")]
        {
            reservoir.keep(&[frame(interface, reason, time, 60)], BTreeSet::new);
        }
        let evidence = reservoir.evidence();
        let told: Vec<_> =
            evidence.frames.iter().map(|frame| (frame.interface.as_str(), frame.time.as_str())).collect();
        assert_eq!(told, [("a", "2"), ("b", "1"), ("b", "4")]);
        assert_eq!((evidence.lost, reservoir.bytes), (0, 3 * 120));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut reservoir = Reservoir::default();
        for number in 0..MOST_KINDS + 7 {
            reservoir.keep(&[frame("a", &number.to_string(), "1", 60)], || ["a".to_owned()].into());
        }
        reservoir.keep(&[frame("a", "5", "2", 60)], || ["a".to_owned()].into());
        assert_eq!(reservoir.lost(), 7, "there is room for another of a kind that is known");
        let mut reservoir = Reservoir::default();
        for number in 0..300 {
            reservoir.keep(&[frame("a", &(number % 200).to_string(), "1", 2052)], || ["a".to_owned()].into());
        }
        assert!(reservoir.bytes <= MOST_BYTES && reservoir.bytes > MOST_BYTES - 2 * 2052 * 2);
        assert_eq!(reservoir.evidence().frames.len() as u64 + reservoir.lost(), 300);
    }

    #[test]
    fn who_is_gone_makes_room() {
        let mut reservoir = Reservoir::default();
        for number in 0..MOST_KINDS {
            reservoir
                .keep(&[frame(if number < 100 { "gone" } else { "a" }, &number.to_string(), "1", 60)], BTreeSet::new);
        }
        reservoir.keep(&[frame("b", "ip4_csum", "2", 60)], || ["a".to_owned(), "b".to_owned()].into());
        assert_eq!((reservoir.kinds.len(), reservoir.lost()), (MOST_KINDS - 99, 0));
        assert_eq!(reservoir.bytes, reservoir.kinds.len() * 120);
    }
}
