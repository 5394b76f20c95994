//! One row for every reason, and for each way in which its condition can come true.
//!
//! Offsets: Ethernet 0, IPv4 and IPv6 header 14, what follows IPv4 34, what follows IPv6 54.

use probe_ebpf::{classify::Meta, reason::Malformed};
use tests::frames::{
    A, B, Checksum, Ethernet, Extension, Frame, Ipv4, Ipv6, Mac, ethernet, ethernet_with, flag, plain,
};

use super::{Row, bad, gso, loopback, network, physical, stripped, veth};

/// Every row whose frame contradicts itself.
pub(super) fn contradictions() -> Vec<Row> {
    [link(), tags(), arp(), ipv4(), ipv4_options(), ipv6(), ipv6_extensions(), tcp(), tcp_options(), udp(), icmp()]
        .into_iter()
        .flatten()
        .collect()
}

const ZERO: Mac = [0; 6];
const GROUP: Mac = [3, 0, 0, 0, 0, 0x0a];

pub(super) fn start() -> Frame {
    ethernet(B, A)
}

fn with_type(ether_type: u16) -> Frame {
    ethernet_with(B, A, move |header: &mut Ethernet| header.ether_type = ether_type)
}

/// UDP over IPv4 with 100 bytes of payload: 142 bytes.
pub(super) fn datagram(ethernet: Frame) -> Frame {
    ethernet.ip4().udp(1000, 2000).payload(100)
}

fn link() -> Vec<Row> {
    vec![
        bad("no byte at all", start().cut(0), veth(), Malformed::EthShort, 0),
        bad("13 bytes", datagram(start()).cut(13), veth(), Malformed::EthShort, 0),
        bad("59 bytes from a wire", start().ip4().udp(1, 2).payload(17), physical(), Malformed::EthRunt, 59),
        bad(
            "55 bytes and a stripped tag from a wire",
            start().ip4().udp(1, 2).payload(13),
            Meta { flags: physical().flags, ..stripped(0x8100, 5) },
            Malformed::EthRunt,
            55,
        ),
        bad("group bit in the source", datagram(ethernet(B, GROUP)), veth(), Malformed::EthSrcGroup, 6),
        bad("group bit in the source on loopback", datagram(ethernet(B, GROUP)), loopback(), Malformed::EthSrcGroup, 6),
        bad("source zero", datagram(ethernet(B, ZERO)), veth(), Malformed::EthSrcZero, 6),
        bad("source MAC is destination", datagram(ethernet(A, A)), veth(), Malformed::EthSameAddr, 6),
        bad("type 1501", with_type(1501).payload(60), veth(), Malformed::EthTypeGap, 12),
        bad("type 1535", with_type(1535).payload(60), veth(), Malformed::EthTypeGap, 12),
        bad("length one too large", with_type(39).llc(plain).payload(35), veth(), Malformed::EthLenGt, 12),
        bad("length 1500 in a small frame", with_type(1500).payload(46), veth(), Malformed::EthLenGt, 12),
        bad("two LLC bytes", with_type(2).data([0x42, 0x42]).pad(60), veth(), Malformed::LlcShort, 12),
        bad("length 0", with_type(0).pad(60), veth(), Malformed::LlcShort, 12),
        bad("experimental type", start().payload(46), veth(), Malformed::EthUnknownType, 12),
        bad("type 1536", with_type(1536).payload(46), veth(), Malformed::EthUnknownType, 12),
        bad("five bytes behind the datagram", datagram(start()).trailer([0; 5]), veth(), Malformed::EthTrailer, 142),
        bad(
            "five bytes behind an IPv6 datagram",
            start().ip6().udp(1, 2).payload(100).trailer([0; 5]),
            veth(),
            Malformed::EthTrailer,
            162,
        ),
        bad(
            "five bytes behind the padding",
            start().ip4().udp(1, 2).pad(60).trailer([0; 5]),
            veth(),
            Malformed::EthTrailer,
            42,
        ),
        bad("1523 bytes at MTU 1500", start().ip4().udp(1, 2).payload(1481), veth(), Malformed::EthOversize, 1522),
    ]
}

