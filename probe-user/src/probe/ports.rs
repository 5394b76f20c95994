//! Ports of one bridge as one: sums that never fall while ports come, change their bridge and go.
//!
//! A group adds up what each port counts from the moment it is in it. What has been added stays, whoever counted it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{kernel::reasons::Reason, snapshot::Traffic};

/// What is counted rarely, by the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rare {
    Malformed { direction: u8, reason: u8 },
    Drop { reason: Reason, family: u8 },
    Retransmit { kind: u8 },
    Fault { fault: u8 },
}

/// Everything that is counted of one interface, or of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By direction.
    pub(super) traffic: [Traffic; 2],
    pub(super) rare: BTreeMap<Rare, u64>,
}

/// The groups, by the name of the bridge.
#[derive(Debug, Default)]
pub(super) struct Ports {
    groups: BTreeMap<String, Group>,
    members: BTreeMap<u32, Member>,
}

/// The ports of one bridge.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// What its ports have counted while they were in it.
    pub(super) sums: Counts,
    /// Indices of the ports that are in it now.
    pub(super) present: BTreeSet<u32>,
    empty_since: Option<Instant>,
}

/// An interface that is in a group, or was until it vanished: the kernel may yet name it in a drop.
#[derive(Debug)]
struct Member {
    group: String,
    /// What has been added of it.
    added: Counts,
}

impl Ports {
    /// By the name of the bridge.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(bridge, group)| (bridge.as_str(), group))
    }

    /// The bridge of whose group an interface is, or was until it vanished.
    pub(super) fn group_of(&self, ifindex: u32) -> Option<&str> {
        self.members.get(&ifindex).map(|member| member.group.as_str())
    }

    /// Whether it is in this group now.
    pub(super) fn is_in(&self, ifindex: u32, bridge: &str) -> bool {
        self.groups.get(bridge).is_some_and(|group| group.present.contains(&ifindex))
    }

    /// Interfaces of which more may have been counted.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> {
        self.members.keys().copied()
    }

    /// Adds what an interface has counted since it was last asked; nothing if it is in no group.
    pub(super) fn add(&mut self, ifindex: u32, counted: &Counts) {
        if let Some(member) = self.members.get_mut(&ifindex)
            && let Some(group) = self.groups.get_mut(&member.group)
        {
            for (at, traffic) in counted.traffic.iter().enumerate() {
                let added = &mut member.added.traffic[at];
                group.sums.traffic[at] = plus(group.sums.traffic[at], *traffic, *added);
                *added = plus(*added, *traffic, *added);
            }
            for (key, count) in &counted.rare {
                let added = member.added.rare.entry(*key).or_default();
                let more = count.saturating_sub(*added);
                *added += more;
                *group.sums.rare.entry(*key).or_default() += more;
            }
        }
    }

    /// Puts an interface into a group; what it `counted` before is not the group's.
    pub(super) fn join(&mut self, ifindex: u32, bridge: &str, counted: Counts) {
        self.leave(ifindex);
        let group = self.groups.entry(bridge.to_owned()).or_default();
        group.present.insert(ifindex);
        group.empty_since = None;
        self.members.insert(ifindex, Member { group: bridge.to_owned(), added: counted });
    }

    /// Puts an interface into a group that has not been counted as anything else, with all that it has counted; but
    /// drops of one that was away have been added already.
    pub(super) fn join_anew(&mut self, ifindex: u32, bridge: &str) {
        let added = self.members.get(&ifindex).map(|member| member.added.clone()).unwrap_or_default();
        self.join(ifindex, bridge, added);
    }

    /// It is in no group any more.
    pub(super) fn leave(&mut self, ifindex: u32) {
        self.absent(ifindex);
        self.members.remove(&ifindex);
    }

    /// It is gone, its counters of traffic are read for good and will be somebody else's; drops may follow.
    pub(super) fn vanished(&mut self, ifindex: u32) {
        self.absent(ifindex);
        if let Some(member) = self.members.get_mut(&ifindex) {
            member.added.traffic = Default::default();
            member.added.rare.retain(|key, _| !matches!(key, Rare::Malformed { .. }));
        }
    }

    fn absent(&mut self, ifindex: u32) {
        if let Some(group) = self.members.get(&ifindex).and_then(|member| self.groups.get_mut(&member.group))
            && group.present.remove(&ifindex)
            && group.present.is_empty()
        {
            group.empty_since = Some(Instant::now());
        }
    }

    /// Forgets groups that have been without a port for so long while their bridge is not among `bridges`: bridges come
    /// and go too.
    pub(super) fn forget_groups(&mut self, after: Duration, bridges: &BTreeSet<&str>) {
        self.groups.retain(|bridge, group| {
            bridges.contains(bridge.as_str()) || group.empty_since.is_none_or(|since| since.elapsed() < after)
        });
        self.members.retain(|_, member| self.groups.contains_key(&member.group));
    }
}

