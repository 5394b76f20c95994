//! What looks wrong and is not: a row for each exception that the list of reasons or the standards name, and for the
//! last legal value beside each limit.

use probe_ebpf::classify::{
    Meta,
    Network::{self, Arp, Ipv4, Ipv6},
    Packet,
    Transport::{self, Fragment, Icmpv6, None as Nothing, Tcp, Udp},
};
use tests::frames::{
    A, B, Checksum, Ethernet, Frame, Tcp as TcpHeader, Udp as UdpHeader, ethernet, ethernet_with, flag, packet, plain,
};

use super::{
    Row, beyond, control, good, gso, loopback, network, other, physical,
    rows::{datagram, jumbo, start},
    stripped, tunnels, veth,
};

/// Every row whose frame is as it should be.
pub(super) fn exceptions() -> Vec<Row> {
    [addresses(), link(), tags(), arp(), ipv4(), ipv6(), extensions(), tcp(), udp(), segmented(), elsewhere()]
        .into_iter()
        .flatten()
        .collect()
}

/// What most frames on most wires look like: the fast path is for exactly these.
pub(super) fn ordinary() -> Vec<(Vec<u8>, Meta)> {
    let timed = |tcp: &mut TcpHeader| tcp.options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let flags = |number| start().ip4().tcp_with(1, 2, move |tcp| tcp.flags = number);
    let mut frames = vec![
        (start().ip4().udp(1, 2), veth()),
        (start().ip4().udp(1, 2).payload(18), physical()),
        (start().ip4().udp(1, 2).pad(60), physical()),
        (start().ip4().udp(1, 2), loopback()),
        (start().ip4().udp(1, 2).payload(1480), veth()),
        (start().ip4().udp(1, 2), stripped(0x8100, 5)),
        (start().ip4().tcp(1, 2), veth()),
        (start().ip4().tcp_with(1, 2, timed), veth()),
        (start().ip4().tcp_with(1, 2, timed).payload(3000), gso(1448)),
        (start().ip6().udp(1, 2), veth()),
        (start().ip6().tcp(1, 2), veth()),
        (start().ip6().tcp_with(1, 2, timed), physical()),
        (flags(flag::SYN), veth()),
        (flags(flag::SYN | flag::ACK), veth()),
        (flags(flag::FIN | flag::ACK | flag::PSH), veth()),
        (flags(flag::RST | flag::ACK), veth()),
        (flags(flag::RST), veth()),
        (start().vlan(5).ip4().udp(1, 2).pad(64), physical()),
        (start().vlan(5).ip4().tcp_with(1, 2, timed).payload(1448), veth()),
        (start().vlan(5).ip6().tcp_with(1, 2, timed), veth()),
        (start().vlan(6).ip6().udp(1, 2), stripped(0x88a8, 5)),
        (start().arp(plain), veth()),
        (start().arp(|arp| arp.operation = 2).pad(60), physical()),
        (start().vlan(5).arp(plain), veth()),
        (start().ip4().icmp(8, 0).payload(56), veth()),
        (start().ip6().icmpv6(128, 0).payload(56), veth()),
        (start().ipv6(|ip| ip.hop_limit = 255).icmpv6(135, 0).payload(20), veth()),
    ];
    for (is_syn, options) in usual_options() {
        let change = move |tcp: &mut TcpHeader| {
            tcp.options.clone_from(&options);
            if is_syn {
                tcp.flags = flag::SYN;
            }
        };
        frames.push((start().ip4().tcp_with(1, 2, change.clone()), veth()));
        frames.push((start().vlan(5).ip6().tcp_with(1, 2, change), veth()));
    }
    frames.extend(tunnels::ordinary());
    frames
        .into_iter()
        .map(|(frame, meta)| (frame.bytes(), meta))
        .map(|(frame, meta)| {
            let frame_bytes = frame.len() as u32;
            (frame, Meta { frame_bytes, ..meta })
        })
        .collect()
}

