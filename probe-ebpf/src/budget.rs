//! How many bytes may be summed up to look at transport checksums: the rest is told as not looked at. On a clean wire with
//! a network card that looks itself there is nothing to sum up; after a finding everything is, for a while.

/// Bytes in a second on one CPU of one interface.
pub const BYTES_PER_SECOND: u64 = 4_000_000;
/// What a packet takes besides, as if it were so many bytes: it leaves the fast path, and the complete classifier reads it.
/// Without that, small packets would have all of them looked at, and those that carry them would notice.
const BYTES_PER_PACKET: u64 = 1_500;
/// How long everything is looked at behind a finding, in seconds.
pub const OPEN_SECONDS: u64 = 10;
/// Parts of a second for which bytes are given out.
const PARTS: u64 = 10;

/// What is left, on one CPU. Times in jiffies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// When the current part of a second began.
    since: u64,
    /// Bytes that were given out in it.
    spent_bytes: u64,
    /// Until when everything is looked at, 0: not at all.
    open_until: u64,
}

impl Budget {
    /// Whether a packet may be looked at.
    #[inline(always)]
    pub fn has_room(&mut self, now: u64, hertz: u32) -> bool {
        if self.open_until != 0 {
            // Signed: the clock of another CPU may be behind.
            if (self.open_until.wrapping_sub(now) as i64) > 0 {
                return true;
            }
            self.open_until = 0;
        }
        if now.wrapping_sub(self.since).wrapping_mul(PARTS) >= u64::from(hertz) {
            (self.since, self.spent_bytes) = (now, 0);
        }
        // The first packet of a part is always allowed, however long it is.
        self.spent_bytes < BYTES_PER_SECOND / PARTS
    }

    /// A packet is looked at, of which so many bytes are summed up.
    #[inline(always)]
    pub fn spend(&mut self, bytes: u64) {
        self.spent_bytes += bytes + BYTES_PER_PACKET;
    }

    /// A checksum was wrong: now everything is to be looked at.
    #[inline(always)]
    pub fn open(&mut self, now: u64, hertz: u32) {
        self.open_until = now + OPEN_SECONDS * u64::from(hertz);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERTZ: u32 = 250;

    /// Packets of 1,000 bytes that are allowed from `start` on, one in each of `jiffies` and `each` in a jiffy.
    fn allowed(budget: &mut Budget, start: u64, jiffies: u64, each: u64) -> u64 {
        let moments = (start..start + jiffies).flat_map(|now| std::iter::repeat_n(now, each as usize));
        let looked_at = moments.filter(|now| {
            let has_room = budget.has_room(*now, HERTZ);
            if has_room {
                budget.spend(1000);
            }
            has_room
        });
        looked_at.count() as u64
    }

    #[test]
    fn so_many_bytes_are_given_out_in_a_second() {
        assert_eq!(allowed(&mut Budget::default(), 5000, 250, 1000), BYTES_PER_SECOND / (1000 + BYTES_PER_PACKET));
        assert_eq!(allowed(&mut Budget::default(), 5000, 250, 2), 500, "all, where there are few");
    }

    #[test]
    fn a_finding_opens_it_for_a_while() {
        let mut budget = Budget::default();
        budget.open(5000, HERTZ);
        assert_eq!(allowed(&mut budget, 5000, 2500, 30), 2500 * 30);
        assert_eq!(allowed(&mut budget, 7500, 250, 1000), BYTES_PER_SECOND / (1000 + BYTES_PER_PACKET));
    }
}
