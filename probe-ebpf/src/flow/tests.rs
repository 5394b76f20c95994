//! Rows of what a segment means, and properties that hold for all of them.

mod reference;
mod reuse;

use std::collections::BTreeSet;

use super::{
    Clock, Cut, FLOW_WAYS, Half, Key, Ledger, Place, Quality, Reverse, Secret, Segment, Sink, TcpEvent, place, set_of,
    tag_of,
};
use crate::{
    abi::Direction,
    classify::{Network, Packet, Transport},
    wire::tcp::{ACK, FIN, RST, SYN},
};
use TcpEvent::*;

/// Data or the beginning of the connection go this way.
const OUT: usize = 0;
/// And acknowledgements that way.
const BACK: usize = 1;
/// Sequence number of the first byte of data.
const START: u32 = 1_001;
const MSS: u32 = 1_000;

struct Now {
    us: u32,
}

impl Clock for Now {
    fn jiffies(&self) -> u32 {
        self.us / 1_000
    }

    fn hertz(&self) -> u32 {
        1_000
    }

    fn microseconds(&self) -> u32 {
        self.us
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Notes {
    events: Vec<(TcpEvent, u32)>,
    quality: Vec<Quality>,
    lost_before: u32,
    came_late: u32,
}

impl Sink for Notes {
    fn event(&mut self, event: TcpEvent, segments: u32) {
        self.events.push((event, segments));
    }

    fn quality(&mut self, cause: Quality) {
        self.quality.push(cause);
    }

    fn lost_before(&mut self, segments: u32) {
        self.lost_before += segments;
    }

    fn came_late(&mut self, segments: u32) {
        self.came_late += segments;
    }
}

/// Two directions and a clock.
struct Lab {
    halves: [Half; 2],
    now: Now,
    notes: Notes,
    /// Whether the short way is tried first, as the kernel does.
    follows: bool,
}

impl Lab {
    fn new() -> Self {
        let halves = [Half::new(1), Half::new(1)];
        Self { halves, now: Now { us: 5_000_000 }, notes: Notes::default(), follows: true }
    }

    /// Behind the handshake; a round trip takes 10 ms.
    fn connected() -> Self {
        let mut lab = Self::new();
        lab.send(OUT, flags(SYN, 1_000));
        lab.wait(9_000);
        lab.send(BACK, Segment { ack: START, ..flags(SYN | ACK, 7_000) });
        lab.wait(1_000);
        lab.send(OUT, Segment { ack: 7_001, ..flags(ACK, START) });
        assert_eq!(lab.notes, Notes::default());
        assert_eq!(lab.halves[OUT].round_trip_us(), Some(10_000));
        lab
    }

    fn wait(&mut self, us: u32) {
        self.now.us = self.now.us.wrapping_add(us);
    }

    fn send(&mut self, direction: usize, segment: Segment) {
        let reverse = Reverse::of(&self.halves[1 - direction]);
        let half = &mut self.halves[direction];
        if !(self.follows && half.follow(&reverse, &segment, &self.now, 0)) {
            half.observe(&reverse, &segment, (&self.now, 0), &mut self.notes);
        }
    }

    /// Whole segments of data by their numbers.
    fn data(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.send(OUT, data(number));
        }
    }

    fn acked(&mut self, number: u32) {
        self.send(BACK, acked(number));
    }

    fn events(&mut self) -> Vec<(TcpEvent, u32)> {
        std::mem::take(&mut self.notes.events)
    }
}

fn flags(flags: u8, seq: u32) -> Segment {
    Segment { seq, flags, segments: 1, segment_bytes: 1, window: 500, ..Segment::default() }
}

/// The segment of data with this number, from 0.
fn data(number: u32) -> Segment {
    let seq = START.wrapping_add(number.wrapping_mul(MSS));
    Segment { ack: 7_001, payload_bytes: MSS, segment_bytes: MSS, ..flags(ACK, seq) }
}

/// All data before the segment with this number has arrived.
fn acked(number: u32) -> Segment {
    Segment { ack: START.wrapping_add(number.wrapping_mul(MSS)), ..flags(ACK, 7_001) }
}

fn with_id(segment: Segment, identifier: u16) -> Segment {
    Segment { identifier, has: segment.has | Segment::IDENTIFIED, ..segment }
}

fn with_time(segment: Segment, timestamp: u32) -> Segment {
    Segment { timestamp, has: segment.has | Segment::TIMESTAMP, ..segment }
}

fn sack(segment: Segment, blocks: &[[u32; 2]]) -> Segment {
    let edge = |number: u32| START + number * MSS;
    let block = |at: usize| blocks.get(at).map_or([0; 2], |block| block.map(edge));
    let has = if blocks.len() > 1 { Segment::BLOCKS } else { Segment::ONE_BLOCK };
    Segment { first_block: block(0), second_block: block(1), has: segment.has | has, ..segment }
}

#[track_caller]
fn check(name: &str, script: impl FnOnce(&mut Lab), expected: &[(TcpEvent, u32)]) {
    let mut lab = Lab::connected();
    script(&mut lab);
    assert_eq!(lab.notes.events, expected, "{name}");
}

#[test]
fn what_is_in_order_says_nothing() {
    check("data", |lab| lab.data(0..5), &[]);
    check(
        "data and acknowledgements",
        |lab| {
            for number in 0..200 {
                lab.data([number]);
                lab.acked(number + 1);
            }
        },
        &[],
    );
    check(
        "the end",
        |lab| {
            lab.data([0]);
            lab.send(OUT, Segment { ack: 7_001, ..flags(FIN | ACK, data(1).seq) });
            lab.send(BACK, Segment { ack: data(1).seq + 1, ..flags(FIN | ACK, 7_001) });
        },
        &[],
    );
    check(
        "a reset is far away and moves nothing",
        |lab| {
            lab.send(OUT, flags(RST, 99_999_999));
            lab.data([0]);
        },
        &[],
    );
}

#[test]
fn lost_behind_this_point() {
    check("once more", |lab| lab.data([0, 1, 2, 1]), &[(RetransmitSeen, 1)]);
    check("the last one, by a tail probe", |lab| lab.data([0, 1, 1]), &[(RetransmitSeen, 1)]);
    check(
        "a part of one, with new data behind",
        |lab| {
            lab.data([0]);
            lab.send(OUT, Segment { seq: START + 500, ..data(0) });
        },
        &[(RetransmitSeen, 1)],
    );
    check(
        "three at once, merged",
        |lab| {
            lab.data(0..4);
            lab.send(OUT, Segment { payload_bytes: 3 * MSS, segments: 3, ..data(1) });
        },
        &[(RetransmitSeen, 3)],
    );
    check(
        "a receiver that says that it was not needed",
        |lab| {
            lab.data([0, 1, 0]);
            lab.send(BACK, sack(acked(2), &[[0, 1]]));
        },
        &[(RetransmitSeen, 1), (Dsack, 1)],
    );
    check(
        "a block inside the second one",
        |lab| {
            lab.data(0..5);
            lab.acked(1);
            lab.send(BACK, sack(acked(1), &[[3, 4], [2, 5]]));
        },
        &[(Dsack, 1)],
    );
    for (name, edges) in [("a block of half of all numbers", [80, 1]), ("one of none", [1, 1])] {
        check(
            name,
            |lab| {
                lab.data([0, 1, 0]);
                lab.send(BACK, sack(acked(2), &[edges]));
            },
            &[(RetransmitSeen, 1)],
        );
    }
    check(
        "a block that tells of a hole is no such thing",
        |lab| {
            lab.data(0..3);
            lab.send(BACK, sack(acked(1), &[[2, 3]]));
        },
        &[],
    );
}

#[test]
fn the_acknowledgement_was_lost() {
    check(
        "acknowledged here, sent again",
        |lab| {
            lab.data(0..2);
            lab.acked(2);
            lab.data([0, 1]);
        },
        &[(Spurious, 1), (Spurious, 1)],
    );
    check(
        "acknowledged before it came",
        |lab| {
            lab.acked(1);
            lab.data([0]);
        },
        &[(AckedBeforeSeen, 1)],
    );
}

#[test]
fn lost_before_this_point() {
    let mut lab = Lab::connected();
    lab.data([0, 2]);
    lab.wait(15_000);
    lab.data([1, 3]);
    assert_eq!(lab.events(), [(HoleOpened, 1), (HoleFilledRetransmit, 1)]);
    assert_eq!(lab.notes.lost_before, 1);
    check("overtaken", |lab| lab.data([0, 2, 1, 3]), &[(HoleOpened, 1), (HoleFilledReorder, 1)]);
    check(
        "went another way",
        |lab| {
            lab.data([0, 2]);
            lab.acked(3);
            lab.data([3]);
        },
        &[(HoleOpened, 1), (AckedUnseen, 1)],
    );
    check(
        "bare acknowledgements show it too",
        |lab| lab.send(OUT, Segment { ack: 7_001, ..flags(ACK, data(1).seq) }),
        &[(HoleOpened, 1)],
    );
    check(
        "a hole is filled from both ends and in the middle",
        |lab| {
            lab.data([0, 10]);
            lab.wait(20_000);
            lab.data([1, 9, 5, 2, 3, 4, 6, 7, 8, 8]);
        },
        &[&[(HoleOpened, 1)][..], &[(HoleFilledRetransmit, 1); 9], &[(RetransmitSeen, 1)]].concat(),
    );
    check(
        "three segments in one that fill half a hole",
        |lab| {
            lab.data([0, 7]);
            lab.wait(20_000);
            lab.send(OUT, Segment { payload_bytes: 3 * MSS, segments: 3, ..data(1) });
        },
        &[(HoleOpened, 1), (HoleFilledRetransmit, 3)],
    );
}

#[test]
fn a_seventh_hole_joins_the_two_lowest() {
    let missing = [1, 6, 11, 16, 18, 23, 28];
    let mut lab = Lab::connected();
    lab.data((0..28).filter(|number| !missing.contains(number)));
    assert_eq!(lab.notes.quality, []);
    lab.data([29]);
    assert_eq!(lab.notes.quality, [Quality::HoleEvicted]);
    lab.events();
    lab.wait(20_000);
    // What lies between the two and what was missing are told apart by their number alone.
    lab.data([1, 3, 6, 8, 11, 13, 16, 17, 18, 20, 23, 25, 28]);
    let expected = [1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1].map(|is_filled| match is_filled {
        1 => (HoleFilledRetransmit, 1),
        _ => (RetransmitSeen, 1),
    });
    assert_eq!(lab.events(), expected);
}

/// However much of joined holes comes at once, no more of it was missing than was.
#[test]
fn a_merged_segment_fills_no_more_than_was_missing() {
    let missing = [1, 16, 21, 26, 31, 36, 41];
    let mut lab = Lab::connected();
    lab.data((0..=42).filter(|number| !missing.contains(number)));
    assert_eq!(lab.notes.quality, [Quality::HoleEvicted]);
    lab.events();
    lab.wait(20_000);
    lab.send(OUT, Segment { payload_bytes: 16 * MSS, segments: 16, ..data(1) });
    assert_eq!((lab.events(), lab.notes.lost_before), (vec![(HoleFilledRetransmit, 2)], 2));
}

/// It was seen: that it is never sent again is no sign of another way, in whatever order the holes are filled.
#[test]
fn what_lies_between_joined_holes_is_not_unseen() {
    let missing = [1, 6, 11, 16, 18, 20, 25, 30];
    for order in [[1, 6, 11], [6, 1, 11], [11, 6, 1]] {
        let mut lab = Lab::connected();
        lab.data((0..=31).filter(|number| !missing.contains(number)));
        assert_eq!(lab.notes.quality, [Quality::HoleEvicted; 2]);
        lab.events();
        lab.wait(20_000);
        lab.data(order.into_iter().chain([16, 18, 20, 25, 30]));
        lab.acked(32);
        lab.data([32]);
        assert_eq!(lab.events(), [(HoleFilledRetransmit, 1); 8], "{order:?}");
    }
}

/// Of joined holes that were acknowledged in part only what is still to come can be missing.
#[test]
fn what_went_another_way_is_not_waited_for() {
    let missing = [1, 6, 11, 16, 21, 26, 31];
    let mut lab = Lab::connected();
    lab.data((0..=32).filter(|number| !missing.contains(number)));
    lab.events();
    lab.acked(6);
    lab.wait(20_000);
    // One of them is not there any more, and the other one's acknowledgement passes here.
    lab.data([6, 7]);
    lab.acked(33);
    lab.data([33]);
    assert_eq!(lab.events(), [(HoleFilledRetransmit, 1), (RetransmitSeen, 1), (AckedUnseen, 5)]);
}

#[test]
fn a_hole_is_split_where_there_is_no_room() {
    let mut lab = Lab::connected();
    let missing = [1, 5, 6, 7, 10, 13, 16, 19];
    lab.data((0..=20).filter(|number| !missing.contains(number)));
    assert_eq!(lab.notes.quality, []);
    lab.events();
    lab.wait(20_000);
    lab.data([6]);
    assert_eq!(lab.notes.quality, [Quality::HoleEvicted]);
    lab.data([1, 5, 7, 10, 13, 16, 19, 6, 1, 19]);
    let filled = [[(HoleFilledRetransmit, 1); 8].as_slice(), &[(RetransmitSeen, 1); 3]].concat();
    assert_eq!(lab.events(), filled);
}

#[test]
fn retransmission_or_reordering() {
    let mut qualified = Lab::connected();
    for number in 0..70 {
        qualified.send(OUT, with_id(data(number), 1_000 + number as u16));
    }
    assert!(qualified.halves[OUT].is_identified());
    for (name, identifier, timestamp, wait, expected) in [
        ("identifiers: sent before", Some(70_u16), 600, 90_000, HoleFilledReorder),
        ("identifiers: sent after", Some(72), 500, 0, HoleFilledRetransmit),
        ("timestamps: the same age or less decides", None, 499, 90_000, HoleFilledReorder),
        ("timestamps: newer", None, 501, 0, HoleFilledRetransmit),
        ("time: at once", None, 500, 7_000, HoleFilledReorder),
        ("time: a round trip later, or nearly", None, 500, 7_500, HoleFilledRetransmit),
    ] {
        // Where a host's clock stands when a connection begins is chance.
        for clock in [0, u32::MAX / 2, u32::MAX - 500] {
            let mut lab = Lab { halves: qualified.halves, now: Now { us: qualified.now.us }, ..Lab::connected() };
            let id = |segment, id: Option<u16>| id.map_or(segment, |id| with_id(segment, 1_000 + id));
            let time = |segment, timestamp: u32| with_time(segment, timestamp.wrapping_add(clock));
            lab.send(OUT, id(time(data(71), 500), identifier.map(|_| 71)));
            lab.wait(wait);
            lab.send(OUT, id(time(data(70), timestamp), identifier));
            let filled =
                lab.events().into_iter().find(|(event, _)| matches!(event, HoleFilledReorder | HoleFilledRetransmit));
            assert_eq!(filled, Some((expected, 1)), "{name}");
        }
    }
}

/// Only after a block of packets is known whether identifiers count; what was missing until then was lost all the same, once.
#[test]
fn what_is_lost_while_identifiers_are_not_known_yet() {
    for filled_behind in [20, 63, 64, 65, 80] {
        let mut lab = Lab::connected();
        let mut identifier = 500;
        let mut send = |lab: &mut Lab, number| {
            lab.send(OUT, with_id(data(number), identifier));
            identifier += 1;
        };
        send(&mut lab, 0);
        for number in 2..100 {
            if number == 2 {
                // The identifier of what is lost.
                send(&mut Lab::connected(), 1);
            }
            send(&mut lab, number);
            if number == filled_behind {
                lab.wait(20_000);
                send(&mut lab, 1);
            }
        }
        assert!(lab.halves[OUT].is_identified());
        assert_eq!(lab.notes.lost_before, 1, "filled behind {filled_behind}");
        let sum =
            |kind| lab.notes.events.iter().filter(|(event, _)| *event == kind).map(|(_, count)| count).sum::<u32>();
        assert!(sum(IdConfirmed) <= sum(IdGap), "filled behind {filled_behind}");
    }
}

/// A copy that the network has made is older than what was seen, too.
#[test]
fn copies_take_back_no_more_than_was_told() {
    let mut lab = Lab::connected();
    for number in 0..100 {
        lab.send(OUT, with_time(data(number + 1), 501 + number));
        lab.send(OUT, with_time(data(number), 500 + number));
    }
    let lost = lab.notes.lost_before;
    assert_eq!(lab.notes.came_late, 0);
    lab.wait(20_000);
    lab.send(OUT, with_time(data(102), 700));
    lab.send(OUT, with_time(data(101), 710));
    assert_eq!(lab.notes.lost_before, lost + 1);
    for _copy in 0..3 {
        lab.send(OUT, with_time(data(101), 699));
    }
    assert_eq!(lab.notes.came_late, 1);
}

#[test]
fn a_retransmission_that_overtakes_the_original_is_no_loss() {
    for is_acknowledged in [false, true] {
        let mut lab = Lab::connected();
        for (number, timestamp) in [(0, 500), (2, 500), (1, 520), (3, 520)] {
            lab.send(OUT, with_time(data(number), timestamp));
        }
        if is_acknowledged {
            lab.acked(4);
        }
        assert_eq!((lab.notes.lost_before, lab.notes.came_late), (1, 0));
        lab.send(OUT, with_time(data(1), 500));
        assert_eq!((lab.notes.lost_before, lab.notes.came_late), (1, 1));
        // Sent once more, it says nothing of the kind.
        lab.send(OUT, with_time(data(1), 530));
        assert_eq!(lab.notes.came_late, 1);
    }
}

#[test]
fn beginnings_and_ends() {
    let opening = flags(SYN, 1_000);
    let answer = Segment { ack: START, ..flags(SYN | ACK, 7_000) };
    let mut lab = Lab::new();
    for _ in 0..3 {
        lab.send(OUT, opening);
        lab.wait(1_000_000);
    }
    lab.send(BACK, answer);
    lab.send(BACK, answer);
    assert_eq!(lab.events(), [(SynRetransmit, 1), (SynRetransmit, 1), (SynackRetransmit, 1)]);
    check(
        "FIN once more",
        |lab| {
            let fin = Segment { ack: 7_001, ..flags(FIN | ACK, START) };
            lab.send(OUT, fin);
            lab.send(OUT, fin);
        },
        &[(FinRetransmit, 1)],
    );
    check(
        "the last data, with its FIN, once more",
        |lab| {
            for payload_bytes in [MSS, 10, 3 * MSS] {
                let segments = payload_bytes.div_ceil(MSS);
                let last = Segment { payload_bytes, segment_bytes: payload_bytes.min(MSS), segments, ..data(0) };
                lab.send(OUT, Segment { flags: FIN | ACK, ..last });
                lab.send(OUT, Segment { flags: FIN | ACK, ..last });
                lab.send(OUT, flags(SYN, START - 1));
            }
        },
        &[(RetransmitSeen, 1), (RetransmitSeen, 1), (RetransmitSeen, 3)],
    );
    check(
        "the ports again: nothing is remembered",
        |lab| {
            lab.data(0..5);
            lab.acked(5);
            lab.send(OUT, flags(SYN, 900_000));
            lab.send(BACK, Segment { ack: 900_001, ..flags(SYN | ACK, 800_000) });
            lab.send(OUT, Segment { seq: 900_001, ack: 800_001, ..data(0) });
        },
        &[],
    );
    check(
        "a SYN voids what was acknowledged",
        |lab| {
            lab.acked(1_000_000);
            lab.send(OUT, flags(SYN, 5_000));
            lab.send(OUT, Segment { seq: 5_001, ..data(0) });
            lab.send(OUT, Segment { seq: 5_001, ..data(0) });
        },
        &[(RetransmitSeen, 1)],
    );
    let mut lab = Lab::new();
    lab.data([5, 6, 5]);
    assert_eq!(lab.notes.quality, [Quality::MidStream]);
    assert_eq!(lab.events(), [(RetransmitSeen, 1)]);
}

#[test]
fn probes_and_copies() {
    check(
        "keep-alive, without and with a byte",
        |lab| {
            lab.data([0]);
            lab.send(OUT, Segment { ack: 7_001, ..flags(ACK, data(1).seq - 1) });
            lab.send(OUT, Segment { payload_bytes: 1, ..flags(ACK, data(1).seq - 1) });
        },
        &[(Keepalive, 1), (Keepalive, 1)],
    );
    check(
        "into a closed window; the byte comes again with what follows",
        |lab| {
            lab.data([0]);
            lab.send(BACK, Segment { window: 0, ..acked(1) });
            lab.send(OUT, Segment { payload_bytes: 1, ..flags(ACK, data(1).seq) });
            lab.acked(1);
            lab.data([1]);
        },
        &[(ZeroWindowProbe, 1)],
    );
    check(
        "a copy, and a retransmission that only looks like one",
        |lab| {
            lab.send(OUT, with_id(data(0), 77));
            lab.send(OUT, with_id(data(0), 77));
            lab.send(OUT, with_id(data(0), 78));
        },
        &[(Duplicate, 1), (RetransmitSeen, 1)],
    );
    check(
        "an identifier that does not change makes no copies",
        |lab| {
            lab.send(OUT, with_time(with_id(data(0), 77), 1_000));
            lab.send(OUT, with_time(with_id(data(1), 77), 1_001));
            lab.send(OUT, with_time(with_id(data(0), 77), 1_001 + 128 * MSS));
        },
        &[(RetransmitSeen, 1)],
    );
    check(
        "too large for the path",
        |lab| {
            let large = Segment { payload_bytes: 1_400, segment_bytes: 1_400, ..data(0) };
            for _ in 0..4 {
                lab.send(OUT, large);
            }
        },
        &[(RetransmitSeen, 1), (RetransmitSeen, 1), (PmtuSuspect, 1), (RetransmitSeen, 1)],
    );
}

#[test]
fn a_direction_alone() {
    let mut lab = Lab::new();
    lab.data(0..200);
    lab.data([150]);
    assert_eq!(lab.notes.quality, [Quality::MidStream, Quality::OneSided]);
    assert_eq!(lab.events(), [(RetransmitSeen, 1)]);
}

/// A lab whose identifiers count; the next packet is number 200, with identifier 200.
fn identified() -> Lab {
    identified_from(0)
}

/// The same, where the first packet had this one.
fn identified_from(first: u16) -> Lab {
    let mut lab = Lab::connected();
    for number in 0..200 {
        lab.send(OUT, with_id(data(number), first.wrapping_add(number as u16)));
    }
    assert!(lab.halves[OUT].is_identified());
    assert_eq!(lab.events(), []);
    lab
}

/// Also where a block of identifiers ends, and with merged packets.
#[test]
fn an_ordinary_stream_takes_the_short_way() {
    let mut lab = identified();
    let mut number = 200;
    for merged in [1, 3, 45].repeat(100) {
        let segment = with_id(data(number), number as u16);
        let segment = Segment { payload_bytes: merged * MSS, segments: merged, ..segment };
        let reverse = Reverse::of(&lab.halves[BACK]);
        assert!(lab.halves[OUT].follow(&reverse, &segment, &lab.now, 0), "segment {number}");
        number += merged;
    }
}

#[test]
fn identifiers_tell_what_sequence_numbers_cannot() {
    // 202 is lost, so is its retransmission (206) and a bare acknowledgement (207); the second retransmission (208) comes.
    let mut lab = identified();
    for (number, identifier) in [(200, 200), (201, 201), (203, 203), (204, 204), (205, 205)] {
        lab.send(OUT, with_id(data(number), identifier));
    }
    lab.wait(300_000);
    lab.send(OUT, with_id(data(202), 208));
    assert_eq!(
        lab.events(),
        [(IdGap, 1), (HoleOpened, 1), (IdGap, 2), (HoleFilledRetransmit, 1), (IdConfirmed, 1), (IdConfirmed, 2)]
    );
    assert_eq!(lab.notes.lost_before, 3);
}

/// In the midst of losses the last segment of a train comes first, as GRO delivers it, and the others' first identifier is 0.
#[test]
fn identifiers_come_past_zero() {
    let mut lab = identified_from(65_330);
    // 200 (65,530) is lost.
    for number in 201..205 {
        lab.send(OUT, with_id(data(number), 65_330 + number as u16));
    }
    lab.send(OUT, with_id(data(100), 65_535));
    lab.wait(300_000);
    lab.send(OUT, with_id(data(216), 11));
    lab.send(OUT, Segment { payload_bytes: 11 * MSS, segments: 11, ..with_id(data(205), 0) });
    assert_eq!(lab.notes.lost_before - lab.notes.came_late, 1);
    // Behind the lost packet 65,535, and overtaken.
    for order in [[0, 1, 2], [1, 0, 2]] {
        let mut lab = identified_from(65_335);
        for at in order {
            lab.send(OUT, with_id(data(201 + at), at as u16));
        }
        let events = lab.events();
        let sum = |kind| -> u32 { events.iter().filter(|(event, _)| *event == kind).map(|(_, count)| count).sum() };
        assert_eq!(sum(IdGap) - sum(IdLate), 1, "{order:?}");
    }
}

/// A packet of a damaged sequence number, or one that acknowledges what was never sent, is without consequence.
#[test]
fn a_stray_packet_accuses_nobody() {
    let stray = |segment: Segment| Segment { seq: segment.seq ^ 1 << 30, ..segment };
    for identify in [false, true] {
        let id = |segment, number: u32| if identify { with_id(segment, number as u16) } else { segment };
        let mut lab = identified();
        lab.send(OUT, id(data(200), 200));
        lab.send(OUT, id(stray(data(201)), 201));
        (202..230).for_each(|number| lab.send(OUT, id(data(number), number)));
        assert_eq!(lab.events(), [], "the sequence number of one, identifiers {identify}");
        lab.acked(220);
        let stray_ack = |lab: &mut Lab| {
            lab.send(BACK, Segment { ack: data(220).seq.wrapping_add(1 << 29), ..flags(ACK, 7_001) });
        };
        stray_ack(&mut lab);
        lab.acked(225);
        (230..240).for_each(|number| lab.send(OUT, id(data(number), number)));
        lab.send(OUT, id(data(228), 240));
        lab.send(OUT, id(data(222), 241));
        let expected = [(RetransmitSeen, 1), (Spurious, 1)];
        assert_eq!(lab.events(), expected, "the acknowledgement of one, identifiers {identify}");
        // Nor is what is new or missing acknowledged until the next one comes.
        lab.send(OUT, id(data(241), 242));
        stray_ack(&mut lab);
        lab.send(OUT, id(data(242), 243));
        assert_eq!(lab.events(), [(HoleOpened, 1)], "before the next one, identifiers {identify}");
    }
}

/// The network copies packets, and the copies come late: nothing was lost.
#[test]
fn copies_that_come_late_are_no_loss() {
    let mut lab = identified();
    for number in 200..400_u32 {
        lab.send(OUT, with_id(data(number), number as u16));
        lab.wait(100);
        if number % 10 == 3 {
            lab.send(OUT, with_id(data(number - 3), number as u16 - 3));
        }
    }
    let events = lab.events();
    assert!(events.iter().all(|(event, _)| matches!(event, IdLate | Duplicate)), "{events:?}");
    assert_eq!(events.iter().filter(|(event, _)| *event == Duplicate).count(), 20);
    assert_eq!(lab.notes.lost_before, 0);
}

/// A counter that a tenth of the packets share with other destinations, and losses behind this point.
#[test]
fn a_shared_counter_accuses_nobody_of_losses_behind() {
    let mut lab = identified();
    let (mut identifier, mut lost) = (200_u16, Vec::new());
    // One loss before, long ago.
    lab.send(OUT, with_id(data(201), 201));
    lab.wait(20_000);
    lab.send(OUT, with_id(data(200), 202));
    lab.wait(5_000_000);
    identifier += 2;
    assert_eq!(lab.notes.lost_before, 1);
    lab.events();
    for number in 202..4_000_u32 {
        identifier = identifier.wrapping_add(if number % 10 == 7 { 3 } else { 1 });
        lab.send(OUT, with_id(data(number), identifier));
        lost.extend((number % 97 == 5).then_some(number));
        lab.wait(100);
        if number % 97 == 55 {
            identifier = identifier.wrapping_add(1);
            lost.drain(..).for_each(|number| lab.send(OUT, with_id(data(number), identifier)));
        }
    }
    let events = lab.events();
    assert!(lab.halves[OUT].is_identified());
    assert_eq!(events.iter().filter(|(event, _)| *event == RetransmitSeen).count(), 38);
    assert_eq!(lab.notes.lost_before, 1);
}

/// Requests of one segment each, of which some are lost before this point and some behind it: no hole tells.
#[test]
fn lost_ends_are_told_by_identifiers() {
    let mut lab = identified();
    let (mut identifier, mut lost) = (200_u16, 0);
    for number in 200..2_000_u32 {
        if number % 40 == 7 {
            lost += 1;
            identifier += 1;
            lab.wait(200_000);
        }
        lab.send(OUT, with_id(data(number), identifier));
        identifier += 1;
        if number % 40 == 27 {
            lab.wait(200_000);
            lab.send(OUT, with_id(data(number - 1), identifier));
            identifier += 1;
        }
        lab.wait(1_000);
    }
    assert_eq!((lab.notes.lost_before, lab.notes.came_late), (lost, 0));
}

/// What is sent again because of a loss behind this point is overtaken by what is new.
#[test]
fn an_overtaken_retransmission_is_one() {
    let mut lab = identified();
    for (order, number) in (300..2_000_u32).step_by(50).enumerate() {
        let first = 200 + 51 * order as u32;
        (0..49).for_each(|at| lab.send(OUT, with_id(data(200 + 50 * order as u32 + at), (first + at) as u16)));
        lab.send(OUT, with_id(data(200 + 50 * order as u32 + 49), (first + 50) as u16));
        lab.send(OUT, with_id(data(number - 80), (first + 49) as u16));
        lab.wait(2_000_000);
    }
    let again = lab.events().iter().filter(|(event, _)| *event == RetransmitSeen).count();
    assert_eq!((again, lab.notes.lost_before, lab.notes.came_late), (34, 0, 0));
}

#[test]
fn identifiers_accuse_nobody_alone() {
    let thinned = |lab: &mut Lab| {
        for step in 0..50_u32 {
            let bare = Segment { ack: 7_001 + step, ..flags(ACK, data(200).seq) };
            lab.send(OUT, with_id(bare, 200 + 2 * step as u16));
        }
    };
    let mut lab = identified();
    thinned(&mut lab);
    assert!(lab.events().iter().all(|(event, _)| *event == AckGap));
    let mut lab = identified();
    // A counter that is shared by all destinations.
    for step in 0..200 {
        lab.send(OUT, with_id(data(200 + step), 200 + 2 * step as u16));
    }
    assert!(lab.events().iter().all(|(event, _)| *event == IdGap));
    assert!(!lab.halves[OUT].is_identified(), "after a block it is not believed any more");
    assert_eq!(lab.notes.lost_before, 0);
    let mut lab = identified();
    // Data overtaken by an acknowledgement of the same host, again and again.
    for step in 0..20_u16 {
        let number = 200 + u32::from(step);
        let bare = Segment { ack: 7_001, ..flags(ACK, data(number).seq) };
        lab.send(OUT, with_id(bare, 201 + 2 * step));
        lab.send(OUT, with_id(data(number), 200 + 2 * step));
    }
    assert_eq!((lab.notes.lost_before, lab.notes.came_late), (0, 0));
    let mut lab = identified();
    // Another leg of the path for a while.
    lab.send(OUT, with_id(data(230), 230));
    lab.acked(231);
    lab.send(OUT, with_id(data(231), 231));
    lab.data([100]);
    assert_eq!(lab.notes.lost_before, 0);
    let mut lab = identified();
    // A gap and, three seconds later, a retransmission.
    lab.send(OUT, with_id(data(200), 205));
    lab.wait(3_000_000);
    lab.send(OUT, with_id(data(200), 206));
    assert_eq!(lab.events(), [(IdGap, 5), (RetransmitSeen, 1)]);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_segment() -> impl Strategy<Value = (usize, Segment, u32)> {
        let flag =
            prop_oneof![20 => Just(ACK), 1 => Just(SYN), 1 => Just(SYN | ACK), 1 => Just(FIN | ACK), 1 => Just(RST)];
        let bytes = prop_oneof![Just(0_u32), Just(1), Just(MSS), Just(3 * MSS)];
        (
            0..2_usize,
            0..12_u32,
            flag,
            bytes,
            0..14_u32,
            0..16_u16,
            0..16_u8,
            prop_oneof![Just(0), Just(500)],
            0..3_000_u32,
        )
            .prop_map(|(direction, number, flags, payload_bytes, acked, identifier, has, window, wait)| {
                let segments = payload_bytes.div_ceil(MSS).max(1);
                let segment = Segment {
                    seq: START.wrapping_add(number * MSS),
                    ack: START.wrapping_add(acked * MSS),
                    payload_bytes,
                    segment_bytes: payload_bytes.clamp(1, MSS),
                    segments,
                    timestamp: wait / 10,
                    first_block: [START, START + acked * MSS],
                    second_block: [START, START + 9 * MSS],
                    window,
                    identifier,
                    flags,
                    has,
                    ..Segment::default()
                };
                (direction, segment, wait * wait)
            })
    }

    /// Runs of segments as they come in life: mostly the next one.
    fn run(follows: bool, base: u32, chaos: &[(usize, Segment, u32)]) -> (Notes, [Half; 2]) {
        let mut lab = Lab { follows, ..Lab::new() };
        let mut next = [base, base.wrapping_add(77)];
        let mut identifiers = [0_u16; 2];
        for (step, (direction, odd, wait)) in chaos.iter().enumerate() {
            lab.wait(*wait);
            for _ in 0..step % 9 {
                let way = (step / 3) % 2;
                let bytes = if step % 5 == 0 { 0 } else { MSS };
                let usual = Segment {
                    seq: next[way],
                    ack: next[1 - way],
                    payload_bytes: bytes,
                    segment_bytes: bytes.max(1),
                    ..flags(ACK, 0)
                };
                next[way] = next[way].wrapping_add(bytes);
                identifiers[way] = identifiers[way].wrapping_add(1);
                lab.send(way, with_id(usual, identifiers[way]));
            }
            let seq = base.wrapping_add(odd.seq);
            lab.send(*direction, Segment { seq, ack: base.wrapping_add(odd.ack), ..*odd });
        }
        (lab.notes, lab.halves)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

        /// The short way leaves behind what the long one does, and has nothing to tell.
        #[test]
        fn the_short_way_is_the_long_one(chaos in proptest::collection::vec(any_segment(), 1..60)) {
            prop_assert_eq!(run(true, 0, &chaos), run(false, 0, &chaos));
        }

        /// What the short way takes from an ordinary packet is what the window shows.
        #[test]
        fn the_short_way_reads_the_same(
            random: [u8; 60],
            is_ipv6: bool,
            has_timestamps: bool,
            group: u8,
            encapsulation: u32,
            direction in prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)],
        ) {
            const NETWORK_AT: usize = 14;
            let (network, network_bytes) = if is_ipv6 { (Network::Ipv6, 40) } else { (Network::Ipv4, 20) };
            let at = NETWORK_AT + network_bytes;
            let mut frame = [&[0; NETWORK_AT], &random[..], &[0; 40]].concat();
            let words: u8 = if has_timestamps { 8 } else { 5 };
            frame[at + 12] = words << 4;
            frame[at + 20..at + 24].copy_from_slice(&[1, 1, 8, 10]);
            let packet = Packet {
                network,
                transport: Transport::Tcp,
                network_at: NETWORK_AT as u16,
                transport_at: at as u16,
                header_bytes: (at + usize::from(words) * 4) as u16,
                payload_bytes: 100,
            };
            let shown = Segment::of(&frame[..], &packet, Cut { segments: 1, gso_size: 0 }).expect("a segment");
            let mut read = Segment::plain(&frame[..], network, (NETWORK_AT, at)).expect("a plain segment");
            read.size(100, Cut { segments: 1, gso_size: 0 });
            prop_assert_eq!(Segment { option_at: 0, ..shown }, read);
            let key = Key::of(&frame[..], &packet, direction).expect("a key");
            let key = Key { group: group.into(), encapsulation, ..key };
            let tag = tag_of(&frame[..], (network, NETWORK_AT, at), (direction, group), encapsulation, &SECRET);
            prop_assert_eq!(tag, Some(key.tag(&SECRET)));
        }

