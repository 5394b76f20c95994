//! One direction of a connection, and what a segment of it means.

use super::{
    event::{Quality, Sink, TcpEvent},
    holes::Holes,
    segment::Segment,
    sequence::{before, earlier, far_apart, later, reaches, supersedes, until},
};
use crate::wire::tcp::{ACK, FIN, RST, SYN, SYN_ACK};

/// Age of a hole up to which what fills it counts as overtaken if nothing but time can tell and the round trip was not
/// seen (as Wireshark does).
const REORDERED_WITHIN_US: u32 = 3_000;
/// Bytes of most segments: what a receiver had not needed is told in bytes.
const USUAL_SEGMENT_BYTES: u32 = 1_448;
/// What one acknowledgement may say was not needed: whoever likes can write it, and it must not excuse everything.
const MOST_NEEDLESS_BYTES: u32 = 64 * USUAL_SEGMENT_BYTES;
/// A segment this large that comes for the third time may be too large for the path.
const LARGE_SEGMENT_BYTES: u32 = 1_200;

/// What time it is. The kernel's clock of microseconds costs more than everything else here, so it is asked only where
/// something is measured.
pub trait Clock {
    /// Coarse time.
    fn jiffies(&self) -> u32;
    /// Jiffies in a second.
    fn hertz(&self) -> u32;
    /// Monotone time, wrapping after 71 minutes.
    fn microseconds(&self) -> u32;

    /// See [`Frame::settle`](crate::frame::Frame::settle).
    #[inline(always)]
    fn settle<T>(&self, _state: &mut T) {}
}

/// One direction of a connection, as seen at one hook direction; written by that one only. The first half is what an
/// ordinary segment touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Half {
    /// Of the connection, see [`Key::tag`](super::Key::tag); 0: vacant.
    pub tag: u64,
    /// Sequence number behind the last byte seen.
    next: u32,
    /// Highest TSval, 0 if there was none.
    timestamp: u32,
    /// Highest acknowledgement number, of the other direction's bytes.
    ack: u32,
    /// Of the last segment that took sequence numbers, see [`Segment::print`].
    print: u32,
    /// Wire segments.
    pub segments: u32,
    /// Jiffies of the last sign of a loss, with [`LOST`].
    pub(super) loss_at: u32,
    /// Microseconds of the first of the gaps; with [`REJECTED`] jiffies of the rejection.
    pub(super) gap_at: u32,
    /// With [`TIMED`] the round trip of the handshake, with [`TIMING`] when the SYN came.
    handshake_us: u32,
    /// When it was last seen, in 256 jiffies.
    pub(super) seen: u16,
    /// Lower half of the sequence number that was last sent again.
    repeated: u16,
    /// The IP identifier that should come next.
    pub(super) expected_id: u16,
    /// Identifiers that are missing and of which is not known yet why.
    pub(super) gaps: u16,
    /// As it stood in the last header.
    window: u16,
    pub(super) flags: u16,
    /// Packets in this block of identifiers, and those that were expected or whose sequence number explains them; the latter without
    /// [`IDENTIFIED`] segments that were told as lost and may still come late.
    pub(super) id_seen: u8,
    pub(super) id_exact: u8,
    /// Lower bits of the CPU that saw the last packet; with [`HOLES`] bytes are missing: so one comparison tells whether a
    /// packet may take the short way, and the second line of memory is left alone.
    cpu: u8,
    /// SYNs of this direction, and those of the other one when it was last acknowledged: four bits each. What was
    /// acknowledged before a new SYN is void.
    epochs: u8,
    holes: Holes,
}
const _: () = assert!(size_of::<Half>() == 128);

/// See [`Half::cpu`].
const HOLES: u8 = 1 << 7;

