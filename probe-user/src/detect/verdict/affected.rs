//! Who is affected, as the table of connections tells.

use crate::derive;

/// Share of the peers that is "the network", and of the losses that is "one remote".
const MOST: f64 = 0.8;
/// Of fewer peers nobody can say whether it is they or the network.
pub(in crate::detect) const LEAST_PEERS: u64 = 3;
/// And the share of the traffic that the one remote must have less of.
const HALF: f64 = 0.5;

/// Who is affected, from the table of connections. A peer is an address, of IPv6 a /64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peers {
    /// Peers that segments were exchanged with.
    pub peers: u64,
    /// Of these, those of whose segments some were lost.
    pub affected: u64,
    /// Connections that have lost some.
    pub lossy_flows: u64,
    /// Segments that all of them have lost.
    pub lost: u64,
    /// Of these the share of the peer with the most.
    pub worst_losses: f64,
    /// And its share of the traffic.
    pub worst_traffic: f64,
}

impl Peers {
    /// As [`Verdict::scope`](super::Verdict::scope).
    pub(super) fn scope(&self) -> &'static str {
        #[expect(clippy::cast_precision_loss, reason = "peers are far fewer than 2^53")]
        let affected = self.affected as f64 / self.peers.max(1) as f64;
        // Of a few losses one peer may have most by chance.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of it"
        )]
        let worst = (self.worst_losses * self.lost as f64).round() as u64;
        let is_one = derive::Share::of(worst, self.lost).is_some_and(|share| share.lower >= MOST);
        if is_one && self.worst_traffic < HALF {
            "one_remote"
        } else if self.peers >= LEAST_PEERS && affected >= MOST {
            "network"
        } else {
            ""
        }
    }
}

/// Malformed frames of path scope that came in connections which are otherwise healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damaged {
    /// Connections.
    pub flows: u64,
    /// Networks (/16, /32) that their peers are in.
    pub networks: u64,
    /// Others may come to light: not much of what came malformed has been looked at.
    pub is_early: bool,
}

impl Damaged {
    /// Whether a few of them are known, perhaps a few of all of them.
    #[must_use]
    pub const fn may_be_more(&self) -> bool {
        self.flows > 0 && self.is_early
    }
}

/// What the table of connections tells while something is unusual; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affected {
    /// Connections are followed, and who is affected will be known in a moment: until then nobody outside is named.
    pub is_pending: bool,
    /// Who is affected.
    pub peers: Option<Peers>,
    /// Whose frames come damaged.
    pub damaged: Option<Damaged>,
}
