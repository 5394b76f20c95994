//! ARP for Ethernet and IPv4 (RFC 826).

use crate::{
    classify::{Cursor, Layer, Network, Step},
    frame::{Frame, be16},
    reason::Malformed,
};

/// Bytes of a packet for Ethernet and IPv4.
pub const PACKET_BYTES: usize = 28;

/// Judges a whole ARP packet.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let packet: [u8; PACKET_BYTES] = cursor.need(frame, at, Malformed::ArpShort)?;
    cursor.packet.network = Network::Arp;
    cursor.packet.network_at = at as u16;
    // 1 is Ethernet, 6 is IEEE 802 (RFC 1042), which is the same on the wire; Linux accepts both.
    let ethernet_ipv4 =
        matches!(be16(&packet, 0), 1 | 6) && be16(&packet, 2) == 0x0800 && packet[4] == 6 && packet[5] == 4;
    if !ethernet_ipv4 {
        return Err(cursor.fail(Malformed::ArpHdr, at));
    }
    cursor.understood(at + PACKET_BYTES);
    if !matches!(be16(&packet, 6), 1..=4 | 8 | 9) {
        cursor.note(Malformed::ArpOp, at + 6);
    }
    if packet[8] & 1 != 0 {
        cursor.note(Malformed::ArpShaGroup, at + 8);
    }
    let sender = [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]];
    if cursor.meta.first_protocol == 0 && frame.read::<6>(usize::from(cursor.frame_at) + 6) != Some(sender) {
        cursor.note(Malformed::ArpSha, at + 8);
    }
    Ok(Layer::End)
}
