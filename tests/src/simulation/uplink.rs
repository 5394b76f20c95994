//! What one interface has counted, and what the connections behind it will bring in the next seconds.

use std::collections::VecDeque;

use probe_ebpf::{
    abi::Direction,
    flow::{Ledger, Sink as _, TcpEvent},
};

use super::random::Random;

/// What a second brings at both hooks, ingress first.
#[derive(Clone, Copy, Debug, Default)]
struct Brought {
    segments: [u64; 2],
    ledgers: [Ledger; 2],
}

/// Totals of one interface.
#[derive(Clone, Debug, Default)]
pub(super) struct Uplink {
    /// Segments of connections at the hooks.
    pub(super) segments: [u64; 2],
    /// All frames at the hooks.
    pub(super) frames: [u64; 2],
    pub(super) ledgers: [Ledger; 2],
    /// Malformed frames that came in, of local and of path scope.
    pub(super) malformed: [u64; 2],
    /// Frames for which the ring had no room.
    pub(super) no_buffer: u64,
    /// Frames that were damaged on the wire.
    pub(super) crc: u64,
    /// Frames that an XDP program has dropped, by the driver's count.
    pub(super) xdp_drop: u64,
    /// Packets that queueing disciplines have dropped, merged ones being one.
    pub(super) queued_packets: u64,
    /// Frames that the device has counted and that passed the hooks by.
    pub(super) bypassed: u64,
    coming: VecDeque<Brought>,
}

/// When what was lost comes again: the share of each second.
const AGAIN: [f64; 4] = [0.8, 0.17, 0.02, 0.01];
/// A retransmission of so many was only thought to be needed.
const NEEDLESS: f64 = 0.01;
/// Of so many of these the receiver says so.
const SAID: f64 = 0.9;

const fn other(way: Direction) -> Direction {
    match way {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

impl Uplink {
    /// Segments that pass.
    pub(super) fn pass(&mut self, way: Direction, segments: u64) {
        self.segments[way as usize] += segments;
        self.frames[way as usize] += segments;
    }

    /// Segments that would have passed in this second and were lost before.
    pub(super) fn miss(&mut self, way: Direction, segments: u64, random: &mut Random) {
        let lost = segments.min(self.segments[way as usize]);
        self.segments[way as usize] -= lost;
        self.frames[way as usize] -= lost.min(self.frames[way as usize]);
        self.lost_before(way, segments, random);
    }

    /// Holes, and the retransmissions that fill them.
    pub(super) fn lost_before(&mut self, way: Direction, segments: u64, random: &mut Random) {
        self.event(0, way, TcpEvent::HoleOpened, segments);
        for (after, again) in spread(segments, random) {
            let brought = self.after(after);
            brought.segments[way as usize] += again;
            let ledger = &mut brought.ledgers[way as usize];
            ledger.event(TcpEvent::HoleFilledRetransmit, segments32(again));
            ledger.lost_before(segments32(again));
        }
        // Whoever gets no answer sends again, and need not have.
        let guessed = random.binomial(segments, NEEDLESS);
        self.needless(other(way), guessed, 1, random);
    }

    /// Segments that have passed and must do so once more.
    pub(super) fn sent_again(&mut self, way: Direction, segments: u64, random: &mut Random) {
        for (after, again) in spread(segments, random) {
            self.again(after, way, again);
        }
        let guessed = random.binomial(segments, 2.0 * NEEDLESS);
        self.needless(way, guessed, 1, random);
    }

    /// Segments that pass again for nothing, of most of which the receiver says so after a time.
    pub(super) fn needless(&mut self, way: Direction, segments: u64, said_after: usize, random: &mut Random) {
        self.again(0, way, segments);
        let said = random.binomial(segments, SAID);
        self.event(said_after, other(way), TcpEvent::Dsack, said);
    }

    /// Segments that pass again after a time.
    pub(super) fn again(&mut self, after: usize, way: Direction, segments: u64) {
        self.after(after).segments[way as usize] += segments;
        self.event(after, way, TcpEvent::RetransmitSeen, segments);
    }

    /// Segments that were overtaken: a hole that is filled late, by nobody's loss.
    pub(super) fn overtaken(&mut self, way: Direction, segments: u64, random: &mut Random) {
        self.event(0, way, TcpEvent::HoleOpened, segments);
        self.event(0, way, TcpEvent::HoleFilledReorder, segments);
        let confirmed = random.binomial(segments, 0.3);
        self.after(0).ledgers[way as usize].lost_before(segments32(confirmed));
        self.after(usize::from(random.happens(0.3))).ledgers[way as usize].came_late(segments32(confirmed));
    }

    /// An event of a second to come.
    pub(super) fn event(&mut self, after: usize, way: Direction, event: TcpEvent, segments: u64) {
        self.after(after).ledgers[way as usize].event(event, segments32(segments));
    }

    fn after(&mut self, seconds: usize) -> &mut Brought {
        while self.coming.len() <= seconds {
            self.coming.push_back(Brought::default());
        }
        &mut self.coming[seconds]
    }

    /// The second is over.
    pub(super) fn settle(&mut self) {
        let Some(brought) = self.coming.pop_front() else { return };
        for way in Direction::ALL {
            self.pass(way, brought.segments[way as usize]);
            self.ledgers[way as usize].add(&brought.ledgers[way as usize]);
        }
    }
}

fn segments32(segments: u64) -> u32 {
    u32::try_from(segments).unwrap_or(u32::MAX)
}

/// In how many seconds how many are sent again.
fn spread(segments: u64, random: &mut Random) -> [(usize, u64); AGAIN.len()] {
    let (mut left, mut share_left) = (segments, 1.0);
    let mut parts = [(0, 0); AGAIN.len()];
    for (after, (part, share)) in parts.iter_mut().zip(AGAIN).enumerate() {
        let now = if after + 1 == AGAIN.len() { left } else { random.binomial(left, share / share_left) };
        *part = (after, now);
        (left, share_left) = (left - now, share_left - share);
    }
    parts
}
