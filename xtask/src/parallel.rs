//! Long work on several things at once, one for each CPU.

use std::iter;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many of so many things are worked on at once.
pub(crate) fn at_once(items: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(items)
}

/// The results of `work` on each of `items`, in their order, with one thread for each CPU.
pub(crate) fn side_by_side<T: Copy + Sync, R: Send>(items: &[T], work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (next, work) = (AtomicUsize::new(0), &work);
    let take_turns = || {
        let positions = iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        positions.map_while(|at| Some((at, work(*items.get(at)?)))).collect::<Vec<_>>()
    };
    let mut results = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once(items.len())).map(|_| scope.spawn(take_turns)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        results.flatten().collect::<Vec<_>>()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::side_by_side;

    #[test]
    fn results_keep_their_order() {
        let slow_first = |number: u64| {
            std::thread::sleep(Duration::from_millis(4 - number));
            number * 10
        };
        assert_eq!(side_by_side(&[0, 1, 2, 3], slow_first), [0, 10, 20, 30]);
        assert_eq!(side_by_side(&[], slow_first), [0; 0]);
    }
}