/// Options as Linux, Windows, macOS and the BSDs order them, and whether they are a SYN's.
fn usual_options() -> Vec<(bool, Vec<u8>)> {
    const MSS: &[u8] = &[2, 4, 5, 0xb4];
    const SCALE: &[u8] = &[1, 3, 3, 14];
    const SACK_PERMITTED: &[u8] = &[1, 1, 4, 2];
    const TIMES: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    const SACK_PERMITTED_TIMES: &[u8] = &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let sack = |blocks: u8| [vec![1, 1, 5, 2 + 8 * blocks], vec![7; 8 * usize::from(blocks)]].concat();
    let syn = [
        MSS.to_vec(),
        [MSS, SACK_PERMITTED].concat(),
        [MSS, SCALE, SACK_PERMITTED].concat(),
        [MSS, SACK_PERMITTED, SCALE].concat(),
        [MSS, SACK_PERMITTED_TIMES, SCALE].concat(),
        [MSS, TIMES, SCALE].concat(),
        [MSS, SCALE, SACK_PERMITTED_TIMES].concat(),
        [MSS, SCALE, TIMES].concat(),
        [MSS, SCALE, TIMES, &[4, 2, 0, 0]].concat(),
    ];
    let timed_sack = |blocks| [TIMES.to_vec(), sack(blocks)].concat();
    let later = [sack(1), sack(2), sack(3), timed_sack(1), timed_sack(2), timed_sack(3)];
    syn.map(|options| (true, options)).into_iter().chain(later.map(|options| (false, options))).collect()
}

/// Protocols, offsets of both headers, bytes of all headers and of what follows.
fn of(network: Network, transport: Transport, ats: (u16, u16), header_bytes: u16, payload_bytes: u32) -> Packet {
    Packet { network, transport, network_at: ats.0, transport_at: ats.1, header_bytes, payload_bytes }
}

/// UDP over IPv4 over plain Ethernet.
fn udp4(payload_bytes: u32) -> Packet {
    of(Ipv4, Udp, (14, 34), 42, payload_bytes)
}

fn udp6(payload_bytes: u32) -> Packet {
    of(Ipv6, Udp, (14, 54), 62, payload_bytes)
}

/// Addresses that are equal but for one bit of byte `at`.
fn nearly_equal(name: &'static str, at: usize) -> Row {
    let mut source = B;
    source[at] ^= 2;
    good(name, datagram(ethernet(B, source)), veth(), udp4(100))
}

/// A source of which one byte is not zero.
fn nearly_zero(name: &'static str, at: usize) -> Row {
    let mut source = [0; 6];
    source[at] = 2;
    good(name, datagram(ethernet(B, source)), veth(), udp4(100))
}

fn addresses() -> Vec<Row> {
    vec![
        nearly_equal("addresses differ in byte 0", 0),
        nearly_equal("addresses differ in byte 1", 1),
        nearly_equal("addresses differ in byte 2", 2),
        nearly_equal("addresses differ in byte 3", 3),
        nearly_equal("addresses differ in byte 4", 4),
        nearly_equal("addresses differ in byte 5", 5),
        nearly_zero("source zero but for byte 0", 0),
        nearly_zero("source zero but for byte 1", 1),
        nearly_zero("source zero but for byte 2", 2),
        nearly_zero("source zero but for byte 3", 3),
        nearly_zero("source zero but for byte 4", 4),
        nearly_zero("source zero but for byte 5", 5),
    ]
}