/// `flags`: sequence numbers are known.
const KNOWN: u16 = 1;
/// `flags`: so is what it acknowledges.
const ACKNOWLEDGES: u16 = 1 << 1;
/// `flags`: [`Half::handshake_us`] is when the SYN came.
const TIMING: u16 = 1 << 2;
/// `flags`: [`Half::handshake_us`] is the round trip.
const TIMED: u16 = 1 << 3;
/// `flags`: nothing but its SYN was seen.
const EMBRYONIC: u16 = 1 << 4;
/// `flags`: a FIN or RST was seen.
const CLOSED: u16 = 1 << 5;
/// `flags`: an identifier was seen.
pub(super) const IDENTIFIED: u16 = 1 << 6;
/// `flags`: identifiers count this connection's packets.
pub(super) const QUALIFIED: u16 = 1 << 7;
/// `flags`: they do not, for the time being.
pub(super) const REJECTED: u16 = 1 << 8;
/// `flags`: something was lost, at `loss_at`.
pub(super) const LOST: u16 = 1 << 9;
/// `flags`: it was noted that the other direction is not seen.
const ONE_SIDED: u16 = 1 << 10;
/// `flags`: identifiers, up to 3, that were missing in this block and are of no weight.
pub(super) const WEIGHTLESS: u16 = 0b11 << WEIGHTLESS_SHIFT;
pub(super) const WEIGHTLESS_SHIFT: u32 = 11;
/// `flags`: identifiers count the packets to others, too.
pub(super) const SHARED: u16 = 1 << 13;
/// `flags`: how often, up to 3, the same segment was sent again.
const REPEATS: u16 = 0b11 << REPEATS_SHIFT;
const REPEATS_SHIFT: u32 = 14;

/// What its IP identifier says of a segment that begins before the last byte seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Nothing that could be believed.
    Unknown,
    /// It was sent after all that was seen.
    New,
    /// It was sent before something that was seen.
    Late,
    /// It was sent shortly before something that was seen, and was not missing: it was seen itself.
    Copy,
}

/// Segments after which a connection counts as one-sided if the other direction was not seen.
const ONE_SIDED_FROM: u32 = 64;

/// What the other direction says: a copy of what is needed of its [`Half`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reverse {
    ack: u32,
    handshake_us: u32,
    window: u16,
    flags: u16,
    epochs: u8,
    pad: [u8; 3],
}
const _: () = assert!(size_of::<Reverse>() == 16);

impl Reverse {
    /// It was never seen.
    pub const UNSEEN: Self = Self { ack: 0, handshake_us: 0, window: 0, flags: 0, epochs: 0, pad: [0; 3] };

    /// Of the other direction.
    #[inline(always)]
    #[must_use]
    pub const fn of(half: &Half) -> Self {
        Self {
            ack: half.ack,
            handshake_us: half.handshake_us,
            window: half.window,
            flags: half.flags,
            epochs: half.epochs,
            pad: [0; 3],
        }
    }

    /// Of the other direction's place, which may become another connection's at any moment: it is believed if that was this
    /// one's before and after it was read. Both are asked in this order, `tag` twice.
    #[inline(always)]
    #[must_use]
    pub fn believed(tag: u64, tag_now: impl Fn() -> u64, now: impl FnOnce() -> Self) -> Self {
        if tag_now() != tag {
            return Self::UNSEEN;
        }
        let reverse = now();
        if tag_now() == tag { reverse } else { Self::UNSEEN }
    }

    /// Whether it was ever seen.
    #[inline(always)]
    #[must_use]
    pub const fn is_seen(&self) -> bool {
        self.flags & KNOWN != 0
    }

    /// Up to where it has acknowledged what came after that many SYNs.
    #[inline(always)]
    fn acked(&self, epoch: u8) -> Option<u32> {
        (self.flags & ACKNOWLEDGES != 0 && self.epochs & 0xf == epoch).then_some(self.ack)
    }
}

impl Half {
    /// Of a connection that is new here.
    #[inline(always)]
    #[must_use]
    pub fn new(tag: u64) -> Self {
        Self { tag, ..Self::default() }
    }

    /// Takes the place of whoever was here. No other reader believes what is half written, see [`Reverse::believed`].
    #[inline(always)]
    pub fn admit(&mut self, tag: u64, barrier: impl Fn()) {
        self.tag = 0;
        barrier();
        *self = Self::default();
        barrier();
        self.tag = tag;
    }

