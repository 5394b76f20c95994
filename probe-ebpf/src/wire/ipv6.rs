//! IPv6 and its extension headers (RFC 8200).
//!
//! What the loops over extension headers and options remember lies in the cursor and is settled before each turn.

use core::ops::ControlFlow;

use super::{
    ethernet::judge_trailer,
    ipv4::{GRE, ICMP, ICMPV6, SCTP, TCP, UDP},
};
use crate::{
    classify::{Cursor, LOOPBACK, Layer, Network, Step, Stop, Transport},
    frame::{Frame, be16},
    reason::Malformed,
};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 40;
/// Offset of the source address; the destination follows.
pub(crate) const SOURCE_AT: usize = 8;
/// Extension headers that are followed.
const MAX_EXTENSIONS: u8 = 8;
/// Options of one extension header that are followed, padding included (RFC 8504 5.3 lets a node stop at 8).
const MAX_OPTIONS: usize = 10;
const MAX_DATAGRAM_BYTES: usize = 65_535;

const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT: u8 = 59;
pub(crate) const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

const SEEN_HOP_BY_HOP: u8 = 1;
const SEEN_ROUTING: u8 = 2;
const SEEN_FRAGMENT: u8 = 4;
const SEEN_DESTINATION: u8 = 8;
const SEEN_DESTINATION_TWICE: u8 = 16;

/// Whether an address may not be a source on the wire: multicast or ::1.
#[must_use]
#[inline(always)]
pub const fn is_bad_source(high: u64, low: u64) -> bool {
    high >> 56 == 0xff || (high == 0 && low == 1)
}

/// Whether no extension header was seen that can give the packet another destination (a routing header) or another source
/// (a home address among destination options) than its checksums are made with.
#[must_use]
#[inline(always)]
pub(crate) const fn keeps_addresses(extensions_seen: u8) -> bool {
    extensions_seen & (SEEN_ROUTING | SEEN_DESTINATION) == 0
}

/// Judges the fixed header.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::Ip6Short)?;
    cursor.packet.network = Network::Ipv6;
    cursor.packet.network_at = at as u16;
    if header[0] >> 4 != 6 {
        return Err(cursor.fail(Malformed::Ip6Ver, at));
    }
    let present_bytes = cursor.end as usize - at - HEADER_BYTES;
    let mut payload_bytes = usize::from(be16(&header, 4));
    if payload_bytes == 0 && header[6] != NO_NEXT {
        match long_payload(frame, cursor, header[6]) {
            Some(bytes) => payload_bytes = bytes,
            None => {
                cursor.understood(at + HEADER_BYTES);
                cursor.note(Malformed::Ip6Plen0, at + 4);
                return Ok(Layer::End);
            }
        }
    }
    if payload_bytes > present_bytes {
        return Err(cursor.fail(Malformed::Ip6Trunc, at + 4));
    }
    let end = at + HEADER_BYTES + payload_bytes;
    judge_trailer(cursor, end);
    cursor.end = end as u32;
    cursor.understood(at + HEADER_BYTES);
    cursor.next_header = header[6];
    cursor.hop_limit = header[7];
    if cursor.meta.flags & LOOPBACK == 0 {
        let half = |at: usize| {
            let byte = |n: usize| header[at + n];
            u64::from_be_bytes([byte(0), byte(1), byte(2), byte(3), byte(4), byte(5), byte(6), byte(7)])
        };
        if is_bad_source(half(8), half(16)) {
            cursor.note(Malformed::Ip6Src, at + 8);
        }
    }
    extensions(frame, cursor)
}

/// The payload length where the header's field says 0: of a GSO packet (BIG TCP) or by jumbo option (RFC 2675).
#[inline(always)]
fn long_payload<F: Frame + ?Sized>(frame: &F, cursor: &Cursor, next_header: u8) -> Option<usize> {
    const JUMBO: u8 = 0xc2;
    let at = cursor.at as usize + HEADER_BYTES;
    if cursor.meta.gso_size != 0 {
        return Some(cursor.end as usize - at);
    }
    let options: [u8; 8] = frame.read(at)?;
    let jumbo = next_header == HOP_BY_HOP && options[2] == JUMBO && options[3] == 4 && at + 8 <= cursor.end as usize;
    jumbo.then(|| u32::from_be_bytes([options[4], options[5], options[6], options[7]]) as usize)
}

