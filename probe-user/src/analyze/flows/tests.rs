use super::*;
use crate::analyze::{capture::Record, judge, link::Opened};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [192, 0, 2, 1];

/// One TCP packet over IPv4, and what a capture says of it.
#[derive(Clone)]
struct Packet4 {
    ends: ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    payload_bytes: u16,
    identifier: u16,
    options: Vec<u8>,
    interface: u32,
    sent: Option<bool>,
    time_ns: u64,
    checksum: Checksum,
}

impl Packet4 {
    /// Data from A to B.
    fn data(seq: u32, payload_bytes: u16) -> Self {
        Self {
            ends: (A, B),
            ports: (1000, 443),
            seq,
            ack: 1,
            flags: 0x10,
            payload_bytes,
            identifier: 0,
            options: Vec::new(),
            interface: 0,
            sent: None,
            time_ns: 0,
            checksum: Checksum::Right,
        }
    }

    /// An acknowledgement from B to A.
    fn ack(ack: u32) -> Self {
        Self { ends: (B, A), ports: (443, 1000), seq: 1, ack, ..Self::data(1, 0) }
    }

    fn bytes(&self) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        let total = (20 + header_bytes) as u16 + self.payload_bytes;
        let mut ip = [
            &[0x45, 0][..],
            &total.to_be_bytes(),
            &self.identifier.to_be_bytes(),
            &[0x40, 0, 64, 6, 0, 0],
            &self.ends.0,
            &self.ends.1,
        ]
        .concat();
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let ports = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        let numbers = [self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat();
        let rest = [(header_bytes * 4) as u8, self.flags, 1, 0, 0, 0, 0, 0];
        [ip, ports, numbers, rest.to_vec(), self.options.clone(), vec![0; self.payload_bytes.into()]].concat()
    }
}

fn feed(flows: &mut Flows, packets: &[Packet4]) {
    for packet in packets {
        let bytes = packet.bytes();
        let record = Record {
            bytes: &bytes,
            frame_bytes: bytes.len() as u32,
            time_ns: packet.time_ns,
            link_type: 101,
            interface: packet.interface,
            sent: packet.sent,
        };
        let Opened::Frame(frame) = link::open(&record) else { panic!("no frame") };
        let judged = judge(frame.bytes, frame.meta);
        assert!(judged.is_sound);
        flows.observe(&frame, (&judged.packet, packet.checksum), record.time_ns, &mut Lines::new(None));
    }
}

fn after(packets: &[Packet4], inside: &[&str]) -> Totals {
    let vantage = Vantage { inside: inside.iter().map(|text| text.parse().unwrap()).collect() };
    let mut flows = Flows::new(vantage, 10);
    feed(&mut flows, packets);
    flows.finish()
}

/// Four segments, of which the second comes a second time; and a hole, filled by a retransmission 10 s later.
fn lossy() -> Vec<Packet4> {
    let at = |seq, time_ns| Packet4 { time_ns, ..Packet4::data(seq, 100) };
    vec![
        at(1, 1),
        at(101, 2),
        Packet4::ack(1),
        at(101, 3),
        at(301, 4),
        at(201, 10_000_000_000),
        Packet4 { time_ns: 10_000_000_000, ..Packet4::ack(401) },
    ]
}

#[test]
fn losses_before_and_behind() {
    let totals = after(&lossy(), &[]);
    let sums = Sums { segments: 7, before: 1, after: 1 };
    assert_eq!(totals.losses, [Sums::default(), Sums::default(), sums]);
    assert_eq!((totals.flows, totals.evicted, totals.ledger.of(TcpEvent::HoleOpened)), (1, 0, 1));
    let worst = totals.worst.into_sorted();
    assert_eq!(worst.len(), 1, "the other direction has lost nothing");
    let Direction { source, destination, segments, before, after, .. } = &worst[0];
    assert_eq!((source.to_string(), destination.to_string()), ("10.0.0.1:1000".into(), "192.0.2.1:443".into()));
    assert_eq!((*segments, *before, *after), (5, 1, 1));
}

/// The same capture, with either end inside: what was lost is on another side.
#[test]
fn sides() {
    let forward = Sums { segments: 5, before: 1, after: 1 };
    let backward = Sums { segments: 2, ..Sums::default() };
    for (inside, expected) in [("10.0.0.0/8", [backward, forward]), ("192.0.2.1", [forward, backward])] {
        assert_eq!(after(&lossy(), &[inside]).losses[..2], expected, "{inside}");
    }
    let mut sent = lossy();
    for packet in &mut sent {
        packet.sent = Some(packet.ends.0 == A);
    }
    assert_eq!(after(&sent, &[]).losses[..2], [backward, forward]);
    assert_eq!(after(&sent, &["192.0.2.1"]).losses[..2], [forward, backward], "who says is believed");
}

