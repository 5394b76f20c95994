//! What should not be there at all comes, or more of it than usual.

use serde::{Deserialize, Serialize};

use super::{
    Tick,
    share::SHORT_MS,
    state::{Alarm, State},
    window::{LONG_MS, Sum, Window},
};

/// Over which it is counted.
const COUNTED_MS: u64 = 10_000;
/// What is worth an alarm where there is usually nothing. Where one comes in a hundred seconds, chance brings as many once in
/// some years.
const LEAST: f64 = 5.0;
/// Time constant of what is usual.
const USUAL_MS: f64 = 1_800_000.0;
/// Nothing came for so long before the agent's start, as far as is known.
const ASSUMED_MS: f64 = 60_000.0;
/// What waits as long as this without an alarm is usual.
const WAITS_MS: u64 = 600_000;

/// One detector.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    usual: Usual,
    waiting: Sum,
    window: Window,
    alarm: Alarm,
}

/// So many came in so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    count: f64,
    ms: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self { count: 0.0, ms: ASSUMED_MS }
    }
}

impl Usual {
    /// See [`Learned::is_sound`](super::Learned::is_sound).
    pub(super) fn is_sound(&self) -> bool {
        self.count.is_finite() && self.count >= 0.0 && self.ms.is_finite() && self.ms > 0.0
    }
}

impl Count {
    /// One that knows what is usual.
    pub(super) fn knowing(usual: Usual) -> Self {
        Self { usual, ..Self::default() }
    }

    /// What is usual.
    pub(super) const fn usual(&self) -> Usual {
        self.usual
    }

    /// Takes how many came. What goes on for `longest_ms` is usual.
    pub(super) fn add(&mut self, tick: Tick, count: u64, longest_ms: u64) -> State {
        let now = Sum { duration_ms: tick.duration_ms, lost: count, passed: 0 };
        self.window.add(tick.now_ms, now);
        let score = self.window.of(tick.now_ms, COUNTED_MS).lost as f64;
        let threshold = self.threshold();
        let long = self.window.of(tick.now_ms, LONG_MS);
        match self.alarm.lasted_ms(tick.now_ms) {
            Some(lasted) if lasted >= longest_ms => {
                let rate = long.lost as f64 / long.duration_ms.max(1) as f64;
                let usual = Usual { count: rate * USUAL_MS, ms: USUAL_MS };
                (self.alarm, self.usual) = (Alarm::default(), usual);
            }
            Some(_) => {
                self.alarm.ends(tick, Some((long.lost as f64) < threshold));
            }
            None if score >= threshold => {
                let onset_ms = self.window.onset_ms(tick.now_ms, COUNTED_MS);
                self.alarm.begin(tick.now_ms, onset_ms.unwrap_or(tick.now_ms));
                self.waiting = Sum::default();
            }
            None => self.learn(now, score >= threshold / 2.0),
        }
        let short = self.window.of(tick.now_ms, SHORT_MS);
        State {
            score,
            threshold,
            times: self.alarm.times,
            baseline: self.usual.count / self.usual.ms * 1_000.0,
            ratio: Some(short.lost as f64 / short.duration_ms.max(1) as f64 * 1_000.0),
            has_stopped: false,
        }
    }

    /// Forgets all but what is usual.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::knowing(self.usual);
    }

    /// Three times the usual, and far enough beyond it that chance alone does not reach it in years.
    fn threshold(&self) -> f64 {
        let usual = self.usual.count / self.usual.ms * COUNTED_MS as f64;
        (3.0 * usual + 8.0 * usual.sqrt()).max(LEAST).ceil()
    }

    /// Learns what has turned out to be nothing.
    fn learn(&mut self, now: Sum, suspicious: bool) {
        self.waiting.lost += now.lost;
        self.waiting.duration_ms += now.duration_ms;
        let waited_ms = self.waiting.duration_ms;
        if waited_ms < WAITS_MS && (suspicious || waited_ms < COUNTED_MS) {
            return;
        }
        let fade = (-(waited_ms as f64) / USUAL_MS).exp();
        self.usual.count = self.usual.count * fade + self.waiting.lost as f64;
        self.usual.ms = self.usual.ms * fade + waited_ms as f64;
        self.waiting = Sum::default();
    }
}
