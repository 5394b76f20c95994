//! The side channel of IPv4 identifiers: most hosts number the packets of a connection one by one, so a missing number is
//! a packet that was lost before this point, also where sequence numbers cannot tell (a retransmission lost again, the last
//! segment). It is evidence only: hosts may number as they like (RFC 6864), so a gap is a candidate, which counts only in
//! the midst of retransmissions, and not if what is missing was acknowledged.

use super::{
    event::{Quality, Sink, TcpEvent},
    half::{Age, Clock, Half, IDENTIFIED, LOST, QUALIFIED, REJECTED, SHARED, WEIGHTLESS, WEIGHTLESS_SHIFT},
    segment::Segment,
};
use crate::wire::tcp::{FIN, SYN};

/// Packets after which it is judged anew whether identifiers count.
pub(super) const BLOCK: u8 = 64;
/// Of so many of them the identifier must be the next one, or the sequence number must explain why not.
const BLOCK_EXACT: u8 = 48;
/// Identifiers that can be missing at once; more is a new start.
const LONGEST_GAP: u16 = 1_024;
/// Distance from which on an identifier is one that comes late.
const LATE_FROM: u16 = 0xfc00;
/// The same of one that may be a copy's: what comes later may be a retransmission that has kept it (RFC 1122 3.2.1.5).
const COPY_FROM: u16 = 0xfff0;
/// Packets of a block before which identifiers may be missing without an explanation: where there are more, somebody
/// else's packets have them.
const UNEXPLAINED: u8 = 2;
/// How far apart a missing packet and a sign of loss may be, unless four round trips are longer.
const EPISODE_US: u32 = 1_000_000;
/// How late a packet may come, unless a round trip is longer.
const LATE_WITHIN_US: u32 = 3_000;
/// How long identifiers are not believed after a block in which they did not count.
const REJECTED_SECONDS: u32 = 10;

/// Wire packets in a merged one that weigh when identifiers are judged: all of them would be too much for one number.
const MOST_WEIGHT: u32 = 4;

#[inline(always)]
const fn weight(segment: &Segment) -> u8 {
    if segment.segments > MOST_WEIGHT { MOST_WEIGHT as u8 } else { segment.segments as u8 }
}

impl Half {
    /// Takes in an identifier that says nothing: the one to be expected, or one that is not believed. `false`, and nothing
    /// has changed, if it is another one.
    #[inline(always)]
    pub(super) fn follow_identifier<C: Clock>(&mut self, segment: &Segment, clock: &C) -> bool {
        if !self.has(IDENTIFIED) {
            return segment.identifier == 0;
        }
        if self.has(REJECTED) {
            if !self.is_rejected(clock) {
                return false;
            }
            self.expect_behind(segment);
            return true;
        }
        let (seen, exact) = (self.id_seen + weight(segment), self.id_exact + weight(segment));
        let ends_block = seen >= BLOCK;
        // The block in which they begin to count, or cease to, is for the long way.
        if segment.identifier != self.expected_id || (ends_block && !(self.has(QUALIFIED) && exact >= BLOCK_EXACT)) {
            return false;
        }
        self.expect_behind(segment);
        (self.id_seen, self.id_exact) = if ends_block { (0, 0) } else { (seen, exact) };
        if ends_block {
            self.set_weightless(0);
            if seen == exact {
                self.flags &= !SHARED;
            }
        }
        true
    }

    /// What is to come behind this one, if it does not come late.
    #[inline(always)]
    fn expect_behind(&mut self, segment: &Segment) {
        if !self.is_unset(segment) && segment.identifier.wrapping_sub(self.expected_id) < 0x8000 {
            self.expected_id = segment.identifier.wrapping_add(segment.segments as u16);
        }
    }

    /// Hosts that count leave it out of some packets. A counter comes past 0, too.
    #[inline(always)]
    const fn is_unset(&self, segment: &Segment) -> bool {
        let is_near = self.expected_id.wrapping_add(LONGEST_GAP) <= 2 * LONGEST_GAP;
        segment.identifier == 0 && !(self.has(IDENTIFIED) && is_near)
    }