fn tags() -> Vec<Row> {
    let tagged = |id| datagram(start().vlan(id));
    vec![
        bad("tag of three bytes", tagged(5).cut(17), veth(), Malformed::VlanShort, 14),
        bad("inner tag of three bytes", datagram(start().qinq(5, 6)).cut(21), veth(), Malformed::VlanShort, 18),
        bad("VLAN 4095", tagged(4095), veth(), Malformed::Vlan4095, 14),
        bad("inner VLAN 4095", datagram(start().qinq(5, 4095)), veth(), Malformed::Vlan4095, 18),
        bad("stripped VLAN 4095", datagram(start()), stripped(0x8100, 0xefff), Malformed::Vlan4095, 12),
        bad("priority tag", datagram(start().tag(0x8100, 0, |tag| tag.priority = 7)), veth(), Malformed::Vlan0, 14),
        bad("stripped priority tag", datagram(start()), stripped(0x8100, 0xe000), Malformed::Vlan0, 12),
        bad("three tags", datagram(start().qinq(5, 6).vlan(7)), veth(), Malformed::VlanDepth, 20),
        bad(
            "stripped tag and two more",
            datagram(start().vlan(6).vlan(7)),
            stripped(0x88a8, 5),
            Malformed::VlanDepth,
            16,
        ),
        bad("five tags", datagram(start().qinq(5, 6).vlan(7).vlan(8).vlan(9)), veth(), Malformed::VlanDepth, 20),
        bad("customer tag outside", datagram(start().vlan(5).tag(0x88a8, 6, plain)), veth(), Malformed::VlanOrder, 16),
        bad(
            "stripped customer tag outside",
            datagram(start().tag(0x88a8, 6, plain)),
            stripped(0x8100, 5),
            Malformed::VlanOrder,
            12,
        ),
        bad(
            "length behind a tag one too large",
            start().tag(0x8100, 5, |tag| tag.ether_type = 39).llc(plain).payload(35),
            veth(),
            Malformed::VlanLenGt,
            16,
        ),
        bad(
            "length behind a stripped tag one too large",
            with_type(39).llc(plain).payload(35),
            stripped(0x8100, 5),
            Malformed::VlanLenGt,
            12,
        ),
    ]
}

fn arp() -> Vec<Row> {
    let with = |change: fn(&mut tests::frames::Arp)| start().arp(change).pad(60);
    vec![
        bad("ARP of 27 bytes", start().arp(plain).cut(41), veth(), Malformed::ArpShort, 14),
        bad("hardware type 7", with(|arp| arp.hardware_type = 7), veth(), Malformed::ArpHdr, 14),
        bad("protocol type IPv6", with(|arp| arp.protocol_type = 0x86dd), veth(), Malformed::ArpHdr, 14),
        bad("hardware addresses of 8 bytes", with(|arp| arp.hardware_length = 8), veth(), Malformed::ArpHdr, 14),
        bad("protocol addresses of 16 bytes", with(|arp| arp.protocol_length = 16), veth(), Malformed::ArpHdr, 14),
        bad("operation 0", with(|arp| arp.operation = 0), veth(), Malformed::ArpOp, 20),
        bad("operation 5", with(|arp| arp.operation = 5), veth(), Malformed::ArpOp, 20),
        bad("operation 10", with(|arp| arp.operation = 10), veth(), Malformed::ArpOp, 20),
        bad("sender is not the Ethernet source", with(|arp| arp.sender_mac = B), veth(), Malformed::ArpSha, 22),
        bad("group bit in the sender", with(|arp| arp.sender_mac = GROUP), veth(), Malformed::ArpShaGroup, 22),
    ]
}

