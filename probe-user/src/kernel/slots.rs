//! Which interface counts where: places in the kernel's direct-mapped table, and counters that are reused only after
//! a grace, their old values taken as the new owner's zero. Nothing is ever reset. Slot 0 is nobody's: a program that
//! reads a line while it is vacated may see it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use probe_ebpf::abi::{SLOT_LINES, SLOT_PROBES};
use thiserror::Error;

/// How long the counters of a vanished interface rest: longer than any frame is under way inside a hook.
pub const GRACE: Duration = Duration::from_secs(10);

/// Why an interface cannot be counted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// Two others share its place in the table.
    #[error("interface index {0} collides with two others in the kernel's table")]
    Collision(u32),
    /// Too many interfaces.
    #[error("all {0} counters are taken; raise --max-interfaces")]
    Full(u32),
}

/// A place in the table and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index in the kernel's table of interfaces.
    pub line: u32,
    /// Index of the counters.
    pub slot: u32,
    /// Whether they show what a former owner left.
    pub reused: bool,
}

/// Numbers from 1 on for counters that are lent and come back.
#[derive(Debug)]
pub struct Pool {
    capacity: u32,
    never_used: u32,
    resting: Vec<(Instant, u32)>,
}

impl Pool {
    /// Of so many.
    #[must_use]
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, never_used: 1, resting: Vec::new() }
    }

    /// Fresh ones first; then those that rested longest, if long enough. With whether it shows what a former owner left.
    pub fn take(&mut self, now: Instant) -> Option<(u32, bool)> {
        if self.never_used <= self.capacity {
            self.never_used += 1;
            return Some((self.never_used - 1, false));
        }
        let (since, number) = *self.resting.first()?;
        (now.duration_since(since) >= GRACE).then(|| {
            self.resting.remove(0);
            (number, true)
        })
    }

    /// It comes back.
    pub fn release(&mut self, number: u32, now: Instant) {
        self.resting.push((now, number));
    }

    /// Numbers that have been lent at least once.
    pub fn used(&self) -> impl Iterator<Item = u32> + use<> {
        1..self.never_used
    }
}

/// Who is where.
#[derive(Debug)]
pub struct Slots {
    lines: BTreeMap<u32, u32>,
    counters: Pool,
}

impl Slots {
    /// For at most `capacity` interfaces.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { lines: BTreeMap::new(), counters: Pool::new(capacity) }
    }

    /// A place for an interface.
    ///
    /// # Errors
    /// See [`SlotError`].
    pub fn take(&mut self, ifindex: u32, now: Instant) -> Result<Place, SlotError> {
        let first = ifindex & (SLOT_LINES - 1);
        let line = (first..first + SLOT_PROBES)
            .find(|line| !self.lines.contains_key(line))
            .ok_or(SlotError::Collision(ifindex))?;
        let (slot, reused) = self.counters.take(now).ok_or(SlotError::Full(self.counters.capacity))?;
        self.lines.insert(line, ifindex);
        Ok(Place { line, slot, reused })
    }

    /// The interface is gone and its links are closed.
    pub fn release(&mut self, place: Place, now: Instant) {
        self.lines.remove(&place.line);
        self.counters.release(place.slot, now);
    }

    /// Interfaces that have a place.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_rest_before_they_are_reused() {
        let (mut slots, start) = (Slots::new(2), Instant::now());
        let first = slots.take(7, start).unwrap();
        assert_eq!(slots.take(8, start), Ok(Place { line: 8, slot: 2, reused: false }));
        slots.release(first, start);
        assert_eq!(slots.take(9, start), Err(SlotError::Full(2)));
        assert_eq!(slots.take(9, start + GRACE), Ok(Place { line: 9, slot: 1, reused: true }));
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn two_share_a_line_and_its_neighbour() {
        let (mut slots, now) = (Slots::new(9), Instant::now());
        assert_eq!(slots.take(5, now).unwrap().line, 5);
        assert_eq!(slots.take(5 + SLOT_LINES, now).unwrap().line, 6);
        assert_eq!(slots.take(5 + 2 * SLOT_LINES, now), Err(SlotError::Collision(5 + 2 * SLOT_LINES)));
        assert_eq!(slots.take(6, now).unwrap().line, 7, "its own line is taken by the neighbour");
        assert_eq!(slots.take(SLOT_LINES - 1, now).unwrap().line, SLOT_LINES - 1);
        assert_eq!(slots.take(2 * SLOT_LINES - 1, now).unwrap().line, SLOT_LINES);
    }
}
