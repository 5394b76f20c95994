//! Limits of this machine that are full: queueing disciplines, a tap nobody reads, the CPU's backlog, neighbours that do
//! not answer, connections that nobody can follow.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use tests::{
    frames::plain,
    namespace::Namespace,
    raw::{TunKind, open_tun},
    temporary::Filter,
    topology::{CLIENT_MAC, ROUTER1, SERVER},
    wait::eventually,
    wire::{Gso, PacketSocket},
};

use super::{
    ledger::{COUNT, Loss, Mechanism, PROTOCOL, Scene, Way::Own, row},
    network::frame,
};
use crate::suite::counts::SOON;

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("TBF over its limit", ("r2", "qdisc_drop", "capacity"), Own(tbf, "tc -s")),
    row("HTB class over its limit", ("r2", "qdisc_drop", "capacity"), Own(htb, "tc -s")),
    row("pfifo tail drop", ("r2", "qdisc_drop", "capacity"), Own(pfifo, "tc -s")),
    row("tap queue full", ("tap0", "full_ring", "capacity"), Own(tap_full, "tx_dropped of tap0")),
    row("neighbour failed", ("r2", "neigh_failed", "config"), Own(neighbour_failed, "nft counter")),
    row("neighbour queue full", ("r2", "neigh_queuefull", "capacity"), Own(neighbour_queue, "nft counter")),
    row("ports for translation used up", ("r2", "netfilter_drop", "policy"), Own(clash, "nf_conntrack insert_failed")),
    row(
        "the same, as conntrack says",
        ("conntrack", "insert_failed", PROTOCOL),
        Own(clash, "nf_conntrack insert_failed"),
    ),
];

/// These reach or change a limit of the whole machine, at the cost of all traffic beside them.
pub(super) const ALONE: &[Mechanism] = &[
    row("CPU backlog", ("r1", "cpu_backlog", "capacity"), Own(backlog, "rx_dropped of r1")),
    row("conntrack table full", ("r1", "netfilter_drop", "policy"), Own(conntrack_full, "nft counters")),
    row(
        "the same table, as conntrack says",
        ("conntrack", "table_full", PROTOCOL),
        Own(conntrack_drop, "nf_conntrack drop"),
    ),
];

/// What has passed the packet filter's last hook on its way out.
pub(super) const LAST: &str = "counter seen {}
    chain c {
        type filter hook postrouting priority 300
        udp dport 5000 counter name seen
    }";

/// One byte a second, in tc's words, and no more than one small packet at once: what waits stays.
pub(super) const CRAWL: &str = "rate 8bit burst 100";
/// Bytes of payload of a packet that fits into the burst, but not twice.
pub(super) const PAYLOAD: usize = 40;
const PACKET_BYTES: usize = 14 + 20 + 8 + PAYLOAD;

/// Forwards packets into a discipline of `r2` until one is lost, then loses [`COUNT`].
fn overflow(scene: &Scene<'_>, root: &str, commands: &[&str], kind: &str) -> Result<Loss> {
    let queue = scene.net.router.queue("r2", root, commands)?;
    let send = |count| scene.net.client.send_udp((SERVER, 5000), count, PAYLOAD);
    eventually(SOON, "the queue is full", || {
        send(1)?;
        ensure!(queue.drops(kind)? > 0, "{} packets wait", queue.waiting(kind)?);
        Ok(())
    })?;
    scene.lose(COUNT, || queue.drops(kind), || send(COUNT as usize))
}

fn tbf(scene: &Scene<'_>) -> Result<Loss> {
    overflow(scene, &format!("tbf {CRAWL} limit {}", 5 * PACKET_BYTES), &[], "tbf")
}

fn htb(scene: &Scene<'_>) -> Result<Loss> {
    let class = format!("class add DEV parent 1: classid 1:1 htb {CRAWL} quantum 1500");
    let leaf = format!("qdisc add DEV parent 1:1 handle 10: bfifo limit {}", 5 * PACKET_BYTES);
    overflow(scene, "handle 1: htb default 1", &[&class, &leaf], "bfifo")
}

fn pfifo(scene: &Scene<'_>) -> Result<Loss> {
    let root = format!("handle 1: tbf {CRAWL} limit {}", 100 * PACKET_BYTES);
    overflow(scene, &root, &["qdisc add DEV parent 1:1 handle 10: pfifo limit 5"], "pfifo")
}

/// Without a discipline in front of it: some kernels stop the device's queue instead, where there is one to stop.
fn tap_full(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    let there = Ipv4Addr::new(10, 0, 3, 2);
    let _unread = router.run(|| open_tun("tap0", TunKind::Tap))?;
    router.tc("qdisc replace dev tap0 root noqueue")?;
    router.up("tap0")?;
    router.address("tap0", Ipv4Addr::new(10, 0, 3, 1), 24)?;
    router.neighbour("tap0", there, CLIENT_MAC)?;
    let dropped = || Ok(router.device_counters("tap0")?.send_drops);
    eventually(SOON, "the ring is full", || {
        router.send_udp((there, 5000), 100, 10)?;
        ensure!(dropped()? > 0, "nothing is dropped");
        Ok(())
    })?;
    scene.lose(COUNT, dropped, || router.send_udp((there, 5000), COUNT as usize, 10))
}

