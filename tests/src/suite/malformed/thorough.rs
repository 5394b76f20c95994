//! What only user space looks at: the rows of its rules, and of what they let pass. The kernel runs the same frames, and
//! finds nothing in their headers.

use probe_ebpf::{
    classify::{
        Meta,
        Network::{self, Ipv4, Ipv6},
        Packet,
        Transport::{self, Fragment, Icmp, Icmpv6, Tcp, Udp},
        TunnelPorts,
    },
    reason::Malformed,
};
use tests::frames::{
    Checksum, Frame, Icmp as IcmpHeader, Ipv6 as Ipv6Header, Mpls, Tcp as TcpHeader, Udp as UdpHeader, packet, plain,
};

use super::{Row, good, gso, loopback, other, rows::start, thoroughly, veth};

pub(super) fn rows() -> Vec<Row> {
    [checksums(), sound_checksums(), in_tunnels(), quotes(), discovery(), labels()].into_iter().flatten().collect()
}

const VXLAN: u16 = 4789;

fn bad(name: &'static str, frame: Frame, reason: Malformed, at: u16) -> Row {
    thoroughly(name, frame, veth(), reason, at)
}

fn of(network: Network, transport: Transport, transport_at: u16, header_bytes: u16, payload_bytes: u32) -> Packet {
    Packet { network, transport, network_at: 14, transport_at, header_bytes, payload_bytes }
}

fn wrong_tcp(tcp: &mut TcpHeader) {
    tcp.checksum = Checksum::Wrong;
}

fn wrong_udp(udp: &mut UdpHeader) {
    udp.checksum = Checksum::Wrong;
}

fn unfinished_tcp(tcp: &mut TcpHeader) {
    tcp.checksum = Checksum::Unfinished;
}

fn unfinished_udp(udp: &mut UdpHeader) {
    udp.checksum = Checksum::Unfinished;
}

fn wrong_icmp(icmp: &mut IcmpHeader) {
    icmp.checksum = Checksum::Wrong;
}

/// A neighbour discovery message needs it.
fn local(ip: &mut Ipv6Header) {
    ip.hop_limit = 255;
}

fn checksums() -> Vec<Row> {
    let last_byte_changed = |frame: Frame, at: usize| frame.poke(at, [0xee]);
    vec![
        bad("a wrong TCP checksum", start().ip4().tcp_with(1, 2, wrong_tcp).payload(9), Malformed::TcpCsum, 50),
        bad("a wrong TCP checksum over IPv6", start().ip6().tcp_with(1, 2, wrong_tcp), Malformed::TcpCsum, 70),
        bad("TCP data damaged", last_byte_changed(start().ip4().tcp(1, 2).payload(9), 62), Malformed::TcpCsum, 50),
        bad(
            "a TCP checksum of zero",
            start().ip4().tcp_with(1, 2, |tcp| tcp.checksum = Checksum::Value(0)),
            Malformed::TcpCsum,
            50,
        ),
        bad(
            "a TCP checksum nearly that of the pseudo header",
            start().ip4().tcp_with(1, 2, unfinished_tcp).payload(9).poke(51, [0]),
            Malformed::TcpCsum,
            50,
        ),
        bad(
            "another destination than TCP was sent to",
            start().ip6().tcp(1, 2).payload(9).poke(53, [9]),
            Malformed::TcpCsum,
            70,
        ),
        bad(
            "a wrong TCP checksum behind a tag",
            start().vlan(5).ip4().tcp_with(1, 2, wrong_tcp),
            Malformed::TcpCsum,
            54,
        ),
        bad(
            "a wrong TCP checksum behind options",
            start().ip6().hop_by_hop(plain).tcp_with(1, 2, wrong_tcp),
            Malformed::TcpCsum,
            78,
        ),
        bad(
            "a wrong TCP checksum behind padding",
            start().ip6().destination_options(plain).tcp_with(1, 2, wrong_tcp),
            Malformed::TcpCsum,
            78,
        ),
        bad("a wrong UDP checksum", start().ip4().udp_with(1, 2, wrong_udp).payload(9), Malformed::UdpCsum, 40),
        bad(
            "a wrong UDP checksum over IPv6",
            start().ip6().udp_with(1, 2, wrong_udp).payload(8),
            Malformed::UdpCsum,
            60,
        ),
        bad("UDP data damaged", last_byte_changed(start().ip4().udp(1, 2).payload(9), 50), Malformed::UdpCsum, 40),
        bad("a wrong ICMP checksum", start().ip4().icmp_with(8, 0, wrong_icmp).payload(9), Malformed::IcmpCsum, 36),
        bad(
            "an ICMP error with a wrong checksum and half a quote",
            start().ip4().icmp_with(3, 1, wrong_icmp).payload(9),
            Malformed::IcmpCsum,
            36,
        ),
        bad("a wrong ICMPv6 checksum", start().ip6().icmpv6_with(128, 0, wrong_icmp), Malformed::Icmp6Csum, 56),
        bad(
            "a wrong checksum of neighbour discovery",
            start().ipv6(local).icmpv6_with(135, 0, wrong_icmp).payload(16),
            Malformed::Icmp6Csum,
            56,
        ),
    ]
}

