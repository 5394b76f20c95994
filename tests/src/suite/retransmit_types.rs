//! On what occasion sockets send again, each made once on purpose and compared with the kernel's own counters; where
//! SYN-ACKs leave; segments with a wrong checksum.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use nix::sys::socket::{setsockopt, sockopt};
use tests::{
    agent::Agent,
    frames::{A, B, Checksum, ethernet},
    namespace::Namespace,
    run::{requires_kernel, trial},
    topology::{Pair, Routed, SERVER},
    wait::eventually,
    wire::PacketSocket,
};

use super::{
    counts::{SOON, lost_nothing, missed_retransmits},
    retransmit::{DEADLINE, METRIC, drop_first, identity, kernel_count},
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("retransmit_types::fast", fast),
        trial("retransmit_types::tail_probe", tail_probe),
        trial("retransmit_types::timeout", timeout),
        trial("retransmit_types::synack_of_a_bound_listener", synack_of_a_bound_listener),
        trial("retransmit_types::bad_checksums", bad_checksums),
    ]
}

/// Payload of a full segment: 1,500 less IPv4, TCP and its time stamps.
const SEGMENT: usize = 1448;

/// The kernel's counters of segments sent again, by occasion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mib {
    fast: u64,
    after_timeout: u64,
    timeouts: u64,
    probes: u64,
    syns: u64,
}

impl Mib {
    pub(super) fn of(namespace: &Namespace) -> Result<Self> {
        let count = |name| namespace.mib("TcpExt", name);
        Ok(Self {
            fast: count("TCPFastRetrans")?,
            after_timeout: count("TCPSlowStartRetrans")?,
            timeouts: count("TCPTimeouts")?,
            probes: count("TCPLossProbes")?,
            syns: count("TCPSynRetrans")?,
        })
    }

    /// What the agent has counted is what the kernel has counted since, but for [`missed_retransmits`]; nothing is of unknown
    /// type. To be asked when connections are at rest ([`identity`]); scrapes never are. Returns segments (fast, timeout,
    /// tail probe).
    pub(super) fn agrees_with(self, agent: &Agent<'_>, namespace: &Namespace) -> Result<[u64; 3]> {
        eventually(SOON, "the types are the kernel's", || self.compare(agent, namespace))
    }

    fn compare(self, agent: &Agent<'_>, namespace: &Namespace) -> Result<[u64; 3]> {
        let now = Self::of(namespace)?;
        let metrics = agent.metrics()?;
        let of = |kind| metrics.sum(METRIC, &[("type", kind)]) as u64;
        let [fast, timeout, probe, syn, unknown] = ["fast", "timeout", "tail_probe", "syn", "unknown"].map(of);
        let synack = of("synack");
        let said = format!("fast {fast}, timeout {timeout}, tail_probe {probe}, syn {syn}, synack {synack}");
        let missed = missed_retransmits(agent)?;
        let said = format!("{said}, unknown {unknown}, missed {missed}; before {self:?}, now {now:?}");
        let is = |counted: u64, kernels: u64| (counted..=counted + missed).contains(&kernels);
        ensure!(is(fast, now.fast - self.fast), "fast: {said}");
        ensure!(is(syn + synack, now.syns - self.syns), "syn and synack: {said}");
        // Each expiry sends one segment, a SYN's too; a SYN-ACK is also sent because the SYN has come again.
        let timeouts = now.timeouts - self.timeouts + now.after_timeout - self.after_timeout;
        ensure!(synack > 0 || is(timeout + syn, timeouts), "timeout: {said}");
        // A probe may be a new segment.
        ensure!(probe <= now.probes - self.probes, "tail_probe: {said}");
        ensure!(unknown == 0, "unknown: {said}");
        eprintln!("{said}");
        Ok([fast, timeout, probe])
    }
}

/// The router loses full segments to the server whose number, from 0, is `which`.
fn lossy(which: &str) -> Result<Routed> {
    let net = Routed::new()?;
    net.router.nft(&format!(
        "table ip t {{
            chain c {{
                type filter hook forward priority 0
                tcp dport 5001 meta length > 1000 numgen inc mod 1000000 {which} drop
            }}
        }}"
    ))?;
    net.client.offloads("c", &[("tso", false), ("gso", false)])?;
    Ok(net)
}

