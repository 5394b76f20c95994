//! Who has sent malformed frames last: source address and VLAN, by interface and reason, [`SETS`] times [`WAYS`] of them for
//! an interface. Whoever has a place keeps it as long as it goes on: addresses drawn by lot displace nobody, they only find
//! no room.
//!
//! What tells two senders apart fits into one word, so that two CPUs that write at once can never make a third of them.

use crate::{classify::Meta, frame::be16, wire::ethernet};

/// Places in which a sender of an interface can be.
pub const SETS: u32 = 16;
/// Senders in each.
pub const WAYS: usize = 4;
/// Seconds after which a sender who sends nothing of the kind any more can be replaced.
pub const IDLE_SECONDS: u64 = 30;

/// A sender of frames of one reason, on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Source {
    /// See [`Place`]; 0: nobody.
    pub tag: u64,
    /// Frames.
    pub frames: u64,
    /// Jiffies at the last.
    pub last: u64,
}
const _: () = assert!(size_of::<Source>() == 24);

/// Senders that share a place.
pub type SourceSet = [Source; WAYS];

/// The address in the upper 48 bits of 60, the VLAN identifier (0: none) in the lower 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender(pub u64);

impl Sender {
    /// From a frame's first bytes.
    #[inline(always)]
    #[must_use]
    pub fn of(head: &[u8; 16], meta: &Meta) -> Self {
        let tag = match (meta.tag_protocol, be16(head, 12)) {
            (0, ethernet::C_TAG | ethernet::S_TAG | ethernet::OLD_S_TAG) => be16(head, 14),
            (0, _) => 0,
            _ => meta.tag_control,
        };
        let address = u64::from_be_bytes([0, 0, head[6], head[7], head[8], head[9], head[10], head[11]]);
        Self(address << 12 | u64::from(tag & 0x0fff))
    }

    /// The MAC address.
    #[must_use]
    pub const fn address(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = (self.0 >> 12).to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The VLAN identifier, 0 if there is none.
    #[must_use]
    pub const fn vlan(self) -> u16 {
        (self.0 & 0x0fff) as u16
    }

    /// A number below [`SETS`].
    #[inline(always)]
    const fn lot(self) -> u64 {
        const { assert!(SETS == 16) };
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60
    }
}

/// Where a sender of frames of one reason is, and what it is there known by. The set and the tag together are reason and
/// sender: reasons have 8 bits, of which the tag has room for 4 beside the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below [`SETS`].
    pub set: u32,
    /// Never 0.
    pub tag: u64,
}

/// Added to a reason's number, so that no tag is 0.
const OFFSET: u64 = 16;
const _: () = assert!(crate::reason::Malformed::ALL.len() as u64 + OFFSET <= 256);

impl Place {
    /// Of a reason by its number.
    #[inline(always)]
    #[must_use]
    pub const fn of(reason: u8, sender: Sender) -> Self {
        let reason = reason as u64 + OFFSET;
        Self { set: (sender.lot() ^ (reason & 15)) as u32, tag: sender.0 << 4 | reason >> 4 }
    }

    /// The number of the reason, and the sender.
    #[must_use]
    pub const fn told(self) -> (u8, Sender) {
        let sender = Sender(self.tag >> 4);
        let reason = (self.tag & 15) << 4 | (sender.lot() ^ self.set as u64) & 15;
        (reason.wrapping_sub(OFFSET) as u8, sender)
    }
}

/// The place in `set` of the one with this tag: its own, a vacant one, or that of the least who has been idle for long. With how
/// many frames nobody is named for any more, because it was.
#[inline(always)]
pub fn admit(set: &mut SourceSet, tag: u64, now: u64, hertz: u32) -> Option<(&mut Source, u64)> {
    let mut least = WAYS;
    let mut least_frames = u64::MAX;
    for (way, source) in set.iter().enumerate() {
        if source.tag == tag {
            return Some((set.get_mut(way)?, 0));
        }
        let is_idle = now.wrapping_sub(source.last) as i64 >= (IDLE_SECONDS * u64::from(hertz)) as i64;
        let frames = if source.tag == 0 { 0 } else { source.frames.max(1) };
        if (source.tag == 0 || is_idle) && frames < least_frames {
            (least, least_frames) = (way, frames);
        }
    }
    let source = set.get_mut(least)?;
    let nameless = if source.tag == 0 { 0 } else { source.frames };
    *source = Source { tag, frames: 0, last: now };
    Some((source, nameless))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Malformed;

    const HERTZ: u32 = 100;

    fn sender(last: u8, vlan: u64) -> Sender {
        Sender(u64::from_be_bytes([0, 0, 2, 0, 0, 0, 0, last]) << 12 | vlan)
    }

    #[test]
    fn set_and_tag_tell_reason_and_sender() {
        for reason in Malformed::ALL {
            for who in [sender(0, 0), sender(1, 4095), Sender(0), Sender((1 << 60) - 1)] {
                let place = Place::of(*reason as u8, who);
                assert_eq!(place.told(), (*reason as u8, who));
                assert!(place.tag != 0 && place.set < SETS);
            }
        }
    }

    #[test]
    fn the_sender_is_read_with_its_tag() {
        let mut head = [0; 16];
        head[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        let of = |head: &[u8; 16], meta| (Sender::of(head, &meta).address()[5], Sender::of(head, &meta).vlan());
        assert_eq!(of(&head, Meta::default()), (7, 0));
        assert_eq!(of(&head, Meta { tag_protocol: 0x8100, tag_control: 0xe123, ..Meta::default() }), (7, 0x123));
        head[12..].copy_from_slice(&[0x81, 0, 0xe0, 5]);
        assert_eq!(of(&head, Meta::default()), (7, 5));
    }

    /// Frames by the last byte of the address.
    fn counted(set: &SourceSet) -> Vec<(u8, u64)> {
        let of = |source: &Source| (Place { set: 0, tag: source.tag }.told().1.address()[5], source.frames);
        set.iter().filter(|source| source.tag != 0).map(of).collect()
    }

    /// `None` if there is no room.
    fn count(set: &mut SourceSet, last: u8, now: u64) -> Option<u64> {
        let place = Place::of(0, sender(last, 0));
        let (source, nameless) = admit(set, place.tag, now, HERTZ)?;
        source.frames += 1;
        source.last = now;
        Some(nameless)
    }

    #[test]
    fn whoever_goes_on_keeps_the_place() {
        let mut set = SourceSet::default();
        for last in 0..4 {
            assert_eq!(count(&mut set, last, 0), Some(0));
        }
        assert!((4..255).all(|last| count(&mut set, last, 1).is_none()), "there is no room");
        for now in 1..=3000 {
            assert_eq!([0, 1].map(|last| count(&mut set, last, now)), [Some(0); 2]);
        }
        assert_eq!(count(&mut set, 2, 1), Some(0));
        // The third and the fourth are idle; the fourth has sent less.
        assert_eq!(count(&mut set, 9, 3000), Some(1));
        assert_eq!(counted(&set), [(0, 3001), (1, 3001), (2, 2), (9, 1)]);
        assert_eq!(count(&mut set, 10, 3000), None);
        assert_eq!(count(&mut set, 10, 3001), Some(2));
        assert_eq!(counted(&set), [(0, 3001), (1, 3001), (10, 1), (9, 1)]);
    }
}
