//! How every parser of this crate reads a frame: bounded, by value, and the same on the host and in the kernel.

/// The bytes of one frame, or the first of them.
pub trait Frame {
    /// The `N` bytes from offset `at` (0 = first byte of the frame), or `None` if not all of them can be seen.
    ///
    /// `None` is no verdict on the frame: whether bytes are missing from the *frame* or only from what was captured
    /// of it is decided by the caller, who knows the frame's length.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The first `N` bytes in place, for the path that cannot afford a copy.
    fn head<const N: usize>(&self) -> Option<&[u8; N]>;
}

impl Frame for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        self.first_chunk()
    }
}

/// The two bytes at `at`, from network order.
#[inline(always)]
pub(crate) fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`, from network order.
#[inline(always)]
pub(crate) fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
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
        assert_eq!(bytes.head::<4>(), Some(&[1, 2, 3, 4]));
        assert_eq!(bytes.head::<5>(), None);
        assert_eq!((be16(&[0, 1, 2], 1), be32(&[0, 1, 2, 3, 4], 1)), (0x0102, 0x0102_0304));
    }
}