fn link() -> Vec<Row> {
    let short = || start().ip4().udp(1, 2);
    let with_type = |ether_type| ethernet_with(B, A, move |header: &mut Ethernet| header.ether_type = ether_type);
    let to_bridges = |last| ethernet([1, 0x80, 0xc2, 0, 0, last], A).llc(plain).payload(50);
    let cisco = |kind: [u8; 2]| {
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0x0c][..], &kind].concat();
        let header = move |header: &mut Ethernet| header.ether_type = 46;
        ethernet_with([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], A, header).data(snap).payload(38)
    };
    vec![
        good("60 bytes from a wire", short().payload(18), physical(), udp4(18)),
        good("60 bytes from a wire, most of it padding", short().pad(60), physical(), udp4(0)),
        good("42 bytes from a virtual device", short(), veth(), udp4(0)),
        good("42 bytes on loopback", short(), loopback(), udp4(0)),
        good("1522 bytes at MTU 1500", short().payload(1480), veth(), udp4(1480)),
        good("1600 bytes at an unknown MTU", short().payload(1558), Meta { mtu_bytes: 0, ..veth() }, udp4(1558)),
        good("FCS kept", datagram(start()).trailer([9; 4]), veth(), udp4(100)),
        good("FCS kept behind padding", short().pad(60).trailer([9; 4]), veth(), udp4(0)),
        good("FCS kept of a frame without padding", short().payload(16).trailer([9; 4]), veth(), udp4(16)),
        good("PRP trailer", datagram(start()).trailer([9; 6]), veth(), udp4(100)),
        good("PRP trailer behind padding", short().pad(60).trailer([9; 6]), physical(), udp4(0)),
        good("PRP trailer behind IPv6", start().ip6().udp(1, 2).payload(9).trailer([9; 6]), veth(), udp6(9)),
        good("source zero on loopback", datagram(ethernet(B, [0; 6])), loopback(), udp4(100)),
        good("both addresses zero on loopback", datagram(ethernet([0; 6], [0; 6])), loopback(), udp4(100)),
        good("group bit in the destination", datagram(ethernet([1, 0, 0x5e, 0, 0, 1], A)), veth(), udp4(100)),
        control("a switch port's loop test", ethernet_with(A, A, |header| header.ether_type = 0x9000).pad(60), veth()),
        control("spanning tree", ethernet([1, 0x80, 0xc2, 0, 0, 0], A).llc(plain).payload(35).pad(60), physical()),
        other("three LLC bytes", start().llc(plain).pad(60), veth()),
        other("length ends with the frame", with_type(1500).payload(1500), veth()),
        other("raw IPX", with_type(30).data([0xff; 30]).pad(60), veth()),
        other("raw IPX of two bytes", with_type(2).data([0xff, 0xff]).pad(60), veth()),
        control("link layer discovery", with_type(0x88cc).payload(46), veth()),
        control("link aggregation", with_type(0x8809).payload(46), veth()),
        control("flow control", with_type(0x8808).payload(46), veth()),
        control("a switch's Realtek protocol", with_type(0x8899).payload(46), veth()),
        control("port authentication", with_type(0x888e).payload(46), veth()),
        control("connectivity faults", with_type(0x8902).payload(46), veth()),
        control(
            "link layer discovery behind a tag",
            start().tag(0x8100, 5, |tag| tag.ether_type = 0x88cc).payload(46),
            veth(),
        ),
        control("Cisco discovery", cisco([0x20, 0]), veth()),
        control(
            "spanning tree for each VLAN",
            ethernet([1, 0, 0x0c, 0xcc, 0xcc, 0xcd], A).llc(plain).payload(50),
            veth(),
        ),
        control("LLC to one of the bridges' addresses", to_bridges(0x0e), veth()),
        other(
            "LLC to an address beside Cisco's",
            ethernet([1, 0, 0x0c, 0xcc, 0xcc, 0xce], A).llc(plain).payload(50),
            veth(),
        ),
        other("LLC to an address behind the bridges'", to_bridges(0x30), veth()),
    ]
}

fn tags() -> Vec<Row> {
    let behind = |tag_bytes: u16| of(Ipv4, Udp, (14 + tag_bytes, 34 + tag_bytes), 42 + tag_bytes, 100);
    vec![
        good("tag", datagram(start().vlan(5)), veth(), behind(4)),
        good("VLAN 1", datagram(start().vlan(1)), veth(), behind(4)),
        good("VLAN 4094", datagram(start().vlan(4094)), veth(), behind(4)),
        good("drop-eligible tag", datagram(start().tag(0x8100, 5, |tag| tag.drop_eligible = 1)), veth(), behind(4)),
        good("service tag alone", datagram(start().tag(0x88a8, 5, plain)), veth(), behind(4)),
        good("QinQ", datagram(start().qinq(5, 6)), veth(), behind(8)),
        good("QinQ before 802.1ad", datagram(start().tag(0x9100, 5, plain).vlan(6)), veth(), behind(8)),
        good("two customer tags", datagram(start().vlan(5).vlan(6)), veth(), behind(8)),
        good("stripped tag", datagram(start()), stripped(0x8100, 0xf005), behind(0)),
        good("stripped service tag", datagram(start().vlan(6)), stripped(0x88a8, 5), behind(4)),
        good(
            "56 bytes and a stripped tag from a wire",
            start().ip4().udp(1, 2).payload(14),
            Meta { flags: physical().flags, ..stripped(0x8100, 5) },
            udp4(14),
        ),
        good(
            "tagged, padded to 64",
            start().vlan(5).ip4().udp(1, 2).pad(64),
            physical(),
            of(Ipv4, Udp, (18, 38), 46, 0),
        ),
        other("802.3 behind a tag", start().vlan(5).llc(plain).payload(35), veth()),
    ]
}

