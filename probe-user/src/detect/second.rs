//! What one second has brought to each unit that is judged by itself.

use std::collections::BTreeMap;

use crate::classes::Class;

/// What is judged by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A track group: all interfaces by which one set of connections passes.
    Group(String),
    /// One interface that has the role uplink.
    Interface(String),
}

/// Where this host itself has lost a packet, as seen from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Place {
    /// Between the wire and the ingress hook: ring, XDP, input queue of a CPU.
    Before = 0,
    /// What had passed the ingress hook.
    Within = 1,
    /// Between the egress hook and the wire: queueing disciplines, the device's own queue.
    Behind = 2,
}

/// What one unit has seen between two snapshots. In wire segments, unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP segments of followed connections that came in and that went out.
    pub segments: [u64; 2],
    /// All frames that came in and that went out.
    pub frames: [u64; 2],
    /// Segments lost, by [`PathSide`](crate::derive::PathSide); less what this host has lost.
    pub lost: [u64; 3],
    /// Segments that passed again, by direction: lost behind this point, delayed, or not needed.
    pub seen_again: [u64; 2],
    /// Segments of which a receiver says that it had not needed them, by the direction in which they had passed.
    pub not_needed: [u64; 2],
    /// Holes that a retransmission filled, by direction: lost before this point, whoever has lost it.
    pub refilled: [u64; 2],
    /// What this host has lost, by [`Place`] and [`Class`]; what is noise within it left out.
    pub own: [[u64; Class::ALL.len()]; 3],
    /// Malformed frames that came in, errors only, of reasons that only a neighbour on this segment can have made.
    pub malformed_local: u64,
    /// The same, of reasons that may come from anywhere.
    pub malformed_path: u64,
    /// Frames that the device found damaged on the wire: FCS, symbols, lengths.
    pub link_errors: u64,
}

/// One second, or what lies between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Milliseconds since the agent's start, at its end.
    pub uptime_ms: u64,
    /// How long it was.
    pub duration_ms: u64,
    /// By unit. One that was there, and counted, in only one of the two snapshots is missing.
    pub units: BTreeMap<Unit, Counts>,
}
