//! The last four stretches of bytes that are missing.

use super::sequence::{before, earlier, later, until};

/// How many are remembered: with 3, one in 190 losses of a queue that overflows was given up, with 4, one in 1,600.
pub(super) const HOLES: usize = 4;

/// Fields side by side, a hole in each column; one that begins where it ends is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Holes {
    start: [u32; HOLES],
    end: [u32; HOLES],
    opened_us: [u32; HOLES],
    timestamp: [u32; HOLES],
    identifier: [u16; HOLES],
}
const _: () = assert!(size_of::<Holes>() == 72);

/// The segment behind a hole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opener {
    /// When it came.
    pub(super) us: u32,
    /// Its TSval, 0 if it has none.
    pub(super) timestamp: u32,
    /// Its IP identifier, 0 if it has none.
    pub(super) identifier: u16,
}

/// What a segment has filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) bytes: u32,
    pub(super) opener: Opener,
}

impl Holes {
    #[inline(always)]
    const fn is_hole(&self, at: usize) -> bool {
        self.start[at] != self.end[at]
    }

    #[inline(always)]
    pub(super) fn are_none(&self) -> bool {
        (0..HOLES).all(|at| !self.is_hole(at))
    }

    /// Remembers that `start..end` is missing. `false` if the oldest had to be given up for it.
    #[inline(always)]
    pub(super) fn open(&mut self, start: u32, end: u32, opener: Opener) -> bool {
        let had_room = self.put(start, end, opener);
        if !had_room {
            self.close_oldest();
            self.put(start, end, opener);
        }
        had_room
    }

    #[inline(always)]
    fn put(&mut self, start: u32, end: u32, opener: Opener) -> bool {
        for at in 0..HOLES {
            if !self.is_hole(at) {
                self.start[at] = start;
                self.end[at] = end;
                self.opened_us[at] = opener.us;
                self.timestamp[at] = opener.timestamp;
                self.identifier[at] = opener.identifier;
                return true;
            }
        }
        false
    }

    /// The oldest begins first: holes are opened in the order of the bytes.
    #[inline(always)]
    fn close_oldest(&mut self) {
        let mut oldest = self.start[0];
        for at in 1..HOLES {
            oldest = earlier(oldest, self.start[at]);
        }
        for at in 0..HOLES {
            if self.start[at] == oldest {
                self.end[at] = oldest;
            }
        }
    }

    /// Forgets those whose bytes were acknowledged. Returns how many.
    #[inline(always)]
    pub(super) fn close_acked(&mut self, acked: u32) -> u32 {
        let mut closed = 0;
        for at in 0..HOLES {
            if self.is_hole(at) && until(self.end[at], acked) {
                self.end[at] = self.start[at];
                closed += 1;
            }
        }
        closed
    }

    /// Fills the first that `start..end` overlaps: it is trimmed at either end, or split if there is room for two.
    #[inline(always)]
    pub(super) fn fill(&mut self, start: u32, end: u32) -> Option<Fill> {
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
        let opener = Opener { us: self.opened_us[at], timestamp: self.timestamp[at], identifier: self.identifier[at] };
        if start == self.start[at] {
            self.start[at] = end;
        } else {
            let rest = self.end[at];
            self.end[at] = start;
            if end != rest {
                self.put(end, rest, opener);
            }
        }
        Fill { bytes: end.wrapping_sub(start), opener }
    }
}
