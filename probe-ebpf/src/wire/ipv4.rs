//! IPv4 (RFC 791, RFC 1122 3.2.1, RFC 1812 5.2.2).

use core::ops::ControlFlow;

use super::ethernet::judge_trailer;
use crate::{
    classify::{Cursor, LOOPBACK, Layer, Network, Step, Stop, Transport},
    frame::{Frame, be16, raw32},
    reason::Malformed,
};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;
/// Offset of the source address; the destination follows.
pub(crate) const SOURCE_AT: usize = 12;
const MAX_OPTION_BYTES: usize = 40;
const OPTIONS_PER_STEP: usize = 8;
/// Steps that all options of a header can need, the end of the list included.
pub(crate) const MAX_OPTION_STEPS: usize = (MAX_OPTION_BYTES + 1).div_ceil(OPTIONS_PER_STEP);
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// A first fragment with less TCP than this hides the flags.
const TINY_TCP_BYTES: usize = 16;

/// Protocol number.
pub const ICMP: u8 = 1;
/// Protocol number.
pub const TCP: u8 = 6;
/// Protocol number.
pub const UDP: u8 = 17;
/// Protocol number.
pub const ICMPV6: u8 = 58;
pub(crate) const GRE: u8 = 47;
pub(crate) const SCTP: u8 = 132;

pub(crate) const OPTION_END: u8 = 0;
pub(crate) const OPTION_NOP: u8 = 1;
pub(crate) const LOOSE_ROUTE: u8 = 131;
pub(crate) const STRICT_ROUTE: u8 = 137;

/// Whether an address may not be a source on the wire: 127/8, multicast, class E, limited broadcast.
#[must_use]
#[inline(always)]
pub const fn is_bad_source(first_byte: u8) -> bool {
    first_byte == 127 || first_byte >= 224
}

/// Judges the header; its options are steps of their own.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::Ip4Short)?;
    cursor.packet.network = Network::Ipv4;
    cursor.packet.network_at = at as u16;
    let present_bytes = cursor.end as usize - at;
    if header[0] >> 4 != 4 {
        return Err(cursor.fail(Malformed::Ip4Ver, at));
    }
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    if header_bytes < HEADER_BYTES || header_bytes > present_bytes {
        return Err(cursor.fail(Malformed::Ip4Ihl, at));
    }
    let mut total_bytes = usize::from(be16(&header, 2));
    if total_bytes == 0 && cursor.meta.gso_size != 0 {
        total_bytes = present_bytes;
    }
    if total_bytes < header_bytes {
        return Err(cursor.fail(Malformed::Ip4LenLtHdr, at + 2));
    }
    if total_bytes > present_bytes {
        return Err(cursor.fail(Malformed::Ip4Trunc, at + 2));
    }
    let options_sum = if header_bytes > HEADER_BYTES { sum_options(frame, at, header_bytes)? } else { 0 };
    if !sum_is_right(header_sum(&header) + options_sum) {
        return Err(cursor.fail(Malformed::Ip4Csum, at + 10));
    }
    judge_trailer(cursor, at + total_bytes);
    cursor.end = (at + total_bytes) as u32;
    cursor.understood(at + header_bytes);
    judge_addresses(cursor, &header, at);
    if header[8] == 0 {
        cursor.note(Malformed::Ip4Ttl0, at + 8);
    }
    if be16(&header, 6) & 0x8000 != 0 {
        cursor.note(Malformed::Ip4Resv, at + 6);
    }
    if header_bytes > HEADER_BYTES {
        cursor.option_at = (at + HEADER_BYTES) as u16;
        return Ok(Layer::Ipv4Options);
    }
    payload_layer(cursor, &header)
}

/// What follows a header whose options are judged.
#[inline(always)]
fn payload_layer(cursor: &mut Cursor, header: &[u8; HEADER_BYTES]) -> Step {
    if be16(header, 6) & 0x3fff != 0 {
        return fragment_step(cursor, header);
    }
    Ok(match header[9] {
        TCP => Layer::Tcp,
        UDP => Layer::Udp,
        ICMP => Layer::Icmp,
        ICMPV6 => {
            cursor.note(Malformed::IcmpFamily, cursor.at as usize);
            Layer::End
        }
        GRE => Layer::Gre,
        SCTP => Layer::Sctp,
        _ => Layer::Other,
    })
}

/// The sum of the 16-bit words, not folded and in this machine's order, on which a one's complement sum does not depend
/// (RFC 1071 2).
#[inline(always)]
pub(crate) fn header_sum(header: &[u8; HEADER_BYTES]) -> u64 {
    let word = |at| u64::from(raw32(header, at));
    word(0) + word(4) + word(8) + word(12) + word(16)
}

#[inline(always)]
fn sum_options<F: Frame + ?Sized>(frame: &F, at: usize, header_bytes: usize) -> Result<u64, Stop> {
    let mut sum = 0;
    for word in 0..MAX_OPTION_BYTES / 4 {
        let option = HEADER_BYTES + word * 4;
        if option >= header_bytes {
            break;
        }
        sum += u64::from(u32::from_ne_bytes(frame.read(at + option).ok_or(Stop::Unseen)?));
    }
    Ok(sum)
}

