//! The seconds that a verdict looks at.

use std::collections::BTreeMap;

use super::{Affected, LONG_MS, WINDOW_MS};
use crate::{
    derive::RIPENS_AFTER,
    detect::second::{Counts, Second, Unit},
};

/// What a verdict looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Wall-clock time of its end, RFC 3339, UTC.
    pub time: String,
    /// How long it is.
    pub duration_ms: u64,
    /// What each unit has seen.
    pub units: BTreeMap<Unit, Counts>,
    /// The same of a longer time that ended with it, and how long that is; empty where it is not longer.
    pub long: (u64, BTreeMap<Unit, Counts>),
    /// By connections.
    pub affected: Affected,
}

impl Window {
    /// The latest of these seconds, in their order, that make [`WINDOW_MS`], and those that make [`LONG_MS`]. What connections
    /// tell of is [two seconds](RIPENS_AFTER) old, so all else is taken from as long before: what this host has lost would
    /// else come and go before what it explains.
    pub fn of<'s>(seconds: impl DoubleEndedIterator<Item = &'s Second> + Clone, time: &str) -> Self {
        let mut window = Self { time: time.to_owned(), ..Self::default() };
        let (long_ms, long) = &mut window.long;
        let now_ms = seconds.clone().next_back().map_or(0, |last| last.uptime_ms);
        let is_too_new =
            |second: &&Second| u128::from(now_ms.saturating_sub(second.uptime_ms)) < RIPENS_AFTER.as_millis();
        let mut seen = seconds.clone().rev().skip_while(is_too_new);
        for told in seconds.rev() {
            let seen = seen.next();
            if *long_ms >= WINDOW_MS && window.duration_ms == 0 {
                (window.duration_ms, window.units) = (*long_ms, long.clone());
            }
            if *long_ms >= LONG_MS {
                break;
            }
            *long_ms += told.duration_ms;
            for (unit, counts) in &told.units {
                let seen = seen.and_then(|seen| seen.units.get(unit)).cloned().unwrap_or_default();
                long.entry(unit.clone()).or_default().add(&Counts { lost: counts.lost, ..seen });
            }
        }
        if window.duration_ms == 0 {
            (window.duration_ms, window.units) = std::mem::take(&mut window.long);
        }
        window
    }
}
