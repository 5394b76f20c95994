//! UDP (RFC 768, RFC 2675 for jumbograms, RFC 6935/6936 for tunnels).

use crate::{
    classify::{Cursor, Layer, Network, Step, Transport},
    frame::{Frame, be16},
    reason::Malformed,
};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 8;
/// Offset of the destination port.
pub const DESTINATION_AT: usize = 2;

/// Judges the header; the checksum's value is not looked at.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::UdpShort)?;
    cursor.packet.transport = Transport::Udp;
    cursor.packet.transport_at = at as u16;
    cursor.understood(at + HEADER_BYTES);
    let payload_bytes = cursor.end as usize - at;
    let length = usize::from(be16(&header, 4));
    if (1..HEADER_BYTES).contains(&length) {
        return Err(cursor.fail(Malformed::UdpLenLt8, at + 4));
    }
    if length > payload_bytes && cursor.meta.gso_size == 0 {
        return Err(cursor.fail(Malformed::UdpLenGt, at + 4));
    }
    let destination_port = be16(&header, 2);
    let tunnel = if cursor.is_inside() { None } else { cursor.meta.tunnels.layer(destination_port) };
    let no_checksum = be16(&header, 6) == 0;
    let may_have_none = tunnel.is_some() || is_tunnel(destination_port);
    if no_checksum && cursor.packet.network == Network::Ipv6 && !may_have_none {
        cursor.note(Malformed::Udp6Csum0, at + 6);
    }
    if length != 0 && length < payload_bytes && cursor.meta.gso_size == 0 {
        cursor.note(Malformed::UdpSurplus, at + 4);
    }
    // One level only.
    Ok(tunnel.unwrap_or(Layer::End))
}

/// Ports of tunnels that may leave the checksum out over IPv6: GTP-U, AMT, LISP, GRE, VXLAN, VXLAN-GPE, RoCEv2, GUE,
/// GENEVE, MPLS, and the VXLAN port of older kernels.
#[must_use]
#[inline(always)]
pub const fn is_tunnel(destination_port: u16) -> bool {
    matches!(destination_port, 2152 | 2268 | 4341 | 4754 | 4789..=4791 | 6080 | 6081 | 6635 | 8472)
}
