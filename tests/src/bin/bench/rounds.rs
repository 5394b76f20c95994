//! Rounds: as many as the figures need, with a line of progress.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tests::statistics::{Estimate, median_of};

/// Rounds at least: with seven, the extremes enclose the median with 98 % confidence.
const FEWEST: usize = 7;
/// Rounds at most, however noisy the machine.
const MOST: usize = 30;
/// After this time no more rounds than the fewest: a busy machine makes each of them longer, too.
const LONG_ENOUGH: Duration = Duration::from_secs(60);
/// Enough is known when the interval is narrower than this share of the median.
const ENOUGH: f64 = 0.02;

/// What was selected, and the line that says how far it is.
pub(crate) struct Bench {
    filters: Vec<String>,
    progress: ProgressBar,
}

impl Bench {
    pub(crate) fn new(filters: Vec<String>) -> Self {
        // On standard error, and nowhere when that is no terminal.
        let progress = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(200));
        Self { filters, progress }
    }

    pub(crate) fn filters(&self) -> &[String] {
        &self.filters
    }

    pub(crate) fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// One line for whoever waits.
    pub(crate) fn say(&self, line: &str) {
        self.progress.suspend(|| eprintln!("{line}"));
    }

    /// Whether `part/name` was asked for.
    pub(crate) fn wants(&self, part: &str, name: &str) -> bool {
        let name = format!("{part}/{name}");
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Repeats `round`, which is given its number, until it has been enough.
    pub(crate) fn rounds<T>(
        &self,
        what: &str,
        is_enough: impl Fn(&[T]) -> bool,
        mut round: impl FnMut(usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut rounds, started) = (Vec::new(), Instant::now());
        if self.progress.is_hidden() {
            self.say(&format!("{what} …"));
        }
        let may_go_on = |count| count < MOST && started.elapsed() < LONG_ENOUGH;
        while rounds.len() < FEWEST || (may_go_on(rounds.len()) && !is_enough(&rounds)) {
            let number = rounds.len();
            self.progress.set_message(format!("{what}: round {} of {FEWEST} to {MOST}", number + 1));
            rounds.push(round(number).with_context(|| format!("{what}, round {}", number + 1))?);
        }
        Ok(rounds)
    }
}

/// Whether a ratio is known well enough.
pub(crate) fn is_narrow<T>(rounds: &[T], ratio: impl Fn(&T) -> f64) -> bool {
    estimate(rounds, ratio).spread() < ENOUGH
}

/// One figure over all rounds.
pub(crate) fn estimate<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Estimate {
    Estimate::of(rounds.iter().map(figure))
}

/// How long `step` takes, once it has been done `count` times: the median, because a step is short against the time
/// that a scheduler gives to others.
pub(crate) fn seconds_per_step(count: usize, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        step()?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(median_of(times))
}
