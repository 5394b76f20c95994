//! What a malformed frame is proved by: its headers and a little behind them, or most of a frame whose checksum is wrong.

use probe_ebpf::{
    abi::{About, EVIDENCE_BYTES, GLIMPSE_BYTES, Scratch, Tally},
    reason::Malformed,
};

use crate::{judge::Hooked, maps};

/// Bytes of a header that contradicts itself and is not among those that were understood: without options.
const HEADER_BYTES: u64 = 20;

/// Hands the frame in the scratch space over, whose finding was just counted.
#[inline(always)]
pub(crate) fn keep(
    frame: &impl Hooked,
    scratch: &Scratch,
    (direction, reason): (u8, u8),
    (ifindex, segments): (u32, u64),
) {
    let meta = &scratch.cursor.meta;
    let wanted = wanted_bytes(scratch, reason);
    let about = About {
        time_ns: maps::nanoseconds(),
        ifindex,
        frame_bytes: meta.frame_bytes,
        captured_bytes: 0,
        segments: segments as u32,
        first_protocol: meta.first_protocol,
        tag_protocol: meta.tag_protocol,
        tag_control: meta.tag_control,
        offset: scratch.cursor.finding_at(),
        reason,
        direction,
        flags: meta.flags,
        pad: [0; 5],
    };
    let is_kept = if wanted > GLIMPSE_BYTES as u64 {
        maps::keep::<EVIDENCE_BYTES>(about, |to| frame.copy(scratch, to, wanted))
    } else {
        maps::keep::<GLIMPSE_BYTES>(about, |to| frame.copy(scratch, to, wanted))
    };
    if !is_kept {
        maps::tally(Tally::EvidenceLost);
    }
}

/// How much of the frame in the scratch space proves it, and shows no more of what people send than it must.
#[inline(always)]
fn wanted_bytes(scratch: &Scratch, reason: u8) -> u64 {
    let whole_bytes = u64::from(maps::evidence_whole_bytes());
    let cursor = &scratch.cursor;
    let understood = u64::from(cursor.packet.header_bytes);
    let finding_at = u64::from(cursor.finding_at());
    let at = u64::from(cursor.at);
    let broken = finding_at.max(at) + HEADER_BYTES;
    // What stands far behind all headers is about the length: that is known without what people send in between.
    let is_in_headers = finding_at >= understood && finding_at <= at + HEADER_BYTES;
    let headers = if is_in_headers { broken } else { understood };
    let headers = headers + u64::from(maps::evidence_payload_bytes());
    let wanted = if is_checksum(reason) { headers.max(whole_bytes) } else { headers };
    wanted.min(u64::from(cursor.meta.frame_bytes)).min(EVIDENCE_BYTES as u64)
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
