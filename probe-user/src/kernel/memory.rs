//! Kernel memory of the maps: known before they are made, compared with what this process may take.
//!
//! The formula follows the kernel's own accounting (`map_mem_usage` in kernel/bpf/arraymap.c, hashtab.c and ringbuf.c,
//! Linux 6.4 and later), which a test compares it with. Programs come on top: some 100 KiB, whatever the machine.

mod limit;

use anyhow::{Context as _, Result, anyhow, bail};
use aya_obj::{
    Map, Object,
    generated::{BPF_F_MMAPABLE, bpf_map_type},
};
use caps::Capability;
use nix::sys::resource::{Resource, getrlimit};
use tracing::info;

pub use self::limit::Limit;
use super::{
    load::{Capacity, object},
    preflight::running_below,
    privilege,
};
use crate::snapshot::Memory;

/// What a map's own structure takes, with its name and type information: below a kilobyte for every type used here.
const STRUCTURE_BYTES: u64 = 512;
/// `struct htab_elem` without key and value.
const ELEMENT_BYTES: u64 = 48;
/// `struct bucket`: a list head and a lock.
const BUCKET_BYTES: u64 = 16;
const POINTER_BYTES: u64 = 8;
/// Pages of a ring buffer besides its data: its structure, the consumer's and the producer's position.
const RING_PAGES: u64 = 3;
/// What starting the agent takes besides, in bytes: 24.5 MiB at the peak on 6.18, most of it the verifier's, and some
/// room. A cgroup must hold both; afterwards the agent needs some 2 MiB.
const AGENT_BYTES: u64 = 26 << 20;

/// What the size of a map depends on besides its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    /// CPUs that can ever be there, not those that are: per-CPU maps are made for all.
    possible_cpus: u64,
    /// Bytes of a page.
    page_bytes: u64,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn here() -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("read {path}: {error}"))?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.context("no page size")?;
        Ok(Self { possible_cpus: cpus as u64, page_bytes: u64::try_from(page)? })
    }
}

/// Bytes that all maps take with these capacities.
///
/// # Errors
/// If the object is broken, or has a map of a type that is new here.
fn maps_bytes(capacity: Capacity, machine: Machine) -> Result<u64> {
    let parsed = Object::parse(object()).context("read the eBPF object")?;
    let set = capacity.entries();
    let bytes = |(name, map): (&String, &Map)| {
        let entries = set.iter().find(|(set, _)| set == name).map_or(map.max_entries(), |(_, entries)| *entries);
        map_bytes(map, u64::from(entries), machine).with_context(|| format!("size of map {name}"))
    };
    parsed.maps.iter().map(bytes).sum()
}

fn map_bytes(map: &Map, entries: u64, machine: Machine) -> Result<u64> {
    let Machine { possible_cpus, page_bytes } = machine;
    let (key, value) = (u64::from(map.key_size()).next_multiple_of(8), u64::from(map.value_size()).next_multiple_of(8));
    let pages = |bytes: u64| bytes.next_multiple_of(page_bytes);
    let content = match bpf_map_type::try_from(map.map_type()).map_err(|_| anyhow!("type {} is new", map.map_type()))? {
        // One page before what can be mapped into memory.
        bpf_map_type::BPF_MAP_TYPE_ARRAY if map.map_flags() & BPF_F_MMAPABLE != 0 => {
            page_bytes + pages(entries * value)
        }
        // Globals too: the library does not ask for those to be mapped.
        bpf_map_type::BPF_MAP_TYPE_ARRAY => entries * value,
        bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY => entries * (POINTER_BYTES + value * possible_cpus),
        bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH => {
            entries.next_power_of_two() * BUCKET_BYTES
                + entries * (ELEMENT_BYTES + key + POINTER_BYTES + value * possible_cpus)
        }
        bpf_map_type::BPF_MAP_TYPE_RINGBUF => pages(entries) + RING_PAGES * page_bytes,
        other => bail!("no formula for {other:?}"),
    };
    Ok(STRUCTURE_BYTES + content)
}

/// What the maps will take, and what limits it.
///
/// # Errors
/// If the kernel does not tell.
pub fn examine(capacity: Capacity) -> Result<(Memory, Option<Limit>)> {
    let machine = Machine::here()?;
    let limit = limit()?;
    let memory = Memory {
        maps_bytes: maps_bytes(capacity, machine)?,
        possible_cpus: machine.possible_cpus,
        limit_bytes: limit.as_ref().map(|limit| limit.bytes),
        limit: limit.as_ref().map_or_else(String::new, |limit| limit.name.clone()),
    };
    Ok((memory, limit))
}