    #[inline(always)]
    fn is_rejected<C: Clock>(&self, clock: &C) -> bool {
        self.has(REJECTED) && clock.jiffies().wrapping_sub(self.gap_at) < REJECTED_SECONDS * clock.hertz()
    }

    /// Judges the identifier of a segment that opens a hole in the sequence, or comes late in it.
    #[inline(always)]
    pub(super) fn identify<C: Clock, S: Sink>(
        &mut self,
        segment: &Segment,
        (opens_hole, comes_late): (bool, bool),
        clock: &C,
        sink: &mut S,
    ) -> Age {
        if self.is_unset(segment) {
            return Age::Unknown;
        }
        if !self.has(IDENTIFIED) {
            self.flags |= IDENTIFIED;
            self.id_exact = 0;
            self.expected_id = segment.identifier.wrapping_add(segment.segments as u16);
            return Age::Unknown;
        }
        let ahead = segment.identifier.wrapping_sub(self.expected_id);
        // A retransmission may have a gap in front of it, too: of others that were lost once more.
        let is_explained = match ahead {
            0 => true,
            1..=LONGEST_GAP => opens_hole || comes_late,
            LATE_FROM.. => comes_late,
            _ => false,
        };
        self.expect_behind(segment);
        let is_bare = segment.payload_bytes == 0 && segment.flags & (SYN | FIN) == 0;
        let is_qualified = self.qualify(segment, is_explained, clock, sink);
        // In front of what continues the stream only its own retransmission can have been, or its lost end: that is seldom.
        let is_weightless = !opens_hole && (is_bare || self.has(SHARED));
        if !is_qualified {
            self.note_early((ahead, is_weightless), segment, clock);
            return Age::Unknown;
        }
        match ahead {
            0 => {}
            1..=LONGEST_GAP if is_weightless => {
                sink.event(if is_bare { TcpEvent::AckGap } else { TcpEvent::IdGap }, u32::from(ahead));
                self.set_weightless(u32::from(self.weightless()) + u32::from(ahead));
            }
            1..=LONGEST_GAP => {
                sink.event(TcpEvent::IdGap, u32::from(ahead));
                self.miss(ahead, clock);
            }
            LATE_FROM.. => {
                sink.event(TcpEvent::IdLate, segment.segments);
                let missing = u32::from(self.gaps);
                let found = if segment.segments < missing { segment.segments } else { missing };
                self.gaps -= found as u16;
                // It was perhaps missing where that did not count.
                let left = segment.segments - found;
                let weightless = u32::from(self.weightless());
                self.set_weightless(weightless.saturating_sub(left));
                if found == 0 && ahead >= COPY_FROM && !self.has(SHARED) && !self.is_losing(clock) {
                    return Age::Copy;
                }
                if !is_bare && left > weightless {
                    sink.came_late(left - weightless);
                }
            }
            _ => return Age::Unknown,
        }
        clock.settle(self);
        self.ripen(false, clock, sink);
        if ahead >= LATE_FROM { Age::Late } else { Age::New }
    }

    /// Whether identifiers can be believed, this packet included.
    #[inline(always)]
    fn qualify<C: Clock, S: Sink>(&mut self, segment: &Segment, is_explained: bool, clock: &C, sink: &mut S) -> bool {
        if self.is_rejected(clock) {
            return false;
        }
        self.flags &= !REJECTED;
        let weight = weight(segment);
        self.id_seen += weight;
        self.id_exact += if is_explained { weight } else { 0 };
        if self.id_seen - self.id_exact > UNEXPLAINED * weight && !self.has(SHARED) {
            self.flags |= SHARED;
            self.gaps = 0;
        }
        clock.settle(self);
        if self.id_seen >= BLOCK {
            if self.id_seen == self.id_exact {
                self.flags &= !SHARED;
            }
            if self.id_exact >= BLOCK_EXACT {
                if !self.has(QUALIFIED) && self.gaps > 0 {
                    sink.event(TcpEvent::IdGap, u32::from(self.gaps));
                }
                self.flags |= QUALIFIED;
            } else {
                self.flags = self.flags & !QUALIFIED | REJECTED;
                self.gap_at = clock.jiffies();
                self.gaps = 0;
                sink.quality(Quality::IpIdRejected);
            }
            (self.id_seen, self.id_exact) = (0, 0);
            self.set_weightless(0);
        }
        clock.settle(self);
        self.has(QUALIFIED)
    }

