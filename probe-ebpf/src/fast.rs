//! The ordinary frame, decided without a walk: Ethernet with at most one tag, taken out of the frame or in it; ARP, IPv4
//! without options or IPv6 without extensions; ICMP, UDP, or TCP with options in an order that common systems use; and such a
//! frame, without a tag, in VXLAN or in GENEVE with one option at most.
//!
//! `Some` is the same verdict that [`classify`](crate::classify::classify) would give — well formed, no finding, this packet
//! — which a property test holds. `None` is no verdict: the classifier decides.

use crate::{
    classify::{Cursor, FROM_WIRE, LOOPBACK, Layer, Meta, Network, Packet, Transport, TunnelPorts},
    frame::{Frame, be16, be32, be64, raw32, raw64},
    wire::{arp, ethernet, geneve, icmp, icmpv6, ipv4, ipv6, tcp, udp},
};

/// A packet that is plainly well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordinary {
    /// Where its headers are: in a tunnel those of what is carried.
    pub packet: Packet,
    /// See [`Cursor::tunnel`].
    pub tunnel: u32,
}

/// What the network header says about the rest.
struct Datagram {
    network: Network,
    protocol: u8,
    hop_limit: u8,
    network_at: usize,
    /// Offset of what the header carries.
    at: usize,
    /// Bytes that the header grants from there on.
    payload_bytes: usize,
}

/// Accepts a frame that is plainly well formed.
#[inline(always)]
pub fn ordinary<F: Frame + ?Sized>(frame: &F, meta: &Meta) -> Option<Ordinary> {
    let head: &[u8; ethernet::HEADER_BYTES + ethernet::TAG_BYTES] = frame.at(0)?;
    if !link_is_ordinary(head, meta) {
        return None;
    }
    // Behind a tag, or in a tunnel, all is at offsets that are not known when compiling: the same code for both.
    let (at, ether_type, tunnel) = match be16(head, 12) {
        ethernet::C_TAG if vlan_is_ordinary(be16(head, 14)) => {
            (ethernet::HEADER_BYTES + ethernet::TAG_BYTES, be16(head, 16), 0)
        }
        ether_type => {
            let packet = packet(frame, meta, (ethernet::HEADER_BYTES, ether_type), &meta.tunnels)?;
            let Some(layer) = tunnel_of(frame, meta, &packet) else { return Some(Ordinary { packet, tunnel: 0 }) };
            carried(frame, meta, (layer, headers(frame, 0)?.transport_at + udp::HEADER_BYTES))?
        }
    };
    // One level only: a tunnel's port is nothing special in another one.
    let packet = packet(frame, meta, (at, ether_type), &TunnelPorts::NONE)?;
    (tunnel != 0 || tunnel_of(frame, meta, &packet).is_none()).then_some(Ordinary { packet, tunnel })
}

#[inline(always)]
fn packet<F: Frame + ?Sized>(
    frame: &F,
    meta: &Meta,
    (at, ether_type): (usize, u16),
    tunnels: &TunnelPorts,
) -> Option<Packet> {
    match ether_type {
        ethernet::IPV4 => payload(frame, &ordinary_ipv4(frame, meta, at)?, tunnels),
        ethernet::IPV6 => payload(frame, &ordinary_ipv6(frame, meta, at)?, tunnels),
        ethernet::ARP => ordinary_arp(frame, meta, at),
        _ => None,
    }
}

/// What begins behind a packet's UDP header, if its port is a tunnel's.
#[inline(always)]
fn tunnel_of<F: Frame + ?Sized>(frame: &F, meta: &Meta, packet: &Packet) -> Option<Layer> {
    if packet.transport != Transport::Udp || meta.tunnels.is_none() {
        return None;
    }
    let port: &[u8; 2] = frame.at(usize::from(packet.transport_at) + udp::DESTINATION_AT)?;
    meta.tunnels.layer(be16(port, 0))
}

