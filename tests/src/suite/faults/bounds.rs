//! More than there is room for: what does not fit has a name and a number.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::{
    agent::{self, Agent},
    frames::{A, B, Checksum, Mac, ethernet},
    link::{End, veth},
    namespace::Namespace,
    program,
    run::requires_kernel,
    topology::{Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

use super::{
    super::{
        counts::{Counts, SOON, counts_exactly, lost_nothing},
        watch::subscribe,
    },
    counts,
};

/// Counters that have lost their owner rest for 10 s, and who waits for them asks every 10 s.
const AFTER_GRACE: Duration = Duration::from_secs(30);

const ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0x0c];

/// 100 frames from the far end of a link are counted under its name.
fn counts_on(agent: &Agent<'_>, there: &Namespace, (name, peer): (&str, &str)) -> Result<()> {
    let frame = ethernet(ELSEWHERE, A).ip4().udp(1, 2).payload(50).bytes();
    let expected = Counts::new(100, 100 * frame.len() as u64);
    counts_exactly(agent, (name, "ingress"), expected, || PacketSocket::sender(there, peer)?.send_copies(&frame, 100))
}

/// Why each of the interfaces is not watched, `""` for one that is.
fn refusals(agent: &Agent<'_>, names: &[&str]) -> Result<Vec<String>> {
    let snapshot = agent.snapshot()?;
    let of = |name: &&str| {
        let found = snapshot.interfaces.iter().find(|interface| interface.name == **name);
        let interface = found.with_context(|| format!("no {name}"))?;
        ensure!(interface.refused.is_empty() == (interface.attached.len() == 2), "{interface:?}");
        Ok(interface.refused.clone())
    };
    names.iter().map(of).collect()
}

fn refused_as_a_metric(agent: &Agent<'_>) -> Result<f64> {
    agent.metrics()?.get("lossprobe_refused_interfaces", &[]).context("no such metric")
}

/// Where the limit of open files leaves nothing for what reads and serves, an interface is refused by name. A soft limit is no limit.
pub(super) fn too_few_open_files() -> Result<()> {
    requires_kernel(6, 6, "tcx, whose links are open files")?;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    for number in 0..3 {
        veth(End::new(&here, &format!("x{number}")), End::new(&there, &format!("p{number}")))?;
    }
    let agent = Agent::start_by(&here, &["prlimit", "--nofile=32:261"], &["--interface", "x*"])?;
    let refused = refusals(&agent, &["x0", "x1", "x2"])?;
    ensure!(refused[0].is_empty() && refused[1].is_empty(), "{refused:?}");
    for word in ["3 interfaces takes 262 open files", "RLIMIT_NOFILE allows 261", "LimitNOFILE="] {
        ensure!(refused[2].contains(word), "{refused:?}");
    }
    ensure!(refused_as_a_metric(&agent)? == 1.0, "{} refused", refused_as_a_metric(&agent)?);
    for pair in [("x0", "p0"), ("x1", "p1")] {
        counts_on(&agent, &there, pair)?;
    }
    let lossprobe = agent::binary().display().to_string();
    let doctor = [lossprobe.as_str(), "doctor", "--interface", "x*"];
    let doctor = program::output(&here, "prlimit", &[&["--nofile=32:261"][..], &doctor].concat(), "")?;
    let said = String::from_utf8_lossy(&doctor.stdout);
    ensure!(doctor.status.success() && said.contains("262 for 3 interfaces, RLIMIT_NOFILE allows 261"), "{said}");
    agent.stop()
}

/// One too many is said to be, the others are counted; and it gets the first place that becomes free.
pub(super) fn more_interfaces_than_counters() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    for (name, peer) in [("x0", "p0"), ("x1", "p1"), ("x2", "p2")] {
        veth(End::new(&here, name), End::new(&there, peer))?;
    }
    let agent = Agent::start(&here, &["--interface", "x*", "--max-interfaces", "2"])?;
    let refused = refusals(&agent, &["x0", "x1", "x2"])?;
    ensure!(refused[0].is_empty() && refused[1].is_empty(), "{refused:?}");
    ensure!(refused[2].contains("--max-interfaces"), "{refused:?}");
    ensure!(refused_as_a_metric(&agent)? == 1.0, "{} refused", refused_as_a_metric(&agent)?);
    ensure!(agent.log().contains("--max-interfaces"), "{}", agent.log());
    for pair in [("x0", "p0"), ("x1", "p1")] {
        counts_on(&agent, &there, pair)?;
    }
    here.delete("x0")?;
    eventually(AFTER_GRACE, "who waits gets what has become free", || {
        let refused = refusals(&agent, &["x1", "x2"])?;
        ensure!(refused == ["", ""], "{refused:?}");
        Ok(())
    })?;
    ensure!(refused_as_a_metric(&agent)? == 0.0, "{} refused", refused_as_a_metric(&agent)?);
    for pair in [("x1", "p1"), ("x2", "p2")] {
        counts_on(&agent, &there, pair)?;
    }
    lost_nothing(&agent)?;
    agent.stop()
}

