//! What the last seconds have brought.

use std::collections::VecDeque;

/// As far as it looks back.
pub(super) const LONG_MS: u64 = 30_000;
/// Seconds that it holds at most, should they come faster.
const MOST: usize = 64;

/// Sums over the last seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// When it ended, how long it was, lost, passed.
    seconds: VecDeque<(u64, u64, u64, u64)>,
}

/// What a part of a window has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) duration_ms: u64,
    pub(super) lost: u64,
    pub(super) passed: u64,
}

impl Window {
    pub(super) fn add(&mut self, now_ms: u64, second: Sum) {
        self.seconds.push_back((now_ms, second.duration_ms, second.lost, second.passed));
        while self.seconds.len() > MOST
            || self.seconds.front().is_some_and(|first| now_ms.saturating_sub(first.0) >= LONG_MS)
        {
            self.seconds.pop_front();
        }
    }

    /// When the first of the last milliseconds began in which something was lost.
    pub(super) fn onset_ms(&self, now_ms: u64, last_ms: u64) -> Option<u64> {
        let mut last = self.seconds.iter().skip_while(|second| now_ms.saturating_sub(second.0) >= last_ms);
        last.find(|second| second.2 > 0).map(|second| second.0.saturating_sub(second.1))
    }

    #[cfg(test)]
    pub(super) fn seconds(&self) -> usize {
        self.seconds.len()
    }

    /// Of the last milliseconds.
    pub(super) fn of(&self, now_ms: u64, last_ms: u64) -> Sum {
        let seconds = self.seconds.iter().rev().take_while(|second| now_ms.saturating_sub(second.0) < last_ms);
        seconds.fold(Sum::default(), |sum, (_, duration_ms, lost, passed)| Sum {
            duration_ms: sum.duration_ms + duration_ms,
            lost: sum.lost + lost,
            passed: sum.passed + passed,
        })
    }
}
