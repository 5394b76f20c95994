//! The Internet checksum (RFC 1071): a one's complement sum of 16-bit words, here in this machine's order of bytes, on
//! which it does not depend (RFC 1071 2). [`to_host`] turns what was read or folded into the number that people see.
//!
//! The sum of an IPv4 header, which every frame has, is a shorter form of this beside its parser.

/// The sum of the bytes' 16-bit words, not folded; an odd byte counts as if a zero followed. Of up to 16 GiB.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let (halves, last) = rest.as_chunks::<2>();
    let halves: u64 = halves.iter().map(|half| u64::from(u16::from_ne_bytes(*half))).sum();
    words + halves + last.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])))
}

/// The sum of what a pseudo header has besides the addresses: the protocol, and the length of what is summed, in bytes.
#[must_use]
#[inline(always)]
pub fn pseudo(protocol: u8, bytes: u32) -> u64 {
    u64::from(u16::from(protocol).to_be()) + u64::from(bytes.to_be())
}

/// Folds a sum into 16 bits by end-around carry.
#[must_use]
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    // At most 0x2_fffe, 0x1_0001, 0xffff.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Whether a sum with the checksum in it is that of something undamaged.
#[must_use]
#[inline(always)]
pub fn is_right(sum: u64) -> bool {
    fold(sum) == 0xffff
}

/// A 16-bit number of this module as it is written.
#[must_use]
#[inline(always)]
pub const fn to_host(folded: u16) -> u16 {
    u16::from_be(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 1071 1 says it, in the order of the wire.
    fn slowly(bytes: &[u8]) -> u16 {
        let mut sum: u64 =
            bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn sums_are_those_of_the_rfc() {
        // RFC 1071 3: 0001 f203 f4f5 f6f7 gives ddf2.
        let example = [0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(to_host(fold(sum(&example))), 0xddf2);
        let bytes: Vec<u8> = (0..2000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..70).chain([1447, 1448, 1999, 2000]) {
            for start in 0..4 {
                let part = &bytes[start..length.max(start)];
                assert_eq!(to_host(fold(sum(part))), slowly(part), "{length} from {start}");
            }
        }
        assert_eq!(fold(sum(&[0xff; 65_536])), 0xffff);
    }

    #[test]
    fn every_sum_folds() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_ffff_fffe, 0xffff_0001_ffff, u64::MAX - 1, u64::MAX] {
            let mut expected = sum;
            while expected > 0xffff {
                expected = (expected & 0xffff) + (expected >> 16);
            }
            assert_eq!(u64::from(fold(sum)), expected, "{sum:#x}");
        }
    }

    #[test]
    fn pseudo_headers_are_words_of_the_wire() {
        assert_eq!(to_host(fold(pseudo(6, 0x0001_0014))), slowly(&[0, 6, 0, 1, 0, 20]));
    }
}
