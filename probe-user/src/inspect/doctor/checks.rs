//! Kernel, privileges, features, memory and a running agent.

use std::{collections::BTreeMap, io::ErrorKind, os::unix::net::UnixStream, path::Path};

use anyhow::Result;
use caps::{Capability, CapsHashSet};

use super::{Check, Status};
use crate::kernel::{
    btf, descriptors,
    load::{Capacity, Loaded, load_only},
    memory, preflight,
    privilege::{self, Without},
    read::missed_runs,
    symbols,
    types::{self, KernelTypes},
};
use crate::snapshot::Memory;

/// Last lines of the verifier's log that are shown.
const LOG_LINES: usize = 8;

/// A feature, what goes without it, and what to do.
struct Feature {
    name: &'static str,
    without: &'static str,
    next_step: &'static str,
}

const FEATURES: [Feature; 19] = [
    Feature {
        name: "tcx",
        without: "programs hang on clsact filters, which stay after a killed agent and stand beside no order",
        next_step: "Linux 6.6 or later",
    },
    Feature {
        name: types::KFREE_SKB,
        without: "packets that the kernel drops are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::TCP_RETRANSMIT_SKB,
        without: "segments that are sent again are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::TCP_RETRANSMIT_SYNACK,
        without: "SYN-ACKs that are sent again are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: "drop_reasons",
        without: "a drop has a reason only where the function that makes it tells",
        next_step: "Linux 5.17 or later",
    },
    Feature {
        name: "retransmit_types",
        without: "segments that are sent again are of unknown type",
        next_step: "a kernel with complete type information",
    },
    Feature {
        name: types::TCP_BAD_CSUM,
        without: "segments with a wrong TCP checksum have no interface",
        next_step: "Linux 5.14 or later",
    },
    Feature {
        name: types::XDP_EXCEPTION,
        without: "frames that XDP programs abort are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::XDP_REDIRECT_ERR,
        without: "frames that XDP programs cannot redirect are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::XDP_DEVMAP_XMIT,
        without: "redirected frames that the other device does not take are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::XDP_BULK_TX,
        without: "frames that XDP programs cannot send back are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: types::XDP_CPUMAP_ENQUEUE,
        without: "redirected frames that the other CPU does not take are not counted",
        next_step: "see the check `load`",
    },
    Feature {
        name: "drop_segments",
        without: "a dropped GSO packet counts as one segment",
        next_step: "a kernel with complete type information",
    },
    Feature {
        name: "drop_functions",
        without: "the kernel function that dropped a packet is not shown",
        next_step: "grant CAP_SYSLOG; kernel.kptr_restrict must be below 2",
    },
    Feature {
        name: "drop_members",
        without: "fragments that are freed with a dropped packet count as drops of their own",
        next_step: "grant CAP_SYSLOG; kernel.kptr_restrict must be below 2",
    },
    Feature { name: "log", without: "what the programs say once is not heard", next_step: "Linux 5.8 or later" },
    Feature {
        name: "program_missed",
        without: "runs that the kernel skips are not told",
        next_step: "Linux 5.12 or later",
    },
    Feature {
        name: "no_new_privs",
        without: "a subverted agent could gain privileges",
        next_step: "allow prctl(PR_SET_NO_NEW_PRIVS) in the container",
    },
    Feature {
        name: "seccomp",
        without: "a subverted agent could load programs or start others",
        next_step: "allow seccomp(2) in the container; the kernel needs CONFIG_SECCOMP_FILTER",
    },
];

fn feature(name: &str, available: Option<bool>, found: &str) -> Check {
    let known = FEATURES.iter().find(|feature| feature.name == name);
    let (without, next_step) = known.map_or(("", ""), |feature| (feature.without, feature.next_step));
    match available {
        Some(true) => Check::ok(name, found),
        Some(false) => Check::new(name, Status::Warning, found).without(without, next_step),
        None => Check::new(name, Status::Unknown, found),
    }
}

