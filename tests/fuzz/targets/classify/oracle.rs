//! etherparse as a second opinion.
//!
//! Both read the same headers, but ask for different things: etherparse only whether lengths and versions allow to
//! slice a frame. So three claims are compared:
//!
//! * both accept: protocols, where headers begin and end, and where the datagram ends are equal;
//! * the classifier finds a length or version that contradicts: etherparse cannot slice it either;
//! * etherparse cannot slice it: the classifier does not call it understood and free of errors.
//!
//! Where the two differ on purpose is in `is_beyond` and `is_excused`, each with its reason, and nowhere else.

use etherparse::{
    EtherType, IpNumber, IpPayloadSlice, NetSlice, SlicedPacket, TransportSlice,
    err::{Layer as At, packet::SliceError},
};
use probe_ebpf::{
    classify::{Cursor, Layer, Meta, Network, Transport},
    reason::{Malformed, Severity},
};

/// Extension headers that etherparse does not follow: mobility, host identity, shim6.
const NOT_FOLLOWED: [u8; 3] = [135, 139, 140];
/// VLAN tags that both follow. Etherparse takes a third, and says nothing of a fourth.
const MAX_TAGS: u8 = 2;
/// Extension headers that the classifier follows.
const MAX_EXTENSIONS: u8 = 8;

/// Panics where the two contradict each other.
pub(crate) fn compare(frame: &[u8], meta: &Meta, cursor: &Cursor, outcome: Layer) {
    // A GSO packet's length fields need not fit, which etherparse cannot know.
    if meta.gso_size != 0 || cursor.tags_in_frame > MAX_TAGS {
        return;
    }
    let sliced = match meta.first_protocol {
        0 => SlicedPacket::from_ethernet(frame),
        protocol => SlicedPacket::from_ether_type(EtherType(protocol), frame),
    };
    let error = cursor.finding().filter(|finding| finding.reason.severity() == Severity::Error);
    match (sliced, error) {
        (Ok(sliced), None) if outcome == Layer::End => Both { frame, cursor }.agree(&sliced),
        (Ok(sliced), Some(finding)) => {
            let excused = is_beyond(finding.reason) || has_long_payload(frame, cursor) || stops_earlier(&sliced);
            assert!(excused, "{finding:?}, but etherparse slices it: {sliced:?}");
        }
        (Err(error), None) if outcome == Layer::End => {
            let excused = is_excused(&error, cursor) || has_long_payload(frame, cursor);
            assert!(excused, "etherparse says {error:?}, the classifier {:?} {:?}", cursor.packet, cursor.finding());
        }
        // Not understood by the classifier, or refused by both.
        (Ok(_) | Err(_), _) => {}
    }
}

/// Errors that etherparse does not look for.
fn is_beyond(reason: Malformed) -> bool {
    match reason {
        Malformed::EthShort
        | Malformed::VlanShort
        | Malformed::Ip4Short
        | Malformed::Ip4Ver
        | Malformed::Ip4Ihl
        | Malformed::Ip4LenLtHdr
        | Malformed::Ip4Trunc
        | Malformed::Ip6Short
        | Malformed::Ip6Ver
        | Malformed::Ip6Trunc
        | Malformed::Ip6ExtTrunc
        | Malformed::TcpShort
        | Malformed::TcpDoff
        | Malformed::UdpShort
        | Malformed::UdpLenLt8
        | Malformed::UdpLenGt
        | Malformed::IcmpShort => false,
        // Among them ArpShort: etherparse takes addresses of any length.
        _ => true,
    }
}

