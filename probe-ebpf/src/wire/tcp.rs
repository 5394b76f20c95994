//! TCP headers and options (RFC 9293, 7323, 2018, 2385, 5925).

use core::ops::ControlFlow;

use crate::{
    classify::{Cursor, Layer, Step, Stop, Transport},
    frame::{Frame, be16, be32},
    reason::Malformed,
};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;
/// Longest options that the data offset can describe.
pub const MAX_OPTION_BYTES: usize = 40;

/// Flag (RFC 9293, §3.1): the sender has no more data.
pub const FIN: u8 = 0x01;
/// Flag: sequence numbers begin here.
pub const SYN: u8 = 0x02;
/// Flag: the connection is at its end.
pub const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
/// Flag: the acknowledgement number means something.
pub const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const SYN_ACK: u8 = SYN | ACK;
pub(crate) const FIN_ACK: u8 = FIN | ACK;
pub(crate) const RST_ACK: u8 = RST | ACK;

/// Judges the header and its options; the checksum is not looked at.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::TcpShort)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < HEADER_BYTES || at + header_bytes > cursor.end as usize {
        return Err(cursor.fail(Malformed::TcpDoff, at + 12));
    }
    cursor.packet.transport = Transport::Tcp;
    cursor.packet.transport_at = at as u16;
    cursor.understood(at + header_bytes);
    let flags = header[13];
    if be16(&header, 0) == 0 || be16(&header, 2) == 0 {
        cursor.note(Malformed::TcpPort0, at);
    }
    if contradict(flags) {
        cursor.note(Malformed::TcpFlags, at + 13);
    }
    if flags & ACK == 0 && be32(&header, 8) != 0 {
        cursor.note(Malformed::TcpAckNz, at + 8);
    }
    if flags & URG == 0 && be16(&header, 18) != 0 {
        cursor.note(Malformed::TcpUrgNz, at + 18);
    }
    if header_bytes > HEADER_BYTES { options(frame, cursor, (at + HEADER_BYTES) as u16) } else { Ok(Layer::End) }
}

#[inline(always)]
fn options<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, first_at: u16) -> Step {
    cursor.option_at = first_at;
    for _ in 0..=MAX_OPTION_BYTES {
        frame.settle(cursor);
        if option_step(frame, cursor)?.is_break() {
            return Ok(Layer::End);
        }
    }
    Ok(Layer::Unseen)
}

#[inline(always)]
fn contradict(flags: u8) -> bool {
    let exclusive = flags & (SYN | FIN | RST);
    exclusive & exclusive.wrapping_sub(1) != 0
        || flags & (SYN | FIN | RST | PSH | ACK | URG) == 0
        || (flags & ACK == 0 && flags & (FIN | URG | PSH) != 0)
}

/// Judges one option: length by kind, SYN-only kinds, repetition, blanked options. Breaks behind the last.
#[inline(always)]
fn option_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<ControlFlow<()>, Stop> {
    let (at, end) = (usize::from(cursor.option_at), cursor.at as usize);
    if at >= end {
        return Ok(ControlFlow::Break(()));
    }
    let [kind] = frame.read(at).ok_or(Stop::Unseen)?;
    if kind == END {
        return Ok(ControlFlow::Break(()));
    }
    if kind == NOP {
        cursor.nops += 1;
        if cursor.nops == 4 {
            cursor.note(Malformed::TcpNop4, at - 3);
        }
        cursor.option_at = (at + 1) as u16;
        return Ok(ControlFlow::Continue(()));
    }
    cursor.nops = 0;
    if at + 2 > end {
        return Err(cursor.fail(Malformed::TcpOpt, at));
    }
    let [bytes] = frame.read(at + 1).ok_or(Stop::Unseen)?;
    let (fits, bit) = rule(kind, bytes);
    if bytes < 2 || at + usize::from(bytes) > end || !fits {
        return Err(cursor.fail(Malformed::TcpOpt, at + 1));
    }
    cursor.option_bit = bit;
    frame.settle(cursor);
    let bit = cursor.option_bit;
    if cursor.options_seen & bit != 0 || (bit & SYN_ONLY != 0 && !is_syn(frame, cursor)?) {
        cursor.note(Malformed::TcpOptSyn, at);
    }
    cursor.options_seen |= bit;
    if bit == ONCE_WINDOW_SCALE {
        let [shift] = frame.read(at + 2).ok_or(Stop::Unseen)?;
        if shift > MAX_WINDOW_SHIFT {
            cursor.note(Malformed::TcpOptSyn, at + 2);
        }
    }
    cursor.option_at = (at + usize::from(bytes)) as u16;
    Ok(ControlFlow::Continue(()))
}

pub(crate) const END: u8 = 0;
pub(crate) const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
pub(crate) const SACK: u8 = 5;
pub(crate) const TIMESTAMPS: u8 = 8;
/// The four bytes with which common systems begin the timestamps of a segment.
pub(crate) const NOP_NOP_TIMESTAMPS: u32 = 0x0101_080a;
const MD5: u8 = 19;
const AUTHENTICATION: u8 = 29;
pub(crate) const MAX_WINDOW_SHIFT: u8 = 14;

/// Bits of the options that only a SYN may have.
const SYN_ONLY: u8 = 1 | ONCE_WINDOW_SCALE | 4;
const ONCE_WINDOW_SCALE: u8 = 2;

/// Whether an option of at least two bytes has a length that its kind can have (an empty SACK is common and let pass);
/// and a bit for each kind that may stand only once, 0 for the others.
#[inline(always)]
fn rule(kind: u8, bytes: u8) -> (bool, u8) {
    match kind {
        MSS => (bytes == 4, 1),
        WINDOW_SCALE => (bytes == 3, ONCE_WINDOW_SCALE),
        SACK_PERMITTED => (bytes == 2, 4),
        TIMESTAMPS => (bytes == 10, 8),
        SACK => (bytes & 7 == 2, 0),
        MD5 => (bytes == 18, 0),
        AUTHENTICATION => (bytes >= 4, 0),
        _ => (true, 0),
    }
}

#[inline(always)]
fn is_syn<F: Frame + ?Sized>(frame: &F, cursor: &Cursor) -> Result<bool, Stop> {
    let [flags] = frame.read(usize::from(cursor.packet.transport_at) + 13).ok_or(Stop::Unseen)?;
    Ok(flags & SYN != 0)
}
