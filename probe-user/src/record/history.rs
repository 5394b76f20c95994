//! The last half hour, second by second: what every counter of a snapshot has grown by. Bounded in bytes, whatever the machine
//! does: only what has changed is kept, the older half in steps of ten seconds, and the oldest goes when room is short.
//!
//! Kept are counters, not levels (ratios, queues). Ports stand as their bridge's [group](crate::snapshot::PortGroup), since a
//! node can have a thousand of them; those that are track points have series of their own.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::snapshot::{Malformed, Snapshot, Traffic};

/// How far back it goes unless told otherwise.
pub const DEFAULT_LENGTH: Duration = Duration::from_secs(30 * 60);
/// What it takes at most, in bytes: steps and names of series.
pub const MOST_BYTES: usize = 8 << 20;
/// Counters that are told apart. Further ones are left out, and counted.
const MOST_SERIES: usize = 16_384;
/// How long the steps of the older half are.
const COARSE_MS: u64 = 10_000;
/// What a step takes beside its changes: its place in the ring, its counts and times.
const STEP_BYTES: usize = 96;
/// What a series takes beside its two names: places in the maps, and in the list of numbers.
const SERIES_BYTES: usize = 192;
/// Where all ports stand for whose bridge is not told.
const PORTS: &str = "(ports)";

/// What a counter is about; each has a file of its own in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Area {
    /// Frames, bytes and followed TCP segments.
    Traffic = 0,
    /// What TCP connections tell: losses by side, and events.
    Path = 1,
    /// Malformed frames, by reason.
    Malformed = 2,
    /// What the kernel dropped, by class and reason.
    Drops = 3,
    /// What devices, disciplines and protocols count, and segments that sockets sent again.
    Witnesses = 4,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Traffic, Self::Path, Self::Malformed, Self::Drops, Self::Witnesses];

    /// Fit for a file's name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Path => "path",
            Self::Malformed => "malformed",
            Self::Drops => "drops",
            Self::Witnesses => "witnesses",
        }
    }
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// What it is about.
    pub area: Area,
    /// Interface, or group of ports; `""` if it belongs to none.
    pub interface: String,
    /// Its name in this area.
    pub name: String,
}

impl Series {
    fn bytes(&self) -> usize {
        // Names stand in the map, and in the series.
        SERIES_BYTES + 2 * (self.interface.len() + self.name.len())
    }
}

/// What has changed between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Wall-clock time at its end.
    time: Timestamp,
    /// Milliseconds since the agent's start at its end.
    uptime_ms: u64,
    duration_ms: u64,
    /// Numbers of series, ascending, each as its distance from the one before, and by how much it has grown (LEB128).
    changes: Box<[u8]>,
}

/// The ring.
#[derive(Debug)]
pub struct History {
    length_ms: u64,
    counters: [HashMap<String, HashMap<String, Counter>>; Area::ALL.len()],
    /// By number; `None` where a number is free.
    series: Vec<Option<Arc<Series>>>,
    /// In how many steps a number occurs.
    uses: Vec<u32>,
    free: Vec<u32>,
    coarse: VecDeque<Arc<Step>>,
    fine: VecDeque<Arc<Step>>,
    bytes: usize,
    /// Milliseconds since the agent's start of the last snapshot; `None` before the first.
    latest_ms: Option<u64>,
    /// Snapshots that were added.
    ticks: u64,
    /// Counters of the latest one that found no room.
    left_out: u64,
}

/// The state of a counter.
#[derive(Debug)]
struct Counter {
    number: u32,
    /// In the snapshot before.
    last: u64,
    /// In this one, so far: what has one name is one.
    now: u64,
    /// The tick in which it was told last.
    told: u64,
}

