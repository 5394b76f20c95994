//! The probe at work: programs in the kernel, interfaces followed, counters turned into a
//! [`Snapshot`](crate::snapshot::Snapshot).

mod balance;
mod coverage;
mod damaged;
mod events;
mod evidence;
mod flows;
mod hooks;
pub mod peers;
mod ports;
mod roles;
mod sent;
mod show;
mod wire;
mod witnesses;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use probe_ebpf::abi::{Direction, INERT_AFTER_SECONDS, INSIDE, NamespaceKey, Slot};
use tracing::{info, warn};

use self::{
    balance::Balance,
    coverage::Coverage,
    damaged::Claims,
    ports::{Ports, Rare},
    roles::ByKey,
    sent::Sent,
    wire::{Track, Tracks},
    witnesses::Witnesses,
};
use crate::{
    collect::{
        links::{Link, LinkEvent},
        routes::Routes,
    },
    config::Config,
    kernel::{
        attach::Attached,
        descriptors,
        events::Events,
        evidence::Ring,
        leftovers::Marker,
        load::{Loaded, load},
        memory, privilege,
        read::{Counters, Maps},
        slots::{Place, Slots},
        xdp,
    },
    record::evidence::Reservoir,
    snapshot::{Attachment, Memory, Privileges, State, Traffic},
    topology,
};

/// How long counts of a vanished interface are shown: some scrapes long.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// What is read besides, as in the label `source`.
const SOURCES: [&str; 14] = [
    "conntrack",
    "device",
    "devlink",
    "ethtool",
    "genetlink",
    "host",
    "links",
    "maps",
    "neighbour",
    "openvswitch",
    "qdisc",
    "routes",
    "snmp",
    "softnet",
];

/// An interface that is selected.
#[derive(Debug)]
struct Counted {
    place: Option<Place>,
    /// `None` also while the agent is detached.
    attached: Option<Attached>,
    described: Vec<Attachment>,
    /// Somebody has taken a program off, and it is to be put back.
    lost: bool,
    /// Why a hook is not attached.
    refused: String,
    /// Native XDP was taken back, once and for all.
    no_xdp: bool,
    baseline: Baseline,
    /// It has been asked whether it is a port.
    settled: bool,
    /// Its connections are, or were, followed.
    track: Option<Track>,
    /// Its line in the kernel's table, as it was last written.
    line: Slot,
}

/// What the counters of a slot showed before its present owner came.
#[derive(Debug, Default)]
struct Baseline {
    traffic: [Traffic; 2],
    malformed: BTreeMap<Rare, u64>,
}

impl Baseline {
    /// Malformed frames that had come in.
    fn malformed_that_came(&self) -> u64 {
        let came = |rare: &Rare| matches!(rare, Rare::Malformed { direction, .. } if direction & !INSIDE == Direction::Ingress as u8);
        self.malformed.iter().filter(|(rare, _)| came(rare)).map(|(_, frames)| frames).sum()
    }
}

/// Programs, maps, and the interfaces of this network namespace.
#[derive(Debug)]
pub struct Probe {
    config: Arc<Config>,
    // Before `loaded`: links are closed before the programs they hold.
    counted: BTreeMap<u32, Counted>,
    loaded: Loaded,
    maps: Maps,
    /// Examples of what is counted, for whoever watches.
    events: Events,
    /// Malformed frames.
    ring: Ring,
    reservoir: Reservoir,
    claims: Claims,
    slots: Slots,
    tracks: Tracks,
    links: BTreeMap<u32, Link>,
    routes: Routes,
    /// The part of every device in this node.
    places: BTreeMap<u32, topology::Place>,
    ports: Ports,
    /// Of uplinks whose driver counts wire frames.
    coverage: BTreeMap<u32, Coverage>,
    /// Of devices whose driver counts wire frames.
    balances: BTreeMap<u32, Balance>,
    /// Interfaces with an XDP program, of those whose losses are judged.
    with_xdp: BTreeSet<u32>,
    xdp_asked: Option<Instant>,
    /// Names of interfaces that are gone, and when they went: their counts are shown for a while.
    former: BTreeMap<u32, (String, Instant)>,
    /// When an interface index was first met in counters before the kernel had announced its name.
    nameless: BTreeMap<u32, Instant>,
    /// Examples of drops whose reason was still being looked for: they are shown to nobody.
    nameless_events: u64,
    /// Drops of other namespaces: how many there were at the last look, and since when there are no more.
    idle: BTreeMap<NamespaceKey, (u64, Instant)>,
    /// Segments sent by this namespace.
    sent: Sent,
    witnesses: Witnesses,
    /// When the programs were last told that somebody reads what they count.
    last_beat: Instant,
    /// Time in which they were not, and counted nothing.
    uncounted: Duration,
    collect_errors: BTreeMap<String, u64>,
    privileges: Privileges,
    memory: Memory,
    /// How many this process may have, see [`descriptors`].
    open_files: u64,
    started: Instant,
    state: State,
    /// How often somebody else has taken programs off an interface.
    taken_off: BTreeMap<u32, u32>,
    /// Where the next round of [`Self::verify`] starts.
    verify_from: u32,
    /// After `counted`: it lives longer than what it stands for.
    _marker: Marker,
}

