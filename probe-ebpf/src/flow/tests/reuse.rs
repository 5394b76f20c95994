//! Two hooks at once: while one shows a connection's packets to their half, the other one gives the place of the other half
//! to somebody else, and takes it back later. Whatever the order of their steps, nothing is made of somebody else's words.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

/// The place of the other half, and what its hook does there: one write at a time, in the order of [`Half::admit`].
struct Other {
    half: Half,
    /// Connections that come here, one after the other, none twice.
    next_tag: u64,
    step: u8,
}

impl Other {
    fn step(&mut self) {
        match self.step {
            0 => self.half.tag = 0,
            1 => self.half = Half::default(),
            2 => self.half.tag = self.next_tag,
            _ => {
                // It acknowledges what our connection has never sent.
                let segment = Segment {
                    seq: 7,
                    ack: START + 500 * MSS,
                    flags: ACK,
                    segments: 1,
                    window: 0,
                    ..Segment::default()
                };
                self.half.observe(&Reverse::UNSEEN, &segment, (&Now { us: 5 }, 0), &mut Notes::default());
            }
        }
        self.step += 1;
        if self.step == 6 {
            (self.step, self.next_tag) = (0, self.next_tag + 1);
        }
    }
}

proptest! {
    #[test]
    fn a_place_that_is_given_away_invents_nothing(steps in prop::collection::vec(0..4_u8, 60)) {
        const OURS: u64 = 1;
        let ours = Segment { seq: 7, ack: START, flags: ACK, segments: 1, window: 100, ..Segment::default() };
        let mut back = Half::new(OURS);
        back.observe(&Reverse::UNSEEN, &ours, (&Now { us: 1 }, 0), &mut Notes::default());
        let other = RefCell::new(Other { half: back, next_tag: OURS + 1, step: 0 });
        let mut half = Half::new(OURS);
        let mut notes = Notes::default();
        let steps = RefCell::new(steps.into_iter().cycle());
        // Between any two looks the other hook goes on by some steps.
        let go_on = || (0..steps.borrow_mut().next().unwrap_or(0)).for_each(|_| other.borrow_mut().step());
        for number in 0..20 {
            let tag = || {
                go_on();
                other.borrow().half.tag
            };
            let copy = || {
                go_on();
                Reverse::of(&other.borrow().half)
            };
            let reverse = Reverse::believed(OURS, tag, copy);
            let segment = Segment {
                seq: START + number * MSS,
                ack: 8,
                payload_bytes: MSS,
                segment_bytes: MSS,
                segments: 1,
                flags: ACK,
                ..Segment::default()
            };
            half.observe(&reverse, &segment, (&Now { us: 10 }, 0), &mut notes);
        }
        prop_assert!(notes.events.is_empty(), "{:?}", notes.events);
    }
}