impl History {
    /// An empty one that goes so far back.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self {
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            counters: Default::default(),
            series: Vec::new(),
            uses: Vec::new(),
            free: Vec::new(),
            coarse: VecDeque::new(),
            fine: VecDeque::new(),
            bytes: 0,
            latest_ms: None,
            ticks: 0,
            left_out: 0,
        }
    }

    /// Adds a second. The first snapshot is what the others are compared with; one that is no later than the one before
    /// changes nothing.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let is_first = self.latest_ms.is_none();
        let duration_ms = snapshot.uptime_ms.saturating_sub(self.latest_ms.unwrap_or_default());
        let (Ok(time), false) = (snapshot.time.parse(), !is_first && duration_ms == 0) else { return };
        self.latest_ms = Some(snapshot.uptime_ms);
        self.ticks += 1;
        let changes = self.read(snapshot, is_first);
        if is_first {
            return;
        }
        let step = self.step(time, snapshot.uptime_ms, duration_ms, &changes);
        self.fine.push_back(step);
        self.thin_out(snapshot.uptime_ms);
    }

    /// Everything that is there, to be written down while the ring goes on.
    #[must_use]
    pub fn recording(&self) -> Recording {
        Recording {
            series: self.series.clone(),
            steps: self.coarse.iter().chain(&self.fine).cloned().collect(),
            left_out: self.left_out,
        }
    }

    /// What it takes, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What each counter has grown by, by number, ascending.
    fn read(&mut self, snapshot: &Snapshot, is_first: bool) -> Vec<(u32, u64)> {
        let mut new: Vec<(Series, u64)> = Vec::new();
        self.left_out = 0;
        counters(snapshot, |area, interface, name, value| {
            let known = self.counters[area as usize].get_mut(interface).and_then(|names| names.get_mut(name));
            match known {
                Some(counter) => {
                    counter.now = if counter.told == self.ticks { counter.now + value } else { value };
                    counter.told = self.ticks;
                }
                // Most counters of most machines are 0 for ever.
                None if value == 0 => {}
                None => new.push((Series { area, interface: interface.to_owned(), name: name.to_owned() }, value)),
            }
        });
        if self.series.len() - self.free.len() + new.len() > MOST_SERIES {
            self.forget();
        }
        for (series, value) in new {
            self.introduce(series, value);
        }
        let told = |counter: &&mut Counter| counter.told == self.ticks;
        let all = self.counters.iter_mut().flat_map(HashMap::values_mut).flat_map(HashMap::values_mut);
        let grown = all.filter(told).filter_map(|counter| {
            // What is less than before is another of the same name.
            let before = std::mem::replace(&mut counter.last, counter.now);
            counter.now.checked_sub(before).filter(|more| *more > 0 && !is_first).map(|more| (counter.number, more))
        });
        let mut changes: Vec<_> = grown.collect();
        changes.sort_unstable();
        changes
    }

    /// A counter that begins at 0; the first snapshot's do so as well, but nobody asks how much they have grown.
    fn introduce(&mut self, series: Series, value: u64) {
        let names = &mut self.counters[series.area as usize];
        if let Some(counter) = names.get_mut(&series.interface).and_then(|names| names.get_mut(&series.name)) {
            counter.now += value;
            return;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.series.len() < MOST_SERIES => {
                self.series.push(None);
                self.uses.push(0);
                self.series.len() as u32 - 1
            }
            None => {
                self.left_out += 1;
                return;
            }
        };
        self.bytes += series.bytes();
        let counter = Counter { number, last: 0, now: value, told: self.ticks };
        names.entry(series.interface.clone()).or_default().insert(series.name.clone(), counter);
        self.series[number as usize] = Some(Arc::new(series));
    }

    /// Forgets counters that are not told any more and that no step knows.
    fn forget(&mut self) {
        for names in self.counters.iter_mut().flat_map(HashMap::values_mut) {
            names.retain(|_, counter| {
                let at = counter.number as usize;
                let stays = counter.told == self.ticks || self.uses[at] > 0;
                if !stays {
                    self.bytes -= self.series[at].take().map_or(0, |series| series.bytes());
                    self.free.push(counter.number);
                }
                stays
            });
        }
        for interfaces in &mut self.counters {
            interfaces.retain(|_, names| !names.is_empty());
        }
    }

    fn step(&mut self, time: Timestamp, uptime_ms: u64, duration_ms: u64, changes: &[(u32, u64)]) -> Arc<Step> {
        for (number, _) in changes {
            self.uses[*number as usize] += 1;
        }
        let step = Step { time, uptime_ms, duration_ms, changes: encode(changes) };
        self.bytes += STEP_BYTES + step.changes.len();
        Arc::new(step)
    }

    fn release(&mut self, step: &Step) {
        for (number, _) in decode(&step.changes) {
            self.uses[number as usize] -= 1;
        }
        self.bytes -= STEP_BYTES + step.changes.len();
    }

    /// Merges the older half and lets go of what is too old, or for which there is no room.
    fn thin_out(&mut self, now_ms: u64) {
        let age = |step: &Arc<Step>| now_ms.saturating_sub(step.uptime_ms);
        while self.fine.front().is_some_and(|step| age(step) > self.length_ms / 2 + COARSE_MS) {
            self.merge();
        }
        while self.coarse.front().is_some_and(|step| age(step) > self.length_ms) {
            self.drop_oldest();
        }
        while self.bytes > MOST_BYTES && self.coarse.len() + self.fine.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(step) = self.coarse.pop_front().or_else(|| self.fine.pop_front()) {
            self.release(&step);
        }
    }

    /// Makes one step of the oldest ten seconds of the fine ones.
    fn merge(&mut self) {
        let Some(begin_ms) = self.fine.front().map(|step| step.uptime_ms - step.duration_ms) else { return };
        let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
        let mut latest: Option<Arc<Step>> = None;
        while let Some(step) = self.fine.pop_front_if(|step| latest.is_none() || step.uptime_ms <= begin_ms + COARSE_MS)
        {
            for (number, more) in decode(&step.changes) {
                *sums.entry(number).or_default() += more;
            }
            self.release(&step);
            latest = Some(step);
        }
        if let Some(latest) = latest {
            let changes: Vec<_> = sums.into_iter().collect();
            let step = self.step(latest.time, latest.uptime_ms, latest.uptime_ms - begin_ms, &changes);
            self.coarse.push_back(step);
        }
    }
}

