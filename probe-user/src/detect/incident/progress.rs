//! How far an incident is, with patience: what has become better must stay so for a while, so that loss that falls and rises
//! again is one incident.

use super::State;

/// What must hold before a state is left for a worse one, in milliseconds.
const WORSENS_AFTER_MS: u64 = 10_000;
/// Of the peak, what is less is easing.
const EASED: f64 = 0.5;

/// What is acceptable, and how patient to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The share that may be lost, 0 to 1.
    pub acceptable_ratio: f64,
    /// How long it must have been better to be easing or acceptable, in milliseconds.
    pub eases_after_ms: u64,
    /// How long all must have been as usual for an incident to be over, in milliseconds.
    pub closes_after_ms: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { acceptable_ratio: 0.005, eases_after_ms: 60_000, closes_after_ms: 600_000 }
    }
}

/// The states from the worst to the best, but for the first, which is left by a verdict only.
const RANKS: [State; 4] = [State::Active, State::Easing, State::Acceptable, State::Closed];

/// What has held since when, in the agent's uptime (ms).
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    peak: f64,
    /// At least as good as each of [`RANKS`].
    better_since: [Option<u64>; RANKS.len()],
    /// Worse than the state it is in.
    worse_since: Option<u64>,
}

impl Progress {
    /// Of an incident that was seen before, whose worst share was `peak`.
    pub(super) fn with_peak(peak: f64) -> Self {
        Self { peak, ..Self::default() }
    }

    /// Takes a second of an incident that is in `state`: whether a detector of it alarms, and the share lost, `None` where too
    /// little passed to say. Returns the state that it is in now and since when, if that is another.
    pub(super) fn add(
        &mut self,
        now_ms: u64,
        state: State,
        (alarmed, share): (bool, Option<f64>),
        thresholds: &Thresholds,
    ) -> Option<(State, u64)> {
        self.peak = self.peak.max(share.unwrap_or(0.0));
        let rank = match share {
            _ if !alarmed => State::Closed,
            Some(share) if share <= thresholds.acceptable_ratio => State::Acceptable,
            Some(share) if share <= self.peak * EASED => State::Easing,
            Some(_) => State::Active,
            // It says neither that it is better nor that it is worse.
            None => return self.improved(now_ms, state, thresholds),
        };
        for (since, better) in self.better_since.iter_mut().zip(RANKS) {
            *since = if rank >= better { Some(since.unwrap_or(now_ms)) } else { None };
        }
        if rank >= state || state == State::Opening {
            self.worse_since = None;
            return self.improved(now_ms, state, thresholds);
        }
        let since = *self.worse_since.get_or_insert(now_ms);
        (now_ms.saturating_sub(since) >= WORSENS_AFTER_MS).then(|| {
            self.worse_since = None;
            (rank, since)
        })
    }

    /// Nobody looked for so long: what had to hold for a while must hold for so much longer.
    pub(super) fn wait(&mut self, milliseconds: u64) {
        for since in self.better_since.iter_mut().chain(Some(&mut self.worse_since)).flatten() {
            *since += milliseconds;
        }
    }

    fn improved(&self, now_ms: u64, state: State, thresholds: &Thresholds) -> Option<(State, u64)> {
        if state == State::Opening {
            return None;
        }
        // The best that has held for long enough.
        for (rank, since) in RANKS.into_iter().zip(self.better_since).rev().take_while(|(rank, _)| *rank > state) {
            let patience = if rank == State::Closed { thresholds.closes_after_ms } else { thresholds.eases_after_ms };
            match since {
                Some(since) if now_ms.saturating_sub(since) >= patience => return Some((rank, since)),
                // It is not said to ease while it is about to be acceptable.
                Some(_) if rank == State::Acceptable => return None,
                _ => {}
            }
        }
        None
    }
}