/// One packet of more segments than the backlog takes, cut in front of the veth pair: all of them come before the CPU
/// looks at the first.
fn backlog(scene: &Scene<'_>) -> Result<Loss> {
    const SEGMENT: u16 = 40;
    let client = &scene.net.client;
    let limit: u64 = Namespace::of_this_process()?.sysctl_value("net.core.netdev_max_backlog")?.parse()?;
    // The limit is exceeded by one before it is noticed.
    let segments = limit + 1 + COUNT;
    let bytes = usize::from(SEGMENT) * usize::try_from(segments)?;
    ensure!(bytes < 64_000, "a backlog of {limit} packets is too long for this test");
    let frame = frame(SERVER, plain).tcp(1000, 2000).payload(bytes).bytes();
    let gso = Gso { segment_bytes: SEGMENT, header_bytes: 54, transport_at: 34, version6: false };
    client.offloads("c", &[("tso", false)])?;
    let sender = PacketSocket::sender(client, "c")?;
    let dropped = || Ok(scene.net.router.device_counters("r1")?.receive_drops);
    let loss = scene.lose(COUNT, dropped, || lost_or_not(sender.send_gso(&frame, gso)));
    client.offloads("c", &[("tso", true)])?;
    loss
}

/// Some kernels tell the sender of the loss (of the backlog seen in a 6.18 guest), of a queue or a tap all do.
pub(super) fn lost_or_not(sent: Result<()>) -> Result<()> {
    match sent {
        Err(error) if error.downcast_ref() == Some(&Errno::ENOBUFS) => Ok(()),
        sent => sent,
    }
}

/// Where nobody lives on the server's side.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 9);

/// Nobody is asked, so that each packet fails at once.
fn neighbour_failed(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    let _mute = router.sysctl_for_now("net.ipv4.neigh.r2.mcast_solicit", "0")?;
    let _mute_too = router.sysctl_for_now("net.ipv4.neigh.r2.ucast_solicit", "0")?;
    let filter = router.filter("ip t", LAST)?;
    scene.lose(COUNT, || filter.packets("seen"), || scene.send(&frame(NOBODY, plain).udp(1000, 5000).payload(10)))
}

/// The question stands long enough for the queue behind it to run over: each further packet takes the oldest's place.
fn neighbour_queue(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    let _patient = router.sysctl_for_now("net.ipv4.neigh.r2.mcast_solicit", "1000")?;
    let _short = router.sysctl_for_now("net.ipv4.neigh.r2.unres_qlen_bytes", "2048")?;
    let filter = router.filter("ip t", LAST)?;
    let other = Ipv4Addr::from_bits(NOBODY.to_bits() + 1);
    let send = |count| scene.net.client.send_udp((other, 5000), count, 10);
    // More than it holds, whatever a packet weighs.
    send(10)?;
    scene.lose(COUNT, || filter.packets("seen"), || send(COUNT as usize))
}

/// All connections are to leave by the same address and port: the first has it, and the reply to each further one would
/// be taken for the first one's.
fn clash(scene: &Scene<'_>) -> Result<Loss> {
    const TRANSLATION: &str = "chain c {
            type nat hook postrouting priority 100
            udp dport 5000 snat to 10.0.2.254:7000
        }";
    let Scene { net, .. } = scene;
    let _translation = net.router.filter("ip t", TRANSLATION)?;
    let sender = PacketSocket::sender(&net.client, "c")?;
    let from = |port: u16| frame(SERVER, plain).udp(port, 5000).payload(10).bytes();
    sender.send([from(1999)])?;
    let failed = || net.router.cpu_sum("nf_conntrack", "insert_failed");
    scene.lose(COUNT, failed, || sender.send((2000..).take(COUNT as usize).map(from)))
}

/// A new connection for which there is no entry is dropped in the packet filter's name.
fn conntrack_full(scene: &Scene<'_>) -> Result<Loss> {
    without_entries(scene, |filter| Ok(filter.packets("before")? - filter.packets("behind")?))
}

fn conntrack_drop(scene: &Scene<'_>) -> Result<Loss> {
    without_entries(scene, |_| scene.net.router.cpu_sum("nf_conntrack", "drop"))
}

/// New connections while the table is full.
fn without_entries(scene: &Scene<'_>, witness: impl Fn(&Filter<'_>) -> Result<u64>) -> Result<Loss> {
    const MAX: &str = "net.netfilter.nf_conntrack_max";
    let Scene { net, .. } = scene;
    let chains = "counter before {}
        counter behind {}
        chain early {
            type filter hook prerouting priority -500
            udp dport 5000 counter name before
        }
        chain late {
            type filter hook prerouting priority 0
            ct state new udp dport 5000 counter name behind
        }";
    let filter = net.router.filter("ip t", chains)?;
    // Two connections that the kernel does not sacrifice for a new one, because both sides have spoken.
    let listener = net.router.run(|| Ok(TcpListener::bind((ROUTER1, 5001))?))?;
    let connect = || net.client.run(|| Ok(TcpStream::connect((ROUTER1, 5001))?));
    let _connections = [connect()?, connect()?];
    let _accepted = [listener.accept()?, listener.accept()?];
    let sender = PacketSocket::sender(&net.client, "c")?;
    let frames = (2000..2000 + COUNT as u16).map(|port| frame(ROUTER1, plain).udp(port, 5000).payload(10).bytes());
    let before = filter.packets("before")?;
    // One limit for the whole machine, by which each namespace's entries are measured.
    let host = Namespace::of_this_process()?;
    scene.lose(
        COUNT,
        || witness(&filter),
        || {
            let _full = host.sysctl_for_now(MAX, "1").context("limit followed connections")?;
            sender.send(frames)?;
            eventually(SOON, "all have come to the packet filter", || {
                let packets = filter.packets("before")? - before;
                ensure!(packets == COUNT, "{packets} of {COUNT}");
                Ok(())
            })
        },
    )
}