/// Sends so many full segments at once over a connection that stays open until all have arrived. Returns segments sent
/// again: (fast, timeout, tail probe).
fn sent_again(net: &Routed, segments: usize) -> Result<[u64; 3]> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let Routed { client, server, .. } = net;
    let agent = Agent::start(client, &["--interface", "c"])?;
    let (before, mib) = (kernel_count(client)?, Mib::of(client)?);
    let listener = server.run(|| Ok(TcpListener::bind((SERVER, 5001))?))?;
    let to = SocketAddr::from((SERVER, 5001));
    let mut sender = client.run(|| TcpStream::connect_timeout(&to, PATIENCE).context("connect"))?;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    sender.set_write_timeout(Some(PATIENCE))?;
    // Both at a time: the buffers of a slow machine do not hold all of it.
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| sender.write_all(&vec![0x5a; segments * SEGMENT]));
        receiver.read_exact(&mut vec![0; segments * SEGMENT]).context("not all has arrived")?;
        sending.join().map_err(|_| anyhow!("the sender panicked"))?.context("not all was sent")
    })?;
    identity(&agent, client, before)?;
    let counted = mib.agrees_with(&agent, client)?;
    // A slow machine sends segments of the scrapes again, too, on the loopback.
    let metrics = agent.metrics()?;
    let [named, scrapes] = ["c", "lo"].map(|name| metrics.sum(METRIC, &[("interface", name)]));
    let all = counted.iter().sum::<u64>() as f64;
    ensure!(named > 0.0 && named + scrapes >= all, "{named} have the interface's name, of {counted:?}");
    drop((sender, receiver));
    agent.stop()?;
    Ok(counted)
}

/// One of many: those behind it tell.
fn fast() -> Result<()> {
    let [fast, ..] = sent_again(&lossy("== 20")?, 200)?;
    ensure!(fast >= 1, "{fast} segments");
    Ok(())
}

/// The last one: nothing behind it tells.
fn tail_probe() -> Result<()> {
    let counted = sent_again(&lossy("== 4")?, 5)?;
    ensure!(counted[2] >= 1, "{counted:?}");
    Ok(())
}

/// The whole first window, the probe and the first that is sent after it.
fn timeout() -> Result<()> {
    const WINDOW: usize = 10;
    let [_, timeout, probe] = sent_again(&lossy(&format!("< {}", WINDOW + 2))?, WINDOW)?;
    ensure!(timeout >= 2 && probe >= 1, "{timeout} after a timeout, {probe} probes");
    Ok(())
}

/// The route of an answer is kept nowhere; a listener that is bound to a device says where it leaves.
fn synack_of_a_bound_listener() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    router.nft(&drop_first("(syn | ack)"))?;
    let agent = Agent::start(server, &["--interface", "s"])?;
    let before = kernel_count(server)?;
    let to = SocketAddr::from((SERVER, 5001));
    let listener = server.run(|| {
        let listener = TcpListener::bind(to)?;
        setsockopt(&listener, sockopt::BindToDevice, &"s".into())?;
        Ok(listener)
    })?;
    let connected = client.run(|| TcpStream::connect_timeout(&to, DEADLINE).context("connect"))?;
    let accepted = listener.accept()?;
    identity(&agent, server, before)?;
    // A slow machine sends segments of the scrapes again, too, on the loopback.
    let metrics = agent.metrics()?;
    let all = metrics.sum(METRIC, &[("type", "synack")]);
    let named = metrics.sum(METRIC, &[("type", "synack"), ("interface", "s")]);
    ensure!(all >= 1.0 && named == all, "{named} of {all} SYN-ACKs are said to be of s");
    drop((connected, accepted));
    agent.stop()
}

/// Short ones, whose sum is made at once, and long ones, whose is made when nobody wants them.
fn bad_checksums() -> Result<()> {
    const COUNT: u64 = 100;
    requires_kernel(5, 14, "tcp:tcp_bad_csum")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    for payload in [0, 400] {
        for checksum in [Checksum::Right, Checksum::Wrong] {
            let frame = ethernet(B, A).ip4().tcp_with(1000, 9, move |tcp| tcp.checksum = checksum);
            sender.send_copies(&frame.payload(payload).bytes(), COUNT as usize)?;
        }
    }
    eventually(SOON, "wrong checksums are counted", || {
        let found: Vec<_> = agent.snapshot()?.tcp.bad_checksums;
        let counted: Vec<_> = found.iter().map(|row| (row.interface.as_str(), row.segments)).collect();
        ensure!(counted == [("b", 2 * COUNT)], "{counted:?}");
        Ok(())
    })?;
    assert_eq!(right.mib("Tcp", "InCsumErrors")?, 2 * COUNT);
    lost_nothing(&agent)?;
    agent.stop()
}
