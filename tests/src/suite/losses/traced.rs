//! The same drops, counted by the agent and by bpftrace at the same time, in the same namespace.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    bpftrace::{Bpftrace, by_reason_and_device, reason_names},
    frames::Frame,
    run::requires_kernel,
    topology::Routed,
    wait::{eventually, settled},
    wire::PacketSocket,
};

use super::{
    ledger::{COUNT, Mechanism, NO_CLASSES, Way, losses, note},
    network::MECHANISMS,
};
use crate::suite::counts::SOON;

/// By which bpftrace shows that it has begun; it is left out of the comparison.
const FIRST: &str = "unhandled_proto";

/// All mechanisms whose packets are copies of one frame from the client, one after the other.
pub(super) fn as_bpftrace_counts_them() -> Result<()> {
    requires_kernel(5, 17, "drop reasons")?;
    let net = Routed::new()?;
    let Routed { client, router, .. } = &net;
    let names = reason_names(router)?;
    let agent = Agent::start(router, &["--interface", "*", "--ports", "each"])?;
    let sender = PacketSocket::sender(client, "c")?;
    let send = |frame: &Frame, count: u64| sender.send_copies(&frame.bytes(), count as usize);
    let (first, mechanisms): (Vec<_>, Vec<_>) = MECHANISMS.iter().partition(|mechanism| mechanism.reason == FIRST);
    let first = first.into_iter().find_map(copied).context("no mechanism to begin with")?;
    let before = drops(&agent)?;
    let bpftrace = Bpftrace::start(router, &by_reason_and_device(router)?, || send(&first, 1))?;
    let mut made: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (mechanism, frame) in mechanisms.into_iter().filter_map(|mechanism| Some((mechanism, copied(mechanism)?))) {
        let _filter = match mechanism.way {
            Way::Filtered(chains, _) => Some(router.filter("ip t", chains)?),
            Way::Frame(..) | Way::Own(..) => None,
        };
        send(&frame, COUNT).context(mechanism.name)?;
        *made.entry((mechanism.interface.to_owned(), mechanism.reason.to_owned())).or_default() += COUNT;
    }
    let since = || -> Result<BTreeMap<_, _>> {
        let now = drops(&agent)?.into_iter();
        let grown = now.map(|(key, count)| (key.clone(), count - before.get(&key).unwrap_or(&0)));
        Ok(grown.filter(|(_, count)| *count > 0).collect())
    };
    let all = made.values().sum::<u64>();
    eventually(SOON, "all are counted", || {
        let counted = since()?.values().sum::<u64>();
        ensure!(counted >= all, "{counted} of {all}");
        Ok(())
    })?;
    let ours = settled(SOON, Duration::from_millis(100), since)?;
    let mut theirs = BTreeMap::new();
    for (key, count) in bpftrace.stop()? {
        let (number, device) = key.split_once(", ").with_context(|| format!("bpftrace counts by {key:?}"))?;
        let name = names.get(number).with_context(|| format!("the kernel has no reason {number}"))?;
        theirs.insert((device.to_owned(), name.to_lowercase()), count as u64);
    }
    theirs.retain(|(device, reason), _| device != "lo" && reason != FIRST);
    ensure!(ours == theirs, "the agent has counted {ours:?}, bpftrace {theirs:?}");
    ensure!(ours.values().sum::<u64>() == all, "made {made:?}, counted {ours:?}");
    note(ours.into_iter().map(|((interface, reason), count)| {
        // A kernel that lacks a name counts them under another one.
        let made = made.get(&(interface.clone(), reason.clone())).map_or(String::new(), u64::to_string);
        let witness = format!("{count} by bpftrace");
        [
            "beside bpftrace".to_owned(),
            made,
            count.to_string(),
            reason,
            String::new(),
            interface,
            witness,
            "equal".to_owned(),
        ]
    }));
    agent.stop()
}

fn copied(mechanism: &Mechanism) -> Option<Frame> {
    match mechanism.way {
        Way::Frame(frame, _) | Way::Filtered(_, frame) => Some(frame()),
        Way::Own(..) => None,
    }
}

/// By interface and reason, but for what bpftrace begins with.
fn drops(agent: &Agent<'_>) -> Result<BTreeMap<(String, String), u64>> {
    let mut drops = BTreeMap::new();
    for ((interface, reason, class), count) in losses(agent)? {
        if !NO_CLASSES.contains(&class.as_str()) && reason != FIRST {
            *drops.entry((interface, reason)).or_default() += count;
        }
    }
    Ok(drops)
}
