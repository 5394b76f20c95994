//! Stretches of bytes that are missing.

use super::{
    half::Clock,
    sequence::{before, earlier, later, until},
};

/// How many of them are remembered apart.
const APART: usize = 5;

/// What is missing, from front to back: the lowest hole, then at most [`APART`] others. Where there are more, the lowest is
/// several holes in one, with what was seen between them. What is sent again of that cannot be told from what was
/// missing, but how much was missing is known: so of all that comes of it as much fills it as was missing, and the rest
/// had been seen. Which was which may be wrong; how many there are of each is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Holes {
    lowest: Lowest,
    // The others, fields side by side, in any order; one that begins where it ends is none.
    start: [u32; APART],
    end: [u32; APART],
    opened_us: [u32; APART],
}
const _: () = assert!(size_of::<Holes>() == 72);

/// None if it begins where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Lowest {
    start: u32,
    end: u32,
    /// Bytes that have not been seen.
    missing: u32,
}

/// What a segment has filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) bytes: u32,
    /// When the hole was noticed; `None` if that is long ago.
    pub(super) opened_us: Option<u32>,
    /// Two others had to become one for it.
    pub(super) joins: bool,
}

impl Lowest {
    #[inline(always)]
    const fn is_hole(&self) -> bool {
        self.start != self.end
    }

    #[inline(always)]
    const fn span(&self) -> u32 {
        self.end.wrapping_sub(self.start)
    }

    /// Makes one of it and of the next one.
    #[inline(always)]
    fn append(&mut self, start: u32, end: u32) {
        if !self.is_hole() {
            (self.start, self.missing) = (start, 0);
        }
        self.end = end;
        self.missing = self.missing.saturating_add(end.wrapping_sub(start));
    }

    /// Fills it with what overlaps. Returns of how many bytes that were missing; what else came had been seen.
    #[inline(always)]
    fn fill(&mut self, start: u32, end: u32) -> u32 {
        let (start, end) = (later(start, self.start), earlier(end, self.end));
        let bytes = end.wrapping_sub(start);
        if start == self.start {
            self.start = end;
        } else if end == self.end {
            self.end = start;
        }
        let filled = if bytes < self.missing { bytes } else { self.missing };
        self.missing -= filled;
        if self.missing == 0 {
            self.end = self.start;
        }
        filled
    }
}

impl Holes {
    #[inline(always)]
    const fn is_hole(&self, at: usize) -> bool {
        self.start[at] != self.end[at]
    }

    #[inline(always)]
    pub(super) fn are_none(&self) -> bool {
        (0..APART).fold(self.lowest.start ^ self.lowest.end, |open, at| open | (self.start[at] ^ self.end[at])) == 0
    }

    /// Forgets them all.
    #[inline(always)]
    pub(super) fn close_all(&mut self) {
        self.lowest.end = self.lowest.start;
        for at in 0..APART {
            self.end[at] = self.start[at];
        }
    }

    /// Remembers that `start..end` is missing, behind all that was seen. `false` if two had to become one for it.
    #[inline(always)]
    pub(super) fn open<C: Clock>(&mut self, start: u32, end: u32, clock: &C) -> bool {
        let were_apart = self.make_room(clock);
        clock.settle(self);
        self.put(start, end, clock.microseconds());
        were_apart
    }

    #[inline(always)]
    fn put(&mut self, start: u32, end: u32, opened_us: u32) {
        for at in 0..APART {
            if !self.is_hole(at) {
                self.start[at] = start;
                self.end[at] = end;
                self.opened_us[at] = opened_us;
                return;
            }
        }
    }

    /// Sees to it that one more has room. `false` if two have become one for it.
    #[inline(always)]
    fn make_room<C: Clock>(&mut self, clock: &C) -> bool {
        let Some(first) = self.first_of_all() else { return true };
        clock.settle(self);
        let were_apart = !self.lowest.is_hole();
        for at in 0..APART {
            if self.start[at] == first {
                self.lowest.append(first, self.end[at]);
                self.end[at] = first;
                break;
            }
        }
        were_apart
    }

    /// Where the first of those behind the lowest begins, if there is no room for another one.
    #[inline(always)]
    fn first_of_all(&self) -> Option<u32> {
        let mut first = self.start[0];
        for at in 0..APART {
            if !self.is_hole(at) {
                return None;
            }
            first = earlier(first, self.start[at]);
        }
        Some(first)
    }

    /// Forgets those whose bytes were acknowledged. Returns of how many no byte has been seen.
    #[inline(always)]
    pub(super) fn close_acked(&mut self, acked: u32) -> u32 {
        let mut closed = 0;
        if self.lowest.is_hole() {
            if until(self.lowest.end, acked) {
                closed += u32::from(self.lowest.missing == self.lowest.span());
                self.lowest.end = self.lowest.start;
            } else {
                self.lowest.start = later(self.lowest.start, acked);
                self.lowest.missing = self.lowest.missing.min(self.lowest.span());
            }
        }
        for at in 0..APART {
            if self.is_hole(at) && until(self.end[at], acked) {
                self.end[at] = self.start[at];
                closed += 1;
            }
        }
        closed
    }

    /// Fills the first that `start..end` overlaps: it is trimmed at either end, or split.
    #[inline(always)]
    pub(super) fn fill<C: Clock>(&mut self, start: u32, end: u32, clock: &C) -> Option<Fill> {
        if self.lowest.is_hole() && before(start, self.lowest.end) && before(self.lowest.start, end) {
            let opened_us = self.oldest_us();
            clock.settle(self);
            return Some(Fill { bytes: self.lowest.fill(start, end), opened_us, joins: false });
        }
        let mut first = None;
        for at in 0..APART {
            if self.is_hole(at)
                && before(start, self.end[at])
                && before(self.start[at], end)
                && first.is_none_or(|first| before(self.start[at], first))
            {
                first = Some(self.start[at]);
            }
        }
        let first = first?;
        clock.settle(self);
        for at in 0..APART {
            if self.is_hole(at) && self.start[at] == first {
                return Some(self.fill_at(at, (start, end), clock));
            }
        }
        None
    }

    #[inline(always)]
    fn fill_at<C: Clock>(&mut self, at: usize, (start, end): (u32, u32), clock: &C) -> Fill {
        let (start, end) = (later(start, self.start[at]), earlier(end, self.end[at]));
        let (rest, opened_us) = (self.end[at], self.opened_us[at]);
        let mut joins = false;
        if start == self.start[at] {
            self.start[at] = end;
        } else {
            self.end[at] = start;
            if end != rest {
                joins = !self.make_room(clock);
                clock.settle(self);
                self.put(end, rest, opened_us);
            }
        }
        Fill { bytes: end.wrapping_sub(start), opened_us: Some(opened_us), joins }
    }

    /// When the oldest behind the lowest was noticed: the lowest is older.
    #[inline(always)]
    fn oldest_us(&self) -> Option<u32> {
        let mut oldest = None;
        for at in 0..APART {
            if self.is_hole(at) {
                oldest = Some(oldest.map_or(self.opened_us[at], |oldest| earlier(oldest, self.opened_us[at])));
            }
        }
        oldest
    }
}
