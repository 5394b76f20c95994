//! The kernel's numbers become a [`Snapshot`]: names for indices, reasons and classes; sums where names are equal.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use probe_ebpf::{
    abi::{Direction, Fault, INSIDE, NamespaceKey, Retransmit, Tally},
    reason::{self, Scope, Severity},
};

use clap::ValueEnum as _;

use super::{
    Counted, Probe,
    ports::{Group, Rare},
    roles::ByKey,
};
use crate::{
    classes::{Class, is_xdp_drop},
    collect::links::Link,
    kernel::{
        read::{Counters, missed_runs},
        reasons::Reason,
    },
    snapshot::{self, Snapshot, State, Traffic},
};

impl Probe {
    /// Reads everything.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let began = Instant::now();
        let counters = self.counters()?;
        let sent_segments = self.sent.segments().unwrap_or_else(|_| {
            self.collect_error("snmp");
            None
        });
        self.follow_routes();
        let by_key = ByKey::of(&counters, &self.loaded);
        let mut interfaces: Vec<_> = self
            .counted
            .iter()
            .filter_map(|(ifindex, counted)| Some((self.links.get(ifindex)?, counted)))
            .map(|(link, counted)| self.interface(link, counted, &by_key))
            .collect::<Result<_>>()?;
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        self.add_to_groups(&interfaces, &by_key);
        self.cover(&mut interfaces);
        self.read_witnesses();
        let port_groups = self.ports.groups().map(|(bridge, group)| self.port_group(bridge, group, &interfaces));
        let mut snapshot = Snapshot {
            schema: snapshot::SCHEMA,
            netns: self.loaded.netns,
            time: jiff::Timestamp::now().to_string(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            port_groups: port_groups.collect(),
            ports: self.config.ports.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
            state: self.state,
            interfaces,
            drop_sites: self.drop_sites(&counters),
            foreign_drops: self.foreign_drops(&counters),
            drops: self.drops(&counters),
            xdp_failed: self.xdp_failed(&counters),
            tcp: snapshot::Tcp {
                sent_segments,
                retransmitted: self.retransmitted(&counters),
                bad_checksums: self.bad_checksums(&counters),
            },
            probe: self.self_report(&counters),
            ..Snapshot::default()
        };
        self.witnesses.show(&self.links, &mut snapshot);
        self.look_for_xdp(&mut snapshot.interfaces);
        self.compare(&mut snapshot);
        self.show_connections(&mut snapshot)?;
        snapshot.probe.snapshot_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(snapshot)
    }

