//! Ports of one bridge as one: exact while ports come, change their bridge and go, never falling, and few series.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::Agent,
    frames::{A, Mac, ethernet},
    guest::is_guest,
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    run::trial,
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{Counts, SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("roles_ports::exact_while_ports_come_and_go", exact_while_ports_come_and_go),
        trial("roles_ports::drops_and_malformed_stay", drops_and_malformed_stay),
        trial("roles_ports::a_port_that_leaves", a_port_that_leaves),
        trial("roles_ports::series_are_few", series_are_few),
    ]
}

/// Nobody's address: a bridge floods the frame, and nobody answers.
const ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0x0c];
const PORTS: usize = 50;
/// Counters of those that went before rest for 10 s; what found none is tried again every 10 s.
const AFTER_GRACE: Duration = Duration::from_secs(40);

fn frame() -> Vec<u8> {
    ethernet(ELSEWHERE, A).ip4().udp(1, 2).payload(50).bytes()
}

/// Waits until the group of `bridge` has so many ports, all of them counted.
fn has_ports(agent: &Agent<'_>, bridge: &str, ports: usize) -> Result<()> {
    eventually(AFTER_GRACE, &format!("{bridge} has {ports} ports"), || {
        let snapshot = agent.json("/api/v1/snapshot")?;
        let groups = snapshot["port_groups"].as_array().context("no groups")?;
        let group = groups.iter().find(|group| group["master"] == bridge).context("no such group")?;
        let attached = |attached: &&Value| attached["hook"] == "tc_ingress";
        let hooks = group["attached"].as_array().context("no hooks")?.iter().filter(attached);
        let counted: u64 = hooks.filter_map(|attached| attached["ports"].as_u64()).sum();
        ensure!((group["ports"].as_u64(), counted) == (Some(ports as u64), ports as u64), "{group}");
        Ok(())
    })
}

/// A port that only watches: when a frame is flooded to it, the frame has been counted where it came in.
fn witness(here: &Namespace, there: &Namespace, bridge: &str) -> Result<PacketSocket> {
    let (name, peer) = (format!("w-{bridge}"), format!("wp-{bridge}"));
    veth(End::new(here, &name), End::new(there, &peer))?;
    here.enslave(&name, bridge)?;
    PacketSocket::receiver(there, &peer)
}

fn through(there: &Namespace, port: usize, frames: usize) -> Result<()> {
    PacketSocket::sender(there, &format!("p{port}"))?.send_copies(&frame(), frames)
}

/// Scrapes until `done`; no series of a group may fall.
fn none_falls(agent: &Agent<'_>, done: &AtomicBool) -> Result<usize> {
    let mut highest = BTreeMap::<String, f64>::new();
    let mut scrapes = 0;
    while !done.load(Ordering::Relaxed) {
        let metrics = agent.metrics()?;
        for sample in metrics.samples().iter().filter(|sample| sample.name.ends_with("_total")) {
            if sample.labels.get("interface").is_some_and(|name| name.ends_with("/ports")) {
                let highest = highest.entry(format!("{} {:?}", sample.name, sample.labels)).or_default();
                ensure!(sample.value >= *highest, "{sample:?} was {highest}");
                *highest = sample.value;
            }
        }
        scrapes += 1;
    }
    Ok(scrapes)
}