fn ipv4() -> Vec<Row> {
    let with = |change: fn(&mut Ipv4)| start().ipv4(change).udp(1000, 2000).payload(100);
    // Of no known protocol, so that only the fragment fields are judged.
    let fragment = |change: fn(&mut Ipv4), bytes| {
        let fragment = move |ip: &mut Ipv4| {
            ip.dont_fragment = false;
            change(ip);
        };
        start().ipv4(fragment).payload(bytes)
    };
    let (source, offset) = (26, 20);
    vec![
        bad("19 bytes of IPv4", datagram(start()).cut(33), veth(), Malformed::Ip4Short, 14),
        bad("19 bytes of IPv4 behind a tag", datagram(start().vlan(5)).cut(37), veth(), Malformed::Ip4Short, 18),
        bad("version 6", with(|ip| ip.version = 6), veth(), Malformed::Ip4Ver, 14),
        bad("version 0", with(|ip| ip.version = 0), veth(), Malformed::Ip4Ver, 14),
        bad("header of 16 bytes", with(|ip| ip.header_words = Some(4)), veth(), Malformed::Ip4Ihl, 14),
        bad(
            "header of 60 bytes in 40",
            start().ipv4(|ip| ip.header_words = Some(15)).payload(20),
            veth(),
            Malformed::Ip4Ihl,
            14,
        ),
        bad("total length 19", with(|ip| ip.total_length = 19), veth(), Malformed::Ip4LenLtHdr, 16),
        bad("total length 0", with(|ip| ip.total_length = 0), veth(), Malformed::Ip4LenLtHdr, 16),
        bad("total length 19 of a GSO packet", with(|ip| ip.total_length = 19), gso(50), Malformed::Ip4LenLtHdr, 16),
        bad("total length one too large", with(|ip| ip.total_length += 1), veth(), Malformed::Ip4Trunc, 16),
        bad("cut in the payload", datagram(start()).cut(60), veth(), Malformed::Ip4Trunc, 16),
        bad("wrong checksum", with(|ip| ip.checksum = Checksum::Wrong), veth(), Malformed::Ip4Csum, 24),
        bad("no checksum", with(|ip| ip.checksum = Checksum::Value(0)), veth(), Malformed::Ip4Csum, 24),
        bad(
            "checksum without the options",
            start().ipv4(|ip| ip.options = vec![148, 4, 0, 0]).udp(1, 2).poke(37, [1]),
            veth(),
            Malformed::Ip4Csum,
            24,
        ),
        bad("reserved flag", with(|ip| ip.reserved = true), veth(), Malformed::Ip4Resv, offset),
        bad("fragment of 15 bytes", fragment(|ip| ip.more_fragments = true, 15), veth(), Malformed::Ip4FragAlign, 16),
        bad("ends at 65,536", fragment(|ip| ip.fragment_offset = 8191, 8), veth(), Malformed::Ip4FragBig, offset),
        bad(
            "ends at 65,520, and the header at 65,540",
            fragment(|ip| ip.fragment_offset = 8189, 8),
            veth(),
            Malformed::Ip4FragBig,
            offset,
        ),
        bad(
            "first 8 bytes of TCP",
            fragment(|ip| (ip.protocol, ip.more_fragments) = (6, true), 8),
            veth(),
            Malformed::Ip4FragTiny,
            offset,
        ),
        bad(
            "TCP goes on at offset 8",
            fragment(|ip| (ip.protocol, ip.fragment_offset) = (6, 1), 100),
            veth(),
            Malformed::Ip4FragTiny,
            offset,
        ),
        bad(
            "do not fragment this fragment",
            fragment(|ip| (ip.dont_fragment, ip.more_fragments) = (true, true), 16),
            veth(),
            Malformed::Ip4DfMf,
            offset,
        ),
        bad("source multicast", with(|ip| ip.source = [224, 0, 0, 1].into()), veth(), Malformed::Ip4Src, source),
        bad("source class E", with(|ip| ip.source = [240, 0, 0, 1].into()), veth(), Malformed::Ip4Src, source),
        bad("source broadcast", with(|ip| ip.source = [255; 4].into()), veth(), Malformed::Ip4Src, source),
        bad("source 127.0.0.1", with(|ip| ip.source = [127, 0, 0, 1].into()), veth(), Malformed::Ip4Src, source),
        bad("time to live 0", with(|ip| ip.ttl = 0), veth(), Malformed::Ip4Ttl0, 22),
        bad("source is destination", with(|ip| ip.source = ip.destination), veth(), Malformed::Ip4Land, source),
        bad(
            "TCP with source as destination",
            start().ipv4(|ip| ip.source = ip.destination).tcp(1, 2),
            veth(),
            Malformed::Ip4Land,
            source,
        ),
        bad("wrong version on a tun", network_packet(|ip| ip.version = 5), network(0x0800), Malformed::Ip4Ver, 0),
        bad("wrong checksum and source", with(wrong_twice), veth(), Malformed::Ip4Csum, 24),
    ]
}

