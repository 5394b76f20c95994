//! What carries other packets without being a tunnel of this node: MPLS, GRE; and SCTP, which carries chunks.

use probe_ebpf::{
    classify::{
        Network::{Ipv4, Ipv6},
        Packet,
        Transport::{self, Fragment, Sctp, Tcp, Udp},
    },
    reason::Malformed,
};
use tests::frames::{A, B, Checksum, Frame, Gre, Sctp as SctpHeader, ethernet_with, packet, plain};

use super::{Row, bad, good, network, other, rows::start, veth};

pub(super) fn rows() -> Vec<Row> {
    [mpls(), gre(), gre_contradictions(), sctp(), sctp_contradictions()].into_iter().flatten().collect()
}

fn mpls() -> Vec<Row> {
    let of_type = |ether_type| ethernet_with(B, A, move |header| header.ether_type = ether_type);
    let stack = |entries| (0..entries).fold(start(), |frame, label| frame.mpls(1000 + label));
    let never_ends = (0..9).fold(start(), |frame, label| frame.mpls_with(1000 + label, |entry| entry.bottom = false));
    let unended = |entries| {
        (0..entries).fold(start(), |frame, label| frame.mpls_with(1000 + label, |entry| entry.bottom = false))
    };
    let bad = |name, frame, reason, at| bad(name, frame, veth(), reason, at);
    let carried = || start().mpls(16).ip4().udp(1, 2).payload(9);
    vec![
        other("IPv4 behind a label", carried(), veth()),
        other("IPv4 behind a label, broken", carried().poke(18, [0x55]), veth()),
        other("a label of another's choice", carried().poke(12, [0x88, 0x48]), veth()),
        other("a label behind a tag", start().vlan(5).mpls(16).payload(9), veth()),
        other("a label and nothing behind it", start().mpls(16), veth()),
        other("eight labels", stack(8).payload(9), veth()),
        other("MPLS on a device without Ethernet header", packet().mpls(16).ip4().udp(1, 2), network(0x8847)),
        bad("three bytes of a label", of_type(0x8847).payload(3), Malformed::MplsShort, 14),
        bad("a second label cut off", unended(1).payload(3), Malformed::MplsShort, 18),
        bad(
            "a label behind a tag cut off",
            start().tag(0x8100, 5, |tag| tag.ether_type = 0x8847),
            Malformed::MplsShort,
            18,
        ),
        bad("eight labels and no end", unended(8).payload(9), Malformed::MplsNoBottom, 14 + 7 * 4),
        bad("nine labels", never_ends, Malformed::MplsNoBottom, 14 + 7 * 4),
    ]
}

/// Without options in front, over Ethernet; `gre_bytes` of GRE between two IPv4 headers, then that much payload.
fn in_gre4(transport: Transport, gre_bytes: u16, payload_bytes: u32) -> Packet {
    let network_at = 34 + gre_bytes;
    let transport_at = network_at + 20;
    let header_bytes = transport_at + if transport == Tcp { 20 } else { 8 };
    Packet { network: Ipv4, transport, network_at, transport_at, header_bytes, payload_bytes }
}

