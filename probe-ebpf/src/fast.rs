//! The ordinary frame, decided at constant offsets: Ethernet with at most one tag that was taken out of the frame,
//! IPv4 without options or IPv6 without extensions, TCP without options or with the usual timestamp, or UDP.
//!
//! `Some(packet)` is the same verdict that [`classify`](crate::classify::classify) would give — well formed, no
//! finding, this packet — which a property test holds. `None` is no verdict: the classifier decides.

use crate::{
    classify::{FROM_WIRE, LOOPBACK, Meta, Network, Packet, Transport},
    frame::{Frame, be16, be32},
    wire::{ethernet, ipv4, ipv6, tcp, udp},
};

const IPV4_AT: usize = ethernet::HEADER_BYTES;
const IPV4_L4_AT: usize = IPV4_AT + ipv4::HEADER_BYTES;
const IPV6_L4_AT: usize = IPV4_AT + ipv6::HEADER_BYTES;
const TIMESTAMP_BYTES: usize = 12;
/// NOP, NOP, timestamps of 10 bytes.
const TIMESTAMP_START: u32 = 0x0101_080a;

/// Accepts a frame that is plainly well formed.
#[inline(always)]
pub fn ordinary<F: Frame + ?Sized>(frame: &F, meta: &Meta) -> Option<Packet> {
    // The shortest frames accepted: UDP over IPv4 and IPv6.
    let head: &[u8; IPV4_L4_AT + udp::HEADER_BYTES] = frame.head()?;
    if !link_is_ordinary(head, meta) {
        return None;
    }
    match be16(head, 12) {
        ethernet::IPV4 => ordinary_ipv4(frame, head, meta),
        ethernet::IPV6 => ordinary_ipv6(frame, meta),
        _ => None,
    }
}

#[inline(always)]
fn link_is_ordinary<const N: usize>(head: &[u8; N], meta: &Meta) -> bool {
    let vlan_id = meta.tag_control & 0x0fff;
    let tag_is_ordinary = meta.tag_protocol == 0 || (vlan_id != 0 && vlan_id != 0x0fff);
    let long_enough = meta.flags & FROM_WIRE == 0 || meta.frame_bytes as usize >= ethernet::MIN_FRAME_BYTES;
    let short_enough = meta.mtu_bytes == 0
        || meta.gso_size != 0
        || meta.frame_bytes as usize <= meta.mtu_bytes as usize + ethernet::OVER_MTU_BYTES;
    meta.first_protocol == 0 && tag_is_ordinary && long_enough && short_enough && addresses_are_ordinary(head, meta)
}

#[inline(always)]
fn addresses_are_ordinary<const N: usize>(head: &[u8; N], meta: &Meta) -> bool {
    let (destination_high, destination_low) = (be32(head, 0), be16(head, 4));
    let (source_low, source_high) = (be32(head, 8), be16(head, 6));
    let equal = destination_high == be32(head, 6) && destination_low == be16(head, 10);
    let zero = source_low == 0 && source_high == 0;
    head[6] & 1 == 0 && (meta.flags & LOOPBACK != 0 || !(equal || zero))
}

/// Whether nothing but padding follows the datagram.
#[inline(always)]
fn ends_with_datagram(meta: &Meta, datagram_end: usize) -> bool {
    let frame_bytes = meta.frame_bytes as usize;
    datagram_end == frame_bytes || (datagram_end < frame_bytes && frame_bytes <= ethernet::MIN_FRAME_BYTES)
}

