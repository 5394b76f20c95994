//! What a frame says beyond its headers, for captures and for the words beside a frame that was kept: L4 checksums, what ICMP
//! errors quote, the options of neighbour discovery, MPLS labels. Not in the kernel: these rules read a whole frame, or
//! loop over what a sender may make long.
//!
//! [`judge`] is [`classify`](crate::classify::classify) and then, unless that found an error, these rules from the outside
//! in: it never contradicts an error of the kernel. An L4 checksum is looked at where all of what it sums is there, of one
//! segment (a merged packet has none of its own), and of no fragment.

use crate::{
    checksum,
    classify::{Cursor, Finding, Layer, Meta, Network, Packet, Transport, landed, step, walk},
    fast::{self, Ordinary},
    frame::{Frame as _, be16, be32},
    reason::{Malformed, Severity},
    wire::{icmp, icmpv6, ipv4, ipv6, mpls, udp},
};

/// What there is to say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Where its innermost headers are.
    pub packet: Packet,
    /// See [`Cursor::tunnel`].
    pub tunnel: u32,
    /// Where the walk has ended.
    pub outcome: Layer,
    /// The gravest contradiction, among equals the outermost.
    pub finding: Option<Finding>,
    /// The headers alone have nothing that is worth a metric, whatever the checksums: what the kernel wants of a connection that
    /// it follows. (It wants right checksums, too. Those of a capture may have been made wrong, along with its addresses.)
    pub is_sound: bool,
}

/// Judges a frame of which `bytes` are the first, or all.
#[must_use]
pub fn judge(bytes: &[u8], meta: Meta) -> Judged {
    match fast::ordinary(bytes, &meta) {
        Some(Ordinary { packet, tunnel: 0 }) if flaw(bytes, &meta, &packet).is_none() => {
            Judged { packet, tunnel: 0, outcome: Layer::End, finding: None, is_sound: true }
        }
        _ => examine(bytes, meta),
    }
}

fn examine(bytes: &[u8], meta: Meta) -> Judged {
    let (mut cursor, seen, outcome) = look(bytes, meta);
    let severity = cursor.finding().map(|finding| finding.reason.severity());
    if severity < Some(Severity::Error) {
        if let Some(at) = seen.labels_at {
            judge_labels(bytes, &mut cursor, at);
        }
        let packet = cursor.packet;
        let is_unfinished = || checksum_of(bytes, &meta, &packet).is_some_and(|inner| inner.is_unfinished);
        let outer = seen.carrier.and_then(|outer| checksum_of(bytes, &meta, &outer)?.finding());
        // The checksum of what carries an unfinished one is that of what will be sent; what is not understood may carry one.
        let outer = outer.filter(|_| outcome == Layer::End && !carries(bytes, &packet) && !is_unfinished());
        for finding in [outer, flaw(bytes, &meta, &packet)].into_iter().flatten() {
            cursor.note(finding.reason, finding.at.into());
        }
    }
    let is_sound = severity < Some(Severity::Warning);
    Judged { packet: cursor.packet, tunnel: cursor.tunnel, outcome, finding: cursor.finding(), is_sound }
}

/// The checksum whose field is at this offset.
#[must_use]
pub fn checksum_at(bytes: &[u8], meta: Meta, at: u16) -> Option<Checksum> {
    let (cursor, seen, _) = look(bytes, meta);
    let packets = [seen.carrier, Some(cursor.packet)].into_iter().flatten();
    packets.filter_map(|packet| checksum_of(bytes, &meta, &packet)).find(|checksum| checksum.at == at)
}

/// What a walk has passed.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// A tunnel's UDP datagram.
    carrier: Option<Packet>,
    /// Offset of an MPLS label stack.
    labels_at: Option<usize>,
}

