//! What is usual: learned from all that turned out to be nothing, forgotten with a time constant.
//!
//! A second that looks suspicious is not learned at once, and not left out either: a path that loses in bursts would
//! then seem to lose nothing. It waits until the suspicion is gone (and is learned) or has become an alarm (and is not).

use serde::{Deserialize, Serialize};

/// Time constant of a share, and of a rate.
const SHARE_MS: f64 = 1_800_000.0;
/// Time constant of dispersion and of bad seconds: an hour, or so many losses that were expected, if that is longer.
const DISPERSION_MS: f64 = 3_600_000.0;
const DISPERSION_LOSSES: f64 = 500.0;
/// What waits as long as this without an alarm is usual.
const WAITS_MS: u64 = 600_000;

/// A path of which nothing is known yet: as if it had lost a third of a percent of so many segments.
const ASSUMED_PASSED: f64 = 30_000.0;
const ASSUMED_LOST: f64 = 100.0;
/// And as if its losses came in bursts of ten: variance over mean, of so many losses expected.
const ASSUMED_DISPERSION: f64 = 20.0;
const ASSUMED_EXPECTED: f64 = 2.0;
/// And as if one second in ten were bad, of so many.
const ASSUMED_SECONDS: f64 = 30.0;
const ASSUMED_BAD: f64 = 3.0;

/// A path that has lost nothing yet can lose something.
const LEAST_SHARE: f64 = 1e-6;
/// Bad seconds there are on every path.
const LEAST_BAD: f64 = 0.01;

/// What one second has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brought {
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// Lost.
    pub lost: f64,
    /// Of so many.
    pub passed: f64,
    /// Whether more was lost than is usual, by a margin; `None` where too little has passed to say so.
    pub bad: Option<bool>,
}

/// What a path usually loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What is assumed, as far as it is not forgotten.
    assumed: Assumed,
    learned: Sums,
    #[serde(skip)]
    waiting: Sums,
    #[serde(skip)]
    waiting_ms: u64,
    #[serde(skip)]
    was_bad: bool,
}

/// How much of the assumptions still counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Assumed {
    share: f64,
    dispersion: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    lost: f64,
    passed: f64,
    /// Squares of what differs from what was expected.
    squares: f64,
    expected: f64,
    bad: f64,
    /// Bad seconds behind one that was not.
    runs: f64,
    seconds: f64,
}

impl Default for Assumed {
    fn default() -> Self {
        Self { share: 1.0, dispersion: 1.0 }
    }
}

impl Baseline {
    /// One that takes `share` for usual, and knows nothing else.
    #[must_use]
    pub fn of(share: f64) -> Self {
        let learned = Sums { lost: share * ASSUMED_PASSED, passed: ASSUMED_PASSED, ..Sums::default() };
        Self { learned, assumed: Assumed { share: 0.0, dispersion: 1.0 }, ..Self::default() }
    }

    /// The share that was lost so far; of nothing, nothing.
    #[must_use]
    pub fn learned(&self) -> f64 {
        if self.learned.passed > 0.0 { self.learned.lost / self.learned.passed } else { 0.0 }
    }

    /// The share that has to be reckoned with: one more train of losses may be under way.
    #[must_use]
    pub fn share(&self) -> f64 {
        let lost = self.learned.lost + self.assumed.share * ASSUMED_LOST;
        let passed = self.learned.passed + self.assumed.share * ASSUMED_PASSED;
        (lost.max(self.dispersion()) / passed).clamp(LEAST_SHARE, 0.5)
    }

    /// Variance of what is lost in a second over its mean: 1 if losses are independent, the more the longer their trains are.
    #[must_use]
    pub fn dispersion(&self) -> f64 {
        let expected = self.learned.expected + self.assumed.dispersion * ASSUMED_EXPECTED;
        let squares = self.learned.squares + self.assumed.dispersion * ASSUMED_EXPECTED * ASSUMED_DISPERSION;
        (squares / expected).max(1.0)
    }

    /// The share of seconds that are bad.
    #[must_use]
    pub fn bad_share(&self) -> f64 {
        let bad = self.learned.bad + self.assumed.dispersion * ASSUMED_BAD;
        (bad / (self.learned.seconds + self.assumed.dispersion * ASSUMED_SECONDS)).max(LEAST_BAD)
    }

    /// How many bad seconds come together.
    #[must_use]
    pub fn bad_together(&self) -> f64 {
        let (bad, runs) = (self.learned.bad, self.learned.runs);
        let assumed = self.assumed.dispersion * ASSUMED_BAD;
        (bad + assumed) / (runs + assumed)
    }

    /// Learns a second, or, if it is suspicious, lets it wait.
    pub fn learn(&mut self, second: Brought, suspicious: bool) {
        if second.passed <= 0.0 {
            return;
        }
        let expected = second.passed * self.share();
        let differs = second.lost - expected;
        self.waiting.add(&Sums {
            lost: second.lost,
            passed: second.passed,
            squares: differs * differs,
            expected,
            bad: one_if(second.bad == Some(true)),
            runs: one_if(second.bad == Some(true) && !self.was_bad),
            seconds: one_if(second.bad.is_some()),
        });
        self.was_bad = second.bad == Some(true);
        self.waiting_ms += second.duration_ms;
        if suspicious && self.waiting_ms < WAITS_MS {
            return;
        }
        let share = (-(self.waiting_ms as f64) / SHARE_MS).exp();
        let time = self.waiting_ms as f64 / DISPERSION_MS;
        let dispersion = (-time.min(self.waiting.expected / DISPERSION_LOSSES)).exp();
        self.learned.fade(share, dispersion);
        self.assumed.share *= share;
        self.assumed.dispersion *= dispersion;
        self.learned.add(&self.waiting);
        self.forget();
    }

    /// What waits was unusual.
    pub fn forget(&mut self) {
        (self.waiting, self.waiting_ms) = (Sums::default(), 0);
    }

    /// Whether anything can have been learned so.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let Self { assumed, learned: Sums { lost, passed, squares, expected, bad, runs, seconds }, .. } = *self;
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let sums = [lost, passed, squares, expected, bad, runs, seconds];
        // Something is always assumed, and divided by.
        is_share(assumed.share)
            && is_share(assumed.dispersion)
            && assumed.dispersion > 0.0
            && sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0)
    }
}

fn one_if(it_is: bool) -> f64 {
    if it_is { 1.0 } else { 0.0 }
}

impl Sums {
    fn add(&mut self, more: &Self) {
        self.lost += more.lost;
        self.passed += more.passed;
        self.squares += more.squares;
        self.expected += more.expected;
        self.bad += more.bad;
        self.runs += more.runs;
        self.seconds += more.seconds;
    }

    fn fade(&mut self, share: f64, dispersion: f64) {
        self.lost *= share;
        self.passed *= share;
        self.squares *= dispersion;
        self.expected *= dispersion;
        self.bad *= dispersion;
        self.runs *= dispersion;
        self.seconds *= dispersion;
    }
}
