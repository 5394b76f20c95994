//! A malformed frame as a capture has it: with a comment that a provider's engineer reads beside the bytes, without lossprobe.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use probe_ebpf::{
    abi::Direction,
    classify::{Finding, Meta},
    reason::Malformed,
    thorough,
    wire::ethernet,
};

use super::comment::explain;
use crate::event::Event;

/// What frames are where nothing is said of it.
const LINK_ETHERNET: u16 = 1;

/// A frame and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'e> {
    /// Name, `""` if it is not known.
    pub(super) interface: &'e str,
    /// Number of its link type in the registry of captures.
    pub(super) link_type: u16,
    /// Since 1970.
    pub(super) time_ns: u64,
    /// Whether this machine has sent it, where that is known.
    pub(super) sent: Option<bool>,
    /// How long it was, in bytes.
    pub(super) frame_bytes: u32,
    /// What there is of it.
    pub(super) bytes: Vec<u8>,
    /// One line: what is wrong, where, by which standard, and who has sent it last.
    pub(super) comment: String,
}

impl<'e> Frame<'e> {
    /// The frame that a malformed one's event shows.
    ///
    /// # Errors
    /// If its time is none, or its bytes are not hexadecimal: another build's.
    pub fn of(event: &'e Event) -> Result<Self> {
        let time: Timestamp = event.time.parse().with_context(|| format!("read the time {:?}", event.time))?;
        let bytes = bytes(&event.bytes).context("read a frame's bytes")?;
        let sent = match event.direction.as_deref() {
            Some(direction) if direction == Direction::Ingress.id() => Some(false),
            Some(direction) if direction == Direction::Egress.id() => Some(true),
            _ => None,
        };
        Ok(Self {
            interface: &event.interface,
            link_type: event.link_type.unwrap_or(LINK_ETHERNET),
            time_ns: u64::try_from(time.as_nanosecond()).context("a time before 1970")?,
            sent,
            frame_bytes: event.packet_bytes.max(bytes.len() as u32),
            comment: comment(event, &bytes),
            bytes,
        })
    }
}

/// The bytes of hexadecimal text.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |character: u8| (character as char).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    pairs.iter().map(byte).collect::<Option<_>>().filter(|_| rest.is_empty())
}

fn comment(event: &Event, bytes: &[u8]) -> String {
    let mut text = explanation(event, bytes);
    if let Some(source_mac) = &event.source_mac {
        let vlan = event.vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
        let _infallible = write!(text, "; last sender on this segment {source_mac}{vlan}");
    }
    text
}

fn explanation(event: &Event, bytes: &[u8]) -> String {
    let at = event.offset.unwrap_or_default();
    let reason = Malformed::ALL.iter().find(|reason| reason.id() == event.reason);
    match (reason, u16::try_from(at)) {
        (Some(reason), Ok(at)) => {
            let meta = meta(event, bytes);
            let mut text = explain(bytes, meta, Finding { reason: *reason, at });
            // What is too dear for every frame is looked at in those that were kept.
            if let Some(beyond) = thorough::judge(bytes, meta).finding.filter(|it| !it.reason.is_judged_at_hooks()) {
                let _infallible = write!(text, "; also {}", explain(bytes, meta, beyond));
            }
            text
        }
        _of_another_build => format!("{} at byte {at}", event.reason),
    }
}