/// What a [`History`] had at one moment. It shares the steps with the ring: to have it costs little.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    series: Vec<Option<Arc<Series>>>,
    steps: Vec<Arc<Step>>,
    /// Counters of the latest second that found no room.
    pub left_out: u64,
}

/// A step of a [`Recording`].
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'r> {
    /// Wall-clock time at its end.
    pub time: Timestamp,
    /// Milliseconds since the agent's start at its end.
    pub uptime_ms: u64,
    /// How long it was, in milliseconds.
    pub duration_ms: u64,
    recording: &'r Recording,
    changes: &'r [u8],
}

impl Recording {
    /// The steps, the oldest first.
    pub fn steps(&self) -> impl Iterator<Item = Recorded<'_>> {
        self.steps.iter().map(|step| Recorded {
            time: step.time,
            uptime_ms: step.uptime_ms,
            duration_ms: step.duration_ms,
            recording: self,
            changes: &step.changes,
        })
    }
}

impl<'r> Recorded<'r> {
    /// What has grown, and by how much.
    pub fn changes(&self) -> impl Iterator<Item = (&'r Series, u64)> + use<'r> {
        let series = &self.recording.series;
        decode(self.changes).filter_map(|(number, more)| Some((series.get(number as usize)?.as_deref()?, more)))
    }
}

/// Every counter of a snapshot that is recorded. What has the same names is to be added up.
fn counters(snapshot: &Snapshot, mut tell: impl FnMut(Area, &str, &str, u64)) {
    let mut name = String::new();
    let mut named = |area, interface: &str, parts: [&str; 2], value| {
        name.clear();
        let _infallible = write!(name, "{} {}", parts[0], parts[1]);
        tell(area, interface, &name, value);
    };
    let each = snapshot.interfaces.iter().filter(|interface| interface.role != "port" || !interface.track.is_empty());
    for interface in each.clone() {
        traffic(&interface.name, [interface.ingress, interface.egress], &mut named);
        malformed(&interface.name, &interface.malformed, &mut named);
        if let Some(wire) = &interface.wire {
            for (side, lost) in &wire.lost {
                named(Area::Path, &interface.name, ["lost", side], lost.segments);
            }
            for (way, events) in [("in", &wire.ingress), ("out", &wire.egress)] {
                for (event, segments) in events {
                    named(Area::Path, &interface.name, [way, event], *segments);
                }
            }
        }
    }
    for group in &snapshot.port_groups {
        traffic(&group.name, [group.ingress, group.egress], &mut named);
        malformed(&group.name, &group.malformed, &mut named);
    }
    for drop in &snapshot.drops {
        let interface = if drop.port { PORTS } else { &drop.interface };
        let interface = if drop.netns == "own" { interface } else { "(other namespaces)" };
        named(Area::Drops, interface, [&drop.class, &drop.reason], drop.packets);
    }
    for interface in each {
        for counter in &interface.device.counters {
            named(Area::Witnesses, &interface.name, [&counter.direction, &counter.cause], counter.packets);
        }
        for qdisc in &interface.qdiscs {
            named(Area::Witnesses, &interface.name, ["qdisc_dropped", &qdisc.kind], qdisc.dropped_packets);
        }
    }
    for again in &snapshot.tcp.retransmitted {
        let interface = if again.port { PORTS } else { &again.interface };
        named(Area::Witnesses, interface, ["retransmitted", &again.kind], again.segments);
    }
    for error in &snapshot.protocols {
        named(Area::Witnesses, "", [&error.protocol, &error.cause], error.count);
    }
    if let Some(softnet) = &snapshot.softnet {
        named(Area::Witnesses, "", ["softnet", "dropped"], softnet.dropped_packets);
        named(Area::Witnesses, "", ["softnet", "squeezed"], softnet.squeezed);
    }
}

fn traffic(interface: &str, both: [Traffic; 2], tell: &mut impl FnMut(Area, &str, [&str; 2], u64)) {
    for (way, traffic) in ["in", "out"].into_iter().zip(both) {
        for (what, value) in
            [("frames", traffic.frames), ("bytes", traffic.bytes), ("tcp_segments", traffic.tcp_segments)]
        {
            tell(Area::Traffic, interface, [way, what], value);
        }
    }
}

fn malformed(interface: &str, found: &[Malformed], tell: &mut impl FnMut(Area, &str, [&str; 2], u64)) {
    for found in found {
        let way = if found.direction == "ingress" { "in" } else { "out" };
        tell(Area::Malformed, interface, [way, &found.reason], found.frames);
    }
}

fn encode(changes: &[(u32, u64)]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(changes.len() * 4);
    let mut before = 0;
    for (number, more) in changes {
        for mut value in [u64::from(number - before), *more] {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        }
        before = *number;
    }
    bytes.into()
}

fn decode(mut bytes: &[u8]) -> impl Iterator<Item = (u32, u64)> {
    let mut number = 0;
    let mut value = move || {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (value, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(value.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    };
    std::iter::from_fn(move || {
        number += value()? as u32;
        Some((number, value()?))
    })
}

#[cfg(test)]
pub(crate) mod tests;
