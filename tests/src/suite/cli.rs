//! The command line: golden texts, bad input, `stats`.
//!
//! Golden files are in `tests/golden/`; `LOSSPROBE_BLESS=1` writes them anew.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    namespace::Namespace,
    run::trial,
    topology::{Pair, RIGHT},
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("cli::help_is_golden", help_is_golden),
        trial("cli::metric_list_is_golden", metric_list_is_golden),
        trial("cli::bad_input", bad_input),
        trial("cli::port_taken", port_taken),
        trial("cli::bad_configuration", bad_configuration),
        trial("cli::stats_from_the_agent", stats_from_the_agent),
        trial("cli::stats_by_itself", stats_by_itself),
    ]
}

/// The golden files are compiled in, because a guest has no source tree.
const GOLDEN: [(&str, &str); 4] = [
    ("help.txt", include_str!("../../golden/help.txt")),
    ("help-agent.txt", include_str!("../../golden/help-agent.txt")),
    ("help-stats.txt", include_str!("../../golden/help-stats.txt")),
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
        let strange: Vec<_> = sample.labels.keys().filter(|label| !row.contains(*label)).collect();
        ensure!(strange.is_empty(), "{} has labels {strange:?} that the table does not know", sample.name);
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
        ("listen = 7\n", &["listen", ":1:"][..]),
        ("\ninterfase = [\"b\"]\n", &["interfase", ":2:"]),
        ("listen = \"127.0.0.1:9976\n", &[":1:"]),
    ] {
        fs::write(&path, content)?;
        let output = lossprobe(right, &["agent", "--config", text]);
        refuses(&output?, 2, &[&[text], expected].concat()).with_context(|| format!("{content:?}"))?;
    }
    fs::remove_file(&path)?;
    Ok(())
}

fn stats_from_the_agent() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 9), 100, 10)?;
    let socket = agent.socket().to_str().context("path")?;
    let json = stats(right, &["stats", "--socket", socket, "--output", "json"])?;
    ensure!(json.to_string().contains("\"b\""), "no interface b in {json}");
    let table = lossprobe(right, &["stats", "--socket", socket])?;
    let text = String::from_utf8(table.stdout)?;
    ensure!(table.status.success() && text.contains('b'), "{text}");
    agent.stop()
}

fn stats_by_itself() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let json = stats(right, &["stats", "--for", "1s", "--output", "json"])?;
    ensure!(json.to_string().contains("\"b\""), "no interface b in {json}");
    // One that was asked for and is not there is an error, not a reason to attach.
    let nobody = temporary("nobody.sock");
    let socket = nobody.to_str().context("path")?;
    refuses(&lossprobe(right, &["stats", "--socket", socket])?, 1, &[socket])
}

fn stats(namespace: &Namespace, arguments: &[&str]) -> Result<Value> {
    let output = lossprobe(namespace, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(&text).with_context(|| format!("{text:?}"))
}
