//! What an agent has counted, against what must be there.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{
    agent::Agent,
    metrics::{Metrics, Sample},
    wait::{eventually, settled},
};

/// Frames on the wire are counted before the sender's call returns, but not before the receiver's softirq.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// Frames and wire bytes of one interface and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) frames: f64,
    pub(super) bytes: f64,
}

impl Counts {
    pub(super) fn of(metrics: &Metrics, interface: &str, direction: &str) -> Self {
        let labels = [("interface", interface), ("direction", direction)];
        let sum = |name| metrics.sum(name, &labels);
        Self { frames: sum("lossprobe_frames_total"), bytes: sum("lossprobe_bytes_total") }
    }

    pub(super) fn new(frames: u64, bytes: u64) -> Self {
        Self { frames: frames as f64, bytes: bytes as f64 }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { frames: self.frames - before.frames, bytes: self.bytes - before.bytes }
    }
}

/// Runs `traffic` and expects exactly these counts of an interface and direction to be added by it, and no more.
pub(super) fn counts_exactly(
    agent: &Agent<'_>,
    (interface, direction): (&str, &str),
    expected: Counts,
    traffic: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let now = || Ok(Counts::of(&agent.metrics()?, interface, direction));
    let before = now()?;
    traffic()?;
    let what = format!("{interface} {direction} has counted {expected:?}");
    eventually(SOON, &what, || {
        let counted = now()?.since(before);
        ensure!(counted == expected, "counted {counted:?}");
        Ok(())
    })?;
    let rest = settled(SOON, Duration::from_millis(100), now)?.since(before);
    ensure!(rest == expected, "{what}, and then more: {rest:?}");
    Ok(())
}

/// The agent has lost nothing itself: no event skipped, no map full.
///
/// But for drops and retransmissions, which may be any namespace's. A kernel skips a program of a tracepoint that it would
/// enter inside itself: where a socket's owner sends again or lets a segment fall, and an interrupt does for another socket.
/// Whoever compares figures of them allows for it, see [`missed_retransmits`].
pub(super) fn lost_nothing(agent: &Agent<'_>) -> Result<()> {
    const OF_ANY_NAMESPACE: [&str; 2] = ["drop", RETRANSMIT];
    let metrics = agent.metrics()?;
    for name in [MISSED, "lossprobe_map_update_failed_total"] {
        // A frame whose sender has no place is counted all the same.
        let is_lost = |sample: &&Sample| {
            let is_anybodys = OF_ANY_NAMESPACE.iter().any(|part| is_of(sample, part));
            let is_sender = sample.labels.get("map").is_some_and(|map| map == "senders");
            sample.value != 0.0 && !is_anybodys && !is_sender
        };
        let lost: Vec<_> = metrics.select(name, &[]).filter(is_lost).collect();
        ensure!(lost.is_empty(), "the agent has lost something: {lost:?}");
    }
    Ok(())
}

const MISSED: &str = "lossprobe_program_missed_total";
/// In the names of the programs of segments that are sent again.
const RETRANSMIT: &str = "retx";

fn is_of(sample: &Sample, part: &str) -> bool {
    sample.labels.get("program").is_some_and(|program| program.contains(part))
}

/// Retransmissions, of any namespace, that the agent could not count. To be asked after what it has counted.
pub(super) fn missed_retransmits(agent: &Agent<'_>) -> Result<u64> {
    let metrics = agent.metrics()?;
    let missed = metrics.select(MISSED, &[]).filter(|sample| is_of(sample, RETRANSMIT));
    Ok(missed.map(|sample| sample.value as u64).sum())
}
