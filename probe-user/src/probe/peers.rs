//! Who is affected: the followed connections by whom they are with, and those that come damaged, while something is unusual.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::Result;
use probe_ebpf::abi::FlowName;

use super::{
    Probe,
    damaged::Ends,
    flows::{end, lost},
};
use crate::detect::verdict::{Affected, Damaged, Peers};

/// Between two looks at the table of connections: tens of thousands of them are as many system calls, on the thread that
/// does everything else. Half a second short of the tick that is meant, which may come a little early.
const LOOK_EVERY: Duration = Duration::from_millis(4_500);
/// Between the first two, of which the second one tells.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1_500);

/// Looks up who has been affected since something became unusual.
#[derive(Debug, Default)]
pub struct Lookup(Option<Since>);

/// For so long more connections that come damaged may come to light: of each kind of malformed frame one a second is kept.
const EARLY: Duration = Duration::from_secs(10);

/// What is remembered meanwhile; at most as many connections as there are places for.
#[derive(Debug)]
struct Since {
    began: Instant,
    looked: Instant,
    /// What each connection had counted at first.
    before: BTreeMap<u64, Count>,
    latest: Affected,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    tag: u64,
    ends: Ends,
    /// Whom it is with.
    peer: [u64; 2],
    count: Count,
    /// Segments by direction.
    segments: [u64; 2],
}

/// Of one connection, or of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    segments: u64,
    lost: u64,
}

impl Since {
    fn pause(&self) -> Duration {
        let waits = self.latest.is_pending || self.latest.damaged.is_some_and(|damaged| damaged.may_be_more());
        if waits { LOOK_AGAIN_AFTER } else { LOOK_EVERY }
    }
}

impl Lookup {
    /// Who it is, looked up every five seconds while something `is_unusual`; not known where nothing is followed, and at first
    /// only whose frames come damaged.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn affected(&mut self, probe: &Probe, is_unusual: bool) -> Result<Affected> {
        let is_followed = probe.loaded.capacity.flows > 0;
        if !is_unusual || !is_followed {
            self.0 = None;
            return Ok(Affected { is_pending: is_followed, ..Affected::default() });
        }
        let now = Instant::now();
        if let Some(since) = self.0.as_ref().filter(|since| now.duration_since(since.looked) < since.pause()) {
            return Ok(since.latest);
        }
        let connections = probe.connections()?;
        let ends = connections.iter().map(|connection| (connection.ends, connection.segments));
        let began = self.0.as_ref().map_or(now, |since| since.began);
        let is_early = now.duration_since(began) < EARLY;
        let damaged = Some(Damaged { is_early, ..probe.claims.damaged(ends, now) });
        let since = match self.0.take() {
            Some(since) => {
                let peers = Some(peers(&connections, &since.before));
                Since { looked: now, latest: Affected { is_pending: false, peers, damaged }, ..since }
            }
            None => {
                let before = connections.iter().map(|connection| (connection.tag, connection.count)).collect();
                Since { began, looked: now, before, latest: Affected { is_pending: true, peers: None, damaged } }
            }
        };
        Ok(self.0.insert(since).latest)
    }
}

impl Probe {
    /// Every connection.
    fn connections(&self) -> Result<Vec<Connection>> {
        let connection = |name: &FlowName| -> Result<Connection> {
            let halves = self.maps.halves(name.tag)?;
            let segments = halves.map(|half| half.map_or(0, |half| u64::from(half.segments)));
            let count = Count { segments: segments.iter().sum(), lost: lost(name) };
            let ends = (end(name.key.outside, name.key.outside_port), end(name.key.inside, name.key.inside_port));
            Ok(Connection { tag: name.tag, ends, peer: peer(name), count, segments })
        };
        self.maps.flow_names()?.iter().map(connection).collect()
    }
}

/// The address of whom a connection is with, of IPv6 the first half.
fn peer(name: &FlowName) -> [u64; 2] {
    let [first, second] = name.key.outside;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&second.to_ne_bytes());
    if Ipv6Addr::from(bytes).to_ipv4_mapped().is_some() { [first, second] } else { [first, 0] }
}

fn peers(connections: &[Connection], before: &BTreeMap<u64, Count>) -> Peers {
    let mut by_peer = BTreeMap::<[u64; 2], Count>::new();
    let mut lossy_flows = 0;
    for Connection { peer, tag, count: now, .. } in connections {
        let before = before.get(tag).copied().unwrap_or_default();
        // A half that gave its place away begins anew.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let (segments, lost) = (since(now.segments, before.segments), since(now.lost, before.lost));
        if segments + lost > 0 {
            let sum = by_peer.entry(*peer).or_default();
            (sum.segments, sum.lost) = (sum.segments + segments, sum.lost + lost);
        }
        lossy_flows += u64::from(lost > 0);
    }
    let all = by_peer.values().fold(Count::default(), |sum, count| Count {
        segments: sum.segments + count.segments,
        lost: sum.lost + count.lost,
    });
    let worst = by_peer.values().max_by_key(|count| count.lost).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "what passes during an incident is far below 2^53")]
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    Peers {
        peers: by_peer.len() as u64,
        affected: by_peer.values().filter(|count| count.lost > 0).count() as u64,
        lossy_flows,
        lost: all.lost,
        worst_losses: share(worst.lost, all.lost),
        worst_traffic: share(worst.segments, all.segments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_whom_they_are_with() {
        let count = |segments, lost| Count { segments, lost };
        let before = [(1, count(100, 5)), (2, count(50, 0))].into();
        let now = [
            ([7, 0], 1, count(200, 15)),
            ([7, 0], 3, count(100, 0)),
            ([8, 0], 2, count(50, 0)),
            ([9, 0], 4, count(200, 0)),
            // It has begun anew.
            ([9, 0], 1, count(3, 1)),
        ];
        let nobody = end([0; 2], 0);
        let now =
            now.map(|(peer, tag, count)| Connection { tag, ends: (nobody, nobody), peer, count, segments: [0; 2] });
        let peers = peers(&now, &before);
        assert_eq!((peers.peers, peers.affected, peers.lossy_flows), (2, 2, 2));
        assert!((peers.worst_losses - 10.0 / 11.0).abs() < 1e-9 && (peers.worst_traffic - 200.0 / 403.0).abs() < 1e-9);
    }
}
