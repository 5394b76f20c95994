//! The fixture itself: what the other tests take for granted.

use std::{
    fs,
    io::{Read as _, Write as _},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    child,
    cpu::pinned,
    frames::{A, B, Checksum, ethernet, flag, packet, plain},
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    pump::{Datagrams, Path, Stream},
    raw::{TunKind, open_tun},
    run::{requires_module, trial},
    statistics::Estimate,
    topology::{CLIENT, LEFT, Pair, RIGHT, RIGHT6, Routed, SERVER},
    wait::eventually,
    wire::{Gso, PacketSocket},
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("fixture::frames_are_right", frames_are_right),
        trial("fixture::frames_reach_the_wire", frames_reach_the_wire),
        trial("fixture::kernel_accepts_the_checksums", kernel_accepts_the_checksums),
        trial("fixture::links", links),
        trial("fixture::vlan_link", vlan_link),
        trial("fixture::traffic", traffic),
        trial("fixture::traffic_over_ipv6", traffic_over_ipv6),
        trial("fixture::tun_and_tap", tun_and_tap),
        trial("fixture::gso_packets", gso_packets),
        trial("fixture::nothing_stays_after_a_panic", nothing_stays_after_a_panic),
        trial("fixture::metrics_are_read", metrics_are_read),
        trial("fixture::interval_of_a_median", interval_of_a_median),
        trial("fixture::pump_notices_what_is_lost", pump_notices_what_is_lost),
    ]
}

/// With a program that guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("fixture::children_die_with_their_thread", children_die_with_their_thread)]
}

/// Two frames that were checked by hand against RFC 791, 793 and 768.
fn frames_are_right() -> Result<()> {
    let udp = ethernet(B, A).ipv4(|ip| ip.identification = 0).udp(1000, 2000).data(*b"hi").bytes();
    let expected = "02000000000b02000000000a08004500001e0000400040 1126cd0a0000010a00000203e807d0000a77b6 6869";
    assert_eq!(hex(&udp), expected.replace(' ', ""));
    let long = ethernet(B, A).vlan(5).ip6().tcp_with(1, 2, |tcp| tcp.flags = flag::SYN).payload(4).bytes();
    assert_eq!(long.len(), 14 + 4 + 40 + 20 + 4);
    assert_eq!(long[12..18], [0x81, 0, 0, 5, 0x86, 0xdd]);
    let lies = ethernet(B, A).ipv4(|ip| ip.total_length -= 1).udp(1, 2).payload(22).bytes();
    assert_eq!(lies[16..18], [0, 49], "a closure changes a field relative to its right value");
    let options = ethernet(B, A).ipv4(|ip| ip.options = vec![1, 1, 1]).udp(1, 2).payload(0).bytes();
    assert_eq!((options[14], options[17]), (0x46, 32), "options lengthen the header and the total");
    let zero = ethernet(B, A).ip4().udp_with(1, 2, |udp| udp.checksum = Checksum::Value(0)).payload(1).bytes();
    assert_eq!(zero[40..42], [0, 0]);
    let llc = ethernet(B, A).llc(plain).payload(5).pad(60).bytes();
    assert_eq!((llc.len(), llc[12], llc[13]), (60, 0, 8));
    let arp = ethernet(B, A).arp(plain).bytes();
    assert_eq!((arp.len(), arp[12], arp[13], arp[21]), (42, 8, 6, 1));
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frames_reach_the_wire() -> Result<()> {
    let pair = Pair::new()?;
    let receiver = PacketSocket::receiver(&pair.right, "b")?;
    let sender = PacketSocket::sender(&pair.left, "a")?;
    let frames = [
        ethernet(B, A).ip4().udp(1, 2).payload(22).bytes(),
        ethernet(B, A).llc(plain).payload(5).pad(60).bytes(),
        ethernet(B, A).ipv4(|ip| ip.version = 5).tcp(1, 2).payload(3).bytes(),
    ];
    for frame in &frames {
        sender.send([frame])?;
        assert_eq!(receiver.receive(|_| true)?, *frame);
    }
    sender.send_copies(&frames[0], 1000)?;
    assert_eq!(receiver.receive_bytes(1000, |frame| frame == frames[0])?, 1000 * frames[0].len());
    Ok(())
}

/// The receiving kernel is the judge: what it counts as an error has a wrong checksum or length.
fn kernel_accepts_the_checksums() -> Result<()> {
    let pair = Pair::new()?.with_ipv6()?;
    let sender = PacketSocket::sender(&pair.left, "a")?;
    let (four, six) = (pair.right.udp((RIGHT, 2000))?, pair.right.udp((RIGHT6, 2000))?);
    sender.send([
        ethernet(B, A).ip4().udp(1000, 2000).data(*b"four").bytes(),
        ethernet(B, A).ipv4(|ip| ip.options = vec![1; 7]).udp(1000, 2000).data(*b"odd").bytes(),
        ethernet(B, A).ip6().udp(1000, 2000).data(*b"six").bytes(),
        ethernet(B, A).ip6().destination_options(plain).udp(1000, 2000).data(*b"far").bytes(),
    ])?;
    for (socket, payload) in [(&four, "four"), (&four, "odd"), (&six, "six"), (&six, "far")] {
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).with_context(|| format!("waiting for {payload}"))?;
        assert_eq!(buffer[..length], *payload.as_bytes());
    }
    // A SYN with a right checksum is answered by a reset, an echo request by an echo.
    let replies = PacketSocket::receiver(&pair.left, "a")?;
    sender.send([ethernet(B, A).ip4().tcp_with(7, 9, |tcp| tcp.flags = flag::SYN).bytes()])?;
    let reset = replies.receive(|frame| frame.len() >= 54 && frame[23] == 6)?;
    assert_eq!(reset[47], (flag::RST | flag::ACK) as u8);
    sender.send([ethernet(B, A).ip4().icmp(8, 0).data(*b"ping").bytes()])?;
    replies.receive(|frame| frame.ends_with(b"ping") && frame[34] == 0)?;
    assert_eq!(pair.right.mib("Ip", "InHdrErrors")?, 0);
    let wrong = ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1000, 2000).payload(4).bytes();
    sender.send([wrong])?;
    eventually(Duration::from_secs(2), "the kernel counts the wrong checksum", || {
        let errors = pair.right.mib("IpExt", "InCsumErrors")?;
        ensure!(errors == 1, "InCsumErrors is {errors}");
        Ok(())
    })
}