/// `sum` and what `now` has more than `before`.
fn plus(sum: Traffic, now: Traffic, before: Traffic) -> Traffic {
    let add = |of: fn(Traffic) -> u64| of(sum) + of(now).saturating_sub(of(before));
    Traffic {
        frames: add(|traffic| traffic.frames),
        bytes: add(|traffic| traffic.bytes),
        other_frames: add(|traffic| traffic.other_frames),
        unseen_frames: add(|traffic| traffic.unseen_frames),
        tcp_segments: add(|traffic| traffic.tcp_segments),
        control_frames: add(|traffic| traffic.control_frames),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP: Rare = Rare::Drop { reason: Reason { number: 2, function: "" }, family: 1 };
    const MALFORMED: Rare = Rare::Malformed { direction: 0, reason: 3 };

    fn counted(frames: u64, rare: &[(Rare, u64)]) -> Counts {
        let ingress = Traffic { frames, bytes: 60 * frames, ..Traffic::default() };
        Counts { traffic: [ingress, Traffic::default()], rare: rare.iter().copied().collect() }
    }

    fn sum(ports: &Ports, bridge: &str) -> (u64, u64) {
        let sums = &ports.groups[bridge].sums;
        (sums.traffic[0].frames, sums.rare.values().sum())
    }

    #[test]
    fn a_port_counts_from_the_moment_it_is_in() {
        let mut ports = Ports::default();
        ports.join(7, "br0", counted(100, &[(DROP, 4)]));
        ports.add(7, &counted(130, &[(DROP, 6), (MALFORMED, 1)]));
        ports.add(7, &counted(130, &[(DROP, 6), (MALFORMED, 1)]));
        ports.add(8, &counted(1000, &[]));
        assert_eq!(sum(&ports, "br0"), (30, 3));
    }

    #[test]
    fn what_a_port_leaves_behind_stays() {
        let mut ports = Ports::default();
        ports.join(7, "br0", Counts::default());
        ports.join(8, "br0", Counts::default());
        ports.add(7, &counted(10, &[(MALFORMED, 2)]));
        // To another bridge.
        ports.join(7, "br1", counted(10, &[(MALFORMED, 2)]));
        ports.add(7, &counted(15, &[(MALFORMED, 2)]));
        assert_eq!((sum(&ports, "br0"), sum(&ports, "br1")), ((10, 2), (5, 0)));
        assert!(ports.is_in(7, "br1") && !ports.is_in(7, "br0"));
        // Out of any.
        ports.leave(7);
        ports.add(7, &counted(99, &[]));
        assert_eq!((sum(&ports, "br1"), ports.group_of(7)), ((5, 0), None));
    }

    #[test]
    fn drops_after_the_end_and_an_index_that_comes_again() {
        let mut ports = Ports::default();
        ports.join(7, "br0", Counts::default());
        ports.add(7, &counted(10, &[(DROP, 1), (MALFORMED, 2)]));
        ports.vanished(7);
        assert_eq!((ports.group_of(7), ports.is_in(7, "br0")), (Some("br0"), false));
        ports.add(7, &counted(0, &[(DROP, 3)]));
        assert_eq!(sum(&ports, "br0"), (10, 5));
        // The same device back from elsewhere: other counters of traffic, the same of drops.
        ports.join_anew(7, "br0");
        ports.add(7, &counted(4, &[(DROP, 3), (MALFORMED, 1)]));
        assert_eq!(sum(&ports, "br0"), (14, 6));
    }

    #[test]
    fn groups_are_forgotten_with_their_bridge() {
        let mut ports = Ports::default();
        ports.join(7, "br0", Counts::default());
        ports.vanished(7);
        ports.forget_groups(Duration::from_secs(60), &BTreeSet::new());
        assert_eq!(ports.groups().count(), 1, "not so soon");
        ports.forget_groups(Duration::ZERO, &BTreeSet::from(["br0"]));
        assert_eq!(ports.groups().count(), 1, "the bridge is there");
        ports.forget_groups(Duration::ZERO, &BTreeSet::new());
        assert_eq!((ports.groups().count(), ports.members().count()), (0, 0));
    }
}
