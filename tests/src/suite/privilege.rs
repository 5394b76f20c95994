//! What the probe may do and what it does where it may not: the error or the missing feature is named.

mod confined;

use std::{fs, process::Output};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::{
    agent::{self, Agent},
    link::{End, veth},
    namespace::Namespace,
    program,
    run::trial,
    topology::{LEFT, Pair, RIGHT},
    wait::eventually,
};

pub(crate) use self::confined::{become_confined, with_little_locked_memory};
use super::counts::{Counts, SOON, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("privilege::every_thread_is_confined", every_thread_is_confined),
        trial("privilege::refused_calls", confined::refused_calls),
        trial("privilege::filter_forbidden", confined::filter_forbidden),
    ]
}

/// These need programs that only a host has.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("privilege::as_in_a_container", as_in_a_container),
        trial("privilege::as_a_user_with_ambient_capabilities", as_a_user_with_ambient_capabilities),
        trial("privilege::missing_capability", missing_capability),
        trial("privilege::missing_feature", missing_feature),
        trial("privilege::hidden_type_information", hidden_type_information),
    ]
}

/// What the agent is to be given, in the notation of setpriv, and nothing else.
const ALL: &str = "-all,+bpf,+perfmon,+net_admin,+syslog";

/// Bits of `CAP_NET_ADMIN` and `CAP_BPF` (uapi/linux/capability.h).
const HELD: u64 = 1 << 12 | 1 << 39;

/// The main job: frames of an interface that was there, and of one that came later, are counted exactly.
fn counts(pair: &Pair, agent: &Agent<'_>) -> Result<()> {
    const FRAME: u64 = 14 + 20 + 8 + 10;
    let Pair { left, right } = pair;
    let (_sink, _other_sink) = (right.udp((RIGHT, 5000))?, left.udp((LEFT, 5000))?);
    for direction in ["ingress", "egress"] {
        let expected = Counts::new(1000, 1000 * FRAME);
        counts_exactly(agent, ("b", direction), expected, || match direction {
            "ingress" => left.send_udp((RIGHT, 5000), 1000, 10),
            _ => right.send_udp((LEFT, 5000), 1000, 10),
        })?;
    }
    veth(End::new(right, "late"), End::new(left, "other"))?;
    eventually(SOON, "the new interface is attached to", || {
        let attached = agent.metrics()?.sum("lossprobe_attached", &[("interface", "late")]);
        ensure!(attached == 2.0, "{attached} hooks");
        Ok(())
    })?;
    right.delete("late")?;
    lost_nothing(agent)
}

fn features(agent: &Agent<'_>, expected: &[(&str, f64)]) -> Result<()> {
    let metrics = agent.metrics()?;
    for (feature, value) in expected {
        let found = metrics.get("lossprobe_feature_available", &[("feature", feature)]);
        ensure!(found == Some(*value), "feature {feature} is {found:?}");
    }
    Ok(())
}

fn privileges(agent: &Agent<'_>) -> Result<Value> {
    Ok(agent.json("/api/v1/snapshot")?["probe"]["privileges"].clone())
}

/// Every thread holds two capabilities and no more, for good, and is filtered.
pub(super) fn confined(pid: u32) -> Result<()> {
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let field = |name: &str| -> Result<&str> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("no {name} in {status}"))?.trim())
        };
        for (set, expected) in [("CapPrm", HELD), ("CapEff", HELD), ("CapInh", 0), ("CapAmb", 0)] {
            let mask = u64::from_str_radix(field(set)?, 16)?;
            ensure!(mask == expected, "{set} is {mask:x}, not {expected:x}");
        }
        ensure!(field("NoNewPrivs")? == "1", "new privileges are possible");
        ensure!(field("Seccomp")? == "2", "no filter: {}", field("Seccomp")?);
        threads += 1;
    }
    ensure!(threads > 0, "no thread");
    Ok(())
}

