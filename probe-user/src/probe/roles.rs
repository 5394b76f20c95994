//! Roles follow links and routes, and ports go in and out of their groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use probe_ebpf::abi::Direction;
use tracing::{info, warn};

use super::{
    Counted, FORGET_AFTER, Probe,
    coverage::Reading,
    ports::{Counts, Rare},
    show::less,
};
use crate::{
    collect::{device, links::Link},
    genetlink,
    kernel::{foreign, load::Loaded, read::Counters},
    snapshot::{self, State, Traffic},
    topology::{self, Role},
};

/// Between two looks for XDP programs of others; scrapes come as they like, and each waits for the kernel's RTNL lock.
const XDP_EVERY: Duration = Duration::from_millis(900);

/// What is counted rarely, by slot and by interface.
pub(super) struct ByKey {
    slots: BTreeMap<u32, Vec<(Rare, u64)>>,
    interfaces: BTreeMap<u32, BTreeMap<Rare, u64>>,
}

impl ByKey {
    /// Drops of other namespaces are left out: no interface of theirs is ours. So are those that have no name yet.
    pub(super) fn of(counters: &Counters, loaded: &Loaded) -> Self {
        let mut slots = BTreeMap::<_, Vec<_>>::new();
        let mut interfaces = BTreeMap::<_, BTreeMap<_, u64>>::new();
        let mut add = |ifindex, rare, count| *interfaces.entry(ifindex).or_default().entry(rare).or_default() += count;
        for (key, frames) in &counters.malformed {
            let rare = Rare::Malformed { direction: key.direction, reason: key.reason };
            slots.entry(u32::from(key.slot)).or_default().push((rare, *frames));
        }
        for (key, packets) in counters.drops.iter().filter(|(key, _)| key.netns == loaded.netns) {
            if let Some(reason) = loaded.reason(key) {
                add(key.ifindex, Rare::Drop { reason, family: key.family }, *packets);
            }
        }
        for (key, segments) in &counters.retransmits {
            add(key.ifindex, Rare::Retransmit { kind: key.kind }, *segments);
        }
        for (key, frames) in &counters.faults {
            add(key.ifindex, Rare::Fault { fault: key.fault }, *frames);
        }
        Self { slots, interfaces }
    }

    /// Malformed frames.
    pub(super) fn of_slot(&self, slot: u32) -> impl Iterator<Item = (Rare, u64)> {
        self.slots.get(&slot).into_iter().flatten().copied()
    }

    /// Drops, retransmits and faults.
    fn of_interface(&self, ifindex: u32) -> impl Iterator<Item = (Rare, u64)> {
        self.interfaces.get(&ifindex).into_iter().flatten().map(|(rare, count)| (*rare, *count))
    }
}

impl Counted {
    /// Malformed frames of its present owner.
    pub(super) fn malformed(&self, by_key: &ByKey) -> impl Iterator<Item = (Rare, u64)> {
        let found = self.place.into_iter().flat_map(|place| by_key.of_slot(place.slot));
        found.map(|(rare, frames)| (rare, frames - self.baseline.malformed.get(&rare).copied().unwrap_or(0)))
    }
}

impl Probe {
    /// Asks for routes again where it is time to.
    pub(super) fn follow_routes(&mut self) {
        if self.routes.is_due(Instant::now()) {
            self.settle();
        }
    }

    /// Gives every device its role, and brings ports where they belong.
    pub(super) fn settle(&mut self) {
        let roles = &self.config.roles;
        if self.routes.is_due(Instant::now())
            && let Err(error) = self.routes.ask(&topology::asked_for_routes(&self.links, roles))
        {
            warn!("roles may be old: {error:#}");
            self.collect_error("routes");
        }
        let places = topology::resolve(&self.links, self.routes.known(), &self.config.roles);
        for (ifindex, place) in &places {
            let before = self.places.get(ifindex).map_or(Role::Internal, |place| place.role);
            if let (true, Some(link)) =
                (before != place.role && [before, place.role].contains(&Role::Uplink), self.links.get(ifindex))
            {
                info!(interface = link.name, role = place.role.id(), "{}", place.reason);
            }
        }
        self.places = places;
        if let Err(error) = self.follow_connections() {
            warn!("connections are not followed as they should be: {error:#}");
            self.collect_error("maps");
        }
        if let Err(error) = self.move_ports() {
            warn!("ports are not in their groups: {error:#}");
            self.collect_error("maps");
        }
    }