    #[inline(always)]
    pub(super) const fn has(&self, bits: u16) -> bool {
        self.flags & bits != 0
    }

    /// SYNs of this direction so far.
    #[inline(always)]
    const fn epoch(&self) -> u8 {
        self.epochs >> 4
    }

    /// Whether only its SYN was seen.
    #[inline(always)]
    pub(super) const fn is_embryonic(&self) -> bool {
        self.has(EMBRYONIC)
    }

    /// Whether its end was seen.
    #[inline(always)]
    pub(super) const fn is_closed(&self) -> bool {
        self.has(CLOSED)
    }

    /// Whether IP identifiers tell what was lost before this point.
    #[must_use]
    pub const fn is_identified(&self) -> bool {
        self.flags & QUALIFIED != 0
    }

    /// From behind the last byte seen to where a segment begins.
    #[must_use]
    pub const fn bytes_to(&self, segment: &Segment) -> i32 {
        segment.seq.wrapping_sub(self.next) as i32
    }

    /// Round trip of the handshake, if it was seen.
    #[must_use]
    pub fn round_trip_us(&self) -> Option<u32> {
        self.has(TIMED).then_some(self.handshake_us)
    }

    /// The same, 0 if it was not seen.
    #[inline(always)]
    pub(super) const fn handshake_us(&self) -> u32 {
        if self.has(TIMED) { self.handshake_us } else { 0 }
    }

    /// Takes in the segment that is to be expected: the next one of a connection of which nothing is missing. `false`,
    /// and nothing has changed, if it is another one: then [`Self::observe`] decides. Both leave the same behind.
    #[inline(always)]
    pub fn follow(&mut self, reverse: &Reverse, segment: &Segment, clock: &impl Clock, cpu: u32) -> bool {
        const NEITHER: u16 = TIMING | EMBRYONIC | CLOSED;
        const BOTH: u16 = KNOWN | ACKNOWLEDGES;
        let end = segment.seq.wrapping_add(segment.payload_bytes);
        // Differences from what is to be expected. Together, because a branch for each costs more than all of them.
        let differs = u32::from((self.flags & (BOTH | NEITHER)) ^ BOTH)
            | u32::from((segment.flags & (SYN | FIN | RST | ACK)) ^ ACK)
            | u32::from(segment.has & Segment::BLOCKS)
            | (segment.seq ^ self.next)
            | u32::from(self.cpu ^ (cpu as u8 & !HOLES))
            | u32::from(self.gaps)
            | u32::from((reverse.epochs >> 4) ^ (self.epochs & 0xf));
        if differs != 0 || !(reverse.is_seen() || self.has(ONE_SIDED)) {
            return false;
        }
        if segment.payload_bytes != 0
            && (self.is_acked(reverse, end) || (segment.payload_bytes == 1 && reverse.window == 0))
        {
            return false;
        }
        if segment.has & Segment::IDENTIFIED != 0 && !self.follow_identifier(segment, clock) {
            return false;
        }
        if segment.payload_bytes != 0 {
            self.next = end;
            self.print = segment.print();
        }
        if segment.has(Segment::TIMESTAMP) {
            self.timestamp = self.newest(segment.timestamp);
        }
        if supersedes(self.ack, segment.ack) {
            self.ack = segment.ack;
        }
        self.window = segment.window;
        self.note(segment, clock);
        true
    }