fn arp() -> Vec<Row> {
    let row = |name, change: fn(&mut tests::frames::Arp)| {
        good(name, start().arp(change).pad(60), physical(), of(Arp, Nothing, (14, 0), 42, 18))
    };
    vec![
        row("ARP request", plain),
        good(
            "ARP of an address without equal bytes",
            ethernet(B, [2, 1, 3, 4, 5, 6]).arp(|arp| arp.sender_mac = [2, 1, 3, 4, 5, 6]).pad(60),
            physical(),
            of(Arp, Nothing, (14, 0), 42, 18),
        ),
        row("gratuitous ARP", |arp| arp.target_ip = arp.sender_ip),
        row("ARP probe", |arp| arp.sender_ip = [0; 4].into()),
        row("hardware type IEEE 802", |arp| arp.hardware_type = 6),
        row("reverse ARP's operation", |arp| arp.operation = 4),
        row("inverse ARP request", |arp| arp.operation = 8),
        row("inverse ARP answer", |arp| arp.operation = 9),
        good("ARP of 28 bytes", start().arp(plain), veth(), of(Arp, Nothing, (14, 0), 42, 0)),
    ]
}

fn ipv4() -> Vec<Row> {
    let with = |name, change: fn(&mut tests::frames::Ipv4)| {
        good(name, start().ipv4(change).udp(1, 2).payload(100), veth(), udp4(100))
    };
    let options = |name, options: &'static [u8]| {
        let bytes = options.len() as u16;
        let frame = start().ipv4(move |ip| ip.options = options.to_vec()).udp(1, 2).payload(100);
        good(name, frame, veth(), of(Ipv4, Udp, (14, 34 + bytes), 42 + bytes, 100))
    };
    // Its UDP length is that of the whole datagram.
    let fragment = |name, change: fn(&mut tests::frames::Ipv4)| {
        let fragment = move |ip: &mut tests::frames::Ipv4| {
            ip.dont_fragment = false;
            change(ip);
        };
        let frame = start().ipv4(fragment).udp_with(1, 2, |udp| udp.length = 2008).payload(16);
        good(name, frame, veth(), of(Ipv4, Fragment, (14, 0), 34, 24))
    };
    let local = |name, change: fn(&mut tests::frames::Ipv4)| {
        good(name, start().ipv4(change).udp(1, 2).payload(100), loopback(), udp4(100))
    };
    vec![
        with("time to live 1", |ip| ip.ttl = 1),
        with("may be fragmented", |ip| ip.dont_fragment = false),
        with("source 126.0.0.1", |ip| ip.source = [126, 0, 0, 1].into()),
        with("source 223.0.0.1", |ip| ip.source = [223, 0, 0, 1].into()),
        good(
            "DHCP from 0.0.0.0",
            ethernet([0xff; 6], A)
                .ipv4(|ip| (ip.source, ip.destination) = ([0; 4].into(), [255; 4].into()))
                .udp(68, 67)
                .payload(300),
            veth(),
            udp4(300),
        ),
        local("127.0.0.1 on loopback", |ip| ip.source = [127, 0, 0, 1].into()),
        local("source is destination on loopback", |ip| ip.source = ip.destination),
        options("router alert", &[148, 4, 0, 0]),
        options("end of options and rubbish", &[0, 1, 2, 3]),
        options("unknown option of two bytes at the end", &[1, 1, 94, 2]),
        options("record route with room", &[7, 7, 4, 0, 0, 0, 0, 0]),
        options("record route without room", &[7, 7, 8, 10, 0, 0, 1, 0]),
        options("time stamp", &[68, 8, 5, 0, 0, 0, 0, 0]),
        options("time stamps without room", &[68, 4, 5, 0]),
        other(
            "IGMP with router alert",
            start().ipv4(|ip| (ip.protocol, ip.options) = (2, vec![148, 4, 0, 0])).payload(8),
            veth(),
        ),
        other("IP in IP", start().ip4().ip4().udp(1, 2).payload(9), veth()),
        fragment("first fragment", |ip| ip.more_fragments = true),
        fragment("later fragment", |ip| (ip.more_fragments, ip.fragment_offset) = (true, 9)),
        fragment("last fragment", |ip| ip.fragment_offset = 9),
        good(
            "last fragment of 15 bytes",
            start().ipv4(|ip| (ip.dont_fragment, ip.fragment_offset) = (false, 9)).payload(15),
            veth(),
            of(Ipv4, Fragment, (14, 0), 34, 15),
        ),
        good(
            "fragment ends with a datagram of 65,535 bytes",
            start().ipv4(|ip| (ip.dont_fragment, ip.fragment_offset) = (false, 8188)).payload(11),
            veth(),
            of(Ipv4, Fragment, (14, 0), 34, 11),
        ),
        good(
            "first fragment with 16 bytes of TCP",
            start().ipv4(|ip| (ip.protocol, ip.dont_fragment, ip.more_fragments) = (6, false, true)).payload(16),
            veth(),
            of(Ipv4, Fragment, (14, 0), 34, 16),
        ),
    ]
}

