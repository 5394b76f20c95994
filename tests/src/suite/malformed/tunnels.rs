//! What a tunnel carries is judged as well, one level deep, where the port is a tunnel's of this node: else it is payload.

use probe_ebpf::{
    classify::{
        Meta,
        Network::{Arp, Ipv4, Ipv6},
        Packet,
        Transport::{self, Fragment, Tcp, Udp},
        TunnelPorts,
    },
    reason::Malformed,
};
use tests::frames::{A, B, Checksum, Frame, ethernet, ethernet_with, flag, packet};

use super::{Row, bad, control, good, other, rows::start, veth};

const VXLAN: u16 = 4789;
const GENEVE: u16 = 6081;
/// Where the tunnel's header begins over IPv4: behind Ethernet, IPv4 and UDP.
const HEADER_AT: u16 = 14 + 20 + 8;
/// Where the inner frame does.
const INNER_AT: u16 = HEADER_AT + 8;

pub(super) fn rows() -> Vec<Row> {
    [vxlan(), geneve(), not_ours(), contradictions()].into_iter().flatten().collect()
}

/// On a device that carries both.
fn carrier() -> Meta {
    Meta { tunnels: TunnelPorts { vxlan: [VXLAN, 8472], geneve: [GENEVE, 0] }, ..veth() }
}

/// Flags, three bytes that VXLAN-GPE ends with the next protocol, network identifier 7.
const fn vxlan_header(flags: u8, next: u8) -> [u8; 8] {
    [flags, 0, 0, next, 0, 0, 7, 0]
}

fn in_vxlan(inner: Frame) -> Frame {
    start().ip4().udp(1, VXLAN).data(vxlan_header(8, 0)).nested(inner)
}

/// One option of that many bytes, or none.
fn option(bytes: usize) -> Vec<u8> {
    let mut option = vec![0; bytes];
    if let [_, _, kind, words, ..] = &mut option[..] {
        (*kind, *words) = (1, (bytes / 4 - 1) as u8);
    }
    option
}

fn in_geneve(options: usize, ether_type: u16, inner: Frame) -> Frame {
    let [high, low] = ether_type.to_be_bytes();
    let header = [(options / 4) as u8, 0, high, low, 0, 0, 9, 0];
    start().ip4().udp(1, GENEVE).data([&header[..], &option(options)].concat()).nested(inner)
}

/// Protocols and offset of the network header; no options anywhere.
fn inside(transport: Transport, network_at: u16, payload_bytes: u32) -> Packet {
    let transport_bytes = match transport {
        Tcp => 20,
        Udp => 8,
        _ => 0,
    };
    let transport_at = network_at + 20;
    Packet {
        network: Ipv4,
        transport,
        network_at,
        transport_at,
        header_bytes: transport_at + transport_bytes,
        payload_bytes,
    }
}

/// What the fast path is for.
pub(super) fn ordinary() -> Vec<(Frame, Meta)> {
    let tcp = || start().ip4().tcp(1, 2).payload(10);
    let in_geneve = |options, inner| in_geneve(options, 0x6558, inner);
    let over_ipv6 = start().ip6().udp(1, VXLAN).data(vxlan_header(8, 0)).nested(tcp());
    let unsummed = start().ip6().udp_with(1, VXLAN, |udp| udp.checksum = Checksum::Value(0)).data(vxlan_header(8, 0));
    let tagged = Meta { tag_protocol: 0x8100, tag_control: 5, ..carrier() };
    vec![
        (in_vxlan(tcp()), carrier()),
        (in_vxlan(start().ip4().udp(1, 2).payload(18)), carrier()),
        (in_vxlan(start().ip4().icmp(8, 0).payload(56)), carrier()),
        (in_vxlan(start().ip6().tcp(1, 2).payload(1380)), carrier()),
        (in_vxlan(start().ip4().tcp(1, 2).payload(3000)), Meta { gso_size: 1400, ..carrier() }),
        (in_vxlan(tcp()), tagged),
        (over_ipv6, carrier()),
        (unsummed.nested(tcp()), carrier()),
        (in_geneve(0, tcp()), carrier()),
        (in_geneve(8, tcp()), carrier()),
        (in_geneve(16, start().ip6().udp(1, 2).payload(5)), carrier()),
    ]
}