    /// Takes in a segment, whatever it is, and tells `sink` what it means.
    #[inline(always)]
    pub fn observe<C: Clock, S: Sink>(
        &mut self,
        reverse: &Reverse,
        segment: &Segment,
        (clock, cpu): (&C, u32),
        sink: &mut S,
    ) {
        self.note(segment, clock);
        self.note_cpu(cpu, sink);
        clock.settle(self);
        if segment.is(SYN) {
            self.begin(segment, clock);
        } else {
            self.flags &= !EMBRYONIC;
            if self.has(TIMING) && segment.is(ACK) {
                self.handshake_us = clock.microseconds().wrapping_sub(self.handshake_us);
                self.flags = self.flags & !TIMING | TIMED;
            }
        }
        clock.settle(self);
        if segment.is(RST) {
            self.flags |= CLOSED;
        } else {
            if !self.holes.are_none()
                && let Some(acked) = reverse.acked(self.epoch())
                && !far_apart(acked, self.next)
            {
                self.forget_acked(acked, sink);
            }
            clock.settle(self);
            let is_known = self.has(KNOWN);
            let opens_hole = is_known && before(self.next, segment.seq);
            let comes_late = is_known && before(segment.seq, self.next);
            let age = if segment.has(Segment::IDENTIFIED) && segment.flags & SYN_ACK != SYN_ACK {
                self.identify(segment, (opens_hole, comes_late), clock, sink)
            } else {
                Age::Unknown
            };
            clock.settle(self);
            self.judge((reverse, age), segment, clock, sink);
            clock.settle(self);
            if segment.has(Segment::TIMESTAMP) {
                self.timestamp = self.newest(segment.timestamp);
            }
            if segment.is(FIN) {
                self.flags |= CLOSED;
                self.ripen(true, clock, sink);
            }
            if segment.is(ACK) {
                self.acknowledge(reverse, segment, sink);
            }
        }
        clock.settle(self);
        self.window = segment.window;
        if self.segments >= ONE_SIDED_FROM && !reverse.is_seen() && !self.has(ONE_SIDED) {
            self.flags |= ONE_SIDED;
            sink.quality(Quality::OneSided);
        }
        clock.settle(self);
        self.cpu = self.cpu & !HOLES | if self.holes.are_none() { 0 } else { HOLES };
    }

    /// The highest TSval, with this one.
    #[inline(always)]
    const fn newest(&self, timestamp: u32) -> u32 {
        // The first one may lie on either side of 0.
        if self.timestamp == 0 { timestamp } else { later(self.timestamp, timestamp) }
    }

    #[inline(always)]
    fn note(&mut self, segment: &Segment, clock: &impl Clock) {
        self.segments = self.segments.wrapping_add(segment.segments);
        self.seen = (clock.jiffies() >> 8) as u16;
    }

    #[inline(always)]
    fn note_cpu<S: Sink>(&mut self, cpu: u32, sink: &mut S) {
        if (self.cpu ^ cpu as u8) & !HOLES != 0 {
            if self.has(KNOWN) {
                sink.quality(Quality::CpuMove);
            }
            self.cpu = self.cpu & HOLES | cpu as u8 & !HOLES;
        }
    }

    /// A SYN. Unless it is the one that was seen, it begins a connection on the ports of an old one; and without an
    /// acknowledgement it voids what was acknowledged before (a half-open connection that is being opened anew).
    #[inline(always)]
    fn begin<C: Clock>(&mut self, segment: &Segment, clock: &C) {
        if self.has(KNOWN) && !(self.has(EMBRYONIC) && segment.end() == self.next) {
            // What the flags say is not there needs no zeros. (All of them at once would be a call, and the stack is short.)
            (self.flags, self.gaps, self.id_seen, self.id_exact) = (0, 0, 0, 0);
            (self.timestamp, self.print) = (0, 0);
            self.holes.close_all();
        }
        if !self.has(KNOWN) {
            self.flags |= EMBRYONIC;
        }
        if segment.is_opening() {
            self.epochs = self.epochs.wrapping_add(0x10);
            self.flags &= !ACKNOWLEDGES;
            if !self.has(TIMED) {
                self.handshake_us = clock.microseconds();
                self.flags |= TIMING;
            }
        }
    }

    #[inline(always)]
    fn forget_acked<S: Sink>(&mut self, acked: u32, sink: &mut S) {
        let closed = self.holes.close_acked(acked);
        if closed > 0 {
            sink.event(TcpEvent::AckedUnseen, closed);
            sink.quality(Quality::AckedUnseen);
            // What was missing has gone another way.
            self.gaps = 0;
        }
    }

