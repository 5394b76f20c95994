//! The systemd unit.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use tests::{namespace::Namespace, program};

use super::{Scratch, declared, on_every_kernel, source};

const UNIT: &str = "deploy/systemd/lossprobe.service";
/// What `systemd-analyze security` may say at most, in tenths: "OK" begins at 40, and 25 is what this unit is held to.
const EXPOSURE: &str = "25";

/// `LimitMEMLOCK` is in place of the capability that locks memory.
pub(super) fn gives_what_is_declared() -> Result<()> {
    for setting in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let given: BTreeSet<_> =
            words(setting)?.iter().map(|word| word.trim_start_matches("CAP_").to_owned()).collect();
        assert_eq!(given, declared(on_every_kernel), "{setting}");
    }
    assert_eq!(words("LimitMEMLOCK")?, ["infinity"]);
    assert_eq!(values("ExecStopPost")?, ["-/usr/bin/lossprobe detach"]);
    Ok(())
}

/// Prints the score, and fails above the bound.
pub(super) fn is_confined() -> Result<()> {
    let namespace = Namespace::new("unit")?;
    let unit = source(UNIT).canonicalize()?.display().to_string();
    let threshold = format!("--threshold={EXPOSURE}");
    let security = ["security", "--no-pager", "--offline=yes", &threshold, &unit];
    let said = program::run(&namespace, "systemd-analyze", &security, "")?;
    eprintln!("{}", said.lines().last().unwrap_or_default());
    // Every line is understood. Only the program and the pages are not where they will be.
    let scratch = Scratch::new("unit")?;
    let copy = scratch.path.join("lossprobe.service");
    let text = fs::read_to_string(&unit)?.replace("/usr/bin/lossprobe", "/bin/true");
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    fs::write(&copy, text.join("\n") + "\n").context("write a copy of the unit")?;
    let output =
        program::output(&namespace, "systemd-analyze", &["verify", "--man=no", &copy.display().to_string()], "")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && !said.contains("lossprobe.service"), "{said}");
    Ok(())
}

/// The values of a setting, in the order of its lines.
pub(super) fn values(setting: &str) -> Result<Vec<String>> {
    let path = source(UNIT);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let of = |line: &str| line.strip_prefix(setting)?.strip_prefix('=').map(str::to_owned);
    Ok(text.lines().filter_map(of).collect())
}

/// The words of a setting that has one line.
pub(super) fn words(setting: &str) -> Result<Vec<String>> {
    let values = values(setting)?;
    let [value] = values.as_slice() else { anyhow::bail!("{setting} has {} lines", values.len()) };
    Ok(value.split_whitespace().map(str::to_owned).collect())
}

/// The names of all system calls that the unit allows.
pub(super) fn allowed_calls(namespace: &Namespace) -> Result<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    for line in values("SystemCallFilter")? {
        let (refused, words) = line.strip_prefix('~').map_or((false, line.as_str()), |words| (true, words));
        for word in words.split_whitespace() {
            let calls = calls(namespace, word)?;
            if refused { allowed.retain(|call| !calls.contains(call)) } else { allowed.extend(calls) }
        }
    }
    Ok(allowed)
}

/// A call, or those of a group, as systemd has it.
fn calls(namespace: &Namespace, name: &str) -> Result<BTreeSet<String>> {
    if !name.starts_with('@') {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    let text = program::run(namespace, "systemd-analyze", &["syscall-filter", "--no-pager", name], "")?;
    let mut all = BTreeSet::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        all.extend(calls(namespace, line)?);
    }
    Ok(all)
}
