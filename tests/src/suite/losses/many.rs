//! A hundred interfaces that lose packets at the same time, 10,000 a second in all, by one mechanism after the other:
//! each interface gets what is its own, and no map was full or busy.
//!
//! What is left out does not belong to an interface that there can be a hundred of, or its packets are no copies of one
//! frame; `tests/README.md` says which.

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
    crowd::ARRANGED,
    devices,
    ledger::{Mechanism, Way, losses, note},
    network, queues, sockets,
};
use crate::suite::counts::{SOON, lost_nothing};

const INTERFACES: u64 = 100;
/// Packets that each of them loses by each mechanism, one every 10 ms.
const EACH: u64 = 100;
const PACE: Duration = Duration::from_millis(10);

/// The router with a hundred interfaces to the client, all with the same hardware address.
pub(super) struct Crowd<'a> {
    pub(super) router: &'a Namespace,
    agent: &'a Agent<'a>,
    /// The router's side.
    pub(super) names: Vec<String>,
    /// The client's side.
    pub(super) senders: Vec<PacketSocket>,
}

pub(super) fn many_interfaces() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, .. } = &net;
    let (mut names, mut senders) = (vec!["r1".to_owned()], vec![PacketSocket::sender(client, "c")?]);
    for number in 2..=INTERFACES {
        let (outer, inner) = (format!("c{number}"), format!("r1-{number}"));
        veth(End::new(client, &outer), End::new(router, &inner).mac(ROUTER1_MAC))?;
        senders.push(PacketSocket::sender(client, &outer)?);
        names.push(inner);
    }
    // More room than for so few interfaces, because each loses by so many mechanisms; and a hundred taps.
    let agent = Agent::start(router, &["--interface", "*", "--ports", "each", "--max-interfaces", "256"])?;
    let crowd = Crowd { router, agent: &agent, names, senders };
    for mechanism in network::MECHANISMS.iter().chain(sockets::MECHANISMS) {
        crowd.lose_copies(mechanism).with_context(|| mechanism.name)?;
    }
    let all = [network::MECHANISMS, sockets::MECHANISMS, queues::MECHANISMS, devices::MECHANISMS].concat();
    for (name, arrange) in ARRANGED {
        let mechanism = all.iter().find(|mechanism| mechanism.name == *name).with_context(|| format!("no {name}"))?;
        arrange(&crowd, mechanism).with_context(|| *name)?;
    }
    lost_nothing(&agent)?;
    let metrics = agent.metrics()?;
    let of_drops = |name| metrics.get(name, &[("map", "drops")]).with_context(|| format!("no {name}"));
    let (entries, capacity) = (of_drops("lossprobe_map_entries")?, of_drops("lossprobe_map_capacity")?);
    ensure!(entries >= 1000.0 && entries < capacity, "{entries} of {capacity} entries");
    agent.stop()
}

impl Crowd<'_> {
    /// Those whose packets are copies of one frame from the client, and which need nothing else.
    fn lose_copies(&self, mechanism: &Mechanism) -> Result<()> {
        let (frame, _filter) = match mechanism.way {
            Way::Frame(frame, _) => (frame(), None),
            Way::Filtered(chains, frame) => (frame(), Some(self.router.filter("ip t", chains)?)),
            Way::Own(..) => return Ok(()),
        };
        let bytes = frame.bytes();
        self.lose(mechanism, |number| self.senders[number].send([&bytes]))
    }

    /// Sends from each of a hundred places by its number, in turns; each time one interface loses a packet.
    pub(super) fn lose(&self, mechanism: &Mechanism, send: impl Fn(usize) -> Result<()>) -> Result<()> {
        let before = self.by_interface(mechanism)?;
        let started = Instant::now();
        for round in 1..=EACH as u32 {
            (0..INTERFACES as usize).try_for_each(&send)?;
            // A pace, not a wait: the rate is what is tested.
            thread::sleep((PACE * round).saturating_sub(started.elapsed()));
        }
        let seconds = started.elapsed().as_secs_f64();
        let counted = eventually(SOON, "every interface has its own", || {
            let now = self.by_interface(mechanism)?;
            let since = |name: &String, count: &u64| count - before.get(name).unwrap_or(&0);
            let grown: BTreeMap<_, _> = now.iter().map(|(name, count)| (name, since(name, count))).collect();
            let right = grown.values().filter(|count| **count == EACH).count() as u64;
            ensure!(right == INTERFACES, "{right} of {INTERFACES} interfaces have {EACH}: {grown:?}");
            Ok(grown.values().sum::<u64>())
        })?;
        note([[
            mechanism.name.to_owned(),
            (EACH * INTERFACES).to_string(),
            counted.to_string(),
            mechanism.reason.to_owned(),
            mechanism.class.to_owned(),
            format!("{INTERFACES} interfaces"),
            format!("{:.0} a second", counted as f64 / seconds),
            "equal".to_owned(),
        ]]);
        Ok(())
    }

    /// Drops that may be the mechanism's.
    fn by_interface(&self, mechanism: &Mechanism) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for ((interface, reason, class), count) in losses(self.agent)? {
            if mechanism.is_right(&reason, &class) {
                *counts.entry(interface).or_default() += count;
            }
        }
        Ok(counts)
    }
}