impl Probe {
    /// Loads the programs and attaches the tracepoints; the `existing` interfaces follow with [`Self::apply`].
    ///
    /// # Errors
    /// If the kernel does not give what the main job needs.
    pub fn start(config: Arc<Config>, existing: usize) -> Result<Self> {
        let capacity = config.capacity(existing);
        let memory = memory::check(capacity)?;
        let mut loaded = load(capacity)?;
        let maps = Maps::take(&mut loaded.ebpf)?;
        let events = Events::take(&mut loaded.ebpf)?;
        let ring = Ring::take(&mut loaded.ebpf)?;
        if config.xdp_is_asked_for() {
            let loaded_xdp = xdp::load(&mut loaded.ebpf);
            if let Err(error) = &loaded_xdp {
                warn!("no native XDP: {error:#}");
            }
            loaded.features.insert("xdp".to_owned(), loaded_xdp.is_ok());
        }
        // Interfaces are attached to with what is left, now as later.
        let privileges = privilege::confine(&mut loaded.features)?;
        let marker = Marker::set(&mut loaded.ebpf)?;
        hooks::remove_leftovers();
        Ok(Self {
            privileges,
            memory,
            open_files: descriptors::allowed(),
            counted: BTreeMap::new(),
            maps,
            events,
            ring,
            reservoir: Reservoir::default(),
            claims: Claims::default(),
            slots: Slots::new(capacity.interfaces),
            tracks: Tracks::new(capacity.tracks),
            links: BTreeMap::new(),
            routes: Routes::default(),
            places: BTreeMap::new(),
            ports: Ports::default(),
            coverage: BTreeMap::new(),
            balances: BTreeMap::new(),
            with_xdp: BTreeSet::new(),
            xdp_asked: None,
            former: BTreeMap::new(),
            nameless: BTreeMap::new(),
            nameless_events: 0,
            idle: BTreeMap::new(),
            sent: Sent::from_now(),
            witnesses: Witnesses::default(),
            last_beat: Instant::now(),
            uncounted: Duration::ZERO,
            collect_errors: SOURCES.map(|source| (source.to_owned(), 0)).into(),
            started: Instant::now(),
            state: State::Running,
            taken_off: BTreeMap::new(),
            verify_from: 0,
            _marker: marker,
            config,
            loaded,
        })
    }

