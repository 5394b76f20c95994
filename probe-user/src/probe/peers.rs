//! Who is affected: the followed connections by whom they are with, while something is unusual.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::Result;
use probe_ebpf::abi::FlowName;

use super::{Probe, flows::lost};
use crate::detect::verdict::Peers;

/// Between two looks at the table of connections: tens of thousands of them are as many system calls, on the thread that
/// does everything else.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who has been affected since something became unusual.
#[derive(Debug, Default)]
pub struct Affected(Option<Since>);

/// What is remembered meanwhile; at most as many connections as there are places for.
#[derive(Debug)]
struct Since {
    looked: Instant,
    /// What each connection had counted at first.
    before: BTreeMap<u64, Count>,
    latest: Option<Peers>,
}

/// Of one connection, or of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    segments: u64,
    lost: u64,
}

impl Affected {
    /// Who it is, looked up every five seconds while something `is_unusual`; `None` at first, and where nothing is followed.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn peers(&mut self, probe: &Probe, is_unusual: bool) -> Result<Option<Peers>> {
        if !is_unusual {
            self.0 = None;
            return Ok(None);
        }
        let now = Instant::now();
        match &mut self.0 {
            Some(since) if now.duration_since(since.looked) < LOOK_EVERY => Ok(since.latest),
            Some(since) => {
                let counts = probe.connections()?;
                (since.looked, since.latest) = (now, Some(peers(&counts, &since.before)));
                Ok(since.latest)
            }
            none if probe.loaded.capacity.flows > 0 => {
                let before = probe.connections()?.into_iter().map(|(_, tag, count)| (tag, count)).collect();
                *none = Some(Since { looked: now, before, latest: None });
                Ok(None)
            }
            _none => Ok(None),
        }
    }
}

impl Probe {
    /// Every connection: whom it is with, its tag, what it has counted.
    fn connections(&self) -> Result<Vec<([u64; 2], u64, Count)>> {
        let count = |name: &FlowName| -> Result<Count> {
            let halves = self.maps.halves(name.tag)?;
            let segments = halves.iter().flatten().map(|half| u64::from(half.segments)).sum();
            Ok(Count { segments, lost: lost(name) })
        };
        self.maps.flow_names()?.iter().map(|name| Ok((peer(name), name.tag, count(name)?))).collect()
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

fn peers(counts: &[([u64; 2], u64, Count)], before: &BTreeMap<u64, Count>) -> Peers {
    let mut by_peer = BTreeMap::<[u64; 2], Count>::new();
    let mut lossy_flows = 0;
    for (peer, tag, now) in counts {
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
        let peers = peers(&now, &before);
        assert_eq!((peers.peers, peers.affected, peers.lossy_flows), (2, 2, 2));
        assert!((peers.worst_losses - 10.0 / 11.0).abs() < 1e-9 && (peers.worst_traffic - 200.0 / 403.0).abs() < 1e-9);
    }
}
