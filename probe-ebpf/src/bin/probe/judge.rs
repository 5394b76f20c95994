//! What every hook does with a frame: the fast path, else the complete classifier; then it is counted.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::warn;
use probe_ebpf::{
    abi::{Direction, MalformedKey, Scratch, Slot, Tally, Traffic},
    classify::{Layer, Meta},
    fast,
    frame::Frame,
};

use crate::{events, layers, maps};

/// A frame under a hook.
pub(crate) trait Hooked: Frame {
    /// Segments that the kernel merged into it, 0 if it does not say.
    fn gso_segs(&self) -> u32;

    /// Copies its first bytes into `scratch`; on devices without MAC header from the network header on. `false` if that
    /// cannot be done.
    fn capture(&self, scratch: &mut Scratch, from_network_header: bool) -> bool;
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
    match fast::ordinary(frame, meta) {
        Some(packet) => {
            count(point.traffic, frame, meta, packet.header_bytes);
        }
        None => examine(context, frame, meta, point),
    }
}

/// Counts a frame that is not looked into.
#[inline(always)]
pub(crate) fn count_opaque<F: Hooked>(frame: &F, meta: &Meta, point: Point<'_>) {
    count(point.traffic, frame, meta, 0);
    point.traffic.other_frames += 1;
}

/// The complete classifier, for every frame that is not plainly ordinary.
#[inline(always)]
fn examine<C: EbpfContext, F: Hooked>(context: &C, frame: &F, meta: &Meta, point: Point<'_>) {
    let Point { slot, traffic, direction } = point;
    let Some(scratch) = maps::scratch_for(meta) else { return };
    let first = scratch.cursor.first_layer();
    if !frame.capture(scratch, meta.first_protocol != 0) {
        count(traffic, frame, meta, 0);
        traffic.unseen_frames += 1;
        maps::tally(Tally::ScratchUnreadable);
        return;
    }
    let outcome = layers::classify(first);
    let segments = count(traffic, frame, meta, scratch.cursor.packet.header_bytes);
    match outcome {
        Layer::Other => traffic.other_frames += 1,
        Layer::Unseen => traffic.unseen_frames += 1,
        _ => {}
    }
    if let Some(reason) = scratch.cursor.counted_finding() {
        let key = MalformedKey { slot: slot.slot as u16, direction: direction as u8, reason };
        events::show_malformed(scratch, reason, (slot.ifindex, direction), segments);
        if maps::count_malformed(&key) {
            warn!(context, "the map of malformed frames is full or busy; what it loses is in map_update_failed");
        }
    }
}

/// Adds the frame's wire segments and their bytes: each repeats the headers, and the tag that was taken out. Returns how
/// many segments.
#[inline(always)]
fn count(traffic: &mut Traffic, frame: &impl Hooked, meta: &Meta, header_bytes: u16) -> u64 {
    let header_bytes = u64::from(header_bytes);
    let frame_bytes = u64::from(meta.frame_bytes);
    let tag_bytes = if meta.tag_protocol == 0 { 0 } else { 4 };
    let mut segments = 1;
    if meta.gso_size != 0 {
        segments = match u64::from(frame.gso_segs()) {
            0 => (frame_bytes.saturating_sub(header_bytes)).div_ceil(u64::from(meta.gso_size)).max(1),
            segments => segments,
        };
    }
    traffic.frames += segments;
    traffic.bytes += frame_bytes + (segments - 1) * header_bytes + segments * tag_bytes;
    segments
}