/// The error wins, although the warning's field comes first in the frame's tests.
fn wrong_twice(ip: &mut Ipv4) {
    ip.checksum = Checksum::Wrong;
    ip.source = [127, 0, 0, 1].into();
}

fn network_packet(change: fn(&mut Ipv4)) -> Frame {
    tests::frames::packet().ipv4(change).udp(1, 2).payload(100)
}

fn ipv4_options() -> Vec<Row> {
    let with = |options: &'static [u8]| start().ipv4(move |ip| ip.options = options.to_vec()).udp(1, 2).payload(100);
    let broken = |name, options, at| bad(name, with(options), veth(), Malformed::Ip4Opt, at);
    let routed = |name, options| bad(name, with(options), veth(), Malformed::Ip4SourceRoute, 34);
    vec![
        broken("IPv4 option of length 0", &[148, 0, 0, 0], 35),
        broken("IPv4 option of length 1", &[148, 1, 0, 0], 35),
        broken("IPv4 option past the header", &[148, 5, 0, 0], 35),
        broken("IPv4 option without length", &[1, 1, 1, 148], 37),
        broken("record route without pointer", &[7, 2, 0, 0], 35),
        broken("record route points at itself", &[7, 7, 3, 0, 0, 0, 0, 0], 36),
        broken("record route with room for three bytes", &[7, 7, 5, 0, 0, 0, 0, 0], 36),
        broken("time stamps without flags", &[68, 3, 5, 0], 35),
        broken("time stamps point at their flags", &[68, 8, 4, 0, 0, 0, 0, 0], 36),
        broken("source route points at itself", &[131, 7, 0, 10, 0, 0, 9, 0], 36),
        routed("loose source route", &[131, 7, 4, 10, 0, 0, 9, 0]),
        routed("strict source route, all of it gone", &[137, 7, 8, 10, 0, 0, 9, 0]),
    ]
}

fn ipv6() -> Vec<Row> {
    let with = |change: fn(&mut Ipv6)| start().ipv6(change).udp(1000, 2000).payload(100);
    vec![
        bad("39 bytes of IPv6", with(plain).cut(53), veth(), Malformed::Ip6Short, 14),
        bad("39 bytes of IPv6 behind a tag", start().vlan(5).ip6().udp(1, 2).cut(57), veth(), Malformed::Ip6Short, 18),
        bad("version 4", with(|ip| ip.version = 4), veth(), Malformed::Ip6Ver, 14),
        bad("payload length one too large", with(|ip| ip.payload_length += 1), veth(), Malformed::Ip6Trunc, 18),
        bad("cut in the IPv6 payload", with(plain).cut(100), veth(), Malformed::Ip6Trunc, 18),
        bad("payload length 0", with(|ip| ip.payload_length = 0), veth(), Malformed::Ip6Plen0, 18),
        bad(
            "payload length 0 with options, none of them jumbo",
            start().ipv6(|ip| ip.payload_length = 0).hop_by_hop(plain).udp(1, 2),
            veth(),
            Malformed::Ip6Plen0,
            18,
        ),
        bad("jumbo length one too large", jumbo(117), veth(), Malformed::Ip6Trunc, 18),
        bad(
            "IPv6 source multicast",
            with(|ip| ip.source = [0xff02, 0, 0, 0, 0, 0, 0, 1].into()),
            veth(),
            Malformed::Ip6Src,
            22,
        ),
        bad("source ::1", with(|ip| ip.source = [0, 0, 0, 0, 0, 0, 0, 1].into()), veth(), Malformed::Ip6Src, 22),
        bad(
            "bytes behind no next header",
            start().ipv6(|ip| ip.next_header = 59).payload(4),
            veth(),
            Malformed::Ip6NoNext,
            54,
        ),
        bad(
            "bytes behind no next header behind options",
            start().ip6().hop_by_hop(|header| header.next_header = 59).payload(4),
            veth(),
            Malformed::Ip6NoNext,
            62,
        ),
    ]
}

