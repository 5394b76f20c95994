//! What this host drops every day because somebody wants it so: what is sent again meanwhile was mostly lost elsewhere.

use serde::{Deserialize, Serialize};

use super::{MISSED, Tick};
use crate::detect::second::Counts;

/// Time constant of what is usual.
const USUAL_MS: f64 = 1_800_000.0;
/// Nothing was dropped for so long before the agent's start, as far as is known.
const ASSUMED_MS: f64 = 600_000.0;

/// So many, by place and class of [`MISSED`], in so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    drops: [[f64; MISSED.len()]; 3],
    ms: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self { drops: Default::default(), ms: ASSUMED_MS }
    }
}

impl Usual {
    /// See [`Learned::is_sound`](super::Learned::is_sound).
    pub(super) fn is_sound(&self) -> bool {
        let is_count = |count: &f64| count.is_finite() && *count >= 0.0;
        self.drops.as_flattened().iter().all(is_count) && self.ms.is_finite() && self.ms > 0.0
    }

    /// A second in which only that was dropped which is beyond the usual and one standard deviation of it. Learns what is
    /// usual from a second that is `calm`.
    pub(super) fn beyond(&mut self, tick: Tick, counts: &Counts, calm: bool) -> Counts {
        let mut beyond = counts.clone();
        let (fade, duration_ms) = ((-(tick.duration_ms as f64) / USUAL_MS).exp(), tick.duration_ms as f64);
        for (place, usual) in beyond.own.iter_mut().zip(&mut self.drops) {
            for ((class, _), usual) in MISSED.iter().zip(usual) {
                let dropped = &mut place[*class as usize];
                let expected = *usual / self.ms * duration_ms;
                if calm {
                    *usual = *usual * fade + *dropped as f64;
                }
                *dropped = (*dropped as f64 - expected - expected.sqrt()).max(0.0) as u64;
            }
        }
        if calm {
            self.ms = self.ms * fade + duration_ms;
        }
        beyond
    }
}
