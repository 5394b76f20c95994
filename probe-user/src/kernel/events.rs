//! Examples of what the programs count, out of their ring buffer. Nothing comes while nobody watches, see
//! [`Loaded::watch`](super::load::Loaded::watch).

use std::mem::offset_of;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use nix::time::{ClockId, clock_gettime};
use probe_ebpf::abi::{EVENT_BYTES, Event, map};

/// The ring buffer. It is read at short intervals, not waited for: what comes is bounded by the programs, and half a
/// second's worth finds room.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Takes it out of a loaded object.
    ///
    /// # Errors
    /// If the object is not of this build.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map(map::EVENTS).with_context(|| format!("the object has no map {}", map::EVENTS))?;
        let ring = RingBuf::try_from(map).with_context(|| format!("map {} is of another type", map::EVENTS))?;
        Ok(Self { ring })
    }

    /// At most `most` of those that have come, the oldest first.
    pub fn read(&mut self, most: usize) -> Vec<Event> {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(item) = self.ring.next()
        {
            batch.extend(decode(&item));
        }
        batch
    }
}

/// The event in the kernel's bytes, `None` where another build wrote them.
fn decode(bytes: &[u8]) -> Option<Event> {
    fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
        bytes.get(at..)?.first_chunk().copied()
    }
    let word = |at| field(bytes, at).map(u32::from_ne_bytes);
    let double = |at| field(bytes, at).map(u64::from_ne_bytes);
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    Some(Event {
        time_ns: double(offset_of!(Event, time_ns))?,
        location: double(offset_of!(Event, location))?,
        netns: word(offset_of!(Event, netns))?,
        ifindex: word(offset_of!(Event, ifindex))?,
        reason: word(offset_of!(Event, reason))?,
        packet_bytes: word(offset_of!(Event, packet_bytes))?,
        segments: word(offset_of!(Event, segments))?,
        captured_bytes: word(offset_of!(Event, captured_bytes))?.min(EVENT_BYTES as u32),
        first_protocol: field(bytes, offset_of!(Event, first_protocol)).map(u16::from_ne_bytes)?,
        kind: *bytes.get(offset_of!(Event, kind))?,
        pad: [0; 5],
        bytes: field(bytes, offset_of!(Event, bytes))?,
    })
}

/// What the kernel's clock shows at which time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds from the kernel's zero to 1970.
    behind: i128,
}

impl Clock {
    /// As of now.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn now() -> Result<Self> {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read CLOCK_MONOTONIC")?;
        let monotonic = i128::from(monotonic.tv_sec()) * 1_000_000_000 + i128::from(monotonic.tv_nsec());
        Ok(Self { behind: jiff::Timestamp::now().as_nanosecond() - monotonic })
    }

    /// The time of day, RFC 3339.
    #[must_use]
    pub fn time(self, monotonic_ns: u64) -> String {
        let time = jiff::Timestamp::from_nanosecond(i128::from(monotonic_ns) + self.behind);
        time.map_or_else(|_| String::new(), |time| time.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_an_event() {
        let mut bytes = vec![0; size_of::<Event>()];
        bytes[..8].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[offset_of!(Event, captured_bytes)..][..4].copy_from_slice(&1000_u32.to_ne_bytes());
        bytes[offset_of!(Event, kind)] = 2;
        bytes[size_of::<Event>() - 1] = 9;
        let event = decode(&bytes).unwrap();
        assert_eq!((event.time_ns, event.kind, event.bytes[EVENT_BYTES - 1]), (7, 2, 9));
        assert_eq!(event.captured_bytes, 128, "never more than there are");
        assert_eq!(decode(&bytes[1..]), None);
    }

    #[test]
    fn the_kernels_clock_is_read_as_a_time_of_day() {
        let clock = Clock { behind: 1_700_000_000_000_000_000 };
        assert_eq!(clock.time(1_500_000_000), "2023-11-14T22:13:21.5Z");
        assert!(Clock::now().unwrap().time(0) < jiff::Timestamp::now().to_string());
    }
}