fn ipv6() -> Vec<Row> {
    vec![
        good("UDP over IPv6", start().ip6().udp(1, 2).payload(100), veth(), udp6(100)),
        good(
            "IPv6 padded to 60",
            start().ipv6(|ip| ip.next_header = 59).pad(60),
            veth(),
            of(Ipv6, Nothing, (14, 0), 54, 0),
        ),
        good("jumbogram", jumbo(116), veth(), of(Ipv6, Udp, (14, 62), 70, 100)),
        good(
            "::1 on loopback",
            start().ipv6(|ip| ip.source = [0, 0, 0, 0, 0, 0, 0, 1].into()).udp(1, 2).payload(100),
            loopback(),
            udp6(100),
        ),
        good(
            "duplicate address detection",
            start().ipv6(|ip| (ip.source, ip.hop_limit) = ([0_u16; 8].into(), 255)).icmpv6(135, 0).payload(16),
            veth(),
            of(Ipv6, Icmpv6, (14, 54), 58, 20),
        ),
        good("echo from afar", start().ip6().icmpv6(128, 0).payload(16), veth(), of(Ipv6, Icmpv6, (14, 54), 58, 20)),
        good(
            "unreachable with a code",
            start().ip6().icmpv6(1, 4).payload(48),
            veth(),
            of(Ipv6, Icmpv6, (14, 54), 58, 52),
        ),
        good(
            "four bytes of ICMPv6",
            start().ipv6(|ip| ip.next_header = 58).data([128, 0, 0x85, 0xbc]),
            veth(),
            of(Ipv6, Icmpv6, (14, 54), 58, 0),
        ),
        other("ESP", start().ipv6(|ip| ip.next_header = 50).payload(40), veth()),
    ]
}