/// The layer behind `cursor.next_header`, or the next extension. What should not follow is found where it begins.
#[inline(always)]
fn follow(cursor: &mut Cursor) -> ControlFlow<Layer> {
    let at = cursor.at as usize;
    ControlFlow::Break(match cursor.next_header {
        TCP | UDP | ICMPV6 | SCTP if cursor.first_fragment != 0 => first_fragment_transport(cursor),
        TCP => Layer::Tcp,
        UDP => Layer::Udp,
        ICMPV6 => Layer::Icmpv6,
        GRE if cursor.first_fragment == 0 => Layer::Gre,
        SCTP => Layer::Sctp,
        ICMP => {
            cursor.note(Malformed::IcmpFamily, at);
            Layer::End
        }
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
            if cursor.extensions < MAX_EXTENSIONS {
                return ControlFlow::Continue(());
            }
            cursor.note(Malformed::Ip6Chain, at);
            Layer::End
        }
        NO_NEXT => {
            if cursor.at < cursor.end {
                cursor.note(Malformed::Ip6NoNext, at);
            }
            Layer::End
        }
        _ => Layer::Other,
    })
}

/// A first fragment must hold the transport header too (RFC 7112).
#[inline(always)]
fn first_fragment_transport(cursor: &mut Cursor) -> Layer {
    let header_bytes = match cursor.next_header {
        TCP => super::tcp::HEADER_BYTES,
        UDP => super::udp::HEADER_BYTES,
        SCTP => super::sctp::HEADER_BYTES,
        _ => super::icmpv6::MIN_BYTES,
    };
    if cursor.at as usize + header_bytes > cursor.end as usize {
        cursor.note(Malformed::Ip6FirstFrag, cursor.at as usize);
    }
    Layer::End
}

/// Follows the chain of extension headers. Breaks off where a verdict needs none of what follows.
#[inline(always)]
fn extensions<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    for _ in 0..=MAX_EXTENSIONS {
        frame.settle(cursor);
        if let ControlFlow::Break(layer) = follow(cursor) {
            return Ok(layer);
        }
        if let ControlFlow::Break(layer) = extension_step(frame, cursor)? {
            return Ok(layer);
        }
    }
    Ok(Layer::Unseen)
}

/// Bytes of an extension header whose second byte is `length`.
#[inline(always)]
pub(crate) fn extension_bytes(kind: u8, length: u8) -> usize {
    match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (usize::from(length) + 2) * 4,
        _ => (usize::from(length) + 1) * 8,
    }
}

/// Judges one extension header and its options.
#[inline(always)]
fn extension_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<ControlFlow<Layer>, Stop> {
    let at = cursor.at as usize;
    let kind = cursor.next_header;
    let too_short = if cursor.first_fragment != 0 { Malformed::Ip6FirstFrag } else { Malformed::Ip6ExtTrunc };
    let start: [u8; 8] = cursor.need(frame, at, too_short)?;
    let header_bytes = extension_bytes(kind, start[1]);
    if at + header_bytes > cursor.end as usize {
        return Err(cursor.fail(too_short, at + 1));
    }
    judge_order(cursor, kind, at);
    if kind == ROUTING && start[2] == 0 {
        cursor.note(Malformed::Ip6Rh0, at + 2);
    }
    cursor.extensions += 1;
    cursor.understood(at + header_bytes);
    cursor.next_header = start[0];
    if kind == FRAGMENT && !fragment_is_whole(cursor, &start, at)? {
        return Ok(ControlFlow::Break(Layer::End));
    }
    if matches!(kind, HOP_BY_HOP | DESTINATION) {
        options(frame, cursor, (at + 2) as u16)?;
    }
    Ok(ControlFlow::Continue(()))
}

