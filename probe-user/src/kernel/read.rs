//! Copies the counters out of the maps: sums over CPUs, names for numbers, nothing reset.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues},
    programs::Program,
};
use probe_ebpf::{
    abi::{
        Checksum, Checksums, Direction, DropKey, FaultKey, FlowName, FlowNames, FlowSet, MalformedCount, MalformedKey,
        NamespaceKey, RetransmitKey, Slot, Tally, Traffic, ledger_index, map, traffic_index,
    },
    flow::{Half, Ledger, set_of},
    source::{Place, SETS, Sender, SourceSet},
    storm::Storm,
};

/// Everything in the maps at one instant, by the kernel's numbers.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Frames that contradict themselves.
    pub malformed: Vec<(MalformedKey, u64)>,
    /// Segments the kernel dropped.
    pub drops: Vec<(DropKey, u64)>,
    /// Those of `drops` that were dropped in a known other namespace; of some that were idle it is forgotten.
    pub namespaces: Vec<(NamespaceKey, u64)>,
    /// Segments sent again.
    pub retransmits: Vec<(RetransmitKey, u64)>,
    /// Frames of XDP programs that were lost, segments with a wrong checksum.
    pub faults: Vec<(FaultKey, u64)>,
    /// By [`Tally`].
    pub tallies: Vec<u64>,
    /// Segments of a drop storm that wait for the next sample.
    pub waiting: u64,
}

/// The maps, taken out of the object.
pub struct Maps {
    slots: Array<MapData, Slot>,
    traffic: PerCpuArray<MapData, Traffic>,
    malformed: PerCpuHashMap<MapData, MalformedKey, MalformedCount>,
    sources: Array<MapData, SourceSet>,
    checksums: PerCpuArray<MapData, Checksums>,
    drops: PerCpuHashMap<MapData, DropKey, u64>,
    namespaces: PerCpuHashMap<MapData, NamespaceKey, u64>,
    retransmits: PerCpuHashMap<MapData, RetransmitKey, u64>,
    faults: PerCpuHashMap<MapData, FaultKey, u64>,
    tallies: PerCpuArray<MapData, u64>,
    storm: PerCpuArray<MapData, Storm>,
    ledgers: PerCpuArray<MapData, Ledger>,
    flows: [Array<MapData, FlowSet>; 2],
    flow_names: Array<MapData, FlowNames>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

fn take<T: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T> {
    let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    T::try_from(map).with_context(|| format!("map {name} is of another type"))
}

impl Maps {
    /// Takes the maps that are read out of a loaded object.
    ///
    /// # Errors
    /// If the object is not of this build.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            slots: take(ebpf, map::SLOTS)?,
            traffic: take(ebpf, map::TRAFFIC)?,
            malformed: take(ebpf, map::MALFORMED)?,
            sources: take(ebpf, map::SOURCES)?,
            checksums: take(ebpf, map::CHECKSUMS)?,
            drops: take(ebpf, map::DROPS)?,
            namespaces: take(ebpf, map::NAMESPACES)?,
            retransmits: take(ebpf, map::RETRANSMITS)?,
            faults: take(ebpf, map::FAULTS)?,
            tallies: take(ebpf, map::TALLIES)?,
            storm: take(ebpf, map::STORM)?,
            ledgers: take(ebpf, map::LEDGERS)?,
            flows: [take(ebpf, map::FLOWS_IN)?, take(ebpf, map::FLOWS_OUT)?],
            flow_names: take(ebpf, map::FLOW_NAMES)?,
        })
    }

    /// One of the tallies, summed over CPUs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn tally(&self, tally: Tally) -> Result<u64> {
        Ok(total(&self.tallies.get(&(tally as u32), 0).context("read a tally")?))
    }

    /// Writes one line of the interface table; `Slot::default()` vacates it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_slot(&mut self, line: u32, slot: Slot) -> Result<()> {
        self.slots.set(line, slot, 0).with_context(|| format!("write line {line} of the interface table"))
    }

    /// Hot counters of one slot and direction, summed over CPUs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn traffic(&self, slot: u32, direction: Direction) -> Result<Traffic> {
        let index = traffic_index(slot, direction);
        let per_cpu = self.traffic.get(&index, 0).with_context(|| format!("read traffic counters {index}"))?;
        Ok(per_cpu.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            frames: sum.frames + cpu.frames,
            bytes: sum.bytes + cpu.bytes,
            unseen_frames: sum.unseen_frames + cpu.unseen_frames,
            other_frames: sum.other_frames + cpu.other_frames,
            tcp_segments: sum.tcp_segments + cpu.tcp_segments,
            control_frames: sum.control_frames + cpu.control_frames,
        }))
    }

    /// Who has sent malformed frames last on the interface of a slot: reason by number, sender, frames. Those who found no
    /// room are not among them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn senders(&self, slot: u32) -> Result<Vec<(u8, Sender, u64)>> {
        let mut found = Vec::new();
        for set in 0..SETS {
            let sources = self.sources.get(&(slot * SETS + set), 0).context("read senders of malformed frames")?;
            let told = sources.iter().filter(|source| source.tag != 0).map(|source| {
                let (reason, sender) = Place { set, tag: source.tag }.told();
                (reason, sender, source.frames)
            });
            found.extend(told);
        }
        Ok(found)
    }

    /// Forgets who has sent malformed frames last to a former owner of a slot.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_senders(&mut self, slot: u32) -> Result<()> {
        (0..SETS).try_for_each(|set| {
            let nobody = SourceSet::default();
            self.sources.set(slot * SETS + set, nobody, 0).context("forget senders of malformed frames")
        })
    }

    /// What became of the transport checksums at the ingress of a track point, by [`Checksum`]; `track` as in
    /// [`Slot::track`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn checksums(&self, track: u8) -> Result<[u64; Checksum::ALL.len()]> {
        let index = u32::from(track) - 1;
        let per_cpu = self.checksums.get(&index, 0).with_context(|| format!("read checksums {index}"))?;
        let mut sums = [0; Checksum::ALL.len()];
        for cpu in per_cpu.iter() {
            sums.iter_mut().zip(cpu.results).for_each(|(sum, packets)| *sum += packets);
        }
        Ok(sums)
    }

    /// Both ledgers of a track point, summed over CPUs; `track` as in [`Slot::track`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn ledgers(&self, track: u8) -> Result<[Ledger; 2]> {
        let mut sums = [Ledger::default(); 2];
        for (sum, direction) in sums.iter_mut().zip(Direction::ALL) {
            let index = ledger_index(track, direction);
            let per_cpu = self.ledgers.get(&index, 0).with_context(|| format!("read ledger {index}"))?;
            per_cpu.iter().for_each(|cpu| sum.add(cpu));
        }
        Ok(sums)
    }

    /// Names of all connections that were followed since the last one in their place.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn flow_names(&self) -> Result<Vec<FlowName>> {
        let mut names = Vec::new();
        for set in self.flow_names.iter() {
            names.extend(set.context("read the names of connections")?.into_iter().filter(|name| name.tag != 0));
        }
        Ok(names)
    }

    /// Both halves of a connection, of those that are still there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn halves(&self, tag: u64) -> Result<[Option<Half>; 2]> {
        let mut halves = [None; 2];
        for (half, map) in halves.iter_mut().zip(&self.flows) {
            let set = map.get(&set_of(tag, map.len() - 1), 0).context("read a connection")?;
            *half = set.into_iter().find(|half| half.tag == tag);
        }
        Ok(halves)
    }

    /// All rare counters.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn counters(&self) -> Result<Counters> {
        let tally = |index| Ok(total(&self.tallies.get(&index, 0)?));
        let storm = self.storm.get(&0, 0).context("read the state of a drop storm")?;
        Ok(Counters {
            malformed: entries(&self.malformed, |count| count.frames).context("read malformed frames")?,
            drops: entries(&self.drops, |count| *count).context("read drops")?,
            namespaces: entries(&self.namespaces, |count| *count).context("read drops of other namespaces")?,
            retransmits: entries(&self.retransmits, |count| *count).context("read retransmits")?,
            faults: entries(&self.faults, |count| *count).context("read faults")?,
            tallies: (0..Tally::COUNT).map(tally).collect::<Result<_>>().context("read tallies")?,
            waiting: storm.iter().map(|storm| storm.waiting).sum(),
        })
    }
}

