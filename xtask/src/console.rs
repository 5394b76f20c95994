//! What a guest says on its console, and whether that is a pass. A guest is not believed when it skips: each skip names
//! what the kernel lacks, and that is checked against the kernel's own package.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::kernel::version;
use crate::modules;

const GUEST: &str = "LOSSPROBE-GUEST: ";
const RUNNING: &str = "LOSSPROBE-GUEST: Linux ";
const SKIP: &str = "SKIP ";
/// What stands before the report of `lossprobe doctor` (tests/src/suite/doctor.rs).
const DOCTOR: &str = "LOSSPROBE-DOCTOR: ";

/// A guest that passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) tests: u64,
    pub(crate) skips: Vec<Skip>,
}

/// A test that did not run, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) test: String,
    /// Without the version that was found instead, so that two kernels that lack the same say the same.
    pub(crate) lack: String,
}

/// What is known of the guest from outside.
pub(crate) struct Expected<'a> {
    /// Major and minor version of its kernel.
    pub(crate) version: (u32, u32),
    /// Its modules, as packed.
    pub(crate) modules: &'a Path,
    /// The guest did not end by itself.
    pub(crate) ended_by_us: bool,
}

/// Passes only a guest that ran tests on the expected kernel, skipped with proof, and powered off.
pub(crate) fn judge(console: &str, expected: &Expected<'_>) -> Result<Passed> {
    let Some([passed, failed, skipped]) = console.lines().rev().find_map(summary) else {
        bail!(
            "the guest {}",
            if expected.ended_by_us { "took too long and was ended" } else { "ended without a summary" }
        )
    };
    ensure!(failed == 0, "{failed} tests failed");
    ensure!(passed > 0, "no test ran");
    ensure!(!expected.ended_by_us, "all tests passed, but the guest did not power off in time");
    let running = console.lines().find_map(|line| version(line.split_once(RUNNING)?.1));
    ensure!(running == Some(expected.version), "the guest says that it runs Linux {running:?}");
    let skips: Vec<Skip> = console.lines().filter_map(skip).collect();
    ensure!(skips.len() as u64 == skipped, "{skipped} tests skipped, {} of them with a reason", skips.len());
    for skip in &skips {
        prove(&skip.lack, expected).with_context(|| format!("{} was skipped without proof", skip.test))?;
    }
    Ok(Passed { tests: passed, skips })
}

/// What a guest said, for the table of kernels. `None` if it ended without a summary.
pub(crate) fn reported(console: &str) -> Option<Value> {
    let [passed, failed, _] = console.lines().rev().find_map(summary)?;
    let skip = |skip: Skip| json!({ "test": skip.test, "lack": skip.lack });
    let skips: Vec<Value> = console.lines().filter_map(self::skip).map(skip).collect();
    let doctor = |line: &str| serde_json::from_str::<Value>(line.split_once(DOCTOR)?.1).ok();
    let doctor = console.lines().find_map(doctor);
    Some(json!({ "passed": passed, "failed": failed, "skips": skips, "doctor": doctor }))
}

/// `N passed, M failed, K skipped` behind the marker.
fn summary(line: &str) -> Option<[u64; 3]> {
    let (_, rest) = line.split_once(GUEST)?;
    let mut parts = rest.split(", ");
    let mut count = |word: &str| parts.next()?.trim().strip_suffix(word)?.trim().parse().ok();
    Some([count("passed")?, count("failed")?, count("skipped")?])
}

/// `SKIP test: needs LACK, this is RELEASE`; the words are those of tests/src/run.rs.
fn skip(line: &str) -> Option<Skip> {
    let (_, rest) = line.split_once(SKIP)?;
    let (test, lack) = rest.split_once(": needs ")?;
    let lack = lack.split_once(", this is ").map_or(lack, |(lack, _)| lack);
    Some(Skip { test: test.to_owned(), lack: lack.trim().to_owned() })
}

