//! The side channel of IPv4 identifiers: most hosts number the packets of a connection one by one, so a missing number is
//! a packet that was lost before this point, also where sequence numbers cannot tell (a retransmission lost again, the last
//! segment). It is evidence only: hosts may number as they like (RFC 6864), so a gap is a candidate, which counts only in
//! the midst of retransmissions, and not if what is missing was acknowledged.

use super::{
    event::{Quality, Sink, TcpEvent},
    half::{Clock, Half, IDENTIFIED, LOST, QUALIFIED, REJECTED},
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
/// How long identifiers are not believed after a block in which they did not count.
const REJECTED_SECONDS: u32 = 10;

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
        if segment.identifier != self.expected_id || self.id_seen >= BLOCK - 1 {
            return false;
        }
        self.expect_behind(segment);
        self.id_seen += 1;
        self.id_exact += 1;
        true
    }

    /// What is to come behind this one, if it does not come late.
    #[inline(always)]
    fn expect_behind(&mut self, segment: &Segment) {
        let is_unset = segment.identifier == 0 && self.expected_id != 0;
        if !is_unset && segment.identifier.wrapping_sub(self.expected_id) < 0x8000 {
            self.expected_id = segment.identifier.wrapping_add(segment.segments as u16);
        }
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
    ) {
        if segment.identifier == 0 && !(self.has(IDENTIFIED) && self.expected_id == 0) {
            return;
        }
        if !self.has(IDENTIFIED) {
            self.flags |= IDENTIFIED;
            self.expected_id = segment.identifier.wrapping_add(segment.segments as u16);
            return;
        }
        let ahead = segment.identifier.wrapping_sub(self.expected_id);
        let is_explained = match ahead {
            0 => true,
            1..=LONGEST_GAP => opens_hole,
            LATE_FROM.. => comes_late,
            _ => false,
        };
        self.expect_behind(segment);
        if !self.qualify(is_explained, clock, sink) || ahead == 0 {
            return;
        }
        let is_bare = segment.payload_bytes == 0 && segment.flags & (SYN | FIN) == 0;
        match ahead {
            1..=LONGEST_GAP if is_bare && !opens_hole => sink.event(TcpEvent::AckGap, u32::from(ahead)),
            1..=LONGEST_GAP => {
                sink.event(TcpEvent::IdGap, u32::from(ahead));
                self.miss(ahead as i16, clock);
                if self.is_losing(clock) {
                    self.confirm(sink);
                }
            }
            LATE_FROM.. => {
                sink.event(TcpEvent::IdLate, segment.segments);
                let late = if segment.segments > 1_024 { 1_024 } else { segment.segments as i16 };
                // A bare acknowledgement may only take back what is open: its own gap was perhaps none that counts.
                let late = if is_bare && late > self.gaps { self.gaps.max(0) } else { late };
                if late != 0 {
                    self.miss(-late, clock);
                }
            }
            _ => {}
        }
    }

    /// Whether identifiers can be believed, this packet included.
    #[inline(always)]
    fn qualify<C: Clock, S: Sink>(&mut self, is_explained: bool, clock: &C, sink: &mut S) -> bool {
        if self.is_rejected(clock) {
            return false;
        }
        self.flags &= !REJECTED;
        self.id_seen += 1;
        self.id_exact += u8::from(is_explained);
        if self.id_seen >= BLOCK {
            if self.id_exact >= BLOCK_EXACT {
                self.flags |= QUALIFIED;
            } else {
                self.flags = self.flags & !QUALIFIED | REJECTED;
                self.gap_at = clock.jiffies();
                self.gaps = 0;
                sink.quality(Quality::IpIdRejected);
            }
            (self.id_seen, self.id_exact) = (0, 0);
        }
        self.has(QUALIFIED)
    }

    /// Adds to what is missing. What has been open for too long was no loss.
    #[inline(always)]
    fn miss<C: Clock>(&mut self, packets: i16, clock: &C) {
        let now = clock.jiffies();
        if self.gaps == 0 || now.wrapping_sub(self.gap_at) > self.episode(clock) {
            self.gaps = 0;
            self.gap_at = now;
        }
        let gaps = i32::from(self.gaps) + i32::from(packets);
        self.gaps = gaps.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }

    /// Something of this direction was lost: so were the packets whose identifiers are missing.
    #[inline(always)]
    pub(super) fn lose<C: Clock, S: Sink>(&mut self, clock: &C, sink: &mut S) {
        self.loss_at = clock.jiffies();
        self.flags |= LOST;
        if self.gaps > 0 && self.loss_at.wrapping_sub(self.gap_at) <= self.episode(clock) {
            self.confirm(sink);
        }
    }

    #[inline(always)]
    fn is_losing<C: Clock>(&self, clock: &C) -> bool {
        self.has(LOST) && clock.jiffies().wrapping_sub(self.loss_at) <= self.episode(clock)
    }

    #[inline(always)]
    fn confirm<S: Sink>(&mut self, sink: &mut S) {
        if self.gaps > 0 {
            let lost = u32::from(self.gaps.unsigned_abs());
            sink.event(TcpEvent::IdConfirmed, lost);
            sink.lost_before(lost);
            self.gaps = 0;
        }
    }

    /// How far apart, in jiffies, a missing packet and a sign of loss may be: a second, or four round trips.
    #[inline(always)]
    fn episode<C: Clock>(&self, clock: &C) -> u32 {
        let hertz = clock.hertz();
        let round_trips = self.handshake_jiffies(hertz).saturating_mul(4);
        if round_trips > hertz { round_trips } else { hertz }
    }
}