/// Walks as the kernel does.
fn look(bytes: &[u8], meta: Meta) -> (Cursor, Seen, Layer) {
    let mut cursor = Cursor::new(meta);
    let mut seen = Seen::default();
    let outcome = walk(cursor.first_layer(), |layer| {
        match layer {
            Layer::Mpls => seen.labels_at = Some(cursor.at as usize),
            Layer::Vxlan | Layer::Geneve => seen.carrier = Some(cursor.packet),
            _ => {}
        }
        landed(step(bytes, &mut cursor, layer))
    });
    if !cursor.is_inside() {
        seen.carrier = None;
    }
    (cursor, seen, outcome)
}

/// What is wrong with a packet's transport, as far as that is for this module.
#[inline]
fn flaw(bytes: &[u8], meta: &Meta, packet: &Packet) -> Option<Finding> {
    if carries(bytes, packet) {
        return None;
    }
    let wrong = checksum_of(bytes, meta, packet).and_then(|checksum| checksum.finding());
    wrong.or_else(|| match packet.transport {
        Transport::Icmp => quote_flaw(bytes, packet),
        Transport::Icmpv6 => discovery_flaw(bytes, packet),
        _ => None,
    })
}

/// Whether it may carry an unfinished packet, as a tunnel of somebody's: its checksum may be that of what will be sent (local
/// checksum offload). Nor does the kernel's part look at it.
#[inline]
fn carries(bytes: &[u8], packet: &Packet) -> bool {
    let port = || bytes.read(usize::from(packet.transport_at) + 2).map(u16::from_be_bytes);
    packet.transport == Transport::Udp && port().is_some_and(udp::is_tunnel)
}

/// A transport's checksum. The numbers are as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// What it is if it is wrong.
    reason: Malformed,
    /// Offset of its field, in bytes from the frame's first byte.
    pub at: u16,
    /// What stands there.
    pub found: u16,
    /// What should stand there.
    pub computed: u16,
    is_right: bool,
    /// It is the sum of the pseudo header, as software leaves it to the network card that completes it.
    is_unfinished: bool,
}

impl Checksum {
    fn finding(&self) -> Option<Finding> {
        (!self.is_right && !self.is_unfinished).then_some(Finding { reason: self.reason, at: self.at })
    }
}

/// The checksum of a packet's transport, if it has one that can be computed here.
#[inline]
fn checksum_of(bytes: &[u8], meta: &Meta, packet: &Packet) -> Option<Checksum> {
    if meta.gso_size != 0 {
        return None;
    }
    let (reason, protocol, field_at) = match packet.transport {
        Transport::Tcp => (Malformed::TcpCsum, Some(ipv4::TCP), 16),
        Transport::Udp => (Malformed::UdpCsum, Some(ipv4::UDP), 6),
        Transport::Icmp => (Malformed::IcmpCsum, None, 2),
        Transport::Icmpv6 => (Malformed::Icmp6Csum, Some(ipv4::ICMPV6), 2),
        Transport::None | Transport::Fragment | Transport::Sctp => return None,
    };
    let at = usize::from(packet.transport_at);
    let mut message = bytes.get(at..end_of(packet))?;
    let found: [u8; 2] = message.read(field_at)?;
    if packet.transport == Transport::Udp {
        if found == [0; 2] {
            return None;
        }
        // What follows the datagram is not summed (RFC 9868); a jumbogram has no length (RFC 2675 4).
        match be16(&message.read::<6>(0)?, 4) {
            0 => {}
            length => message = message.get(..length.into())?,
        }
    }
    let pseudo = match protocol {
        Some(protocol) => addresses(bytes, packet)? + checksum::pseudo(protocol, u32::try_from(message.len()).ok()?),
        None => 0,
    };
    let sum = checksum::fold(pseudo + checksum::sum(message));
    let field = u16::from_ne_bytes(found);
    let without = checksum::fold(u64::from(sum) + u64::from(!field));
    Some(Checksum {
        reason,
        at: (at + field_at) as u16,
        found: checksum::to_host(field),
        computed: checksum::to_host(!without),
        is_right: checksum::is_right(sum.into()),
        is_unfinished: protocol.is_some() && checksum::fold(pseudo) == field,
    })
}