        /// Sequence numbers wrap around and nothing changes.
        #[test]
        fn wrapping_changes_nothing(base in any::<u32>(), chaos in proptest::collection::vec(any_segment(), 1..40)) {
            let plain: Vec<_> = chaos.into_iter().map(|(direction, segment, wait)| {
                (direction, Segment { has: segment.has & !Segment::BLOCKS, ..segment }, wait)
            }).collect();
            prop_assert_eq!(run(true, 0, &plain).0, run(true, base, &plain).0);
        }

        /// However packets overtake each other, identifiers net to no loss.
        #[test]
        fn reordering_alone_is_no_loss(
            swaps in proptest::collection::vec((200..400_usize, 1..8_usize), 0..60),
            bare in proptest::collection::vec(any::<bool>(), 250),
            first in prop_oneof![Just(0), 65_100..=65_535_u16],
        ) {
            let mut lab = identified_from(first);
            let mut packets = Vec::new();
            let mut number = 200;
            for (at, is_bare) in bare.iter().enumerate() {
                let next = data(number);
                let packet = if *is_bare { Segment { payload_bytes: 0, segment_bytes: 1, ..next } } else { number += 1; next };
                packets.push(with_id(packet, first.wrapping_add(200 + at as u16)));
            }
            for (at, distance) in swaps {
                let at = (at - 200) % 200;
                let packet = packets.remove(at);
                packets.insert((at + distance).min(packets.len()), packet);
            }
            for packet in packets {
                lab.send(OUT, packet);
            }
            prop_assert_eq!(lab.notes.lost_before, 0);
            prop_assert!(!lab.notes.events.iter().any(|(event, _)| matches!(event, IdConfirmed | RetransmitSeen | HoleFilledRetransmit)));
        }

