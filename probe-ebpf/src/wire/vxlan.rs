//! VXLAN (RFC 7348), with or without a group policy, and its generic protocol extension (VXLAN-GPE).

use super::ethernet;
use crate::{
    classify::{Cursor, Layer, Step, Stop},
    frame::{Frame, be32},
};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 8;
/// The network identifier is valid.
const IDENTIFIED: u8 = 0x08;
/// VXLAN-GPE: another protocol than Ethernet may follow.
const EXTENDED: u8 = 0x04;

/// Passes the header, if it has an identifier and what follows is known.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    if at + HEADER_BYTES > cursor.end as usize {
        return Ok(Layer::Other);
    }
    let header: [u8; HEADER_BYTES] = frame.read(at).ok_or(Stop::Unseen)?;
    let ether_type = match (header[0] & (IDENTIFIED | EXTENDED), header[3]) {
        (IDENTIFIED, _) => ethernet::BRIDGED,
        (flags, next) if flags & IDENTIFIED != 0 => match next {
            1 => ethernet::IPV4,
            2 => ethernet::IPV6,
            3 => ethernet::BRIDGED,
            _ => return Ok(Layer::Other),
        },
        _ => return Ok(Layer::Other),
    };
    Ok(cursor.enter(at + HEADER_BYTES, be32(&header, 4) >> 8, ether_type))
}