/// What a tunnel's header at `at` is in front of: where, which protocol, and of which tunnel (see [`Cursor::tunnel`]).
#[inline(always)]
fn carried<F: Frame + ?Sized>(frame: &F, meta: &Meta, (layer, at): (Layer, usize)) -> Option<(usize, u16, u32)> {
    /// Identified, nothing else.
    const VXLAN: u32 = 0x0800_0000;
    let header: &[u8; TUNNEL_BYTES] = frame.at(at)?;
    let (first, last) = (be32(header, 0), be32(header, 4));
    let identifier = Cursor::INSIDE | last >> 8;
    let tunnel = match layer {
        Layer::Vxlan if first == VXLAN && last & 0xff == 0 => identifier,
        Layer::Geneve if first as u16 == ethernet::BRIDGED => identifier | Cursor::GENEVE,
        _ => return None,
    };
    let option_bytes = option_bytes(header, tunnel);
    if option_bytes != 0 {
        let option: &[u8; geneve::OPTION_HEADER_BYTES] = frame.at(at + TUNNEL_BYTES)?;
        let is_all = geneve::OPTION_HEADER_BYTES + usize::from(option[3] & 0x1f) * 4 == option_bytes;
        if option_bytes > MOST_OPTION_BYTES || !is_all {
            return None;
        }
    }
    let at = at + TUNNEL_BYTES + option_bytes;
    let head: &[u8; ethernet::HEADER_BYTES] = frame.at(at)?;
    let ether_type = be16(head, 12);
    // ARP's sender would have to be this frame's.
    let is_ordinary = addresses_are_ordinary(head, meta) && ether_type != ethernet::ARP;
    is_ordinary.then_some((at + ethernet::HEADER_BYTES, ether_type, tunnel))
}

/// Bytes of a header of VXLAN, or of GENEVE without options.
const TUNNEL_BYTES: usize = 8;
/// Bytes of the one option that a packet in GENEVE may have here: Open Virtual Network's has 8.
const MOST_OPTION_BYTES: usize = 16;

/// Of a tunnel's header, by arithmetic alone. A version of GENEVE that is not known looks like too many of them.
#[inline(always)]
fn option_bytes(header: &[u8; TUNNEL_BYTES], tunnel: u32) -> usize {
    let is_geneve = (tunnel / Cursor::GENEVE) & 1;
    usize::from(header[0]) * 4 * is_geneve as usize
}

/// Where an ordinary packet's headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// IPv4 or IPv6.
    pub network: Network,
    /// Offset of its header.
    pub network_at: usize,
    /// Offset of the transport header.
    pub transport_at: usize,
}

/// Where the headers of an ordinary TCP or UDP packet are, by arithmetic alone: so a verifier knows the same of all kinds of
/// packet, and follows what comes behind once. In a tunnel those of what is carried.
#[inline(always)]
pub fn headers<F: Frame + ?Sized>(frame: &F, tunnel: u32) -> Option<Headers> {
    frame.look_again();
    let ether_type: &[u8; 2] = frame.at(12)?;
    let is_tagged = is_tagged(frame, be16(ether_type, 0));
    let outer = headers_behind(frame, ethernet::HEADER_BYTES + ethernet::TAG_BYTES * is_tagged)?;
    if tunnel == 0 {
        return Some(outer);
    }
    let at = outer.transport_at + udp::HEADER_BYTES;
    let at = at + TUNNEL_BYTES + option_bytes(frame.at(at)?, tunnel);
    headers_behind(frame, at + ethernet::HEADER_BYTES)
}

#[inline(always)]
fn headers_behind<F: Frame + ?Sized>(frame: &F, network_at: usize) -> Option<Headers> {
    let [first]: &[u8; 1] = frame.at(network_at)?;
    // Version 6 has a bit that version 4 has not.
    let is_ipv6 = usize::from(first >> 5 & 1);
    let network = if is_ipv6 == 0 { Network::Ipv4 } else { Network::Ipv6 };
    let bytes = ipv4::HEADER_BYTES + (ipv6::HEADER_BYTES - ipv4::HEADER_BYTES) * is_ipv6;
    Some(Headers { network, network_at, transport_at: network_at + bytes })
}

#[inline(always)]
fn is_tagged<F: Frame + ?Sized>(frame: &F, ether_type: u16) -> usize {
    frame.is_equal(ether_type.into(), ethernet::C_TAG.into())
}

#[inline(always)]
fn link_is_ordinary<const N: usize>(head: &[u8; N], meta: &Meta) -> bool {
    let frame_bytes = meta.frame_bytes as usize;
    let (tagged, stripped_bytes) = if meta.tag_protocol == 0 { (false, 0) } else { (true, ethernet::TAG_BYTES) };
    if meta.first_protocol != 0 || (tagged && !vlan_is_ordinary(meta.tag_control)) {
        return false;
    }
    if meta.flags & FROM_WIRE != 0 && frame_bytes + stripped_bytes < ethernet::MIN_FRAME_BYTES {
        return false;
    }
    if frame_bytes > meta.mtu_bytes as usize + ethernet::OVER_MTU_BYTES && meta.mtu_bytes != 0 && meta.gso_size == 0 {
        return false;
    }
    addresses_are_ordinary(head, meta)
}

#[inline(always)]
fn addresses_are_ordinary<const N: usize>(head: &[u8; N], meta: &Meta) -> bool {
    let (destination, source) = (address(head, 0), address(head, 6));
    head[6] & 1 == 0 && (meta.flags & LOOPBACK != 0 || (source != destination && source != 0))
}

