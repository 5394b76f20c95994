//! N frames in, exactly N frames and their wire bytes counted, in both directions.

use std::{io::Write as _, time::Duration};

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, B, Checksum, Frame, Mac, ethernet, flag, packet, plain},
    namespace::Namespace,
    raw::{TunKind, open_tun},
    run::{requires_module, trial},
    topology::{LEFT, Pair, RIGHT, RIGHT6},
    wait::settled,
    wire::{Gso, PacketSocket},
};

use super::counts::{Counts, SOON, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("exact::udp_datagrams", udp_datagrams),
        trial("exact::crafted_frames", crafted_frames),
        trial("exact::vlan_device", vlan_device),
        trial("exact::tcp_as_segments", || tcp_segments(&Shape { tso: false, gro: false, version6: false })),
        trial("exact::tcp_with_tso", || tcp_segments(&Shape { tso: true, gro: false, version6: false })),
        trial("exact::tcp_with_gro", || tcp_segments(&Shape { tso: false, gro: true, version6: false })),
        trial("exact::tcp_over_ipv6_with_tso_and_gro", || {
            tcp_segments(&Shape { tso: true, gro: true, version6: true })
        }),
        trial("exact::gso_packets_of_unknown_count", gso_packets_of_unknown_count),
        trial("exact::tun_has_no_malformed_packets", tun_has_no_malformed_packets),
        trial("exact::tap", tap),
    ]
}

/// Nobody's address: the receiver counts the frame and answers nothing.
const ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0x0c];

