//! What every hook does with a frame: the fast path, else the complete classifier; then it is counted.

use core::hint::cold_path;

use aya_ebpf::EbpfContext;
use aya_log_ebpf::warn;
use probe_ebpf::{
    abi::{Direction, INSIDE, MalformedKey, Scratch, Slot, Tally, Traffic},
    classify::{Layer, Meta, Transport},
    fast::{self, Ordinary},
    frame::Frame,
};

use crate::{
    context::{TcFrame, settle},
    evidence, flows, layers,
    maps::{self, Counted},
    verify,
};

/// A frame under a hook.
pub(crate) trait Hooked: Frame {
    /// Segments that the kernel merged into it, 0 if it does not say.
    fn gso_segs(&self) -> u32;

    /// Copies its first bytes into `scratch`; on devices without MAC header from the network header on. `false` if that
    /// cannot be done.
    fn capture(&self, scratch: &mut Scratch, from_network_header: bool) -> bool;

    /// Copies up to `wanted` of its first bytes, as evidence, of a frame in `scratch`. Returns how many.
    fn copy<const N: usize>(&self, scratch: &Scratch, to: *mut [u8; N], wanted: u64) -> Option<u64>;

    /// As a packet of the kernel's, if it is one already.
    fn as_packet(&self) -> Option<&TcFrame>;
}

/// Where a frame passes, and its counters.
pub(crate) struct Point<'m> {
    pub(crate) slot: &'m Slot,
    pub(crate) traffic: &'m mut Traffic,
    pub(crate) direction: Direction,
}

/// Judges and counts a frame.
#[inline(always)]
pub(crate) fn judge<C: EbpfContext, F: Hooked>(context: &C, frame: &F, meta: &Meta, point: Point<'_>) {
    // In memory: as a value it would be written anew in front of each condition that can fail.
    let mut sum = Ask::Open;
    settle(&mut sum);
    let Some((header_bytes, is_followed)) = ordinary(frame, meta, &point, &mut sum) else {
        cold_path();
        settle(&mut sum);
        return examine(context, frame, meta, (point, sum));
    };
    let segments = count(point.traffic, frame, meta, header_bytes);
    if is_followed {
        point.traffic.tcp_segments += segments;
    }
}

/// Header bytes of an ordinary frame, and whether its connection has taken it in. `None`, and nothing has happened, if it
/// has to be looked at more closely.
#[inline(always)]
fn ordinary<F: Hooked>(frame: &F, meta: &Meta, point: &Point<'_>, sum: &mut Ask) -> Option<(u16, bool)> {
    let ordinary = fast::ordinary(frame, meta)?;
    let Ordinary { packet, tunnel } = &ordinary;
    // What carries others is not asked for its checksum.
    if let Some(skb) = frame.as_packet()
        && *tunnel == 0
        && point.slot.track != 0
        && point.direction == Direction::Ingress
    {
        if verify::is_due(skb, meta, packet, point.slot.track) {
            *sum = Ask::Due;
            return None;
        }
        *sum = Ask::Settled;
    }
    let is_tracked = point.slot.follows != 0 && packet.transport == Transport::Tcp;
    let is_followed = is_tracked && flows::is_next(frame, (meta, &ordinary), point)?;
    Some((packet.header_bytes, is_followed))
}

/// Counts a frame that is not looked into.
#[inline(always)]
pub(crate) fn count_opaque<F: Hooked>(frame: &F, meta: &Meta, point: Point<'_>) {
    count(point.traffic, frame, meta, 0);
    point.traffic.other_frames += 1;
}

/// Whether a frame's transport checksum is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// It was not asked yet.
    Open,
    /// Yes.
    Due,
    /// No, and it was counted why.
    Settled,
}

/// The complete classifier, for every frame that is not plainly ordinary, or whose transport checksum is to be looked at.
#[inline(always)]
fn examine<C: EbpfContext, F: Hooked>(context: &C, frame: &F, meta: &Meta, (point, sum): (Point<'_>, Ask)) {
    let Some(scratch) = maps::scratch_for(meta) else { return };
    let first = scratch.cursor.first_layer();
    if !frame.capture(scratch, meta.first_protocol != 0) {
        count(point.traffic, frame, meta, 0);
        point.traffic.unseen_frames += 1;
        maps::tally(Tally::ScratchUnreadable);
        return;
    }
    let outcome = layers::classify(first);
    if outcome == Layer::End
        && sum != Ask::Settled
        && point.slot.track != 0
        && point.direction == Direction::Ingress
        && let Some(packet) = frame.as_packet()
    {
        layers::verify(packet, point.slot.track, sum == Ask::Due);
    }
    let Point { slot, traffic, direction } = point;
    let segments = count(traffic, frame, meta, scratch.cursor.packet.header_bytes);
    match outcome {
        Layer::Other => traffic.other_frames += 1,
        Layer::Unseen => traffic.unseen_frames += 1,
        Layer::Control => traffic.control_frames += 1,
        _ => {}
    }
    if slot.follows != 0 && outcome == Layer::End && scratch.cursor.is_sound_tcp() {
        traffic.tcp_segments += flows::observe(scratch, slot, direction, segments);
    }
    if let Some(reason) = scratch.cursor.counted_finding() {
        let inside = if scratch.cursor.is_inside() { INSIDE } else { 0 };
        let key = MalformedKey { slot: slot.slot as u16, direction: direction as u8 | inside, reason };
        if direction == Direction::Ingress {
            layers::count_source(slot.slot, reason);
        }
        match maps::count_malformed(&key) {
            Counted::Kept(true) => match frame.as_packet() {
                Some(skb) => layers::keep(skb, &key, (slot.ifindex, segments)),
                None => evidence::keep(frame, scratch, (key.direction, reason), (slot.ifindex, segments)),
            },
            Counted::Lost(true) => {
                warn!(context, "the map of malformed frames is full or busy; what it loses is in map_update_failed");
            }
            Counted::Kept(false) | Counted::Lost(false) => {}
        }
    }
}

/// Wire segments of a frame: 1, or those that the kernel has merged into it.
#[inline(always)]
pub(crate) fn segments(frame: &impl Hooked, meta: &Meta, header_bytes: u16) -> u64 {
    if meta.gso_size == 0 {
        return 1;
    }
    match u64::from(frame.gso_segs()) {
        0 => {
            let payload_bytes = u64::from(meta.frame_bytes).saturating_sub(u64::from(header_bytes));
            payload_bytes.div_ceil(u64::from(meta.gso_size)).max(1)
        }
        segments => segments,
    }
}

/// Adds the frame's wire segments and their bytes: each repeats the headers, and the tag that was taken out. Returns how
/// many segments.
#[inline(always)]
fn count(traffic: &mut Traffic, frame: &impl Hooked, meta: &Meta, header_bytes: u16) -> u64 {
    let tag_bytes = if meta.tag_protocol == 0 { 0 } else { 4 };
    let frame_bytes = u64::from(meta.frame_bytes);
    if meta.gso_size == 0 {
        traffic.frames += 1;
        traffic.bytes += frame_bytes + tag_bytes;
        return 1;
    }
    let segments = segments(frame, meta, header_bytes);
    traffic.frames += segments;
    traffic.bytes += frame_bytes + (segments - 1) * u64::from(header_bytes) + segments * tag_bytes;
    segments
}