/// Hop-by-hop first and once; routing and fragment once; destination options at most twice.
#[inline(always)]
fn judge_order(cursor: &mut Cursor, kind: u8, at: usize) {
    let seen = cursor.extensions_seen;
    let (bit, repeated) = match kind {
        HOP_BY_HOP => (SEEN_HOP_BY_HOP, SEEN_HOP_BY_HOP),
        ROUTING => (SEEN_ROUTING, SEEN_ROUTING),
        FRAGMENT => (SEEN_FRAGMENT, SEEN_FRAGMENT),
        DESTINATION if seen & SEEN_DESTINATION != 0 => (SEEN_DESTINATION_TWICE, SEEN_DESTINATION_TWICE),
        DESTINATION => (SEEN_DESTINATION, 0),
        _ => (0, 0),
    };
    if seen & repeated != 0 {
        cursor.note(Malformed::Ip6Dup, at);
    } else if kind == HOP_BY_HOP && cursor.extensions != 0 {
        cursor.note(Malformed::Ip6HbhPos, at);
    }
    cursor.extensions_seen = seen | bit;
}

/// Judges a fragment header. `Ok(true)`: the chain goes on (first or atomic fragment).
#[inline(always)]
fn fragment_is_whole(cursor: &mut Cursor, header: &[u8; 8], at: usize) -> Result<bool, Stop> {
    let field = be16(header, 2);
    let offset_bytes = usize::from(field & 0xfff8);
    let more = field & 1 != 0;
    let payload_bytes = cursor.end as usize - at - 8;
    let network_at = usize::from(cursor.packet.network_at);
    if header[1] != 0 || field & 6 != 0 || (offset_bytes == 0 && !more) {
        cursor.note(Malformed::Ip6FragResv, at + if header[1] == 0 { 2 } else { 1 });
    }
    if more && !payload_bytes.is_multiple_of(8) {
        return Err(cursor.fail(Malformed::Ip6FragAlign, network_at + 4));
    }
    // The reassembled payload begins with the headers in front of this one.
    let unfragmentable_bytes = at - network_at - HEADER_BYTES;
    if unfragmentable_bytes + offset_bytes + payload_bytes > MAX_DATAGRAM_BYTES {
        return Err(cursor.fail(Malformed::Ip6FragBig, at + 2));
    }
    let atomic = offset_bytes == 0 && !more;
    if !atomic {
        cursor.packet.transport = Transport::Fragment;
        cursor.first_fragment = u8::from(offset_bytes == 0);
    }
    Ok(offset_bytes == 0)
}

#[inline(always)]
fn options<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, first_at: u16) -> Result<(), Stop> {
    cursor.option_at = first_at;
    for _ in 0..=MAX_OPTIONS {
        frame.settle(cursor);
        if option_step(frame, cursor)?.is_break() {
            return Ok(());
        }
    }
    Err(Stop::Unseen)
}

/// Judges one option of the hop-by-hop or destination header that ends at the cursor. Breaks behind the last.
#[inline(always)]
fn option_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<ControlFlow<()>, Stop> {
    const PAD1: u8 = 0;
    let (at, end) = (usize::from(cursor.option_at), cursor.at as usize);
    if at >= end {
        return Ok(ControlFlow::Break(()));
    }
    let [kind] = frame.read(at).ok_or(Stop::Unseen)?;
    if kind == PAD1 {
        cursor.option_at = (at + 1) as u16;
        return Ok(ControlFlow::Continue(()));
    }
    if at + 2 > end {
        return Err(cursor.fail(Malformed::Ip6OptLen, at));
    }
    let [bytes] = frame.read(at + 1).ok_or(Stop::Unseen)?;
    let next = at + 2 + usize::from(bytes);
    if next > end {
        return Err(cursor.fail(Malformed::Ip6OptLen, at + 1));
    }
    cursor.option_at = next as u16;
    Ok(ControlFlow::Continue(()))
}