/// A jumbogram of UDP with 100 bytes of payload: 116 behind the IPv6 header.
pub(super) fn jumbo(length: u32) -> Frame {
    let option = [&[0xc2, 4][..], &length.to_be_bytes()].concat();
    start()
        .ipv6(|ip| ip.payload_length = 0)
        .hop_by_hop(move |header| header.body = option.clone())
        .udp_with(1000, 2000, |udp| udp.length = 0)
        .payload(100)
}

fn ipv6_extensions() -> Vec<Row> {
    use tests::frames::Fragment;
    let first = |header: &mut Fragment| header.more_fragments = true;
    let nine = (0..9).fold(start().ip6(), |frame, _| frame.extension(135, plain));
    let options = |body: &'static [u8]| start().ip6().hop_by_hop(move |header| header.body = body.to_vec()).udp(1, 2);
    let long = |header: &mut Extension| header.length_units = Some(9);
    vec![
        bad(
            "extension header of 80 bytes in 16",
            start().ip6().hop_by_hop(long).udp(1, 2),
            veth(),
            Malformed::Ip6ExtTrunc,
            55,
        ),
        bad(
            "extension header of 7 bytes",
            start().ipv6(|ip| ip.next_header = 60).payload(7),
            veth(),
            Malformed::Ip6ExtTrunc,
            54,
        ),
        bad(
            "authentication header past the end",
            start().ip6().extension(51, |header| header.length_units = Some(1)).data([0; 3]),
            veth(),
            Malformed::Ip6ExtTrunc,
            55,
        ),
        bad(
            "hop-by-hop behind destination options",
            start().ip6().destination_options(plain).hop_by_hop(plain).udp(1, 2),
            veth(),
            Malformed::Ip6HbhPos,
            62,
        ),
        bad(
            "hop-by-hop twice",
            start().ip6().hop_by_hop(plain).hop_by_hop(plain).udp(1, 2),
            veth(),
            Malformed::Ip6Dup,
            62,
        ),
        bad("routing twice", start().ip6().routing(4).routing(4).udp(1, 2), veth(), Malformed::Ip6Dup, 62),
        bad("fragment twice", start().ip6().fragment(plain).fragment(plain).udp(1, 2), veth(), Malformed::Ip6Dup, 62),
        bad(
            "destination options three times",
            start().ip6().destination_options(plain).destination_options(plain).destination_options(plain).udp(1, 2),
            veth(),
            Malformed::Ip6Dup,
            70,
        ),
        bad("routing header of type 0", start().ip6().routing(0).udp(1, 2), veth(), Malformed::Ip6Rh0, 56),
        bad("IPv6 option past its header", options(&[1, 5, 0, 0, 0, 0]), veth(), Malformed::Ip6OptLen, 57),
        bad("IPv6 option without length", options(&[1, 3, 0, 0, 0, 5]), veth(), Malformed::Ip6OptLen, 61),
        bad(
            "destination option past its header",
            start().ip6().destination_options(|header| header.body = vec![5, 200]).udp(1, 2),
            veth(),
            Malformed::Ip6OptLen,
            57,
        ),
        bad(
            "IPv6 fragment of 15 bytes",
            start().ip6().fragment(first).payload(15),
            veth(),
            Malformed::Ip6FragAlign,
            18,
        ),
        bad(
            "IPv6 fragment ends at 65,536",
            start().ip6().fragment(|header| header.offset = 8191).payload(8),
            veth(),
            Malformed::Ip6FragBig,
            56,
        ),
        bad(
            "IPv6 fragment ends at 65,528 behind 8 bytes of options",
            start().ip6().hop_by_hop(plain).fragment(|header| header.offset = 8190).payload(8),
            veth(),
            Malformed::Ip6FragBig,
            64,
        ),
        bad(
            "reserved byte of a fragment",
            start().ip6().fragment(|header| (header.offset, header.reserved) = (9, 1)).payload(8),
            veth(),
            Malformed::Ip6FragResv,
            55,
        ),
        bad(
            "reserved bits of a fragment",
            start().ip6().fragment(|header| (header.offset, header.reserved_bits) = (9, 1)).payload(8),
            veth(),
            Malformed::Ip6FragResv,
            56,
        ),
        bad("atomic fragment", start().ip6().fragment(plain).udp(1, 2), veth(), Malformed::Ip6FragResv, 56),
        bad(
            "first IPv6 fragment with 16 bytes of TCP",
            start().ip6().fragment(|header| (header.more_fragments, header.next_header) = (true, 6)).payload(16),
            veth(),
            Malformed::Ip6FirstFrag,
            62,
        ),
        bad(
            "first fragment ends in an extension header",
            start().ip6().fragment(first).destination_options(long),
            veth(),
            Malformed::Ip6FirstFrag,
            63,
        ),
        bad(
            "first fragment ends in front of an extension header",
            start().ip6().fragment(|header| (header.more_fragments, header.next_header) = (true, 60)),
            veth(),
            Malformed::Ip6FirstFrag,
            62,
        ),
        bad("nine extension headers", nine.udp(1, 2), veth(), Malformed::Ip6Chain, 54 + 8 * 8),
    ]
}

