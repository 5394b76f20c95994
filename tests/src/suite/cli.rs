//! The command line: golden texts, bad input, `stats`.
//!
//! Golden files are in `tests/golden/`; `LOSSPROBE_BLESS=1` writes them anew.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use probe_ebpf::reason::Malformed;
use serde_json::Value;
use tests::{
    agent::{Agent, binary, lossprobe},
    child,
    namespace::Namespace,
    program,
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("cli::help_is_golden", help_is_golden),
        trial("cli::metric_list_is_golden", metric_list_is_golden),
        trial("cli::bad_input", bad_input),
        trial("cli::port_taken", port_taken),
        trial("cli::bad_configuration", bad_configuration),
        trial("cli::stats_from_the_agent", stats_from_the_agent),
        trial("cli::stats_ends_with_its_terminal", stats_ends_with_its_terminal),
        trial("cli::stats_by_itself", stats_by_itself),
        trial("cli::explain", explain),
        trial("cli::every_malformed_reason_is_explained", every_malformed_reason_is_explained),
    ]
}

/// With tshark, which guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("cli::filters_are_wiresharks", filters_are_wiresharks)]
}

/// The golden files are compiled in, because a guest has no source tree.
const GOLDEN: [(&str, &str); 16] = [
    ("help.txt", include_str!("../../golden/help.txt")),
    ("help-agent.txt", include_str!("../../golden/help-agent.txt")),
    ("help-stats.txt", include_str!("../../golden/help-stats.txt")),
    ("help-doctor.txt", include_str!("../../golden/help-doctor.txt")),
    ("help-explain.txt", include_str!("../../golden/help-explain.txt")),
    ("help-analyze.txt", include_str!("../../golden/help-analyze.txt")),
    ("help-watch.txt", include_str!("../../golden/help-watch.txt")),
    ("help-capture.txt", include_str!("../../golden/help-capture.txt")),
    ("help-flows.txt", include_str!("../../golden/help-flows.txt")),
    ("help-verdict.txt", include_str!("../../golden/help-verdict.txt")),
    ("help-incidents.txt", include_str!("../../golden/help-incidents.txt")),
    ("help-report.txt", include_str!("../../golden/help-report.txt")),
    ("help-pause.txt", include_str!("../../golden/help-pause.txt")),
    ("help-resume.txt", include_str!("../../golden/help-resume.txt")),
    ("help-detach.txt", include_str!("../../golden/help-detach.txt")),
    ("metrics.txt", include_str!("../../golden/metrics.txt")),
];

fn golden(name: &str, actual: &str) -> Result<()> {
    if env::var_os("LOSSPROBE_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        return fs::write(&path, actual).with_context(|| format!("write {}", path.display()));
    }
    let expected = GOLDEN.iter().find(|(golden, _)| *golden == name).map(|(_, text)| *text);
    let expected = expected.with_context(|| format!("no golden file {name}"))?;
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (expected.lines().collect(), actual.lines().collect());
    let gone: Vec<_> = old.difference(&new).collect();
    let come: Vec<_> = new.difference(&old).collect();
    ensure!(
        expected == actual,
        "tests/golden/{name} differs (LOSSPROBE_BLESS=1 accepts it): no longer {gone:#?}, now {come:#?}"
    );
    Ok(())
}

fn help_is_golden() -> Result<()> {
    let namespace = Namespace::new("help")?;
    for (arguments, name) in [
        (&["--help"][..], "help.txt"),
        (&["agent", "--help"], "help-agent.txt"),
        (&["stats", "--help"], "help-stats.txt"),
        (&["doctor", "--help"], "help-doctor.txt"),
        (&["explain", "--help"], "help-explain.txt"),
        (&["analyze", "--help"], "help-analyze.txt"),
        (&["watch", "--help"], "help-watch.txt"),
        (&["capture", "--help"], "help-capture.txt"),
        (&["flows", "--help"], "help-flows.txt"),
        (&["verdict", "--help"], "help-verdict.txt"),
        (&["incidents", "--help"], "help-incidents.txt"),
        (&["report", "--help"], "help-report.txt"),
        (&["pause", "--help"], "help-pause.txt"),
        (&["resume", "--help"], "help-resume.txt"),
        (&["detach", "--help"], "help-detach.txt"),
    ] {
        let output = lossprobe(&namespace, arguments)?;
        ensure!(output.status.success(), "{arguments:?} ended with {}", output.status);
        golden(name, &String::from_utf8(output.stdout)?)?;
    }
    Ok(())
}

