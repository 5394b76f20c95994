//! `lossprobe doctor`: what it says is so, it says what it could not look at, and it leaves nothing.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::{self, Agent, lossprobe},
    guest::is_guest,
    link::{End, veth},
    namespace::Namespace,
    program,
    raw::{TunKind, open_tun},
    run::{kernel_version, trial},
    topology::Pair,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("doctor::says_what_the_agent_does", says_what_the_agent_does),
        trial("doctor::text", text),
        trial("doctor::unknown_interface", unknown_interface),
        trial("doctor::no_interface", no_interface),
        trial("doctor::counters_run_out", counters_run_out),
    ]
}

/// These need programs that only a host has.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("doctor::unprivileged", unprivileged),
        trial("doctor::without_sys_admin", without_sys_admin),
        trial("doctor::hidden_type_information", hidden_type_information),
        trial("doctor::ingress_qdisc", ingress_qdisc),
    ]
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

fn ends_with(output: &Output, code: i32) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {}, not {code}: {said}", output.status);
    Ok(())
}

fn named<'v>(list: &'v Value, name: &str) -> Result<&'v Value> {
    let found = list.as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
    found.with_context(|| format!("no {name} in {list:#}"))
}

/// The plan is what an agent then does, feature by feature and hook by hook; and it has left nothing behind.
fn says_what_the_agent_does() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, left } = &pair;
    veth(End::new(right, "c"), End::new(left, "d"))?;
    let selected = ["--interface", "b", "--interface", "c"];
    let before = lossprobe(right, &[&["doctor", "--output", "json"][..], &selected].concat())?;
    ends_with(&before, 0)?;
    let report = json(&before)?;
    if is_guest() {
        // For xtask's table of kernels.
        eprintln!("LOSSPROBE-DOCTOR: {report}");
    }
    assert_eq!(report["schema"], 1);
    assert_eq!(report["can_count"], true);
    let names: Vec<_> = report["interfaces"].as_array().context("interfaces")?.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["b", "c"]);
    for check in ["kernel", "privileges", "features", "memory", "agent"] {
        ensure!(report[check].as_array().is_some_and(|checks| !checks.is_empty()), "nothing about {check}");
    }
    assert_eq!(named(&report["agent"], "running_agent")?["status"], "ok");

    let agent = Agent::start(right, &selected)?;
    let snapshot = agent.json("/api/v1/snapshot")?;
    for interface in snapshot["interfaces"].as_array().context("interfaces")? {
        let name = interface["name"].as_str().context("name")?;
        let plan = named(&report["interfaces"], name)?;
        assert_eq!(plan["link"], interface["link"]);
        assert_eq!(plan["kind"], interface["kind"]);
        for attachment in interface["attached"].as_array().context("attached")? {
            let hook = attachment["hook"].as_str().and_then(|hook| hook.strip_prefix("tc_")).context("hook")?;
            assert_eq!(plan[hook]["plan"], attachment["mode"], "{name} {hook}");
            let empty = plan[hook]["programs"].as_array().is_none_or(Vec::is_empty);
            ensure!(empty, "programs before the agent: {plan:#}");
        }
    }
    for (feature, available) in snapshot["probe"]["features"].as_object().context("features")? {
        let expected = if available == true { "ok" } else { "warning" };
        assert_eq!(named(&report["features"], feature)?["status"], expected, "feature {feature}");
    }
    assert_eq!(named(&report["memory"], "open_files")?["status"], "ok");
    let capacity = report["memory"][0]["found"].as_str().context("memory")?;
    ensure!(capacity.contains("for 64 interfaces and 32768 connections"), "{capacity}");

    // Now that the agent is there, it is seen by its socket and its programs.
    let socket = agent.socket().to_str().context("socket")?;
    let beside = lossprobe(right, &["doctor", "--output", "json", "--interface", "b", "--socket", socket])?;
    ends_with(&beside, 0)?;
    let beside = json(&beside)?;
    let answers = named(&beside["agent"], "running_agent")?["found"].as_str().context("found")?;
    ensure!(answers.contains("one answers"), "{answers}");
    let text = named(&beside["interfaces"], "b")?.to_string();
    ensure!(text.contains("lossprobe_in") && text.contains("lossprobe_out"), "the agent's programs: {text}");
    agent.stop()
}

fn text() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let output = lossprobe(right, &["doctor", "--interface", "b"])?;
    ends_with(&output, 0)?;
    let text = String::from_utf8_lossy(&output.stdout);
    for word in ["frames can be counted on 1 of 1 interfaces", "Kernel\n", "Interfaces\n", "CAP_BPF", "seccomp", " b "]
    {
        ensure!(text.contains(word), "no {word:?} in {text}");
    }
    ensure!(!text.contains('\x1b'), "colours without a terminal");
    ensure!(!text.contains("FAILURE"), "{text}");
    Ok(())
}

fn unknown_interface() -> Result<()> {
    let pair = Pair::new()?;
    for (arguments, code) in [(["doctor", "--interface", "nonexistent"], 1), (["doctor", "--interface", "[a"], 2)] {
        let output = lossprobe(&pair.right, &arguments)?;
        ends_with(&output, code)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains(arguments[2]), "{said}");
    }
    Ok(())
}

fn no_interface() -> Result<()> {
    let output = lossprobe(&Namespace::new("empty")?, &["doctor", "--exclude", "*"])?;
    ends_with(&output, 1)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("no interface is selected"), "{text}");
    Ok(())
}

