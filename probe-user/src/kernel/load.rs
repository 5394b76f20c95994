//! Brings the eBPF object into the kernel: globals and sizes set, variants chosen by type information, programs
//! loaded once. What a kernel cannot give is a named feature that is missing, not an error, unless nothing would be
//! counted at all.

use std::{collections::BTreeMap, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    programs::{BtfTracePoint, Program, SchedClassifier},
};
use probe_ebpf::{
    abi::{ABSENT, DropKey, EVIDENCE_BYTES, Retransmit, Settings, global, map, program},
    flow::{FLOW_WAYS, Secret},
    source::SETS,
};
use tracing::{debug, warn};

use super::{
    btf::VMLINUX,
    heap,
    heartbeat::{Heartbeat, hertz},
    reasons::Reason,
    symbols::{self, Symbols},
    types::{self, KernelTypes},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LOSSPROBE_OBJECT"));

/// The eBPF object of this build.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// How much the maps can hold, and how much is put into them. Bounds are stated here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Interfaces at the same time.
    pub interfaces: u32,
    /// Distinct (interface, direction, reason) of malformed frames.
    pub malformed: u32,
    /// Distinct (namespace, interface, reason, family, function) of drops.
    pub drops: u32,
    /// Distinct (namespace, reason) of drops in other namespaces.
    pub namespaces: u32,
    /// Distinct (interface, type) of retransmits: all types of every interface, and of those without one.
    pub retransmits: u32,
    /// Distinct (interface, fault): a wrong checksum on each, and all that an XDP program can do on one in twenty.
    pub faults: u32,
    /// Connections that are followed at the same time, each direction of one; 0: none.
    pub flows: u32,
    /// Of so many connections one is followed, at least 1.
    pub flow_sample: u32,
    /// Interfaces whose connections are followed, and whose checksums are looked at; at least 1.
    pub tracks: u32,
    /// How much of a malformed frame is kept.
    pub proof: Proof,
}

/// Interfaces whose connections are followed where nobody has said which.
pub const DEFAULT_TRACKS: u32 = 8;
/// Most of them: a slot has a byte for it.
pub const MAX_TRACKS: u32 = 255;

impl Capacity {
    /// For at most `interfaces` interfaces, whose connections are not followed.
    #[must_use]
    pub fn for_interfaces(interfaces: u32) -> Self {
        Self {
            interfaces,
            malformed: (interfaces * 4).clamp(256, 2048),
            drops: (interfaces * 12).clamp(768, 6144),
            namespaces: (interfaces * 2).clamp(128, 1024),
            retransmits: ((interfaces + 1) * Retransmit::ALL.len() as u32).max(256),
            faults: (interfaces + interfaces / 2).max(128),
            flows: 0,
            flow_sample: 1,
            tracks: DEFAULT_TRACKS,
            proof: Proof::default(),
        }
    }

    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self.flows {
            0 => format!("{} interfaces", self.interfaces),
            flows => format!("{} interfaces and {flows} connections", self.interfaces),
        }
    }

    /// Places that a connection can be in, for each direction: a power of two.
    const fn flow_sets(self) -> u32 {
        self.flows.div_ceil(FLOW_WAYS as u32).next_power_of_two()
    }

    /// Entries of the maps whose size is not in the object.
    pub(super) const fn entries(self) -> [(&'static str, u32); 12] {
        [
            (map::TRAFFIC, (self.interfaces + 1) * 2),
            (map::MALFORMED, self.malformed),
            (map::SOURCES, (self.interfaces + 1) * SETS),
            (map::CHECKSUMS, self.tracks),
            (map::DROPS, self.drops),
            (map::NAMESPACES, self.namespaces),
            (map::RETRANSMITS, self.retransmits),
            (map::FAULTS, self.faults),
            (map::FLOWS_IN, self.flow_sets()),
            (map::FLOWS_OUT, self.flow_sets()),
            (map::FLOW_NAMES, self.flow_sets()),
            (map::LEDGERS, self.tracks * 2),
        ]
    }
}