fn udp_datagrams() -> Result<()> {
    const COUNT: usize = 10_000;
    const BYTES: usize = 14 + 20 + 8 + 100;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let (_sink, _other_sink) = (right.udp((RIGHT, 5000))?, left.udp((LEFT, 5000))?);
    let agent = Agent::start(right, &["--interface", "b"])?;
    let expected = Counts::new(COUNT as u64, (COUNT * BYTES) as u64);
    counts_exactly(&agent, ("b", "ingress"), expected, || left.send_udp((RIGHT, 5000), COUNT, 100))?;
    counts_exactly(&agent, ("b", "egress"), expected, || right.send_udp((LEFT, 5000), COUNT, 100))?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn crafted_frames() -> Result<()> {
    const COUNT: usize = 500;
    let start = || ethernet(ELSEWHERE, A);
    let rows: Vec<(&str, Frame)> = vec![
        ("UDP", start().ip4().udp(1, 2).payload(100)),
        ("UDP without checksum", start().ip4().udp_with(1, 2, |udp| udp.checksum = Checksum::Value(0)).payload(100)),
        ("TCP", start().ip4().tcp(1, 2).payload(100)),
        ("TCP SYN with options", start().ip4().tcp_with(1, 2, syn_with_options)),
        ("smallest padded frame", start().ip4().udp(1, 2).pad(60)),
        ("full frame", start().ip4().udp(1, 2).payload(1472)),
        ("IPv4 options", start().ipv4(|ip| ip.options = vec![1, 1, 1, 0]).udp(1, 2).payload(10)),
        ("IPv4 fragment", start().ipv4(|ip| (ip.dont_fragment, ip.fragment_offset) = (false, 185)).payload(80)),
        ("ICMP echo", start().ip4().icmp(8, 0).payload(56)),
        ("UDP over IPv6", start().ip6().udp(1, 2).payload(100)),
        ("TCP over IPv6", start().ip6().tcp(1, 2).payload(100)),
        (
            "IPv6 with extension headers",
            start().ip6().hop_by_hop(plain).destination_options(plain).udp(1, 2).payload(9),
        ),
        ("IPv6 fragment", start().ip6().fragment(|f| f.offset = 100).payload(64)),
        ("VLAN", start().vlan(5).ip4().udp(1, 2).payload(100)),
        ("VLAN with IPv6", start().vlan(5).ip6().tcp(1, 2).payload(100)),
        ("QinQ", start().qinq(10, 20).ip4().tcp(1, 2).payload(100)),
        ("ARP", start().arp(plain).pad(60)),
        ("802.3 with LLC", start().llc(plain).payload(35).pad(60)),
        ("unknown EtherType", start().payload(46)),
        ("truncated IPv4", start().ip4().udp(1, 2).payload(100).cut(60)),
        ("shorter than an IPv4 header", start().ip4().cut(20)),
        ("wrong checksum", start().ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(50)),
    ];
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let (from_left, from_right) = (PacketSocket::sender(left, "a")?, PacketSocket::sender(right, "b")?);
    let agent = Agent::start(right, &["--interface", "b"])?;
    for (name, frame) in rows {
        let frame = frame.bytes();
        let expected = Counts::new(COUNT as u64, (COUNT * frame.len()) as u64);
        for (direction, socket) in [("ingress", &from_left), ("egress", &from_right)] {
            counts_exactly(&agent, ("b", direction), expected, || socket.send_copies(&frame, COUNT))
                .map_err(|error| error.context(format!("row {name:?}")))?;
        }
    }
    lost_nothing(&agent)?;
    agent.stop()
}

fn syn_with_options(tcp: &mut tests::frames::Tcp) {
    tcp.flags = flag::SYN;
    tcp.options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
}

/// On the lower device a frame carries its tag (4 bytes, whether inside the frame or beside it), above it does not.
fn vlan_device() -> Result<()> {
    const COUNT: usize = 1000;
    const BYTES: usize = 14 + 20 + 8 + 100;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    requires_module("8021q", left.vlan("a.5", "a", 5))?;
    right.vlan("b.5", "b", 5)?;
    for (namespace, name, address) in [(&left, "a.5", [10, 0, 5, 1]), (&right, "b.5", [10, 0, 5, 2])] {
        namespace.address(name, address, 24)?;
    }
    left.neighbour("a.5", [10, 0, 5, 2], B)?;
    let _sink = right.udp(([10, 0, 5, 2], 5000))?;
    let (there, here) = (
        Agent::start(left, &["--interface", "a*"])?,
        Agent::start(right, &["--interface", "b", "--interface", "b.5"])?,
    );
    let tagged = Counts::new(COUNT as u64, (COUNT * (BYTES + 4)) as u64);
    let untagged = Counts::new(COUNT as u64, (COUNT * BYTES) as u64);
    let send = || left.send_udp(([10, 0, 5, 2], 5000), COUNT, 100);
    counts_exactly(&here, ("b", "ingress"), tagged, send)?;
    counts_exactly(&here, ("b.5", "ingress"), untagged, send)?;
    counts_exactly(&there, ("a", "egress"), tagged, send)?;
    counts_exactly(&there, ("a.5", "egress"), untagged, send)?;
    lost_nothing(&here)
}

struct Shape {
    /// The sender hands the device packets of up to 64 KiB.
    tso: bool,
    /// The receiver merges segments.
    gro: bool,
    version6: bool,
}

/// The kernel counts its segments itself; with no loss and timestamps on, every one but the SYN has the same header.
fn tcp_segments(shape: &Shape) -> Result<()> {
    /// A busy machine may be late with an ACK and so cause a retransmission; then the transfer is repeated.
    const ATTEMPTS: usize = 5;
    let pair = Pair::new()?;
    let pair = if shape.version6 { pair.with_ipv6()? } else { pair };
    let Pair { left, right } = &pair;
    left.offloads("a", &[("tso", shape.tso), ("gro", shape.gro)])?;
    right.offloads("b", &[("tso", shape.tso), ("gro", shape.gro)])?;
    for namespace in [left, right] {
        // Frames that overtake each other between CPUs would put options of varying length into the ACKs.
        namespace.sysctl("net.ipv4.tcp_sack", "0")?;
    }
    let (sender, receiver) = (Agent::start(left, &["--interface", "a"])?, Agent::start(right, &["--interface", "b"])?);
    let counts = || -> Result<[Counts; 4]> {
        let (a, b) = (sender.metrics()?, receiver.metrics()?);
        let (ingress, egress) = ("ingress", "egress");
        Ok([(&a, "a", egress), (&b, "b", ingress), (&b, "b", egress), (&a, "a", ingress)]
            .map(|(metrics, interface, direction)| Counts::of(metrics, interface, direction)))
    };
    for _ in 0..ATTEMPTS {
        let before = counts()?;
        let Some([data, answers]) = transfer_without_loss(&pair, shape)? else { continue };
        let after = settled(SOON, Duration::from_millis(100), counts)?;
        let counted = std::array::from_fn(|at| after[at].since(before[at]));
        ensure!(counted == [data, data, answers, answers], "sent {data:?} and {answers:?}, counted {counted:?}");
        for (agent, interface) in [(&sender, "a"), (&receiver, "b")] {
            let malformed = agent.metrics()?.sum("lossprobe_malformed_frames_total", &[("interface", interface)]);
            ensure!(malformed == 0.0, "{malformed} malformed frames in ordinary TCP on {interface}");
            lost_nothing(agent)?;
        }
        sender.stop()?;
        return receiver.stop();
    }
    bail!("{ATTEMPTS} transfers over a link without loss had retransmissions or resets")
}

/// What one transfer put on the wire in each direction, or nothing if there were retransmissions, or a reset at its end.
fn transfer_without_loss(Pair { left, right }: &Pair, shape: &Shape) -> Result<Option<[Counts; 2]>> {
    const PAYLOAD: usize = 4 << 20;
    /// A SYN has 20 bytes of options, all others have 12.
    const SYN_EXCESS: u64 = 8;
    let (header, address) = match shape.version6 {
        true => (14 + 40 + 32, (RIGHT6, 5001).into()),
        false => (14 + 20 + 32, (RIGHT, 5001).into()),
    };
    // Scrapes are TCP too, so there is none between these two readings.
    let read = |name| Ok([left.mib("Tcp", name)?, right.mib("Tcp", name)?]);
    let segments = || settled(SOON, Duration::from_millis(300), || read("OutSegs"));
    // A reset has no options either.
    let irregular = || Ok::<_, anyhow::Error>([read("RetransSegs")?, read("OutRsts")?]);
    let (before, irregular_before) = (segments()?, irregular()?);
    left.tcp_transfer(right, address, PAYLOAD, Duration::from_secs(60))?;
    let after = segments()?;
    if irregular()? != irregular_before {
        return Ok(None);
    }
    let [data, answers] = [after[0] - before[0], after[1] - before[1]];
    let counts = |segments, payload| Counts::new(segments, payload + segments * header + SYN_EXCESS);
    Ok(Some([counts(data, PAYLOAD as u64), counts(answers, 0)]))
}

/// A virtual machine's packets say how to cut them, not into how many.
fn gso_packets_of_unknown_count() -> Result<()> {
    const COUNT: u64 = 100;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let (here, there) = (Agent::start(left, &["--interface", "a"])?, Agent::start(right, &["--interface", "b"])?);
    let socket = PacketSocket::sender(left, "a")?;
    let four = ethernet(ELSEWHERE, A).ip4().tcp(1, 2).payload(3500).bytes();
    let six = ethernet(ELSEWHERE, A).ip6().tcp(1, 2).payload(3000).bytes();
    let gso = Gso { segment_bytes: 1000, header_bytes: 54, transport_at: 34, version6: false };
    let gso6 = Gso { segment_bytes: 1000, header_bytes: 74, transport_at: 54, version6: true };
    for (frame, gso, segments, payload) in [(four, gso, 4, 3500), (six, gso6, 3, 3000)] {
        let bytes = payload + segments * u64::from(gso.header_bytes);
        let expected = Counts::new(COUNT * segments, COUNT * bytes);
        let send = || (0..COUNT).try_for_each(|_| socket.send_gso(&frame, gso));
        counts_exactly(&here, ("a", "egress"), expected, send)?;
        counts_exactly(&there, ("b", "ingress"), expected, send)?;
    }
    Ok(())
}

/// Parsed as Ethernet, every one of these would be malformed.
fn tun_has_no_malformed_packets() -> Result<()> {
    const ROUNDS: usize = 2000;
    let namespace = Namespace::new("tun")?;
    let mut tun = namespace.run(|| open_tun("tun0", TunKind::Tun))?;
    namespace.address("tun0", LEFT, 24)?;
    namespace.up("tun0")?;
    let agent = Agent::start(&namespace, &["--interface", "tun0"])?;
    let packets = [
        packet().ip4().udp(1000, 2000).payload(100),
        packet().ip4().tcp(1000, 2000).payload(1000),
        packet().ip4().icmp(8, 0).payload(56),
        packet().ip6().udp(1000, 2000).payload(33),
        packet().ip6().hop_by_hop(plain).tcp(1000, 2000).payload(1),
    ]
    .map(|packet| packet.bytes());
    let bytes: usize = packets.iter().map(Vec::len).sum();
    let expected = Counts::new((ROUNDS * packets.len()) as u64, (ROUNDS * bytes) as u64);
    counts_exactly(&agent, ("tun0", "ingress"), expected, || {
        for packet in std::iter::repeat_n(&packets, ROUNDS).flatten() {
            tun.write_all(packet)?;
        }
        Ok(())
    })?;
    let malformed = agent.metrics()?.sum("lossprobe_malformed_frames_total", &[("interface", "tun0")]);
    ensure!(malformed == 0.0, "{malformed} of 10,000 valid packets called malformed");
    let out = Counts::new(10, 10 * (20 + 8 + 70));
    counts_exactly(&agent, ("tun0", "egress"), out, || namespace.send_udp((RIGHT, 1000), 10, 70))?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn tap() -> Result<()> {
    let namespace = Namespace::new("tap")?;
    let mut tap = namespace.run(|| open_tun("tap0", TunKind::Tap))?;
    namespace.up("tap0")?;
    let agent = Agent::start(&namespace, &["--interface", "tap0"])?;
    let frame = ethernet(ELSEWHERE, A).ip4().udp(1, 2).payload(100).bytes();
    counts_exactly(&agent, ("tap0", "ingress"), Counts::new(1000, 1000 * frame.len() as u64), || {
        (0..1000).try_for_each(|_| Ok(tap.write_all(&frame)?))
    })?;
    lost_nothing(&agent)
}