fn extensions() -> Vec<Row> {
    let eight = (0..8).fold(start().ip6(), |frame, _| frame.extension(135, plain));
    let first = |header: &mut tests::frames::Fragment| header.more_fragments = true;
    let padded =
        |body: &'static [u8]| start().ip6().hop_by_hop(move |header| header.body = body.to_vec()).udp(1, 2).payload(9);
    let behind = |bytes: u16| of(Ipv6, Udp, (14, 54 + bytes), 62 + bytes, 9);
    vec![
        good("hop-by-hop options", padded(&[5, 2, 0, 0, 1, 0]), veth(), behind(8)),
        good("empty option at the end", padded(&[1, 2, 0, 0, 0x3e, 0]), veth(), behind(8)),
        good("padding by single bytes", padded(&[0; 6]), veth(), behind(8)),
        good("option ends with its header", padded(&[0x3e, 4, 1, 2, 3, 4]), veth(), behind(8)),
        good(
            "destination options twice, routing between them",
            start().ip6().destination_options(plain).routing(4).destination_options(plain).udp(1, 2).payload(9),
            veth(),
            behind(24),
        ),
        good(
            "each extension header in its order",
            start()
                .ip6()
                .hop_by_hop(plain)
                .destination_options(plain)
                .routing(4)
                .fragment(first)
                .udp_with(1, 2, |udp| udp.length = 2008)
                .payload(16),
            veth(),
            of(Ipv6, Fragment, (14, 0), 54 + 4 * 8, 24),
        ),
        good("eight extension headers", eight.udp(1, 2).payload(9), veth(), behind(64)),
        good("host identity header", start().ip6().extension(139, plain).udp(1, 2).payload(9), veth(), behind(8)),
        good("shim6 header", start().ip6().extension(140, plain).udp(1, 2).payload(9), veth(), behind(8)),
        good(
            "authentication header",
            start()
                .ip6()
                .extension(51, |header| (header.length_units, header.body) = (Some(4), vec![0; 22]))
                .udp(1, 2)
                .payload(9),
            veth(),
            behind(24),
        ),
        good(
            "first fragment with the whole chain",
            start()
                .ip6()
                .fragment(first)
                .destination_options(plain)
                .udp_with(1, 2, |udp| udp.length = 2008)
                .payload(16),
            veth(),
            of(Ipv6, Fragment, (14, 0), 70, 24),
        ),
        good(
            "first fragment with 20 bytes of TCP",
            start().ip6().fragment(first).tcp(1, 2).payload(4),
            veth(),
            of(Ipv6, Fragment, (14, 0), 62, 24),
        ),
        good(
            "later IPv6 fragment",
            start().ip6().fragment(|header| (header.offset, header.next_header) = (9, 6)).payload(3),
            veth(),
            of(Ipv6, Fragment, (14, 0), 62, 3),
        ),
        good(
            "fragment ends with 65,535 bytes",
            start().ip6().hop_by_hop(plain).fragment(|header| header.offset = 8190).payload(7),
            veth(),
            of(Ipv6, Fragment, (14, 0), 70, 7),
        ),
        beyond(
            "240 bytes of options",
            start().ip6().hop_by_hop(|header| header.body = [vec![1, 236], vec![0; 236]].concat()).udp(1, 2).payload(9),
            veth(),
            behind(240),
        ),
    ]
}

