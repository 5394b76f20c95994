//! How many lines a second: as many as somebody can follow. What is left out, here or before, is counted and said once a
//! second.

use std::time::{Duration, Instant};

use crate::event::{Notice, Suppressor};

const WINDOW: Duration = Duration::from_secs(1);

/// A limit by the second.
pub(super) struct Limit {
    /// Events in a second, 0 for all.
    rate: u32,
    since: Instant,
    shown: u32,
    suppressed: [(Suppressor, u64); 3],
}

impl Limit {
    pub(super) const fn new(rate: u32, now: Instant) -> Self {
        let suppressed = [(Suppressor::Kernel, 0), (Suppressor::Agent, 0), (Suppressor::Rate, 0)];
        Self { rate, since: now, shown: 0, suppressed }
    }

    /// What was left out in a second that is over; to be asked before [`Self::allows`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<Notice> {
        if now.duration_since(self.since) < WINDOW {
            return Vec::new();
        }
        (self.since, self.shown) = (now, 0);
        self.rest()
    }

    /// Whether one more may be shown in this second; if not, it is counted.
    pub(super) fn allows(&mut self) -> bool {
        let is_allowed = self.rate == 0 || self.shown < self.rate;
        if is_allowed {
            self.shown = self.shown.saturating_add(1);
        } else {
            self.add(Suppressor::Rate, 1);
        }
        is_allowed
    }

    /// Notes what somebody has left out.
    pub(super) fn add(&mut self, by: Suppressor, events: u64) {
        for (suppressor, sum) in &mut self.suppressed {
            if *suppressor == by {
                *sum += events;
            }
        }
    }

    /// What was left out and not said yet.
    pub(super) fn rest(&mut self) -> Vec<Notice> {
        let said = self.suppressed.iter_mut().filter(|(_, events)| *events > 0);
        said.map(|(by, events)| Notice::Suppressed { by: *by, events: std::mem::take(events) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_rate(events: u64) -> Vec<Notice> {
        vec![Notice::Suppressed { by: Suppressor::Rate, events }]
    }

    #[test]
    fn what_is_too_much_is_counted_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = Limit::new(3, start);
        let mut offer = |ms, events: u32| {
            let due = limit.due(at(ms));
            (due, (0..events).filter(|_| limit.allows()).count())
        };
        assert_eq!(offer(0, 2), (vec![], 2));
        assert_eq!(offer(999, 5), (vec![], 1));
        assert_eq!(offer(1000, 4), (by_rate(4), 3));
        assert_eq!(offer(1500, 0), (vec![], 0));
        assert_eq!(offer(2100, 0), (by_rate(1), 0));
        assert_eq!(offer(9000, 4), (vec![], 3));
        assert_eq!((limit.rest(), limit.rest()), (by_rate(1), vec![]));
    }

    #[test]
    fn what_others_left_out_is_said_once_a_second() {
        let start = Instant::now();
        let mut limit = Limit::new(0, start);
        assert!((0..100_000).all(|_| limit.allows()), "0 is no limit");
        (0..20).for_each(|_| limit.add(Suppressor::Kernel, 5));
        limit.add(Suppressor::Agent, 1);
        assert_eq!(limit.due(start), []);
        let [kernel, agent] =
            [(Suppressor::Kernel, 100), (Suppressor::Agent, 1)].map(|(by, events)| Notice::Suppressed { by, events });
        assert_eq!(limit.due(start + WINDOW), [kernel, agent]);
    }
}