fn links() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    left.bridge("br0")?;
    left.vxlan("v0", "a", 7, RIGHT.into())?;
    left.enslave("v0", "br0")?;
    left.macvlan("m0", "a")?;
    veth(End::new(left, "x"), End::new(right, "y").mtu(9000).queues(2))?;
    left.down("x")?;
    left.rename("x", "renamed")?;
    left.alias("renamed", "an alias")?;
    left.move_link("renamed", right)?;
    right.up("renamed")?;
    right.delete("renamed")?;
    assert!(right.index("renamed").is_err());
    left.offloads("a", &[("tso", false), ("gro", true)])
}

fn vlan_link() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, .. } = &pair;
    requires_module("8021q", left.vlan("a.5", "a", 5))
}

fn traffic() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    router.nft(
        "table ip t {
            counter seen {}
            counter lost {}
            chain f {
                type filter hook forward priority 0
                udp dport 5000 numgen inc mod 10 == 3 counter name lost drop
                udp dport 5000 counter name seen
            }
        }",
    )?;
    let _sink = server.udp((SERVER, 5000))?;
    client.send_udp((SERVER, 5000), 100, 10)?;
    assert_eq!(router.nft_counter("ip t", "lost")?, (10, 380));
    assert_eq!(router.nft_counter("ip t", "seen")?, (90, 90 * 38));
    client.tcp_transfer(server, (SERVER, 5001).into(), 1 << 20, Duration::from_secs(30))?;
    assert!(client.mib("Tcp", "OutSegs")? > 700);
    assert_eq!(client.mib("TcpExt", "TCPRetransFail")?, 0);
    server.send_udp((CLIENT, 9), 1, 10)?;
    Ok(())
}

fn traffic_over_ipv6() -> Result<()> {
    let pair = Pair::new()?.with_ipv6()?;
    let Pair { left, right } = &pair;
    left.tcp_transfer(right, (RIGHT6, 5001).into(), 1 << 16, Duration::from_secs(30))
}

fn tun_and_tap() -> Result<()> {
    let namespace = Namespace::new("tun")?;
    let mut tun = namespace.run(|| open_tun("tun0", TunKind::Tun))?;
    namespace.address("tun0", LEFT, 24)?;
    namespace.up("tun0")?;
    let socket = namespace.udp((LEFT, 2000))?;
    let inbound = packet().ipv4(|ip| (ip.source, ip.destination) = (RIGHT, LEFT)).udp(1000, 2000).data(*b"in").bytes();
    tun.write_all(&inbound)?;
    let mut buffer = [0; 100];
    assert_eq!(socket.recv(&mut buffer)?, 2);
    socket.send_to(b"out", (RIGHT, 1000))?;
    let length = tun.read(&mut buffer)?;
    assert!(buffer[..length].ends_with(b"out"));
    let _tap = namespace.run(|| open_tun("tap0", TunKind::Tap))?;
    namespace.up("tap0")
}