/// The frame's circumstances, as far as an event tells them: not the MTU and the ports of tunnels.
fn meta(event: &Event, bytes: &[u8]) -> Meta {
    let first_protocol = match (event.link_type, bytes.first().map(|first| first >> 4)) {
        (None | Some(LINK_ETHERNET), _) => 0,
        (_, Some(6)) => ethernet::IPV6,
        _ => ethernet::IPV4,
    };
    // No checksum of a merged packet is that of its segments; how long these are does not matter.
    let gso_size = u32::from(event.segments > 1);
    Meta { frame_bytes: event.packet_bytes, first_protocol, gso_size, ..Meta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::malformed;

    #[test]
    fn what_where_why_and_who() {
        // There are 15 bytes, and the header is not among them.
        let what = "ip4_csum: the header checksum is wrong at byte 24; RFC 1122 3.2.1.2, RFC 1812 5.2.2";
        let of_another_build = Event { reason: "brand_new".to_owned(), ..malformed() };
        for (event, expected) in [
            (malformed(), format!("{what}; last sender on this segment 02:00:00:00:00:07 vlan 5")),
            (Event { vlan: None, ..malformed() }, format!("{what}; last sender on this segment 02:00:00:00:00:07")),
            (Event { source_mac: None, ..malformed() }, what.to_owned()),
            (Event { source_mac: None, ..of_another_build }, "brand_new at byte 24".to_owned()),
        ] {
            assert_eq!(Frame::of(&event).unwrap().comment, expected);
        }
    }

    /// A header from 10.0.0.1 to 10.0.0.2, of which the checksum is 0x1234.
    #[test]
    fn numbers_are_those_of_the_bytes() {
        let header = "4500001d00014000401112340a0000010a000002";
        let ethernet = format!("02000000000b02000000000a810000050800{header}");
        let numbers = |at| format!("ip4_csum: header checksum 0x1234, computed 0x26cd at byte {at}; ");
        for (link_type, bytes, offset) in [(1, ethernet.as_str(), 28), (101, header, 10)] {
            let event = Event {
                link_type: Some(link_type),
                bytes: bytes.to_owned(),
                offset: Some(offset),
                packet_bytes: bytes.len() as u32 / 2 + 9,
                ..malformed()
            };
            let comment = Frame::of(&event).unwrap().comment;
            assert!(comment.starts_with(&numbers(offset)), "{comment}");
        }
    }

    /// A runt by the hook's word, with the label that never is on a wire (RFC 3032 2.1): no hook looks at labels.
    #[test]
    fn what_only_user_space_looks_for_is_told_beside_it() {
        let frame = "02000000000b02000000000a8847000031404500001d00014000401126cd0a0000010a000002";
        let event = Event {
            reason: "eth_runt".to_owned(),
            bytes: frame.to_owned(),
            offset: Some(0),
            packet_bytes: 47,
            ..malformed()
        };
        let comment = Frame::of(&event).unwrap().comment;
        assert!(comment.starts_with("eth_runt: 47 bytes, not 60 or more, at byte 0; "), "{comment}");
        assert!(comment.contains("; also mpls_implicit_null: "), "{comment}");
        assert!(!Frame::of(&malformed()).unwrap().comment.contains("; also "));
    }

    #[test]
    fn a_merged_packet_has_no_checksum_of_its_own() {
        let datagram = "02000000000b02000000000a08004500001d00014000401126cd0a0000010a0000020001000200094ad7a1";
        let event = |segments| Event {
            reason: "udp_csum".to_owned(),
            bytes: datagram.to_owned(),
            offset: Some(40),
            packet_bytes: 43,
            segments,
            ..malformed()
        };
        let said = |segments| Frame::of(&event(segments)).unwrap().comment;
        assert!(said(1).starts_with("udp_csum: checksum 0x4ad7, computed 0x4ad6 at byte 40; "), "{}", said(1));
        assert!(said(2).starts_with("udp_csum: the checksum is neither zero nor right at byte 40; "), "{}", said(2));
    }

    #[test]
    fn what_is_known_is_taken_over() {
        let event = malformed();
        let frame = Frame::of(&event).unwrap();
        assert_eq!((frame.interface, frame.link_type, frame.sent, frame.frame_bytes), ("eth0", 1, Some(false), 1514));
        assert_eq!(frame.time_ns, 1_795_640_400_123_456_789, "2026-11-25T21:00:00.123456789Z");
        assert_eq!(frame.bytes, (0..15).collect::<Vec<u8>>());
        let event = Event { packet_bytes: 3, direction: None, link_type: None, ..malformed() };
        let frame = Frame::of(&event).unwrap();
        assert_eq!((frame.frame_bytes, frame.sent, frame.link_type), (15, None, LINK_ETHERNET));
    }

    #[test]
    fn what_another_build_says_is_no_frame() {
        for event in [
            Event { time: "yesterday".to_owned(), ..malformed() },
            Event { time: "1969-12-31T23:59:59Z".to_owned(), ..malformed() },
            Event { bytes: "0".to_owned(), ..malformed() },
            Event { bytes: "0g".to_owned(), ..malformed() },
        ] {
            assert!(Frame::of(&event).is_err(), "{event:?}");
        }
    }
}