/// What the kernel is, whether it takes the programs, and what it gives. Gives up privileges on the way.
pub(super) fn kernel_and_features(
    capacity: Capacity,
    tcx: (Option<bool>, &str),
    memory: &[Check],
) -> (Vec<Check>, Vec<Check>) {
    let types = KernelTypes::running();
    let mut kernel = vec![release(), type_information(&types)];
    let failed = kernel.iter().chain(memory).find(|check| check.status == Status::Failure);
    let (load, loaded) = match failed {
        // Where memory is short the kernel would kill whoever tries.
        Some(failed) => (Check::new("load", Status::Unknown, format!("not tried: see {}", failed.name)), None),
        None => load(capacity),
    };
    kernel.push(load);

    let mut found = BTreeMap::new();
    found.insert("tcx", (tcx.0, tcx.1.to_owned()));
    if let Ok(types) = &types {
        from_types(types, &mut found);
    }
    let addresses = symbols::addresses_of("skb_release_data").is_some();
    let kallsyms = if addresses { "/proc/kallsyms shows addresses" } else { "/proc/kallsyms shows no addresses" };
    found.insert("drop_members", (Some(addresses), kallsyms.to_owned()));
    found.insert("drop_functions", (Some(addresses), kallsyms.to_owned()));
    if let Some(loaded) = &loaded {
        let told = !missed_runs(&loaded.ebpf, &loaded.programs).is_empty();
        let missed = if told { "the kernel counts skipped runs" } else { "the kernel does not count skipped runs" };
        found.insert("program_missed", (Some(told), missed.to_owned()));
        found.insert("log", (Some(true), "ring buffer".to_owned()));
        for name in types::TRACEPOINTS {
            if let (Some(available), Some(seen)) = (loaded.features.get(name), found.get_mut(name)) {
                seen.0 = Some(*available);
                if let Some(error) = loaded.unwatched.get(name) {
                    seen.1 = last_lines(error);
                }
            }
        }
    }
    for (name, available) in confined() {
        let words = if available { "can be set" } else { "is refused" };
        found.insert(name, (Some(available), words.to_owned()));
    }
    let unknown = || (None, "not looked: see the checks before".to_owned());
    let check = |listed: &Feature| {
        let (available, words) = found.get(listed.name).cloned().unwrap_or_else(unknown);
        feature(listed.name, available, &words)
    };
    (kernel, FEATURES.iter().map(check).collect())
}

fn release() -> Check {
    let release = match preflight::release() {
        Ok(release) => release,
        Err(error) => return Check::new("release", Status::Unknown, format!("{error:#}")),
    };
    match preflight::check_release(&release) {
        Ok(()) => Check::ok("release", format!("Linux {release}")),
        Err(error) => Check::new("release", Status::Failure, format!("{error:#}"))
            .without("the programs were never tried there", "Linux 5.10 or later"),
    }
}

fn type_information(types: &Result<KernelTypes>) -> Check {
    const NAME: &str = "type_information";
    if let Err(error) = preflight::check_types() {
        return Check::new(NAME, Status::Failure, format!("{} is missing", btf::VMLINUX))
            .without("nothing can be loaded", format!("{error:#}"));
    }
    match types {
        Ok(types) => {
            let missing = types.missing_offsets();
            if missing.is_empty() {
                return Check::ok(NAME, btf::VMLINUX);
            }
            let found = format!("{} lacks {}", btf::VMLINUX, missing.join(", "));
            let without = "neither drops nor retransmits are counted";
            Check::new(NAME, Status::Warning, found).without(without, "a kernel with complete type information")
        }
        Err(error) => Check::new(NAME, Status::Failure, format!("{error:#}"))
            .without("nothing can be loaded", "make it readable; containers must see the host's /sys"),
    }
}

/// What type information alone tells: whether a tracepoint's program will load, the kernel says.
fn from_types(types: &KernelTypes, found: &mut BTreeMap<&str, (Option<bool>, String)>) {
    for name in types::TRACEPOINTS {
        let seen = match types.tracepoint_arguments.get(name) {
            Some(arguments) => (None, format!("tracepoint with {arguments} arguments")),
            None => (Some(false), "this kernel has no such tracepoint".to_owned()),
        };
        found.insert(name, seen);
    }
    let reasons = types.reasons.len();
    let segments = types.offsets.skb_shared_info_gso_size != probe_ebpf::abi::ABSENT;
    let words = if segments { "skb_shared_info.gso_segs is known" } else { "no skb_shared_info.gso_segs" };
    found.insert("drop_reasons", (Some(reasons > 0), format!("{reasons} reasons have names")));
    found.insert("drop_segments", (Some(segments), words.to_owned()));
    let occasions = types.tells_occasions();
    let words = if occasions { "inet_connection_sock is known" } else { "no inet_connection_sock.icsk_ca_state" };
    found.insert("retransmit_types", (Some(occasions), words.to_owned()));
}

/// Loads all programs and attaches none.
fn load(capacity: Capacity) -> (Check, Option<Loaded>) {
    const NAME: &str = "load";
    let missing = match privilege::held() {
        Ok(held) => needed(&held),
        Err(error) => return (Check::new(NAME, Status::Unknown, format!("{error:#}")), None),
    };
    if !missing.is_empty() {
        let check = Check::new(NAME, Status::Unknown, format!("not tried: without {}", missing.join(", ")));
        return (check.without("", "run as root to see whether the kernel takes the programs"), None);
    }
    privilege::allow_locked_memory();
    descriptors::allow();
    match load_only(capacity) {
        Ok(loaded) => (Check::ok(NAME, format!("the kernel takes {} programs", loaded.programs.len())), Some(loaded)),
        Err(error) => {
            let check = Check::new(NAME, Status::Failure, last_lines(&format!("{error:#}")));
            (check.without("nothing can be counted", "report it with this text and the kernel's release"), None)
        }
    }
}

/// The first line says what failed, the last ones what the verifier said about it.
fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    match lines.first() {
        Some(first) if lines.len() > LOG_LINES => format!("{first}\n…\n{last}"),
        _ => last,
    }
}

