//! What one second has brought to each unit that is judged by itself.

use std::collections::BTreeMap;

pub use crate::conservation::Place;
use crate::{
    conservation::{OwnLosses, own_losses},
    derive::PathSide,
    snapshot::{Interface, Snapshot, State, Wire},
    topology::Role,
};

/// What is judged by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A track group: all interfaces by which one set of connections passes.
    Group(String),
    /// One interface that has the role uplink.
    Interface(String),
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
    /// What this host has lost, by [`Place`] and [`Class`](crate::classes::Class); of what had passed the ingress hook without noise.
    pub own: OwnLosses,
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

impl Second {
    /// What lies between two snapshots of one agent. Of a time in which nothing was counted it has no units, and an interface
    /// whose counters have begun anew is missing.
    #[must_use]
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Self {
        let duration_ms = later.uptime_ms.saturating_sub(earlier.uptime_ms);
        let mut second = Self { uptime_ms: later.uptime_ms, duration_ms, units: BTreeMap::new() };
        let both_run = [earlier, later].iter().all(|snapshot| snapshot.state == State::Running);
        if duration_ms == 0 || !both_run {
            return second;
        }
        let former: BTreeMap<_, _> =
            earlier.interfaces.iter().filter(|was| is_judged(was)).map(|was| (was.ifindex, was)).collect();
        for interface in later.interfaces.iter().filter(|interface| is_judged(interface)) {
            let same = |was: &&&Interface| was.name == interface.name && was.wire.is_some() == interface.wire.is_some();
            let Some(was) = former.get(&interface.ifindex).filter(same) else { continue };
            let Some(counts) = totals(later, interface).since(&totals(earlier, was)) else { continue };
            if !interface.track.is_empty() && interface.track == was.track {
                second.units.entry(Unit::Group(interface.track.clone())).or_default().add(&counts);
            }
            if is_uplink(interface) {
                second.units.insert(Unit::Interface(interface.name.clone()), counts);
            }
        }
        second
    }
}

impl Counts {
    /// Adds what another interface of the same group has seen.
    pub fn add(&mut self, more: &Self) {
        self.counters().into_iter().zip(more.clone().counters()).for_each(|(sum, more)| *sum += *more);
        self.own.as_flattened_mut().iter_mut().zip(more.own.as_flattened()).for_each(|(sum, more)| *sum += more);
    }

    /// What has come to it; `None` if it has begun anew.
    fn since(mut self, before: &Self) -> Option<Self> {
        for (now, before) in self.counters().into_iter().zip(before.clone().counters()) {
            *now = now.checked_sub(*before)?;
        }
        // One source may catch up with another: what is lost stays the same, and its class changes.
        let own = self.own.as_flattened_mut().iter_mut().zip(before.own.as_flattened());
        own.for_each(|(now, before)| *now = now.saturating_sub(*before));
        Some(self)
    }

    /// All but `own`.
    fn counters(&mut self) -> [&mut u64; 16] {
        let Self { segments, frames, lost, seen_again, not_needed, refilled, .. } = self;
        let [[came, went], [frames_in, frames_out], [again_in, again_out]] =
            [segments, frames, seen_again].map(<[u64; 2]>::each_mut);
        let ([needless_in, needless_out], [refilled_in, refilled_out]) = (not_needed.each_mut(), refilled.each_mut());
        let [before, behind, inside] = lost.each_mut();
        [
            came,
            went,
            frames_in,
            frames_out,
            again_in,
            again_out,
            needless_in,
            needless_out,
            refilled_in,
            refilled_out,
            before,
            behind,
            inside,
            &mut self.malformed_local,
            &mut self.malformed_path,
            &mut self.link_errors,
        ]
    }
}

fn is_uplink(interface: &Interface) -> bool {
    interface.role == Role::Uplink.id()
}

fn is_judged(interface: &Interface) -> bool {
    is_uplink(interface) || !interface.track.is_empty()
}

/// All that an interface has seen so far.
fn totals(snapshot: &Snapshot, interface: &Interface) -> Counts {
    let wire = interface.wire.as_ref();
    let of = |event: &str| {
        let count = |events: fn(&Wire) -> &BTreeMap<String, u64>| {
            wire.and_then(|wire| events(wire).get(event)).copied().unwrap_or(0)
        };
        [count(|wire| &wire.ingress), count(|wire| &wire.egress)]
    };
    let lost = |side: PathSide| wire.and_then(|wire| wire.lost.get(side.id())).map_or(0, |lost| lost.segments);
    let malformed = |scope: &str| -> u64 {
        let errors = interface.malformed.iter().filter(|kind| kind.direction == "ingress" && kind.severity == "error");
        errors.filter(|kind| kind.scope == scope).map(|kind| kind.frames).sum()
    };
    let damaged = interface.device.counters.iter().filter(|counter| counter.kind == "error");
    let [said_in, said_out] = of("dsack");
    Counts {
        segments: [interface.ingress.tcp_segments, interface.egress.tcp_segments],
        frames: [interface.ingress.frames, interface.egress.frames],
        lost: PathSide::ALL.map(lost),
        seen_again: of("retransmit_seen"),
        // A receiver says so in the other direction.
        not_needed: [said_out, said_in],
        refilled: of("hole_filled_retransmit"),
        own: own_losses(snapshot, interface),
        malformed_local: malformed("local"),
        malformed_path: malformed("path"),
        link_errors: damaged.filter(|counter| counter.class == "malformed").map(|counter| counter.packets).sum(),
    }
}
