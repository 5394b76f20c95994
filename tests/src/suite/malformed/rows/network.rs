//! IPv4 and IPv6.

use probe_ebpf::reason::Malformed;
use tests::frames::{Checksum, Extension, Frame, Ipv4, Ipv6, plain};

use super::{
    super::{Row, bad, gso, network, veth},
    datagram, start,
};

pub(super) fn rows() -> Vec<Row> {
    [ipv4(), ipv4_options(), ipv6(), ipv6_extensions()].into_iter().flatten().collect()
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
pub(in super::super) fn jumbo(length: u32) -> Frame {
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