/// One interface too many is not counted, and that is said; the others are.
fn counters_run_out() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, left } = &pair;
    veth(End::new(right, "c"), End::new(left, "d"))?;
    let arguments = ["doctor", "--output", "json", "--max-interfaces", "1", "--interface", "[bc]"];
    let output = lossprobe(right, &arguments)?;
    ends_with(&output, 0)?;
    let report = json(&output)?;
    let statuses: Vec<_> =
        report["interfaces"].as_array().context("interfaces")?.iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["ok", "failure"]);
    ensure!(report["interfaces"][1].to_string().contains("--max-interfaces"), "{report:#}");
    // Nor by another hook.
    let _tap = right.run(|| open_tun("tap0", TunKind::Tap))?;
    let xdp = [
        "doctor",
        "--output",
        "json",
        "--max-interfaces",
        "1",
        "--interface",
        "b",
        "--interface",
        "tap0",
        "--xdp",
        "tap0",
    ];
    let report = json(&lossprobe(right, &xdp)?)?;
    let plan = named(&report["interfaces"], "tap0")?;
    assert_eq!((&plan["status"], &plan["ingress"]["plan"]), (&"failure".into(), &"none".into()), "{plan:#}");
    Ok(())
}

fn under(namespace: &Namespace, wrapper: &[&str]) -> Result<Output> {
    let lossprobe = agent::binary().display().to_string();
    let arguments = [&wrapper[1..], &[lossprobe.as_str(), "doctor", "--output", "json"]].concat();
    program::output(namespace, wrapper[0], &arguments, "")
}

/// A user without any privilege: everything that needs none is told, the rest is unknown, and never good.
fn unprivileged() -> Result<()> {
    let pair = Pair::new()?;
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let output = under(&pair.right, &user)?;
    ends_with(&output, 1)?;
    let report = json(&output)?;
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"] {
        assert_eq!(named(&report["privileges"], capability)?["status"], "failure");
        ensure!(
            report["summary"].as_str().is_some_and(|summary| summary.contains(capability)),
            "{}",
            report["summary"]
        );
    }
    assert_eq!(named(&report["privileges"], "CAP_SYSLOG")?["status"], "warning");
    assert_eq!(named(&report["kernel"], "load")?["status"], "unknown");
    assert_eq!(named(&report["kernel"], "type_information")?["status"], "ok");
    assert_eq!(named(&report["features"], "kfree_skb")?["status"], "unknown");
    assert_eq!(named(&report["features"], "seccomp")?["status"], "ok");
    let plan = named(&report["interfaces"], "b")?;
    assert_eq!(plan["ingress"]["plan"], "unknown");
    assert_eq!(plan["status"], "unknown");
    ensure!(plan["ingress"]["programs"].is_null(), "not looked is no empty list: {plan:#}");
    Ok(())
}

/// With what the agent has, foreign programs have numbers and no names.
fn without_sys_admin() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let has_tcx = kernel_version()?.0 >= (6, 6);
    let agent = Agent::start(right, &["--interface", "b"])?;
    let bounding = ["setpriv", "--bounding-set=-all,+bpf,+perfmon,+net_admin,+syslog"];
    let output = under(right, &bounding)?;
    ends_with(&output, 0)?;
    let report = json(&output)?;
    ensure!(report.to_string().contains("names not visible without CAP_SYS_ADMIN"), "{report:#}");
    if has_tcx {
        let programs = &named(&report["interfaces"], "b")?["ingress"]["programs"];
        ensure!(programs[0]["id"].is_u64() && programs[0]["name"].is_null(), "{programs}");
    }
    agent.stop()
}

fn hidden_type_information() -> Result<()> {
    let pair = Pair::new()?;
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let output = under(&pair.right, &["unshare", "--mount", "sh", "-c", script])?;
    ends_with(&output, 1)?;
    let report = json(&output)?;
    let check = named(&report["kernel"], "type_information")?;
    assert_eq!(check["status"], "failure");
    ensure!(check["next_step"].as_str().is_some_and(|next| next.contains("CONFIG_DEBUG_INFO_BTF")), "{check}");
    Ok(())
}

/// Somebody's `ingress` qdisc: below tcx egress is not counted; with tcx it does not matter. Its filters are shown.
fn ingress_qdisc() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    program::run(right, "tc", &["qdisc", "add", "dev", "b", "ingress"], "")?;
    let rule = "filter add dev b ingress pref 7 protocol ip u32 match ip dport 5000 0xffff flowid 1:1";
    program::run(right, "tc", &rule.split(' ').collect::<Vec<_>>(), "")?;
    let output = lossprobe(right, &["doctor", "--output", "json"])?;
    ends_with(&output, 0)?;
    let report = json(&output)?;
    let plan = named(&report["interfaces"], "b")?;
    let (mode, egress) = if kernel_version()?.0 >= (6, 6) { ("tcx", "tcx") } else { ("clsact", "none") };
    assert_eq!(plan["ingress"]["plan"], mode);
    assert_eq!(plan["egress"]["plan"], egress);
    assert_eq!(plan["ingress"]["filters"], serde_json::json!(["u32"]));
    assert_eq!(plan["egress"]["filters"], serde_json::json!([]), "an ingress qdisc has no egress");
    Ok(())
}