/// Interface numbers that lie beyond the kernel's table, or meet in it: two have a place, a third is refused by name.
pub(super) fn numbers_beyond_the_table() -> Result<()> {
    const LINES: u32 = probe_ebpf::abi::SLOT_LINES;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    let links = [("x0", "p0", 70), ("x1", "p1", 70 + LINES), ("x2", "p2", 70 + 2 * LINES), ("x3", "p3", 2_000_000_011)];
    for (name, peer, index) in links {
        veth(End::new(&here, name).index(index), End::new(&there, peer))?;
        assert_eq!(here.index(name)?, index);
    }
    let agent = Agent::start(&here, &["--interface", "x*"])?;
    let refused = refusals(&agent, &["x0", "x1", "x2", "x3"])?;
    ensure!([0, 1, 3].iter().all(|at: &usize| refused[*at].is_empty()), "{refused:?}");
    ensure!(refused[2].contains("collides with two others"), "{refused:?}");
    ensure!(refused_as_a_metric(&agent)? == 1.0, "{} refused", refused_as_a_metric(&agent)?);
    for (name, peer, _) in [links[0], links[1], links[3]] {
        counts_on(&agent, &there, (name, peer))?;
    }
    here.delete("x0")?;
    eventually(AFTER_GRACE, "the third has the place", || {
        let refused = refusals(&agent, &["x1", "x2"])?;
        ensure!(refused == ["", ""], "{refused:?}");
        Ok(())
    })?;
    for (name, peer, _) in &links[1..] {
        counts_on(&agent, &there, (name, peer))?;
    }
    lost_nothing(&agent)?;
    agent.stop()
}

/// More places where packets are lost than the map of drops has room for: each interface has all of its drops or none, and as
/// many as are missing are said to be. Alone, since a storm of another trial's would put some of its own to one of them.
pub(super) fn full_map_of_drops() -> Result<()> {
    // 768 distinct ones fit for so few interfaces.
    const PAIRS: usize = 420;
    const EACH: u64 = 3;
    let here = Namespace::new("many")?;
    for pair in 0..PAIRS {
        veth(End::new(&here, &format!("x{pair}")), End::new(&here, &format!("y{pair}")))?;
    }
    let agent = Agent::start(&here, &["--interface", "none*", "--max-interfaces", "4"])?;
    // A protocol that nobody has a handler for, to everybody.
    let frame = ethernet([0xff; 6], A).payload(50).bytes();
    for pair in 0..PAIRS {
        for end in ["x", "y"] {
            PacketSocket::sender(&here, &format!("{end}{pair}"))?.send_copies(&frame, EACH as usize)?;
        }
    }
    let sent = 2 * PAIRS as u64 * EACH;
    eventually(SOON, "every drop is counted, or counted as lost", || {
        let snapshot = agent.snapshot()?;
        let mut counted = 0;
        for drop in snapshot.drops.iter().filter(|drop| drop.interface.starts_with(['x', 'y'])) {
            ensure!(drop.packets == EACH, "{drop:?}");
            counted += drop.packets;
        }
        let failed = snapshot.probe.map_update_failed.iter().find(|lost| lost.map == "drops" && lost.cause == "full");
        let failed = failed.context("no such map")?.count;
        // Other namespaces find no room either.
        ensure!(counted < sent && counted + failed >= sent, "{counted} counted and {failed} not, of {sent}");
        let map = snapshot.probe.maps.iter().find(|map| map.name == "drops").context("no such map")?;
        ensure!(map.entries == map.capacity, "{map:?}");
        Ok(())
    })?;
    let exported = agent.metrics()?.sum("lossprobe_map_update_failed_total", &[("map", "drops"), ("cause", "full")]);
    ensure!(exported > 0.0, "the metrics do not say it");
    agent.stop()
}

/// More evidence than an agent that stands still takes out of its ring: every frame is counted, and what could not be shown is
/// said to be.
pub(super) fn overrun_ring() -> Result<()> {
    const ROUNDS: usize = 20;
    const EACH: usize = 20;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let frame = ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(1400).bytes();
    // Somebody watches: then up to 16 in a tenth of a second are kept, 32 KiB for a ring of 128.
    let _watched = subscribe(agent.socket())?;
    let lost = || Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_evidence_lost_total", &[]));
    ensure!(lost()? == 0.0, "{} lost before", lost()?);
    agent.signal(Signal::SIGSTOP)?;
    let flooded = (0..ROUNDS).try_for_each(|_| -> Result<()> {
        sender.send_copies(&frame, EACH)?;
        // The kernel side's own measure of time.
        thread::sleep(Duration::from_millis(100));
        Ok(())
    });
    agent.signal(Signal::SIGCONT)?;
    flooded.and_then(|()| {
        eventually(SOON, "all are counted, and what nobody was shown is said", || {
            let labels = [("interface", "b"), ("direction", "ingress"), ("reason", "ip4_csum")];
            let counted = agent.metrics()?.sum("lossprobe_malformed_frames_total", &labels);
            ensure!(counted == (ROUNDS * EACH) as f64, "{counted} frames");
            let lost = lost()?;
            ensure!(lost > 0.0 && lost < counted, "{lost} examples were lost");
            Ok(())
        })
    })?;
    counts(&pair, &agent, 100)?;
    agent.stop()
}
