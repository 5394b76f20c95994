//! Any segments of two directions through the state of a connection.
//!
//! Held: nothing panics; the short way is taken only where the long one leaves the same behind and has nothing to tell, and
//! changes nothing where it is not; a segment has one meaning at most, and is no more segments than it was; what is
//! confirmed was missing, what came late was late, and nothing else is told as lost; numbers may wrap around anywhere.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::{
    flow::{Clock, Half, Ledger, Quality, Reverse, Segment, Sink, TcpEvent},
    wire::tcp::{ACK, FIN, RST, SYN},
};

/// Bytes of one step.
const STEP: usize = 8;
const MSS: u32 = 1_000;
/// What a segment means for its bytes: it is one of these, or none.
const MEANINGS: [TcpEvent; 12] = [
    TcpEvent::RetransmitSeen,
    TcpEvent::HoleOpened,
    TcpEvent::HoleFilledRetransmit,
    TcpEvent::HoleFilledReorder,
    TcpEvent::Spurious,
    TcpEvent::AckedBeforeSeen,
    TcpEvent::Duplicate,
    TcpEvent::SynRetransmit,
    TcpEvent::SynackRetransmit,
    TcpEvent::FinRetransmit,
    TcpEvent::Keepalive,
    TcpEvent::ZeroWindowProbe,
];

fuzz_target!(|input: &[u8]| {
    let Some((base, steps)) = input.split_first_chunk() else { return };
    let told = observe(0, steps);
    assert_eq!(told, observe(u32::from_le_bytes(*base), steps), "other sequence numbers");
});

/// Microseconds.
struct Now(u32);

impl Clock for Now {
    fn jiffies(&self) -> u32 {
        self.0 / 1_000
    }

    fn hertz(&self) -> u32 {
        1_000
    }

    fn microseconds(&self) -> u32 {
        self.0
    }
}

#[derive(Debug, Default, PartialEq)]
struct Notes(Vec<(TcpEvent, u32)>, Ledger);

impl Sink for Notes {
    fn event(&mut self, event: TcpEvent, segments: u32) {
        self.0.push((event, segments));
        self.1.event(event, segments);
    }

    fn quality(&mut self, cause: Quality) {
        self.1.quality(cause);
    }

    fn lost_before(&mut self, segments: u32) {
        self.1.lost_before(segments);
    }

    fn came_late(&mut self, segments: u32) {
        self.1.came_late(segments);
    }
}

/// A connection, and what its ends would send next.
struct Lab {
    halves: [Half; 2],
    sent: [u32; 2],
    next: [u32; 2],
    identifiers: [u16; 2],
    now: Now,
    sums: Ledger,
    has_identifiers: bool,
}

/// Both directions' sequence numbers begin at `base`.
fn observe(base: u32, steps: &[u8]) -> Ledger {
    let mut lab = Lab {
        halves: [Half::new(1); 2],
        sent: [0; 2],
        next: [base; 2],
        identifiers: [0; 2],
        now: Now(5_000_000),
        sums: Ledger::default(),
        has_identifiers: false,
    };
    for step in steps.as_chunks::<STEP>().0 {
        lab.step(base, step);
    }
    for (half, sent) in lab.halves.iter().zip(lab.sent) {
        assert_eq!(half.segments, sent);
    }
    lab.sums
}

impl Lab {
    /// The lowest bit is the direction. With the highest as many segments follow each other as the second byte says, as in life;
    /// else there is one, which may be anything.
    fn step(&mut self, base: u32, &[kind, number, size, acked, identifier, has, time, blocks]: &[u8; STEP]) {
        let way = usize::from(kind & 1);
        self.now.0 = self.now.0.wrapping_add(u32::from(time) * u32::from(time) * 50);
        if kind & 0x80 != 0 {
            (0..number).for_each(|_| self.usual(way, u32::from(size & 1) * MSS));
            return;
        }
        let at = |units: u8| base.wrapping_add(u32::from(units) * MSS / 2);
        let flags = [ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, 0][usize::from(kind >> 1 & 7)];
        let payload_bytes = [0, 1, MSS, 3 * MSS, MSS / 2, 1_300, 65_000, MSS][usize::from(size & 7)];
        let mut segment = Segment::default();
        segment.seq = if kind & 0x40 != 0 { self.next[way].wrapping_sub(u32::from(number & 3)) } else { at(number) };
        segment.ack = at(acked);
        segment.payload_bytes = payload_bytes;
        segment.segment_bytes = payload_bytes.clamp(1, 1_300);
        segment.segments = payload_bytes.div_ceil(1_300).max(1);
        segment.timestamp = u32::from(time);
        segment.first_block = [at(blocks & 15), at(blocks >> 4)];
        segment.second_block = [at(acked), at(blocks)];
        segment.window = u16::from(has >> 4) * 100;
        segment.identifier = self.identifiers[way].wrapping_add_signed((identifier as i8).into());
        segment.flags = flags;
        segment.has = has & 15;
        self.send(way, segment);
    }

    /// The next one of its direction.
    fn usual(&mut self, way: usize, payload_bytes: u32) {
        self.identifiers[way] = self.identifiers[way].wrapping_add(1);
        let mut segment = Segment::default();
        segment.seq = self.next[way];
        segment.ack = self.next[1 - way];
        segment.payload_bytes = payload_bytes;
        segment.segment_bytes = payload_bytes.max(1);
        segment.segments = 1;
        segment.window = 500;
        segment.identifier = self.identifiers[way];
        segment.flags = ACK;
        segment.has = Segment::IDENTIFIED;
        self.next[way] = self.next[way].wrapping_add(payload_bytes);
        self.send(way, segment);
    }

    fn send(&mut self, way: usize, segment: Segment) {
        let reverse = Reverse::of(&self.halves[1 - way]);
        let before = self.halves[way];
        let mut notes = Notes::default();
        self.sent[way] = self.sent[way].wrapping_add(segment.segments);
        let mut by_the_long_way = before;
        by_the_long_way.observe(&reverse, &segment, (&self.now, 0), &mut notes);
        let half = &mut self.halves[way];
        if half.follow(&reverse, &segment, &self.now, 0) {
            assert_eq!((&*half, &notes), (&by_the_long_way, &Notes::default()), "the short way takes {segment:?}");
        } else {
            assert_eq!(*half, before, "the short way refuses {segment:?}");
            *half = by_the_long_way;
        }
        let meanings: Vec<_> = notes.0.iter().filter(|(event, _)| MEANINGS.contains(event)).collect();
        let is_possible = meanings.iter().all(|(_, segments)| (1..=segment.segments).contains(segments));
        assert!(meanings.len() <= 1 && is_possible, "{meanings:?} of {segment:?}");
        self.sums.add(&notes.1);
        let of = |event| self.sums.of(event);
        assert!(of(TcpEvent::IdConfirmed) <= of(TcpEvent::IdGap), "{:?}", self.sums);
        let late = of(TcpEvent::IdLate) + of(TcpEvent::RetransmitSeen) + of(TcpEvent::Spurious);
        assert!(self.sums.came_late <= late, "{:?}", self.sums);
        self.has_identifiers |= segment.has & Segment::IDENTIFIED != 0;
        assert!(self.has_identifiers || self.sums.came_late <= self.sums.lost_before, "{:?}", self.sums);
        let confirmed = of(TcpEvent::IdConfirmed) + of(TcpEvent::HoleFilledRetransmit);
        assert!(self.sums.lost_before <= confirmed, "{:?}", self.sums);
    }
}
