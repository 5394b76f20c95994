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
pub(super) fn lost_nothing(agent: &Agent<'_>) -> Result<()> {
    lost_nothing_else(agent, |_| false)
}

/// The same, but for events that a program `excused` was skipped for.
///
/// A kernel skips a program of a tracepoint that it would enter inside itself: where a socket's owner sends again and an
/// interrupt sends for another socket. What depends on such a program only by name may excuse it.
pub(super) fn lost_nothing_else(agent: &Agent<'_>, excused: impl Fn(&str) -> bool) -> Result<()> {
    let metrics = agent.metrics()?;
    for name in ["lossprobe_program_missed_total", "lossprobe_map_update_failed_total"] {
        // A frame whose sender has no place is counted all the same.
        let is_lost = |sample: &&Sample| {
            let label = |name, is: &dyn Fn(&str) -> bool| sample.labels.get(name).is_some_and(|value| is(value));
            sample.value != 0.0 && !label("program", &excused) && !label("map", &|map| map == "senders")
        };
        let lost: Vec<_> = metrics.select(name, &[]).filter(is_lost).collect();
        ensure!(lost.is_empty(), "the agent has lost something: {lost:?}");
    }
    Ok(())
}