/// How much of a malformed frame is kept as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Bytes behind its headers.
    pub payload_bytes: u32,
    /// Bytes of a frame whose checksum is wrong, which only all of it proves; 0: no more than of others.
    pub whole_bytes: u32,
}

/// Bytes behind the headers of a malformed frame that are kept unless told otherwise.
pub const DEFAULT_PAYLOAD_BYTES: u32 = 16;

impl Default for Proof {
    fn default() -> Self {
        Self { payload_bytes: DEFAULT_PAYLOAD_BYTES, whole_bytes: EVIDENCE_BYTES as u32 }
    }
}

/// The programs and maps in the kernel, tracepoints attached, interfaces not yet.
#[derive(Debug)]
pub struct Loaded {
    /// The object.
    pub ebpf: Ebpf,
    /// What the kernel is.
    pub types: KernelTypes,
    /// Its functions.
    pub symbols: Symbols,
    /// What the kernel gives, by name.
    pub features: BTreeMap<String, bool>,
    /// Names of the loaded programs.
    pub programs: Vec<&'static str>,
    /// Why a tracepoint is not watched, by its name.
    pub unwatched: BTreeMap<&'static str, String>,
    /// Sizes of the maps.
    pub capacity: Capacity,
    /// Inode number of the agent's network namespace.
    pub netns: u32,
    /// Jiffies in a second.
    pub hertz: u32,
    heartbeat: Heartbeat,
}

impl Loaded {
    /// The agent lives: the programs count for the next 10 s.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn beat(&mut self) -> Result<()> {
        self.heartbeat.beat(&mut self.ebpf)
    }

    /// The kernel's jiffies at the last sign of life, their lower half.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn jiffies(&self) -> Result<u32> {
        self.heartbeat.last()
    }

    /// The reason of a drop; `None` before [`Self::learn`] has found its name.
    #[must_use]
    pub fn reason(&self, drop: &DropKey) -> Option<Reason> {
        self.types.reasons.of(drop.reason, drop.location)
    }

    /// Finds names for reasons that have not been met yet, by the kernel's number and the location.
    pub fn learn(&mut self, drops: impl IntoIterator<Item = (u32, u64)>) {
        self.types.reasons.learn(drops, &mut self.symbols, Path::new(VMLINUX));
    }

    /// Whether the programs show examples of what they count.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn watch(&mut self, is_watched: bool) -> Result<()> {
        self.heartbeat.watch(is_watched)
    }

    /// From now on the programs do nothing, until the next [`Self::beat`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.heartbeat.stop()
    }
}

/// A tracepoint program and the number of arguments from which on it is the right one.
struct Variant {
    tracepoint: &'static str,
    program: &'static str,
    min_arguments: usize,
}

/// For each tracepoint the variant with the most arguments comes first.
const VARIANTS: [Variant; 12] = [
    Variant { tracepoint: types::KFREE_SKB, program: program::DROPS_WITH_SOCKET, min_arguments: 4 },
    Variant { tracepoint: types::KFREE_SKB, program: program::DROPS, min_arguments: 3 },
    Variant { tracepoint: types::KFREE_SKB, program: program::DROPS_WITHOUT_REASON, min_arguments: 2 },
    Variant { tracepoint: types::TCP_RETRANSMIT_SKB, program: program::RETRANSMITS_WITH_ERROR, min_arguments: 3 },
    Variant { tracepoint: types::TCP_RETRANSMIT_SKB, program: program::RETRANSMITS, min_arguments: 2 },
    Variant { tracepoint: types::TCP_RETRANSMIT_SYNACK, program: program::SYNACKS, min_arguments: 2 },
    Variant { tracepoint: types::TCP_BAD_CSUM, program: program::BAD_CHECKSUMS, min_arguments: 1 },
    Variant { tracepoint: types::XDP_EXCEPTION, program: program::XDP_EXCEPTIONS, min_arguments: 3 },
    Variant { tracepoint: types::XDP_REDIRECT_ERR, program: program::XDP_REDIRECTS, min_arguments: 4 },
    Variant { tracepoint: types::XDP_DEVMAP_XMIT, program: program::XDP_DEVMAPS, min_arguments: 5 },
    Variant { tracepoint: types::XDP_BULK_TX, program: program::XDP_SENDS, min_arguments: 4 },
    Variant { tracepoint: types::XDP_CPUMAP_ENQUEUE, program: program::XDP_CPUMAPS, min_arguments: 4 },
];