fn tcp() -> Vec<Row> {
    let flags = |name, flags| {
        bad(name, start().ip4().tcp_with(1, 2, move |tcp| tcp.flags = flags), veth(), Malformed::TcpFlags, 47)
    };
    vec![
        bad("19 bytes of TCP", start().ipv4(|ip| ip.protocol = 6).payload(19), veth(), Malformed::TcpShort, 34),
        bad(
            "19 bytes of TCP over IPv6",
            start().ipv6(|ip| ip.next_header = 6).payload(19),
            veth(),
            Malformed::TcpShort,
            54,
        ),
        bad(
            "data offset 16",
            start().ip4().tcp_with(1, 2, |tcp| tcp.header_words = Some(4)),
            veth(),
            Malformed::TcpDoff,
            46,
        ),
        bad(
            "data offset 24 in 23 bytes",
            start().ip4().tcp_with(1, 2, |tcp| tcp.header_words = Some(6)).payload(3),
            veth(),
            Malformed::TcpDoff,
            46,
        ),
        flags("SYN and FIN", flag::SYN | flag::FIN),
        flags("SYN and RST", flag::SYN | flag::RST),
        flags("FIN and RST", flag::FIN | flag::RST | flag::ACK),
        flags("no flags", 0),
        flags("only ECN flags", flag::ECE | flag::CWR),
        flags("FIN without ACK", flag::FIN),
        flags("PSH without ACK", flag::PSH | flag::SYN),
        flags("all flags", 0xff),
        bad(
            "URG without ACK",
            start().ip4().tcp_with(1, 2, |tcp| (tcp.flags, tcp.urgent) = (flag::URG, 1)),
            veth(),
            Malformed::TcpFlags,
            47,
        ),
        bad("source port 0", start().ip4().tcp(0, 2).payload(9), veth(), Malformed::TcpPort0, 34),
        bad("destination port 0", start().ip6().tcp(1, 0).payload(9), veth(), Malformed::TcpPort0, 54),
        bad(
            "acknowledgement number without ACK",
            start().ip4().tcp_with(1, 2, |tcp| (tcp.flags, tcp.acknowledgement) = (flag::RST, 7)),
            veth(),
            Malformed::TcpAckNz,
            42,
        ),
        bad(
            "urgent pointer without URG",
            start().ip4().tcp_with(1, 2, |tcp| tcp.urgent = 7),
            veth(),
            Malformed::TcpUrgNz,
            52,
        ),
    ]
}