/// A MAC address to compare: without the two bytes behind it.
#[inline(always)]
fn address<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    if cfg!(target_endian = "little") { raw64(head, at) << 16 } else { raw64(head, at) >> 16 }
}

#[inline(always)]
fn vlan_is_ordinary(control: u16) -> bool {
    !matches!(control & 0x0fff, 0 | 0x0fff)
}

/// Whether nothing but padding follows the datagram.
#[inline(always)]
fn ends_with_datagram(meta: &Meta, datagram_at: usize, datagram_bytes: usize) -> bool {
    let (frame_bytes, end) = (meta.frame_bytes as usize, datagram_at + datagram_bytes);
    let padded_bytes = ethernet::MIN_FRAME_BYTES - ethernet::HEADER_BYTES + datagram_at;
    end == frame_bytes || (end < frame_bytes && frame_bytes <= padded_bytes)
}

/// A request or reply whose sender is the frame's.
#[inline(always)]
fn ordinary_arp<F: Frame + ?Sized>(frame: &F, meta: &Meta, at: usize) -> Option<Packet> {
    const ETHERNET_IPV4: u64 = 0x0001_0800_0604;
    let head: &[u8; ethernet::HEADER_BYTES] = frame.at(0)?;
    let body: &[u8; arp::PACKET_BYTES] = frame.at(at)?;
    let start = be64(body, 0);
    let ordinary = start >> 16 == ETHERNET_IPV4
        && matches!(start & 0xffff, 1 | 2)
        && be32(body, 8) == be32(head, 6)
        && be16(body, 12) == be16(head, 10);
    ordinary.then(|| Packet {
        network: Network::Arp,
        transport: Transport::None,
        network_at: at as u16,
        transport_at: 0,
        header_bytes: (at + arp::PACKET_BYTES) as u16,
        payload_bytes: meta.frame_bytes - (at + arp::PACKET_BYTES) as u32,
    })
}

#[inline(always)]
fn ordinary_ipv4<F: Frame + ?Sized>(frame: &F, meta: &Meta, at: usize) -> Option<Datagram> {
    const NOT_DONT_FRAGMENT: u16 = 0xbfff;
    let header: &[u8; ipv4::HEADER_BYTES] = frame.at(at)?;
    let total_bytes = usize::from(be16(header, 2));
    let (source, destination) = (raw32(header, 12), raw32(header, 16));
    let ordinary = header[0] == 0x45
        && be16(header, 6) & NOT_DONT_FRAGMENT == 0
        && header[8] != 0
        && ends_with_datagram(meta, at, total_bytes)
        && (meta.flags & LOOPBACK != 0 || (!ipv4::is_bad_source(header[12]) && source != destination))
        && ipv4::sum_is_right(ipv4::header_sum(header));
    if !ordinary {
        return None;
    }
    Some(Datagram {
        network: Network::Ipv4,
        protocol: header[9],
        hop_limit: header[8],
        network_at: at,
        at: at + ipv4::HEADER_BYTES,
        payload_bytes: total_bytes.checked_sub(ipv4::HEADER_BYTES)?,
    })
}

#[inline(always)]
fn ordinary_ipv6<F: Frame + ?Sized>(frame: &F, meta: &Meta, at: usize) -> Option<Datagram> {
    let header: &[u8; ipv6::HEADER_BYTES] = frame.at(at)?;
    let payload_bytes = usize::from(be16(header, 4));
    let ordinary = header[0] >> 4 == 6
        && payload_bytes != 0
        && ends_with_datagram(meta, at, ipv6::HEADER_BYTES + payload_bytes)
        && (meta.flags & LOOPBACK != 0 || !ipv6::is_bad_source(be64(header, 8), be64(header, 16)));
    ordinary.then_some(Datagram {
        network: Network::Ipv6,
        protocol: header[6],
        hop_limit: header[7],
        network_at: at,
        at: at + ipv6::HEADER_BYTES,
        payload_bytes,
    })
}

#[inline(always)]
fn payload<F: Frame + ?Sized>(frame: &F, datagram: &Datagram, tunnels: &TunnelPorts) -> Option<Packet> {
    let (transport, header_bytes) = match (datagram.protocol, datagram.network) {
        (ipv4::TCP, _) => (Transport::Tcp, ordinary_tcp(frame, datagram.at)?),
        (ipv4::UDP, network) => {
            let header: &[u8; udp::HEADER_BYTES] = frame.at(datagram.at)?;
            let may_be_unsummed =
                network == Network::Ipv4 || tunnels.layer(be16(header, udp::DESTINATION_AT)).is_some();
            let ordinary =
                usize::from(be16(header, 4)) == datagram.payload_bytes && (may_be_unsummed || be16(header, 6) != 0);
            (Transport::Udp, ordinary.then_some(udp::HEADER_BYTES)?)
        }
        (ipv4::ICMP, Network::Ipv4) => (Transport::Icmp, icmp::MIN_BYTES),
        (ipv4::ICMPV6, Network::Ipv6) => (Transport::Icmpv6, ordinary_icmpv6(frame, datagram)?),
        _ => return None,
    };
    if header_bytes > datagram.payload_bytes {
        return None;
    }
    Some(Packet {
        network: datagram.network,
        transport,
        network_at: datagram.network_at as u16,
        transport_at: datagram.at as u16,
        header_bytes: (datagram.at + header_bytes) as u16,
        payload_bytes: (datagram.payload_bytes - header_bytes) as u32,
    })
}

