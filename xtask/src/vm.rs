//! `cargo xtask vm`: the integration binary as PID 1 of a QEMU guest, for every kernel of the matrix, one after another.
//!
//! The guest has no network card and no disk. What passes between us and it: the kernel's command line in (filter and
//! settings, which the kernel hands to /init as environment), the serial console out, with one last line
//! `LOSSPROBE-GUEST: N passed, M failed, K skipped`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kernel::{self, MATRIX, Series};
use crate::setup::{self, Scope};
use crate::ui;
use crate::workspace::{Workspace, create_folder};
use crate::{build, initramfs, modules};

const SUMMARY: &str = "LOSSPROBE-GUEST: ";
const MEMORY_MIB: u32 = 2048;
/// How `timeout` says that it ended the program.
const TIMEOUT_STATUS: i32 = 124;

/// What is asked for on the command line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A kernel series (5.10, 6.1, 6.12, 6.18, 7.3) or `all`; repeatable
    #[arg(long = "kernel", value_name = "SERIES", required = true)]
    kernels: Vec<String>,
    /// Possible CPUs of the guest: per-CPU maps take memory for each
    #[arg(long, default_value_t = 2)]
    possible_cpus: u32,
    /// Minutes after which a guest is ended
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Also run the tests that take long
    #[arg(long)]
    full: bool,
    /// Boot this static program as /init; nothing of the repository is built
    #[arg(long, value_name = "FILE", hide = true)]
    init: Option<PathBuf>,
    /// Run only the tests whose name contains this
    filter: Option<String>,
}

/// What one guest reported.
struct Row {
    series: &'static str,
    time: Duration,
    /// passed, failed, skipped
    outcome: Result<[u64; 3]>,
}

/// Boots every selected kernel; an error if one did not boot or a test failed in it.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let selected = select(&arguments.kernels)?;
    if !cfg!(target_arch = "x86_64") {
        bail!("the guests are x86_64 and run this machine's own binaries; run this verb on an x86_64 machine");
    }
    setup::ensure(workspace, Scope::Vm)?;
    let settings = settings(arguments)?;
    let (init, agent) = match &arguments.init {
        Some(file) => (file.clone(), file.clone()),
        None => (build::integration(workspace)?, build::agent(workspace)?),
    };
    let mut rows = Vec::new();
    for series in selected {
        let started = Instant::now();
        let guest = Guest { workspace, series, init: &init, agent: &agent };
        let outcome = guest.boot(&settings, arguments);
        if let Err(error) = &outcome {
            ui::say(&format!("kernel {}: {error:#}", series.name));
        }
        rows.push(Row { series: series.name, time: started.elapsed(), outcome });
    }
    report(&rows)
}

fn select(names: &[String]) -> Result<Vec<&'static Series>> {
    if let Some(unknown) = names.iter().find(|&name| name != "all" && MATRIX.iter().all(|series| series.name != name)) {
        let known = MATRIX.map(|series| series.name).join(", ");
        bail!("--kernel {unknown}: not in the matrix; one of {known}, or all");
    }
    let chosen = |series: &&Series| names.iter().any(|name| name == "all" || name == series.name);
    Ok(MATRIX.iter().filter(chosen).collect())
}

/// The kernel's command line. Words without a dot become /init's environment.
fn settings(arguments: &Arguments) -> Result<String> {
    let mut line = "console=ttyS0 panic=-1 loglevel=4 PATH=/bin LOSSPROBE_BIN=/bin/lossprobe".to_owned();
    if arguments.full {
        line.push_str(" LOSSPROBE_FULL=1");
    }
    if let Some(filter) = &arguments.filter {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-:.=/".contains(c);
        anyhow::ensure!(
            filter.chars().all(plain),
            "filter {filter:?}: only letters, digits and _-:.=/ reach the guest"
        );
        line.push_str(&format!(" lossprobe.filter={filter}"));
    }
    Ok(line)
}

struct Guest<'a> {
    workspace: &'a Workspace,
    series: &'a Series,
    init: &'a Path,
    agent: &'a Path,
}

