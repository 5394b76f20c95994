//! How much of what was promised is used up: minutes in which more was lost than is acceptable, in the last 30 days.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Days that a promise is about.
pub const DAYS: u32 = 30;
const DAY_SECONDS: i64 = 86_400;
const MINUTES: f64 = 1_440.0 * DAYS as f64;

/// Minutes beyond an objective, e.g. 99.9 % in 30 days: 43.2 min.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objective {
    /// In percent.
    pub percent: f64,
    /// The share that may be lost, 0 to 1: beyond it a second counts.
    pub acceptable_ratio: f64,
    /// Minutes in which more was lost.
    pub minutes_beyond: f64,
    /// Minutes that 30 days allow.
    pub minutes_allowed: f64,
    /// Minutes that all incidents of the last 30 days have used of these, seen from its last second.
    pub minutes_used: f64,
}

impl Objective {
    /// Of so many percent, with nothing used yet.
    #[must_use]
    pub fn new(percent: f64, acceptable_ratio: f64) -> Self {
        let minutes_allowed = MINUTES * (100.0 - percent) / 100.0;
        Self { percent, acceptable_ratio, minutes_allowed, ..Self::default() }
    }
}

/// What the last days have used, by day: each second once, however many incidents it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// Days since 1970 (UTC) and milliseconds; days rise, and there are at most [`DAYS`].
    days: VecDeque<(i64, u64)>,
}

impl Month {
    /// Adds time that ended at `now`.
    pub fn add(&mut self, now: Timestamp, milliseconds: u64) {
        let today = now.as_second().div_euclid(DAY_SECONDS);
        match self.days.back_mut() {
            // A clock that was set back adds to the latest day that it had shown.
            Some((day, sum)) if *day >= today => *sum = sum.saturating_add(milliseconds),
            _ => self.days.push_back((today, milliseconds)),
        }
        self.forget(today);
    }

    /// Minutes used in the days that ended with `now`.
    #[must_use]
    pub fn minutes(&self, now: Timestamp) -> f64 {
        let since = now.as_second().div_euclid(DAY_SECONDS) - i64::from(DAYS);
        let sum: u64 = self.days.iter().filter(|(day, _)| *day > since).map(|(_, sum)| sum).sum();
        minutes(sum)
    }

    /// Whether a file can hold this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let day = u64::try_from(DAY_SECONDS * 1_000).unwrap_or(u64::MAX);
        let rise = self.days.iter().zip(self.days.iter().skip(1)).all(|(one, next)| one.0 < next.0);
        // A clock that is set back makes long days, but not longer than all of them.
        let fit = self.days.iter().all(|(_, sum)| *sum <= day * u64::from(DAYS));
        rise && fit && self.days.len() <= DAYS as usize
    }

    fn forget(&mut self, today: i64) {
        let is_old = |(day, _): &(i64, u64)| *day <= today - i64::from(DAYS);
        while self.days.len() > DAYS as usize || self.days.front().is_some_and(is_old) {
            self.days.pop_front();
        }
    }
}

/// Milliseconds as minutes.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
pub fn minutes(milliseconds: u64) -> f64 {
    milliseconds as f64 / 60_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY_SECONDS + 3_600).unwrap()
    }

    #[test]
    fn what_is_allowed() {
        for (percent, allowed) in [(99.9, 43.2), (99.99, 4.32), (99.0, 432.0), (100.0, 0.0)] {
            let minutes = Objective::new(percent, 0.005).minutes_allowed;
            assert!((minutes - allowed).abs() < 1e-6, "{percent} %: {minutes}");
        }
    }

    #[test]
    fn what_is_used() {
        let mut month = Month::default();
        for (at, milliseconds, expected) in [
            (0, 60_000, 1.0),
            (0, 30_000, 1.5),
            (1, 60_000, 2.5),
            (29, 60_000, 3.5),
            // The first day is over.
            (30, 60_000, 3.0),
            // The clock is set back.
            (3, 60_000, 4.0),
            // And far forward: all is over.
            (1_000, 60_000, 1.0),
        ] {
            month.add(day(at), milliseconds);
            let minutes = month.minutes(day(at));
            assert!((minutes - expected).abs() < 1e-9, "day {at}: {minutes}");
            assert!(month.is_sound());
        }
        assert!(month.minutes(day(1_031)) < 1e-9, "also where nothing was added");
        for at in 0..500 {
            month.add(day(1_000 + at), 1);
        }
        assert_eq!(month.days.len(), DAYS as usize, "bounded");
    }

    #[test]
    fn what_a_file_may_hold() {
        for (days, expected) in [
            (vec![], true),
            (vec![(1, 5), (2, 5)], true),
            (vec![(2, 5), (1, 5)], false),
            (vec![(1, u64::MAX)], false),
            ((0..31).map(|day| (day, 0)).collect(), false),
        ] {
            assert_eq!(Month { days: days.clone().into() }.is_sound(), expected, "{days:?}");
        }
    }
}