fn tcp() -> Vec<Row> {
    let row = |name, flags: u16, options: &'static [u8]| {
        let frame = start().ip4().tcp_with(1, 2, move |tcp| (tcp.flags, tcp.options) = (flags, options.to_vec()));
        good(name, frame.payload(9), veth(), of(Ipv4, Tcp, (14, 34), 54 + options.len() as u16, 9))
    };
    vec![
        row("ACK", flag::ACK, &[]),
        row("ACK of a connection that has everything", flag::ACK | flag::PSH | flag::FIN, &[]),
        row("time stamps", flag::ACK, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        row("SYN", flag::SYN, &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 14]),
        row("SYN with ECN", flag::SYN | flag::ECE | flag::CWR, &[]),
        row("SYN-ACK with accurate ECN", flag::SYN | flag::ACK | flag::AE, &[2, 4, 5, 0xb4]),
        row("RST without ACK", flag::RST, &[]),
        row("empty SACK", flag::ACK, &[1, 1, 5, 2]),
        row("SACK", flag::ACK, &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        row("MD5", flag::ACK, &[1, 1, 19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        row("authentication", flag::ACK, &[29, 16, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        row("unknown option", flag::ACK, &[254, 4, 0, 0]),
        row("end of TCP options and rubbish", flag::ACK, &[0, 1, 1, 1, 1, 2, 9, 9]),
        row("three NOPs", flag::ACK, &[1, 1, 1, 5, 2, 1, 1, 1]),
        good(
            "urgent data",
            start().ip6().tcp_with(1, 2, |tcp| (tcp.flags, tcp.urgent) = (flag::ACK | flag::URG, 1)).payload(9),
            veth(),
            of(Ipv6, Tcp, (14, 54), 74, 9),
        ),
        good("TCP over IPv6", start().ip6().tcp(1, 2).payload(9), veth(), of(Ipv6, Tcp, (14, 54), 74, 9)),
    ]
}

fn udp() -> Vec<Row> {
    let unsummed = |udp: &mut UdpHeader| udp.checksum = Checksum::Value(0);
    let tunnel = |name, port| good(name, start().ip6().udp_with(1, port, unsummed).payload(50), veth(), udp6(50));
    vec![
        good("no UDP checksum over IPv4", start().ip4().udp_with(1, 2, unsummed).payload(50), veth(), udp4(50)),
        good("no payload", start().ip4().udp(1, 2), veth(), udp4(0)),
        good("UDP ports 0", start().ip4().udp(0, 0).payload(9), veth(), udp4(9)),
        tunnel("VXLAN without checksum over IPv6", 4789),
        tunnel("VXLAN-GPE without checksum over IPv6", 4790),
        tunnel("GENEVE without checksum over IPv6", 6081),
        tunnel("MPLS in UDP without checksum over IPv6", 6635),
        tunnel("GTP-U without checksum over IPv6", 2152),
        tunnel("LISP without checksum over IPv6", 4341),
        tunnel("GUE without checksum over IPv6", 6080),
        tunnel("VXLAN of older kernels without checksum over IPv6", 8472),
        tunnel("RoCEv2 without checksum over IPv6", 4791),
        tunnel("AMT without checksum over IPv6", 2268),
        tunnel("GRE in UDP without checksum over IPv6", 4754),
        good("ICMP echo", start().ip4().icmp(8, 0).payload(56), veth(), of(Ipv4, Transport::Icmp, (14, 34), 42, 56)),
    ]
}

/// GSO and GRO packets: 20 or more wire segments in one frame.
fn segmented() -> Vec<Row> {
    let tcp = |payload| of(Ipv4, Tcp, (14, 34), 54, payload);
    vec![
        good("GSO packet longer than the MTU", start().ip4().tcp(1, 2).payload(3000), gso(1448), tcp(3000)),
        good(
            "GSO packet of total length 0",
            start().ipv4(|ip| ip.total_length = 0).tcp(1, 2).payload(3000),
            gso(1448),
            tcp(3000),
        ),
        good(
            "GSO packet of payload length 0",
            start().ipv6(|ip| ip.payload_length = 0).tcp(1, 2).payload(3000),
            gso(1428),
            of(Ipv6, Tcp, (14, 54), 74, 3000),
        ),
        good(
            "GSO packet with the jumbo option of BIG TCP",
            start()
                .ipv6(|ip| ip.payload_length = 0)
                .hop_by_hop(|header| header.body = vec![0xc2, 4, 0, 0, 11, 212])
                .tcp(1, 2)
                .payload(3000),
            gso(1428),
            of(Ipv6, Tcp, (14, 62), 82, 3000),
        ),
        good(
            "UDP length of one segment",
            start().ip4().udp_with(1, 2, |udp| udp.length = 508).payload(1000),
            gso(500),
            udp4(1000),
        ),
        good(
            "UDP length beyond the packet",
            start().ip4().udp_with(1, 2, |udp| udp.length += 9).payload(1000),
            gso(500),
            udp4(1000),
        ),
    ]
}

/// Devices without Ethernet header.
fn elsewhere() -> Vec<Row> {
    let ip4 = || packet().ip4().udp(1, 2).payload(100);
    let bare = |network, at, payload| of(network, Udp, (0, at), at + 8, payload);
    let ip6: Frame = packet().ip6().udp(1, 2).payload(100);
    vec![
        good("IPv4 on a tun", ip4(), network(0x0800), bare(Ipv4, 20, 100)),
        good("IPv6 on a tun", ip6, network(0x86dd), bare(Ipv6, 40, 100)),
        good("bytes behind the datagram on a tun", ip4().trailer([0; 50]), network(0x0800), bare(Ipv4, 20, 100)),
        good(
            "ARP on a device without Ethernet header",
            packet().arp(|arp| arp.sender_mac = B),
            network(0x0806),
            of(Arp, Nothing, (0, 0), 28, 0),
        ),
    ]
}
