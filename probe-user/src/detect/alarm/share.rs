//! More of what passes is lost than usual.
//!
//! Four rules. Segments are weighed against what is usual, divided by their dispersion: that finds a little more loss in
//! much traffic. One second weighs no more than a third of an alarm: trains of losses are no incident. Bad seconds, how
//! ever much was lost in each, are weighed against how often there are any: that finds loss that goes on where bursts are
//! usual and hide it. A twentieth lost throughout five seconds is too much on any path. And where traffic has come to a stop
//! and most of the rest is lost, no share of many segments is needed: nothing gets through.

use super::{
    LONGEST_MS, Tick,
    state::{Alarm, State},
    window::{LONG_MS, Sum, Window},
};
use crate::{
    derive::RIPENS_AFTER,
    detect::{
        baseline::{Baseline, Brought},
        cusum::{Cusum, break_even, evidence},
    },
};

/// The smallest share that is worth an alarm on a path that loses nothing.
const LEAST_UNUSUAL: f64 = 1e-3;
/// So many times the usual is unusual.
const TIMES: f64 = 3.0;
/// So much beyond the usual makes a second bad: half of the percent that is to be noticed everywhere.
const MARGIN: f64 = 0.005;
/// Of less than this a second cannot be bad: it may be one connection that stands still.
const BAD_OF: f64 = 20.0;
/// The share of bad seconds while something is wrong.
const BAD_WHILE_WRONG: f64 = 0.8;
/// The most that one second weighs, as a part of an alarm.
const STEP: f64 = 1.0 / 3.0;
/// From this part of an alarm on a second is suspicious, and not learned yet; a bad one always is.
const SUSPICIOUS: f64 = 0.25;

/// Seconds over which what has passed is evened out: what was lost is known up to as much later.
pub(super) const SHORT_MS: u64 = 5_000;
/// The absolute rule: such a share in these seconds, most of it in every one, of so many segments.
const TOO_MUCH: f64 = 0.05;
const MOST_OF_IT: f64 = 0.8;
const TOO_MUCH_OF: u64 = 1_000;
/// The rule of what has stopped: such a part of the traffic that was is left over these seconds, and half as much as that is
/// lost. It is told later than it passed, so that what has passed before they began is none of it. Five connections each
/// send a segment again three times meanwhile.
const LITTLE: f64 = 0.25;
const LATELY_MS: u64 = 7_000;
const MOSTLY: f64 = 0.5;
const STOPPED_LEAST: u64 = 15;
/// While alarmed, less than such a part of the traffic before is a stop.
const STOPPED: f64 = 0.1;

/// One detector.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    baseline: Baseline,
    segments: Cusum,
    seconds: Cusum,
    window: Window,
    /// Milliseconds for which every second has lost most of what is too much.
    too_much_ms: u64,
    /// What passed in a second before it alarmed.
    before: f64,
    alarm: Alarm,
}

impl Share {
    /// Takes what was lost of how much.
    pub(super) fn add(&mut self, tick: Tick, lost: u64, passed: u64) -> State {
        self.window.add(tick.now_ms, Sum { duration_ms: tick.duration_ms, lost, passed });
        let short = self.window.of(tick.now_ms, SHORT_MS);
        let passed = short.passed as f64 * tick.duration_ms as f64 / short.duration_ms.max(1) as f64;
        let lost = (lost as f64).min(passed);
        let usual = self.baseline.share();
        let unusual = LEAST_UNUSUAL.max(TIMES * usual).min(0.9);
        let bad = (passed >= BAD_OF).then_some(lost > 0.0 && lost >= (usual + MARGIN) * passed);
        let second = Brought { duration_ms: tick.duration_ms, lost, passed, bad };
        self.weigh(tick, second, unusual);
        let ratio = (short.passed > 0).then(|| short.lost as f64 / short.passed as f64);
        let long = self.window.of(tick.now_ms, LONG_MS);
        let lately = self.window.of(tick.now_ms, LATELY_MS);
        let earlier = per_second(long.passed - lately.passed, long.duration_ms - lately.duration_ms);
        if let Some(lasted_ms) = self.alarm.lasted_ms(tick.now_ms) {
            // What has passed just now may yet be lost.
            let ripe = long.passed - self.window.of(tick.now_ms, RIPENS_AFTER.as_millis() as u64).passed;
            let calm = (ripe > 0).then(|| long.lost as f64 <= break_even(usual, unusual) * ripe as f64);
            if lasted_ms >= LONGEST_MS {
                *self =
                    Self { baseline: Baseline::of(long.lost as f64 / long.passed.max(1) as f64), ..Self::default() };
            } else if self.alarm.ends(tick, calm) {
                (self.segments, self.seconds, self.too_much_ms) = Default::default();
            }
        } else if let Some(onset_ms) = self.fires(tick, short, (lately, earlier)) {
            self.alarm.begin(tick.now_ms, onset_ms);
            self.before = earlier;
            self.baseline.forget();
        } else {
            let suspicious = bad == Some(true) || self.score() >= SUSPICIOUS * tick.threshold;
            self.baseline.learn(second, suspicious);
        }
        State {
            score: self.score(),
            threshold: tick.threshold,
            times: self.alarm.times,
            baseline: self.baseline.learned(),
            ratio,
            has_stopped: self.is_alarmed() && per_second(short.passed, short.duration_ms) < STOPPED * self.before,
        }
    }

