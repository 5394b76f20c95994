//! VXLAN (RFC 7348), with or without a group policy, and its generic protocol extension (VXLAN-GPE).

use super::ethernet;
use crate::{
    classify::{Cursor, Layer, Step},
    frame::{Frame, be32},
    reason::Malformed,
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

/// Bytes of a header.
const HEADER_BYTES: usize = 8;

/// Passes the header. With reserved bits it may be anything: then nothing behind it is looked at (nor does the kernel take it).
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::VxlanShort)?;
    let [flags, bits, high, low, .., reserved] = header;
    if flags & IDENTIFIED == 0 {
        return Err(cursor.fail(Malformed::VxlanNoVni, at));
    }
    let ether_type = match flags {
        _ if reserved != 0 => None,
        IDENTIFIED if bits == 0 && high == 0 && low == 0 => Some(ethernet::BRIDGED),
        _ if flags == IDENTIFIED | POLICY && bits & !POLICY_BITS == 0 => Some(ethernet::BRIDGED),
        _ if flags & !EXTENDED_BITS == IDENTIFIED | EXTENDED && bits == 0 && high == 0 => match low {
            1 => Some(ethernet::IPV4),
            2 => Some(ethernet::IPV6),
            3 => Some(ethernet::BRIDGED),
            _ => return Ok(Layer::Other),
        },
        _ => None,
    };
    let behind = at + HEADER_BYTES;
    let Some(ether_type) = ether_type else {
        cursor.note(Malformed::VxlanResv, at);
        return Ok(Layer::Other);
    };
    if ether_type == ethernet::BRIDGED && behind + ethernet::HEADER_BYTES > cursor.end as usize {
        return Err(cursor.fail(Malformed::VxlanShort, behind));
    }
    Ok(cursor.enter(behind, be32(&header, 4) >> 8, ether_type))
}
