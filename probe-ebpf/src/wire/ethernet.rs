//! Ethernet II, 802.3/LLC and VLAN tags (IEEE 802.3, 802.2, 802.1Q, 802.1ad).

use crate::{
    classify::{Cursor, FROM_WIRE, LOOPBACK, Layer, Step},
    frame::{Frame, be16},
    reason::Malformed,
};

/// Bytes of an Ethernet header.
pub const HEADER_BYTES: usize = 14;
/// Bytes of a VLAN tag.
pub const TAG_BYTES: usize = 4;
/// Shortest frame on a wire, without FCS.
pub const MIN_FRAME_BYTES: usize = 60;
/// What a frame may be longer than the MTU: header, two tags.
pub const OVER_MTU_BYTES: usize = 22;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of MPLS.
pub const MPLS: u16 = 0x8847;
/// The same with a label that the receiver has chosen for a whole segment (RFC 5332; once multicast).
pub const MPLS_UPSTREAM: u16 = 0x8848;
/// A whole frame with its MAC header, inside something else (transparent Ethernet bridging).
pub const BRIDGED: u16 = 0x6558;
/// TPID of a customer tag.
pub const C_TAG: u16 = 0x8100;
/// TPID of a service tag.
pub const S_TAG: u16 = 0x88a8;
/// TPID of a service tag before 802.1ad.
pub const OLD_S_TAG: u16 = 0x9100;

/// The configuration test protocol: a switch port sends such frames to its own address to detect loops.
const LOOP_TEST: u16 = 0x9000;
/// Tags that are followed inside one frame.
const MAX_TAGS: usize = 4;
const MAX_LENGTH: u16 = 1500;
const MIN_TYPE: u16 = 1536;
const VLAN_ID: u16 = 0x0fff;

/// The layer behind an EtherType, `None` if this crate has no parser for it.
#[must_use]
#[inline(always)]
pub fn network_layer(ether_type: u16) -> Option<Layer> {
    match ether_type {
        IPV4 => Some(Layer::Ipv4),
        IPV6 => Some(Layer::Ipv6),
        ARP => Some(Layer::Arp),
        MPLS | MPLS_UPSTREAM => Some(Layer::Mpls),
        _ => None,
    }
}

/// Types in common use that are not parsed: RARP, TEB, AppleTalk, IPX, PPPoE, PBB, PTP, FCoE, RoCE, MACsec, HSR/PRP,
/// AoE, PROFINET, EtherCAT, TRILL, FabricPath.
#[inline(always)]
fn is_known(ether_type: u16) -> bool {
    matches!(
        ether_type,
        0x8035
            | BRIDGED
            | 0x809b
            | 0x80f3
            | 0x8137
            | 0x8863
            | 0x8864
            | 0x88e7
            | 0x88f7
            | 0x8906
            | 0x8914
            | 0x8915
            | 0x88e5
            | 0x892f
            | 0x88fb
            | 0x88a2
            | 0x8892
            | 0x88a4
            | 0x22f3
            | 0x8903
    )
}

/// Types of what switches, network cards and their neighbours tell each other: LLDP, slow protocols (LACP, OAM), flow
/// control, EAPOL, CFM, MVRP, MMRP, RRCP, the loop test.
#[inline(always)]
fn is_control_type(ether_type: u16) -> bool {
    matches!(ether_type, 0x88cc | 0x8809 | 0x8808 | 0x888e | 0x8902 | 0x88f5 | 0x88f6 | 0x8899 | LOOP_TEST)
}

/// Addresses that only such protocols use: of 802.1 and 802.3 (STP, LACP, LLDP, GARP, IS-IS), and Cisco's (CDP, VTP, UDLD,
/// PVST).
#[inline(always)]
fn is_control_address(destination: u64) -> bool {
    matches!(destination, 0x0180_c200_0000..=0x0180_c200_002f | 0x0100_0ccc_cccc | 0x0100_0ccc_cccd)
}

/// What follows is not understood, but its kind may be known.
#[inline(always)]
fn unparsed(frame: &(impl Frame + ?Sized), cursor: &Cursor, ether_type: u16) -> Layer {
    let is_control = is_control_type(ether_type) || destination_of(frame, cursor).is_some_and(is_control_address);
    if is_control { Layer::Control } else { Layer::Other }
}

#[inline(always)]
fn destination_of(frame: &(impl Frame + ?Sized), cursor: &Cursor) -> Option<u64> {
    let [a, b, c, d, e, f]: [u8; 6] = frame.read(usize::from(cursor.frame_at))?;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, C_TAG | S_TAG | OLD_S_TAG)
}