impl Maps {
    /// Deletes what is counted for interfaces that are gone for good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_interfaces(&mut self, counters: &Counters, gone: &BTreeSet<u32>) -> Result<()> {
        for (key, _) in counters.drops.iter().filter(|(key, _)| gone.contains(&key.ifindex)) {
            self.drops.remove(key).context("delete drops of a vanished interface")?;
        }
        for (key, _) in counters.retransmits.iter().filter(|(key, _)| gone.contains(&key.ifindex)) {
            self.retransmits.remove(key).context("delete retransmits of a vanished interface")?;
        }
        for (key, _) in counters.faults.iter().filter(|(key, _)| gone.contains(&key.ifindex)) {
            self.faults.remove(key).context("delete faults of a vanished interface")?;
        }
        Ok(())
    }
}

impl Maps {
    /// Deletes what is known of drops in these namespaces; their sums stay.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_namespaces(&mut self, keys: &[NamespaceKey]) -> Result<()> {
        for key in keys {
            self.namespaces.remove(key).context("delete drops of a namespace")?;
        }
        Ok(())
    }
}

fn total(values: &PerCpuValues<u64>) -> u64 {
    values.iter().sum()
}

fn entries<K: Pod, V: Pod>(map: &PerCpuHashMap<MapData, K, V>, count: impl Fn(&V) -> u64) -> Result<Vec<(K, u64)>> {
    let mut all = Vec::new();
    for entry in map.iter() {
        let (key, values) = entry?;
        all.push((key, values.iter().map(&count).sum()));
    }
    Ok(all)
}

/// Runs that the kernel skipped because the program was already running on that CPU, by program. Programs of kernels
/// that do not say (before 5.12) are left out.
#[must_use]
pub fn missed_runs(ebpf: &Ebpf, programs: &[&'static str]) -> BTreeMap<String, u64> {
    programs.iter().filter_map(|name| Some(((*name).to_owned(), missed_runs_of(ebpf.program(name)?)?))).collect()
}

fn missed_runs_of(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
