//! Calls of the few programs that the tests rely on.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{child, namespace::Namespace};

/// Alertmanager as Debian calls it, and as everybody else does.
const ALERTMANAGER: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

/// The distribution's package of a program.
const PACKAGES: &[(&str, &str)] = &[
    ("bpftool", "bpftool"),
    ("nft", "nftables"),
    ("tc", "iproute2"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("promtool", "prometheus"),
    ("prometheus", "prometheus"),
    (ALERTMANAGER[0], "prometheus-alertmanager"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("bpftrace", "bpftrace"),
    ("kubectl", "kubernetes-client"),
    ("systemd-analyze", "systemd"),
    ("runc", "runc"),
];

/// Runs a program inside `namespace` with `input` on its standard input and returns its standard output.
///
/// # Errors
/// When it is not installed (with the command that installs it), or fails (with its messages).
pub fn run(namespace: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let output = output(namespace, program, arguments, input)?;
    ensure!(
        output.status.success(),
        "{program} {}: {}{input}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run`], for programs whose failure is of interest.
///
/// # Errors
/// When it is not installed.
pub fn output(namespace: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<Output> {
    installed(program)?;
    let mut child = child::command(namespace, program)?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes the pipe; its status tells what is wrong.
        let _unread = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().with_context(|| format!("wait for {program}"))
}

/// Succeeds when `program` is on the search path.
///
/// # Errors
/// With the command that installs it.
pub fn installed(program: &str) -> Result<()> {
    if is_installed(program) {
        return Ok(());
    }
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
    bail!("{program} is not installed: run `apt-get install {package}`")
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    program.contains('/') || std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The name of Alertmanager's program here.
///
/// # Errors
/// With the command that installs it.
pub fn alertmanager() -> Result<&'static str> {
    let found = ALERTMANAGER.into_iter().find(|name| is_installed(name));
    found.map_or_else(|| installed(ALERTMANAGER[0]).map(|()| ALERTMANAGER[0]), Ok)
}

impl Namespace {
    /// Loads an nftables script.
    ///
    /// # Errors
    /// With nft's messages.
    pub fn nft(&self, script: &str) -> Result<()> {
        run(self, "nft", &["-f", "-"], script).map(drop)
    }

    /// Packets and bytes of the named counter `name` in `table` (such as `"inet t"`).
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn nft_counter(&self, table: &str, name: &str) -> Result<(u64, u64)> {
        let (family, table_name) = table.split_once(' ').context("a table is a family and a name")?;
        let text = run(self, "nft", &["-j", "list", "counter", family, table_name, name], "")?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("read {text:?}"))?;
        let find = |field| json["nftables"].as_array()?.iter().find_map(|item| item["counter"][field].as_u64());
        Option::zip(find("packets"), find("bytes")).with_context(|| format!("no counter {name} in {text}"))
    }
}