fn vxlan() -> Vec<Row> {
    let tcp = || start().ip4().tcp(1, 2).payload(10);
    let at = INNER_AT + 14;
    let over_ipv6 = Packet { network_at: at + 20, transport_at: at + 40, header_bytes: at + 60, ..inside(Tcp, at, 10) };
    let of_ipv6 = Packet {
        network: Ipv6,
        transport: Udp,
        network_at: at,
        transport_at: at + 40,
        header_bytes: at + 48,
        payload_bytes: 5,
    };
    let group_policy = start().ip4().udp(1, VXLAN).data(vxlan_header(0x88, 0)).nested(tcp());
    let extended = |next, inner: Frame| start().ip4().udp(1, VXLAN).data(vxlan_header(0x0c, next)).nested(inner);
    vec![
        good("TCP in VXLAN", in_vxlan(tcp()), carrier(), inside(Tcp, at, 10)),
        good(
            "TCP in VXLAN on the other port",
            start().ip4().udp(1, 8472).data(vxlan_header(8, 0)).nested(tcp()),
            carrier(),
            inside(Tcp, at, 10),
        ),
        good(
            "TCP in VXLAN over IPv6",
            start().ip6().udp(1, VXLAN).data(vxlan_header(8, 0)).nested(tcp()),
            carrier(),
            over_ipv6,
        ),
        good("UDP over IPv6 in VXLAN", in_vxlan(start().ip6().udp(1, 2).payload(5)), carrier(), of_ipv6),
        good(
            "tagged TCP in VXLAN",
            in_vxlan(start().vlan(5).ip4().tcp(1, 2).payload(10)),
            carrier(),
            inside(Tcp, at + 4, 10),
        ),
        good(
            "segments in VXLAN",
            in_vxlan(start().ip4().tcp(1, 2).payload(3000)),
            Meta { gso_size: 1400, ..carrier() },
            inside(Tcp, at, 3000),
        ),
        good("VXLAN in VXLAN: one level", in_vxlan(in_vxlan(tcp())), carrier(), inside(Udp, at, 8 + 14 + 20 + 20 + 10)),
        good(
            "a fragment in VXLAN",
            in_vxlan(start().ipv4(|ip| (ip.more_fragments, ip.dont_fragment) = (true, false)).payload(64)),
            carrier(),
            Packet { transport_at: 0, header_bytes: at + 20, ..inside(Fragment, at, 64) },
        ),
        good("a group policy", group_policy, carrier(), inside(Tcp, at, 10)),
        good(
            "IPv4 in VXLAN-GPE",
            extended(1, packet().ip4().tcp(1, 2).payload(10)),
            carrier(),
            inside(Tcp, INNER_AT, 10),
        ),
        good("Ethernet in VXLAN-GPE", extended(3, tcp()), carrier(), inside(Tcp, at, 10)),
        good(
            "a padded frame in VXLAN",
            in_vxlan(start().ip4().tcp(1, 2).data([0; 6])).poke(16, [0, 96]),
            carrier(),
            inside(Tcp, at, 6),
        ),
        other("NSH in VXLAN-GPE", extended(4, start()), carrier()),
        control(
            "LLDP in VXLAN",
            in_vxlan(ethernet_with(B, A, |header| header.ether_type = 0x88cc).payload(46)),
            carrier(),
        ),
        good(
            "ARP in VXLAN",
            in_vxlan(ethernet(B, [2, 0, 0, 0, 0, 0x7c]).arp(|arp| arp.sender_mac = [2, 0, 0, 0, 0, 0x7c])),
            carrier(),
            Packet {
                network: Arp,
                transport: Transport::None,
                network_at: at,
                transport_at: 0,
                header_bytes: at + 28,
                payload_bytes: 0,
            },
        ),
    ]
}

fn geneve() -> Vec<Row> {
    const BRIDGED: u16 = 0x6558;
    let tcp = || start().ip4().tcp(1, 2).payload(10);
    let at = INNER_AT + 14;
    vec![
        good("TCP in GENEVE", in_geneve(0, BRIDGED, tcp()), carrier(), inside(Tcp, at, 10)),
        good("TCP in GENEVE behind options", in_geneve(12, BRIDGED, tcp()), carrier(), inside(Tcp, at + 12, 10)),
        good(
            "IPv4 in GENEVE",
            in_geneve(0, 0x0800, packet().ip4().udp(1, 2).payload(3)),
            carrier(),
            inside(Udp, INNER_AT, 3),
        ),
        good(
            "TCP in GENEVE behind two options",
            start()
                .ip4()
                .udp(1, GENEVE)
                .data([&[5, 0, 0x65, 0x58, 0, 0, 9, 0][..], &option(8), &option(12)].concat())
                .nested(tcp()),
            carrier(),
            inside(Tcp, at + 20, 10),
        ),
        good(
            "GENEVE with flags and reserved bits",
            start().ip4().udp(1, GENEVE).data([0, 0xff, 0x65, 0x58, 0, 0, 9, 1]).nested(tcp()),
            carrier(),
            inside(Tcp, at, 10),
        ),
        other("MPLS in GENEVE", in_geneve(0, 0x8847, packet().mpls(16).payload(20)), carrier()),
        other("an unknown protocol in GENEVE", in_geneve(0, 0x4321, packet().payload(20)), carrier()),
    ]
}

