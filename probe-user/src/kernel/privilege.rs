//! What this process may do, and when it gives that up.
//!
//! At the start everything but [`USED`] is dropped. When programs and maps are in the kernel, [`confine`] leaves what
//! attaching and reading needs, forbids new privileges and sets a system call filter. Both happen on the main thread
//! while it is the only one: threads inherit, so what it gave up no thread has.

mod filter;

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use super::{descriptors, preflight::running_below};
use crate::snapshot::Privileges;

/// What goes without a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// Counting: the agent refuses to start.
    Counting,
    /// The named features; all else works.
    Features(&'static [&'static str]),
    /// Nothing where `RLIMIT_MEMLOCK` allows what the maps take, else counting.
    LockedMemory,
}

/// A capability that this program uses.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Which.
    pub capability: Capability,
    /// What for.
    pub why: &'static str,
    /// What is lost without it.
    pub without: Without,
    /// Whether it stays when everything is loaded.
    pub stays: bool,
}

impl Used {
    /// The kernel's name, as in `CAP_BPF`.
    #[must_use]
    pub fn name(&self) -> String {
        self.capability.to_string()
    }
}

/// All that is ever used. Never `CAP_SYS_ADMIN`: what would need it is reported as not available.
pub const USED: [Used; 5] = [
    Used {
        capability: Capability::CAP_BPF,
        why: "creates maps, loads programs and reads the counters",
        without: Without::Counting,
        stays: true,
    },
    Used {
        capability: Capability::CAP_NET_ADMIN,
        why: "loads and attaches the programs on interfaces",
        without: Without::Counting,
        stays: true,
    },
    Used {
        capability: Capability::CAP_PERFMON,
        // Without it the verifier forbids packet pointers to be compared in the tc programs, too (seen on 6.18).
        why: "loads programs that compare and follow pointers",
        without: Without::Counting,
        stays: false,
    },
    Used {
        capability: Capability::CAP_SYSLOG,
        why: "shows the addresses of kernel functions",
        without: Without::Features(&["drop_members", "drop_functions"]),
        stays: false,
    },
    Used {
        capability: Capability::CAP_SYS_RESOURCE,
        why: "locks memory for the maps where RLIMIT_MEMLOCK is too low (below Linux 5.11)",
        without: Without::LockedMemory,
        stays: false,
    },
];

/// The first kernel that charges maps to the memory cgroup instead of `RLIMIT_MEMLOCK`.
pub(super) const CHARGED_TO_CGROUP: (u32, u32) = (5, 11);

/// Whether this kernel has a use for the capability at all.
#[must_use]
pub fn is_useful(used: &Used) -> bool {
    used.capability != Capability::CAP_SYS_RESOURCE || running_below(CHARGED_TO_CGROUP)
}

/// What this thread can make use of: its permitted capabilities.
///
/// # Errors
/// If the kernel does not tell.
pub fn held() -> Result<CapsHashSet> {
    caps::read(None, CapSet::Permitted).context("read the capabilities of this process")
}

/// Those of [`USED`] that are useful here and not in `held`.
#[must_use]
pub fn missing(held: &CapsHashSet) -> Vec<&'static Used> {
    USED.iter().filter(|used| is_useful(used) && !held.contains(&used.capability)).collect()
}

/// Gives up everything but [`USED`].
///
/// # Errors
/// If one that nothing can be counted without is missing, with the ways to get it; if the kernel refuses.
pub fn start() -> Result<()> {
    keep(is_useful)?;
    let missing = missing(&held()?);
    for used in &missing {
        if let Without::Features(features) = used.without {
            warn!("{} is missing ({}): not available: {}", used.name(), used.why, features.join(", "));
        }
    }
    let needed = missing.iter().filter(|used| used.without == Without::Counting);
    let needed: Vec<_> = needed.map(|used| format!("{} ({})", used.name(), used.why)).collect();
    ensure!(needed.is_empty(), "missing privilege: {}. {HOW_TO_GET}", needed.join(", "));
    allow_locked_memory();
    descriptors::allow();
    Ok(())
}

/// The ways to get what is missing.
const HOW_TO_GET: &str = "Run as root, or grant it: `sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_syslog+ep /path/to/lossprobe`; in a \
     container start as uid 0 with `--cap-drop ALL --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --cap-add SYSLOG`";

/// Below 5.11 maps count as locked memory. Taking what the hard limit allows may make `CAP_SYS_RESOURCE` unnecessary.
pub fn allow_locked_memory() {
    if running_below(CHARGED_TO_CGROUP)
        && let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)
    {
        warn!("RLIMIT_MEMLOCK stays at {soft} bytes: {error}");
    }
}

/// Everything is loaded: leaves what attaching and reading needs, for good. What cannot be done is a missing feature.
///
/// # Errors
/// If another thread runs already, which would keep its own; if capabilities cannot be given up.
pub fn confine(features: &mut BTreeMap<String, bool>) -> Result<Privileges> {
    let threads = fs::read_dir("/proc/self/task").context("list the threads of this process")?.count();
    ensure!(threads == 1, "privileges must be given up before the first of {} further threads", threads - 1);
    let missing = missing(&held()?).into_iter().map(Used::name).collect();
    keep(|used| used.stays)?;
    let no_new_privs = nix::sys::prctl::set_no_new_privs().context("no_new_privs");
    let seccomp = no_new_privs.as_ref().map_or_else(|_| bail!("it needs no_new_privs"), |()| filter::apply());
    for (feature, outcome) in [("no_new_privs", &no_new_privs), ("seccomp", &seccomp)] {
        if let Err(error) = outcome {
            warn!("{feature} is not to be had, so a subverted agent could do more than it should: {error:#}");
        }
        features.insert(feature.to_owned(), outcome.is_ok());
    }
    let mut held: Vec<_> = held()?.iter().map(ToString::to_string).collect();
    held.sort();
    info!(held = held.join(","), "privileges given up");
    Ok(Privileges { held, missing })
}

fn keep(wanted: impl Fn(&Used) -> bool) -> Result<()> {
    let wanted: CapsHashSet = USED.iter().filter(|used| wanted(used)).map(|used| used.capability).collect();
    let kept: CapsHashSet = held()?.intersection(&wanted).copied().collect();
    // Effective ones first: they must be permitted at any time.
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).with_context(|| format!("reduce the {set:?} capabilities"))?;
    }
    // Ambient ones go with the inheritable.
    caps::clear(None, CapSet::Inheritable).context("clear the inheritable capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let all: CapsHashSet = USED.iter().map(|used| used.capability).collect();
        assert!(missing(&all).is_empty());
        for used in USED.iter().filter(|used| is_useful(used)) {
            let without = all.iter().copied().filter(|capability| *capability != used.capability).collect();
            let found: Vec<_> = missing(&without).into_iter().map(Used::name).collect();
            assert_eq!(found, [used.name()]);
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        // uapi/linux/capability.h
        let numbers = USED.map(|used| (used.name(), used.capability.index()));
        let expected = [("BPF", 39), ("NET_ADMIN", 12), ("PERFMON", 38), ("SYSLOG", 34), ("SYS_RESOURCE", 24)];
        assert_eq!(numbers, expected.map(|(name, number)| (format!("CAP_{name}"), number)));
    }
}