#[inline(always)]
fn ordinary_icmpv6<F: Frame + ?Sized>(frame: &F, datagram: &Datagram) -> Option<usize> {
    let [kind, code, ..]: &[u8; icmpv6::MIN_BYTES] = frame.at(datagram.at)?;
    let ordinary = !icmpv6::is_neighbour_discovery(*kind) || (datagram.hop_limit == 255 && *code == 0);
    ordinary.then_some(icmpv6::MIN_BYTES)
}

/// The header's length if its flags agree with each other and its options are in a common order.
#[inline(always)]
fn ordinary_tcp<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<usize> {
    let header: &[u8; tcp::HEADER_BYTES] = frame.at(at)?;
    let flags = header[13] & (tcp::SYN | tcp::RST | tcp::FIN | tcp::URG | tcp::ACK);
    let flags_are_ordinary = match flags {
        tcp::ACK | tcp::SYN_ACK | tcp::FIN_ACK | tcp::RST_ACK => true,
        tcp::SYN | tcp::RST => header[13] & tcp::PSH == 0 && raw32(header, 8) == 0,
        _ => false,
    };
    let ordinary = flags_are_ordinary && be16(header, 0) != 0 && be16(header, 2) != 0 && be16(header, 18) == 0;
    let words = header[12] >> 4;
    let options_are_ordinary = words == 5 || options(frame, at + tcp::HEADER_BYTES, words, flags & tcp::SYN != 0)?;
    (ordinary && options_are_ordinary).then_some(usize::from(words) * 4)
}

/// Whether the options behind a header of that many words stand as common systems write them: in groups of four bytes.
#[inline(always)]
fn options<F: Frame + ?Sized>(frame: &F, at: usize, words: u8, syn: bool) -> Option<bool> {
    const TIMESTAMPS: u32 = tcp::NOP_NOP_TIMESTAMPS;
    /// SACK permitted, timestamps.
    const SACK_PERMITTED_TIMESTAMPS: u32 = 0x0402_080a;
    /// NOP, NOP, SACK permitted.
    const SACK_PERMITTED: u32 = 0x0101_0402;
    /// SACK permitted, end.
    const SACK_PERMITTED_END: u32 = 0x0402_0000;
    /// NOP, NOP, SACK of one block; each more adds 8.
    const SACK: u32 = 0x0101_050a;
    const fn is_mss(word: u32) -> bool {
        word >> 16 == 0x0204
    }
    /// NOP, window scale.
    const fn is_window_scale(word: u32) -> bool {
        word >> 8 == 0x01_0303 && word & 0xff <= tcp::MAX_WINDOW_SHIFT as u32
    }

    let first = be32(frame.at::<4>(at)?, 0);
    if !syn {
        return Some(match words {
            8 => first == TIMESTAMPS || first == SACK,
            10 => first == SACK + 8,
            12 => first == SACK + 16,
            11 | 13 | 15 => {
                let fourth = be32(frame.at::<4>(at + 12)?, 0);
                first == TIMESTAMPS && fourth == SACK + 4 * u32::from(words - 11)
            }
            _ => false,
        });
    }
    let word = |index: usize| Some(be32(frame.at::<4>(at + 4 * index)?, 0));
    Some(
        is_mss(first)
            && match words {
                6 => true,
                7 => word(1)? == SACK_PERMITTED,
                8 => {
                    let (second, third) = (word(1)?, word(2)?);
                    (is_window_scale(second) && third == SACK_PERMITTED)
                        || (second == SACK_PERMITTED && is_window_scale(third))
                }
                10 => {
                    let second = word(1)?;
                    (matches!(second, SACK_PERMITTED_TIMESTAMPS | TIMESTAMPS) && is_window_scale(word(4)?))
                        || (is_window_scale(second) && matches!(word(2)?, SACK_PERMITTED_TIMESTAMPS | TIMESTAMPS))
                }
                11 => is_window_scale(word(1)?) && word(2)? == TIMESTAMPS && word(5)? == SACK_PERMITTED_END,
                _ => false,
            },
    )
}
