//! Counters of the kernel as the agent shows them: from its start on, never falling.

/// One counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    last: u64,
    total: u64,
}

impl Counter {
    /// Of something that was there before: what it has `counted` is left out.
    #[must_use]
    pub const fn after(counted: u64) -> Self {
        Self { last: counted, total: 0 }
    }

    /// Takes a reading. One that has fallen was set back to zero: by a driver's reset, or something new in its place.
    pub const fn add(&mut self, counted: u64) {
        self.total += if counted >= self.last { counted - self.last } else { counted };
        self.last = counted;
    }

    /// Takes a reading that may waver and is never set back: only what is above the highest counts.
    pub const fn add_highest(&mut self, counted: u64) {
        if counted > self.last {
            self.add(counted);
        }
    }

    /// Takes a reading of 32 bits that is never set back.
    #[expect(clippy::cast_possible_truncation, reason = "the last reading had 32 bits, too")]
    pub const fn add_u32(&mut self, counted: u32) {
        self.total += counted.wrapping_sub(self.last as u32) as u64;
        self.last = counted as u64;
    }

    /// Takes a reading of 32 bits that may be set back: what falls from the last quarter into the first has wrapped.
    pub const fn add_u32_or_reset(&mut self, counted: u32) {
        const QUARTER: u64 = 1 << 30;
        if self.last >= 3 * QUARTER && (counted as u64) < QUARTER {
            self.add_u32(counted);
        } else {
            self.add(counted as u64);
        }
    }

    /// Takes a reading without counting it: the agent stood still meanwhile.
    pub const fn skip(&mut self, counted: u64) {
        self.last = counted;
    }

    /// What was counted.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        for (name, start, readings, expected) in [
            ("grows", 5, &[5, 9, 20][..], 15),
            ("is set back", 100, &[130, 4, 6], 36),
            ("starts at nothing", 0, &[7], 7),
        ] {
            let (mut counter, mut short) = (Counter::after(start), Counter::after(start));
            for reading in readings {
                counter.add(*reading);
                short.add_u32_or_reset(u32::try_from(*reading).unwrap());
            }
            assert_eq!((counter.total(), short.total()), (expected, expected), "{name}");
        }
    }

    #[test]
    fn thirty_two_bits() {
        let before = u64::from(u32::MAX - 9);
        let (mut never_reset, mut or_reset) = (Counter::after(before), Counter::after(before));
        never_reset.add_u32(5);
        or_reset.add_u32_or_reset(5);
        assert_eq!((never_reset.total(), or_reset.total()), (15, 15), "wrapped");
        let mut replaced = Counter::after(1 << 31);
        replaced.add_u32_or_reset(5);
        assert_eq!(replaced.total(), 5);
    }

    #[test]
    fn what_is_skipped_is_not_counted() {
        let mut counter = Counter::after(10);
        counter.add(12);
        counter.skip(50);
        counter.add(51);
        assert_eq!(counter.total(), 3);
    }
}