fn exact_while_ports_come_and_go() -> Result<()> {
    // An emulated machine is slow.
    let rounds = if is_guest() { 2 } else { 3 };
    const BEFORE: usize = 20;
    const AFTER: usize = 10;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    here.bridge("br0")?;
    here.bridge("br1")?;
    let witnesses = [witness(&here, &there, "br0")?, witness(&here, &there, "br1")?];
    // So few that a third round gets counters that others have left.
    let agent = Agent::start(&here, &["--max-interfaces", "120"])?;
    let is_ours = |frame: &[u8]| frame.starts_with(&ELSEWHERE);
    let round = || -> Result<()> {
        for port in 0..PORTS {
            veth(End::new(&here, &format!("x{port}")), End::new(&there, &format!("p{port}")))?;
            here.enslave(&format!("x{port}"), "br0")?;
        }
        has_ports(&agent, "br0", PORTS + 1)?;
        (0..PORTS).try_for_each(|port| through(&there, port, BEFORE))?;
        witnesses[0].receive_bytes(PORTS * BEFORE, is_ours)?;
        // What has just been counted is read by nobody before these are gone.
        (0..PORTS).step_by(2).try_for_each(|port| here.delete(&format!("x{port}")))?;
        (1..PORTS).step_by(2).try_for_each(|port| here.enslave(&format!("x{port}"), "br1"))?;
        has_ports(&agent, "br1", PORTS / 2 + 1)?;
        (1..PORTS).step_by(2).try_for_each(|port| through(&there, port, AFTER))?;
        witnesses[1].receive_bytes(PORTS / 2 * AFTER, is_ours)?;
        (1..PORTS).step_by(2).try_for_each(|port| here.delete(&format!("x{port}")))
    };
    let done = AtomicBool::new(false);
    let scrapes = thread::scope(|scope| {
        let scraper = scope.spawn(|| none_falls(&agent, &done));
        let churned = (0..rounds).try_for_each(|at| round().with_context(|| format!("round {at}")));
        done.store(true, Ordering::Relaxed);
        let scrapes = scraper.join().map_err(|_| anyhow!("the scraper panicked"))?;
        churned?;
        scrapes
    })?;
    ensure!(scrapes > rounds, "{scrapes} scrapes");
    let bytes = frame().len();
    for (bridge, frames) in [("br0", rounds * PORTS * BEFORE), ("br1", rounds * PORTS / 2 * AFTER)] {
        has_ports(&agent, bridge, 1)?;
        let counted = Counts::of(&agent.metrics()?, &format!("{bridge}/ports"), "ingress");
        let expected = Counts::new(frames as u64, (frames * bytes) as u64);
        ensure!(counted == expected, "{bridge}: {counted:?}, not {expected:?}, after {scrapes} scrapes");
    }
    lost_nothing(&agent)?;
    agent.stop()
}

fn drops_and_malformed_stay() -> Result<()> {
    const COUNT: usize = 100;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    here.bridge("br0")?;
    let witness = witness(&here, &there, "br0")?;
    let agent = Agent::start(&here, &[])?;
    // A bridge drops what has a group's address as its source.
    let unlawful = ethernet(ELSEWHERE, [3, 0, 0, 0, 0, 1]).ip4().udp(1, 2).payload(50).bytes();
    let mut malformed = ethernet(ELSEWHERE, A).ip4().tcp(1, 2).payload(50).bytes();
    // A header of four words.
    malformed[14 + 20 + 12] = 0x40;
    for round in 1..=2_usize {
        veth(End::new(&here, "x0"), End::new(&there, "p0"))?;
        here.enslave("x0", "br0")?;
        has_ports(&agent, "br0", 2)?;
        let sender = PacketSocket::sender(&there, "p0")?;
        sender.send_copies(&unlawful, COUNT)?;
        sender.send_copies(&malformed, COUNT)?;
        witness.receive_bytes(COUNT, |frame| frame.starts_with(&ELSEWHERE))?;
        here.delete("x0")?;
        has_ports(&agent, "br0", 1)?;
        let metrics = agent.metrics()?;
        let sum =
            |name: &str, more: &[(&str, &str)]| metrics.sum(name, &[&[("interface", "br0/ports")], more].concat());
        let found = [
            sum("lossprobe_dropped_packets_total", &[("netns", "own")]),
            sum("lossprobe_malformed_frames_total", &[("reason", "tcp_doff"), ("direction", "ingress")]),
        ];
        ensure!(found == [(round * COUNT) as f64; 2], "after round {round}: {found:?}");
        let own =
            metrics.samples().iter().filter(|sample| sample.labels.get("interface").is_some_and(|name| name == "x0"));
        ensure!(own.count() == 0, "the port has series of its own");
    }
    lost_nothing(&agent)?;
    agent.stop()
}