fn every_thread_is_confined() -> Result<()> {
    let pair = Pair::new()?;
    let agent = Agent::start(&pair.right, &[])?;
    confined(agent.pid())?;
    features(&agent, &[("seccomp", 1.0), ("no_new_privs", 1.0)])?;
    assert_eq!(privileges(&agent)?["held"], json!(["CAP_BPF", "CAP_NET_ADMIN"]));
    // Under load as well: whatever thread there may be then.
    counts(&pair, &agent)?;
    confined(agent.pid())?;
    agent.stop()
}

/// Uid 0 with all capabilities dropped but the ones that it asks for.
fn as_in_a_container() -> Result<()> {
    let pair = Pair::new()?;
    let bounding = format!("--bounding-set={ALL}");
    program::installed("setpriv")?;
    let agent = Agent::start_by(&pair.right, &["setpriv", &bounding], &[])?;
    confined(agent.pid())?;
    assert_eq!(privileges(&agent)?, json!({"held": ["CAP_BPF", "CAP_NET_ADMIN"], "missing": []}));
    features(&agent, &[("drop_members", 1.0), ("kfree_skb", 1.0), ("seccomp", 1.0)])?;
    counts(&pair, &agent)?;
    agent.stop()
}

/// As systemd's `AmbientCapabilities=` does it.
fn as_a_user_with_ambient_capabilities() -> Result<()> {
    let pair = Pair::new()?;
    let (inheritable, ambient) = (format!("--inh-caps={ALL}"), format!("--ambient-caps={ALL}"));
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", &inheritable, &ambient];
    program::installed("setpriv")?;
    let agent = Agent::start_by(&pair.right, &user, &[])?;
    confined(agent.pid())?;
    assert_eq!(privileges(&agent)?, json!({"held": ["CAP_BPF", "CAP_NET_ADMIN"], "missing": []}));
    counts(&pair, &agent)?;
    agent.stop()
}

fn refused(output: &Output, expected: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "ended with {}: {said}", output.status);
    for word in expected {
        ensure!(said.contains(word), "no {word:?} in {said:?}");
    }
    Ok(())
}

/// Nothing can be counted without these; `CAP_SYS_ADMIN` is no substitute, for it is dropped at once.
fn missing_capability() -> Result<()> {
    let namespace = Namespace::new("privilege")?;
    let lossprobe = agent::binary().display().to_string();
    for (all, missing, expected) in [
        (ALL, "bpf", "CAP_BPF"),
        (ALL, "perfmon", "CAP_PERFMON"),
        (ALL, "net_admin", "CAP_NET_ADMIN"),
        ("+all", "bpf", "CAP_BPF"),
    ] {
        let bounding = format!("--bounding-set={all},-{missing}");
        for verb in [&["agent", "--socket", "none"][..], &["stats"]] {
            let arguments = [&[bounding.as_str(), lossprobe.as_str()], verb].concat();
            refused(&program::output(&namespace, "setpriv", &arguments, "")?, &[expected, "setcap", "--cap-add"])?;
        }
    }
    Ok(())
}

/// Without `CAP_SYSLOG` kernel functions have no addresses; everything else works.
fn missing_feature() -> Result<()> {
    let pair = Pair::new()?;
    let bounding = format!("--bounding-set={ALL},-syslog");
    let agent = Agent::start_by(&pair.right, &["setpriv", &bounding], &[])?;
    features(&agent, &[("drop_members", 0.0), ("drop_functions", 0.0), ("kfree_skb", 1.0)])?;
    assert_eq!(privileges(&agent)?["missing"], json!(["CAP_SYSLOG"]));
    for word in ["CAP_SYSLOG", "drop_members", "drop_functions"] {
        ensure!(agent.log().contains(word), "{word} is not in the log: {}", agent.log());
    }
    counts(&pair, &agent)?;
    agent.stop()
}

fn hidden_type_information() -> Result<()> {
    let namespace = Namespace::new("no types")?;
    let script =
        format!("mount -t tmpfs none /sys/kernel/btf && exec {} agent --socket none", agent::binary().display());
    let output = program::output(&namespace, "unshare", &["--mount", "sh", "-c", &script], "")?;
    refused(&output, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"])
}