    /// Begins to count what others have counted before, and devices beside hooks.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn look_around(&mut self) -> Result<()> {
        self.snapshot().map(drop)
    }

    /// Reads what others have counted; nothing of it counts while the programs are to be still.
    pub(super) fn read_witnesses(&mut self) {
        let selected: Vec<&Link> = self.counted.keys().filter_map(|ifindex| self.links.get(ifindex)).collect();
        let failed = self.witnesses.read(&self.links, &selected, self.state == State::Running);
        failed.into_iter().for_each(|source| self.collect_error(source));
    }

    fn interface(&self, link: &Link, counted: &Counted, by_key: &ByKey) -> Result<snapshot::Interface> {
        let name_of = |ifindex: Option<u32>| {
            ifindex.and_then(|ifindex| self.links.get(&ifindex)).map_or_else(String::new, |link| link.name.clone())
        };
        let place = self.places.get(&link.ifindex).cloned().unwrap_or_default();
        Ok(snapshot::Interface {
            name: link.name.clone(),
            ifindex: link.ifindex,
            kind: link.kind.clone(),
            role: place.role.id().to_owned(),
            role_reason: place.reason,
            track: place.track,
            master: name_of(link.master),
            lower: name_of(link.lower),
            driver: link.driver.clone(),
            alias: link.alias.clone(),
            up: link.up,
            link: link.link_kind().id().to_owned(),
            attached: counted.described.clone(),
            refused: counted.refused.clone(),
            ingress: self.counted_traffic(counted, Direction::Ingress)?,
            egress: self.counted_traffic(counted, Direction::Egress)?,
            malformed: malformed(counted.malformed(by_key)),
            ..snapshot::Interface::default()
        })
    }

    fn port_group(&self, bridge: &str, group: &Group, interfaces: &[snapshot::Interface]) -> snapshot::PortGroup {
        let name = format!("{bridge}/ports");
        let mut attached = BTreeMap::new();
        for interface in interfaces.iter().filter(|interface| group.present.contains(&interface.ifindex)) {
            interface.attached.iter().for_each(|attachment| *attached.entry(attachment.clone()).or_default() += 1);
        }
        let (mut drops, mut retransmitted, mut xdp_failed) = (BTreeMap::<_, u64>::new(), Vec::new(), Vec::new());
        for (rare, count) in &group.sums.rare {
            match *rare {
                Rare::Malformed { .. } => {}
                Rare::Drop { reason, family } => {
                    let key = (self.shown(reason), family, is_xdp_drop(reason.function));
                    *drops.entry(key).or_default() += count;
                }
                Rare::Retransmit { kind } => {
                    let kind = Retransmit::ALL.get(usize::from(kind)).map_or("unknown", |kind| kind.id()).to_owned();
                    let interface = name.clone();
                    retransmitted.push(snapshot::Retransmitted { interface, kind, port: true, segments: *count });
                }
                Rare::Fault { fault } => {
                    if let Some(cause) = xdp_cause(fault) {
                        let (interface, cause) = (name.clone(), cause.to_owned());
                        xdp_failed.push(snapshot::XdpFailed { interface, cause, port: true, packets: *count });
                    }
                }
            }
        }
        let drop = |(((reason, class), family, xdp), packets): (((String, Class), u8, bool), u64)| snapshot::Drop {
            netns: "own".to_owned(),
            interface: name.clone(),
            reason,
            class: class.id().to_owned(),
            family: family_id(family).to_owned(),
            port: true,
            xdp,
            packets,
        };
        let [ingress, egress] = group.sums.traffic;
        snapshot::PortGroup {
            master: bridge.to_owned(),
            ports: group.present.len() as u64,
            attached: attached
                .into_iter()
                .map(|(attachment, ports)| snapshot::AttachedPorts { attachment, ports })
                .collect(),
            ingress,
            egress,
            malformed: malformed(group.sums.rare.iter().map(|(rare, frames)| (*rare, *frames))),
            drops: drops.into_iter().map(drop).collect(),
            retransmitted,
            xdp_failed,
            name,
        }
    }

    /// Name and class of a reason. Several can have both in common.
    pub(super) fn shown(&self, reason: Reason) -> (String, Class) {
        let name = self.loaded.types.reasons.name(reason);
        let class = self.config.classes.of(&name, reason.function);
        (name, class)
    }

    fn drops(&self, counters: &Counters) -> Vec<snapshot::Drop> {
        let (mut sums, mut shown) = (BTreeMap::<_, u64>::new(), BTreeMap::new());
        for (key, packets) in &counters.drops {
            let own = key.netns == self.loaded.netns;
            let (Some(interface), Some(reason)) = (self.name_at(key.ifindex), self.loaded.reason(key)) else {
                continue;
            };
            let shown = shown.entry(reason).or_insert_with(|| self.shown(reason)).clone();
            let port = own && self.ports.group_of(key.ifindex).is_some();
            let xdp = is_xdp_drop(reason.function);
            *sums.entry((own, interface, shown, key.family, (port, xdp))).or_default() += packets;
        }
        let drop = |((own, interface, (reason, class), family, (port, xdp)), packets)| snapshot::Drop {
            netns: netns_id(own),
            interface: String::from(interface),
            reason,
            class: Class::id(class).to_owned(),
            family: family_id(family).to_owned(),
            port,
            xdp,
            packets,
        };
        sums.into_iter().map(drop).collect()
    }

    /// Where in the kernel most is dropped.
    fn drop_sites(&mut self, counters: &Counters) -> Vec<snapshot::DropSite> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, packets) in &counters.drops {
            let Some(reason) = self.loaded.reason(key) else { continue };
            *sums.entry((key.netns == self.loaded.netns, key.ifindex, reason, key.location)).or_default() += packets;
        }
        let site = |((own, ifindex, reason, location), packets): ((bool, u32, Reason, u64), u64)| {
            let (reason, class) = self.shown(reason);
            let function = match self.loaded.symbols.resolve(location) {
                Some((function, offset)) => format!("{function}+{offset:#x}"),
                None => String::new(),
            };
            Some(snapshot::DropSite {
                netns: netns_id(own),
                interface: self.name_at(ifindex)?.to_owned(),
                class: class.id().to_owned(),
                reason,
                function,
                packets,
            })
        };
        most(sums, snapshot::DROP_SITES).into_iter().filter_map(site).collect()
    }

    /// In which other namespaces most is dropped.
    fn foreign_drops(&self, counters: &Counters) -> Vec<snapshot::ForeignDrop> {
        let reasons = &self.loaded.types.reasons;
        let drop = |((netns, reason), packets): ((u32, Reason), u64)| {
            let (reason, class) = self.shown(reason);
            snapshot::ForeignDrop { netns, class: class.id().to_owned(), reason, packets }
        };
        let named = |(key, packets): &(NamespaceKey, u64)| Some(((key.netns, reasons.of(key.reason, 0)?), *packets));
        most(counters.namespaces.iter().filter_map(named), snapshot::FOREIGN_DROPS).into_iter().map(drop).collect()
    }

    /// The interface's name, `""` where the kernel knows no interface, `None` where its name has not been announced
    /// yet: such counts are shown with the name, so that no series falls. Drops without a name of their reason wait likewise.
    pub(super) fn name_at(&self, ifindex: u32) -> Option<&str> {
        match ifindex {
            0 => Some(""),
            _ => match self.links.get(&ifindex) {
                Some(link) => Some(&link.name),
                None => self.former.get(&ifindex).map(|(name, _)| name.as_str()),
            },
        }
    }

    fn retransmitted(&self, counters: &Counters) -> Vec<snapshot::Retransmitted> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, segments) in &counters.retransmits {
            if let (Some(kind), Some(interface)) =
                (Retransmit::ALL.get(usize::from(key.kind)), self.name_at(key.ifindex))
            {
                let port = self.ports.group_of(key.ifindex).is_some();
                *sums.entry((interface, kind.id(), port)).or_default() += segments;
            }
        }
        let entry = |((interface, kind, port), segments)| snapshot::Retransmitted {
            interface: String::from(interface),
            kind: String::from(kind),
            port,
            segments,
        };
        sums.into_iter().map(entry).collect()
    }

    fn xdp_failed(&self, counters: &Counters) -> Vec<snapshot::XdpFailed> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, packets) in &counters.faults {
            if let (Some(cause), Some(interface)) = (xdp_cause(key.fault), self.name_at(key.ifindex)) {
                let port = self.ports.group_of(key.ifindex).is_some();
                *sums.entry((interface, cause, port)).or_default() += packets;
            }
        }
        let entry = |((interface, cause, port), packets): ((&str, &str, bool), u64)| snapshot::XdpFailed {
            interface: interface.to_owned(),
            cause: cause.to_owned(),
            port,
            packets,
        };
        sums.into_iter().map(entry).collect()
    }

    fn bad_checksums(&self, counters: &Counters) -> Vec<snapshot::BadChecksums> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, segments) in &counters.faults {
            if let (true, Some(interface)) = (key.fault == Fault::TcpBadChecksum as u8, self.name_at(key.ifindex)) {
                *sums.entry(interface).or_default() += segments;
            }
        }
        let entry =
            |(interface, segments): (&str, u64)| snapshot::BadChecksums { interface: interface.to_owned(), segments };
        sums.into_iter().map(entry).collect()
    }

    fn self_report(&self, counters: &Counters) -> snapshot::Probe {
        let tally = |tally: Tally| counters.tallies.get(tally as usize).copied().unwrap_or(0);
        let capacity = self.loaded.capacity;
        let map = |name: &str, entries: usize, capacity: u32| snapshot::Map {
            name: name.to_owned(),
            entries: entries as u64,
            capacity: u64::from(capacity),
        };
        let failed = |(which, map, cause): &(Tally, &str, &str)| snapshot::MapUpdateFailed {
            map: (*map).to_owned(),
            cause: (*cause).to_owned(),
            count: tally(*which),
        };
        let (places, most_places) = self.loaded.types.reasons.places();
        snapshot::Probe {
            features: self.loaded.features.clone(),
            maps: vec![
                map("interfaces", self.slots.len(), capacity.interfaces),
                map("malformed", counters.malformed.len(), capacity.malformed),
                map("drops", counters.drops.len(), capacity.drops),
                map("namespaces", counters.namespaces.len(), capacity.namespaces),
                map("retransmits", counters.retransmits.len(), capacity.retransmits),
                map("faults", counters.faults.len(), capacity.faults),
                map("functions", places, most_places as u32),
            ],
            map_update_failed: Tally::FAILURES.iter().map(failed).collect(),
            program_missed: missed_runs(&self.loaded.ebpf, &self.loaded.programs),
            drop_members: tally(Tally::DropMembers),
            uncounted_ms: u64::try_from(self.uncounted.as_millis()).unwrap_or(u64::MAX),
            events_suppressed: Tally::NOT_SHOWN.into_iter().map(tally).sum::<u64>() + self.nameless_events,
            drop_storm_packets: tally(Tally::StormSegments),
            drop_storm_waiting_packets: counters.waiting,
            snapshot_us: 0,
            flow_quality: BTreeMap::new(),
            evidence_lost: tally(Tally::EvidenceLost) + self.reservoir.lost(),
            collect_errors: self.collect_errors.clone(),
            web_config_current: None,
            privileges: self.privileges.clone(),
            memory: self.memory.clone(),
        }
    }
}

