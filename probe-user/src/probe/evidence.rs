//! Malformed frames as evidence: kept always, shown to whoever watches; and who has sent them last.

use std::time::Instant;

use anyhow::Result;
use probe_ebpf::{
    abi::{Direction, INSIDE, MalformedKey, Tally},
    classify::{Finding, Meta},
    reason::{Malformed, Scope},
    source::Sender,
    wire::ethernet,
};

use super::{
    Probe,
    events::{ends, hexadecimal},
};
use crate::{
    event::{Event, Kind},
    kernel::{events::Clock, evidence::Seen},
    record::evidence::Evidence,
    snapshot,
};

/// Senders of one interface that are shown.
const SENDERS_SHOWN: usize = 64;
/// Link types of captures (draft-ietf-opsawg-pcaplinktype).
const LINK_ETHERNET: u16 = 1;
const LINK_RAW: u16 = 101;

impl Probe {
    /// At most `most` of the frames that have come since the last call, the oldest first. They are kept, too.
    ///
    /// # Errors
    /// If the kernel does not tell the time.
    pub fn evidence(&mut self, most: usize) -> Result<Vec<Event>> {
        let batch = self.ring.read(most);
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let clock = Clock::now()?;
        let events: Vec<Event> = batch.into_iter().map(|seen| self.describe_frame(seen, clock)).collect();
        let now = Instant::now();
        events.iter().for_each(|event| self.claims.add(event, now));
        self.reservoir.keep(&events, || self.links.values().map(|link| link.name.clone()).collect());
        Ok(events)
    }

    /// What has been kept, and who has sent it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kept(&self) -> Result<Evidence> {
        let lost = self.maps.tally(Tally::EvidenceLost)? + self.reservoir.lost();
        Ok(Evidence { senders: self.senders()?, lost, ..self.reservoir.evidence() })
    }

    /// Who has sent malformed frames last, by interface.
    fn senders(&self) -> Result<Vec<snapshot::Senders>> {
        let mut shown = Vec::new();
        let malformed = self.maps.counters()?.malformed;
        for (ifindex, counted) in &self.counted {
            let (Some(place), Some(link)) = (counted.place, self.links.get(ifindex)) else { continue };
            let mut senders = self.maps.senders(place.slot)?;
            senders.sort_by_key(|(reason, sender, frames)| (std::cmp::Reverse(*frames), *reason, sender.0));
            let senders: Vec<_> = senders.into_iter().filter_map(shown_sender).take(SENDERS_SHOWN).collect();
            if !senders.is_empty() {
                let came = |(key, _): &&(MalformedKey, u64)| {
                    u32::from(key.slot) == place.slot && key.direction & !INSIDE == Direction::Ingress as u8
                };
                let frames: u64 = malformed.iter().filter(came).map(|(_, frames)| frames).sum();
                let before = counted.baseline.malformed_that_came();
                let named: u64 = senders.iter().map(|sender| sender.frames).sum();
                let other_frames = (frames - before).saturating_sub(named);
                shown.push(snapshot::Senders { interface: link.name.clone(), senders, other_frames });
            }
        }
        shown.sort_by(|a, b| a.interface.cmp(&b.interface));
        Ok(shown)
    }

    fn describe_frame(&self, seen: Seen, clock: Clock) -> Event {
        let Seen { finding, direction, segments, time_ns, ifindex, is_inside, .. } = seen;
        let reason = finding.reason;
        let sender = seen.bytes.first_chunk().filter(|_| seen.meta.first_protocol == 0);
        let sender = sender.map(|head| Sender::of(head, &seen.meta));
        let has_tag = seen.meta.tag_protocol != 0 || sender.is_some_and(|sender| sender.vlan() != 0);
        let (bytes, meta, added_bytes) = with_tag(seen.bytes, seen.meta);
        let (protocol, source, destination) = ends(&bytes, meta);
        Event {
            kind: Kind::Malformed,
            time: clock.time(time_ns),
            interface: self.name_at(ifindex).unwrap_or_default().to_owned(),
            netns: "own".to_owned(),
            reason: reason.id().to_owned(),
            class: None,
            location: None,
            severity: Some(reason.severity().id().to_owned()),
            direction: Some(direction.id().to_owned()),
            offset: Some(moved(finding, added_bytes)),
            scope: Some(if is_inside { Scope::Path } else { reason.scope() }.id().to_owned()),
            link_type: Some(if meta.first_protocol == 0 { LINK_ETHERNET } else { LINK_RAW }),
            source_mac: sender.map(|sender| mac(sender.address())),
            vlan: sender.filter(|_| has_tag).map(Sender::vlan),
            protocol: protocol.to_owned(),
            source,
            destination,
            packet_bytes: meta.frame_bytes,
            segments,
            bytes: hexadecimal(&bytes),
            bytes_from: "frame".to_owned(),
        }
    }
}