    /// One that knows what is usual.
    pub(super) fn knowing(baseline: Baseline) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// What is usual, without what is not certain yet.
    pub(super) fn usual(&self) -> Baseline {
        let mut baseline = self.baseline;
        baseline.forget();
        baseline
    }

    /// Whether it is alarmed.
    pub(super) const fn is_alarmed(&self) -> bool {
        self.alarm.times.is_some()
    }

    /// Forgets all but what is usual.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::knowing(self.usual());
    }

    /// Seconds that it holds.
    #[cfg(test)]
    pub(super) fn seconds(&self) -> usize {
        self.window.seconds()
    }

    fn score(&self) -> f64 {
        self.segments.score().max(self.seconds.score())
    }

    fn weigh(&mut self, tick: Tick, second: Brought, unusual: f64) {
        if second.passed <= 0.0 {
            return;
        }
        let (began_ms, most) = (tick.now_ms.saturating_sub(tick.duration_ms), tick.threshold);
        let segments = evidence(second.lost, second.passed, self.baseline.share(), unusual)
            / trains(self.baseline.dispersion(), unusual / self.baseline.share());
        self.segments.add(began_ms, segments.min(STEP * most), most);
        let bad_share = self.baseline.bad_share();
        if let Some(bad) = second.bad.filter(|_| bad_share < BAD_WHILE_WRONG) {
            let hits = if bad { 1.0 } else { 0.0 };
            let seconds = evidence(hits, 1.0, bad_share, BAD_WHILE_WRONG);
            // Of runs of geometric length the dispersion.
            self.seconds.add(began_ms, seconds / (2.0 * self.baseline.bad_together() - 1.0), most);
        }
        let too_much = second.lost >= MOST_OF_IT * TOO_MUCH * second.passed;
        self.too_much_ms = if too_much { self.too_much_ms + tick.duration_ms } else { 0 };
    }

    /// When what is wrong began, if something is.
    fn fires(&self, tick: Tick, short: Sum, (lately, earlier): (Sum, f64)) -> Option<u64> {
        let sums = [&self.segments, &self.seconds];
        if sums.iter().any(|sum| sum.score() >= tick.threshold) {
            // A sum that comes down slowly may have left zero long before.
            let well_up = sums.iter().filter(|sum| sum.score() >= tick.threshold / 2.0);
            return well_up.filter_map(|sum| sum.onset_ms()).max();
        }
        let is_little = per_second(lately.passed, lately.duration_ms) < LITTLE * earlier;
        if is_little && short.lost >= STOPPED_LEAST && short.lost as f64 >= MOSTLY * lately.passed as f64 {
            return self.window.onset_ms(tick.now_ms, SHORT_MS);
        }
        let throughout = self.too_much_ms >= SHORT_MS - SHORT_MS / 10 && short.passed >= TOO_MUCH_OF;
        let too_much = short.lost as f64 >= TOO_MUCH * short.passed as f64;
        (throughout && too_much).then(|| tick.now_ms.saturating_sub(self.too_much_ms))
    }
}

fn per_second(count: u64, duration_ms: u64) -> f64 {
    if duration_ms == 0 { 0.0 } else { count as f64 * 1e3 / duration_ms as f64 }
}

/// What evidence of losses that come in trains is divided by, so that an alarm stays as rare as if they came alone: a
/// train's length is geometric, (dispersion + 1) / 2 on average, and the sum's exponent (Lundberg's) is to be 1.
pub(super) fn trains(dispersion: f64, times: f64) -> f64 {
    let weight = times.ln();
    1.0 + (dispersion - 1.0) / 2.0 * weight / (1.0 - weight / (times - 1.0))
}
