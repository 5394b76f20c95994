//! The probe at work: programs in the kernel, interfaces followed, counters turned into a [`Snapshot`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use probe_ebpf::{
    abi::{Direction, MalformedKey, Slot, Tally},
    classify::LinkKind,
    reason::{self, Severity},
};
use tracing::{info, warn};

use crate::{
    collect::{
        links::{Link, LinkEvent},
        snmp,
    },
    config::Config,
    kernel::{
        attach::{self, Attached},
        load::{Capacity, Loaded, load},
        read::{Counters, Maps, missed_runs},
        slots::{Place, Slots},
    },
    snapshot::{self, Attachment, Snapshot, Traffic},
};

/// How old the description of what hangs on an interface may become: it costs a few system calls for each.
const DESCRIBE_EVERY: Duration = Duration::from_secs(30);

/// How long counts of a vanished interface are shown: some scrapes long.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// An interface that is selected.
#[derive(Debug)]
struct Counted {
    place: Option<Place>,
    attached: Option<Attached>,
    described: Vec<Attachment>,
    described_at: Instant,
    /// Why a hook is not attached.
    refused: String,
    baseline: Baseline,
}

/// What the counters of a slot showed before its present owner came.
#[derive(Debug, Default)]
struct Baseline {
    traffic: [Traffic; 2],
    malformed: BTreeMap<(u8, u8), u64>,
}

/// Programs, maps, and the interfaces of this network namespace.
#[derive(Debug)]
pub struct Probe {
    config: Arc<Config>,
    // Before `loaded`: links are closed before the programs they hold.
    counted: BTreeMap<u32, Counted>,
    loaded: Loaded,
    maps: Maps,
    slots: Slots,
    links: BTreeMap<u32, Link>,
    /// Names of interfaces that are gone, and when they went: their counts are shown for a while.
    former: BTreeMap<u32, (String, Instant)>,
    /// When an interface index was first met in counters before the kernel had announced its name.
    nameless: BTreeMap<u32, Instant>,
    /// Segments sent by this namespace before the agent's start.
    sent_before: Option<u64>,
    collect_errors: BTreeMap<String, u64>,
    started: Instant,
}

impl Probe {
    /// Loads the programs and attaches the tracepoints; the `existing` interfaces follow with [`Self::apply`].
    ///
    /// # Errors
    /// If the kernel does not give what the main job needs.
    pub fn start(config: Arc<Config>, existing: usize) -> Result<Self> {
        let max_interfaces = config.interfaces_for(existing);
        let mut loaded = load(Capacity::for_interfaces(max_interfaces))?;
        let maps = Maps::take(&mut loaded.ebpf)?;
        Ok(Self {
            counted: BTreeMap::new(),
            maps,
            slots: Slots::new(max_interfaces),
            links: BTreeMap::new(),
            former: BTreeMap::new(),
            nameless: BTreeMap::new(),
            sent_before: snmp::read().ok().and_then(|snmp| sent_segments(&snmp)),
            collect_errors: BTreeMap::from([("snmp".to_owned(), 0), ("maps".to_owned(), 0), ("links".to_owned(), 0)]),
            started: Instant::now(),
            config,
            loaded,
        })
    }

