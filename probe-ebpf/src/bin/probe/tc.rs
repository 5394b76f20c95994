//! tc ingress and egress: every frame of a counted interface, judged and counted, then passed on untouched.

use aya_ebpf::{macros::classifier, programs::TcContext};
use aya_log_ebpf::warn;
use probe_ebpf::{
    abi::{Direction, MalformedKey, Slot, Tally, Traffic, traffic_index},
    classify::{FROM_WIRE, Layer, LinkKind, Meta},
    fast,
};

use crate::{context::TcFrame, layers, maps};

/// `TC_ACT_UNSPEC`, `TCX_NEXT`: whoever is next decides.
pub(crate) const CONTINUE: i32 = -1;

#[classifier]
fn lossprobe_in(context: TcContext) -> i32 {
    observe(&context, Direction::Ingress);
    CONTINUE
}

#[classifier]
fn lossprobe_out(context: TcContext) -> i32 {
    observe(&context, Direction::Egress);
    CONTINUE
}

#[inline(always)]
fn observe(context: &TcContext, direction: Direction) {
    let frame = TcFrame::new(context);
    let Some(slot) = maps::slot_of(frame.ifindex()) else { return };
    let Some(traffic) = maps::traffic(traffic_index(slot.slot, direction)) else { return };
    let flags = match direction {
        Direction::Ingress => slot.flags,
        Direction::Egress => slot.flags & !FROM_WIRE,
    };
    let first_protocol = match (slot.link_kind, direction) {
        (kind, _) if kind == LinkKind::Ethernet as u8 => Some(0),
        (kind, _) if kind == LinkKind::Network as u8 => named(frame.protocol()),
        (kind, Direction::Ingress) if kind == LinkKind::NetworkIngress as u8 => named(frame.protocol()),
        _ => None,
    };
    let meta = frame.meta(slot, flags, first_protocol.unwrap_or(0));
    if first_protocol.is_none() {
        count(traffic, &frame, &meta, 0);
        traffic.other_frames += 1;
        return;
    }
    match fast::ordinary(&frame, &meta) {
        Some(packet) => count(traffic, &frame, &meta, packet.header_bytes),
        None => examine(context, &frame, &meta, traffic, slot, direction),
    }
}

/// A packet that nobody gave a protocol is not looked into.
#[inline(always)]
fn named(protocol: u16) -> Option<u16> {
    (protocol != 0).then_some(protocol)
}

/// The complete classifier, for every frame that is not plainly ordinary.
#[inline(always)]
fn examine(
    context: &TcContext,
    frame: &TcFrame,
    meta: &Meta,
    traffic: &mut Traffic,
    slot: &Slot,
    direction: Direction,
) {
    let Some(scratch) = maps::scratch_for(meta) else { return };
    let first = scratch.cursor.first_layer();
    if !frame.capture(scratch, meta.first_protocol != 0) {
        count(traffic, frame, meta, 0);
        traffic.unseen_frames += 1;
        maps::tally(Tally::ScratchUnreadable);
        return;
    }
    let outcome = layers::classify(first);
    count(traffic, frame, meta, scratch.cursor.packet.header_bytes);
    match outcome {
        Layer::Other => traffic.other_frames += 1,
        Layer::Unseen => traffic.unseen_frames += 1,
        _ => {}
    }
    if let Some(reason) = scratch.cursor.counted_finding() {
        let key = MalformedKey { slot: slot.slot as u16, direction: direction as u8, reason };
        if maps::count_malformed(&key) {
            warn!(context, "the map of malformed frames is full or busy; what it loses is in map_update_failed");
        }
    }
}

/// Adds the frame's wire segments and their bytes: each repeats the headers, and the tag that was taken out.
#[inline(always)]
fn count(traffic: &mut Traffic, frame: &TcFrame, meta: &Meta, header_bytes: u16) {
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
}