fn not_ours() -> Vec<Row> {
    let udp = |meta| {
        let payload = 8 + 14 + 20 + 20 + 10;
        let frame = in_vxlan(start().ip4().tcp(1, 2).payload(10));
        let packet = inside(Udp, 14, payload);
        (frame, meta, packet)
    };
    let row = |name, (frame, meta, packet)| good(name, frame, meta, packet);
    let elsewhere = TunnelPorts { vxlan: [4790, 0], geneve: [GENEVE, 0] };
    vec![
        row("VXLAN's port where no tunnel passes", udp(veth())),
        row("VXLAN's port where another's passes", udp(Meta { tunnels: elsewhere, ..veth() })),
        good("VXLAN's port as source", start().ip4().udp(VXLAN, 53).payload(50), carrier(), inside(Udp, 14, 50)),
    ]
}

fn contradictions() -> Vec<Row> {
    let at = INNER_AT + 14;
    let tcp = || start().ip4().tcp(1, 2).payload(10);
    let with_header = |header: [u8; 8]| start().ip4().udp(1, VXLAN).data(header).nested(tcp());
    let geneve_header = |header: &[u8]| start().ip4().udp(1, GENEVE).data(header).nested(tcp());
    let broken = || start().ipv4(|ip| ip.checksum = Checksum::Wrong).tcp(1, 2);
    let broken_outside = start().ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, VXLAN).data(vxlan_header(8, 0));
    let group_source = ethernet(B, [1, 0, 0, 0, 0, 9]).ip4().tcp(1, 2);
    let to_itself = ethernet(B, B).ip4().tcp(1, 2);
    let flags = start().ip4().tcp_with(1, 2, |tcp| tcp.flags = flag::SYN | flag::FIN);
    let cut = start().ipv4(|ip| ip.total_length = 90).tcp(1, 2);
    vec![
        bad("a bad header checksum in VXLAN", in_vxlan(broken()), carrier(), Malformed::Ip4Csum, at + 10),
        bad(
            "bad header checksums outside and in VXLAN",
            broken_outside.nested(broken()),
            carrier(),
            Malformed::Ip4Csum,
            24,
        ),
        bad("IPv4 cut off in VXLAN", in_vxlan(cut), carrier(), Malformed::Ip4Trunc, at + 2),
        bad("a group as source in VXLAN", in_vxlan(group_source), carrier(), Malformed::EthSrcGroup, INNER_AT + 6),
        bad("equal addresses in VXLAN", in_vxlan(to_itself), carrier(), Malformed::EthSameAddr, INNER_AT + 6),
        bad(
            "a MAC header cut off in VXLAN",
            in_vxlan(packet().payload(13)),
            carrier(),
            Malformed::VxlanShort,
            INNER_AT,
        ),
        bad(
            "a MAC header cut off in GENEVE",
            in_geneve(0, 0x6558, packet().payload(13)),
            carrier(),
            Malformed::EthShort,
            INNER_AT,
        ),
        bad("four bytes of VXLAN", start().ip4().udp(1, VXLAN).payload(4), carrier(), Malformed::VxlanShort, HEADER_AT),
        bad(
            "VXLAN without network identifier",
            with_header(vxlan_header(0, 0)),
            carrier(),
            Malformed::VxlanNoVni,
            HEADER_AT,
        ),
        bad(
            "reserved flags of VXLAN",
            with_header([0x48, 0, 0, 0, 0, 0, 7, 0]),
            carrier(),
            Malformed::VxlanResv,
            HEADER_AT,
        ),
        bad(
            "reserved bytes of VXLAN",
            with_header([8, 0, 0, 1, 0, 0, 7, 0]),
            carrier(),
            Malformed::VxlanResv,
            HEADER_AT,
        ),
        bad(
            "a reserved last byte of VXLAN",
            with_header([8, 0, 0, 0, 0, 0, 7, 1]),
            carrier(),
            Malformed::VxlanResv,
            HEADER_AT,
        ),
        bad(
            "reserved bits of a group policy",
            with_header([0x88, 0x01, 0, 5, 0, 0, 7, 0]),
            carrier(),
            Malformed::VxlanResv,
            HEADER_AT,
        ),
        bad(
            "seven bytes of GENEVE",
            start().ip4().udp(1, GENEVE).payload(7),
            carrier(),
            Malformed::GeneveShort,
            HEADER_AT,
        ),
        bad(
            "GENEVE options beyond the end",
            geneve_header(&[0x3f, 0, 0x65, 0x58, 0, 0, 9, 0]),
            carrier(),
            Malformed::GeneveShort,
            HEADER_AT,
        ),
        bad(
            "GENEVE of another version",
            geneve_header(&[0x40, 0, 0x65, 0x58, 0, 0, 9, 0]),
            carrier(),
            Malformed::GeneveVer,
            HEADER_AT,
        ),
        bad(
            "a GENEVE option past the options",
            geneve_header(&[1, 0, 0x65, 0x58, 0, 0, 9, 0, 0, 0, 1, 1]),
            carrier(),
            Malformed::GeneveOptLen,
            INNER_AT + 3,
        ),
        bad("TCP flags in GENEVE", in_geneve(4, 0x6558, flags), carrier(), Malformed::TcpFlags, at + 4 + 20 + 13),
    ]
}