fn tcp_options() -> Vec<Row> {
    let with = |flags: u16, options: &'static [u8]| {
        start().ip4().tcp_with(1, 2, move |tcp| (tcp.flags, tcp.options) = (flags, options.to_vec())).payload(9)
    };
    let broken = |name, options, at| bad(name, with(flag::SYN, options), veth(), Malformed::TcpOpt, at);
    let misplaced = |name, flags, options, at| bad(name, with(flags, options), veth(), Malformed::TcpOptSyn, at);
    vec![
        broken("TCP option of length 0", &[30, 0, 0, 0], 55),
        broken("TCP option of length 1", &[30, 1, 0, 0], 55),
        broken("TCP option past the header", &[30, 5, 0, 0], 55),
        broken("TCP option without length", &[1, 1, 1, 30], 57),
        broken("MSS of 3 bytes", &[2, 3, 5, 0], 55),
        broken("window scale of 4 bytes", &[3, 4, 7, 0], 55),
        broken("SACK permitted of 3 bytes", &[4, 3, 0, 0], 55),
        broken("SACK of 9 bytes", &[5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 55),
        broken("time stamps of 9 bytes", &[8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 55),
        broken("MD5 of 4 bytes", &[19, 4, 0, 0], 55),
        broken("authentication of 3 bytes", &[29, 3, 0, 0], 55),
        misplaced("MSS without SYN", flag::ACK, &[2, 4, 5, 0xb4], 54),
        misplaced("window scale without SYN", flag::ACK, &[1, 3, 3, 7], 55),
        misplaced("SACK permitted without SYN", flag::ACK, &[4, 2, 0, 0], 54),
        misplaced("window scale 15", flag::SYN, &[3, 3, 15, 0], 56),
        misplaced("MSS twice", flag::SYN, &[2, 4, 5, 0xb4, 2, 4, 5, 0xb4], 58),
        misplaced("time stamps twice", flag::ACK, &[8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0], 64),
        bad("four NOPs", with(flag::ACK, &[1, 1, 1, 1]), veth(), Malformed::TcpNop4, 54),
        bad("four NOPs behind an option", with(flag::ACK, &[5, 2, 1, 1, 1, 1, 1, 0]), veth(), Malformed::TcpNop4, 56),
    ]
}

fn udp() -> Vec<Row> {
    let with = |change: fn(&mut tests::frames::Udp)| start().ip4().udp_with(1000, 2000, change).payload(100);
    vec![
        bad("7 bytes of UDP", start().ipv4(|ip| ip.protocol = 17).payload(7), veth(), Malformed::UdpShort, 34),
        bad("UDP length 7", with(|udp| udp.length = 7), veth(), Malformed::UdpLenLt8, 38),
        bad("UDP length 1", with(|udp| udp.length = 1), veth(), Malformed::UdpLenLt8, 38),
        bad("UDP length one too large", with(|udp| udp.length += 1), veth(), Malformed::UdpLenGt, 38),
        bad("UDP length one too small", with(|udp| udp.length -= 1), veth(), Malformed::UdpSurplus, 38),
        bad(
            "no UDP checksum over IPv6",
            start().ip6().udp_with(1000, 53, |udp| udp.checksum = Checksum::Value(0)).payload(100),
            veth(),
            Malformed::Udp6Csum0,
            60,
        ),
    ]
}

fn icmp() -> Vec<Row> {
    let discovery =
        |kind, hop_limit, code| start().ipv6(move |ip| ip.hop_limit = hop_limit).icmpv6(kind, code).payload(16);
    vec![
        bad("7 bytes of ICMP", start().ipv4(|ip| ip.protocol = 1).payload(7), veth(), Malformed::IcmpShort, 34),
        bad("ICMPv6 in IPv4", start().ipv4(|ip| ip.protocol = 58).payload(8), veth(), Malformed::IcmpFamily, 34),
        bad("ICMP in IPv6", start().ipv6(|ip| ip.next_header = 1).payload(8), veth(), Malformed::IcmpFamily, 54),
        bad(
            "ICMP in IPv6 behind options",
            start().ip6().hop_by_hop(|header| header.next_header = 1).payload(8),
            veth(),
            Malformed::IcmpFamily,
            62,
        ),
        bad("3 bytes of ICMPv6", start().ipv6(|ip| ip.next_header = 58).payload(3), veth(), Malformed::Icmp6Short, 54),
        bad("router solicitation from afar", discovery(133, 254, 0), veth(), Malformed::NdHopLimit, 21),
        bad("neighbour solicitation from afar", discovery(135, 64, 0), veth(), Malformed::NdHopLimit, 21),
        bad("redirect from afar", discovery(137, 0, 0), veth(), Malformed::NdHopLimit, 21),
        bad("neighbour advertisement with a code", discovery(136, 255, 1), veth(), Malformed::NdCode, 55),
    ]
}
