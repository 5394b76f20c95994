//! ICMPv6 and the fixed part of neighbour discovery (RFC 4443, RFC 4861).

use crate::{
    classify::{Cursor, Layer, Step, Transport},
    frame::Frame,
    reason::Malformed,
};

/// Bytes of the shortest message.
pub const MIN_BYTES: usize = 4;

/// Router solicitation to redirect (RFC 4861 4).
#[must_use]
#[inline(always)]
pub const fn is_neighbour_discovery(kind: u8) -> bool {
    matches!(kind, 133..=137)
}

/// Bytes of a message of neighbour discovery in front of its options, `None` of every other.
#[must_use]
pub const fn discovery_bytes(kind: u8) -> Option<usize> {
    match kind {
        133 => Some(8),
        134 => Some(16),
        135 | 136 => Some(24),
        137 => Some(40),
        _ => None,
    }
}

/// Judges the length and, for neighbour discovery, hop limit and code.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let start: [u8; MIN_BYTES] = cursor.need(frame, at, Malformed::Icmp6Short)?;
    cursor.packet.transport = Transport::Icmpv6;
    cursor.packet.transport_at = at as u16;
    cursor.understood(at + MIN_BYTES);
    if is_neighbour_discovery(start[0]) {
        if cursor.hop_limit != 255 {
            return Err(cursor.fail(Malformed::NdHopLimit, usize::from(cursor.packet.network_at) + 7));
        }
        if start[1] != 0 {
            return Err(cursor.fail(Malformed::NdCode, at + 1));
        }
    }
    Ok(Layer::End)
}
