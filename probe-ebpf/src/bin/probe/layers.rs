//! The library's steps as global functions: verified once each, for any state of the scratch space.
#![allow(unsafe_code, reason = "the verifier knows global functions by their unmangled names")]

use aya_ebpf::bindings::__sk_buff;
use probe_ebpf::{
    abi::{Direction, MalformedKey},
    classify::{Cursor, Layer, Step, headers, is_uncommon, landed, uncommon, walk},
    source::{Place, SETS, Sender},
    wire::{ethernet, ipv4},
};

use crate::{
    context::{TcFrame, Window},
    evidence, flows, maps, verify,
};

/// Walks the layers of the frame in this CPU's scratch space, `cursor` included.
#[inline(always)]
pub(crate) fn classify(first: Layer) -> Layer {
    walk(first, |layer| {
        Layer::from_number(match layer {
            Layer::Ipv4Options => classify_ipv4_options(),
            layer if is_uncommon(layer) => classify_uncommon(layer as u64),
            _ => classify_headers(layer as u64),
        })
    })
}

#[inline(always)]
fn enter(step: impl FnOnce(&Window<'_>, &mut Cursor) -> Step) -> u64 {
    let Some(scratch) = maps::scratch() else { return Layer::Unseen as u64 };
    let window = Window { bytes: &scratch.bytes, captured_bytes: scratch.captured_bytes };
    landed(step(&window, &mut scratch.cursor)) as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_headers(layer: u64) -> u64 {
    enter(|window, cursor| headers(window, cursor, Layer::from_number(layer)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_uncommon(layer: u64) -> u64 {
    enter(|window, cursor| uncommon(window, cursor, Layer::from_number(layer)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv4_options() -> u64 {
    enter(|window, cursor| ipv4::options(window, cursor))
}

/// Looks at the transport checksum of the packet in this CPU's scratch space, if that is due: it is already known, or still
/// to be asked.
#[inline(always)]
pub(crate) fn verify(skb: &TcFrame, track: u8, is_due: bool) {
    verify_checksum(skb.as_ptr(), track.into(), is_due.into());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn verify_checksum(skb: *mut __sk_buff, track: u64, is_due: u64) -> u64 {
    let skb = TcFrame::at(skb);
    // 0 is no track point's.
    let track = (track as u8).max(1);
    if let Some(scratch) = maps::scratch()
        && scratch.cursor.has_checksum()
        && (is_due != 0 || verify::is_due(&skb, &scratch.cursor.meta, &scratch.cursor.packet, track))
    {
        verify::verify(&skb, scratch, track);
    }
    0
}

/// Hands over the malformed frame in this CPU's scratch space.
#[inline(always)]
pub(crate) fn keep(skb: &TcFrame, key: &MalformedKey, (ifindex, segments): (u32, u64)) {
    let place = u64::from(ifindex) << 32 | u64::from(key.direction) << 8 | u64::from(key.reason);
    keep_evidence(skb.as_ptr(), place, segments);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_evidence(skb: *mut __sk_buff, place: u64, segments: u64) -> u64 {
    if let Some(scratch) = maps::scratch() {
        let (direction, reason) = ((place >> 8) as u8, place as u8);
        evidence::keep(&TcFrame::at(skb), scratch, (direction, reason), ((place >> 32) as u32, segments));
    }
    0
}

/// Counts the malformed frame in this CPU's scratch space for whoever sent it last, if there is room.
#[inline(always)]
pub(crate) fn count_source(slot: u32, reason: u8) {
    count_malformed_source(slot.into(), reason.into());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_malformed_source(slot: u64, reason: u64) -> u64 {
    if let Some(scratch) = maps::scratch()
        && scratch.cursor.meta.first_protocol == 0
        && scratch.captured_bytes >= ethernet::HEADER_BYTES as u64
        && let Some(head) = scratch.bytes.first_chunk()
    {
        let place = Place::of(reason as u8, Sender::of(head, &scratch.cursor.meta));
        maps::count_source(slot as u32 * SETS + place.set, place.tag);
    }
    0
}

/// Finds the connection of the TCP packet in this CPU's scratch space. `false` if it is not followed. (Two functions, one
/// after the other: the stack of both together would be too deep.)
#[inline(always)]
pub(crate) fn find_connection(direction: Direction) -> bool {
    let found = match direction {
        Direction::Ingress => find_connection_in(),
        Direction::Egress => find_connection_out(),
    };
    found != 0
}

/// Shows that packet to it.
#[inline(always)]
pub(crate) fn show_connection(direction: Direction) -> bool {
    let shown = match direction {
        Direction::Ingress => show_connection_in(),
        Direction::Egress => show_connection_out(),
    };
    shown != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_connection_in() -> u64 {
    maps::scratch().map_or(0, |scratch| flows::find(scratch, Direction::Ingress).is_some().into())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_connection_out() -> u64 {
    maps::scratch().map_or(0, |scratch| flows::find(scratch, Direction::Egress).is_some().into())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn show_connection_in() -> u64 {
    maps::scratch().map_or(0, |scratch| flows::show(scratch, Direction::Ingress).is_some().into())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn show_connection_out() -> u64 {
    maps::scratch().map_or(0, |scratch| flows::show(scratch, Direction::Egress).is_some().into())
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