/// Loads everything and attaches the tracepoints.
///
/// # Errors
/// If the kernel lacks what the main job needs; see also [`super::preflight::check`].
pub fn load(capacity: Capacity) -> Result<Loaded> {
    let mut loaded = heap::apart(|| load_only(capacity)).context(
        "start a thread that loads the programs; how many there may be: `ulimit -u`, the control group's pids.max",
    )??;
    for name in loaded.programs.clone() {
        if let Ok(program) = tracing_program(&mut loaded.ebpf, name)
            && let Err(error) = program.attach()
            && let Some(variant) = VARIANTS.iter().find(|variant| variant.program == name)
        {
            warn!("{} is not watched: attach program {name}: {error:#}", variant.tracepoint);
            loaded.features.insert(variant.tracepoint.to_owned(), false);
            loaded.programs.retain(|loaded| *loaded != name);
        }
    }
    Ok(loaded)
}

fn tracing_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    program.try_into().with_context(|| format!("program {name} is for no tracepoint"))
}

/// Inode number of the network namespace that this thread is in.
///
/// # Errors
/// If procfs does not tell.
pub fn own_netns() -> Result<u32> {
    let netns = std::fs::metadata("/proc/thread-self/ns/net").context("stat /proc/thread-self/ns/net")?.ino();
    u32::try_from(netns).context("the network namespace's inode number is too large")
}

/// As [`load`], attaching nothing: whether the kernel takes it all.
///
/// # Errors
/// See [`load`].
pub fn load_only(capacity: Capacity) -> Result<Loaded> {
    let types = KernelTypes::running()?;
    let netns = own_netns()?;
    let release_data = symbols::addresses_of("skb_release_data");
    let settings = Settings {
        release_data_start: release_data.as_ref().map_or(0, |range| range.start),
        release_data_end: release_data.as_ref().map_or(0, |range| range.end),
        netns,
        hertz: hertz()?,
        secret: secret()?,
        flow_mask: capacity.flow_sets() - 1,
        flow_share: u32::MAX / capacity.flow_sample.max(1),
        evidence_payload_bytes: capacity.proof.payload_bytes,
        evidence_whole_bytes: capacity.proof.whole_bytes,
    };
    let mut loader = EbpfLoader::new();
    // Nothing in the object is relocated; the kernel's types are megabytes.
    loader.btf(None);
    loader.override_global(global::OFFSETS, &types.offsets, true);
    loader.override_global(global::SETTINGS, &settings, true);
    for (map, entries) in capacity.entries() {
        loader.map_max_entries(map, entries);
    }
    let mut ebpf = loader.load(OBJECT).context("create the eBPF maps")?;
    // Before the verifier, which takes as much again for the big programs.
    heap::give_back();

    let heartbeat = Heartbeat::start(&mut ebpf)?;
    heartbeat.beat(&mut ebpf)?;
    let mut programs = vec![program::BEAT];
    for name in [program::INGRESS, program::EGRESS] {
        classifier(&mut ebpf, name)?.load().with_context(|| format!("load program {name}"))?;
        programs.push(name);
    }
    let mut features = BTreeMap::from([
        ("drop_functions".to_owned(), release_data.is_some()),
        ("drop_members".to_owned(), release_data.is_some()),
        ("drop_reasons".to_owned(), !types.reasons.is_empty()),
        ("drop_segments".to_owned(), types.offsets.skb_shared_info_gso_size != ABSENT),
        ("retransmit_types".to_owned(), types.tells_occasions()),
    ]);
    let mut unwatched = BTreeMap::new();
    let aya_btf = aya::Btf::from_sys_fs().context("read the kernel's type information")?;
    for tracepoint in types::TRACEPOINTS {
        let program = load_tracing(&mut ebpf, &types, &aya_btf, tracepoint);
        features.insert(tracepoint.to_owned(), program.is_ok());
        match program {
            Ok(program) => programs.push(program),
            Err(error) => {
                warn!("{tracepoint} is not watched: {error:#}");
                unwatched.insert(tracepoint, format!("{error:#}"));
            }
        }
    }
    drop(aya_btf);
    heap::give_back();
    // Last, when the types are gone: both take megabytes.
    let symbols = Symbols::read();
    heap::give_back();
    debug!(?programs, ?features, "loaded");
    Ok(Loaded {
        ebpf,
        types,
        symbols,
        features,
        programs,
        unwatched,
        capacity,
        netns,
        hertz: settings.hertz,
        heartbeat,
    })
}