    /// The object in the kernel, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut aya::Ebpf {
        &mut self.loaded.ebpf
    }

    /// Follows what happened to interfaces.
    pub fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Changed(link) => self.follow(link),
            LinkEvent::Removed(ifindex) => self.forget(ifindex),
            LinkEvent::Resync(links) => {
                let present: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
                let gone: Vec<u32> = self.links.keys().filter(|ifindex| !present.contains(ifindex)).copied().collect();
                gone.into_iter().for_each(|ifindex| self.forget(ifindex));
                links.into_iter().for_each(|link| self.follow(link));
            }
        }
    }

    /// Counts a failed read of a source.
    pub fn collect_error(&mut self, source: &str) {
        *self.collect_errors.entry(source.to_owned()).or_default() += 1;
    }

    fn follow(&mut self, link: Link) {
        let ifindex = link.ifindex;
        let selected = self.config.selection.selects(&link.name, link.is_loopback());
        match (selected, self.counted.get(&ifindex)) {
            (false, None) => {}
            (false, Some(_)) => self.detach(ifindex),
            (true, Some(counted)) if counted.attached.is_some() => {
                let place = counted.place;
                let changed = self.links.get(&ifindex).is_none_or(|known| slot_of(known, 0) != slot_of(&link, 0));
                if let (Some(place), true) = (place, changed)
                    && let Err(error) = self.maps.set_slot(place.line, slot_of(&link, place.slot))
                {
                    warn!("{}: {error:#}", link.name);
                }
            }
            (true, _) => self.attach(&link),
        }
        self.former.remove(&ifindex);
        self.nameless.remove(&ifindex);
        self.links.insert(ifindex, link);
    }

    fn forget(&mut self, ifindex: u32) {
        self.detach(ifindex);
        if let Some(link) = self.links.remove(&ifindex) {
            self.former.insert(ifindex, (link.name, Instant::now()));
        }
    }

    /// Tries again what was refused: counters come free, a device becomes ready.
    pub fn retry_refused(&mut self) {
        let refused = |(ifindex, counted): (&u32, &Counted)| {
            counted.attached.is_none().then(|| self.links.get(ifindex).cloned()).flatten()
        };
        let refused: Vec<Link> = self.counted.iter().filter_map(refused).collect();
        refused.iter().for_each(|link| self.attach(link));
    }

    fn attach(&mut self, link: &Link) {
        let mut counted = Counted {
            place: None,
            attached: None,
            described: Vec::new(),
            described_at: Instant::now(),
            refused: String::new(),
            baseline: Baseline::default(),
        };
        if let Err(error) = self.try_attach(link, &mut counted) {
            counted.refused = format!("{error:#}");
            if let Some(place) = counted.place.take() {
                self.vacate(place);
            }
            if self.counted.get(&link.ifindex).is_none_or(|before| before.refused != counted.refused) {
                warn!(interface = link.name, "not counted: {}", counted.refused);
            }
        } else {
            info!(interface = link.name, kind = link.kind, missing = counted.refused, "counted");
        }
        self.counted.insert(link.ifindex, counted);
    }

    fn try_attach(&mut self, link: &Link, counted: &mut Counted) -> Result<()> {
        let place = self.slots.take(link.ifindex, Instant::now())?;
        counted.place = Some(place);
        if place.reused {
            counted.baseline = self.baseline(place.slot)?;
        }
        self.maps.set_slot(place.line, slot_of(link, place.slot))?;
        let attached = attach::attach(&mut self.loaded.ebpf, &link.name, link.ifindex)?;
        counted.described = attached.describe(&link.name, &self.loaded.ebpf);
        counted.refused = attached.missing().to_owned();
        *self.loaded.features.entry("tcx".to_owned()).or_default() |= attached.is_tcx();
        counted.attached = Some(attached);
        Ok(())
    }

    fn detach(&mut self, ifindex: u32) {
        if let Some(Counted { place, attached, .. }) = self.counted.remove(&ifindex) {
            drop(attached);
            if let Some(place) = place {
                self.vacate(place);
            }
        }
    }

    fn vacate(&mut self, place: Place) {
        if let Err(error) = self.maps.set_slot(place.line, Slot::default()) {
            warn!("{error:#}");
        }
        self.slots.release(place, Instant::now());
    }

    fn baseline(&self, slot: u32) -> Result<Baseline> {
        let counters = self.maps.counters()?;
        let of_slot = |(key, frames): &(MalformedKey, u64)| {
            (u32::from(key.slot) == slot).then_some(((key.direction, key.reason), *frames))
        };
        Ok(Baseline {
            traffic: [self.traffic(slot, Direction::Ingress)?, self.traffic(slot, Direction::Egress)?],
            malformed: counters.malformed.iter().filter_map(of_slot).collect(),
        })
    }

    fn traffic(&self, slot: u32, direction: Direction) -> Result<Traffic> {
        let counters = self.maps.traffic(slot, direction)?;
        Ok(Traffic {
            frames: counters.frames,
            bytes: counters.bytes,
            other_frames: counters.other_frames,
            unseen_frames: counters.unseen_frames,
        })
    }

    /// Why not every selected interface is counted; `Ok` also where the kernel refused with a reason.
    ///
    /// # Errors
    /// Names an interface that is neither attached nor refused.
    pub fn readiness(&self) -> Result<(), String> {
        let undecided = |(ifindex, link): (&u32, &Link)| {
            let selected = self.config.selection.selects(&link.name, link.is_loopback());
            (selected && !self.counted.contains_key(ifindex)).then(|| link.name.clone())
        };
        match self.links.iter().find_map(undecided) {
            Some(name) => Err(format!("{name} is not attached yet")),
            None => Ok(()),
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let counters = self.maps.counters()?;
        let sent_segments = match snmp::read() {
            Ok(snmp) => sent_segments(&snmp).zip(self.sent_before).and_then(|(now, before)| now.checked_sub(before)),
            Err(_) => {
                self.collect_error("snmp");
                None
            }
        };
        self.describe_anew();
        let mut interfaces: Vec<_> = self
            .counted
            .iter()
            .filter_map(|(ifindex, counted)| Some((self.links.get(ifindex)?, counted)))
            .map(|(link, counted)| self.interface(link, counted, &counters))
            .collect::<Result<_>>()?;
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Snapshot {
            schema: snapshot::SCHEMA,
            time: jiff::Timestamp::now().to_string(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            interfaces,
            drops: self.drops(&counters),
            tcp: snapshot::Tcp { sent_segments, retransmitted: self.retransmitted(&counters) },
            probe: self.honesty(&counters),
        })
    }

    /// Asks the kernel again where our programs stand among others, which come and go unannounced.
    fn describe_anew(&mut self) {
        let now = Instant::now();
        for (ifindex, counted) in &mut self.counted {
            if let (Some(attached), Some(link)) = (&counted.attached, self.links.get(ifindex))
                && now.duration_since(counted.described_at) >= DESCRIBE_EVERY
            {
                counted.described = attached.describe(&link.name, &self.loaded.ebpf);
                counted.described_at = now;
            }
        }
    }

    fn interface(&self, link: &Link, counted: &Counted, counters: &Counters) -> Result<snapshot::Interface> {
        let name_of = |ifindex: Option<u32>| {
            ifindex.and_then(|ifindex| self.links.get(&ifindex)).map_or_else(String::new, |link| link.name.clone())
        };
        let traffic = |direction: Direction| -> Result<Traffic> {
            match counted.place {
                Some(place) => {
                    Ok(less(self.traffic(place.slot, direction)?, counted.baseline.traffic[direction as usize]))
                }
                None => Ok(Traffic::default()),
            }
        };
        let master = link.master.and_then(|ifindex| self.links.get(&ifindex));
        Ok(snapshot::Interface {
            name: link.name.clone(),
            ifindex: link.ifindex,
            kind: link.kind.clone(),
            role: link.role(master).to_owned(),
            master: name_of(link.master),
            lower: name_of(link.lower),
            driver: link.driver.clone(),
            alias: link.alias.clone(),
            up: link.up,
            link: link_kind_id(link.link_kind()).to_owned(),
            attached: counted.described.clone(),
            refused: counted.refused.clone(),
            ingress: traffic(Direction::Ingress)?,
            egress: traffic(Direction::Egress)?,
            malformed: counted.place.map_or_else(Vec::new, |place| malformed(place, &counted.baseline, counters)),
        })
    }

    fn drops(&self, counters: &Counters) -> Vec<snapshot::Drop> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, packets) in &counters.drops {
            let own = key.netns == self.loaded.netns;
            let Some(interface) = self.name_at(key.ifindex) else { continue };
            *sums.entry((own, interface, self.loaded.types.drop_reason(key.reason), key.family)).or_default() +=
                packets;
        }
        let drop = |((own, interface, reason, family), packets): ((bool, &str, String, u8), u64)| snapshot::Drop {
            netns: if own { "own" } else { "other" }.to_owned(),
            interface: interface.to_owned(),
            class: self.config.classes.of(&reason).id().to_owned(),
            reason,
            family: family_id(family).to_owned(),
            packets,
        };
        sums.into_iter().map(drop).collect()
    }

    /// The interface's name, `""` where the kernel knows no interface, `None` where its name has not been announced
    /// yet: such counts are shown with the name, so that no series falls.
    fn name_at(&self, ifindex: u32) -> Option<&str> {
        match ifindex {
            0 => Some(""),
            _ => match self.links.get(&ifindex) {
                Some(link) => Some(&link.name),
                None => self.former.get(&ifindex).map(|(name, _)| name.as_str()),
            },
        }
    }

    fn retransmitted(&self, counters: &Counters) -> Vec<snapshot::Retransmitted> {
        use probe_ebpf::abi::Retransmit;
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, segments) in &counters.retransmits {
            if let (Some(kind), Some(interface)) =
                (Retransmit::ALL.get(usize::from(key.kind)), self.name_at(key.ifindex))
            {
                *sums.entry((interface, kind.id())).or_default() += segments;
            }
        }
        let entry = |((interface, kind), segments)| snapshot::Retransmitted {
            interface: String::from(interface),
            kind: String::from(kind),
            segments,
        };
        sums.into_iter().map(entry).collect()
    }

    /// Gives up the counters of interfaces that vanished long ago, so that interfaces that come and go fill no map.
    ///
    /// # Errors
    /// If the maps cannot be read or written.
    pub fn forget_vanished(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = |since: &Instant| now.duration_since(*since) >= FORGET_AFTER;
        let counters = self.maps.counters()?;
        let indices = counters.drops.iter().map(|(key, _)| key.ifindex);
        let indices = indices.chain(counters.retransmits.iter().map(|(key, _)| key.ifindex));
        for ifindex in indices.filter(|ifindex| *ifindex != 0) {
            if !self.links.contains_key(&ifindex) && !self.former.contains_key(&ifindex) {
                self.nameless.entry(ifindex).or_insert(now);
            }
        }
        let former = self.former.iter().filter(|(_, (_, since))| due(since)).map(|(ifindex, _)| *ifindex);
        let nameless = self.nameless.iter().filter(|(_, since)| due(since)).map(|(ifindex, _)| *ifindex);
        let gone: BTreeSet<u32> = former.chain(nameless).collect();
        if !gone.is_empty() {
            self.maps.forget_interfaces(&counters, &gone)?;
            self.former.retain(|ifindex, _| !gone.contains(ifindex));
            self.nameless.retain(|ifindex, _| !gone.contains(ifindex));
        }
        Ok(())
    }

    fn honesty(&self, counters: &Counters) -> snapshot::Probe {
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
        snapshot::Probe {
            features: self.loaded.features.clone(),
            maps: vec![
                map("interfaces", self.slots.len(), capacity.interfaces),
                map("malformed", counters.malformed.len(), capacity.malformed),
                map("drops", counters.drops.len(), capacity.drops),
                map("retransmits", counters.retransmits.len(), capacity.retransmits),
            ],
            map_update_failed: Tally::FAILURES.iter().map(failed).collect(),
            program_missed: missed_runs(&self.loaded.ebpf, &self.loaded.programs),
            drop_members: tally(Tally::DropMembers),
            collect_errors: self.collect_errors.clone(),
        }
    }
}

