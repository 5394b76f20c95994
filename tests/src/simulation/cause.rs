//! What goes wrong, one row each: what it does in a second, and what may be said of it.

mod local;
mod malformed;
mod network;

use probe_ebpf::abi::Direction;
use probe_user::{
    detect::verdict::{Damaged, Name, Peers},
    snapshot::Snapshot,
};

use super::{
    loss::Loss,
    node::{Host, Node},
    peers::Affected,
    random::Random,
    shape::Card,
    uplink::Uplink,
};

/// One thing, or a pair of things, that goes wrong.
pub struct Cause {
    /// What it is called in tables.
    pub name: &'static str,
    /// Uplinks on which it can be seen or, where a source is removed, on which that source is required.
    pub cards: &'static [Card],
    /// What is right. [`Name::None`]: nothing may be said.
    pub right: &'static [Name],
    /// What is not wrong either, and not right: of a pair the half that is this host's, which is seen sooner. So are `none`,
    /// `unknown` and `mixed`.
    pub tolerated: &'static [Name],
    /// Of a pair, what may be said when it is over: of one half more is left than of the other.
    pub(super) left_over: &'static [Name],
    /// The scope that is right, `""` if any is.
    pub scope: &'static str,
    /// What is not seen.
    blind: fn(&mut Snapshot),
    /// Seconds for which all but the loss is there before.
    pub(super) before_s: u64,
    act: fn(&mut Scene<'_>),
}

/// A second in which it happens.
pub(super) struct Scene<'s> {
    uplink: &'s mut Uplink,
    host: &'s mut Host,
    random: &'s mut Random,
    effect: &'s mut Effect,
    /// Seconds since the onset, from 0.
    second: u64,
    /// How much is lost.
    loss: Loss,
    /// Segments that connections have sent, in and out.
    sent: [u64; 2],
}

/// What a cause remembers and tells besides counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Effect {
    affected: Affected,
    lost: u64,
    only: Option<f64>,
    waiting: u64,
    pub(super) peers: Option<Peers>,
    pub(super) damaged: Option<Damaged>,
}

const EVERYWHERE: &[Card] = &Card::ALL;
const SEEN: fn(&mut Snapshot) = |_| {};

impl Cause {
    const fn new(name: &'static str, right: &'static [Name], act: fn(&mut Scene<'_>)) -> Self {
        Self {
            name,
            cards: EVERYWHERE,
            right,
            tolerated: &[],
            left_over: &[],
            scope: "",
            blind: SEEN,
            before_s: 0,
            act,
        }
    }

    const fn on(self, cards: &'static [Card]) -> Self {
        Self { cards, ..self }
    }

    const fn tolerating(self, tolerated: &'static [Name]) -> Self {
        Self { tolerated, ..self }
    }

    const fn leaving(self, left_over: &'static [Name]) -> Self {
        Self { left_over, ..self }
    }

    const fn of_scope(self, scope: &'static str) -> Self {
        Self { scope, ..self }
    }

    const fn without(self, blind: fn(&mut Snapshot)) -> Self {
        Self { blind, ..self }
    }

    const fn behind(self, before_s: u64) -> Self {
        Self { before_s, ..self }
    }

    /// Whether nothing may be said of it.
    #[must_use]
    pub fn is_innocent(&self) -> bool {
        self.right[0] == Name::None
    }

    /// Whether it is wrong to say so.
    #[must_use]
    pub fn is_wrong(&self, name: Name, scope: &str) -> bool {
        let is_right = self.right.contains(&name);
        let of_another = is_right && !self.scope.is_empty() && !scope.is_empty() && scope != self.scope;
        let abstains = matches!(name, Name::None | Name::Unknown | Name::Mixed);
        of_another || !(is_right || abstains || self.tolerated.contains(&name))
    }

    /// Takes away what is not seen.
    pub(super) fn blind(&self) -> fn(&mut Snapshot) {
        self.blind
    }

    /// Lets it happen in a second that has begun.
    pub(super) fn act(&self, node: &mut Node, effect: &mut Effect, now: (u64, Loss, [u64; 2]), random: &mut Random) {
        let (second, loss, sent) = now;
        let (uplink, host) = (&mut node.uplinks[0], &mut node.host);
        effect.lost = 0;
        (self.act)(&mut Scene { uplink, host, random, effect, second, loss, sent });
        effect.gather(random);
    }
}

impl Effect {
    /// Who is affected after a second.
    pub(super) fn gather(&mut self, random: &mut Random) {
        let lost = std::mem::take(&mut self.lost);
        self.peers = Some(self.affected.add(lost, self.only, random));
    }
}

impl Scene<'_> {
    /// How many of so many segments this second's loss takes.
    fn lost_of(&mut self, segments: u64) -> u64 {
        self.loss.of(segments, self.random)
    }

    /// Lost in the network, before it came in.
    fn miss(&mut self, segments: u64) {
        self.effect.lost += segments;
        self.uplink.miss(Direction::Ingress, segments, self.random);
    }

    /// Lost behind the hook that it had passed.
    fn sent_again(&mut self, way: Direction, segments: u64) {
        self.effect.lost += segments;
        self.uplink.sent_again(way, segments, self.random);
    }
}

/// All of them.
pub static CAUSES: &[&[Cause]] = &[network::CAUSES, malformed::CAUSES, local::CAUSES];