    fn move_ports(&mut self) -> Result<()> {
        let moved = self.counted.keys().filter_map(|ifindex| {
            let bridge = self.bridge_of_port(*ifindex).map(|bridge| bridge.name.clone());
            let is_there = match &bridge {
                Some(bridge) => self.ports.is_in(*ifindex, bridge),
                None => self.ports.group_of(*ifindex).is_none(),
            };
            (!is_there).then_some((*ifindex, bridge))
        });
        let moved: Vec<_> = moved.collect();
        if !moved.is_empty() {
            let counters = self.counters()?;
            let by_key = ByKey::of(&counters, &self.loaded);
            for (ifindex, bridge) in moved {
                let is_new = self.counted.get(&ifindex).is_some_and(|counted| !counted.settled);
                match bridge {
                    Some(bridge) if is_new => self.ports.join_anew(ifindex, &bridge),
                    Some(bridge) => {
                        let counts = self.counts(ifindex, &by_key)?;
                        self.ports.add(ifindex, &counts);
                        self.ports.join(ifindex, &bridge, counts);
                    }
                    None => {
                        if !is_new {
                            self.ports.add(ifindex, &self.counts(ifindex, &by_key)?);
                        }
                        self.ports.leave(ifindex);
                    }
                }
            }
        }
        self.counted.values_mut().for_each(|counted| counted.settled = true);
        Ok(())
    }

    fn bridge_of_port(&self, ifindex: u32) -> Option<&Link> {
        self.places.get(&ifindex).filter(|place| place.role == Role::Port)?;
        self.links.get(&self.links.get(&ifindex)?.master?)
    }

    /// Takes the last counters of an interface whose links are closed.
    pub(super) fn part_from(&mut self, ifindex: u32) {
        if self.ports.group_of(ifindex).is_none() {
            return;
        }
        let counters = self.counters();
        match counters.and_then(|counters| self.counts(ifindex, &ByKey::of(&counters, &self.loaded))) {
            Ok(counts) => self.ports.add(ifindex, &counts),
            Err(error) => {
                warn!("the last counts of a port are lost: {error:#}");
                self.collect_error("maps");
            }
        }
        self.ports.vanished(ifindex);
    }

    /// Takes what is about to be deleted.
    pub(super) fn forget_ports(&mut self, gone: &BTreeSet<u32>, counters: &Counters) {
        let by_key = ByKey::of(counters, &self.loaded);
        for ifindex in gone {
            let rare = by_key.of_interface(*ifindex).collect();
            self.ports.add(*ifindex, &Counts { rare, ..Counts::default() });
            self.ports.leave(*ifindex);
        }
    }

    /// Forgets bridges that are gone, and names that they had.
    pub(super) fn forget_bridges(&mut self) {
        let bridges = self.links.values().map(|link| link.name.as_str()).collect();
        self.ports.forget_groups(FORGET_AFTER, &bridges);
    }

    /// Brings the groups up to what the interfaces of a snapshot show.
    pub(super) fn add_to_groups(&mut self, interfaces: &[snapshot::Interface], by_key: &ByKey) {
        let shown: BTreeMap<u32, [Traffic; 2]> =
            interfaces.iter().map(|interface| (interface.ifindex, [interface.ingress, interface.egress])).collect();
        let members: Vec<u32> = self.ports.members().collect();
        for ifindex in members {
            let malformed = self.counted.get(&ifindex).into_iter().flat_map(|counted| counted.malformed(by_key));
            let rare = malformed.chain(by_key.of_interface(ifindex)).collect();
            self.ports.add(ifindex, &Counts { traffic: shown.get(&ifindex).copied().unwrap_or_default(), rare });
        }
    }

    fn counts(&self, ifindex: u32, by_key: &ByKey) -> Result<Counts> {
        let Some(counted) = self.counted.get(&ifindex) else { return Ok(Counts::default()) };
        let rare = counted.malformed(by_key).chain(by_key.of_interface(ifindex)).collect();
        let traffic =
            [self.counted_traffic(counted, Direction::Ingress)?, self.counted_traffic(counted, Direction::Egress)?];
        Ok(Counts { traffic, rare })
    }