    /// What is missing while it is not known yet whether identifiers count: should they, it was missing.
    #[inline(always)]
    fn note_early<C: Clock>(&mut self, (ahead, is_weightless): (u16, bool), segment: &Segment, clock: &C) {
        match ahead {
            _ if self.has(REJECTED) => {}
            1..=LONGEST_GAP if !is_weightless => self.miss(ahead, clock),
            LATE_FROM.. => self.gaps = self.gaps.saturating_sub(segment.segments as u16),
            _ => {}
        }
    }

    #[inline(always)]
    const fn weightless(&self) -> u16 {
        (self.flags & WEIGHTLESS) >> WEIGHTLESS_SHIFT
    }

    #[inline(always)]
    fn set_weightless(&mut self, count: u32) {
        let count = if count > 3 { 3 } else { count as u16 };
        self.flags = self.flags & !WEIGHTLESS | count << WEIGHTLESS_SHIFT;
    }

    /// Adds to what is missing.
    #[inline(always)]
    fn miss<C: Clock>(&mut self, packets: u16, clock: &C) {
        if self.gaps == 0 {
            self.gap_at = clock.microseconds();
        }
        self.gaps = self.gaps.saturating_add(packets);
    }

    /// Something of this direction was lost; `filled` segments of it have been missing here.
    #[inline(always)]
    pub(super) fn lose<C: Clock, S: Sink>(&mut self, filled: u32, clock: &C, sink: &mut S) {
        self.loss_at = clock.jiffies();
        self.flags |= LOST;
        if self.gaps > 0 && filled > 0 {
            let missing = u32::from(self.gaps);
            let found = if filled < missing { filled } else { missing };
            if self.has(QUALIFIED) {
                self.confirm(found, sink);
            } else {
                // It was counted as what fills a hole.
                self.gaps -= found as u16;
            }
        }
        self.ripen(false, clock, sink);
    }

    /// In the midst of losses, packets that have been missing for longer than they could be late were lost, too; so were
    /// all of them behind the `last`. What has been missing for an episode without any was no loss.
    #[inline(always)]
    pub(super) fn ripen<C: Clock, S: Sink>(&mut self, is_last: bool, clock: &C, sink: &mut S) {
        if self.gaps == 0 {
            return;
        }
        let (age_us, round_trip_us) = (clock.microseconds().wrapping_sub(self.gap_at), self.handshake_us());
        let late_us = if round_trip_us > LATE_WITHIN_US { round_trip_us } else { LATE_WITHIN_US };
        if self.is_losing(clock) && (is_last || age_us > late_us) && self.has(QUALIFIED) {
            self.confirm(u32::from(self.gaps), sink);
        } else if age_us > self.episode_us() {
            self.gaps = 0;
        }
    }

    #[inline(always)]
    const fn episode_us(&self) -> u32 {
        let round_trips_us = self.handshake_us().saturating_mul(4);
        if round_trips_us > EPISODE_US { round_trips_us } else { EPISODE_US }
    }

    /// Whether something was lost not long ago, on whichever side.
    #[inline(always)]
    fn is_losing<C: Clock>(&self, clock: &C) -> bool {
        let lost_for = clock.jiffies().wrapping_sub(self.loss_at);
        self.has(LOST) && u64::from(lost_for) * 1_000_000 <= u64::from(self.episode_us()) * u64::from(clock.hertz())
    }

    #[inline(always)]
    fn confirm<S: Sink>(&mut self, lost: u32, sink: &mut S) {
        sink.event(TcpEvent::IdConfirmed, lost);
        sink.lost_before(lost);
        self.gaps -= lost as u16;
    }
}