/// A router's capture of all its interfaces has each packet twice, in and out.
#[test]
fn packets_that_pass_twice_count_once() {
    let twice: Vec<_> = lossy()
        .into_iter()
        .flat_map(|packet| [Some(false), Some(true)].map(|sent| Packet4 { sent, ..packet.clone() }))
        .collect();
    let totals = after(&twice, &[]);
    assert_eq!((totals.seen_twice, totals.ledger.of(TcpEvent::RetransmitSeen)), (7, 1));
    let once = Sums { segments: 7, before: 1, after: 1 };
    assert_eq!(totals.losses[Heading::Across as usize], once, "who forwards cannot tell what is inside");
    // At two interfaces of one file they are two connections, whose losses count once.
    for sent in [None, Some(true)] {
        let two: Vec<_> = lossy()
            .into_iter()
            .flat_map(|packet| {
                let (there, back) = if packet.ends.0 == A { (0, 1) } else { (1, 0) };
                let first = Packet4 { interface: there, sent: sent.map(|_| false), ..packet.clone() };
                [first, Packet4 { interface: back, sent, ..packet }]
            })
            .collect();
        let totals = after(&two, &[]);
        assert_eq!((totals.flows, totals.ledger.of(TcpEvent::RetransmitSeen)), (2, 2));
        assert_eq!((totals.segments, totals.seen_twice), (14, 7));
        assert_eq!(totals.losses, [Sums::default(), Sums::default(), once], "{sent:?}");
        assert_eq!(totals.worst.into_sorted().len(), 1);
        let [inward, outward, _] = after(&two, &["10.0.0.0/8"]).losses;
        assert_eq!((inward.segments, outward), (2, Sums { segments: 5, ..once }), "who says is believed");
    }
}

/// What the network has damaged tells nothing of the connection; what had wrong checksums from the beginning does.
#[test]
fn damaged_packets() {
    let damaged = Packet4 { checksum: Checksum::Wrong, ..Packet4::data(0x3000_0000, 100) };
    let mut packets: Vec<_> = (0..20).map(|number| Packet4::data(1 + 100 * number, 100)).collect();
    packets.insert(10, damaged);
    let totals = after(&packets, &[]);
    assert_eq!(totals.losses[2], Sums { segments: 20, before: 0, after: 0 });
    assert_eq!(totals.ledger, Ledger { quality: totals.ledger.quality, ..Ledger::default() });
    let mut rewritten = lossy();
    rewritten.iter_mut().for_each(|packet| packet.checksum = Checksum::Wrong);
    assert_eq!(after(&rewritten, &[]).losses[2], Sums { segments: 7, before: 1, after: 1 });
    rewritten[0].checksum = Checksum::Unknown;
    assert_eq!(after(&rewritten, &[]).losses[2], Sums { segments: 7, before: 1, after: 1 });
}

/// From one interface to another, and not back: what is lost on either is counted.
#[test]
fn connections_that_move() {
    let ahead = |packet: &Packet4| if packet.ends.0 == A { 100_000 } else { 0 };
    let moved = |packet: Packet4| Packet4 { interface: 1, seq: packet.seq + ahead(&packet), ..packet };
    let packets = [lossy(), lossy().into_iter().map(moved).collect()].concat();
    let totals = after(&packets, &[]);
    let Sums { before, after, .. } = totals.losses[2];
    assert_eq!((before, after, totals.flows), (2, 2, 2));
    // Of the other direction nothing shows whether it has moved.
    assert_eq!(totals.seen_twice, 2);
}

/// What a receiver says of copies pays for nothing else.
#[test]
fn copies_pay_for_themselves() {
    let mut packets = lossy();
    packets[1].identifier = 7;
    packets.insert(2, packets[1].clone());
    let says_twice = vec![1, 1, 5, 10, 0, 0, 0, 101, 0, 0, 0, 201];
    packets.push(Packet4 { options: says_twice, ..Packet4::ack(401) });
    let totals = after(&packets, &[]);
    assert_eq!((totals.ledger.of(TcpEvent::Duplicate), totals.ledger.of(TcpEvent::Dsack)), (1, 1));
    assert_eq!(totals.losses[2].after, 1);
}

