//! Waiting for a condition with a deadline, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Between two looks: short against every deadline, long against the cost of a scrape.
const POLL: Duration = Duration::from_millis(20);

/// How long what was closed here may still be held: while another thread starts a program, that has a copy until it runs.
pub const HELD: Duration = Duration::from_secs(2);

/// Repeats `attempt` until it succeeds and returns its value; an error is a reason to look again.
///
/// # Errors
/// The last error of `attempt`, with `what` and the deadline, when it has not succeeded in time.
pub fn eventually<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("not reached within {deadline:?}: {what}"));
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Repeats `read` until it gives the same value for `quiet` and returns that value: the traffic has come to rest.
///
/// # Errors
/// An error of `read` at once; the last two values when they still differ after `deadline`.
pub fn settled<T: PartialEq + std::fmt::Debug>(
    deadline: Duration,
    quiet: Duration,
    mut read: impl FnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut value = read()?;
    let mut since = Instant::now();
    while since.elapsed() < quiet {
        thread::sleep(POLL);
        let now = read()?;
        if now != value {
            anyhow::ensure!(started.elapsed() < deadline, "still moving after {deadline:?}: {value:?}, then {now:?}");
            value = now;
            since = Instant::now();
        }
    }
    Ok(value)
}
