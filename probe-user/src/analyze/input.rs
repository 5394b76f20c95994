//! The bytes of a capture as they come: a window that moves forward, however long the stream.

use std::io::{ErrorKind, Read, Result};

/// Bytes of the window: more than the longest record that is wanted whole, and few enough to stay in a CPU's cache.
const WINDOW_BYTES: usize = 512 * 1024;
/// What can be looked at in one piece at most.
pub(super) const WHOLE_BYTES: usize = WINDOW_BYTES / 2;

/// A stream, and what of it lies in memory.
pub(super) struct Input<R> {
    from: R,
    window: Box<[u8]>,
    /// What was not consumed yet, in `window`.
    start: usize,
    end: usize,
    /// Offset of `start` in the stream.
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, window: vec![0; WINDOW_BYTES].into_boxed_slice(), start: 0, end: 0, offset: 0 }
    }

    /// Offset of the next byte.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that were read from the stream.
    pub(super) const fn read_bytes(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// The next bytes, as many as are in memory.
    #[inline]
    pub(super) fn seen(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    /// Brings the next `bytes` (at most [`WHOLE_BYTES`]) into memory. `false` if the stream ends before.
    #[inline]
    pub(super) fn bring(&mut self, bytes: usize) -> Result<bool> {
        if self.end - self.start >= bytes { Ok(true) } else { self.fill(bytes) }
    }

    #[cold]
    fn fill(&mut self, bytes: usize) -> Result<bool> {
        if self.window.len() - self.start < bytes || self.start == self.end {
            self.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < bytes {
            match self.from.read(&mut self.window[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves over the next `bytes`. `false` if the stream ends before.
    #[inline]
    pub(super) fn skip(&mut self, bytes: u64) -> Result<bool> {
        let mut left = bytes;
        loop {
            let here = left.min((self.end - self.start) as u64);
            // At most the window's length.
            self.start += here as usize;
            self.offset += here;
            left -= here;
            if left == 0 {
                return Ok(true);
            }
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, and is interrupted in between.
    struct Drop(Vec<u8>, bool);

    impl Read for Drop {
        fn read(&mut self, to: &mut [u8]) -> Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = to.len().min(self.0.len()).min(7);
            to[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn a_window_moves_forward() {
        let mut input = Input::new(Drop((0..100).collect(), false));
        assert!(input.bring(10).unwrap());
        assert_eq!(input.seen()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(input.skip(50).unwrap());
        assert!(input.bring(1).unwrap());
        assert_eq!((input.seen()[0], input.offset()), (50, 50));
        assert!(!input.bring(51).unwrap());
        assert_eq!(input.seen().len(), 50, "what there was stays");
        assert!(!input.skip(51).unwrap());
        assert_eq!((input.offset(), input.read_bytes()), (100, 100));
    }

    #[test]
    fn more_than_the_window_passes_through_it() {
        let total = 3 * WINDOW_BYTES as u64 + 5;
        let mut input = Input::new(std::io::repeat(7).take(total));
        while input.bring(WHOLE_BYTES).unwrap() {
            assert!(input.skip(WHOLE_BYTES as u64 - 1).unwrap());
        }
        assert!(input.skip(total - input.offset()).unwrap());
        assert!(!input.bring(1).unwrap());
        assert_eq!(input.offset(), total);
    }
}
