//! Malformed frames out of their ring buffer: always, and more of them while somebody watches.

use std::mem::offset_of;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use probe_ebpf::{
    abi::{About, Direction, INSIDE, map},
    classify::{Finding, Meta},
    reason::Malformed,
};

/// What stands in front of the frame's bytes.
const ABOUT_BYTES: usize = size_of::<About>();

/// The ring buffer. What it has room for is bounded by the programs, and more than a second's worth unless somebody watches.
pub struct Ring {
    ring: RingBuf<MapData>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// A malformed frame, or the first bytes of one, as it passed a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Interface index in the agent's network namespace.
    pub ifindex: u32,
    /// Which way it passed.
    pub direction: Direction,
    /// What is wrong, and where in `bytes`.
    pub finding: Finding,
    /// It stands in what a tunnel carries.
    pub is_inside: bool,
    /// Wire segments.
    pub segments: u32,
    /// Its circumstances, as far as a capture tells them.
    pub meta: Meta,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

impl Ring {
    /// Takes it out of a loaded object.
    ///
    /// # Errors
    /// If the object is not of this build.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map(map::EVIDENCE).with_context(|| format!("the object has no map {}", map::EVIDENCE))?;
        let ring = RingBuf::try_from(map).with_context(|| format!("map {} is of another type", map::EVIDENCE))?;
        Ok(Self { ring })
    }

    /// At most `most` of those that have come, the oldest first.
    pub fn read(&mut self, most: usize) -> Vec<Seen> {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(item) = self.ring.next()
        {
            batch.extend(decode(&item));
        }
        batch
    }
}

/// The frame in the kernel's bytes, `None` where another build wrote them.
fn decode(record: &[u8]) -> Option<Seen> {
    fn field<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
        record.get(at..)?.first_chunk().copied()
    }
    let byte = |at: usize| record.get(at).copied();
    let half = |at| field(record, at).map(u16::from_ne_bytes);
    let word = |at| field(record, at).map(u32::from_ne_bytes);
    let direction = byte(offset_of!(About, direction))?;
    let captured_bytes = word(offset_of!(About, captured_bytes))? as usize;
    Some(Seen {
        time_ns: field(record, offset_of!(About, time_ns)).map(u64::from_ne_bytes)?,
        ifindex: word(offset_of!(About, ifindex))?,
        direction: *Direction::ALL.get(usize::from(direction & !INSIDE))?,
        finding: Finding {
            reason: Malformed::from_number(byte(offset_of!(About, reason))?)?,
            at: half(offset_of!(About, offset))?,
        },
        is_inside: direction & INSIDE != 0,
        segments: word(offset_of!(About, segments))?,
        meta: Meta {
            frame_bytes: word(offset_of!(About, frame_bytes))?,
            first_protocol: half(offset_of!(About, first_protocol))?,
            tag_protocol: half(offset_of!(About, tag_protocol))?,
            tag_control: half(offset_of!(About, tag_control))?,
            flags: byte(offset_of!(About, flags))?,
            ..Meta::default()
        },
        bytes: record.get(ABOUT_BYTES..ABOUT_BYTES + captured_bytes)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_a_frame() {
        let mut record = vec![0; ABOUT_BYTES + 3];
        record[..8].copy_from_slice(&7_u64.to_ne_bytes());
        record[offset_of!(About, captured_bytes)..][..4].copy_from_slice(&3_u32.to_ne_bytes());
        record[offset_of!(About, reason)] = Malformed::Ip4Csum as u8;
        record[offset_of!(About, direction)] = Direction::Egress as u8 | INSIDE;
        record[offset_of!(About, offset)..][..2].copy_from_slice(&24_u16.to_ne_bytes());
        record[ABOUT_BYTES..].copy_from_slice(&[1, 2, 3]);
        let seen = decode(&record).unwrap();
        assert_eq!((seen.time_ns, seen.direction, seen.is_inside), (7, Direction::Egress, true));
        assert_eq!(seen.finding, Finding { reason: Malformed::Ip4Csum, at: 24 });
        assert_eq!(seen.bytes, [1, 2, 3]);
        assert_eq!(decode(&record[1..]), None);
        record[offset_of!(About, captured_bytes)] = 4;
        assert_eq!(decode(&record), None, "less than it says");
    }
}