fn prove(lack: &str, expected: &Expected<'_>) -> Result<()> {
    if let Some(before) = lack.strip_prefix("Linux before ") {
        let before = version(before).with_context(|| format!("no version in {lack:?}"))?;
        ensure!(expected.version >= before, "it needs {lack}, and this kernel is older");
        return Ok(());
    }
    if let Some(since) = lack.strip_prefix("Linux ") {
        let since = version(since).with_context(|| format!("no version in {lack:?}"))?;
        ensure!(expected.version < since, "it needs {lack}, and this kernel is not older");
        return Ok(());
    }
    let module = lack.strip_prefix("module ").with_context(|| format!("it needs {lack}, which every guest has"))?;
    ensure!(modules::lacks(expected.modules, module)?, "it needs {lack}, and this kernel has that");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Expected, Skip, judge, reported, skip, summary};

    #[test]
    fn reads_the_summary_line() {
        let rows = [
            ("LOSSPROBE-GUEST: 12 passed, 0 failed, 3 skipped", Some([12, 0, 3])),
            ("[    4.2] LOSSPROBE-GUEST: 1 passed, 2 failed, 0 skipped", Some([1, 2, 0])),
            ("LOSSPROBE-GUEST: Linux 6.1.0, 2 of something", None),
            ("LOSSPROBE-GUEST: cut", None),
            ("12 passed", None),
        ];
        for (line, expected) in rows {
            assert_eq!(summary(line), expected, "{line}");
        }
    }

    #[test]
    fn reads_the_skips() {
        let rows = [
            ("SKIP a::b: needs Linux 6.6 (tcx), this is 5.10.0-46", Some(("a::b", "Linux 6.6 (tcx)"))),
            ("[ 1.2] SKIP a::b: needs module netkit", Some(("a::b", "module netkit"))),
            ("SKIP a::b: no reason", None),
            ("test a::b ... ignored", None),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|(test, lack)| Skip { test: test.to_owned(), lack: lack.to_owned() });
            assert_eq!(skip(line), expected, "{line}");
        }
    }

    #[test]
    fn keeps_what_was_said() {
        let console = "test doctor::a ... LOSSPROBE-DOCTOR: {\"release\":\"5.10\"}\nok\n\
                       SKIP a: needs Linux 6.6 (tcx), this is 5.10\nLOSSPROBE-GUEST: 5 passed, 1 failed, 1 skipped\n";
        let skips = [json!({ "test": "a", "lack": "Linux 6.6 (tcx)" })];
        let expected = json!({ "passed": 5, "failed": 1, "skips": skips, "doctor": { "release": "5.10" } });
        assert_eq!(reported(console), Some(expected));
        assert_eq!(reported("LOSSPROBE-DOCTOR: {}\nKernel panic"), None);
    }

    #[test]
    fn passes_only_a_guest_that_ran_tests_and_powered_off() {
        let here = |console: &str, ended_by_us| {
            let console = format!("LOSSPROBE-GUEST: Linux 5.10.0-46-cloud-amd64\n{console}\n");
            judge(&console, &Expected { version: (5, 10), modules: Path::new("/nowhere"), ended_by_us })
        };
        let good = "LOSSPROBE-GUEST: 5 passed, 0 failed, 0 skipped";
        assert!(here(good, false).is_ok());
        assert!(here(good, true).is_err());
        assert!(here("LOSSPROBE-GUEST: 5 passed, 1 failed, 0 skipped", false).is_err());
        assert!(here("LOSSPROBE-GUEST: 0 passed, 0 failed, 0 skipped", false).is_err());
        assert!(here("Kernel panic", false).is_err());
        let elsewhere = Expected { version: (6, 1), modules: Path::new("/nowhere"), ended_by_us: false };
        assert!(judge(&format!("LOSSPROBE-GUEST: Linux 5.10.0\n{good}"), &elsewhere).is_err());
        assert!(judge(good, &elsewhere).is_err());
    }

    #[test]
    fn believes_a_skip_only_with_proof() -> anyhow::Result<()> {
        let modules = std::env::temp_dir().join(format!("lossprobe-xtask-modules-{}", std::process::id()));
        std::fs::create_dir_all(&modules)?;
        std::fs::write(modules.join("modules.builtin"), "kernel/drivers/net/net-kit.ko\n")?;
        std::fs::write(modules.join("veth.ko.xz"), "")?;
        let outcome = |skip: &str, count: u32| {
            let end = format!("LOSSPROBE-GUEST: 5 passed, 0 failed, {count} skipped");
            let console = format!("LOSSPROBE-GUEST: Linux 6.1.0\n{skip}\n{end}\n");
            judge(&console, &Expected { version: (6, 1), modules: &modules, ended_by_us: false })
        };
        let rows = [
            ("SKIP a: needs Linux 6.6 (tcx), this is 6.1.0", true),
            ("SKIP a: needs Linux 7.0 (x), this is 6.1.0", true),
            ("SKIP a: needs Linux 6.1 (x), this is 5.10", false),
            ("SKIP a: needs Linux 5.18 (x), this is 6.1.0", false),
            ("SKIP a: needs Linux before 6.1 (x), this is 6.1.0", true),
            ("SKIP a: needs Linux before 6.6 (x), this is 6.1.0", false),
            ("SKIP a: needs module other", true),
            ("SKIP a: needs module veth", false),
            ("SKIP a: needs module net_kit", false),
            ("SKIP a: needs cards (two)", false),
            ("SKIP a: it did not feel like it", false),
            ("", false),
        ];
        for (skip, believed) in rows {
            assert_eq!(outcome(skip, 1).is_ok(), believed, "{skip}: {:?}", outcome(skip, 1));
        }
        assert!(outcome("SKIP a: needs module other", 2).is_err(), "one of two has no reason");
        std::fs::remove_dir_all(&modules)?;
        Ok(())
    }
}