impl Guest<'_> {
    fn boot(&self, settings: &str, arguments: &Arguments) -> Result<[u64; 3]> {
        let name = self.series.name;
        let kernel = kernel::fetch(self.series)?;
        let folder = self.workspace.target("vm");
        create_folder(&folder)?;
        let initramfs = folder.join(format!("{name}-{}.cpio", process::id()));
        initramfs::write(&initramfs, self.init, self.agent, &modules::collect(&kernel.modules)?)?;
        let log = folder.join(format!("{name}.log"));
        // The limit holds even if we are ended before the guest; in the foreground Ctrl-C reaches it too.
        let mut qemu = Command::new("timeout");
        qemu.args(["--foreground", &format!("{}m", arguments.minutes), "qemu-system-x86_64"]);
        // Without `-cpu max` 6.12 panics under tcg; with cmpxchg16b too, in 3 boots of 10: tcg of QEMU 7.2 leaves rubbish
        // in EFLAGS behind that instruction, which 6.12 uses in its allocator (0 of 16 without it).
        qemu.args(["-accel", "tcg", "-cpu", "max,-cx16", "-m", &MEMORY_MIB.to_string(), "-no-reboot", "-nic", "none"]);
        qemu.args(["-smp", &format!("2,maxcpus={}", arguments.possible_cpus.max(2))]);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-append", settings]);
        qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initramfs);
        let status = ui::watch_status(&format!("kernel {name}"), &log, &mut qemu)?;
        fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
        let verdict = judge(&ui::read_log(&log), status.code() == Some(TIMEOUT_STATUS));
        if verdict.is_err() {
            ui::say(&format!("the console's last lines ({}):\n{}", log.display(), ui::tail(&log)));
        }
        verdict
    }
}

fn judge(console: &str, ended_by_us: bool) -> Result<[u64; 3]> {
    let counts = console.lines().rev().find_map(summary);
    match counts {
        Some([0, 0, _]) => bail!("no test ran"),
        Some(counts @ [_, 0, _]) if !ended_by_us => Ok(counts),
        Some([_, 0, _]) => bail!("all tests passed, but the guest did not power off in time"),
        Some([_, failed, _]) => bail!("{failed} tests failed"),
        None if ended_by_us => bail!("the guest took too long and was ended"),
        None => bail!("the guest ended without a summary"),
    }
}

/// `N passed, M failed, K skipped` behind the marker.
fn summary(line: &str) -> Option<[u64; 3]> {
    let (_, rest) = line.split_once(SUMMARY)?;
    let mut parts = rest.split(", ");
    let mut count = |word: &str| parts.next()?.trim().strip_suffix(word)?.trim().parse().ok();
    Some([count("passed")?, count("failed")?, count("skipped")?])
}

fn report(rows: &[Row]) -> Result<()> {
    ui::say("\nkernel    passed  failed  skipped        time");
    for row in rows {
        let counts = match &row.outcome {
            Ok([passed, failed, skipped]) => format!("{passed:>6}  {failed:>6}  {skipped:>7}"),
            Err(error) => format!("FAILED: {}", error.root_cause()),
        };
        ui::say(&format!("{:8}  {counts}  {:>10}", row.series, ui::seconds(row.time)));
    }
    let failed: Vec<&str> = rows.iter().filter(|row| row.outcome.is_err()).map(|row| row.series).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed on kernel {}", failed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::{judge, summary};

    #[test]
    fn reads_the_summary_line() {
        let rows = [
            ("LOSSPROBE-GUEST: 12 passed, 0 failed, 3 skipped", Some([12, 0, 3])),
            ("[    4.2] LOSSPROBE-GUEST: 1 passed, 2 failed, 0 skipped", Some([1, 2, 0])),
            ("LOSSPROBE-GUEST: cut", None),
            ("12 passed", None),
        ];
        for (line, expected) in rows {
            assert_eq!(summary(line), expected, "{line}");
        }
    }

    #[test]
    fn passes_only_a_guest_that_ran_tests_and_powered_off() {
        assert!(judge("LOSSPROBE-GUEST: 5 passed, 0 failed, 0 skipped\n", false).is_ok());
        assert!(judge("LOSSPROBE-GUEST: 5 passed, 0 failed, 0 skipped\n", true).is_err());
        assert!(judge("LOSSPROBE-GUEST: 5 passed, 1 failed, 0 skipped\n", false).is_err());
        assert!(judge("LOSSPROBE-GUEST: 0 passed, 0 failed, 0 skipped\n", false).is_err());
        assert!(judge("Kernel panic\n", false).is_err());
    }
}