fn gre() -> Vec<Row> {
    let tcp = |change: fn(&mut Gre)| start().ip4().gre(change).ip4().tcp(1, 2).payload(9);
    let all = |gre: &mut Gre| (gre.checksum, gre.key, gre.sequence) = (true, Some(7), Some(8));
    let enhanced = |gre: &mut Gre| (gre.flags, gre.key, gre.ether_type) = (1, Some(7), 0x880b);
    let over_ipv6 = Packet { network_at: 58, transport_at: 78, header_bytes: 98, ..in_gre4(Tcp, 0, 9) };
    let of_ipv6 =
        Packet { network: Ipv6, transport: Udp, network_at: 38, transport_at: 78, header_bytes: 86, payload_bytes: 9 };
    let bridged = Packet { network_at: 52, transport_at: 72, header_bytes: 92, ..in_gre4(Tcp, 0, 9) };
    vec![
        good("TCP in GRE", tcp(plain), veth(), in_gre4(Tcp, 4, 9)),
        good("TCP in GRE with every field", tcp(all), veth(), in_gre4(Tcp, 16, 9)),
        good("TCP in GRE over IPv6", start().ip6().gre(plain).ip4().tcp(1, 2).payload(9), veth(), over_ipv6),
        good("UDP over IPv6 in GRE", start().ip4().gre(plain).ip6().udp(1, 2).payload(9), veth(), of_ipv6),
        good("a frame in GRE", start().ip4().gre(plain).nested(start().ip4().tcp(1, 2).payload(9)), veth(), bridged),
        good(
            "a fragment in GRE",
            start().ip4().gre(plain).ipv4(|ip| (ip.more_fragments, ip.dont_fragment) = (true, false)).payload(64),
            veth(),
            Packet { transport_at: 0, header_bytes: 58, ..in_gre4(Fragment, 4, 64) },
        ),
        other("PPP in enhanced GRE", start().ip4().gre(enhanced).payload(9), veth()),
        other(
            "enhanced GRE with an acknowledgement",
            start().ip4().gre(|gre| (gre.flags, gre.key) = (0x81, Some(7))).data([0; 4]),
            veth(),
        ),
        other("GRE in GRE: one level", start().ip4().gre(plain).ip4().gre(plain).ip4().tcp(1, 2), veth()),
        other(
            "ERSPAN",
            start().ip4().gre(|gre| (gre.ether_type, gre.sequence) = (0x88be, Some(1))).payload(30),
            veth(),
        ),
        other(
            "ARP of a tunnel's own addresses",
            start().ip4().gre(|gre| gre.ether_type = 0x0806).data([3, 10, 8, 0, 4, 4, 0, 1]).payload(16),
            veth(),
        ),
        other("nothing in GRE", start().ip4().gre(|gre| gre.ether_type = 0), veth()),
    ]
}

fn gre_contradictions() -> Vec<Row> {
    let bad = |name, frame, reason, at| bad(name, frame, veth(), reason, at);
    let cut = |flags: u16| {
        let header = [flags.to_be_bytes(), [8, 0]].concat();
        start().ipv4(|ip| ip.protocol = 47).data(header)
    };
    let with_flags = |flags| start().ip4().gre(move |gre| gre.flags = flags).ip4().tcp(1, 2);
    let broken = |ip: &mut tests::frames::Ipv4| ip.checksum = Checksum::Wrong;
    vec![
        bad("three bytes of GRE", start().ipv4(|ip| ip.protocol = 47).payload(3), Malformed::GreShort, 34),
        bad("three bytes of GRE over IPv6", start().ipv6(|ip| ip.next_header = 47).payload(3), Malformed::GreShort, 54),
        bad("GRE without the checksum that it has", cut(0x8000), Malformed::GreShort, 34),
        bad("GRE without the key that it has", cut(0x2000), Malformed::GreShort, 34),
        bad("GRE without the number that it has", cut(0x1000), Malformed::GreShort, 34),
        bad("enhanced GRE without the acknowledgement that it has", cut(0x0081), Malformed::GreShort, 34),
        bad("GRE of version 2", with_flags(2), Malformed::GreVer, 35),
        bad("GRE of version 7", with_flags(7), Malformed::GreVer, 35),
        bad("reserved bits of GRE", with_flags(0x0400), Malformed::GreResv, 34),
        bad("GRE with a source route", with_flags(0x4000), Malformed::GreResv, 34),
        bad("an acknowledgement in plain GRE", with_flags(0x0080), Malformed::GreResv, 34),
        bad("enhanced GRE without key", with_flags(1), Malformed::GreResv, 34),
        bad("enhanced GRE with a checksum", with_flags(0x8001), Malformed::GreResv, 34),
        bad("a bad header checksum in GRE", start().ip4().gre(plain).ipv4(broken).tcp(1, 2), Malformed::Ip4Csum, 48),
        bad(
            "IPv4 cut off in GRE",
            start().ip4().gre(|gre| gre.ether_type = 0x0800).data([0x45; 19]),
            Malformed::Ip4Short,
            38,
        ),
    ]
}