fn needed(held: &CapsHashSet) -> Vec<String> {
    let missing = privilege::missing(held).into_iter().filter(|used| used.without == Without::Counting);
    missing.map(privilege::Used::name).collect()
}

/// Tries what the agent does after loading; it holds for this process only.
fn confined() -> BTreeMap<&'static str, bool> {
    let mut features = BTreeMap::new();
    // An error is about capabilities, not about these two.
    let _held = privilege::confine(&mut features);
    ["no_new_privs", "seccomp"].into_iter().filter_map(|name| Some((name, *features.get(name)?))).collect()
}

/// Every capability that is used, and the one that is never asked for but would show more.
pub(super) fn privileges() -> Vec<Check> {
    let held = match privilege::held() {
        Ok(held) => held,
        Err(error) => return vec![Check::new("capabilities", Status::Failure, format!("{error:#}"))],
    };
    let mut checks: Vec<_> = privilege::USED.iter().map(|used| capability(used, &held)).collect();
    let sees_names = held.contains(&Capability::CAP_SYS_ADMIN);
    let names = if sees_names { "held here, never by the agent" } else { "not held, and never asked for" };
    let check = Check::ok("CAP_SYS_ADMIN", names);
    checks.push(if sees_names {
        check
    } else {
        check.without(format!("foreign programs: {}", super::plan::NO_NAMES), "")
    });
    checks
}

fn capability(used: &privilege::Used, held: &CapsHashSet) -> Check {
    let name = used.name();
    if held.contains(&used.capability) {
        let until = if used.stays { "kept" } else { "given up after loading" };
        let idle = if privilege::is_useful(used) { "" } else { "; this kernel has no use for it" };
        return Check::ok(&name, format!("held: {}; {until}{idle}", used.why));
    }
    if !privilege::is_useful(used) {
        return Check::ok(&name, "not held, and of no use on this kernel");
    }
    let (status, consequence) = match used.without {
        Without::Counting => (Status::Failure, "nothing can be counted".to_owned()),
        Without::Features(features) => (Status::Warning, format!("not available: {}", features.join(", "))),
        Without::LockedMemory => (Status::Ok, "nothing, as long as RLIMIT_MEMLOCK suffices (see memory)".to_owned()),
    };
    let short = name.trim_start_matches("CAP_");
    let next =
        format!("run as root, or add it: `--cap-add {short}` (container), `AmbientCapabilities={name}` (systemd)");
    Check::new(&name, status, format!("missing: {}", used.why)).without(consequence, next)
}

/// What the maps will take against what is allowed.
pub(super) fn memory(capacity: Capacity) -> (Vec<Check>, Option<Memory>) {
    const NAME: &str = "maps";
    let (memory, limit) = match memory::examine(capacity) {
        Ok(examined) => examined,
        Err(error) => return (vec![Check::new(NAME, Status::Unknown, format!("{error:#}"))], None),
    };
    let maps = format!("{} for {}", memory::mib(memory.maps_bytes), capacity.words());
    let check = match limit {
        None => Check::ok(NAME, format!("{maps}; nothing limits it")),
        Some(limit) if limit.allows(memory.maps_bytes) => Check::ok(NAME, format!("{maps}, {limit}")),
        Some(limit) => Check::new(NAME, Status::Failure, format!("{maps}, {limit}"))
            .without("the agent refuses to start", "lower --max-interfaces or --flows, or raise the limit"),
    };
    (vec![check], Some(memory))
}

/// Whether the programs of so many interfaces can be held at a time.
pub(super) fn open_files(interfaces: u64) -> Check {
    const NAME: &str = "open_files";
    let allowed = descriptors::within_reach();
    let needed = descriptors::needed(interfaces);
    let found = format!("{needed} for {interfaces} interfaces, RLIMIT_NOFILE allows {allowed}");
    if needed <= allowed {
        return Check::ok(NAME, found);
    }
    let next_step =
        "raise it (`LimitNOFILE=` in systemd, `--ulimit nofile=` in a container), or select fewer interfaces";
    Check::new(NAME, Status::Warning, found)
        .without("on Linux 6.6 and later the agent refuses the last of them", next_step)
}

/// Whether an agent answers already.
pub(super) fn agent(socket: Option<&Path>) -> Vec<Check> {
    const NAME: &str = "running_agent";
    let Some(path) = socket else {
        return vec![Check::new(NAME, Status::Unknown, "no unix socket to ask (--socket none)")];
    };
    let shown = path.display();
    vec![match UnixStream::connect(path) {
        Ok(_) => Check::ok(NAME, format!("one answers at {shown}"))
            .without("", "`lossprobe stats` shows what it counts; a second one needs its own --socket and --listen"),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Check::ok(NAME, format!("none at {shown}"))
        }
        Err(error) => Check::new(NAME, Status::Unknown, format!("cannot ask at {shown}: {error}")),
    }]
}