#[inline(always)]
fn ordinary_ipv4<F: Frame + ?Sized, const N: usize>(frame: &F, head: &[u8; N], meta: &Meta) -> Option<Packet> {
    let word = |at: usize| u64::from(be32(head, IPV4_AT + at));
    let (source, destination) = (word(12), word(16));
    let total_bytes = usize::from(be16(head, IPV4_AT + 2));
    let ordinary = head[IPV4_AT] == 0x45
        && be16(head, IPV4_AT + 6) & 0xbfff == 0
        && head[IPV4_AT + 8] != 0
        && ends_with_datagram(meta, IPV4_AT + total_bytes)
        && (meta.flags & LOOPBACK != 0 || (!ipv4::is_bad_source(head[IPV4_AT + 12]) && source != destination))
        && ipv4::fold(word(0) + word(4) + word(8) + source + destination) == 0xffff;
    if !ordinary {
        return None;
    }
    let payload_bytes = total_bytes.checked_sub(ipv4::HEADER_BYTES)?;
    let header_bytes = match head[IPV4_AT + 9] {
        ipv4::TCP => {
            ordinary_tcp::<F, { IPV4_L4_AT + 20 }, { IPV4_L4_AT + 20 + TIMESTAMP_BYTES }>(frame, payload_bytes)?
        }
        ipv4::UDP => {
            ordinary_udp(be16(head, IPV4_L4_AT + 4), payload_bytes)?;
            udp::HEADER_BYTES
        }
        _ => return None,
    };
    Some(packet(Network::Ipv4, head[IPV4_AT + 9], IPV4_L4_AT, header_bytes, payload_bytes))
}

#[inline(always)]
fn ordinary_ipv6<F: Frame + ?Sized>(frame: &F, meta: &Meta) -> Option<Packet> {
    let head: &[u8; IPV6_L4_AT + udp::HEADER_BYTES] = frame.head()?;
    let word = |at: usize| u64::from(be32(head, IPV4_AT + at));
    let payload_bytes = usize::from(be16(head, IPV4_AT + 4));
    let source = (word(8) << 32 | word(12), word(16) << 32 | word(20));
    let ordinary = head[IPV4_AT] >> 4 == 6
        && payload_bytes != 0
        && ends_with_datagram(meta, IPV6_L4_AT + payload_bytes)
        && (meta.flags & LOOPBACK != 0 || !ipv6::is_bad_source(source.0, source.1));
    if !ordinary {
        return None;
    }
    let header_bytes = match head[IPV4_AT + 6] {
        ipv4::TCP => {
            ordinary_tcp::<F, { IPV6_L4_AT + 20 }, { IPV6_L4_AT + 20 + TIMESTAMP_BYTES }>(frame, payload_bytes)?
        }
        ipv4::UDP if be16(head, IPV6_L4_AT + 6) != 0 => {
            ordinary_udp(be16(head, IPV6_L4_AT + 4), payload_bytes)?;
            udp::HEADER_BYTES
        }
        _ => return None,
    };
    Some(packet(Network::Ipv6, head[IPV4_AT + 6], IPV6_L4_AT, header_bytes, payload_bytes))
}

/// The header's length if an established connection's ordinary segment stands there. `BARE` and `TIMED` are the
/// offsets behind a header without options and behind one with the timestamp option.
#[inline(always)]
fn ordinary_tcp<F: Frame + ?Sized, const BARE: usize, const TIMED: usize>(
    frame: &F,
    payload_bytes: usize,
) -> Option<usize> {
    let at = BARE - tcp::HEADER_BYTES;
    let head: &[u8; BARE] = frame.head()?;
    let ordinary = head[at + 13] & (tcp::SYN | tcp::RST | tcp::URG | tcp::ACK) == tcp::ACK
        && be16(head, at) != 0
        && be16(head, at + 2) != 0
        && be16(head, at + 18) == 0;
    let header_bytes = match head[at + 12] >> 4 {
        5 => tcp::HEADER_BYTES,
        8 if be32(frame.head::<TIMED>()?, BARE) == TIMESTAMP_START => tcp::HEADER_BYTES + TIMESTAMP_BYTES,
        _ => return None,
    };
    (ordinary && header_bytes <= payload_bytes).then_some(header_bytes)
}

#[inline(always)]
fn ordinary_udp(length: u16, payload_bytes: usize) -> Option<()> {
    (usize::from(length) == payload_bytes && payload_bytes >= udp::HEADER_BYTES).then_some(())
}

#[inline(always)]
fn packet(network: Network, protocol: u8, at: usize, header_bytes: usize, ip_payload_bytes: usize) -> Packet {
    Packet {
        network,
        transport: if protocol == ipv4::TCP { Transport::Tcp } else { Transport::Udp },
        network_at: IPV4_AT as u16,
        transport_at: at as u16,
        header_bytes: (at + header_bytes) as u16,
        payload_bytes: (ip_payload_bytes - header_bytes) as u32,
    }
}
