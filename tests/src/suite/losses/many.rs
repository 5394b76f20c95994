//! A hundred interfaces that lose packets at the same time, 10,000 a second in all, by one mechanism after the other:
//! each interface gets what is its own, and no map was full or busy.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    link::{End, veth},
    namespace::Namespace,
    topology::{ROUTER1_MAC, Routed},
    wait::eventually,
    wire::PacketSocket,
};

use super::{
    ledger::{Line, Mechanism, Way, losses, note},
    network, sockets,
};
use crate::suite::counts::{SOON, lost_nothing};

const INTERFACES: u64 = 100;
/// Packets that each of them loses by each mechanism, one every 10 ms.
const EACH: u64 = 100;
const PACE: Duration = Duration::from_millis(10);

pub(super) fn many_interfaces() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, .. } = &net;
    let mut senders = vec![PacketSocket::sender(client, "c")?];
    for number in 2..=INTERFACES {
        let (outer, inner) = (format!("c{number}"), format!("r1-{number}"));
        veth(End::new(client, &outer), End::new(router, &inner).mac(ROUTER1_MAC))?;
        senders.push(PacketSocket::sender(client, &outer)?);
    }
    // More room than for so few interfaces, because each loses by so many mechanisms.
    let agent = Agent::start(router, &["--interface", "*", "--ports", "each", "--max-interfaces", "256"])?;
    for mechanism in network::MECHANISMS.iter().chain(sockets::MECHANISMS) {
        note(lose(&agent, router, &senders, mechanism).with_context(|| mechanism.name)?);
    }
    lost_nothing(&agent)?;
    let metrics = agent.metrics()?;
    let of_drops = |name| metrics.get(name, &[("map", "drops")]).with_context(|| format!("no {name}"));
    let (entries, capacity) = (of_drops("lossprobe_map_entries")?, of_drops("lossprobe_map_capacity")?);
    ensure!(entries >= 1000.0 && entries < capacity, "{entries} of {capacity} entries");
    agent.stop()
}

/// Only mechanisms whose packets are copies of one frame; the others need an arrangement of their own.
fn lose(
    agent: &Agent<'_>,
    router: &Namespace,
    senders: &[PacketSocket],
    mechanism: &Mechanism,
) -> Result<Option<Line>> {
    let (frame, _filter) = match mechanism.way {
        Way::Frame(frame, _) => (frame(), None),
        Way::Filtered(chains, frame) => (frame(), Some(router.filter("ip t", chains)?)),
        Way::Own(..) => return Ok(None),
    };
    let bytes = frame.bytes();
    let before = by_interface(agent, mechanism)?;
    let started = Instant::now();
    for round in 1..=EACH as u32 {
        senders.iter().try_for_each(|sender| sender.send([&bytes]))?;
        // A pace, not a wait: the rate is what is tested.
        thread::sleep((PACE * round).saturating_sub(started.elapsed()));
    }
    let seconds = started.elapsed().as_secs_f64();
    let counted = eventually(SOON, "every interface has its own", || {
        let now = by_interface(agent, mechanism)?;
        let since = |name: &String, count: &u64| count - before.get(name).unwrap_or(&0);
        let grown: BTreeMap<_, _> = now.iter().map(|(name, count)| (name, since(name, count))).collect();
        let right = grown.values().filter(|count| **count == EACH).count() as u64;
        ensure!(right == INTERFACES, "{right} of {INTERFACES} interfaces have {EACH}: {grown:?}");
        Ok(grown.values().sum::<u64>())
    })?;
    Ok(Some([
        mechanism.name.to_owned(),
        (EACH * INTERFACES).to_string(),
        counted.to_string(),
        mechanism.reason.to_owned(),
        mechanism.class.to_owned(),
        format!("{INTERFACES} veths"),
        format!("{:.0} a second", counted as f64 / seconds),
        "equal".to_owned(),
    ]))
}

/// Drops that may be the mechanism's.
fn by_interface(agent: &Agent<'_>, mechanism: &Mechanism) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for ((interface, reason, class), count) in losses(agent)? {
        if mechanism.is_right(&reason, &class) {
            *counts.entry(interface).or_default() += count;
        }
    }
    Ok(counts)
}