/// What etherparse refuses and the classifier does not call an error.
fn is_excused(error: &SliceError, cursor: &Cursor) -> bool {
    let packet = &cursor.packet;
    // It also reads headers out of later fragments, where there are none, and goes on where the classifier stops.
    if packet.transport == Transport::Fragment || cursor.extensions >= MAX_EXTENSIONS {
        return true;
    }
    match error {
        // A misplaced hop-by-hop header is a warning; an authentication header without contents is not judged.
        SliceError::Ipv6Exts(_) => true,
        SliceError::Len(length) => match length.layer {
            At::IpAuthHeader => packet.network == Network::Ipv6,
            // Bodies of ICMP are not judged, nor messages of the other family's ICMP.
            At::Icmpv4Timestamp | At::Icmpv4TimestampReply => packet.transport != Transport::Tcp,
            At::Icmpv4 => packet.transport == Transport::None,
            At::Icmpv6 => matches!(packet.transport, Transport::None | Transport::Icmpv6),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the payload length of IPv6 is 0: the classifier reads the jumbo option, etherparse takes all there is.
fn has_long_payload(frame: &[u8], cursor: &Cursor) -> bool {
    let at = usize::from(cursor.packet.network_at) + 4;
    cursor.packet.network == Network::Ipv6 && frame.get(at..at + 2) == Some(&[0, 0])
}

fn ip_payload<'a>(sliced: &'a SlicedPacket<'_>) -> Option<&'a IpPayloadSlice<'a>> {
    sliced.net.as_ref()?.ip_payload_ref()
}

fn stops_earlier(sliced: &SlicedPacket<'_>) -> bool {
    ip_payload(sliced).is_some_and(|payload| NOT_FOLLOWED.map(IpNumber).contains(&payload.ip_number))
}

/// A frame that both accept.
struct Both<'a> {
    frame: &'a [u8],
    cursor: &'a Cursor,
}

impl Both<'_> {
    fn agree(&self, sliced: &SlicedPacket<'_>) {
        let (network, at) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => (Network::Ipv4, self.offset(ip.header().slice())),
            Some(NetSlice::Ipv6(ip)) => (Network::Ipv6, self.offset(ip.header().slice())),
            Some(NetSlice::Arp(arp)) => (Network::Arp, self.offset(arp.slice())),
            None => (Network::None, 0),
        };
        let packet = &self.cursor.packet;
        assert_eq!((packet.network, usize::from(packet.network_at)), (network, at), "network header");
        if has_long_payload(self.frame, self.cursor) || self.cursor.extensions >= MAX_EXTENSIONS {
            return;
        }
        match ip_payload(sliced) {
            Some(payload) => assert_eq!(self.payload_end(), self.end(payload.payload), "end of the datagram"),
            None => assert_eq!((packet.transport, self.payload_end()), (Transport::None, self.arp_end(at))),
        }
        if stops_earlier(sliced) {
            return;
        }
        let fragmented = ip_payload(sliced).is_some_and(|payload| payload.fragmented);
        assert_eq!(packet.transport == Transport::Fragment, fragmented, "fragment");
        if !fragmented {
            self.agree_on_transport(sliced);
        }
    }

    fn agree_on_transport(&self, sliced: &SlicedPacket<'_>) {
        let packet = &self.cursor.packet;
        let (transport, at, header_end) = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                (Transport::Tcp, self.offset(tcp.slice()), Some(self.offset(tcp.payload())))
            }
            Some(TransportSlice::Udp(udp)) => {
                (Transport::Udp, self.offset(udp.slice()), Some(self.offset(udp.payload())))
            }
            // The other family's ICMP is not understood. How long the headers of ICMP are is a matter of taste.
            Some(TransportSlice::Icmpv4(icmp)) if packet.network == Network::Ipv4 => {
                (Transport::Icmp, self.offset(icmp.slice()), None)
            }
            Some(TransportSlice::Icmpv6(icmp)) if packet.network == Network::Ipv6 => {
                (Transport::Icmpv6, self.offset(icmp.slice()), None)
            }
            Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) => {
                (Transport::None, 0, None)
            }
            // Etherparse leaves SCTP to others.
            None => match ip_payload(sliced).filter(|payload| payload.ip_number == IpNumber::SCTP) {
                Some(payload) => (Transport::Sctp, self.offset(payload.payload), None),
                None => (Transport::None, 0, None),
            },
        };
        assert_eq!((packet.transport, usize::from(packet.transport_at)), (transport, at), "transport header");
        if let Some(header_end) = header_end {
            assert_eq!(usize::from(packet.header_bytes), header_end, "end of the transport header");
        }
    }

    /// Where a part of the frame begins.
    fn offset(&self, part: &[u8]) -> usize {
        part.as_ptr().addr() - self.frame.as_ptr().addr()
    }

    fn end(&self, part: &[u8]) -> usize {
        self.offset(part) + part.len()
    }

    fn payload_end(&self) -> usize {
        usize::from(self.cursor.packet.header_bytes) + self.cursor.packet.payload_bytes as usize
    }

    /// ARP says nothing about its end, so everything behind it counts as payload.
    fn arp_end(&self, at: usize) -> usize {
        self.frame.len().max(at)
    }
}
