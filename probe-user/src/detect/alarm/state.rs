//! Being alarmed: since when, and until when.

use super::{Tick, window::LONG_MS};

/// Nothing has passed for so long: there is nothing left that could be wrong.
const SILENT_MS: u64 = 600_000;

/// What a detector says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) score: f64,
    pub(super) threshold: f64,
    pub(super) times: Option<Times>,
    pub(super) baseline: f64,
    pub(super) ratio: Option<f64>,
    /// Alarmed, and far less passes than before.
    pub(super) has_stopped: bool,
}

/// When it alarmed, and when what it alarmed about began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) since_ms: u64,
    pub(super) onset_ms: u64,
}

/// Whether it is alarmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) times: Option<Times>,
    silent_ms: u64,
}

impl Alarm {
    pub(super) fn begin(&mut self, now_ms: u64, onset_ms: u64) {
        *self = Self { times: Some(Times { since_ms: now_ms, onset_ms }), silent_ms: 0 };
    }

    /// How long it has lasted, `None` if it is not alarmed.
    pub(super) fn lasted_ms(&self, now_ms: u64) -> Option<u64> {
        self.times.map(|times| now_ms.saturating_sub(times.since_ms))
    }

    /// Whether it ends. `calm`: whether the last half minute was, `None` if nothing has passed in it.
    pub(super) fn ends(&mut self, tick: Tick, calm: Option<bool>) -> bool {
        self.silent_ms = if calm.is_none() { self.silent_ms + tick.duration_ms } else { 0 };
        let has_lasted = self.lasted_ms(tick.now_ms).is_some_and(|lasted| lasted >= LONG_MS);
        let ends = self.silent_ms >= SILENT_MS || calm == Some(true) && has_lasted;
        if ends {
            *self = Self::default();
        }
        ends
    }
}
