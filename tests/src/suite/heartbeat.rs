//! Programs count only while their agent lives: what a killed one leaves behind below Linux 6.6 does nothing.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use probe_ebpf::abi::INERT_AFTER_SECONDS;
use tests::{
    agent::Agent,
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::counts::{Counts, SOON, counts_exactly};

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("heartbeat::programs_rest_without_it", programs_rest_without_it)]
}

/// An agent that is stopped is to its programs as one that is dead.
fn programs_rest_without_it() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let (frames, frame_bytes) = (100, 14 + 20 + 8 + 10);
    let send = |frames| left.send_udp((RIGHT, 5000), frames, 10);
    let expected = Counts::new(frames as u64, (frames * frame_bytes) as u64);
    counts_exactly(&agent, ("b", "ingress"), expected, || send(frames))?;
    agent.signal(Signal::SIGSTOP)?;
    // The time is what is tested; jiffies may be 10 ms long.
    thread::sleep(Duration::from_secs(INERT_AFTER_SECONDS) + Duration::from_millis(500));
    let unseen = send(frames);
    agent.signal(Signal::SIGCONT)?;
    unseen?;
    let counted = eventually(SOON, "frames are counted again", || {
        send(1)?;
        let counted = Counts::of(&agent.metrics()?, "b", "ingress");
        ensure!(counted != expected, "still {counted:?}");
        Ok(counted)
    })?;
    eventually(SOON, "the agent tells of the time in which nothing was counted", || {
        ensure!(agent.snapshot()?.probe.uncounted_ms > 0, "it does not");
        Ok(())
    })?;
    ensure!(counted.frames < 2.0 * expected.frames, "{counted:?}: what passed while the agent stood still is among it");
    agent.stop()
}