/// Says what the maps will take, and whether that is allowed.
///
/// # Errors
/// If it is not, with both numbers and what to lower; if the kernel does not tell.
pub fn check(capacity: Capacity) -> Result<Memory> {
    let (memory, limit) = examine(capacity)?;
    let maps = format!("the maps for {} take {}", capacity.words(), mib(memory.maps_bytes));
    match limit {
        Some(limit) if !limit.allows(memory.maps_bytes) => {
            bail!("{maps}, {limit}: lower --max-interfaces or --flows, or raise the limit")
        }
        Some(limit) => info!(cpus = memory.possible_cpus, "{maps}, {limit}"),
        None => info!(cpus = memory.possible_cpus, "{maps}"),
    }
    Ok(memory)
}

/// The least that this process is allowed and that maps count against; `None` where nothing limits it.
///
/// # Errors
/// If the kernel does not tell.
fn limit() -> Result<Option<Limit>> {
    if !running_below(privilege::CHARGED_TO_CGROUP) {
        return limit::of_cgroups();
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).context("read RLIMIT_MEMLOCK")?;
    let raises = privilege::held()?.contains(&Capability::CAP_SYS_RESOURCE);
    let bytes = soft.max(hard);
    Ok((!raises && bytes < u64::MAX).then(|| Limit { bytes, name: "RLIMIT_MEMLOCK".to_owned(), counts_agent: false }))
}

/// For people.
#[must_use]
pub fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn bytes_of(capacity: Capacity, possible_cpus: u64) -> u64 {
        maps_bytes(capacity, Machine { possible_cpus, page_bytes: 4096 }).unwrap()
    }

    fn bytes(interfaces: u32, possible_cpus: u64) -> u64 {
        bytes_of(Capacity::for_interfaces(interfaces), possible_cpus)
    }

    /// What is promised to operators, as an agent reserves it unasked.
    #[test]
    fn stays_within_its_bounds() {
        let unasked = |existing| Config::from_toml(Path::new(""), "").unwrap().capacity(existing);
        for cpus in [1, 2, 8, 64, 255, 1024] {
            for (existing, base, per_cpu) in [(8, 12 * MIB, 32 * KIB), (1000, 16 * MIB, 256 * KIB)] {
                let (bytes, most) = (bytes_of(unasked(existing), cpus), base + per_cpu * cpus);
                assert!(bytes <= most, "{existing} interfaces, {cpus} CPUs: {bytes} of {most}");
            }
        }
    }

    #[test]
    fn connections_have_their_price() {
        let with = |flows, tracks| Capacity { flows, tracks, ..Capacity::for_interfaces(64) };
        // Two halves of 128 bytes and a name of 88.
        assert_eq!(bytes_of(with(65_536, 8), 2) - bytes_of(with(32_768, 8), 2), 32_768 * (2 * 128 + 88));
        assert_eq!(bytes_of(with(5, 8), 2), bytes_of(with(8, 8), 2), "a power of two");
        // Two ledgers of 232 bytes, checksums of 64, and their pointers.
        assert_eq!(bytes_of(with(0, 9), 3) - bytes_of(with(0, 8), 3), 2 * (3 * 232 + 8) + 3 * 64 + 8);
    }

    #[test]
    fn grows_with_interfaces_and_cpus() {
        assert!(bytes(129, 2) > bytes(128, 2));
        assert!(bytes(128, 3) > bytes(128, 2));
        // 258 traffic counters of 48 bytes, 512 of malformed frames of 16, 1,536 + 256 + 774 + 192 hashed ones and 18 tallies of
        // 8, 160 reasons that wait in a storm of 24, its state of 40, 544 of scratch, a sum of 536, 32 buckets of 16,
        // 16 ledgers of 232, 8 checksums of 64.
        let hashed = 1536 + 256 + 774 + 192;
        let frames = 258 * 48 + 512 * 16 + 544 + 536;
        assert_eq!(
            bytes(128, 3) - bytes(128, 2),
            frames + (hashed + 18) * 8 + 160 * 24 + 40 + 32 * 16 + 16 * 232 + 8 * 64
        );
    }

    #[test]
    fn reads_well() {
        assert_eq!(mib(0), "0.0 MiB");
        assert_eq!(mib(1), "0.1 MiB");
        assert_eq!(mib(12 * MIB), "12.0 MiB");
    }
}
