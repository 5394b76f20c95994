//! What others than our programs have counted, from the agent's start on: devices, queueing disciplines, the stack, the
//! host. Each source is read by itself; one that fails keeps what it has shown, and is counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use tracing::warn;

use crate::{
    collect::{
        causes::{Cause, FIELDS, Key, Source, Way, is_filled, is_repeater},
        conntrack,
        counter::Counter,
        cpu, devlink,
        ethtool::{self, DriverCounters},
        links::Link,
        mib::ProtocolSums,
        neighbour, openvswitch,
        qdisc::QdiscSums,
        snmp,
        softnet::SoftnetSums,
        stats64::{self, Stats64},
    },
    genetlink,
    snapshot::{self, DeviceCounter, Host, Passed, Rings},
};

/// Between two questions about devices, queueing disciplines and to drivers, which all wait for the kernel's one lock of
/// its network configuration (RTNL); scrapes come as they like.
const DEVICES_EVERY: Duration = Duration::from_millis(900);
/// Longest round of questions to drivers, some of which ask their firmware: the rest is asked the next time.
const DRIVERS_ROUND: Duration = Duration::from_millis(5);
/// Between two questions for what hardly changes: generic netlink families, sizes of rings, offloads, traps.
const SETTINGS_EVERY: Duration = Duration::from_secs(30);

/// Everything that is read besides maps, links and routes.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    devices: BTreeMap<u32, Device>,
    /// Devices that were there before the agent, or were not selected at an earlier reading: what they have counted until
    /// they are selected is not the agent's.
    older: BTreeSet<u32>,
    qdiscs: QdiscSums,
    softnet: SoftnetSums,
    protocols: ProtocolSums,
    driver_counters: DriverCounters,
    stolen_ms: Option<Counter>,
    host: Host,
    families: BTreeMap<String, u16>,
    devices_asked: Option<Instant>,
    /// Where the next round of questions to drivers starts.
    drivers_from: u32,
    settings_asked: Option<Instant>,
    /// It has been read before: what is new from now on has counted nothing before.
    running: bool,
    /// Sources whose last reading failed.
    failing: BTreeSet<&'static str>,
}

/// One device.
#[derive(Debug, Default)]
struct Device {
    counters: BTreeMap<Key, (Source, Counter)>,
    evidence: BTreeMap<&'static str, Counter>,
    packets: Option<Passed>,
    /// `packets` are as old as this reading.
    is_fresh: bool,
    rings: Option<Rings>,
    offloads: Vec<String>,
    /// What it has counted before it was first read is left out.
    is_older: bool,
    /// Its driver has been asked.
    asked: bool,
    /// When it was asked for what hardly changes.
    settings_asked: Option<Instant>,
}

