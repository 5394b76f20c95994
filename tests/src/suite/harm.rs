//! Do no harm: nothing stays behind, nothing of others is touched.

mod foreign;
mod foreign_xdp;
mod redirect;
mod unchanged;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, ethernet},
    namespace::Namespace,
    program,
    run::{kernel_version, requires_kernel, trial},
    topology::{LEFT, Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{Counts, SOON, counts_exactly};

pub(super) fn trials() -> Vec<Trial> {
    let here = vec![
        trial("harm::kill_9_leaves_nothing", kill_9_leaves_nothing),
        trial("harm::stop_leaves_nothing", stop_leaves_nothing),
        trial("harm::foreign_filters_stay", foreign_filters_stay),
        trial("harm::ingress_qdisc_stays", ingress_qdisc_stays),
        trial("harm::traffic_passes_unchanged", traffic_passes_unchanged),
        trial("harm::two_agents_side_by_side", two_agents_side_by_side),
    ];
    [here, foreign::trials(), foreign_xdp::trials(), redirect::trials(), unchanged::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Programs on the tcx hooks of an interface, both directions.
pub(super) fn tcx_programs(namespace: &Namespace, interface: &str) -> Result<usize> {
    namespace.run(|| {
        let count = |direction| -> Result<usize> {
            let (_, programs) = SchedClassifier::query_tcx(interface, direction)
                .with_context(|| format!("ask for the tcx programs of {interface}"))?;
            Ok(programs.len())
        };
        Ok(count(TcAttachType::Ingress)? + count(TcAttachType::Egress)?)
    })
}

fn kill_9_leaves_nothing() -> Result<()> {
    requires_kernel(6, 6, "tcx")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    assert_eq!(tcx_programs(right, "b")?, 2);
    agent.kill_9()?;
    eventually(SOON, "the hooks are empty", || {
        let left = tcx_programs(right, "b")?;
        ensure!(left == 0, "{left} programs attached");
        Ok(())
    })
}

fn stop_leaves_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let look = || -> Result<String> {
        let qdiscs = program::run(right, "tc", &["qdisc", "show"], "")?;
        let filters =
            ["ingress", "egress"].map(|hook| program::run(right, "tc", &["filter", "show", "dev", "b", hook], ""));
        let [ingress, egress] = filters;
        Ok(qdiscs + &ingress? + &egress?)
    };
    let before = look()?;
    Agent::start(right, &["--interface", "b"])?.stop()?;
    assert_eq!(before, look()?);
    if requires_kernel(6, 6, "tcx").is_ok() {
        assert_eq!(tcx_programs(right, "b")?, 0);
    }
    Ok(())
}

/// A filter that was there before the agent is there beside it and afterwards, as it was. (It only classifies: the
/// development kernel has no tc actions.)
fn foreign_filters_stay() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    program::run(right, "tc", &["qdisc", "add", "dev", "b", "clsact"], "")?;
    let rule = "filter add dev b ingress pref 7 protocol ip u32 match ip dport 5000 0xffff flowid 1:1";
    program::run(right, "tc", &rule.split(' ').collect::<Vec<_>>(), "")?;
    // Below tcx the agent's own filter stands in the list too, while it runs.
    let look = || -> Result<String> {
        let filters = program::run(right, "tc", &["filter", "show", "dev", "b", "ingress"], "")?;
        let foreign = |line: &&str| !line.contains(" bpf chain 0");
        Ok(filters.lines().filter(foreign).collect::<Vec<_>>().join("\n"))
    };
    let before = look()?;
    let sink = right.udp((RIGHT, 5000))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let frame = 14 + 20 + 8 + 10;
    counts_exactly(&agent, ("b", "ingress"), Counts::new(20, 20 * frame), || left.send_udp((RIGHT, 5000), 20, 10))?;
    for _ in 0..20 {
        sink.recv(&mut [0; 16]).context("what was counted is also delivered")?;
    }
    // Below 6.6 the agent's own filter is in the same list.
    let beside = look()?;
    let gone: Vec<_> = before.lines().filter(|line| !beside.contains(line)).collect();
    ensure!(gone.is_empty(), "gone while the agent runs: {gone:?}");
    agent.stop()?;
    assert_eq!(before, look()?);
    let left = program::run(right, "tc", &["filter", "show", "dev", "b", "ingress"], "")?;
    assert!(!left.contains("lossprobe"), "{left}");
    Ok(())
}

/// An `ingress` qdisc (libvirt's, Open vSwitch's) leaves no place for clsact: below tcx only ingress is counted, and
/// nothing that arrives is taken for egress.
fn ingress_qdisc_stays() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    program::run(right, "tc", &["qdisc", "add", "dev", "b", "ingress"], "")?;
    let look = || -> Result<String> {
        let qdiscs = program::run(right, "tc", &["qdisc", "show", "dev", "b"], "")?;
        Ok(qdiscs + &program::run(right, "tc", &["filter", "show", "dev", "b", "ingress"], "")?)
    };
    let before = look()?;
    ensure!(before.contains("qdisc ingress ffff:"), "{before}");
    let _sinks = (left.udp((LEFT, 5000))?, right.udp((RIGHT, 5000))?);
    let agent = Agent::start(right, &["--interface", "b"])?;
    let (has_tcx, frame) = (kernel_version()?.0 >= (6, 6), 14 + 20 + 8 + 10);
    let idle = Counts::of(&agent.metrics()?, "b", "egress");
    counts_exactly(&agent, ("b", "ingress"), Counts::new(20, 20 * frame), || left.send_udp((RIGHT, 5000), 20, 10))?;
    assert_eq!(Counts::of(&agent.metrics()?, "b", "egress"), idle, "what arrived is no egress");
    let sent = if has_tcx { Counts::new(20, 20 * frame) } else { Counts::default() };
    counts_exactly(&agent, ("b", "egress"), sent, || right.send_udp((LEFT, 5000), 20, 10))?;
    let beside = look()?;
    ensure!(beside.contains("qdisc ingress ffff:") && !beside.contains("clsact"), "while the agent runs: {beside}");
    agent.stop()?;
    assert_eq!(before, look()?);
    Ok(())
}

