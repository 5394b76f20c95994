//! Kernel memory: what the agent says its maps take is what the kernel says, and a limit below it is an error at once.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::{self, Agent},
    link::{End, veth},
    namespace::Namespace,
    program,
    run::{kernel_version, trial},
    topology::Pair,
    wait::eventually,
};

use super::privilege::with_little_locked_memory;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("memory::formula_is_the_kernels", formula_is_the_kernels),
        trial("memory::locked_memory", locked_memory),
        trial("memory::resident", resident),
    ]
}

/// These need a shell.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("memory::limit", limit)]
}

const MIB: u64 = 1 << 20;
/// Little more than the least that an agent for 64 interfaces and 32,768 connections accepts.
const ENOUGH: u64 = 38 * MIB;

/// What maps may take for few interfaces, and more for each possible CPU.
const MAPS_BYTES: u64 = 12 * MIB;
const MAPS_BYTES_PER_CPU: u64 = 32 << 10;

/// Of all ring buffers: 256 KiB of examples, 128 KiB of log.
const RING_BYTES: u64 = 384 << 10;

fn formula_is_the_kernels() -> Result<()> {
    let pair = Pair::new()?;
    for interfaces in ["1", "128", "4096"] {
        let agent = Agent::start(&pair.right, &["--interface", "b", "--max-interfaces", interfaces])?;
        let said = agent.json("/api/v1/snapshot")?["probe"]["memory"]["maps_bytes"].as_u64().context("maps_bytes")?;
        let (maps, told) = told_by_the_kernel(agent.pid())?;
        eprintln!("{interfaces} interfaces: {maps} maps, {said} bytes by calculation, {told} by the kernel");
        ensure!(maps >= 8, "only {maps} maps");
        // From 6.4 on the kernel sums up what it has allocated; before, it added up keys and values, without what holds
        // each of them (64 bytes of a hashed counter's 90), and nothing at all for ring buffers.
        let (least, most) = if kernel_version()?.0 >= (6, 4) {
            (told - told / 50, told + told / 50 + 4096)
        } else {
            (told / 2, told * 3 + RING_BYTES)
        };
        ensure!((least..=most).contains(&said), "{said} is not within {least} to {most}");
        agent.stop()?;
    }
    Ok(())
}

/// What the agent itself takes does not depend on the machine; what its maps take does, and is told apart. (`cargo xtask vm
/// --possible-cpus 255 memory` has as many CPUs as maps can be asked to be made for there.)
fn resident() -> Result<()> {
    const MOST_KIB: u64 = 20 << 10;
    const INTERFACES: u64 = 8;
    // Snapshots, one a tick, after which what starting has taken is given back, on however slow a machine.
    const SETTLED: usize = 8;
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    for number in 0..INTERFACES {
        veth(End::new(&here, &format!("x{number}")), End::new(&there, &format!("p{number}")))?;
    }
    let agent = Agent::start(&here, &["--interface", "x*", "--track", "x0"])?;
    let mut ticks = BTreeSet::new();
    let snapshot = eventually(Duration::from_secs(120), "it has settled", || {
        let snapshot = agent.snapshot()?;
        agent.metrics()?;
        ticks.insert(snapshot.time.clone());
        ensure!(ticks.len() > SETTLED, "{} snapshots", ticks.len());
        Ok(snapshot)
    })?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let resident_kib: u64 = resident.context("no VmRSS")?.parse()?;
    let memory = snapshot.probe.memory;
    let (maps_bytes, cpus) = (memory.maps_bytes, memory.possible_cpus);
    println!(
        "{INTERFACES} interfaces, {cpus} possible CPUs: {resident_kib} KiB resident, maps {} KiB",
        maps_bytes >> 10
    );
    ensure!(resident_kib <= MOST_KIB, "{resident_kib} KiB are resident, and {MOST_KIB} may be");
    ensure!(maps_bytes <= MAPS_BYTES + MAPS_BYTES_PER_CPU * cpus, "the maps take {maps_bytes} bytes for {cpus} CPUs");
    agent.stop()
}

/// Maps count as locked memory below 5.11, and not since.
fn locked_memory() -> Result<()> {
    let pair = Pair::new()?;
    let limited = |arguments: &[&str]| with_little_locked_memory(&pair.right, arguments);
    if kernel_version()?.0 >= (5, 11) {
        let output = limited(&["stats", "--for", "100ms", "--interface", "b"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return Ok(());
    }
    for command in ["stats", "doctor"] {
        let output = limited(&[command])?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{command} ended with {}: {said}", output.status);
        for word in ["RLIMIT_MEMLOCK", "0.1 MiB", "--max-interfaces"] {
            ensure!(said.contains(word), "{command}: no {word:?} in {said}");
        }
    }
    Ok(())
}

/// How many maps a process holds, and their bytes.
fn told_by_the_kernel(pid: u32) -> Result<(usize, u64)> {
    let (mut maps, mut bytes) = (0, 0);
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A connection's descriptor may be gone meanwhile.
        let info = fs::read_to_string(file?.path()).unwrap_or_default();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(_), Some(locked)) = (field("map_type:"), field("memlock:")) {
            maps += 1;
            bytes += locked;
        }
    }
    Ok((maps, bytes))
}

/// A memory cgroup of our own, of either version; removed when dropped.
struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    fn new(name: &str, limit: u64) -> Result<Self> {
        let v1 = PathBuf::from("/sys/fs/cgroup/memory");
        let (root, file) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            let root = PathBuf::from("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+memory").context("hand out the memory controller")?;
            (root, "memory.max")
        };
        let cgroup = Self { folder: root.join(format!("lossprobe-tests-{}-{name}", std::process::id())) };
        fs::create_dir(&cgroup.folder).with_context(|| format!("make {}", cgroup.folder.display()))?;
        fs::write(cgroup.folder.join(file), limit.to_string()).context("set the limit")?;
        Ok(cgroup)
    }

    /// A shell's arguments that make it a member and then the program that follows.
    fn entry(&self) -> String {
        format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.folder.display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A member that is not reaped yet keeps it; then it stays for the next boot.
        let _busy = fs::remove_dir(&self.folder);
    }
}

fn limit() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let small = Cgroup::new("small", 12 * MIB)?;
    let entry = small.entry();
    let lossprobe = agent::binary().display().to_string();
    let arguments = ["-c", &entry, &lossprobe, "agent", "--interface", "b", "--socket", "none"];
    let output = program::output(right, "sh", &arguments, "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "ended with {}: {said}", output.status);
    for word in ["12.0 MiB", "--max-interfaces", &small.folder.display().to_string()] {
        ensure!(said.contains(word), "no {word:?} in {said}");
    }
    // The least that is accepted is enough.
    let enough = Cgroup::new("enough", ENOUGH)?;
    let entry = enough.entry();
    let agent = Agent::start_by(right, &["sh", "-c", &entry], &["--interface", "b"])?;
    let memory = agent.json("/api/v1/snapshot")?["probe"]["memory"].clone();
    ensure!(memory["limit_bytes"] == ENOUGH, "{memory}");
    agent.stop()
}