/// Offset behind the datagram.
#[inline]
fn end_of(packet: &Packet) -> usize {
    usize::from(packet.header_bytes) + packet.payload_bytes as usize
}

/// The sum of the addresses in the pseudo header, `None` where they are not those of the IP header.
#[inline]
fn addresses(bytes: &[u8], packet: &Packet) -> Option<u64> {
    let at = usize::from(packet.network_at);
    let (header_bytes, source_at, addresses_bytes) = match packet.network {
        Network::Ipv4 => (ipv4::HEADER_BYTES, ipv4::SOURCE_AT, 8),
        Network::Ipv6 => (ipv6::HEADER_BYTES, ipv6::SOURCE_AT, 32),
        Network::None | Network::Arp => return None,
    };
    let behind_at = at + header_bytes;
    if usize::from(packet.transport_at) != behind_at {
        let behind = bytes.get(behind_at..packet.transport_at.into())?;
        let is_on_its_way = match packet.network {
            Network::Ipv4 => has_stops_left(behind),
            _ => is_replaced(bytes.read::<7>(at)?[6], behind),
        };
        if is_on_its_way {
            return None;
        }
    }
    let source_at = at + source_at;
    Some(checksum::sum(bytes.get(source_at..source_at + addresses_bytes)?))
}

/// Whether IPv4 options hold a source route that is not at its end: the destination is the next stop (RFC 791 3.1).
fn has_stops_left(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            [] | [ipv4::OPTION_END, ..] => return false,
            [ipv4::OPTION_NOP, rest @ ..] => rest,
            [ipv4::LOOSE_ROUTE | ipv4::STRICT_ROUTE, length, pointer, ..] if pointer <= length => return true,
            [_, length, ..] => options.get(usize::from(*length).max(2)..).unwrap_or_default(),
            [_] => return false,
        };
    }
}

/// Whether IPv6 extension headers put another address in the place of one of the header's: a route that is not at its end
/// (RFC 8200 8.1), or a home address (RFC 6275 6.3).
fn is_replaced(first: u8, mut headers: &[u8]) -> bool {
    let mut kind = first;
    while let [next, length, _, fourth, ..] = *headers {
        let header_bytes = ipv6::extension_bytes(kind, length);
        let header = headers.get(..header_bytes).unwrap_or(headers);
        let has_segments_left = kind == ipv6::ROUTING && fourth != 0;
        if has_segments_left || (kind == ipv6::DESTINATION && has_home_address(&header[2..])) {
            return true;
        }
        kind = next;
        headers = headers.get(header_bytes..).unwrap_or_default();
    }
    false
}

fn has_home_address(mut options: &[u8]) -> bool {
    const PAD1: u8 = 0;
    const HOME_ADDRESS: u8 = 0xc9;
    loop {
        options = match options {
            [HOME_ADDRESS, ..] => return true,
            [PAD1, rest @ ..] => rest,
            [_, length, rest @ ..] => rest.get(usize::from(*length)..).unwrap_or_default(),
            [] | [_] => return false,
        };
    }
}

/// What is wrong with the datagram in an ICMP error (RFC 792, RFC 1122 3.2.2): less than its header and 8 bytes, or than
/// all of it; a header that is none; a length (RFC 4884 4) that reaches beyond the message.
fn quote_flaw(bytes: &[u8], packet: &Packet) -> Option<Finding> {
    const UNREACHABLE: u8 = 3;
    const QUENCH: u8 = 4;
    const REDIRECT: u8 = 5;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;
    let found = |at: usize| Some(Finding { reason: Malformed::IcmpQuote, at: at as u16 });
    let at = usize::from(packet.transport_at);
    let [kind, .., words, _, _] = bytes.read::<{ icmp::MIN_BYTES }>(at)?;
    let has_length = matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM);
    if !has_length && !matches!(kind, QUENCH | REDIRECT) {
        return None;
    }
    let quote_at = at + icmp::MIN_BYTES;
    let quoted_bytes = end_of(packet).saturating_sub(quote_at);
    if has_length && usize::from(words) * 4 > quoted_bytes {
        return found(at + 5);
    }
    if quoted_bytes < ipv4::HEADER_BYTES {
        return found(quote_at);
    }
    let header: [u8; ipv4::HEADER_BYTES] = bytes.read(quote_at)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(be16(&header, 2));
    if header[0] >> 4 != 4 || header_bytes < ipv4::HEADER_BYTES {
        return found(quote_at);
    }
    if total_bytes < header_bytes {
        return found(quote_at + 2);
    }
    if quoted_bytes < (header_bytes + 8).min(total_bytes) {
        return found(quote_at);
    }
    None
}