fn sent_segments(snmp: &snmp::Snmp) -> Option<u64> {
    snmp.get("Tcp", "OutSegs").and_then(|segments| u64::try_from(segments).ok())
}

fn slot_of(link: &Link, slot: u32) -> Slot {
    Slot {
        ifindex: link.ifindex,
        slot,
        mtu_bytes: link.mtu_bytes,
        link_kind: link.link_kind() as u8,
        flags: link.flags(),
        pad: [0; 2],
    }
}

const fn link_kind_id(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Opaque => "opaque",
        LinkKind::Ethernet => "ethernet",
        LinkKind::Network => "network",
        LinkKind::NetworkIngress => "network_ingress",
    }
}

const fn family_id(family: u8) -> &'static str {
    match family {
        1 => "ipv4",
        2 => "ipv6",
        3 => "arp",
        _ => "other",
    }
}

fn less(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        frames: now.frames - before.frames,
        bytes: now.bytes - before.bytes,
        other_frames: now.other_frames - before.other_frames,
        unseen_frames: now.unseen_frames - before.unseen_frames,
    }
}

fn malformed(place: Place, baseline: &Baseline, counters: &Counters) -> Vec<snapshot::Malformed> {
    let entry = |(key, frames): &(MalformedKey, u64)| {
        if u32::from(key.slot) != place.slot {
            return None;
        }
        let reason = reason::Malformed::from_number(key.reason)?;
        let direction = Direction::ALL.get(usize::from(key.direction))?;
        let frames = frames - baseline.malformed.get(&(key.direction, key.reason)).copied().unwrap_or(0);
        (reason.severity() > Severity::Info && frames > 0).then(|| snapshot::Malformed {
            direction: direction.id().to_owned(),
            reason: reason.id().to_owned(),
            severity: reason.severity().id().to_owned(),
            scope: reason.scope().id().to_owned(),
            frames,
        })
    };
    let mut all: Vec<_> = counters.malformed.iter().filter_map(entry).collect();
    all.sort_by(|a, b| (&a.direction, &a.reason).cmp(&(&b.direction, &b.reason)));
    all
}