    /// What the sequence number says.
    #[inline(always)]
    fn judge<C: Clock, S: Sink>(
        &mut self,
        (reverse, age): (&Reverse, Age),
        segment: &Segment,
        clock: &C,
        sink: &mut S,
    ) {
        let (seq, end, span) = (segment.seq, segment.end(), segment.span());
        let print = if span == 0 { self.print } else { segment.print() };
        if !self.has(KNOWN) {
            self.next = end;
            self.flags |= KNOWN;
            if !segment.is(SYN) {
                sink.quality(Quality::MidStream);
            }
        } else if far_apart(seq, self.next) {
            // A stray packet, or what follows one: nothing is known of what lies between.
            self.next = end;
            self.holes.close_all();
            sink.quality(Quality::MidStream);
        } else if segment.payload_bytes == 1 && seq == self.next && reverse.is_seen() && reverse.window == 0 {
            sink.event(TcpEvent::ZeroWindowProbe, 1);
        } else if segment.payload_bytes <= 1
            && seq == self.next.wrapping_sub(1)
            && segment.flags & (SYN | FIN | RST) == 0
        {
            sink.event(TcpEvent::Keepalive, 1);
        } else if before(self.next, seq) {
            sink.event(TcpEvent::HoleOpened, 1);
            if !self.holes.open(self.next, seq, clock) {
                sink.quality(Quality::HoleEvicted);
            }
            self.next = end;
        } else if span != 0 && before(seq, self.next) {
            self.judge_again((reverse, age), segment, clock, sink);
            self.next = later(self.next, end);
        } else {
            if segment.payload_bytes != 0 && self.is_acked(reverse, end) {
                sink.event(TcpEvent::AckedBeforeSeen, segment.segments);
            }
            self.next = later(self.next, end);
        }
        self.print = print;
    }

    #[inline(always)]
    fn is_acked(&self, reverse: &Reverse, end: u32) -> bool {
        reverse.acked(self.epoch()).is_some_and(|acked| reaches(end, acked))
    }

    /// A segment that begins before the last byte seen.
    #[inline(always)]
    fn judge_again<C: Clock, S: Sink>(
        &mut self,
        (reverse, age): (&Reverse, Age),
        segment: &Segment,
        clock: &C,
        sink: &mut S,
    ) {
        let (seq, end) = (segment.seq, segment.end());
        let is_original =
            segment.has(Segment::TIMESTAMP) && self.timestamp != 0 && before(segment.timestamp, self.timestamp);
        if let Some(fill) = self.holes.fill(seq, end, clock) {
            let segments = segment.segments_in(fill.bytes);
            if fill.joins {
                sink.quality(Quality::HoleEvicted);
            }
            if self.is_retransmission((reverse, age), segment, fill.opened_us, clock) {
                sink.event(TcpEvent::HoleFilledRetransmit, segments);
                if !self.has(QUALIFIED) {
                    sink.lost_before(segments);
                    self.may_be_taken_back(segments);
                }
                self.lose(segments, clock, sink);
            } else {
                sink.event(TcpEvent::HoleFilledReorder, segments);
            }
        } else if segment.is(SYN) {
            let is_answer = segment.is(ACK);
            sink.event(if is_answer { TcpEvent::SynackRetransmit } else { TcpEvent::SynRetransmit }, 1);
        } else if segment.has(Segment::IDENTIFIED) && segment.identifier != 0 && segment.print() == self.print {
            sink.event(TcpEvent::Duplicate, segment.segments);
        } else if segment.payload_bytes != 0 && self.is_acked(reverse, end) {
            sink.event(TcpEvent::Spurious, segment.segments);
            self.take_back(is_original, segment.segments, sink);
        } else if segment.payload_bytes > 1 && seq == self.next.wrapping_sub(1) {
            // What follows a probe of one byte.
        } else if segment.payload_bytes == 0 {
            sink.event(TcpEvent::FinRetransmit, 1);
        } else if age == Age::Copy {
            sink.event(TcpEvent::Duplicate, segment.segments);
        } else {
            let again = segment.segments_in(earlier(end, self.next).wrapping_sub(seq));
            sink.event(TcpEvent::RetransmitSeen, again);
            self.repeat(segment, sink);
            self.lose(0, clock, sink);
            self.take_back(is_original, again, sink);
        }
    }

