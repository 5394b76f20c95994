//! The newer format: sections of blocks, interfaces with link type and clock of their own
//! (draft-ietf-opsawg-pcapng).

use std::{collections::HashMap, io::Read};

use super::{Broken, Found, MAX_RECORD_BYTES, Step, bring, word};
use crate::analyze::input::{Input, WHOLE_BYTES};

/// The type of a section header, which reads alike in both orders of bytes.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// Obsolete, and still found in files.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Bytes of type and length, and of the length once more behind the body.
const HEAD_BYTES: usize = 8;
const TAIL_BYTES: usize = 4;
/// Interfaces of a file at most: what is remembered of them is bounded.
const MAX_INTERFACES: usize = 65_536;
/// Characters of an interface's name that are remembered.
const MAX_NAME: usize = 64;

/// Bytes of options and padding behind a frame that are believed: some comments of any length.
const MOST_OPTIONS_BYTES: u32 = 256 * 1024;

/// What is known of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Interface {
    /// Its name on the capturing machine, `""` if the file does not say.
    pub(in super::super) name: String,
    link_type: u32,
    /// Longest frame that was to be captured, 0 for all of them.
    snap_bytes: u32,
    clock: Clock,
}

/// How an interface's times are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    multiplier: u64,
    divisor: u64,
    offset_seconds: i64,
}

impl Clock {
    const MICROSECONDS: Self = Self { multiplier: 1000, divisor: 1, offset_seconds: 0 };

    /// By `if_tsresol`: units in a second as a power of ten, or with the highest bit set of two.
    fn with_resolution(self, resolution: u8) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        let (multiplier, divisor) = match exponent {
            _ if resolution & 0x80 != 0 => (1_000_000_000, 1_u64.checked_shl(exponent).unwrap_or(u64::MAX)),
            0..=9 => (10_u64.pow(9 - exponent), 1),
            _ => (1, 10_u64.checked_pow(exponent - 9).unwrap_or(u64::MAX)),
        };
        Self { multiplier, divisor, ..self }
    }

    /// Nanoseconds since 1970, as near as they can be.
    #[inline]
    fn ns(self, ticks: u64) -> u64 {
        let ns = if self.divisor == 1 {
            ticks.saturating_mul(self.multiplier)
        } else {
            let ns = u128::from(ticks) * u128::from(self.multiplier) / u128::from(self.divisor);
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        ns.saturating_add_signed(self.offset_seconds.saturating_mul(1_000_000_000))
    }
}

/// The section that is being read, and what earlier ones said that is still needed.
#[derive(Default)]
pub(super) struct Section {
    big_endian: bool,
    /// Of this section, each with its number in the file.
    here: Vec<(u32, Interface)>,
    /// Of all sections, by number, as they were described first.
    all: Vec<Interface>,
    /// Numbers by place in the section, name and link type: captures in a row have a section each, of the same interfaces.
    numbers: HashMap<(usize, String, u32), u32>,
    /// The block whose end is next, too long for being looked at in one piece: where it begins and how long it says it is.
    long: Option<(u64, u32)>,
}

impl Section {
    /// By its number in the file.
    pub(super) fn interface(&self, number: u32) -> Option<&Interface> {
        self.all.get(number as usize)
    }