/// What is wrong with the options of neighbour discovery (RFC 4861 4.6).
fn discovery_flaw(bytes: &[u8], packet: &Packet) -> Option<Finding> {
    const UNIT_BYTES: usize = 8;
    let message_at = usize::from(packet.transport_at);
    let end = end_of(packet);
    let [kind, ..] = bytes.read::<{ icmpv6::MIN_BYTES }>(message_at)?;
    let mut at = message_at + icmpv6::discovery_bytes(kind)?;
    while at < end {
        if at + 2 > end {
            return Some(Finding { reason: Malformed::NdOptLen, at: at as u16 });
        }
        let [_, units] = bytes.read(at)?;
        let next = at + usize::from(units) * UNIT_BYTES;
        if units == 0 || next > end {
            return Some(Finding { reason: Malformed::NdOptLen, at: (at + 1) as u16 });
        }
        at = next;
    }
    None
}

/// Judges the labels that have a meaning of their own (RFC 3032 2.1, RFC 7274). Explicit null may stand anywhere (RFC
/// 4182).
fn judge_labels(bytes: &[u8], cursor: &mut Cursor, first_at: usize) {
    const ROUTER_ALERT: u32 = 1;
    const IMPLICIT_NULL: u32 = 3;
    const ENTROPY: u32 = 7;
    const EXTENSION: u32 = 15;
    let mut is_extended = false;
    for at in (first_at..).step_by(mpls::ENTRY_BYTES).take(mpls::MAX_ENTRIES) {
        let Some(entry) = bytes.read::<{ mpls::ENTRY_BYTES }>(at) else { return };
        let is_last = entry[2] & mpls::BOTTOM != 0;
        match be32(&entry, 0) >> 12 {
            // Behind an extension label these numbers are others' (RFC 7274 3.1).
            ENTROPY if is_extended => {}
            0..=15 if is_extended => cursor.note(Malformed::MplsReserved, at),
            IMPLICIT_NULL => cursor.note(Malformed::MplsImplicitNull, at),
            4..=6 | 8..=12 => cursor.note(Malformed::MplsReserved, at),
            ROUTER_ALERT | EXTENSION if is_last => cursor.note(Malformed::MplsReserved, at),
            _ => {}
        }
        if is_last {
            return;
        }
        is_extended = !is_extended && be32(&entry, 0) >> 12 == EXTENSION;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a header checksum: that is not looked at here.
    fn ipv4(protocol: u8, options: &[u8], message: &[u8]) -> (Vec<u8>, Packet) {
        let words = 5 + (options.len() / 4) as u8;
        let header = [&[0x40 | words, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], options];
        let transport_at = usize::from(words) * 4;
        let packet = Packet {
            network: Network::Ipv4,
            transport: Transport::Udp,
            network_at: 0,
            transport_at: transport_at as u16,
            header_bytes: transport_at as u16 + 8,
            payload_bytes: message.len() as u32 - 8,
        };
        ([header.concat(), message.to_vec()].concat(), packet)
    }

    /// From port 1 to port 2, with an odd byte; the checksum was computed by hand.
    const DATAGRAM: [u8; 9] = [0, 1, 0, 2, 0, 9, 0x4a, 0xd6, 0xa1];

    #[test]
    fn numbers_are_as_they_are_written() {
        let (mut bytes, packet) = ipv4(17, &[], &DATAGRAM);
        let checksum = checksum_of(&bytes, &Meta::default(), &packet).unwrap();
        assert_eq!((checksum.at, checksum.found, checksum.computed), (26, 0x4ad6, 0x4ad6));
        assert_eq!(checksum.finding(), None);
        bytes[27] ^= 1;
        let checksum = checksum_of(&bytes, &Meta::default(), &packet).unwrap();
        assert_eq!((checksum.found, checksum.computed), (0x4ad7, 0x4ad6));
        assert_eq!(checksum.finding(), Some(Finding { reason: Malformed::UdpCsum, at: 26 }));
        // 0a00 + 0001 + 0a00 + 0002 + 0011 + 0009
        bytes[26..28].copy_from_slice(&[0x14, 0x1d]);
        let checksum = checksum_of(&bytes, &Meta::default(), &packet).unwrap();
        assert!(checksum.is_unfinished && checksum.finding().is_none(), "{checksum:?}");
    }

    #[test]
    fn what_may_carry_an_unfinished_packet_is_not_judged() {
        for (port, expected) in [(2_u16, Some(Malformed::UdpCsum)), (4789, None), (8472, None), (6081, None)] {
            let (mut bytes, packet) = ipv4(17, &[], &DATAGRAM);
            bytes[22..24].copy_from_slice(&port.to_be_bytes());
            bytes[26] ^= 0xff;
            let flaw = flaw(&bytes, &Meta::default(), &packet);
            assert_eq!(flaw.map(|finding| finding.reason), expected, "port {port}");
        }
    }

    #[test]
    fn what_is_not_there_whole_is_not_summed() {
        let (bytes, packet) = ipv4(17, &[], &DATAGRAM);
        let with = |bytes: &[u8], meta: Meta| checksum_of(bytes, &meta, &packet);
        assert!(with(&bytes, Meta::default()).is_some());
        assert_eq!(with(&bytes[..bytes.len() - 1], Meta::default()), None);
        assert_eq!(with(&bytes, Meta { gso_size: 1448, ..Meta::default() }), None);
    }

    #[test]
    fn a_destination_may_be_the_next_stop_only() {
        let with = |options: &[u8]| {
            let (bytes, packet) = ipv4(17, options, &DATAGRAM);
            checksum_of(&bytes, &Meta::default(), &packet).is_some()
        };
        for (options, is_summed) in [
            (&[131, 7, 4, 10, 0, 0, 9, 0][..], false),
            (&[131, 7, 8, 10, 0, 0, 9, 0], true),
            (&[1, 137, 7, 4, 10, 0, 0, 9], false),
            (&[7, 7, 4, 0, 0, 0, 0, 0], true),
            (&[0, 131, 7, 4], true),
            (&[148, 4, 0, 0, 131, 3, 4, 0], true),
            (&[148, 0, 0, 0], true),
        ] {
            assert_eq!(with(options), is_summed, "{options:?}");
        }
        for (first, headers, expected) in [
            (43, &[17, 0, 4, 1, 0, 0, 0, 0][..], true),
            (43, &[17, 0, 4, 0, 0, 0, 0, 0], false),
            (0, &[43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 2, 1, 0, 0, 0, 0], true),
            (60, &[17, 0, 0, 0, 0xc9, 16, 0, 0], true),
            (60, &[17, 0, 1, 4, 0xc9, 0, 0, 0], false),
            (0, &[17, 0, 0xc9, 4, 0, 0, 0, 0], false),
            (51, &[43, 4, 0, 9, 0, 0, 0, 0], false),
            (43, &[17, 0, 4], false),
            (44, &[60, 9, 0, 9, 0, 0, 0, 0, 17, 0, 0xc9, 0], true),
        ] {
            assert_eq!(is_replaced(first, headers), expected, "{headers:?}");
        }
    }
}
