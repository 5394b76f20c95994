//! How every parser of this crate reads a frame: bounded, by value, and the same on the host and in the kernel.

/// The bytes of one frame, or the first of them.
pub trait Frame {
    /// The `N` bytes from offset `at` (0 = first byte of the frame), or `None` if not all of them can be seen.
    ///
    /// `None` is no verdict on the frame: whether bytes are missing from the *frame* or only from what was captured
    /// of it is decided by the caller, who knows the frame's length.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The same in place, for the path that cannot afford a copy: `at` is one of few numbers known when compiling.
    fn at<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;

    /// Between two steps of a walk whose state is `state`: all of it is in memory, nothing of it in registers.
    ///
    /// A verifier follows what registers hold, one way through the program for each value, and forgets what a map holds:
    /// so all turns of a loop look alike to it. On the host there is nothing to do.
    #[inline(always)]
    fn settle<T>(&self, _state: &mut T) {}

    /// Behind this what was read before is read again: what a compiler knows of it, a verifier would follow.
    #[inline(always)]
    fn look_again(&self) {}

    /// 1 if both are the same, else 0, without a branch: so a verifier knows no more of what follows from one than from the
    /// other, and looks at it once.
    #[inline(always)]
    fn is_equal(&self, a: u64, b: u64) -> usize {
        usize::from(a == b)
    }
}

impl Frame for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.at(at).copied()
    }

    #[inline(always)]
    fn at<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.get(at..)?.first_chunk()
    }
}

/// As one load. Bytes that are named one by one stay loads of one byte each where one of them is used elsewhere too.
#[inline(always)]
pub(crate) fn word<const BYTES: usize, const N: usize>(bytes: &[u8; N], at: usize) -> [u8; BYTES] {
    let mut word = [0; BYTES];
    word.copy_from_slice(&bytes[at..at + BYTES]);
    word
}

/// The two bytes at `at`, from network order.
#[inline(always)]
pub(crate) fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes(word(bytes, at))
}

/// The four bytes at `at`, from network order.
#[inline(always)]
pub(crate) fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes(word(bytes, at))
}

/// The eight bytes at `at`, from network order.
#[inline(always)]
pub(crate) fn be64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_be_bytes(word(bytes, at))
}

/// The four bytes at `at` in this machine's order, for sums and comparisons that have none.
#[inline(always)]
pub(crate) fn raw32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes(word(bytes, at))
}

/// The eight bytes at `at` in this machine's order.
#[inline(always)]
pub(crate) fn raw64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_ne_bytes(word(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_bytes() {
        let bytes = &[1, 2, 3, 4][..];
        assert_eq!(bytes.read::<2>(2), Some([3, 4]));
        assert_eq!(bytes.read::<2>(3), None);
        assert_eq!(bytes.read::<0>(4), Some([]));
        assert_eq!(bytes.read::<1>(usize::MAX), None);
        assert_eq!(bytes.at::<4>(0), Some(&[1, 2, 3, 4]));
        assert_eq!(bytes.at::<4>(1), None);
        assert_eq!((be16(&[0, 1, 2], 1), be32(&[0, 1, 2, 3, 4], 1)), (0x0102, 0x0102_0304));
    }
}