/// Numbers by lot.
fn secret() -> Result<Secret> {
    let mut bytes = [[0; 8]; 2];
    let mut random = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    random.read_exact(bytes.as_flattened_mut()).context("read /dev/urandom")?;
    let [seed, factor] = bytes.map(u64::from_ne_bytes);
    Ok(Secret { seed, factor: factor | 1 })
}

/// Loads the variant that fits. Returns the program's name.
fn load_tracing(
    ebpf: &mut Ebpf,
    types: &KernelTypes,
    btf: &aya::Btf,
    tracepoint: &'static str,
) -> Result<&'static str> {
    let missing = types.missing_offsets();
    if !missing.is_empty() {
        return Err(anyhow!("the kernel's types have no {}", missing.join(", ")));
    }
    let arguments = *types.tracepoint_arguments.get(tracepoint).context("this kernel has no such tracepoint")?;
    let variant = VARIANTS
        .iter()
        .find(|variant| variant.tracepoint == tracepoint && arguments >= variant.min_arguments)
        .with_context(|| format!("no program takes its {arguments} arguments"))?;
    let program = tracing_program(ebpf, variant.program)?;
    program.load(tracepoint, btf).with_context(|| format!("load program {}", variant.program))?;
    Ok(variant.program)
}

/// A tc program of the object.
pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program: &mut Program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    program.try_into().with_context(|| format!("program {name} is no tc program"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    use probe_ebpf::abi::Fault;

    use super::*;
    use crate::config::MAX_INTERFACES;

    #[test]
    fn there_is_room_for_every_interface() {
        for interfaces in [1, 8, 128, 1000, 1024, MAX_INTERFACES] {
            let capacity = Capacity::for_interfaces(interfaces);
            let types = u32::try_from(Retransmit::ALL.len()).unwrap();
            assert!(capacity.retransmits >= (interfaces + 1) * types, "{interfaces} interfaces");
            let of_xdp = u32::try_from(Fault::ALL.len()).unwrap() - 1;
            assert!(capacity.faults >= interfaces + interfaces / 20 * of_xdp, "{interfaces} interfaces");
        }
    }

    /// A name crosses the line once: what the object holds is what `abi` names, no more and no less.
    #[test]
    fn names_on_both_sides_are_equal() {
        let parsed = aya_obj::Object::parse(OBJECT).unwrap();
        let programs: BTreeSet<_> = parsed.programs.keys().map(String::as_str).collect();
        assert_eq!(programs, program::ALL.into_iter().collect());
        let maps: BTreeSet<_> = parsed.maps.keys().map(String::as_str).filter(|name| !name.starts_with('.')).collect();
        assert_eq!(maps, map::ALL.into_iter().collect());

        let elf = object::File::parse(OBJECT).unwrap();
        let read_only = elf.section_by_name(".rodata").unwrap().index();
        let globals: BTreeSet<_> = elf
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(read_only) && symbol.is_global())
            .map(|symbol| symbol.name().unwrap())
            .collect();
        assert_eq!(globals, global::ALL.into_iter().collect());
        assert!(program::ALL.iter().all(|name| name.len() <= 15));
    }
}
