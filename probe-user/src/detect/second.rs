//! What one second has brought to each unit that is judged by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::conservation::Place;
use crate::{
    conservation::{OwnLosses, own_losses},
    derive::PathSide,
    snapshot::{Interface, Snapshot, State, Wire},
    topology::Role,
};

/// What is judged by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A track group: all interfaces by which one set of connections passes.
    Group(String),
    /// One interface that has the role uplink.
    Interface(String),
}

impl Unit {
    /// Name of the group or of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Group(name) | Self::Interface(name) => name,
        }
    }
}

/// What one unit has seen between two snapshots. In wire segments, unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP segments of followed connections that came in and that went out.
    pub segments: [u64; 2],
    /// All frames that came in and that went out.
    pub frames: [u64; 2],
    /// Segments lost, by [`PathSide`]; less what this host has lost.
    pub lost: [u64; 3],
    /// Segments that passed again, by direction: lost behind this point, delayed, or not needed.
    pub seen_again: [u64; 2],
    /// Segments of which a receiver says that it had not needed them, by the direction in which they had passed.
    pub not_needed: [u64; 2],
    /// Holes that a retransmission filled, by direction: lost before this point, whoever has lost it.
    pub refilled: [u64; 2],
    /// Segments of handshakes (SYN, SYN-ACK) that passed again, by direction.
    pub handshakes_again: [u64; 2],
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
    fn counters(&mut self) -> [&mut u64; 18] {
        let Self { segments, frames, lost, seen_again, not_needed, refilled, handshakes_again, .. } = self;
        let [[came, went], [frames_in, frames_out], [again_in, again_out], [needless_in, needless_out]] =
            [segments, frames, seen_again, not_needed].map(<[u64; 2]>::each_mut);
        let [[refilled_in, refilled_out], [syn_in, syn_out]] = [refilled, handshakes_again].map(<[u64; 2]>::each_mut);
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
            syn_in,
            syn_out,
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
    let came = interface.device.counters.iter().filter(|counter| counter.direction == "ingress");
    let damaged = came.filter(|counter| counter.kind == "error");
    let [said_in, said_out] = of("dsack");
    let (syn, synack) = (of("syn_retransmit"), of("synack_retransmit"));
    Counts {
        segments: [interface.ingress.tcp_segments, interface.egress.tcp_segments],
        frames: [interface.ingress.frames, interface.egress.frames],
        lost: PathSide::ALL.map(lost),
        seen_again: of("retransmit_seen"),
        // A receiver says so in the other direction.
        not_needed: [said_out, said_in],
        refilled: of("hole_filled_retransmit"),
        handshakes_again: [syn[0] + synack[0], syn[1] + synack[1]],
        own: own_losses(snapshot, interface),
        malformed_local: malformed("local"),
        malformed_path: malformed("path"),
        link_errors: damaged.filter(|counter| counter.class == "malformed").map(|counter| counter.packets).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classes::Class,
        snapshot::{DeviceCounter, Drop, Malformed, SideLoss},
    };

    /// An uplink of the group `uplinks` of which every figure is `times` something.
    fn interface(name: &str, times: u64) -> Interface {
        let events = |again: u64, needless: u64, refilled: u64| {
            let handshakes = [("syn_retransmit", again + 40), ("synack_retransmit", 2)];
            let events = [("retransmit_seen", again), ("dsack", needless), ("hole_filled_retransmit", refilled)];
            events.into_iter().chain(handshakes).map(|(event, count)| (event.to_owned(), count * times)).collect()
        };
        let lost = |(side, segments): (&str, u64)| {
            (side.to_owned(), SideLoss { segments: segments * times, ..SideLoss::default() })
        };
        let wire = Wire {
            ingress: events(3, 5, 7),
            egress: events(11, 13, 17),
            lost: [("network_in", 19), ("network_out", 23), ("inside", 29)].map(lost).into(),
            ..Wire::default()
        };
        let malformed = |direction: &str, severity: &str, scope: &str, frames: u64| Malformed {
            direction: direction.into(),
            severity: severity.into(),
            scope: scope.into(),
            frames: frames * times,
            ..Malformed::default()
        };
        let device = |cause: &str, kind: &str, class: &str, packets: u64| DeviceCounter {
            direction: "ingress".into(),
            cause: cause.into(),
            kind: kind.into(),
            class: class.into(),
            packets: packets * times,
            ..DeviceCounter::default()
        };
        let mut interface = Interface {
            name: name.into(),
            ifindex: name.bytes().map(u32::from).sum(),
            role: "uplink".into(),
            track: "uplinks".into(),
            wire: Some(wire),
            malformed: vec![
                malformed("ingress", "error", "local", 31),
                malformed("ingress", "error", "path", 37),
                malformed("ingress", "warning", "local", 1_000),
                malformed("egress", "error", "local", 1_000),
            ],
            ..Interface::default()
        };
        interface.device.counters = vec![
            device("crc", "error", "malformed", 41),
            device("missed", "dropped", "capacity", 43),
            device("fifo", "dropped", "capacity", 2),
        ];
        (interface.ingress.tcp_segments, interface.egress.tcp_segments) = (100 * times, 200 * times);
        (interface.ingress.frames, interface.egress.frames) = (300 * times, 400 * times);
        interface
    }

    fn snapshot(uptime_ms: u64, interfaces: Vec<Interface>) -> Snapshot {
        Snapshot { uptime_ms, interfaces, ..Snapshot::default() }
    }

    fn once() -> Counts {
        let mut counts = Counts {
            segments: [100, 200],
            frames: [300, 400],
            lost: [19, 23, 29],
            seen_again: [3, 11],
            not_needed: [13, 5],
            refilled: [7, 17],
            handshakes_again: [45, 53],
            malformed_local: 31,
            malformed_path: 37,
            link_errors: 41,
            ..Counts::default()
        };
        counts.own[Place::Before as usize][Class::Capacity as usize] = 43;
        counts
    }

    #[test]
    fn what_has_come_to_it() {
        let at = |uptime_ms, times: u64| snapshot(uptime_ms, vec![interface("a", times), interface("b", 2 * times)]);
        let second = Second::between(&at(5_000, 1), &at(6_100, 2));
        assert_eq!((second.uptime_ms, second.duration_ms), (6_100, 1_100));
        let [mut twice, mut thrice] = [once(), once()];
        twice.add(&once());
        thrice.add(&twice);
        let expected = [
            (Unit::Group("uplinks".into()), thrice),
            (Unit::Interface("a".into()), once()),
            (Unit::Interface("b".into()), twice),
        ];
        assert_eq!(second.units, expected.into());
    }

    #[test]
    fn who_is_judged() {
        let units = |change: fn(&mut Interface, &mut Interface)| {
            let (mut was, mut is) = (interface("a", 1), interface("a", 2));
            change(&mut was, &mut is);
            let second = Second::between(&snapshot(1_000, vec![was]), &snapshot(2_000, vec![is]));
            second.units.into_keys().collect::<Vec<_>>()
        };
        let (group, uplink) = (Unit::Group("uplinks".to_owned()), Unit::Interface("a".to_owned()));
        for (name, change, expected) in [
            ("both", (|_, _| {}) as fn(&mut Interface, &mut Interface), vec![group.clone(), uplink.clone()]),
            (
                "a track point that is no uplink",
                |was, is| (was.role, is.role) = ("port".into(), "port".into()),
                vec![group],
            ),
            (
                "an uplink that is not followed",
                |was, is| (was.track, is.track) = Default::default(),
                vec![uplink.clone()],
            ),
            ("of another group now", |_, is| is.track = "others".into(), vec![uplink]),
            ("neither", |was, is| (was.track, was.role, is.track, is.role) = Default::default(), vec![]),
            ("followed from now on", |was, _| was.wire = None, vec![]),
            ("another one of this name", |was, _| was.ifindex = 1, vec![]),
            ("another one of this number", |was, _| was.name = "b".into(), vec![]),
            ("it has begun anew", |_, is| is.ingress.frames = 299, vec![]),
            ("its losses have begun anew", |_, is| *is.wire.as_mut().unwrap() = Wire::default(), vec![]),
        ] {
            assert_eq!(units(change), expected, "{name}");
        }
    }

    #[test]
    fn time_in_which_nothing_is_counted() {
        let at = |uptime_ms, state| Snapshot { state, ..snapshot(uptime_ms, vec![interface("a", uptime_ms)]) };
        let units = |earlier: Snapshot, later: Snapshot| Second::between(&earlier, &later).units.len();
        assert_eq!(units(at(1, State::Running), at(2, State::Running)), 2);
        assert_eq!(units(at(1, State::Paused), at(2, State::Running)), 0);
        assert_eq!(units(at(1, State::Running), at(2, State::Detached)), 0);
        assert_eq!(units(at(2, State::Running), at(1, State::Running)), 0, "another agent");
        assert_eq!(units(at(2, State::Running), at(2, State::Running)), 0);
    }

    /// The discipline's count comes first, then the kernel's: one loss.
    #[test]
    fn a_source_that_catches_up() {
        let at = |uptime_ms, by_kernel, by_queue| {
            let mut interface = interface("a", 1);
            interface.qdiscs =
                vec![crate::snapshot::Qdisc { dropped_packets: by_queue, ..crate::snapshot::Qdisc::default() }];
            let drop = Drop {
                netns: "own".into(),
                interface: "a".into(),
                reason: "qdisc_drop".into(),
                class: "policy".into(),
                packets: by_kernel,
                ..Drop::default()
            };
            Snapshot { drops: vec![drop], ..snapshot(uptime_ms, vec![interface]) }
        };
        let behind = |earlier: &Snapshot, later: &Snapshot| {
            let second = Second::between(earlier, later);
            let own = second.units[&Unit::Interface("a".into())].own[Place::Behind as usize];
            [own[Class::Capacity as usize], own[Class::Policy as usize]]
        };
        assert_eq!(behind(&at(1, 0, 0), &at(2, 0, 9)), [9, 0]);
        assert_eq!(behind(&at(2, 0, 9), &at(3, 9, 9)), [0, 9], "never less than nothing");
    }
}