/// One GSO packet enters, and its segments leave for a receiver that cannot take it whole.
fn gso_packets() -> Result<()> {
    let pair = Pair::new()?;
    pair.left.offloads("a", &[("tso", false)])?;
    let receiver = PacketSocket::receiver(&pair.right, "b")?;
    let frame = ethernet(B, A).ip4().tcp(1, 2).payload(3500).bytes();
    let gso = Gso { segment_bytes: 1000, header_bytes: 54, transport_at: 34, version6: false };
    PacketSocket::sender(&pair.left, "a")?.send_gso(&frame, gso)?;
    assert_eq!(receiver.receive_bytes(4, |frame| frame[23] == 6)?, 3500 + 4 * 54);
    Ok(())
}

fn nothing_stays_after_a_panic() -> Result<()> {
    let mut identity = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| -> Result<()> {
        let pair = Pair::new()?;
        let link = pair.left.run(|| Ok(fs::read_link("/proc/thread-self/ns/net")?))?;
        identity = Some(link);
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    let identity = identity.context("no namespace")?;
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc")? {
        let path = process?.path().join("ns/net");
        if fs::read_link(&path).is_ok_and(|link| link == identity) {
            holders.push(path);
        }
    }
    assert_eq!(holders, Vec::<std::path::PathBuf>::new());
    Ok(())
}

fn children_die_with_their_thread() -> Result<()> {
    let namespace = Namespace::new("children")?;
    let start = || -> Result<Child> {
        let mut child = child::command(&namespace, "cat")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        // An echo shows that it has become the program, its request made.
        child.stdin.as_mut().context("no input")?.write_all(b"x")?;
        child.stdout.as_mut().context("no output")?.read_exact(&mut [0])?;
        Ok(child)
    };
    let started = std::thread::scope(|scope| scope.spawn(start).join());
    let mut child = started.unwrap_or_else(|panic| resume_unwind(panic))?;
    let status = eventually(Duration::from_secs(5), "the child has died", || child.try_wait()?.context("it runs"))?;
    assert!(!status.success());
    Ok(())
}

fn metrics_are_read() -> Result<()> {
    let text = "# HELP x_total y\nx_total{a=\"q\\\"\\\\\\n,}\",b=\"\"} 3\nx_total{a=\"2\"} 4.5\nplain 1e3\n";
    let metrics = Metrics::parse(text)?;
    assert_eq!(metrics.get("x_total", &[("a", "q\"\\\n,}"), ("b", "")]), Some(3.0));
    assert_eq!(metrics.sum("x_total", &[]), 7.5);
    assert_eq!(metrics.get("plain", &[]), Some(1000.0));
    assert_eq!(metrics.get("plain", &[("a", "1")]), None);
    Ok(())
}

/// The ranks are those of the tables for the sign test.
fn interval_of_a_median() -> Result<()> {
    let counting = |count: u32| Estimate::of((1..=count).rev().map(f64::from));
    for (count, median, low, high) in
        [(6, 3.5, 1.0, 6.0), (7, 4.0, 1.0, 7.0), (9, 5.0, 2.0, 8.0), (20, 10.5, 6.0, 15.0), (30, 15.5, 10.0, 21.0)]
    {
        assert_eq!(counting(count), Estimate { median, low, high, rounds: count as usize });
    }
    assert_eq!(counting(5).spread(), f64::INFINITY, "five are too few");
    Ok(())
}

fn pump_notices_what_is_lost() -> Result<()> {
    let pair = Pair::new()?;
    let path = Path::new(&pair.left, &pair.right, (RIGHT, 5000));
    let mut datagrams = Datagrams::new(&path)?;
    datagrams.pass(1000)?;
    // A stranger's datagram is one too many, wherever it turns up. (From two CPUs either may come first, or later.)
    pinned(|| {
        pair.left.send_udp((RIGHT, 5000), 1, 18)?;
        ensure!(datagrams.pass(1).is_err(), "a stranger's datagram was taken for the next one");
        eventually(Duration::from_secs(2), "a datagram is left over", || {
            ensure!(datagrams.finish().is_err(), "none has come");
            Ok(())
        })
    })?;
    Stream::new(&path)?.pass(10_000_000)?;
    Ok(())
}
