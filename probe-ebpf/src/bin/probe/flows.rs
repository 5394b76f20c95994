//! Connections: a TCP packet is shown to the half of its connection that passes this way. The next segment of a
//! connection of which nothing is missing takes the short way; everything else is examined, and shown from the window.

use probe_ebpf::{
    abi::{Direction, FlowName, FlowNames, FlowSet, HAIRPIN, Passage, Scratch, Slot},
    classify::Meta,
    fast::{self, Ordinary},
    flow::{
        Clock, Cut, FLOW_WAYS, Key, Ledger, Passing, Place, Quality, Reverse, Segment, Sink, TcpEvent, encapsulation,
        first_way, place, set_of, tag_of,
    },
    wire::ethernet,
};

use crate::{
    context::{Window, barrier, masked, settle},
    judge::{Hooked, Point, segments},
    layers, maps,
};

/// The kernel's clocks.
struct KernelClock;

impl Clock for KernelClock {
    #[inline(always)]
    fn jiffies(&self) -> u32 {
        maps::jiffies() as u32
    }

    #[inline(always)]
    fn hertz(&self) -> u32 {
        maps::hertz()
    }

    #[inline(always)]
    fn microseconds(&self) -> u32 {
        (maps::nanoseconds() / 1_000) as u32
    }

    #[inline(always)]
    fn settle<T>(&self, state: &mut T) {
        settle(state);
    }
}

/// Shows an ordinary packet to its connection. `None`, and nothing has happened, if it has to be looked at more closely;
/// `Some(false)` if its connection is not in the sample.
#[inline(always)]
pub(crate) fn is_next<F: Hooked>(
    frame: &F,
    (meta, Ordinary { packet, tunnel }): (&Meta, &Ordinary),
    point: &Point<'_>,
) -> Option<bool> {
    let fast::Headers { network, network_at, transport_at } = fast::headers(frame, *tunnel)?;
    let encapsulation = match *tunnel {
        0 => encapsulation(frame, meta, u32::from(network_at != ethernet::HEADER_BYTES)),
        tunnel => tunnel,
    };
    let mut segment = Segment::plain(frame, network, (network_at, transport_at))?;
    let seen_from = (point.direction, point.slot.group);
    let tag = tag_of(frame, (network, network_at, transport_at), seen_from, encapsulation, &maps::secret())?;
    if !is_in_sample(tag) {
        return Some(false);
    }
    let segments = segments(frame, meta, packet.header_bytes) as u32;
    segment.size(packet.payload_bytes, Cut { segments, gso_size: meta.gso_size });
    let index = index(tag);
    let reverse = reverse(tag, point.direction, index);
    let set = maps::flows(point.direction, index)?;
    let half = match place(set, tag, segment.is_opening(), &KernelClock) {
        Place::Resident(way) => at(set, way as u32)?,
        Place::Free(_) => return None,
        Place::Full => {
            if segment.may_begin(&reverse) {
                maps::ledger(point.slot.track, point.direction)?.quality(Quality::TableFull);
            }
            return Some(false);
        }
    };
    half.follow(&reverse, &segment, &KernelClock, maps::cpu()).then_some(true)
}

/// Shows a packet in the scratch space to its connection. Returns how many segments were, none if it is not followed.
#[inline(always)]
pub(crate) fn observe(scratch: &mut Scratch, slot: &Slot, direction: Direction, segments: u64) -> u64 {
    scratch.passage = Passage {
        ifindex: slot.ifindex,
        segments: segments as u32,
        gso_size: scratch.cursor.meta.gso_size,
        track: slot.track,
        group: slot.group,
        pad: [0; 2],
    };
    if layers::find_connection(direction) && layers::show_connection(direction) { segments } else { 0 }
}

#[inline(always)]
fn is_in_sample(tag: u64) -> bool {
    (tag >> 32) as u32 <= maps::flow_share()
}

#[inline(always)]
fn index(tag: u64) -> u32 {
    set_of(tag, maps::flow_mask())
}

const fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// What the other direction says, if it is the same connection's before and after it was read.
#[inline(always)]
fn reverse(tag: u64, direction: Direction, index: u32) -> Reverse {
    let Some(set) = maps::flows(other(direction), index) else { return Reverse::UNSEEN };
    let first = first_way(tag);
    let half = &set[if set[first].tag == tag { first } else { 1 - first }];
    let tag_now = || {
        barrier();
        half.tag
    };
    let now = || {
        barrier();
        Reverse::of(half)
    };
    Reverse::believed(tag, tag_now, now)
}

/// What the first global function does: reads the segment out of the window and finds its connection. `None` if that is
/// not followed. Between the steps nothing is in registers, so that a verifier follows each of them once.
#[inline(always)]
pub(crate) fn find(scratch: &mut Scratch, direction: Direction) -> Option<()> {
    let Scratch { bytes, captured_bytes, cursor, passage, passing } = scratch;
    let window = Window { bytes, captured_bytes: *captured_bytes };
    let cut = Cut { segments: passage.segments, gso_size: passage.gso_size };
    passing.segment.read(&window, &cursor.packet, cut)?;
    settle(passing);
    passing.key = Key::of(&window, &cursor.packet, direction)?;
    passing.key.group = u32::from(passage.group);
    passing.key.encapsulation = if cursor.is_inside() {
        cursor.tunnel
    } else {
        encapsulation(&window, &cursor.meta, u32::from(cursor.tags_in_frame))
    };
    settle(passing);
    passing.tag = passing.key.tag(&maps::secret());
    if !is_in_sample(passing.tag) {
        return None;
    }
    passing.reverse = reverse(passing.tag, direction, index(passing.tag));
    settle(passing);
    let ledger = maps::ledger(passage.track, direction)?;
    passing.way = way(maps::flows(direction, index(passing.tag))?, passing, ledger)?;
    settle(passing);
    if passing.way & NEW != 0 {
        if direction == Direction::Egress && has_come_by(&passing.key, passage.ifindex) {
            ledger.quality(Quality::Hairpin);
            return None;
        }
        at(maps::flows(direction, index(passing.tag))?, passing.way)?.admit(passing.tag, barrier);
    }
    settle(passing);
    passing.name_way = name(maps::flow_names(index(passing.tag))?, passing);
    Some(())
}