        /// However many are lost before and behind this point, and whatever is sent again first: an observer that remembers
        /// everything counts as many as lost before it, and as many as lost behind it.
        #[test]
        fn sums_are_right_whatever_is_lost(
            lost in proptest::collection::vec((0..100_u32, 0..100_u32, 1..90_usize), 300),
            before in 0..40_u32,
            behind in 0..40_u32,
            wrap in any::<u32>(),
        ) {
            let mut again = std::collections::BTreeMap::<usize, Vec<u32>>::new();
            let mut seen = std::collections::BTreeSet::new();
            let mut expected = [0, 0];
            let mut lab = Lab::new();
            let none = (99, 99, 1);
            for (at, (dice_before, dice_behind, later)) in [none].into_iter().chain(lost).chain([none; 100]).enumerate() {
                let number = at as u32;
                if dice_before < before || dice_behind < behind {
                    again.entry(at + later).or_default().push(number);
                }
                let passing = Some(number).filter(|_| dice_before >= before);
                for number in passing.into_iter().chain(again.remove(&at).unwrap_or_default()) {
                    let comes_late = seen.last().is_some_and(|last| number < *last);
                    let is_new = seen.insert(number);
                    if comes_late || !is_new {
                        expected[usize::from(!is_new)] += 1;
                    }
                    lab.send(OUT, Segment { seq: data(number).seq.wrapping_add(wrap), ..data(number) });
                }
            }
            let sum = |kinds: &[TcpEvent]| -> u32 {
                lab.notes.events.iter().filter(|(event, _)| kinds.contains(event)).map(|(_, count)| count).sum()
            };
            prop_assert_eq!([sum(&[HoleFilledRetransmit, HoleFilledReorder]), sum(&[RetransmitSeen])], expected);
        }

