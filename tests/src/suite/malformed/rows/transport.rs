//! TCP, UDP, ICMP, ICMPv6.

use probe_ebpf::reason::Malformed;
use tests::frames::{Checksum, flag};

use super::{
    super::{Row, bad, veth},
    start,
};

pub(super) fn rows() -> Vec<Row> {
    [tcp(), tcp_options(), udp(), icmp()].into_iter().flatten().collect()
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