/// What looks wrong and is not.
fn sound_checksums() -> Vec<Row> {
    let tcp4 = |payload| of(Ipv4, Tcp, 34, 54, payload);
    let udp4 = |payload| of(Ipv4, Udp, 34, 42, payload);
    let unfinished6 = |icmp: &mut IcmpHeader| icmp.checksum = Checksum::Unfinished;
    let minus_zero = |udp: &mut UdpHeader| udp.checksum = Checksum::Value(0xffff);
    let routed = |segments_left: u8| {
        let body = [&[4, segments_left, 0, 0, 0, 0][..], &[0xfd; 16]].concat();
        start().ip6().extension(43, move |header| header.body.clone_from(&body)).tcp_with(1, 2, wrong_tcp)
    };
    let home =
        |header: &mut tests::frames::Extension| header.body = [&[1, 2, 0, 0, 0xc9, 16][..], &[0xfd; 16]].concat();
    let on_its_way = |ip: &mut tests::frames::Ipv4| ip.options = vec![131, 7, 4, 10, 0, 0, 9, 0];
    vec![
        good("an unfinished TCP checksum", start().ip4().tcp_with(1, 2, unfinished_tcp).payload(9), veth(), tcp4(9)),
        good(
            "an unfinished TCP checksum over IPv6",
            start().ip6().tcp_with(1, 2, unfinished_tcp).payload(9),
            veth(),
            of(Ipv6, Tcp, 54, 74, 9),
        ),
        good(
            "an unfinished UDP checksum",
            start().ip4().udp_with(1, 2, unfinished_udp).payload(9),
            loopback(),
            udp4(9),
        ),
        good(
            "an unfinished ICMPv6 checksum",
            start().ip6().icmpv6_with(128, 0, unfinished6),
            veth(),
            of(Ipv6, Icmpv6, 54, 58, 4),
        ),
        good(
            "a wrong TCP checksum of segments",
            start().ip4().tcp_with(1, 2, wrong_tcp).payload(3000),
            gso(1448),
            tcp4(3000),
        ),
        good(
            "a wrong UDP checksum in a fragment",
            start()
                .ipv4(|ip| (ip.dont_fragment, ip.more_fragments) = (false, true))
                .udp_with(1, 2, wrong_udp)
                .payload(16),
            veth(),
            Packet { transport_at: 0, header_bytes: 34, ..of(Ipv4, Fragment, 0, 0, 24) },
        ),
        // 0a00 + 0001 + 0a00 + 0002 + 0011 + 000a, and twice that length and the ports: the rest fills up to ffff.
        good("a UDP checksum of -0", start().ip4().udp_with(1, 2, minus_zero).data([0xeb, 0xd4]), veth(), udp4(2)),
        good("a TCP checksum for the end of a route", routed(1), veth(), of(Ipv6, Tcp, 78, 98, 0)),
        bad("a wrong TCP checksum at the end of a route", routed(0), Malformed::TcpCsum, 94),
        good(
            "a TCP checksum with a home address",
            start().ip6().destination_options(home).tcp_with(1, 2, wrong_tcp),
            veth(),
            of(Ipv6, Tcp, 78, 98, 0),
        ),
        super::bad(
            "a TCP checksum for the end of a source route",
            start().ipv4(on_its_way).tcp_with(1, 2, wrong_tcp),
            veth(),
            Malformed::Ip4SourceRoute,
            34,
        ),
        super::bad(
            "UDP with its checksum, and bytes behind it",
            start().ip4().udp_with(1, 2, |udp| udp.length = 17).payload(20),
            veth(),
            Malformed::UdpSurplus,
            38,
        ),
    ]
}

