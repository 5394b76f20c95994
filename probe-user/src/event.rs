//! One loss while it happens: what `lossprobe watch` shows and what the agent streams to it, one JSON object a line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::snapshot::State;

/// Version of the JSON form. Keys are added, never renamed.
pub const SCHEMA: u32 = 1;
/// Where the agent streams [`Message`]s, on its unix socket.
pub const PATH: &str = "/api/v1/watch";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The kernel dropped a packet.
    Drop,
    /// A local socket sent a segment again.
    Retransmit,
    /// A frame contradicts itself.
    Malformed,
}

impl Kind {
    /// The value of `type`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Retransmit => "retransmit",
            Self::Malformed => "malformed",
        }
    }
}

/// One packet, and what became of it. What is not known is `""` or left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// RFC 3339, UTC.
    pub time: String,
    /// Name in the agent's network namespace; `""` where the kernel knows none, and in other namespaces.
    pub interface: String,
    /// `own`, or the inode number of another network namespace.
    pub netns: String,
    /// Drop reason, type of a retransmit, or malformed reason.
    pub reason: String,
    /// Of a drop: see [`crate::classes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of a drop: kernel function and offset, or the address where addresses are hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Of a malformed frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Of a malformed frame: `ingress` or `egress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Of a malformed frame: where the contradiction stands, in bytes from the first of `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Of a malformed frame: `local` (its maker is on this segment) or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Of a malformed frame: what `bytes` begins with, as a link type of captures: 1 Ethernet, 101 IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_type: Option<u16>,
    /// Of a malformed frame with a MAC header: the last sender on this segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<String>,
    /// Of such a frame with a tag: its (outer) VLAN identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The innermost that was understood: `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, `fragment`, `arp`, `ipv4`, `ipv6` or `other`.
    pub protocol: String,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Endpoint>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Endpoint>,
    /// Of the whole packet, from where `bytes` begins.
    pub packet_bytes: u32,
    /// Wire segments of the packet.
    pub segments: u32,
    /// The first bytes in hexadecimal; of a malformed frame as many as prove it, a tag that was taken out put back.
    pub bytes: String,
    /// What they begin with: `network`, the network header, of a drop; `frame`, the first byte of the frame, of a malformed
    /// one; `socket`, headers such as the socket will make them (no identification, window or checksum yet), of a retransmit.
    #[serde(default)]
    pub bytes_from: String,
}

/// One end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// IPv4 or IPv6 address.
    pub address: IpAddr,
    /// TCP or UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.port, self.address) {
            (Some(port), IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
            (Some(port), IpAddr::V4(address)) => write!(f, "{address}:{port}"),
            (None, address) => address.fmt(f),
        }
    }
}

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// Something happened.
    Event(Box<Event>),
    /// About the stream itself.
    Notice(Notice),
}

/// About the stream itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Notice {
    /// From now on events are shown; what happened before is not.
    Start {
        /// [`SCHEMA`].
        schema: u32,
    },
    /// The agent has been told to do something else: while it is not `running`, nothing is shown.
    State {
        /// What it does from now on.
        state: State,
    },
    /// Events that happened since the last such notice and were not shown.
    Suppressed {
        /// Who left them out.
        by: Suppressor,
        /// How many.
        events: u64,
    },
}

/// Who left events out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suppressor {
    /// The programs in the kernel: too many of one kind at once, or nobody fetched them. Whatever the filters.
    Kernel,
    /// The agent: this watcher does not read fast enough. Whatever the filters.
    Agent,
    /// `--rate`: events that the filters had let pass.
    Rate,
}

impl Message {
    /// One line of JSON with its newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Only maps with keys that are no strings fail, and there are none.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl From<Notice> for Message {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A dropped datagram.
    pub(crate) fn example() -> Event {
        let end = |address: &str, port| Endpoint { address: address.parse().unwrap(), port: Some(port) };
        Event {
            kind: Kind::Drop,
            time: "2026-11-25T21:00:00.123456789Z".to_owned(),
            interface: "eth0".to_owned(),
            netns: "own".to_owned(),
            reason: "netfilter_drop".to_owned(),
            class: Some("policy".to_owned()),
            location: Some("nft_do_chain+0x12".to_owned()),
            severity: None,
            direction: None,
            offset: None,
            scope: None,
            link_type: None,
            source_mac: None,
            vlan: None,
            protocol: "udp".to_owned(),
            source: Some(end("192.0.2.1", 4000)),
            destination: Some(end("192.0.2.2", 53)),
            packet_bytes: 60,
            segments: 1,
            bytes: "4500".to_owned(),
            bytes_from: "network".to_owned(),
        }
    }

    /// A frame of 1,514 bytes, of which there are 15, with a wrong header checksum.
    pub(crate) fn malformed() -> Event {
        Event {
            kind: Kind::Malformed,
            reason: "ip4_csum".to_owned(),
            class: None,
            location: None,
            severity: Some("error".to_owned()),
            direction: Some("ingress".to_owned()),
            offset: Some(24),
            scope: Some("local".to_owned()),
            link_type: Some(1),
            source_mac: Some("02:00:00:00:00:07".to_owned()),
            vlan: Some(5),
            packet_bytes: 1514,
            bytes: "000102030405060708090a0b0c0d0e".to_owned(),
            bytes_from: "frame".to_owned(),
            ..example()
        }
    }

    #[test]
    fn lines_lead_back() {
        let suppressed = Notice::Suppressed { by: Suppressor::Kernel, events: 7 };
        for (message, expected) in [
            (Notice::Start { schema: 1 }.into(), r#"{"type":"start","schema":1}"#),
            (Notice::State { state: State::Paused }.into(), r#"{"type":"state","state":"paused"}"#),
            (suppressed.into(), r#"{"type":"suppressed","by":"kernel","events":7}"#),
            (
                Message::Event(Box::new(example())),
                concat!(
                    r#"{"type":"drop","time":"2026-11-25T21:00:00.123456789Z","interface":"eth0","netns":"own","#,
                    r#""reason":"netfilter_drop","class":"policy","location":"nft_do_chain+0x12","protocol":"udp","#,
                    r#""source":{"address":"192.0.2.1","port":4000},"destination":{"address":"192.0.2.2","port":53},"#,
                    r#""packet_bytes":60,"segments":1,"bytes":"4500","bytes_from":"network"}"#
                ),
            ),
        ] {
            assert_eq!(message.to_line().trim_end(), expected);
            assert_eq!(serde_json::from_str::<Message>(expected).unwrap(), message);
        }
    }

    #[test]
    fn endpoints_read_well() {
        let end = |address: &str, port| Endpoint { address: address.parse().unwrap(), port }.to_string();
        assert_eq!(end("192.0.2.1", Some(53)), "192.0.2.1:53");
        assert_eq!(end("2001:db8::1", Some(53)), "[2001:db8::1]:53");
        assert_eq!(end("2001:db8::1", None), "2001:db8::1");
    }
}