/// Whatever a frame looks like, it arrives byte by byte as it was sent.
fn traffic_passes_unchanged() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _agents = (Agent::start(left, &["--interface", "a"])?, Agent::start(right, &["--interface", "b"])?);
    let (sender, receiver) = (PacketSocket::sender(left, "a")?, PacketSocket::receiver(right, "b")?);
    let elsewhere = [2, 0, 0, 0, 0, 0x0c];
    let whole = ethernet(elsewhere, A).ipv4(|ip| ip.options = vec![7; 8]).udp(1, 2).payload(700).bytes();
    for length in (15..=60).chain((61..whole.len()).step_by(97)) {
        sender.send([&whole[..length]])?;
        assert_eq!(receiver.receive(|frame| frame[..6] == elsewhere)?, whole[..length]);
    }
    Ok(())
}

fn two_agents_side_by_side() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let first = Agent::start(right, &["--interface", "b"])?;
    // Started from the other namespace, the second has the address to itself; both see the same wire.
    let second = Agent::start(left, &["--interface", "a"])?;
    let (_sink, frame) = (right.udp((RIGHT, 5000))?, 14 + 20 + 8 + 10);
    let send = || left.send_udp((RIGHT, 5000), 100, 10);
    counts_exactly(&first, ("b", "ingress"), Counts::new(100, 100 * frame), send)?;
    counts_exactly(&second, ("a", "egress"), Counts::new(100, 100 * frame), send)?;
    second.stop()?;
    counts_exactly(&first, ("b", "ingress"), Counts::new(100, 100 * frame), send)?;
    right.send_udp((LEFT, 9), 1, 1)?;
    first.stop()
}
