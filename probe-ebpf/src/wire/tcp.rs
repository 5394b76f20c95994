//! TCP headers and options (RFC 9293, 7323, 2018, 2385, 5925).

use crate::{
    classify::{Cursor, Layer, Step, Stop, Transport},
    frame::{Frame, be16, be32},
    reason::Malformed,
};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;
/// Longest options that the data offset can describe.
pub const MAX_OPTION_BYTES: usize = 40;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
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
    cursor.option_at = (at + HEADER_BYTES) as u16;
    Ok(if header_bytes > HEADER_BYTES { Layer::TcpOption } else { Layer::End })
}

#[inline(always)]
fn contradict(flags: u8) -> bool {
    let exclusive = flags & (SYN | FIN | RST);
    exclusive & exclusive.wrapping_sub(1) != 0
        || flags & (SYN | FIN | RST | PSH | ACK | URG) == 0
        || (flags & ACK == 0 && flags & (FIN | URG | PSH) != 0)
}

/// Judges one option: length by kind, SYN-only kinds, repetition, blanked options. A step of its own, because what
/// has been seen so far multiplies the states of a verifier that follows a loop.
#[inline(always)]
pub fn option_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    const END: u8 = 0;
    const NOP: u8 = 1;
    let (at, end) = (usize::from(cursor.option_at), cursor.at as usize);
    if at >= end {
        return Ok(Layer::End);
    }
    let [kind] = frame.read(at).ok_or(Stop::Unseen)?;
    if kind == END {
        return Ok(Layer::End);
    }
    if kind == NOP {
        cursor.nops += 1;
        if cursor.nops == 4 {
            cursor.note(Malformed::TcpNop4, at - 3);
        }
        cursor.option_at = (at + 1) as u16;
        return Ok(Layer::TcpOption);
    }
    cursor.nops = 0;
    if at + 2 > end {
        return Err(cursor.fail(Malformed::TcpOpt, at));
    }
    let [bytes] = frame.read(at + 1).ok_or(Stop::Unseen)?;
    if bytes < 2 || at + usize::from(bytes) > end || !fits(kind, bytes) {
        return Err(cursor.fail(Malformed::TcpOpt, at + 1));
    }
    let seen = once(kind);
    let [flags] = frame.read(usize::from(cursor.packet.transport_at) + 13).ok_or(Stop::Unseen)?;
    if cursor.options_seen & seen != 0 || (flags & SYN == 0 && is_syn_only(kind)) {
        cursor.note(Malformed::TcpOptSyn, at);
    }
    cursor.options_seen |= seen;
    if kind == WINDOW_SCALE {
        let [shift] = frame.read(at + 2).ok_or(Stop::Unseen)?;
        if shift > MAX_WINDOW_SHIFT {
            cursor.note(Malformed::TcpOptSyn, at + 2);
        }
    }
    cursor.option_at = (at + usize::from(bytes)) as u16;
    Ok(Layer::TcpOption)
}

const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const MD5: u8 = 19;
const AUTHENTICATION: u8 = 29;
pub(crate) const MAX_WINDOW_SHIFT: u8 = 14;

/// Whether the option's length is one that its kind can have. An empty SACK is common and let pass.
#[inline(always)]
fn fits(kind: u8, bytes: u8) -> bool {
    match kind {
        MSS => bytes == 4,
        WINDOW_SCALE => bytes == 3,
        SACK_PERMITTED => bytes == 2,
        SACK => (bytes - 2).is_multiple_of(8),
        TIMESTAMPS => bytes == 10,
        MD5 => bytes == 18,
        AUTHENTICATION => bytes >= 4,
        _ => true,
    }
}

#[inline(always)]
fn is_syn_only(kind: u8) -> bool {
    matches!(kind, MSS | WINDOW_SCALE | SACK_PERMITTED)
}

/// A bit for each kind that may stand only once, 0 for the others.
#[inline(always)]
fn once(kind: u8) -> u8 {
    match kind {
        MSS => 1,
        WINDOW_SCALE => 2,
        SACK_PERMITTED => 4,
        TIMESTAMPS => 8,
        _ => 0,
    }
}