    #[inline]
    pub(super) fn step(&mut self, input: &mut Input<impl Read>) -> Result<Step, Broken> {
        if let Some((at, total_bytes)) = self.long.take() {
            self.end_of_long(input, at, total_bytes)?;
        }
        let at = input.offset();
        if !bring(input, (HEAD_BYTES + TAIL_BYTES) as u64)? {
            return if input.seen().is_empty() { Ok(Step::End) } else { Err(Broken::Truncated { at }) };
        }
        let corrupt = |cause: String| Broken::corrupt(at, cause);
        if word(input.seen(), 0) == MAGIC {
            self.begin(word(input.seen(), HEAD_BYTES)).map_err(|cause| corrupt(cause.to_owned()))?;
        }
        let (kind, total_bytes) = (self.u32(input.seen(), 0), self.u32(input.seen(), 4));
        let min_bytes: u32 = match kind {
            SECTION => 28,
            INTERFACE => 20,
            PACKET | ENHANCED_PACKET => 32,
            SIMPLE_PACKET => 16,
            _ => 12,
        };
        if !(min_bytes..=MAX_RECORD_BYTES).contains(&total_bytes) {
            return Err(corrupt(format!("a block of type {kind:#x} and {total_bytes} bytes is not to be believed")));
        }
        if matches!(kind, PACKET | ENHANCED_PACKET) && bring(input, 28)? {
            let captured_bytes = self.u32(input.seen(), 20);
            if captured_bytes > total_bytes - min_bytes {
                let cause = format!("a block of {total_bytes} bytes cannot hold a frame of {captured_bytes}");
                return Err(corrupt(cause));
            }
            if total_bytes - min_bytes - captured_bytes > MOST_OPTIONS_BYTES {
                let cause =
                    format!("a block of {total_bytes} bytes around a frame of {captured_bytes} is not to be believed");
                return Err(corrupt(cause));
            }
        }
        // There are writers that leave the padding out of the length.
        let bytes = u64::from(total_bytes.next_multiple_of(4));
        if !bring(input, bytes)? {
            return Err(Broken::Truncated { at });
        }
        let seen = input.seen();
        let end = bytes as usize - TAIL_BYTES;
        if bytes <= WHOLE_BYTES as u64 && self.u32(seen, end) != total_bytes {
            return Err(corrupt(mismatch(total_bytes, self.u32(seen, end))));
        }
        let body = seen.get(..end).unwrap_or(seen);
        let found = match kind {
            INTERFACE => {
                self.add_interface(body).map_err(corrupt)?;
                None
            }
            ENHANCED_PACKET => Some(self.enhanced(body).map_err(corrupt)?),
            PACKET => Some(self.obsolete(body).map_err(corrupt)?),
            SIMPLE_PACKET => Some(self.simple(body, total_bytes - min_bytes).map_err(corrupt)?),
            _ => None,
        };
        let bytes = if bytes > WHOLE_BYTES as u64 {
            self.long = Some((at, total_bytes));
            bytes - TAIL_BYTES as u64
        } else {
            bytes
        };
        Ok(found.map_or(Step::Other { bytes }, |found| Step::Frame { bytes, found }))
    }

    /// Reads the length at the end of a long block.
    #[cold]
    fn end_of_long(&self, input: &mut Input<impl Read>, at: u64, total_bytes: u32) -> Result<(), Broken> {
        if !bring(input, TAIL_BYTES as u64)? {
            return Err(Broken::Truncated { at });
        }
        let tail = self.u32(input.seen(), 0);
        if tail != total_bytes {
            return Err(Broken::corrupt(at, mismatch(total_bytes, tail)));
        }
        input.skip(TAIL_BYTES as u64).map_err(|error| Broken::unreadable(at, &error))?;
        Ok(())
    }