    /// Frames of its present owner.
    pub(super) fn counted_traffic(&self, counted: &Counted, direction: Direction) -> Result<Traffic> {
        counted.place.map_or(Ok(Traffic::default()), |place| {
            Ok(less(self.traffic(place.slot, direction)?, counted.baseline.traffic[direction as usize]))
        })
    }

    /// Reads what uplinks have counted themselves beside what their hooks show.
    pub(super) fn cover(&mut self, interfaces: &mut [snapshot::Interface]) {
        let is_uplink = |ifindex: &u32| self.places.get(ifindex).is_some_and(|place| place.role == Role::Uplink);
        let counts_now = self.state == State::Running;
        self.coverage.retain(|ifindex, _| counts_now && is_uplink(ifindex));
        if !counts_now {
            return;
        }
        for interface in interfaces.iter_mut().filter(|interface| interface.role == Role::Uplink.id()) {
            let counts = Direction::ALL.map(|direction| self.counts_wire_frames(interface.ifindex, direction));
            if counts == [false, false] {
                continue;
            }
            let now = Instant::now();
            let coverage = self.coverage.entry(interface.ifindex).or_default();
            if coverage.is_due(now) {
                match device::packets(interface.ifindex) {
                    Ok(device) => {
                        let hook = [interface.ingress.frames, interface.egress.frames];
                        coverage.add(Reading { at: now, hook, device });
                    }
                    Err(error) => {
                        warn!(interface = interface.name, "what the device has counted cannot be read: {error:#}");
                        *self.collect_errors.entry("device".to_owned()).or_default() += 1;
                    }
                }
            }
            let ratio = |direction| coverage.ratio(direction).filter(|_| counts[direction as usize]);
            interface.coverage =
                snapshot::Coverage { ingress: ratio(Direction::Ingress), egress: ratio(Direction::Egress) };
        }
    }

    /// Whether somebody else's XDP program is on an uplink, a track point, or what that bundles. A program that
    /// comes by a link of its own need not be announced. Where it cannot be read, what was seen last stays, and the failure is counted.
    pub(super) fn look_for_xdp(&mut self, interfaces: &mut [snapshot::Interface]) {
        let now = Instant::now();
        let is_due = self.xdp_asked.is_none_or(|asked| now.duration_since(asked) >= XDP_EVERY);
        let matters =
            |interface: &snapshot::Interface| interface.role == Role::Uplink.id() || !interface.track.is_empty();
        let points: BTreeSet<String> =
            interfaces.iter().filter(|interface| matters(interface)).map(|interface| interface.name.clone()).collect();
        let is_asked =
            |interface: &snapshot::Interface| points.contains(&interface.name) || points.contains(&interface.master);
        if is_due {
            self.xdp_asked = Some(now);
            let asked: Vec<u32> =
                interfaces.iter().filter(|interface| is_asked(interface)).map(|interface| interface.ifindex).collect();
            self.with_xdp.retain(|ifindex| asked.contains(ifindex));
            for ifindex in asked {
                match foreign::has_xdp_program(ifindex) {
                    Ok(true) => _ = self.with_xdp.insert(ifindex),
                    Ok(false) => _ = self.with_xdp.remove(&ifindex),
                    Err(error) if genetlink::is_still_there(&error) => self.collect_error("device"),
                    Err(_) => {}
                }
            }
        }
        for interface in interfaces {
            let is_ours = interface.attached.iter().any(|attachment| attachment.hook == "xdp");
            interface.device.foreign_xdp = !is_ours && self.with_xdp.contains(&interface.ifindex);
        }
    }

    /// A bond's counters are the sums of its slaves'.
    fn counts_wire_frames(&self, ifindex: u32, direction: Direction) -> bool {
        let Some(link) = self.links.get(&ifindex) else { return false };
        let by_driver = |link: &Link| device::counts_wire_frames(&link.driver, direction);
        let mut slaves = self.links.values().filter(|slave| slave.master == Some(ifindex)).peekable();
        by_driver(link) || (link.kind == "bond" && slaves.peek().is_some() && slaves.all(by_driver))
    }
}