impl Witnesses {
    /// Reads every source for the `selected` of these interfaces. `counts` is whether what happened since the last time
    /// counts. Returns the sources that failed.
    pub(super) fn read(&mut self, links: &BTreeMap<u32, Link>, selected: &[&Link], counts: bool) -> Vec<&'static str> {
        let mut failed = Vec::new();
        let chosen: BTreeSet<u32> = selected.iter().map(|link| link.ifindex).collect();
        self.note_older(links, &chosen);
        let now = Instant::now();
        let (devices, settings) =
            (is_due(self.devices_asked, DEVICES_EVERY, now), is_due(self.settings_asked, SETTINGS_EVERY, now));
        if settings {
            let families = genetlink::families().map(|families| self.families = families);
            self.settings_asked = Some(now);
            self.judge("genetlink", families, &mut failed);
        }
        self.devices.values_mut().for_each(|device| device.is_fresh = false);
        if devices {
            self.devices_asked = Some(now);
            let all = stats64::all();
            let listed: BTreeSet<u32> = all.iter().flat_map(BTreeMap::keys).copied().collect();
            let taken = all.map(|all| self.take_devices(selected, &all, counts));
            self.judge("device", taken, &mut failed);
            let asked = self.ask_drivers(selected, &listed, now, counts);
            self.judge("ethtool", asked, &mut failed);
            let qdiscs = self.qdiscs.read(links, &chosen, counts);
            self.judge("qdisc", qdiscs, &mut failed);
        }
        let softnet = self.softnet.read(counts);
        self.judge("softnet", softnet, &mut failed);
        let snmp = snmp::read_with_ipv6().map(|snmp| self.protocols.add(&snmp, counts));
        self.judge("snmp", snmp.map_err(Into::into), &mut failed);
        let connections = self.read_connections(counts);
        self.judge("conntrack", connections, &mut failed);
        let neighbours = self.read_neighbours(counts);
        self.judge("neighbour", neighbours, &mut failed);
        let upcalls = self.read_upcalls(counts);
        self.judge("openvswitch", upcalls, &mut failed);
        if settings {
            let traps = self.read_traps();
            self.judge("devlink", traps, &mut failed);
        }
        let host = self.read_host(counts);
        self.judge("host", host, &mut failed);
        self.running = true;
        failed
    }

    /// The next reading is of all sources, however soon it comes.
    pub(super) const fn hurry(&mut self) {
        self.devices_asked = None;
    }

    /// Whether what the device has passed is of the last reading, and not of one before it.
    pub(super) fn is_fresh(&self, ifindex: u32) -> bool {
        self.devices.get(&ifindex).is_some_and(|device| device.is_fresh)
    }

    /// Warns of a source that fails, once until it works again.
    fn judge(&mut self, source: &'static str, outcome: Result<()>, failed: &mut Vec<&'static str>) {
        match outcome {
            Ok(()) => {
                self.failing.remove(source);
            }
            Err(error) => {
                failed.push(source);
                if self.failing.insert(source) {
                    warn!("{source} cannot be read, what it has shown stays: {error:#}");
                }
            }
        }
    }

    /// By what is announced, not by lists of counters, which miss a device when they are interrupted.
    fn note_older(&mut self, links: &BTreeMap<u32, Link>, selected: &BTreeSet<u32>) {
        self.devices.retain(|ifindex, _| selected.contains(ifindex));
        self.driver_counters.retain(|ifindex| selected.contains(&ifindex));
        self.older.retain(|ifindex| links.contains_key(ifindex));
        let is_older = |ifindex: &u32| !self.running || !selected.contains(ifindex);
        self.older.extend(links.keys().copied().filter(is_older));
    }

    fn take_devices(&mut self, links: &[&Link], all: &BTreeMap<u32, Stats64>, counts: bool) {
        for link in links.iter().filter(|link| !is_repeater(&link.kind)) {
            let Some(stats) = all.get(&link.ifindex) else { continue };
            let is_new = !self.devices.contains_key(&link.ifindex);
            let device = self.devices.entry(link.ifindex).or_default();
            if is_new {
                // A card has counted since the machine's start, whoever had it; others since they were made.
                device.is_older = self.older.contains(&link.ifindex) || link.has_parent_device;
            }
            device.take_stats(link, stats, is_new && device.is_older, counts);
        }
    }

    /// Asks the drivers of as many devices as there is time for; all of them the first time, before which nothing counts.
    /// Those that were not `listed` just now are gone, and drivers are asked by the device's name: for a name that nobody
    /// has the kernel tries to load a module `netdev-NAME` (`dev_load` in net/core/dev_ioctl.c), on the agent's account,
    /// which has `CAP_NET_ADMIN`.
    fn ask_drivers(&mut self, links: &[&Link], listed: &BTreeSet<u32>, now: Instant, counts: bool) -> Result<()> {
        let (started, mut first_error) = (Instant::now(), Ok(()));
        let split = links.partition_point(|link| link.ifindex < self.drivers_from);
        let (later, first) = links.split_at(split);
        self.drivers_from = 0;
        for link in first.iter().chain(later) {
            if self.running && started.elapsed() >= DRIVERS_ROUND {
                self.drivers_from = link.ifindex;
                break;
            }
            let device = self.devices.get_mut(&link.ifindex).filter(|_| listed.contains(&link.ifindex));
            let Some(device) = device else { continue };
            let from_now = device.asked || device.is_older;
            let mut read = || -> Result<()> {
                let own = self.driver_counters.read(link.ifindex, &link.name, &link.driver)?;
                device.take(Source::Driver, &own, from_now, counts);
                if let (true, Some(family)) = (link.has_parent_device, self.families.get("ethtool")) {
                    device.take(Source::Standard, &ethtool::counters(*family, link.ifindex)?, from_now, counts);
                    if is_due(device.settings_asked, SETTINGS_EVERY, now) {
                        device.settings_asked = Some(now);
                        device.rings = ethtool::rings(*family, link.ifindex)?;
                        device.offloads = ethtool::offloads(*family, link.ifindex)?;
                    }
                }
                Ok(())
            };
            if let Err(error) = read()
                // Gone meanwhile.
                && genetlink::is_still_there(&error)
            {
                first_error = first_error.and(Err(error));
            }
            device.asked = true;
        }
        first_error
    }

    fn read_connections(&mut self, counts: bool) -> Result<()> {
        self.host.conntrack = conntrack::occupancy();
        let connections = conntrack::read()?;
        self.is_there("conntrack", connections.is_some());
        for (cause, count) in connections.into_iter().flatten() {
            self.protocols.add_one(("conntrack", cause), count, counts);
        }
        Ok(())
    }

    fn read_neighbours(&mut self, counts: bool) -> Result<()> {
        let neighbours = neighbour::read()?;
        self.is_there("neighbour_tables", !neighbours.is_empty());
        for (protocol, cause, count) in neighbours {
            self.protocols.add_one((protocol, cause), count, counts);
        }
        Ok(())
    }

    fn read_upcalls(&mut self, counts: bool) -> Result<()> {
        let datapath = self.families.get(openvswitch::FAMILY).copied();
        self.is_there("openvswitch", datapath.is_some());
        if let Some(lost) = datapath.map_or(Ok(None), openvswitch::lost)? {
            self.protocols.add_one(("openvswitch", "upcall_lost"), lost, counts);
        }
        Ok(())
    }

    fn read_traps(&mut self) -> Result<()> {
        let devlink = self.families.get(devlink::FAMILY).copied();
        self.is_there("devlink_traps", devlink.is_some());
        if let Some(family) = devlink {
            self.host.devlink_traps = devlink::traps(family)?;
        }
        Ok(())
    }

    fn read_host(&mut self, counts: bool) -> Result<()> {
        self.host.congestion_marked_packets = self.protocols.congestion_marks();
        if let Some(stolen) = cpu::stolen_ms()? {
            add(self.stolen_ms.get_or_insert(Counter::after(stolen)), stolen, counts);
        }
        self.host.cpu_steal_ms = self.stolen_ms.map(Counter::total);
        Ok(())
    }

    fn is_there(&mut self, source: &str, is_there: bool) {
        let missing = &mut self.host.not_observable;
        missing.retain(|known| known != source);
        missing.extend(Some(source.to_owned()).filter(|_| !is_there));
    }

    /// Puts what is known into a snapshot.
    pub(super) fn show(&self, links: &BTreeMap<u32, Link>, snapshot: &mut snapshot::Snapshot) {
        for interface in &mut snapshot.interfaces {
            if let (Some(device), Some(link)) = (self.devices.get(&interface.ifindex), links.get(&interface.ifindex)) {
                interface.device = device.shown(link);
            }
            interface.qdiscs = self.qdiscs.shown(interface.ifindex);
        }
        snapshot.softnet = self.softnet.shown();
        snapshot.protocols = self.protocols.shown();
        snapshot.host = self.host.clone();
        snapshot.host.not_observable.sort_unstable();
    }
}

