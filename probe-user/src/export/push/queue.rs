//! What is yet to be delivered. Bounded: an agent whose receiver is gone for good must not grow.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Results, add, told::Told};

/// Changes that wait.
pub(super) const MOST_CHANGES: usize = 64;
/// Bytes of all that waits.
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Between who tells and who delivers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something was told, or an end has come.
    changed: Condvar,
    pub(super) results: Results,
}

#[derive(Debug, Default)]
struct Waiting {
    told: VecDeque<Told>,
    bytes: usize,
    /// Nothing more is told.
    ending: bool,
    /// Nothing more is delivered; so much is left.
    left: Option<usize>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the latest change; the oldest make room for it.
    pub(super) fn put(&self, told: Told) {
        let mut waiting = self.waiting();
        waiting.bytes += told.bytes;
        waiting.told.push_back(told);
        while waiting.told.len() > MOST_CHANGES || waiting.bytes > MOST_BYTES {
            let Some(oldest) = waiting.told.pop_front() else { break };
            waiting.bytes -= oldest.bytes;
            add(&self.results.dropped, 1);
        }
        self.changed.notify_all();
    }

    /// Takes the oldest `most` changes.
    pub(super) fn take(&self, most: usize) -> Vec<Told> {
        let mut waiting = self.waiting();
        let most = most.min(waiting.told.len());
        let taken: Vec<_> = waiting.told.drain(..most).collect();
        waiting.bytes -= taken.iter().map(|told| told.bytes).sum::<usize>();
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().told.is_empty()
    }

    /// Waits until something was told, or for `most`, whichever comes first. Returns whether the end has come.
    pub(super) fn wait_for_change(&self, most: Duration) -> bool {
        self.wait(most, |waiting| waiting.told.is_empty() && !waiting.ending)
    }

    /// Waits for so long, or until the end has come. Returns whether it has.
    pub(super) fn wait_for_end(&self, most: Duration) -> bool {
        self.wait(most, |waiting| !waiting.ending)
    }

    fn wait(&self, most: Duration, mut goes_on: impl FnMut(&Waiting) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.waiting(), most, |waiting| goes_on(waiting));
        waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    /// Says that nothing more is delivered, and of how many changes that is not in here.
    pub(super) fn leave(&self, in_hand: usize) {
        let mut waiting = self.waiting();
        waiting.left = Some(waiting.told.len() + in_hand);
        self.changed.notify_all();
    }

    /// Ends it, and waits for so long at most for what is in it. Returns how many changes are left, at least.
    pub(super) fn close(&self, farewell: Duration) -> usize {
        let mut waiting = self.waiting();
        waiting.ending = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(waiting, farewell, |waiting| waiting.left.is_none());
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.left.unwrap_or_else(|| waiting.told.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{
        detect::incident::{Incident, State, What},
        export::push::told::Severity,
    };

    fn told(number: usize, bytes: usize) -> Told {
        let incident = Incident { id: format!("{number:04}"), bundle: "x".repeat(bytes), ..Incident::default() };
        Told::now(&incident, What::State(State::Active), Severity::Warning)
    }

    fn ids(queue: &Queue) -> Vec<String> {
        queue.take(usize::MAX).into_iter().map(|told| told.incident.id).collect()
    }

    #[test]
    fn the_oldest_make_room() {
        for (bytes, stay) in [(0, MOST_CHANGES), (MOST_BYTES / 10, 9), (2 * MOST_BYTES, 0)] {
            let queue = Queue::default();
            (0..100).for_each(|number| queue.put(told(number, bytes)));
            let expected: Vec<_> = (100 - stay..100).map(|number| format!("{number:04}")).collect();
            assert_eq!(ids(&queue), expected, "{bytes} bytes each");
            assert_eq!(queue.results.dropped.load(Ordering::Relaxed), 100 - stay as u64);
            assert!(queue.is_empty());
            assert_eq!(queue.waiting().bytes, 0);
        }
    }

    #[test]
    fn waits_for_what_is_told_and_for_the_end() {
        let queue = Queue::default();
        assert!(!queue.wait_for_change(Duration::ZERO));
        queue.put(told(1, 0));
        assert!(!queue.wait_for_change(Duration::MAX), "it is there");
        assert!(!queue.wait_for_end(Duration::ZERO));
        assert_eq!(queue.close(Duration::ZERO), 1, "nobody has delivered it");
        assert!(queue.wait_for_end(Duration::MAX) && queue.wait_for_change(Duration::MAX));
        queue.leave(1);
        assert_eq!(queue.close(Duration::MAX), 2);
    }
}