/// The contract is the program's own table; a scrape shows nothing that is not in it.
fn metric_list_is_golden() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let output = lossprobe(right, &["internal", "metrics-table"])?;
    ensure!(output.status.success(), "ended with {}", output.status);
    let table = String::from_utf8(output.stdout)?;
    golden("metrics.txt", &table)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 9), 10, 10)?;
    for sample in agent.metrics()?.samples() {
        let row = table.lines().find(|row| row.contains(&format!("`{}`", sample.name)));
        let row = row.with_context(|| format!("{} is not in the table", sample.name))?;
        let cell = row.split('|').nth(4).with_context(|| format!("no labels cell in {row}"))?.trim();
        let known: BTreeSet<_> = cell.split(", ").filter(|label| *label != "–").collect();
        let actual: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
        ensure!(actual == known, "{} has the labels {actual:?}, the table says {cell:?}", sample.name);
    }
    agent.stop()
}

/// Ended by itself, with this status, and every word of `expected` in its message.
fn refuses(output: &Output, status: i32, expected: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(status), "ended with {}, not {status}: {said}", output.status);
    for word in expected {
        ensure!(said.contains(word), "no {word:?} in {said:?}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

fn bad_input() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    right.bridge("uplink0")?;
    for (arguments, status, expected) in [
        (&["agent", "--interface", "uplnik0"][..], 1, &["uplnik0", "uplink0"][..]),
        (&["agent", "--interface", "[a"], 2, &["[a"]),
        (&["agent", "--listen", "nonsense"], 2, &["nonsense"]),
        (&["agent", "--log-format", "xml"], 2, &["xml", "json"]),
        (&["agent", "--config", "/nonexistent/lossprobe.toml"], 2, &["/nonexistent/lossprobe.toml"]),
        (&["stats", "--for", "yesterday"], 2, &["yesterday"]),
        (&["frobnicate"], 2, &["frobnicate"]),
        (&["explain", "qdisc_overlimt"], 1, &["qdisc_overlimt", "`qdisc_overlimit`", "without a name"]),
        (&["watch", "--address", "nowhere"], 2, &["nowhere"]),
        (&["watch", "--class", "bad"], 2, &["bad", "capacity"]),
        (&["watch", "--reason", "netfiltr_drop"], 1, &["netfiltr_drop", "`netfilter_drop`", "--list"]),
        (&["watch", "--protocol", "icmp", "--port", "53"], 2, &["--port", "icmp"]),
    ] {
        let output = lossprobe(right, arguments)?;
        refuses(&output, status, expected).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

fn port_taken() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let socket = agent.socket().with_extension("second");
    let second = ["agent", "--interface", "b", "--socket", socket.to_str().context("path")?];
    refuses(&lossprobe(right, &second)?, 1, &["127.0.0.1:9976"])?;
    agent.get("/metrics")?;
    agent.stop()
}

fn temporary(name: &str) -> PathBuf {
    env::temp_dir().join(format!("lossprobe-tests-{}-{name}", std::process::id()))
}

fn bad_configuration() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let path = temporary("bad.toml");
    let text = path.to_str().context("path")?;
    for (content, expected) in [
        (&b"listen = 7\n"[..], &["listen", ":1:"][..]),
        (b"\ninterfase = [\"b\"]\n", &["interfase", ":2:"]),
        (b"listen = \"127.0.0.1:9976\n", &[":1:"]),
        (b"listen = \"127.0.0.1:9976\"\n\xff\xfe\x00", &["UTF-8"]),
        (&[0; 1000], &[":1:"]),
    ] {
        fs::write(&path, content)?;
        let output = lossprobe(right, &["agent", "--config", text]);
        refuses(&output?, 2, &[&[text], expected].concat()).with_context(|| format!("{content:?}"))?;
    }
    fs::remove_file(&path)?;
    Ok(())
}

/// Needs no agent, no privilege and no kernel of a certain age.
fn explain() -> Result<()> {
    let namespace = Namespace::new("explain")?;
    let text = finished(lossprobe(&namespace, &["explain", "QDISC_OVERLIMIT"])?)?;
    for part in ["class capacity", "Usual causes", "Next steps", "tc -s qdisc show dev DEV"] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    let both = finished(lossprobe(&namespace, &["explain", "tcp_flags", "--output", "json"])?)?;
    let both: Value = serde_json::from_str(&both)?;
    ensure!(both["explanations"][0]["kind"] == "drop_reason", "{both}");
    ensure!(both["explanations"][1]["kind"] == "malformed_reason", "{both}");
    let all = finished(lossprobe(&namespace, &["explain"])?)?;
    for part in ["Drop reasons", "Malformed reasons", "Other causes", "Types of TCP's retransmits", "Classes"] {
        ensure!(all.contains(part), "no {part:?} in {all}");
    }
    let list = finished(lossprobe(&namespace, &["explain", "--list", "--output", "json"])?)?;
    let list: Value = serde_json::from_str(&list)?;
    let drops = list["drops"].as_array().context("no drops")?;
    let filter = drops.iter().find(|drop| drop["name"] == "netfilter_drop").context("no netfilter_drop")?;
    ensure!(filter["class"] == "policy", "{filter}");
    ensure!(list["classes"].as_array().is_some_and(|classes| classes.len() == 6), "{list}");
    Ok(())
}

/// What the list shows, line by line as a shell's loop reads it, has a text each.
fn every_malformed_reason_is_explained() -> Result<()> {
    let namespace = Namespace::new("reasons")?;
    let list = finished(lossprobe(&namespace, &["explain", "--list", "reasons"])?)?;
    let names: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names == Malformed::ALL.iter().map(|reason| reason.id()).collect::<Vec<_>>(), "{list}");
    for name in names {
        let text = finished(lossprobe(&namespace, &["explain", name])?)?;
        for part in
            ["a malformed reason", "Usual causes:", "Next steps:", "Wireshark:", "Suricata:", "Kernel:", "Reference:"]
        {
            ensure!(text.contains(part), "{name}: no {part:?} in {text}");
        }
        let json = finished(lossprobe(&namespace, &["explain", name, "--output", "json"])?)?;
        let json: Value = serde_json::from_str(&json)?;
        let explained = json["explanations"].as_array().context("no explanations")?;
        let explained =
            explained.iter().find(|explained| explained["kind"] == "malformed_reason").context("none is it")?;
        for key in ["causes", "next_steps"] {
            ensure!(explained[key].as_array().is_some_and(|all| !all.is_empty()), "{name}: no {key} in {explained}");
        }
        for key in ["exceptions", "wireshark", "suricata", "kernel"] {
            ensure!(explained[key].is_array(), "{name}: no {key} in {explained}");
        }
    }
    Ok(())
}

