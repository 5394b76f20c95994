//! Those that have lost most, and no more of them than were asked for.

use std::{cmp::Reverse, collections::BinaryHeap, net::SocketAddr};

use crate::analyze::vantage::Heading;

/// One direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Direction {
    /// Who sends.
    pub(in super::super) source: SocketAddr,
    /// Who receives.
    pub(in super::super) destination: SocketAddr,
    /// Which way it goes.
    pub(in super::super) heading: Heading,
    /// Where it was seen, see [`link`](super::super::link).
    pub(in super::super) point: u32,
    /// VLAN identifiers, as in a flow's key.
    pub(in super::super) encapsulation: u32,
    /// Segments seen.
    pub(in super::super) segments: u64,
    /// Segments lost before the capture point.
    pub(in super::super) before: u64,
    /// Segments lost behind it.
    pub(in super::super) after: u64,
    /// Of its connection's handshake.
    pub(in super::super) round_trip_us: Option<u32>,
    /// Whether IP identifiers tell what was lost before.
    pub(in super::super) is_identified: bool,
}

/// Losses first, then what makes the order the same each time.
type Rank = (u64, SocketAddr, SocketAddr, u32, u32);

/// The worst so far.
pub(in super::super) struct Worst {
    limit: usize,
    /// The least bad on top.
    heap: BinaryHeap<Reverse<Ranked>>,
}

struct Ranked(Rank, Direction);

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Worst {
    pub(in super::super) fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// Takes it in if it is among them.
    pub(in super::super) fn offer(&mut self, direction: Direction) {
        let Direction { source, destination, point, encapsulation, before, after, .. } = direction;
        let rank = (before + after, source, destination, point, encapsulation);
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(Ranked(rank, direction)));
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0.0 < rank
        {
            *least = Reverse(Ranked(rank, direction));
        }
    }

    /// The worst first.
    pub(in super::super) fn into_sorted(self) -> Vec<Direction> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(Ranked(_, direction))| direction).collect()
    }
}