/// What the second one does: shows the segment to its connection.
#[inline(always)]
pub(crate) fn show(scratch: &mut Scratch, direction: Direction) -> Option<()> {
    let Scratch { passage, passing, .. } = scratch;
    let ledger = maps::ledger(passage.track, direction)?;
    let half = at(maps::flows(direction, index(passing.tag))?, passing.way)?;
    let name = at(maps::flow_names(index(passing.tag))?, passing.name_way)?;
    let seen_at = &mut name.ifindex[direction as usize];
    *seen_at = *seen_at & HAIRPIN | passage.ifindex;
    let is_hairpin = direction == Direction::Ingress && *seen_at & HAIRPIN != 0;
    let behind = if is_hairpin { maps::ledger(passage.track, Direction::Egress) } else { None };
    let mut sink = Telling { ledger, behind, name, direction };
    half.observe(&passing.reverse, &passing.segment, (&KernelClock, maps::cpu()), &mut sink);
    Some(())
}

/// Bit of [`Passing::way`]: its half is to be made.
const NEW: u32 = 1 << 8;

/// One of those that share a place, by a number that the verifier forgets: else it would follow each of them.
#[inline(always)]
fn at<T>(ways: &mut [T; FLOW_WAYS], way: u32) -> Option<&mut T> {
    ways.get_mut(masked::<{ FLOW_WAYS as u64 - 1 }>(u64::from(way)) as usize)
}

/// Where this connection is; with [`NEW`] where its half may be made. A bare acknowledgement makes none, unless the other
/// direction is there.
#[inline(always)]
fn way(set: &FlowSet, passing: &Passing, ledger: &mut Ledger) -> Option<u32> {
    let Passing { segment, reverse, tag, .. } = passing;
    match place(set, *tag, segment.is_opening(), &KernelClock) {
        Place::Resident(way) => Some(way as u32),
        _ if !segment.may_begin(reverse) => None,
        Place::Free(way) => Some(way as u32 | NEW),
        Place::Full => {
            ledger.quality(Quality::TableFull);
            None
        }
    }
}

/// Whether the other way round, a packet of this connection has come in by that interface.
#[inline(always)]
fn has_come_by(key: &Key, ifindex: u32) -> bool {
    let tag = key.reversed_tag(&maps::secret());
    let Some([first, second]) = maps::flows(Direction::Ingress, index(tag)) else { return false };
    if first.tag != tag && second.tag != tag {
        return false;
    }
    let Some([first, second]) = maps::flow_names(index(tag)) else { return false };
    let name = if first.tag == tag { first } else { second };
    let came_by = &mut name.ifindex[Direction::Ingress as usize];
    let is_hairpin = name.tag == tag && *came_by & !HAIRPIN == ifindex;
    if is_hairpin {
        *came_by |= HAIRPIN;
    }
    is_hairpin
}

/// Where the connection's name is, written down where it is not yet.
#[inline(always)]
fn name(names: &mut FlowNames, passing: &Passing) -> u32 {
    let [first, second] = names;
    let is_first = first.tag == passing.tag || (second.tag != passing.tag && passing.way & 1 == 0);
    let name = if is_first { first } else { second };
    if name.tag != passing.tag {
        *name = FlowName { tag: passing.tag, key: passing.key, ..FlowName::default() };
    }
    u32::from(!is_first)
}

/// Counts what a segment says, for its interface and for its connection.
struct Telling<'m> {
    ledger: &'m mut Ledger,
    /// Of a hairpin: the way out's, for what was lost behind it.
    behind: Option<&'m mut Ledger>,
    name: &'m mut FlowName,
    direction: Direction,
}

impl Sink for Telling<'_> {
    #[inline(always)]
    fn event(&mut self, event: TcpEvent, segments: u32) {
        match &mut self.behind {
            Some(behind) if matches!(event, TcpEvent::RetransmitSeen | TcpEvent::Spurious | TcpEvent::Duplicate) => {
                behind.event(event, segments);
            }
            _ => self.ledger.event(event, segments),
        }
        match event {
            TcpEvent::RetransmitSeen => self.name.seen_again[self.direction as usize] += segments,
            TcpEvent::Dsack => {
                maps::add_at_once(&mut self.name.not_needed[other(self.direction) as usize], segments as i32);
            }
            TcpEvent::Spurious | TcpEvent::Duplicate => {
                maps::add_at_once(&mut self.name.not_needed[self.direction as usize], -(segments as i32));
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn quality(&mut self, cause: Quality) {
        self.ledger.quality(cause);
    }

    #[inline(always)]
    fn lost_before(&mut self, segments: u32) {
        self.ledger.lost_before(segments);
        self.name.lost_before[self.direction as usize] += segments;
    }

    #[inline(always)]
    fn came_late(&mut self, segments: u32) {
        self.ledger.came_late(segments);
        let lost = &mut self.name.lost_before[self.direction as usize];
        *lost = lost.saturating_sub(segments);
    }
}
