//! The older format: one header, one link type, and records of 16 bytes and a frame each
//! (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::{Broken, Found, MAX_RECORD_BYTES, Step, bring, word};
use crate::analyze::input::Input;

/// Bytes of the file's header.
pub(super) const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
/// What a patched libpcap of the nineties adds to a record's header.
const PATCHED_BYTES: usize = 8;
/// libpcap's MAXIMUM_SNAPLEN: a record may have as much whatever the header says.
const USUAL_BYTES: u32 = 262_144;

/// How the file's numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    big_endian: bool,
    /// Nanoseconds in a unit of a record's fraction of a second.
    unit_ns: u32,
    record_bytes: usize,
}

impl Order {
    /// By the first four bytes; `None` if they are not this format's.
    pub(super) fn of(magic: [u8; 4]) -> Option<Self> {
        let (number, big_endian) = match u32::from_be_bytes(magic) {
            number @ (0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34) => (number, true),
            _ => (u32::from_le_bytes(magic), false),
        };
        let (unit_ns, record_bytes) = match number {
            0xa1b2_c3d4 => (1000, RECORD_BYTES),
            0xa1b2_3c4d => (1, RECORD_BYTES),
            0xa1b2_cd34 => (1000, RECORD_BYTES + PATCHED_BYTES),
            _ => return None,
        };
        Some(Self { big_endian, unit_ns, record_bytes })
    }

    #[inline]
    fn number(self, bytes: &[u8], at: usize) -> u32 {
        let word = word(bytes, at);
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}

/// What the file's header says.
pub(super) struct Header {
    order: Order,
    link_type: u32,
    /// Longest frame that was to be captured, 0 if it does not say.
    snap_bytes: u32,
}

impl Header {
    /// From [`HEADER_BYTES`].
    pub(super) fn read(order: Order, bytes: &[u8]) -> Self {
        // Above the link type: whether frames end with a checksum, and how long it is.
        Self { order, link_type: order.number(bytes, 20) & 0xffff, snap_bytes: order.number(bytes, 16) }
    }

    #[inline]
    pub(super) fn step(&self, input: &mut Input<impl Read>) -> Result<Step, Broken> {
        let at = input.offset();
        let order = self.order;
        if !bring(input, order.record_bytes as u64)? {
            return if input.seen().is_empty() { Ok(Step::End) } else { Err(Broken::Truncated { at }) };
        }
        let header = input.seen();
        let [seconds, fraction, captured_bytes, frame_bytes] = [0, 4, 8, 12].map(|at| order.number(header, at));
        if captured_bytes > self.snap_bytes.clamp(USUAL_BYTES, MAX_RECORD_BYTES) {
            return Err(Broken::corrupt(at, format!("a record of {captured_bytes} bytes is not to be believed")));
        }
        let bytes = order.record_bytes as u64 + u64::from(captured_bytes);
        if !bring(input, bytes)? {
            // Of a whole record such lengths are let pass: there are writers of them.
            let beyond_snap = self.snap_bytes != 0 && captured_bytes > self.snap_bytes;
            if beyond_snap || captured_bytes > frame_bytes {
                return Err(Broken::corrupt(at, format!("{captured_bytes} bytes of a frame of {frame_bytes}")));
            }
            return Err(Broken::Truncated { at });
        }
        let found = Found {
            at: order.record_bytes,
            captured_bytes: captured_bytes as usize,
            frame_bytes,
            time_ns: u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * u64::from(order.unit_ns),
            link_type: self.link_type,
            interface: 0,
            sent: None,
        };
        Ok(Step::Frame { bytes, found })
    }
}