/// On a device that carries a tunnel.
fn carrier() -> Meta {
    Meta { tunnels: TunnelPorts { vxlan: [VXLAN, 0], ..TunnelPorts::NONE }, ..veth() }
}

fn in_tunnels() -> Vec<Row> {
    const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];
    let carried = |outer: fn(&mut UdpHeader), inner: fn(&mut TcpHeader)| {
        let inner = start().ip4().tcp_with(1, 2, inner).payload(10);
        start().ip4().udp_with(1, VXLAN, outer).data(HEADER).nested(inner)
    };
    let unsummed = |udp: &mut UdpHeader| udp.checksum = Checksum::Value(0);
    let bad = |name, frame, reason, at| thoroughly(name, frame, carrier(), reason, at);
    let inside = Packet { network_at: 64, ..of(Ipv4, Tcp, 84, 104, 10) };
    let broken = start().ipv4(|ip| ip.checksum = Checksum::Wrong).tcp(1, 2).payload(10);
    vec![
        bad("a wrong checksum of a tunnel", carried(wrong_udp, plain), Malformed::UdpCsum, 40),
        bad("a wrong checksum in a tunnel", carried(unsummed, wrong_tcp), Malformed::TcpCsum, 100),
        bad("wrong checksums outside and in a tunnel", carried(wrong_udp, wrong_tcp), Malformed::UdpCsum, 40),
        good("a tunnel without checksum", carried(unsummed, plain), carrier(), inside),
        good("an unfinished checksum in a tunnel without one", carried(unsummed, unfinished_tcp), carrier(), inside),
        good(
            "an unfinished checksum in a tunnel that counts on it",
            carried(wrong_udp, unfinished_tcp),
            carrier(),
            inside,
        ),
        good("an unfinished checksum of a tunnel", carried(unfinished_udp, plain), carrier(), inside),
        super::bad(
            "a wrong checksum of a tunnel and a worse thing in it",
            start().ip4().udp_with(1, VXLAN, wrong_udp).data(HEADER).nested(broken),
            carrier(),
            Malformed::Ip4Csum,
            74,
        ),
        thoroughly(
            "a wrong checksum in GRE",
            start().ip4().gre(plain).ip4().tcp_with(1, 2, wrong_tcp),
            veth(),
            Malformed::TcpCsum,
            74,
        ),
    ]
}

/// The quoted datagram begins at 42.
fn quotes() -> Vec<Row> {
    let error =
        |kind: u8, quote: Frame| start().ip4().icmp_with(kind, 1, |icmp| icmp.rest = [0; 4]).data(quote.bytes());
    let of_length = |words: u8, quote: Frame| {
        start().ip4().icmp_with(11, 0, move |icmp| icmp.rest = [0, words, 0, 0]).data(quote.bytes())
    };
    let datagram = || packet().ip4().udp(1, 2).payload(100);
    let with = |change: fn(&mut tests::frames::Ipv4)| packet().ipv4(change).udp(1, 2).payload(100).cut(28);
    let sound = |name, frame: Frame, payload| good(name, frame, veth(), of(Ipv4, Icmp, 34, 42, payload));
    let bad = |name, frame, at| bad(name, frame, Malformed::IcmpQuote, at);
    vec![
        bad("unreachable without a quote", error(3, packet()), 42),
        bad("unreachable with 19 bytes", error(3, datagram().cut(19)), 42),
        bad("time exceeded with 27 bytes", error(11, datagram().cut(27)), 42),
        bad("a redirect with 27 bytes", error(5, datagram().cut(27)), 42),
        bad("a source quench with 27 bytes", error(4, datagram().cut(27)), 42),
        bad("a parameter problem with 27 bytes", error(12, datagram().cut(27)), 42),
        bad("a quote of version 6", error(3, packet().ip6().udp(1, 2).payload(9)), 42),
        bad("a quoted header of 16 bytes", error(3, with(|ip| ip.header_words = Some(4))), 42),
        bad("a quoted header of 24 bytes in 28", error(3, with(|ip| ip.header_words = Some(6))), 42),
        bad("a quoted total length of 19", error(3, with(|ip| ip.total_length = 19)), 44),
        bad("a length of 128 bytes in 124", of_length(32, packet().ip4().udp(1, 2).payload(96)), 39),
        sound("unreachable with 28 bytes", error(3, datagram().cut(28)), 28),
        sound("unreachable with all", error(3, datagram()), 128),
        sound("a short datagram quoted whole", error(3, packet().ip4().payload(3)), 23),
        sound("a quote with padding", error(3, packet().ip4().payload(3).pad(46)), 46),
        sound("a quote and extensions", of_length(32, datagram().pad(128).trailer([0x20, 0, 0, 0])), 132),
        sound(
            "a redirect whose router's address looks like a length",
            {
                let quote = datagram().cut(28).bytes();
                start().ip4().icmp_with(5, 1, |icmp| icmp.rest = [10, 200, 0, 1]).data(quote)
            },
            28,
        ),
        sound("an echo quotes nothing", start().ip4().icmp(0, 0).payload(3), 3),
    ]
}