/// What a port counts outside of its bridge is not the bridge's, and what it counted inside stays.
fn a_port_that_leaves() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    here.bridge("br0")?;
    let witness = witness(&here, &there, "br0")?;
    veth(End::new(&here, "x0"), End::new(&there, "p0"))?;
    let agent = Agent::start(&here, &[])?;
    let reaches = |name: &str, frames: u64| {
        let expected = Counts::new(frames, frames * frame().len() as u64);
        eventually(SOON, &format!("{name} has counted {frames}"), || {
            let counted = Counts::of(&agent.metrics()?, name, "ingress");
            ensure!(counted == expected, "{counted:?}");
            Ok(())
        })
    };
    through(&there, 0, 10)?;
    reaches("x0", 10)?;
    here.enslave("x0", "br0")?;
    has_ports(&agent, "br0", 2)?;
    reaches("br0/ports", 0)?;
    through(&there, 0, 20)?;
    witness.receive_bytes(20, |frame| frame.starts_with(&ELSEWHERE))?;
    reaches("br0/ports", 20)?;
    here.release("x0")?;
    has_ports(&agent, "br0", 1)?;
    // Its own series has all of it.
    reaches("x0", 30)?;
    through(&there, 0, 5)?;
    reaches("x0", 35)?;
    reaches("br0/ports", 20)?;
    // The bridge goes, and so does its group's gauge, later its sums.
    here.rename_down("br0", "br9")?;
    here.enslave("x0", "br9")?;
    has_ports(&agent, "br9", 2)?;
    through(&there, 0, 7)?;
    witness.receive_bytes(7, |frame| frame.starts_with(&ELSEWHERE))?;
    reaches("br9/ports", 7)?;
    reaches("br0/ports", 20)?;
    agent.stop()
}

fn series_of(metrics: &Metrics) -> BTreeMap<&str, usize> {
    let mut series = BTreeMap::new();
    for sample in metrics.samples() {
        *series.entry(sample.labels.get("interface").map_or("", String::as_str)).or_default() += 1;
    }
    series
}

/// At most 150 for an uplink, 12 for any other.
fn series_are_few() -> Result<()> {
    const MANY: usize = 100;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    here.bridge("br0")?;
    veth(End::new(&here, "eth0"), End::new(&there, "far"))?;
    here.default_route(&["eth0"])?;
    for port in 0..MANY {
        veth(End::new(&here, &format!("x{port}")), End::new(&there, &format!("p{port}")))?;
        here.enslave(&format!("x{port}"), "br0")?;
    }
    for (how, interfaces) in [("aggregate", 3), ("each", 2 + MANY), ("none", 2)] {
        // Some kernels put tunnel devices into every namespace.
        let ours = ["--interface", "br0", "--interface", "eth0", "--interface", "x*"];
        let agent = Agent::start(&here, &[&ours[..], &["--ports", how]].concat())?;
        has_ports(&agent, "br0", MANY)?;
        (0..MANY).try_for_each(|port| through(&there, port, 1))?;
        let metrics = agent.metrics()?;
        let series = series_of(&metrics);
        // The loopback is named by what the kernel dropped there.
        let named: BTreeMap<_, _> = series.iter().filter(|(name, _)| !["", "lo"].contains(name)).collect();
        println!(
            "--ports {how}: {} series in all, {} of eth0, {:?} of br0/ports, {:?} of x7",
            metrics.samples().len(),
            series["eth0"],
            series.get("br0/ports"),
            series.get("x7")
        );
        ensure!(named.len() == interfaces, "--ports {how}: series of {:?}", named.keys());
        ensure!(series["eth0"] <= 150, "{} series of an uplink", series["eth0"]);
        let rest: Vec<_> = named.iter().filter(|(name, count)| **name != &"eth0" && ***count > 12).collect();
        ensure!(rest.is_empty(), "more than 12 series of one: {rest:?}");
        // The JSON form has every port, and its group, in any case.
        let snapshot = agent.json("/api/v1/snapshot")?;
        let ports =
            snapshot["interfaces"].as_array().context("none")?.iter().filter(|one| one["role"] == "port").count();
        ensure!((ports, &snapshot["port_groups"][0]["ports"]) == (MANY, &Value::from(MANY)), "{ports} ports");
        agent.stop()?;
    }
    Ok(())
}
