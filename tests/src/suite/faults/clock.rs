//! A clock that is set while the agent runs. In a guest only: no other machine has a clock of its own to set.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};
use tests::{
    agent::Agent,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::{super::counts::SOON, Folder, counts, unwritten};

/// The time of day, which is right again when this is dropped.
struct Shifted(i64);

impl Shifted {
    fn by(seconds: i64) -> Result<Self> {
        let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec()))
            .context("set the clock")?;
        Ok(Self(seconds))
    }
}

impl Drop for Shifted {
    fn drop(&mut self) {
        if let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME) {
            let back = TimeSpec::new(now.tv_sec() - self.0, now.tv_nsec());
            let _refused = clock_settime(ClockId::CLOCK_REALTIME, back);
        }
    }
}

/// Forwards and backwards: counting goes on, nothing is taken for a time in which nobody counted, and what is told from then on
/// has the new time. (What becomes of incidents is told without a machine, in the agent's own tests.)
pub(super) fn clock_is_set() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("clock")?;
    let agent = Agent::start(&pair.right, &["--interface", "b", "--state-dir", folder.text()?])?;
    counts(&pair, &agent, 100)?;
    for seconds in [86_400, -86_400, -7 * 86_400, 40] {
        let _shifted = Shifted::by(seconds)?;
        counts(&pair, &agent, 100).with_context(|| format!("the clock was set by {seconds} s"))?;
        eventually(SOON, "a snapshot has the new time", || {
            let snapshot = agent.snapshot()?;
            let taken: Timestamp = snapshot.time.parse()?;
            let age = Timestamp::now().duration_since(taken);
            ensure!(age.abs() < SignedDuration::from_secs(5), "set by {seconds} s, a snapshot is {age:?} old");
            ensure!(snapshot.probe.uncounted_ms == 0, "{} ms are said to be uncounted", snapshot.probe.uncounted_ms);
            Ok(())
        })?;
    }
    eventually(Duration::from_secs(30), "the state folder is written to", || {
        ensure!(folder.0.join("month.json").is_file(), "not yet");
        Ok(())
    })?;
    ensure!(unwritten(&agent)? == 0.0, "{} were not written", unwritten(&agent)?);
    agent.stop()
}