/// What the kernel has merged counts as what both ends have agreed on.
#[test]
fn merged_segments() {
    let syn = |mss: u16| {
        let [high, low] = mss.to_be_bytes();
        Packet4 { flags: 0x02, ack: 0, options: vec![1, 3, 3, 7, 2, 4, high, low], ..Packet4::data(0, 0) }
    };
    let syn_ack = |mss| Packet4 { ends: (B, A), ports: (443, 1000), flags: 0x12, ack: 1, seq: 0, ..syn(mss) };
    for (handshake, payload_bytes, segments) in [
        (vec![], 1460, 1),
        (vec![], 8_948, 1),
        (vec![], 29_200, 20),
        (vec![syn(1000)], 3_000, 3),
        (vec![syn(8_960), syn_ack(1_460)], 2_921, 3),
        (vec![syn(8_960), syn_ack(8_960)], 8_960, 1),
    ] {
        let greeted = handshake.len() as u64;
        let packets = [handshake, vec![Packet4::data(1, payload_bytes)]].concat();
        let totals = after(&packets, &[]);
        assert_eq!(totals.losses[2].segments, greeted + segments, "{payload_bytes}");
    }
}

#[test]
fn memory_is_bounded() {
    let mut flows = Flows::new(Vantage::default(), 3);
    flows.max_flows = 8;
    let of = |port, packets: Vec<Packet4>| -> Vec<Packet4> {
        let ports = |packet: &Packet4| if packet.ends.0 == A { (port, 443) } else { (443, port) };
        packets.into_iter().map(|packet| Packet4 { ports: ports(&packet), ..packet }).collect()
    };
    for port in 1..=8 {
        feed(&mut flows, &of(port, lossy()));
    }
    // A flood of SYNs, while two connections go on.
    for port in 9..=100 {
        feed(&mut flows, &of(port, vec![Packet4 { flags: 0x02, ack: 0, ..Packet4::data(0, 0) }]));
        feed(&mut flows, &of(7, vec![Packet4::data(401, 0)]));
        feed(&mut flows, &of(8, vec![Packet4::data(401, 0)]));
    }
    assert_eq!((flows.flows.len(), flows.places.len()), (8, 8));
    assert!(flows.places.iter().all(|(tag, place)| flows.flows[*place as usize].halves[0].tag == *tag));
    let totals = flows.finish();
    assert_eq!((totals.flows, totals.evicted), (100, 92), "those that go on stay");
    assert_eq!(totals.losses[2], Sums { segments: 8 * 7 + 3 * 92, before: 8, after: 8 }, "what was evicted counts");
    assert_eq!(totals.worst.into_sorted().len(), 3);
}

#[test]
fn the_worst_come_first() {
    let mut worst = Worst::new(2);
    let mut none = Worst::new(0);
    for (port, before) in [(1, 5), (2, 9), (3, 1), (4, 7), (5, 7)] {
        let direction = Direction {
            source: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            destination: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9),
            heading: Heading::Across,
            point: 0,
            encapsulation: 0,
            segments: 10,
            before,
            after: 0,
            round_trip_us: None,
            is_identified: false,
        };
        worst.offer(direction.clone());
        none.offer(direction);
    }
    let ports: Vec<_> = worst.into_sorted().iter().map(|direction| direction.source.port()).collect();
    assert_eq!(ports, [2, 5]);
    assert!(none.into_sorted().is_empty());
}

#[test]
fn addresses_as_they_are_written() {
    assert_eq!(address(Key::mapped(u32::from_ne_bytes(A))), IpAddr::from(A));
    let long: [u8; 16] = std::array::from_fn(|at| at as u8 + 1);
    let halves = [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|byte| long[at + byte])));
    assert_eq!(address(halves), IpAddr::from(long));
}

/// A tag is a part of the connection's name, wherever it stands.
#[test]
fn connections_of_vlans() {
    let packet = Packet4::data(1, 10).bytes();
    let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0xe0, 6, 8, 0];
    for (link_type, head, tag_at) in [(1, vec![2; 12], 12), (113, [&[0; 3][..], &[1], &[0; 10]].concat(), 14)] {
        for (tags, expected) in [(&tags[8..], 0), (&tags[4..], 6 << 16), (&tags[..], 5 << 16 | 6)] {
            let bytes = [&head[..tag_at], tags, &packet].concat();
            let frame_bytes = bytes.len() as u32;
            let record = Record { bytes: &bytes, frame_bytes, time_ns: 0, link_type, interface: 3, sent: None };
            let Opened::Frame(frame) = link::open(&record) else { panic!("no frame") };
            let judged = judge(frame.bytes, frame.meta);
            let key = key(&frame, &judged.packet).unwrap();
            assert_eq!((key.encapsulation, key.group, key.outside_port), (expected, 3, 1000), "{link_type}");
        }
    }
}

/// Else every stray acknowledgement would take a place.
#[test]
fn a_bare_acknowledgement_begins_no_connection() {
    let reset = Packet4 { flags: 0x14, ..Packet4::data(1, 0) };
    assert_eq!(after(&[Packet4::ack(1), reset], &[]).flows, 0);
}