    /// So many segments were told as lost. Where there are no identifiers, their number stands in the place of what those would need.
    #[inline(always)]
    fn may_be_taken_back(&mut self, segments: u32) {
        if !self.has(IDENTIFIED) {
            let sum = u32::from(self.id_exact) + segments;
            self.id_exact = if sum > 0xff { 0xff } else { sum as u8 };
        }
    }

    /// What was sent before something that was seen, and comes when it is not missing any more, is the original: a
    /// retransmission has overtaken it, and was taken for one of a loss. Identifiers tell that by themselves. Without them it may
    /// be a copy that the network has made: no more is taken back than was told.
    #[inline(always)]
    fn take_back<S: Sink>(&mut self, is_original: bool, segments: u32, sink: &mut S) {
        if !is_original || self.has(QUALIFIED) {
            return;
        }
        let mut late = segments;
        if !self.has(IDENTIFIED) {
            let told = u32::from(self.id_exact);
            late = if segments < told { segments } else { told };
            self.id_exact -= late as u8;
        }
        if late > 0 {
            sink.came_late(late);
        }
    }

    /// Whether what fills a hole was sent again, or only came late: by its IP identifier, else its timestamp, which are
    /// newer than all that was seen if it was sent again; else by how old the hole is.
    #[inline(always)]
    fn is_retransmission<C: Clock>(
        &self,
        (reverse, age): (&Reverse, Age),
        segment: &Segment,
        opened_us: Option<u32>,
        clock: &C,
    ) -> bool {
        match age {
            Age::New => return true,
            Age::Late | Age::Copy => return false,
            Age::Unknown => {}
        }
        if segment.has(Segment::TIMESTAMP) && self.timestamp != 0 && segment.timestamp != self.timestamp {
            return before(self.timestamp, segment.timestamp);
        }
        let round_trip_us = if self.has(TIMED) {
            self.handshake_us
        } else if reverse.flags & TIMED != 0 {
            reverse.handshake_us
        } else {
            REORDERED_WITHIN_US
        };
        // A retransmission takes a whole round trip, which was measured once, and not for long.
        let sent_again_from_us = round_trip_us - round_trip_us / 4;
        opened_us.is_none_or(|opened_us| clock.microseconds().wrapping_sub(opened_us) >= sent_again_from_us)
    }

    /// Counts how often the same large segment was sent again.
    #[inline(always)]
    fn repeat<S: Sink>(&mut self, segment: &Segment, sink: &mut S) {
        let before = self.flags >> REPEATS_SHIFT;
        let repeats = if before != 0 && self.repeated == segment.seq as u16 { before + 1 } else { 1 };
        if repeats == 2 && segment.segment_bytes >= LARGE_SEGMENT_BYTES {
            sink.event(TcpEvent::PmtuSuspect, 1);
        }
        self.repeated = segment.seq as u16;
        self.flags = self.flags & !REPEATS | (if repeats > 3 { 3 } else { repeats }) << REPEATS_SHIFT;
    }

    /// What it says of the other direction's bytes.
    #[inline(always)]
    fn acknowledge<S: Sink>(&mut self, reverse: &Reverse, segment: &Segment, sink: &mut S) {
        if self.has(ACKNOWLEDGES) && segment.has(Segment::BLOCKS) {
            let [left, right] = segment.first_block;
            let [outer_left, outer_right] = segment.second_block;
            let is_inside = segment.has(Segment::TWO_BLOCKS) && until(outer_left, left) && until(right, outer_right);
            let bytes = right.wrapping_sub(left);
            if (until(right, segment.ack) || is_inside) && 0 < bytes && bytes <= MOST_NEEDLESS_BYTES {
                sink.event(TcpEvent::Dsack, bytes.div_ceil(USUAL_SEGMENT_BYTES));
            }
        }
        let current = reverse.epochs >> 4;
        let is_newer = !self.has(ACKNOWLEDGES) || self.epochs & 0xf != current || supersedes(self.ack, segment.ack);
        if is_newer {
            self.ack = segment.ack;
        }
        self.epochs = self.epochs & 0xf0 | current;
        self.flags |= ACKNOWLEDGES;
    }
}