        /// A stream may be cut into segments in any way.
        #[test]
        fn any_cut_of_a_stream_is_in_order(cuts in proptest::collection::vec(1..70_000_u32, 1..100), wrap in any::<u32>()) {
            let mut lab = Lab::new();
            let mut seq = wrap;
            for bytes in cuts {
                let segments = bytes.div_ceil(MSS);
                lab.send(OUT, Segment { seq, payload_bytes: bytes, segment_bytes: bytes.min(MSS), segments, ..data(0) });
                seq = seq.wrapping_add(bytes);
            }
            prop_assert_eq!(lab.notes.events, []);
        }
    }
}

#[test]
fn a_ledger_adds_up() {
    let mut ledger = Ledger::default();
    ledger.event(RetransmitSeen, 3);
    ledger.event(RetransmitSeen, 4);
    ledger.quality(Quality::TableFull);
    ledger.lost_before(2);
    assert_eq!((ledger.of(RetransmitSeen), ledger.of(Dsack), ledger.lost_before), (7, 0, 2));
    assert_eq!(ledger.quality[Quality::TableFull as usize], 1);
}

#[test]
fn residents_stay() {
    const HERE: u64 = 9;
    let at = |seconds: u32| Now { us: seconds * 1_000_000 };
    let resident = |script: &dyn Fn(&mut Lab)| {
        let mut lab = Lab::new();
        lab.now = at(1_000);
        script(&mut lab);
        lab.halves[OUT]
    };
    let data_alone = resident(&|lab| lab.data([0]));
    let syn_alone = resident(&|lab| lab.send(OUT, flags(SYN, 1_000)));
    let ended = resident(&|lab| {
        lab.data([0]);
        lab.send(OUT, flags(RST, 5));
    });
    for (name, half, opens, silent, expected) in [
        ("data asks after 20 s", data_alone, false, 20, Place::Full),
        ("data asks after 32 s", data_alone, false, 32, Place::Free(0)),
        ("a SYN asks after 32 s", data_alone, true, 32, Place::Full),
        ("a SYN asks after 302 s", data_alone, true, 302, Place::Free(0)),
        ("a SYN that nothing followed", syn_alone, true, 4, Place::Free(0)),
        ("a SYN that nothing followed yet", syn_alone, true, 1, Place::Full),
        ("a connection that has ended", ended, false, 3, Place::Free(0)),
    ] {
        let ways = [half; FLOW_WAYS];
        assert_eq!(place(&ways, HERE, opens, &at(1_000 + silent)), expected, "{name}");
        assert_eq!(place(&ways, half.tag, opens, &at(1_000 + silent)), Place::Resident(0), "{name}");
    }
    let vacant = [data_alone, Half::default()];
    assert_eq!(place(&vacant, HERE, true, &at(1_000)), Place::Free(1));
}