    /// Begins anew, in the order of bytes that the magic number tells.
    fn begin(&mut self, magic: [u8; 4]) -> Result<(), &'static str> {
        self.big_endian = match magic {
            [0x1a, 0x2b, 0x3c, 0x4d] => true,
            [0x4d, 0x3c, 0x2b, 0x1a] => false,
            _ => return Err("a section header without its magic number"),
        };
        self.here.clear();
        Ok(())
    }

    fn add_interface(&mut self, body: &[u8]) -> Result<(), String> {
        if self.here.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        let mut interface = Interface {
            name: String::new(),
            link_type: self.u16(body, 8).into(),
            snap_bytes: self.u32(body, 12),
            clock: Clock::MICROSECONDS,
        };
        self.options(body, 16, |code, value| match (code, value) {
            (2, name) => interface.name = String::from_utf8_lossy(name).chars().take(MAX_NAME).collect(),
            (9, [resolution, ..]) => interface.clock = interface.clock.with_resolution(*resolution),
            (14, offset) => {
                if let Some(offset) = offset.first_chunk::<8>().copied() {
                    let order = if self.big_endian { i64::from_be_bytes } else { i64::from_le_bytes };
                    interface.clock.offset_seconds = order(offset);
                }
            }
            _ => {}
        });
        let key = (self.here.len(), interface.name.clone(), interface.link_type);
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None if self.all.len() >= MAX_INTERFACES => return Err(format!("more than {MAX_INTERFACES} interfaces")),
            None => {
                let number = self.all.len() as u32;
                self.numbers.insert(key, number);
                self.all.push(interface.clone());
                number
            }
        };
        self.here.push((number, interface));
        Ok(())
    }

    #[inline]
    fn enhanced(&self, body: &[u8]) -> Result<Found, String> {
        let mut found = self.found(body, self.u32(body, 8))?;
        let options_at = found.at + found.captured_bytes.next_multiple_of(4);
        self.options(body, options_at, |code, value| {
            // epb_flags: the two lowest bits are the direction.
            if let (2, Some(flags)) = (code, value.first_chunk::<4>()) {
                found.sent = match self.u32(flags, 0) & 3 {
                    1 => Some(false),
                    2 => Some(true),
                    _ => None,
                };
            }
        });
        Ok(found)
    }

    fn obsolete(&self, body: &[u8]) -> Result<Found, String> {
        self.found(body, self.u16(body, 8).into())
    }

    /// What both blocks with a time have in common.
    #[inline]
    fn found(&self, body: &[u8], index: u32) -> Result<Found, String> {
        let (number, interface) = self.known(index)?;
        let ticks = u64::from(self.u32(body, 12)) << 32 | u64::from(self.u32(body, 16));
        Ok(Found {
            at: 28,
            captured_bytes: self.u32(body, 20) as usize,
            frame_bytes: self.u32(body, 24),
            time_ns: interface.clock.ns(ticks),
            link_type: interface.link_type,
            interface: number,
            sent: None,
        })
    }

    /// A block without time and interface; what it holds ends with its padding, or where the interface cuts frames off.
    fn simple(&self, body: &[u8], padded_bytes: u32) -> Result<Found, String> {
        let (number, interface) = self.known(0)?;
        let frame_bytes = self.u32(body, 8);
        let snap_bytes = if interface.snap_bytes == 0 { u32::MAX } else { interface.snap_bytes };
        Ok(Found {
            at: 12,
            captured_bytes: frame_bytes.min(snap_bytes).min(padded_bytes) as usize,
            frame_bytes,
            time_ns: 0,
            link_type: interface.link_type,
            interface: number,
            sent: None,
        })
    }

    /// An interface of this section, and its number in the file.
    #[inline]
    fn known(&self, index: u32) -> Result<(u32, &Interface), String> {
        let known = self.here.get(index as usize).map(|(number, interface)| (*number, interface));
        known.ok_or_else(|| format!("a frame of interface {index}, which was not described before"))
    }

    /// Shows every option from `at` on: its code and its value. Ends where they contradict themselves.
    #[inline]
    fn options(&self, body: &[u8], at: usize, mut show: impl FnMut(u16, &[u8])) {
        let mut at = at;
        while let Some(option) = body.get(at..).filter(|option| option.len() >= 4) {
            let (code, bytes) = (self.u16(option, 0), usize::from(self.u16(option, 2)));
            let Some(value) = option.get(4..4 + bytes) else { return };
            if code == 0 {
                return;
            }
            show(code, value);
            at += 4 + bytes.next_multiple_of(4);
        }
    }

    #[inline]
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let word = word(bytes, at);
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    #[inline]
    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let half = bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) }
    }
}

/// What is wrong with a block whose two lengths differ.
fn mismatch(head_bytes: u32, tail_bytes: u32) -> String {
    format!("a block begins as one of {head_bytes} bytes and ends as one of {tail_bytes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let second = Clock::MICROSECONDS;
        for (resolution, ticks, expected) in [
            (0, 7, 7_000_000_000),
            (3, 7, 7_000_000),
            (6, 7, 7_000),
            (9, 7, 7),
            (12, 7_999, 7),
            (19, 70_000_000_000, 7),
            (0x7f, u64::MAX, 1),
            (0x80, 7, 7_000_000_000),
            (0x80 | 20, 1 << 20, 1_000_000_000),
            (0x80 | 32, 1 << 31, 500_000_000),
            (0x80 | 63, u64::MAX, 1_999_999_999),
            (0xff, u64::MAX, 1_000_000_000),
            (6, u64::MAX, u64::MAX),
        ] {
            assert_eq!(second.with_resolution(resolution).ns(ticks), expected, "{resolution:#x} {ticks}");
        }
        let later = Clock { offset_seconds: 3, ..second };
        assert_eq!(later.ns(5), 3_000_005_000);
        let earlier = Clock { offset_seconds: i64::MIN, ..second };
        assert_eq!(earlier.ns(5), 0);
    }
}