/// Bytes of both MAC addresses.
const ADDRESSES: u16 = 12;

/// Puts a tag back that was taken out; with how many bytes that is.
fn with_tag(mut bytes: Vec<u8>, meta: Meta) -> (Vec<u8>, Meta, u32) {
    let at = usize::from(ADDRESSES);
    if meta.tag_protocol == 0 || bytes.len() < at {
        return (bytes, meta, 0);
    }
    let [protocol, control] = [meta.tag_protocol, meta.tag_control].map(u16::to_be_bytes);
    bytes.splice(at..at, protocol.into_iter().chain(control));
    let added_bytes = ethernet::TAG_BYTES as u32;
    (bytes, Meta { tag_protocol: 0, tag_control: 0, frame_bytes: meta.frame_bytes + added_bytes, ..meta }, added_bytes)
}

/// Where a finding stands once the bytes of a tag are back: in front of it, in it if it is about its identifier, else behind.
fn moved(finding: Finding, added_bytes: u32) -> u32 {
    let at = u32::from(finding.at);
    match finding.reason {
        _ if finding.at < ADDRESSES || added_bytes == 0 => at,
        Malformed::Vlan0 | Malformed::Vlan4095 if finding.at == ADDRESSES => at + 2,
        _ => at + added_bytes,
    }
}

fn shown_sender((reason, sender, frames): (u8, Sender, u64)) -> Option<snapshot::Sender> {
    Some(snapshot::Sender {
        reason: Malformed::from_number(reason)?.id().to_owned(),
        source_mac: mac(sender.address()),
        vlan: (sender.vlan() != 0).then(|| sender.vlan()),
        frames,
    })
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_back() {
        let meta = Meta { frame_bytes: 60, tag_protocol: 0x8100, tag_control: 0xe005, ..Meta::default() };
        let (bytes, meta, added_bytes) = with_tag((0..16).collect(), meta);
        assert_eq!(bytes[10..18], [10, 11, 0x81, 0x00, 0xe0, 0x05, 12, 13]);
        assert_eq!((meta.frame_bytes, meta.tag_protocol, added_bytes), (64, 0, 4));
        let (bytes, meta, added_bytes) = with_tag((0..16).collect(), Meta { frame_bytes: 60, ..Meta::default() });
        assert_eq!((bytes.len(), meta.frame_bytes, added_bytes), (16, 60, 0));
    }

    #[test]
    fn findings_move_with_the_tag() {
        for (reason, at, added_bytes, expected) in [
            (Malformed::EthSrcGroup, 6, 4, 6),
            (Malformed::Vlan4095, 12, 4, 14),
            (Malformed::Vlan4095, 14, 4, 18),
            (Malformed::Vlan4095, 14, 0, 14),
            (Malformed::EthTypeGap, 12, 4, 16),
            (Malformed::EthTypeGap, 12, 0, 12),
            (Malformed::Ip4Csum, 24, 4, 28),
        ] {
            assert_eq!(moved(Finding { reason, at }, added_bytes), expected, "{reason:?} {at} {added_bytes}");
        }
    }
}
