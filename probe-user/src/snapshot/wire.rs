//! What TCP connections that pass a track point tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Of one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Events of segments that came in, in wire segments, by name.
    pub ingress: BTreeMap<String, u64>,
    /// Events of segments that went out.
    pub egress: BTreeMap<String, u64>,
    /// Segments lost, by side: `network_in`, `network_out`, `inside`.
    pub lost: BTreeMap<String, SideLoss>,
    /// Share of all frames of the last 10 s whose connections were followed; `None` if nothing has passed.
    pub judged_ratio: Option<f64>,
}

/// Segments lost on one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideLoss {
    /// Since the agent's start, less what this host itself has lost.
    pub segments: u64,
    /// Of the last 10 s; `None` if nothing has passed.
    pub share: Option<Share>,
}

/// A share with the interval in which it lies at 95 % (Wilson).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share.
    pub ratio: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

/// TCP connections that have lost most (`GET /api/v1/flows`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Connections that have a place, also those that have ended and whose place nobody has taken yet.
    pub known: u64,
    /// Places.
    pub capacity: u64,
    /// The worst first.
    pub flows: Vec<Flow>,
}

/// One TCP connection that is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Track group.
    pub group: String,
    /// `ADDRESS:PORT` outside of this node.
    pub outside: String,
    /// `ADDRESS:PORT` inside.
    pub inside: String,
    /// VLAN identifiers, the outermost first.
    pub vlans: Vec<u16>,
    /// Network identifier of the tunnel that it is in, if it is.
    #[serde(default)]
    pub tunnel: Option<u32>,
    /// What came in.
    pub ingress: FlowDirection,
    /// What went out.
    pub egress: FlowDirection,
    /// Round trip of its handshake in microseconds, if that was seen.
    pub round_trip_us: Option<u32>,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowDirection {
    /// Interface that it passes, `""` if it was not seen.
    pub interface: String,
    /// Segments.
    pub segments: u64,
    /// Of those, how many were lost before this point.
    pub lost_before: u64,
    /// How many passed again.
    pub seen_again: u64,
    /// And of how many of these the receiver said that it had not needed them.
    pub not_needed: u64,
    /// Milliseconds since the last one, to 256 of the kernel's jiffies; `None` if it is not followed any more.
    pub silent_ms: Option<u64>,
}