fn sctp() -> Vec<Row> {
    let of = |payload_bytes| Packet {
        network: Ipv4,
        transport: Sctp,
        network_at: 14,
        transport_at: 34,
        header_bytes: 46,
        payload_bytes,
    };
    let over = |name, frame: Frame, payload_bytes| good(name, frame, veth(), of(payload_bytes));
    let begin = |sctp: &mut SctpHeader| sctp.tag = 0;
    let of_ipv6 = Packet { network: Ipv6, transport_at: 54, header_bytes: 66, ..of(16) };
    let eight = (0..8).fold(start().ip4().sctp(1, 2), |frame, _| frame.chunk(0, 12));
    vec![
        over("an INIT", start().ip4().sctp_with(1, 2, begin).chunk(1, 16), 20),
        over("an INIT-ACK with a tag", start().ip4().sctp(1, 2).chunk(2, 16), 20),
        over("data and an acknowledgement", start().ip4().sctp(1, 2).chunk(3, 12).chunk(0, 13), 16 + 20),
        over("eight chunks", eight, 8 * 16),
        over("an empty chunk", start().ip4().sctp(1, 2).chunk(11, 0), 4),
        over(
            "a last chunk without padding",
            start().ipv4(|ip| ip.total_length -= 3).sctp(1, 2).chunk(0, 13).cut(63),
            17,
        ),
        over("no chunk at all", start().ip4().sctp(1, 2), 0),
        good("SCTP over IPv6", start().ip6().sctp(1, 2).chunk(0, 12), veth(), of_ipv6),
        good(
            "a first fragment with 12 bytes of SCTP",
            start().ip6().fragment(|header| header.more_fragments = true).sctp(1, 2).chunk(0, 0),
            veth(),
            Packet { network: Ipv6, transport: Fragment, transport_at: 0, header_bytes: 62, ..of(16) },
        ),
        good(
            "merged SCTP",
            start().ip4().sctp(1, 2).chunk_with(0, 1000, |length| *length = 9000),
            super::gso(500),
            of(1004),
        ),
    ]
}

fn sctp_contradictions() -> Vec<Row> {
    let bad = |name, frame, reason, at| bad(name, frame, veth(), reason, at);
    let begin = |sctp: &mut SctpHeader| sctp.tag = 0;
    let first_fragment =
        |header: &mut tests::frames::Fragment| (header.more_fragments, header.next_header) = (true, 132);
    vec![
        bad("11 bytes of SCTP", start().ipv4(|ip| ip.protocol = 132).payload(11), Malformed::SctpShort, 34),
        bad(
            "11 bytes of SCTP over IPv6",
            start().ipv6(|ip| ip.next_header = 132).payload(11),
            Malformed::SctpShort,
            54,
        ),
        bad(
            "8 bytes of SCTP in a first fragment",
            start().ip6().fragment(first_fragment).payload(8),
            Malformed::Ip6FirstFrag,
            62,
        ),
        bad(
            "a chunk of 3 bytes",
            start().ip4().sctp(1, 2).chunk_with(0, 12, |length| *length = 3),
            Malformed::SctpChunkLen,
            48,
        ),
        bad(
            "a chunk past the end",
            start().ip4().sctp(1, 2).chunk_with(0, 12, |length| *length += 1),
            Malformed::SctpChunkLen,
            48,
        ),
        bad(
            "a second chunk of length 0",
            start().ip4().sctp(1, 2).chunk(3, 12).chunk_with(0, 12, |length| *length = 0),
            Malformed::SctpChunkLen,
            64,
        ),
        bad("three bytes of a chunk", start().ip4().sctp(1, 2).data([0; 3]), Malformed::SctpChunkLen, 46),
        bad(
            "an INIT and data",
            start().ip4().sctp_with(1, 2, begin).chunk(1, 16).chunk(0, 12),
            Malformed::SctpInit,
            46,
        ),
        bad(
            "an INIT behind a cookie",
            start().ip4().sctp_with(1, 2, begin).chunk(10, 12).chunk(1, 16),
            Malformed::SctpInit,
            62,
        ),
        bad("an INIT with a tag", start().ip4().sctp(1, 2).chunk(1, 16), Malformed::SctpInit, 38),
    ]
}
