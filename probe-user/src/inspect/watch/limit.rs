//! How many lines a second: as many as somebody can follow. What is left out is counted and said.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// A limit by the second.
pub(super) struct Limit {
    /// Lines in a second, 0 for all.
    rate: u32,
    since: Instant,
    shown: u32,
    suppressed: u64,
}

impl Limit {
    pub(super) const fn new(rate: u32, now: Instant) -> Self {
        Self { rate, since: now, shown: 0, suppressed: 0 }
    }

    /// What was left out in a second that is over; to be asked before [`Self::allows`].
    pub(super) fn due(&mut self, now: Instant) -> u64 {
        if now.duration_since(self.since) < WINDOW {
            return 0;
        }
        (self.since, self.shown) = (now, 0);
        self.rest()
    }

    /// Whether one more may be shown in this second; if not, it is counted.
    pub(super) const fn allows(&mut self) -> bool {
        let is_allowed = self.rate == 0 || self.shown < self.rate;
        if is_allowed {
            self.shown = self.shown.saturating_add(1);
        } else {
            self.suppressed += 1;
        }
        is_allowed
    }

    /// What was left out and not said yet.
    pub(super) const fn rest(&mut self) -> u64 {
        std::mem::replace(&mut self.suppressed, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = Limit::new(3, start);
        let mut offer = |ms, events: u32| {
            let due = limit.due(at(ms));
            (due, (0..events).filter(|_| limit.allows()).count())
        };
        assert_eq!(offer(0, 2), (0, 2));
        assert_eq!(offer(999, 5), (0, 1));
        assert_eq!(offer(1000, 4), (4, 3));
        assert_eq!(offer(1500, 0), (0, 0));
        assert_eq!(offer(2100, 0), (1, 0));
        assert_eq!(offer(9000, 4), (0, 3));
        assert_eq!((limit.rest(), limit.rest()), (1, 0));
    }

    #[test]
    fn none_is_no_limit() {
        let mut limit = Limit::new(0, Instant::now());
        assert!((0..100_000).all(|_| limit.allows()));
        assert_eq!(limit.rest(), 0);
    }
}
