//! VXLAN (RFC 7348), with or without a group policy, and its generic protocol extension (VXLAN-GPE).

use super::ethernet;
use crate::{
    classify::{Cursor, Layer, Step},
    frame::{Frame, be32},
};

/// `flags`: the network identifier is valid.
const IDENTIFIED: u8 = 0x08;
/// `flags`: another protocol than Ethernet may follow (VXLAN-GPE).
const EXTENDED: u8 = 0x04;
/// `flags`: a group policy follows.
const POLICY: u8 = 0x80;
/// Bits beside a group policy: do not learn, applied.
const POLICY_BITS: u8 = 0x48;
/// `flags` of VXLAN-GPE that change nothing here: broadcast, and packets for the tunnel's end.
const EXTENDED_BITS: u8 = 0x03;

/// Passes the header, if it has an identifier and what follows is known.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let Some(header) = cursor.tunnel_header(frame)? else { return Ok(Layer::Other) };
    // As strict as the kernel, which takes nothing with reserved bits: what else comes to this port, behind a translation of
    // addresses, is not to be judged as a tunnel's.
    let [flags, bits, high, low, .., reserved] = header;
    let ether_type = match (flags, low) {
        _ if reserved != 0 => return Ok(Layer::Other),
        (IDENTIFIED, 0) if bits == 0 && high == 0 => ethernet::BRIDGED,
        (flags, _) if flags == IDENTIFIED | POLICY && bits & !POLICY_BITS == 0 => ethernet::BRIDGED,
        (flags, next) if flags & !EXTENDED_BITS == IDENTIFIED | EXTENDED && bits == 0 && high == 0 => match next {
            1 => ethernet::IPV4,
            2 => ethernet::IPV6,
            3 => ethernet::BRIDGED,
            _ => return Ok(Layer::Other),
        },
        _ => return Ok(Layer::Other),
    };
    Ok(cursor.enter(cursor.at as usize + header.len(), be32(&header, 4) >> 8, ether_type))
}