/// Judges MAC addresses, length or type, and all tags.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let start = usize::from(cursor.frame_at);
    let header: [u8; HEADER_BYTES] = cursor.need(frame, start, Malformed::EthShort)?;
    if header[6] & 1 != 0 {
        return Err(cursor.fail(Malformed::EthSrcGroup, start + 6));
    }
    if cursor.meta.flags & LOOPBACK == 0 {
        let destination = u64::from_be_bytes([0, 0, header[0], header[1], header[2], header[3], header[4], header[5]]);
        let source = u64::from_be_bytes([0, 0, header[6], header[7], header[8], header[9], header[10], header[11]]);
        if source == destination && be16(&header, 12) != LOOP_TEST {
            cursor.note(Malformed::EthSameAddr, start + 6);
        }
        if source == 0 {
            cursor.note(Malformed::EthSrcZero, start + 6);
        }
    }
    let mut tags = 0;
    let mut outer_protocol = 0;
    if !cursor.is_inside() {
        judge_length(cursor);
        if cursor.meta.tag_protocol != 0 {
            tags = 1;
            outer_protocol = cursor.meta.tag_protocol;
            judge_vlan_id(cursor, cursor.meta.tag_control, 12)?;
        }
    }
    let mut ether_type = be16(&header, 12);
    let mut at = start + HEADER_BYTES;
    for _ in 0..MAX_TAGS {
        if !is_tag(ether_type) {
            break;
        }
        let tag: [u8; TAG_BYTES] = cursor.need(frame, at, Malformed::VlanShort)?;
        judge_vlan_id(cursor, be16(&tag, 0), at)?;
        if outer_protocol == C_TAG && ether_type == S_TAG {
            cursor.note(Malformed::VlanOrder, at - 2);
        }
        tags += 1;
        if tags > 2 {
            cursor.note(Malformed::VlanDepth, at - 2);
        }
        cursor.tags_in_frame += 1;
        outer_protocol = ether_type;
        ether_type = be16(&tag, 2);
        at += TAG_BYTES;
    }
    cursor.understood(at);
    if is_tag(ether_type) {
        return Ok(Layer::Unseen);
    }
    if ether_type <= MAX_LENGTH {
        return length_step(frame, cursor, ether_type, tags != 0);
    }
    if ether_type < MIN_TYPE {
        return Err(cursor.fail(Malformed::EthTypeGap, at - 2));
    }
    if let Some(layer) = network_layer(ether_type) {
        return Ok(layer);
    }
    if !is_known(ether_type) && !is_control_type(ether_type) {
        cursor.note(Malformed::EthUnknownType, at - 2);
    }
    Ok(unparsed(frame, cursor, ether_type))
}

/// What the device allows.
#[inline(always)]
fn judge_length(cursor: &mut Cursor) {
    let frame_bytes = cursor.meta.frame_bytes as usize;
    let stripped_bytes = if cursor.meta.tag_protocol == 0 { 0 } else { TAG_BYTES };
    if cursor.meta.flags & FROM_WIRE != 0 && frame_bytes + stripped_bytes < MIN_FRAME_BYTES {
        cursor.note(Malformed::EthRunt, frame_bytes);
    }
    let mtu_bytes = cursor.meta.mtu_bytes as usize;
    if cursor.meta.gso_size == 0 && mtu_bytes != 0 && frame_bytes > mtu_bytes + OVER_MTU_BYTES {
        cursor.note(Malformed::EthOversize, mtu_bytes + OVER_MTU_BYTES);
    }
}

#[inline(always)]
fn judge_vlan_id(cursor: &mut Cursor, control: u16, at: usize) -> Result<(), crate::classify::Stop> {
    match control & VLAN_ID {
        VLAN_ID => Err(cursor.fail(Malformed::Vlan4095, at)),
        0 => {
            cursor.note(Malformed::Vlan0, at);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// 802.3: the field is a length and LLC follows.
#[inline(always)]
fn length_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, length: u16, tagged: bool) -> Step {
    let at = cursor.at as usize;
    if at + usize::from(length) > cursor.end as usize {
        let reason = if tagged { Malformed::VlanLenGt } else { Malformed::EthLenGt };
        return Err(cursor.fail(reason, at - 2));
    }
    if length < 3 {
        let raw_ipx = length == 2 && frame.read::<2>(at) == Some([0xff, 0xff]);
        if !raw_ipx {
            return Err(cursor.fail(Malformed::LlcShort, at - 2));
        }
    }
    Ok(unparsed(frame, cursor, length))
}

/// Notes bytes behind an IP datagram that ends at `datagram_end`, where no padding explains them.
#[inline(always)]
pub(super) fn judge_trailer(cursor: &mut Cursor, datagram_end: usize) {
    if cursor.is_inside() {
        return;
    }
    let frame_bytes = cursor.meta.frame_bytes as usize;
    let padded_bytes = MIN_FRAME_BYTES + TAG_BYTES * usize::from(cursor.tags_in_frame);
    if cursor.meta.first_protocol == 0 && frame_bytes > padded_bytes && frame_bytes > datagram_end {
        // Kept FCS and PRP/HSR follow the datagram or, where it is short, its padding.
        let is_excepted = |trailer_bytes| matches!(trailer_bytes, 4 | 6);
        if !is_excepted(frame_bytes - datagram_end) && !is_excepted(frame_bytes - padded_bytes.max(datagram_end)) {
            cursor.note(Malformed::EthTrailer, datagram_end);
        }
    }
}