/// Options behind the fixed part of each message.
fn discovery() -> Vec<Row> {
    const LINK_ADDRESS: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0x0a];
    let message = |kind: u8, fixed: usize, options: &[u8]| {
        let body = [vec![0; fixed - 8], options.to_vec()].concat();
        start().ipv6(local).icmpv6(kind, 0).data(body)
    };
    let sound = |name, kind, fixed: usize, options: &[u8]| {
        let payload = (fixed - 4 + options.len()) as u32;
        good(name, message(kind, fixed, options), veth(), of(Ipv6, Icmpv6, 54, 58, payload))
    };
    let bad = |name, kind, fixed: usize, options: &[u8], at| {
        bad(name, message(kind, fixed, options), Malformed::NdOptLen, 54 + fixed as u16 + at)
    };
    let two = [LINK_ADDRESS, LINK_ADDRESS].concat();
    vec![
        bad("an option of length 0 in a router solicitation", 133, 8, &[1, 0, 2, 0, 0, 0, 0, 0x0a], 1),
        bad("an option of length 0 in a router advertisement", 134, 16, &[3, 0, 0, 0, 0, 0, 0, 0], 1),
        bad("an option past the end of a neighbour solicitation", 135, 24, &[1, 2, 2, 0, 0, 0, 0, 0x0a], 1),
        bad("a second option past the end", 136, 24, &[&LINK_ADDRESS[..], &[2, 1, 2, 0]].concat(), 9),
        bad("an option without length in a redirect", 137, 40, &[2], 0),
        sound("a router solicitation with an option", 133, 8, &LINK_ADDRESS),
        sound("a router advertisement with two options", 134, 16, &two),
        sound("a neighbour solicitation without options", 135, 24, &[]),
        sound("a redirect with an option of two units", 137, 40, &[4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        sound("a router's answer cut before its options", 134, 8, &[0, 0]),
        good(
            "an echo that looks like an option",
            start().ipv6(local).icmpv6(128, 0).data([0; 40]),
            veth(),
            of(Ipv6, Icmpv6, 54, 58, 44),
        ),
    ]
}

fn labels() -> Vec<Row> {
    let stack = |labels: &[u32]| labels.iter().fold(start(), |frame, label| frame.mpls(*label)).payload(20);
    let reserved = |name, labels: &[u32], at| bad(name, stack(labels), Malformed::MplsReserved, at);
    let sound = |name, labels: &[u32]| other(name, stack(labels), veth());
    let unbounded = |entry: &mut Mpls| entry.bottom = false;
    vec![
        reserved("label 4", &[4], 14),
        reserved("label 6 below another", &[100, 6], 18),
        reserved("label 8", &[8, 100], 14),
        reserved("label 12", &[12], 14),
        reserved("router alert at the bottom", &[100, 1], 18),
        reserved("an extension without a label", &[100, 15], 18),
        reserved("a reserved label behind an extension", &[15, 3], 18),
        bad("implicit null", stack(&[3]), Malformed::MplsImplicitNull, 14),
        bad("implicit null below another", stack(&[100, 3]), Malformed::MplsImplicitNull, 18),
        bad("implicit null below a reserved label", stack(&[5, 3]), Malformed::MplsImplicitNull, 18),
        super::bad(
            "implicit null in a stack without end",
            start().mpls_with(3, unbounded).data([0, 0, 0xff]),
            veth(),
            Malformed::MplsShort,
            18,
        ),
        sound("explicit null", &[0]),
        sound("explicit null above a label", &[0, 2]),
        sound("router alert above a label", &[1, 100]),
        sound("an entropy label", &[100, 7, 70_000]),
        sound("an associated channel", &[100, 13]),
        sound("OAM alert", &[14, 100]),
        sound("an extended label", &[15, 16]),
        sound("an extended entropy label", &[15, 7, 70_000]),
        sound("label 16", &[16]),
        sound("the largest label", &[0xf_ffff]),
    ]
}
