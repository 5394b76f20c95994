//! What a malformed frame is proved by: its headers and a little behind them, or most of a frame whose checksum is wrong.

use probe_ebpf::{
    abi::{EVIDENCE_BYTES, MalformedKey, Scratch, Tally},
    reason::Malformed,
};

use crate::{judge::Hooked, maps};

/// Bytes of a header that contradicts itself and is not among those that were understood: without options.
const HEADER_BYTES: u64 = 20;

/// Hands the frame in the scratch space over, whose finding was just counted.
#[inline(always)]
pub(crate) fn keep(frame: &impl Hooked, scratch: &Scratch, key: &MalformedKey, (ifindex, segments): (u32, u64)) {
    let Some(room) = maps::room() else { return };
    let meta = &scratch.cursor.meta;
    let wanted = wanted_bytes(scratch, key.reason).min(u64::from(meta.frame_bytes)).min(EVIDENCE_BYTES as u64);
    let Some(captured_bytes) = frame.copy(scratch, &mut room.bytes, wanted) else {
        maps::tally(Tally::EvidenceLost);
        return;
    };
    room.time_ns = maps::nanoseconds();
    room.ifindex = ifindex;
    room.frame_bytes = meta.frame_bytes;
    room.captured_bytes = captured_bytes as u32;
    room.segments = segments as u32;
    room.first_protocol = meta.first_protocol;
    room.tag_protocol = meta.tag_protocol;
    room.tag_control = meta.tag_control;
    room.offset = scratch.cursor.finding_at();
    room.reason = key.reason;
    room.direction = key.direction;
    room.flags = meta.flags;
    maps::hand_over(room, captured_bytes);
}

/// How much proves it, and shows no more of what people send than it must.
#[inline(always)]
fn wanted_bytes(scratch: &Scratch, reason: u8) -> u64 {
    let whole_bytes = u64::from(maps::evidence_whole_bytes());
    let cursor = &scratch.cursor;
    let understood = u64::from(cursor.packet.header_bytes);
    let broken = (u64::from(cursor.at).max(u64::from(cursor.finding_at()))) + HEADER_BYTES;
    let headers = if cursor.finding_at() as u64 >= understood { broken } else { understood };
    let headers = headers + u64::from(maps::evidence_payload_bytes());
    if is_checksum(reason) { headers.max(whole_bytes) } else { headers }
}

/// Only all that was summed up shows that a sum is wrong.
#[inline(always)]
const fn is_checksum(reason: u8) -> bool {
    reason == Malformed::Ip4Csum as u8
        || reason == Malformed::TcpCsum as u8
        || reason == Malformed::UdpCsum as u8
        || reason == Malformed::IcmpCsum as u8
        || reason == Malformed::Icmp6Csum as u8
}
