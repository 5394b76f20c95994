//! Who may stay in the table: residents are not driven out, newcomers wait.

use super::half::{Clock, Half};

/// Places that a connection can be in: neighbours, so that a lookup reads two adjacent entries at most.
pub const FLOW_WAYS: usize = 2;

/// How long a resident must have been silent to make room for data, in seconds.
const IDLE_SECONDS: u32 = 30;
/// And for a SYN, of which floods are made.
const IDLE_SECONDS_FOR_SYN: u32 = 300;
/// How long a SYN is waited for to become a connection.
const EMBRYONIC_SECONDS: u32 = 2;

/// Where a connection is, or could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is there.
    Resident(usize),
    /// It is not, and may go there.
    Free(usize),
    /// Those who are there stay.
    Full,
}

/// Number of the places of a connection, among `mask` + 1, a power of two.
#[inline(always)]
#[must_use]
pub const fn set_of(tag: u64, mask: u32) -> u32 {
    (tag >> 8) as u32 & mask
}

/// Looks for `tag` in its places; `opens` is whether it comes with a SYN.
#[inline(always)]
#[must_use]
pub fn place<C: Clock>(ways: &[Half; FLOW_WAYS], tag: u64, opens: bool, clock: &C) -> Place {
    let first = first_way(tag);
    let order = [first, 1 - first];
    for at in order {
        if ways[at].tag == tag {
            return Place::Resident(at);
        }
    }
    for at in order {
        if ways[at].tag == 0 {
            return Place::Free(at);
        }
    }
    for at in order {
        if ways[at].makes_room(opens, clock) {
            return Place::Free(at);
        }
    }
    Place::Full
}

/// Of its places the one in which a connection is looked for first, and goes if it can: most are found with one look.
#[inline(always)]
#[must_use]
pub const fn first_way(tag: u64) -> usize {
    (tag >> 1 & 1) as usize
}

impl Half {
    /// Jiffies since it was last seen, to 256 of them; after some hours any.
    #[inline(always)]
    #[must_use]
    pub const fn silent_jiffies(&self, now: u32) -> u32 {
        (((now >> 8) as u16).wrapping_sub(self.seen) as u32) << 8
    }

    #[inline(always)]
    fn makes_room<C: Clock>(&self, opens: bool, clock: &C) -> bool {
        let silent = self.silent_jiffies(clock.jiffies());
        let seconds = if self.is_closed() {
            1
        } else if self.is_embryonic() {
            EMBRYONIC_SECONDS
        } else if opens {
            IDLE_SECONDS_FOR_SYN
        } else {
            IDLE_SECONDS
        };
        silent > seconds * clock.hertz()
    }
}