/// The greatest counts first, at most `bound`.
fn most<K: Ord>(counts: impl IntoIterator<Item = (K, u64)>, bound: usize) -> Vec<(K, u64)> {
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(key, count), (other_key, other)| other.cmp(count).then_with(|| key.cmp(other_key)));
    all.truncate(bound);
    all
}

fn netns_id(is_own: bool) -> String {
    if is_own { "own" } else { "other" }.to_owned()
}

/// The label of a fault that is one of XDP.
fn xdp_cause(fault: u8) -> Option<&'static str> {
    let fault = *Fault::ALL.get(usize::from(fault))?;
    (fault != Fault::TcpBadChecksum).then(|| fault.id())
}

const fn family_id(family: u8) -> &'static str {
    match family {
        1 => "ipv4",
        2 => "ipv6",
        3 => "arp",
        _ => "other",
    }
}

pub(super) fn less(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        frames: now.frames - before.frames,
        bytes: now.bytes - before.bytes,
        other_frames: now.other_frames - before.other_frames,
        unseen_frames: now.unseen_frames - before.unseen_frames,
        tcp_segments: now.tcp_segments - before.tcp_segments,
        control_frames: now.control_frames - before.control_frames,
    }
}

/// Of findings that are more than information, those that were seen.
fn malformed(counted: impl Iterator<Item = (Rare, u64)>) -> Vec<snapshot::Malformed> {
    let entry = |(rare, frames): (Rare, u64)| {
        let Rare::Malformed { direction, reason } = rare else { return None };
        let reason = reason::Malformed::from_number(reason)?;
        let scope = if direction & INSIDE == 0 { reason.scope() } else { Scope::Path };
        let direction = Direction::ALL.get(usize::from(direction & !INSIDE))?;
        (reason.severity() > Severity::Info && frames > 0).then(|| snapshot::Malformed {
            direction: direction.id().to_owned(),
            reason: reason.id().to_owned(),
            severity: reason.severity().id().to_owned(),
            scope: scope.id().to_owned(),
            frames,
        })
    };
    let mut all: Vec<_> = counted.filter_map(entry).collect();
    all.sort_by(|a, b| (&a.direction, &a.reason, &a.scope).cmp(&(&b.direction, &b.reason, &b.scope)));
    all
}
