//! ICMP (RFC 792).

use crate::{
    classify::{Cursor, Layer, Step, Transport},
    reason::Malformed,
};

/// Bytes of the shortest message.
pub const MIN_BYTES: usize = 8;

/// Judges the length; checksum and quotes are looked at elsewhere.
#[inline(always)]
pub fn step(cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    if at + MIN_BYTES > cursor.end as usize {
        return Err(cursor.fail(Malformed::IcmpShort, at));
    }
    cursor.packet.transport = Transport::Icmp;
    cursor.packet.transport_at = at as u16;
    cursor.understood(at + MIN_BYTES);
    Ok(Layer::End)
}