/// Whether the one's complement sum of a header's 32-bit words, checksum included, is -0 (RFC 1071).
#[must_use]
#[inline(always)]
pub fn sum_is_right(sum: u64) -> bool {
    // Folding keeps the remainder, and of what has none only 0 itself is +0. A compiler makes one multiplication of it.
    sum != 0 && sum.is_multiple_of(0xffff)
}

#[inline(always)]
fn judge_addresses(cursor: &mut Cursor, header: &[u8; HEADER_BYTES], at: usize) {
    if cursor.meta.flags & LOOPBACK != 0 {
        return;
    }
    if is_bad_source(header[12]) {
        cursor.note(Malformed::Ip4Src, at + 12);
    }
    if raw32(header, 12) == raw32(header, 16) {
        cursor.note(Malformed::Ip4Land, at + 12);
    }
}

#[inline(always)]
fn fragment_step(cursor: &mut Cursor, header: &[u8; HEADER_BYTES]) -> Step {
    let payload_bytes = cursor.packet.payload_bytes as usize;
    let at = usize::from(cursor.packet.network_at);
    let flags = be16(header, 6);
    let offset_bytes = usize::from(flags & 0x1fff) * 8;
    let more = flags & 0x2000 != 0;
    cursor.packet.transport = Transport::Fragment;
    if more && !payload_bytes.is_multiple_of(8) {
        return Err(cursor.fail(Malformed::Ip4FragAlign, at + 2));
    }
    // The reassembled datagram has a header too.
    if offset_bytes + (cursor.end as usize - at) > MAX_DATAGRAM_BYTES {
        return Err(cursor.fail(Malformed::Ip4FragBig, at + 6));
    }
    if more && flags & 0x4000 != 0 {
        cursor.note(Malformed::Ip4DfMf, at + 6);
    }
    let tiny_first = offset_bytes == 0 && payload_bytes < TINY_TCP_BYTES;
    if header[9] == TCP && (tiny_first || offset_bytes == 8) {
        cursor.note(Malformed::Ip4FragTiny, at + 6);
    }
    Ok(Layer::End)
}

/// Judges some options of the header that ends at the cursor.
#[inline(always)]
pub fn options<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    for _ in 0..OPTIONS_PER_STEP {
        frame.settle(cursor);
        if option_step(frame, cursor)?.is_break() {
            let header = frame.read(usize::from(cursor.packet.network_at)).ok_or(Stop::Unseen)?;
            return payload_layer(cursor, &header);
        }
    }
    Ok(Layer::Ipv4Options)
}

/// Judges one option: length, pointer, source routes (RFC 791 3.1). Breaks behind the last.
#[inline(always)]
fn option_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<ControlFlow<()>, Stop> {
    const RECORD_ROUTE: u8 = 7;
    const TIMESTAMP: u8 = 68;
    let (at, end) = (usize::from(cursor.option_at), cursor.at as usize);
    let kind = if at < end { frame.read(at).ok_or(Stop::Unseen)? } else { [OPTION_END] };
    if kind == [OPTION_END] {
        return Ok(ControlFlow::Break(()));
    }
    if kind == [OPTION_NOP] {
        cursor.option_at = (at + 1) as u16;
        return Ok(ControlFlow::Continue(()));
    }
    if at + 2 > end {
        return Err(cursor.fail(Malformed::Ip4Opt, at));
    }
    let [bytes] = frame.read(at + 1).ok_or(Stop::Unseen)?;
    if bytes < 2 || at + usize::from(bytes) > end {
        return Err(cursor.fail(Malformed::Ip4Opt, at + 1));
    }
    if matches!(kind, [LOOSE_ROUTE | STRICT_ROUTE]) {
        cursor.note(Malformed::Ip4SourceRoute, at);
    }
    cursor.option_at = (at + usize::from(bytes)) as u16;
    let first_pointer = match kind {
        [TIMESTAMP] => 5,
        [RECORD_ROUTE | LOOSE_ROUTE | STRICT_ROUTE] => 4,
        _ => return Ok(ControlFlow::Continue(())),
    };
    if bytes < first_pointer - 1 {
        return Err(cursor.fail(Malformed::Ip4Opt, at + 1));
    }
    let [pointer] = frame.read(at + 2).ok_or(Stop::Unseen)?;
    // Behind the option (no room left), or with room for four bytes.
    if pointer < first_pointer || (pointer <= bytes && pointer + 3 > bytes) {
        return Err(cursor.fail(Malformed::Ip4Opt, at + 2));
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_fold_as_by_end_around_carry() {
        for sum in
            [0, 1, 0xffff, 0x1_0000, 0x1_fffe, 0x1_ffff, 0xffff_0000, 0xffff_ffff, 0x1_0000_0000, 15 * 0xffff_ffff]
        {
            let mut expected: u64 = sum;
            while expected > 0xffff {
                expected = (expected & 0xffff) + (expected >> 16);
            }
            assert_eq!(sum_is_right(sum), expected == 0xffff, "{sum:#x}");
        }
    }
}