/// Wireshark takes every display filter that a text names. Guests have no tshark.
fn filters_are_wiresharks() -> Result<()> {
    let here = Namespace::of_this_process()?;
    let empty = temporary("empty.pcap");
    // Magic number, version 2.4, no frame of up to 65,535 bytes, Ethernet; in this machine's order.
    let header = [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65_535, 1];
    fs::write(&empty, header.map(u32::to_ne_bytes).concat())?;
    let file = empty.to_str().context("path")?;
    let mut all = Vec::new();
    for reason in Malformed::ALL {
        let json = finished(lossprobe(&here, &["explain", reason.id(), "--output", "json"])?)?;
        let json: Value = serde_json::from_str(&json)?;
        let filters =
            json["explanations"].as_array().into_iter().flatten().filter_map(|one| one["wireshark"].as_array());
        let filters: Vec<&str> = filters.flatten().filter_map(Value::as_str).collect();
        if !filters.is_empty() {
            // As the next step has them.
            all.push(format!("({})", filters.join(" or ")));
        }
    }
    ensure!(all.len() > Malformed::ALL.len() / 2, "only {} reasons have filters", all.len());
    program::run(&here, "tshark", &["-r", file, "-Y", &all.join(" or ")], "")?;
    fs::remove_file(&empty)?;
    Ok(())
}

/// Datagrams that are sent, and so frames that come in: the fixture's neighbours are permanent, nobody asks for them.
const SENT: u64 = 100;

/// The agent shows its last tick, which is a second old at most.
const SHOWN: Duration = Duration::from_secs(20);