    /// The object in the kernel, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut aya::Ebpf {
        &mut self.loaded.ebpf
    }

    /// What it has been told to do.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Tells the programs that somebody reads what they count, unless they are to be still. Without it they do nothing
    /// after 10 s.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn beat(&mut self) -> Result<()> {
        let now = Instant::now();
        let silent = now.duration_since(std::mem::replace(&mut self.last_beat, now));
        if self.state != State::Running {
            return Ok(());
        }
        if let Some(uncounted) = silent.checked_sub(Duration::from_secs(INERT_AFTER_SECONDS)) {
            warn!("this process stood still for {silent:.1?}; for the last {uncounted:.1?} of it nothing was counted");
            self.uncounted += uncounted;
            self.coverage.clear();
            self.balances.clear();
        }
        self.loaded.beat()
    }

    /// Follows what happened to interfaces.
    pub fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Changed(link) => self.follow(link),
            LinkEvent::Removed(ifindex) => self.forget(ifindex),
            LinkEvent::Resync(mut links) => {
                // Who comes first has the room, and older kernels list the latest first.
                links.sort_by_key(|link| link.ifindex);
                let present: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
                let gone: Vec<u32> = self.links.keys().filter(|ifindex| !present.contains(ifindex)).copied().collect();
                gone.into_iter().for_each(|ifindex| self.forget(ifindex));
                links.into_iter().for_each(|link| self.follow(link));
            }
        }
        self.routes.link_changed();
        self.settle();
    }

    /// Counts a failed read of a source.
    pub fn collect_error(&mut self, source: &str) {
        *self.collect_errors.entry(source.to_owned()).or_default() += 1;
    }

    fn follow(&mut self, link: Link) {
        let ifindex = link.ifindex;
        if !self.links.contains_key(&ifindex)
            && let Err(error) = self.make_room_for(&link)
        {
            warn!("{}: counts of an interface of this name or number that is gone stay: {error:#}", link.name);
        }
        let selected = self.config.selection.selects(&link.name, link.is_loopback());
        match (selected, self.counted.get(&ifindex)) {
            (false, None) => {}
            (false, Some(_)) => self.detach(ifindex),
            // Its line is written when roles have settled.
            (true, Some(counted)) if counted.place.is_some() => {}
            (true, _) => self.attach(&link),
        }
        self.links.insert(ifindex, link);
    }

    fn forget(&mut self, ifindex: u32) {
        self.detach(ifindex);
        self.taken_off.remove(&ifindex);
        if let Some(link) = self.links.remove(&ifindex) {
            self.former.insert(ifindex, (link.name, Instant::now()));
        }
    }

    /// Tries again what was refused: counters come free, a device becomes ready.
    pub fn retry_refused(&mut self) {
        let refused = |(ifindex, counted): (&u32, &Counted)| {
            counted.place.is_none().then(|| self.links.get(ifindex).cloned()).flatten()
        };
        let refused: Vec<Link> = self.counted.iter().filter_map(refused).collect();
        refused.iter().for_each(|link| self.attach(link));
    }

    fn attach(&mut self, link: &Link) {
        let mut counted = Counted {
            place: None,
            attached: None,
            described: Vec::new(),
            lost: false,
            refused: String::new(),
            no_xdp: self.counted.get(&link.ifindex).is_some_and(|before| before.no_xdp),
            baseline: Baseline::default(),
            settled: self.counted.get(&link.ifindex).is_some_and(|before| before.settled),
            track: None,
            line: Slot::default(),
        };
        if let Err(error) = self.try_attach(link, &mut counted) {
            counted.refused = format!("{error:#}");
            // Half attached it would count what nobody reads.
            counted.attached = None;
            if let Some(place) = counted.place.take() {
                self.vacate(place);
            }
            if self.counted.get(&link.ifindex).is_none_or(|before| before.refused != counted.refused) {
                warn!(interface = link.name, "not counted: {}", counted.refused);
            }
        } else if counted.refused.is_empty() {
            info!(interface = link.name, kind = link.kind, "counted");
        } else {
            warn!(interface = link.name, kind = link.kind, "counted, but: {}", counted.refused);
        }
        self.counted.insert(link.ifindex, counted);
    }

    fn try_attach(&mut self, link: &Link, counted: &mut Counted) -> Result<()> {
        let place = self.slots.take(link.ifindex, Instant::now())?;
        counted.place = Some(place);
        if place.reused {
            counted.baseline = self.baseline(place.slot)?;
            self.maps.forget_senders(place.slot)?;
        }
        counted.line = self.line(counted, link, place.slot);
        self.maps.set_slot(place.line, counted.line)?;
        if self.state == State::Detached { Ok(()) } else { self.hang(link, counted) }
    }

    fn detach(&mut self, ifindex: u32) {
        if let Some(counted) = self.counted.get_mut(&ifindex) {
            // Its links are closed before the last look at what it has counted.
            drop(counted.attached.take());
            self.part_from(ifindex);
        }
        if let Some(counted) = self.counted.remove(&ifindex) {
            if let Some(track) = &counted.track {
                self.give_up_track(track);
            }
            if let Some(place) = counted.place {
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

    /// Copies what is counted rarely out of the maps. What the kernel calls it is looked for before anything of it is shown.
    pub(super) fn counters(&mut self) -> Result<Counters> {
        let counters = self.maps.counters()?;
        let drops = counters.drops.iter().map(|(key, _)| (key.reason, key.location));
        self.loaded.learn(drops.chain(counters.namespaces.iter().map(|(key, _)| (key.reason, 0))));
        Ok(counters)
    }

    fn baseline(&self, slot: u32) -> Result<Baseline> {
        let counters = self.maps.counters()?;
        let malformed = ByKey::of(&counters, &self.loaded).of_slot(slot).collect();
        Ok(Baseline {
            traffic: [self.traffic(slot, Direction::Ingress)?, self.traffic(slot, Direction::Egress)?],
            malformed,
        })
    }

    fn traffic(&self, slot: u32, direction: Direction) -> Result<Traffic> {
        let counters = self.maps.traffic(slot, direction)?;
        Ok(Traffic {
            frames: counters.frames,
            bytes: counters.bytes,
            other_frames: counters.other_frames,
            unseen_frames: counters.unseen_frames,
            tcp_segments: counters.tcp_segments,
            control_frames: counters.control_frames,
        })
    }

    /// Why not every selected interface is counted; `Ok` also where the kernel refused with a reason.
    ///
    /// # Errors
    /// Says that the agent is paused or detached, or names an interface that is neither attached nor refused.
    pub fn readiness(&self) -> Result<(), String> {
        if self.state != State::Running {
            return Err(format!("{}: nothing is counted until `lossprobe resume`", self.state.id()));
        }
        let undecided = |(ifindex, link): (&u32, &Link)| {
            let selected = self.config.selection.selects(&link.name, link.is_loopback());
            (selected && !self.counted.contains_key(ifindex)).then(|| link.name.clone())
        };
        match self.links.iter().find_map(undecided) {
            Some(name) => Err(format!("{name} is not attached yet")),
            None => Ok(()),
        }
    }

    /// Gives up the counters of interfaces that vanished long ago, so that interfaces that come and go fill no map.
    ///
    /// # Errors
    /// If the maps cannot be read or written.
    pub fn forget_vanished(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = |since: &Instant| now.duration_since(*since) >= FORGET_AFTER;
        let counters = self.counters()?;
        let indices = counters.drops.iter().map(|(key, _)| key.ifindex);
        let indices = indices.chain(counters.retransmits.iter().map(|(key, _)| key.ifindex));
        let indices = indices.chain(counters.faults.iter().map(|(key, _)| key.ifindex));
        for ifindex in indices.filter(|ifindex| *ifindex != 0) {
            if !self.links.contains_key(&ifindex) && !self.former.contains_key(&ifindex) {
                self.nameless.entry(ifindex).or_insert(now);
            }
        }
        let former = self.former.iter().filter(|(_, (_, since))| due(since)).map(|(ifindex, _)| *ifindex);
        let nameless = self.nameless.iter().filter(|(_, since)| due(since)).map(|(ifindex, _)| *ifindex);
        let gone: BTreeSet<u32> = former.chain(nameless).collect();
        self.forget_counts(&gone, &counters)?;
        self.forget_bridges();
        self.forget_idle_namespaces(&counters, now)
    }

    /// Makes room for namespaces to come: they come and go, and the kernel does not say when. Their sums stay.
    fn forget_idle_namespaces(&mut self, counters: &Counters, now: Instant) -> Result<()> {
        let idle = |(key, count): &(NamespaceKey, u64)| match self.idle.get(key) {
            Some((before, since)) if before == count => (*key, (*count, *since)),
            _ => (*key, (*count, now)),
        };
        self.idle = counters.namespaces.iter().map(idle).collect();
        if counters.namespaces.len() <= self.loaded.capacity.namespaces as usize / 2 {
            return Ok(());
        }
        let gone = |(_, (_, since)): &(&NamespaceKey, &(u64, Instant))| now.duration_since(*since) >= FORGET_AFTER;
        let gone: Vec<_> = self.idle.iter().filter(gone).map(|(key, _)| *key).collect();
        self.maps.forget_namespaces(&gone)
    }

    /// What an interface has counted is not its successor's: one of its name, or of its number.
    fn make_room_for(&mut self, link: &Link) -> Result<()> {
        let is_replaced =
            |(ifindex, (name, _)): &(&u32, &(String, Instant))| **ifindex == link.ifindex || *name == link.name;
        let gone: BTreeSet<u32> = self.former.iter().filter(is_replaced).map(|(ifindex, _)| *ifindex).collect();
        self.nameless.remove(&link.ifindex);
        if gone.is_empty() {
            return Ok(());
        }
        let counters = self.counters()?;
        self.forget_counts(&gone, &counters)
    }

    fn forget_counts(&mut self, gone: &BTreeSet<u32>, counters: &Counters) -> Result<()> {
        if !gone.is_empty() {
            self.forget_ports(gone, counters);
            self.maps.forget_interfaces(counters, gone)?;
            self.former.retain(|ifindex, _| !gone.contains(ifindex));
            self.nameless.retain(|ifindex, _| !gone.contains(ifindex));
        }
        Ok(())
    }
}