impl Device {
    fn take_stats(&mut self, link: &Link, stats: &Stats64, from_now: bool, counts: bool) {
        let [ingress, egress] = stats.packets();
        self.packets = Some(Passed { ingress, egress });
        self.is_fresh = true;
        for (key, count) in stats.lost() {
            let source = if is_filled(&link.driver, key) { Source::Stats64 } else { Source::Unknown };
            // Of a driver of which nothing is known a zero says nothing.
            if source == Source::Stats64 || count > 0 {
                self.take_one(key, source, count, from_now, counts);
            }
        }
    }

    fn take(&mut self, source: Source, counted: &ethtool::Counters, from_now: bool, counts: bool) {
        for (key, count) in &counted.lost {
            self.take_one(*key, source, *count, from_now, counts);
        }
        for (name, count) in &counted.evidence {
            let before = if from_now { *count } else { 0 };
            add(self.evidence.entry(name).or_insert(Counter::after(before)), *count, counts);
        }
    }

    /// The first source that tells of a cause keeps it, unless a better one comes with the first reading.
    fn take_one(&mut self, key: Key, source: Source, count: u64, from_now: bool, counts: bool) {
        let before = if from_now { count } else { 0 };
        let (chosen, counter) = self.counters.entry(key).or_insert((source, Counter::after(before)));
        if source < *chosen && !self.asked {
            (*chosen, *counter) = (source, Counter::after(before));
        }
        if source == *chosen {
            add(counter, count, counts);
        }
    }

    fn shown(&self, link: &Link) -> snapshot::Device {
        let counter = |(key, (source, counter)): (&Key, &(Source, Counter))| DeviceCounter {
            direction: key.0.id().to_owned(),
            cause: key.1.id().to_owned(),
            kind: if key.1.is_drop() { "dropped" } else { "error" }.to_owned(),
            class: key.1.class().to_owned(),
            source: source.id().to_owned(),
            packets: counter.total(),
        };
        let name = |(way, cause): &Key| format!("{}/{}", way.id(), cause.id());
        let evidence = |(name, counter): (&&str, &Counter)| ((*name).to_owned(), counter.total());
        snapshot::Device {
            counters: self.counters.iter().map(counter).collect(),
            not_observable: causes_of(link)
                .filter(|key| !self.counters.contains_key(key))
                .map(|key| name(&key))
                .collect(),
            evidence: self.evidence.iter().map(evidence).collect(),
            packets: self.packets,
            rings: self.rings,
            offloads: self.offloads.clone(),
            // Asked elsewhere.
            foreign_xdp: false,
            carrier: link.carrier,
            carrier_changes: link.carrier_changes.map(u64::from),
        }
    }
}

