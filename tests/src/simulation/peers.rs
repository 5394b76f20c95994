//! Who talks to the node, and who of them is affected: what an agent would gather from its table of connections.

use std::collections::VecDeque;

use probe_user::detect::verdict::Peers;

use super::random::Random;

/// Peers of a node.
const PEERS: usize = 24;
/// Connections of each.
const FLOWS: u64 = 4;
/// Losses are remembered for so many seconds.
const SECONDS: usize = 7;
/// Losses that are told apart at most in one of them.
const MOST: u64 = 64;

/// The losses of the last seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Affected(VecDeque<u64>);

impl Affected {
    /// Takes what the cause has lost in a second; who is affected, if only those are who talk to peer `only`.
    pub(super) fn add(&mut self, lost: u64, only: Option<f64>, random: &mut Random) -> Peers {
        if self.0.len() == SECONDS {
            self.0.pop_front();
        }
        self.0.push_back(lost);
        let (mut losses, mut lossy) = ([0_u64; PEERS], std::collections::BTreeSet::new());
        for _ in 0..self.0.iter().map(|lost| (*lost).min(MOST)).sum() {
            // Some peers talk much more than others.
            let peer = if only.is_some() { 0 } else { (random.unit().powi(2) * PEERS as f64) as usize };
            losses[peer] += 1;
            lossy.insert((peer, random.below(FLOWS)));
        }
        let all: u64 = losses.iter().sum();
        let (worst, most) = losses.iter().enumerate().max_by_key(|(_, losses)| **losses).unwrap_or((0, &0));
        let share_of = |peer: usize| (peer as f64 / PEERS as f64).sqrt();
        Peers {
            peers: PEERS as u64,
            affected: losses.iter().filter(|losses| **losses > 0).count() as u64,
            lossy_flows: lossy.len() as u64,
            lost: all,
            worst_losses: *most as f64 / all.max(1) as f64,
            worst_traffic: only.unwrap_or_else(|| share_of(worst + 1) - share_of(worst)),
        }
    }
}