const SECRET: Secret = Secret { seed: 0x1234_5678_9abc_def0, factor: 0x9e37_79b9_7f4a_7c15 };

/// All keys have tags of their own, and as many of 32,768 places are taken as by lot.
fn assert_told_apart(keys: impl Iterator<Item = Key>) {
    let mut tags = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut count = 0;
    for key in keys.flat_map(|key| [key, key.reversed()]) {
        let tag = key.tag(&SECRET);
        assert_eq!(tag, key.reversed().reversed_tag(&SECRET));
        tags.insert(tag);
        places.insert(set_of(tag, 32_767));
        count += 1;
    }
    assert_eq!(tags.len(), count);
    // 1 - e^(-n), give or take.
    let expected = 32_768.0 * (1.0 - (-(count as f64) / 32_768.0).exp());
    assert!((places.len() as f64 / expected - 1.0).abs() < 0.02, "{} places, {expected} expected", places.len());
}

fn key(outside: [u64; 2], inside: [u64; 2], ports: (u16, u16)) -> Key {
    Key { outside, inside, outside_port: ports.0, inside_port: ports.1, ..Key::default() }
}

#[test]
fn tags_tell_connections_apart() {
    let ipv4 = |last: [u8; 2]| Key::mapped(u32::from_ne_bytes([10, 0, last[0], last[1]]));
    let ipv6 = |last: u16| [0x20_u64, u64::from(last).to_be()];
    let grid = || (0..128_u16).flat_map(|a| (0..96_u16).map(move |b| (a, b)));
    assert_told_apart(grid().map(|(host, port)| key(ipv4([0, host as u8]), ipv4([1, 1]), (40_000 + port, 443))));
    assert_told_apart(grid().map(|(host, port)| key(ipv4([0, 1]), ipv4([1, host as u8]), (443, 40_000 + port))));
    assert_told_apart(grid().map(|(a, b)| key(ipv4([0, a as u8]), ipv4([1, b as u8]), (443, 443))));
    assert_told_apart(grid().map(|(a, b)| key(ipv6(a), ipv6(1 << 8 | b), (443, 50_000))));
    let of_port = |port| key(ipv4([0, 1]), ipv4([1, 1]), (40_000 + port, 443));
    for shift in [0, 16] {
        assert_told_apart(grid().map(|(vlan, port)| Key { encapsulation: u32::from(vlan) << shift, ..of_port(port) }));
    }
    assert_told_apart(grid().map(|(group, port)| Key { group: group.into(), ..of_port(port) }));
}