fn is_due(asked: Option<Instant>, every: Duration, now: Instant) -> bool {
    asked.is_none_or(|asked| now.duration_since(asked) >= every)
}

/// Why a device like this could lose packets: one of the kernel's own making has no cable and no ring.
fn causes_of(link: &Link) -> impl Iterator<Item = Key> {
    let own = [(Way::Ingress, Cause::NoBuffer), (Way::Ingress, Cause::XdpDrop)];
    let hardware = FIELDS.iter().map(|(_, key)| *key).filter(|_| link.has_parent_device);
    own.into_iter().chain(hardware)
}

const fn add(counter: &mut Counter, count: u64, counts: bool) {
    if counts { counter.add(count) } else { counter.skip(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSED: Key = (Way::Ingress, Cause::Missed);

    fn shown(device: &Device, link: &Link) -> Vec<(String, String, u64)> {
        let counters = device.shown(link).counters.into_iter();
        counters.map(|counter| (counter.cause, counter.source, counter.packets)).collect()
    }

    #[test]
    fn one_source_for_a_cause() {
        let link = Link { has_parent_device: true, ..Link::default() };
        let driver = |count| ethtool::Counters { lost: [(MISSED, count)].into(), ..ethtool::Counters::default() };
        for (name, known, expected) in [
            ("a driver that fills the field in", Source::Stats64, ("stats64", 5)),
            ("an unknown one: its own string is better", Source::Unknown, ("ethtool_driver", 30)),
        ] {
            let mut device = Device::default();
            for (stats, string) in [(100, 1000), (105, 1030)] {
                device.take_one(MISSED, known, stats, true, true);
                device.take(Source::Driver, &driver(string), true, true);
                device.asked = true;
            }
            let (source, packets) = expected;
            assert_eq!(shown(&device, &link), [("missed".into(), source.into(), packets)], "{name}");
        }
    }

    #[test]
    fn what_is_not_observable_is_no_zero() {
        let link = Link { has_parent_device: true, driver: "new_net".into(), ..Link::default() };
        let mut device = Device::default();
        let names = |device: &Device| device.shown(&link).not_observable;
        assert!(names(&device).contains(&"ingress/missed".to_owned()));
        device.take_one(MISSED, Source::Unknown, 3, false, true);
        assert!(!names(&device).contains(&"ingress/missed".to_owned()), "it has shown something");
        assert_eq!(shown(&device, &link), [("missed".into(), "stats64".into(), 3)]);
        let veth = Link { driver: "veth".into(), ..Link::default() };
        assert_eq!(Device::default().shown(&veth).not_observable, ["ingress/no_buffer", "ingress/xdp_drop"]);
    }

    /// A reading of the devices: (index, missed packets) of all, the last names what is selected of what is announced.
    fn read(witnesses: &mut Witnesses, listed: &[(u32, u64)], announced: &[u32], selected: &[u32]) {
        let link = |ifindex: &u32| Link { ifindex: *ifindex, driver: "veth".into(), ..Link::default() };
        let links: BTreeMap<u32, Link> = announced.iter().map(|ifindex| (*ifindex, link(ifindex))).collect();
        let chosen: Vec<&Link> = selected.iter().map(|ifindex| &links[ifindex]).collect();
        let stats = |(ifindex, missed): &(u32, u64)| {
            let mut fields = [0; 25];
            fields[15] = *missed;
            (*ifindex, Stats64::parse(&fields.map(u64::to_ne_bytes).concat()))
        };
        witnesses.note_older(&links, &selected.iter().copied().collect());
        witnesses.take_devices(&chosen, &listed.iter().map(stats).collect(), true);
        witnesses.running = true;
    }

    #[test]
    fn what_is_older_than_its_selection_starts_from_now() {
        type Reading = (&'static [(u32, u64)], &'static [u32], &'static [u32]);
        let rows: [(&str, &[Reading], u64); 6] = [
            ("there at the start", &[(&[(7, 50)], &[7], &[7]), (&[(7, 53)], &[7], &[7])], 3),
            ("made later", &[(&[], &[], &[]), (&[(7, 50)], &[7], &[7]), (&[(7, 53)], &[7], &[7])], 53),
            (
                "there at the start, selected later",
                &[(&[(7, 50)], &[7], &[]), (&[(7, 60)], &[7], &[7]), (&[(7, 63)], &[7], &[7])],
                3,
            ),
            (
                "made later, selected later still",
                &[(&[], &[], &[]), (&[(7, 50)], &[7], &[]), (&[(7, 60)], &[7], &[7]), (&[(7, 63)], &[7], &[7])],
                3,
            ),
            (
                "there at the start, and missing from an interrupted list",
                &[(&[], &[7], &[7]), (&[(7, 60)], &[7], &[7]), (&[(7, 63)], &[7], &[7])],
                3,
            ),
            (
                "listed before it was announced",
                &[(&[], &[], &[]), (&[(7, 50)], &[], &[]), (&[(7, 53)], &[7], &[7])],
                53,
            ),
        ];
        for (name, readings, expected) in rows {
            let mut witnesses = Witnesses::default();
            for (listed, announced, selected) in readings {
                read(&mut witnesses, listed, announced, selected);
            }
            assert_eq!(witnesses.devices[&7].counters[&MISSED].1.total(), expected, "{name}");
            read(&mut witnesses, &[], &[], &[]);
            assert!(witnesses.older.is_empty(), "bounded by what is there");
        }
    }

    #[test]
    fn drivers_of_vanished_devices_are_not_asked() {
        let mut witnesses = Witnesses::default();
        read(&mut witnesses, &[(7, 0), (8, 0)], &[7, 8], &[7, 8]);
        let link = |ifindex: u32| Link {
            ifindex,
            name: format!("no-such-{ifindex}"),
            driver: "veth".into(),
            ..Link::default()
        };
        let links = [link(7), link(8)];
        witnesses.ask_drivers(&links.each_ref(), &[8].into(), Instant::now(), true).unwrap();
        let asked = |device: &Device| device.asked;
        assert_eq!(witnesses.devices.values().map(asked).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn many_scrapes_are_one_question() {
        let loopback = crate::collect::links::list().unwrap().into_iter().find(Link::is_loopback).unwrap();
        let links = BTreeMap::from([(loopback.ifindex, loopback)]);
        let mut witnesses = Witnesses::default();
        let mut fresh = |hurry: bool| {
            if hurry {
                witnesses.hurry();
            }
            assert_eq!(witnesses.read(&links, &[&links[&1]], true), Vec::<&str>::new());
            let is_fresh = witnesses.is_fresh(1);
            // As if the next scrape came so soon.
            witnesses.devices_asked = Some(Instant::now());
            is_fresh
        };
        assert_eq!([fresh(false), fresh(false), fresh(true), fresh(false)], [true, false, true, false]);
        witnesses.devices_asked = Instant::now().checked_sub(DEVICES_EVERY);
        witnesses.read(&links, &[&links[&1]], true);
        assert!(witnesses.is_fresh(1));
    }

    /// No family has the last number, so the kernel refuses; the other sources are not to blame.
    #[test]
    fn a_failure_is_its_own_sources() {
        let mut witnesses = Witnesses {
            families: [openvswitch::FAMILY, devlink::FAMILY].map(|name| (name.to_owned(), u16::MAX)).into(),
            settings_asked: Some(Instant::now()),
            ..Witnesses::default()
        };
        let mut failed = witnesses.read(&BTreeMap::new(), &[], true);
        let traps = witnesses.read_traps();
        witnesses.judge("devlink", traps, &mut failed);
        assert_eq!(failed, ["openvswitch", "devlink"]);
        assert!(failed.iter().all(|source| super::super::SOURCES.contains(source)), "each has its series");
    }

    #[test]
    fn the_running_kernel() {
        let loopback = crate::collect::links::list().unwrap().into_iter().find(Link::is_loopback).unwrap();
        let mut witnesses = Witnesses::default();
        let links = BTreeMap::from([(loopback.ifindex, loopback)]);
        assert_eq!(witnesses.read(&links, &[&links[&1]], true), Vec::<&str>::new());
        let mut snapshot = snapshot::Snapshot {
            interfaces: vec![snapshot::Interface { ifindex: 1, ..snapshot::Interface::default() }],
            ..snapshot::Snapshot::default()
        };
        witnesses.show(&links, &mut snapshot);
        assert!(snapshot.softnet.is_some() && !snapshot.protocols.is_empty());
        let device = &snapshot.interfaces[0].device;
        assert!(device.packets.is_some() && device.counters.iter().all(|counter| counter.packets == 0), "{device:?}");
    }
}