fn stats_from_the_agent() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    send(left)?;
    let socket = agent.socket().to_str().context("path")?;
    eventually(SHOWN, "stats shows what was sent", || {
        check_json(&finished(lossprobe(right, &["stats", "--socket", socket, "--output", "json"])?)?)
    })?;
    check_table(&finished(lossprobe(right, &["stats", "--socket", socket])?)?)?;
    // Another namespace has other interfaces, perhaps of the same names.
    for (namespace, elsewhere) in [(right, false), (left, true)] {
        let output = lossprobe(namespace, &["stats", "--socket", socket])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.contains("another network namespace") == elsewhere, "{said}");
    }

    let repeating = ["stats", "--socket", socket, "--interval", "200ms", "--output", "json"];
    let mut stats = Stats::spawn(right, &repeating)?;
    let mut lines = BufReader::new(stats.0.stdout.take().context("no standard output")?).lines();
    for _ in 0..2 {
        check_json(&lines.next().context("stats --interval ended")??)?;
    }
    stats.ends_in_order_by(Signal::SIGINT)?;
    agent.stop()
}

/// Whether it takes its programs off before it ends is seen by its exit status: a signal that is not taken kills.
fn stats_ends_with_its_terminal() -> Result<()> {
    let pair = Pair::new()?;
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        let mut stats = Stats::spawn(&pair.right, &["stats", "--interval", "200ms", "--output", "json"])?;
        let mut lines = BufReader::new(stats.0.stdout.take().context("no standard output")?).lines();
        lines.next().context("stats --interval ended")??;
        stats.ends_in_order_by(signal)?;
        let left = program::run(&pair.right, "tc", &["filter", "show", "dev", "b", "ingress"], "")?;
        ensure!(left.is_empty(), "what hangs there after {signal}: {left}");
    }
    Ok(())
}

fn stats_by_itself() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    for (output, check) in [("json", check_json as fn(&str) -> Result<()>), ("table", check_table)] {
        let mut stats = Stats::spawn(right, &["stats", "--for", "2s", "--output", output])?;
        // It says so when it has attached.
        let mut said = BufReader::new(stats.0.stderr.take().context("no standard error")?);
        let mut heard = String::new();
        while !heard.contains("watching for") {
            ensure!(said.read_line(&mut heard)? > 0, "stats does not watch: {heard}");
        }
        send(left)?;
        let mut text = String::new();
        stats.0.stdout.take().context("no standard output")?.read_to_string(&mut text)?;
        said.read_to_string(&mut heard)?;
        let status = stats.0.wait()?;
        ensure!(status.success(), "stats --output {output} ended with {status}: {heard}");
        check(&text)?;
    }
    // One that was asked for and is not there is an error, not a reason to attach.
    let nobody = temporary("nobody.sock");
    let socket = nobody.to_str().context("path")?;
    refuses(&lossprobe(right, &["stats", "--socket", socket])?, 1, &[socket])
}

/// A running `lossprobe stats`; dropping it kills it.
struct Stats(Child);

impl Stats {
    fn spawn(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let mut command = child::command(namespace, binary())?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn().with_context(|| format!("start {arguments:?}"))?))
    }

    fn ends_in_order_by(&mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?;
        let status = eventually(SHOWN, "stats has ended", || self.0.try_wait()?.context("it runs"))?;
        ensure!(status.success(), "stats --interval ended with {status} after {signal}");
        Ok(())
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn send(left: &Namespace) -> Result<()> {
    left.send_udp((RIGHT, 9), usize::try_from(SENT)?, 10)
}

/// The standard output of a run that must have gone well.
fn finished(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// One line of JSON with what was sent at interface `b`. (Some kernels put tunnel devices into every namespace.)
fn check_json(text: &str) -> Result<()> {
    let json: Value = serde_json::from_str(text).with_context(|| format!("{text:?}"))?;
    ensure!(json["schema"] == 1, "not schema 1: {json}");
    let interfaces = json["snapshot"]["interfaces"].as_array().with_context(|| format!("no interfaces in {json}"))?;
    let b = interfaces.iter().find(|interface| interface["name"] == "b");
    let b = b.with_context(|| format!("no interface b in {json}"))?;
    ensure!(b["ingress"]["frames"] == SENT, "b has not {SENT} frames in: {b}");
    Ok(())
}

/// A table whose row of `b` has what was sent in the column of incoming frames.
fn check_table(text: &str) -> Result<()> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Name, role, frames in.
    let row =
        rows.into_iter().find(|row| row.first() == Some(&"b")).with_context(|| format!("no row of b:\n{text}"))?;
    ensure!(row.get(2) == Some(&SENT.to_string().as_str()), "b has not {SENT} frames in:\n{text}");
    Ok(())
}
