//! Stretches of bytes that are missing.

use super::{
    half::Clock,
    sequence::{before, earlier, later, until},
};

/// How many are remembered. On a path of 50 us and three connections that lose 5 % before and 5 % behind this point, four
/// were too few for 78 of 293.
pub(super) const HOLES: usize = 6;

/// Fields side by side, a hole in each column; one that begins where it ends is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Holes {
    start: [u32; HOLES],
    end: [u32; HOLES],
    /// With [`JOINED`].
    opened_us: [u32; HOLES],
}
const _: () = assert!(size_of::<Holes>() == 72);

/// The lowest bit of the time: some of its bytes have been seen.
const JOINED: u32 = 1;

/// What a segment has filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) bytes: u32,
    /// When the hole was noticed.
    pub(super) opened_us: u32,
}

impl Holes {
    #[inline(always)]
    const fn is_hole(&self, at: usize) -> bool {
        self.start[at] != self.end[at]
    }

    #[inline(always)]
    pub(super) fn are_none(&self) -> bool {
        (0..HOLES).fold(0, |open, at| open | (self.start[at] ^ self.end[at])) == 0
    }

    /// Forgets them all.
    #[inline(always)]
    pub(super) fn close_all(&mut self) {
        for at in 0..HOLES {
            self.end[at] = self.start[at];
        }
    }

    /// Remembers that `start..end` is missing. `false` if two had to become one for it, with what lies between.
    #[inline(always)]
    pub(super) fn open<C: Clock>(&mut self, start: u32, end: u32, clock: &C) -> bool {
        let opened_us = clock.microseconds() & !JOINED;
        let had_room = self.put(start, end, opened_us);
        if !had_room {
            self.join_closest(clock);
            clock.settle(self);
            self.put(start, end, opened_us);
        }
        had_room
    }

    #[inline(always)]
    fn put(&mut self, start: u32, end: u32, opened_us: u32) -> bool {
        for at in 0..HOLES {
            if !self.is_hole(at) {
                self.start[at] = start;
                self.end[at] = end;
                self.opened_us[at] = opened_us;
                return true;
            }
        }
        false
    }

    /// Where none is vacant: the two with the least between them become one. To forget one would make a loss behind this
    /// point of each retransmission into it; now those of what lies between look like losses before it, so that should be
    /// little.
    #[inline(always)]
    fn join_closest<C: Clock>(&mut self, clock: &C) {
        let (mut least, mut left, mut right) = (u32::MAX, 0, 0);
        for at in 0..HOLES {
            for behind in 0..HOLES {
                // Of one that lies in front, or of itself, it is more than any distance.
                let between = self.start[behind].wrapping_sub(self.end[at]);
                if between < least {
                    (least, left, right) = (between, self.start[at], self.start[behind]);
                }
                clock.settle(self);
            }
        }
        let mut end = right;
        for at in 0..HOLES {
            if self.start[at] == right {
                end = self.end[at];
                self.end[at] = right;
            }
        }
        clock.settle(self);
        for at in 0..HOLES {
            if self.start[at] == left {
                self.end[at] = end;
                self.opened_us[at] |= JOINED;
            }
        }
    }

    /// Forgets those whose bytes were acknowledged. Returns of how many no byte has been seen.
    #[inline(always)]
    pub(super) fn close_acked(&mut self, acked: u32) -> u32 {
        let mut closed = 0;
        for at in 0..HOLES {
            if self.is_hole(at) && until(self.end[at], acked) {
                self.end[at] = self.start[at];
                closed += 1 - (self.opened_us[at] & JOINED);
            }
        }
        closed
    }

    /// Fills the first that `start..end` overlaps: it is trimmed at either end, or split
    /// if there is room for two.
    #[inline(always)]
    pub(super) fn fill<C: Clock>(&mut self, start: u32, end: u32, clock: &C) -> Option<Fill> {
        let mut first = None;
        for at in 0..HOLES {
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
        for at in 0..HOLES {
            if self.is_hole(at) && self.start[at] == first {
                return Some(self.fill_at(at, start, end));
            }
        }
        None
    }

    #[inline(always)]
    fn fill_at(&mut self, at: usize, start: u32, end: u32) -> Fill {
        let (start, end) = (later(start, self.start[at]), earlier(end, self.end[at]));
        let opened_us = self.opened_us[at];
        if start == self.start[at] {
            self.start[at] = end;
        } else {
            let rest = self.end[at];
            self.end[at] = start;
            if end != rest && !self.put(end, rest, opened_us) {
                // Better a hole of which some bytes have come than a rest of which nobody knows.
                self.end[at] = rest;
                self.opened_us[at] |= JOINED;
            }
        }
        Fill { bytes: end.wrapping_sub(start), opened_us }
    }
}
