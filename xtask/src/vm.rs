//! `cargo xtask vm`: the integration binary as PID 1 of a QEMU guest, for every kernel of the matrix, as many at a time as
//! there are CPUs (a guest's CPUs are one thread here).
//!
//! The guest has no disk, and two network cards with a wire from one to the other and to nobody else. What passes between
//! us and it: the kernel's command line in (filter and settings, which the kernel hands to /init as environment), the
//! serial console out ([`console`](crate::console)).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::console::{Expected, Passed, Skip, judge, reported};
use crate::kernel::{self, MATRIX, Series};
use crate::kernels;
use crate::parallel::side_by_side;
use crate::setup::{self, Scope};
use crate::ui;
use crate::workspace::{Workspace, create_folder};
use crate::{build, initramfs, modules};

/// Hardware addresses of the guest's cards, by which the tests find them.
const CARDS: [&str; 2] = ["52:54:00:10:55:01", "52:54:00:10:55:02"];
/// What a virtual machine takes off its guest's hands, and what keeps native XDP from being attached; the option ROM is
/// for booting from the network only.
const CARD_OPTIONS: &str = "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,romfile=";
const MEMORY_MIB: u32 = 2048;
/// How `timeout` says that it ended the program.
const TIMEOUT_STATUS: i32 = 124;

/// What is asked for on the command line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A kernel series (5.10, 6.1, 6.12, 6.18, 7.3) or `all`; repeatable
    #[arg(long = "kernel", value_name = "SERIES", required_unless_present = "table")]
    kernels: Vec<String>,
    /// Write deploy/KERNELS.md from what the guests have said last, and boot none
    #[arg(long, exclusive = true)]
    table: bool,
    /// Possible CPUs of the guest: per-CPU maps take memory for each
    #[arg(long, default_value_t = 2)]
    possible_cpus: u32,
    /// Minutes after which a guest is ended
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
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
    outcome: Result<Passed>,
}

/// Boots every selected kernel; an error if one did not boot or a test failed in it.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.table {
        return kernels::write_table(workspace);
    }
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
    let boot = |series: &'static Series| {
        let started = Instant::now();
        let outcome = Guest { workspace, series, init: &init, agent: &agent }.boot(&settings, arguments);
        if let Err(error) = &outcome {
            ui::say(&format!("kernel {}: {error:#}", series.name));
        }
        Row { series: series.name, time: started.elapsed(), outcome }
    };
    report(&side_by_side(&selected, boot))
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
    line.push_str(&format!(" LOSSPROBE_CARDS={}", CARDS.join(",")));
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
    fn boot(&self, settings: &str, arguments: &Arguments) -> Result<Passed> {
        let name = self.series.name;
        let kernel = kernel::fetch(self.series)?;
        let folder = self.workspace.target("vm");
        create_folder(&folder)?;
        // Another run may boot the same kernel at the same time.
        let own = |extension: &str| folder.join(format!("{name}-{}.{extension}", process::id()));
        let (initramfs, log) = (own("cpio"), own("log"));
        initramfs::write(&initramfs, self.init, self.agent, &modules::collect(&kernel.modules)?)?;
        // The limit holds even if we are ended before the guest; in the foreground Ctrl-C reaches it too.
        let mut qemu = Command::new("timeout");
        qemu.args(["--foreground", &format!("{}m", arguments.minutes), "qemu-system-x86_64"]);
        // Without `-cpu max` 6.12 panics under tcg; with cmpxchg16b too, in 3 boots of 10: tcg of QEMU 7.2 leaves rubbish
        // in EFLAGS behind that instruction, which 6.12 uses in its allocator (0 of 16 without it).
        // One thread for all CPUs: with one for each, a CPU can run into the breakpoint of a jump label that another has
        // just finished patching (attaching to tcx does it; oopses of 7.3 on int3).
        qemu.args([
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max,-cx16",
            "-m",
            &MEMORY_MIB.to_string(),
            "-no-reboot",
            "-nic",
            "none",
        ]);
        qemu.args(["-smp", &format!("2,maxcpus={}", arguments.possible_cpus.max(2))]);
        for (number, address) in CARDS.iter().enumerate() {
            qemu.args(["-netdev", &format!("hubport,id=port{number},hubid=0")]);
            qemu.args(["-device", &format!("virtio-net-pci,netdev=port{number},mac={address},{CARD_OPTIONS}")]);
        }
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-append", settings]);
        qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initramfs);
        let status = ui::watch_status(&format!("kernel {name}"), &log, &mut qemu)?;
        fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
        let expected = Expected {
            version: self.series.version().context("the series has no version")?,
            modules: &kernel.modules,
            ended_by_us: status.code() == Some(TIMEOUT_STATUS),
        };
        let console = ui::read_log(&log);
        kernels::keep(&kernels::outcome(self.workspace, name), reported(&console), arguments.filter.as_deref())?;
        let verdict = judge(&console, &expected);
        if verdict.is_err() {
            ui::say(&format!("the console's last lines ({}):\n{}", log.display(), ui::tail(&log)));
            return verdict;
        }
        // Only failures are kept apart.
        let last = folder.join(format!("{name}.log"));
        fs::rename(&log, &last).with_context(|| format!("move {} to {}", log.display(), last.display()))?;
        verdict
    }
}

fn report(rows: &[Row]) -> Result<()> {
    ui::say("\nkernel    passed  failed  skipped        time");
    for row in rows {
        let counts = match &row.outcome {
            Ok(Passed { tests, skips }) => format!("{tests:>6}  {:>6}  {:>7}", 0, skips.len()),
            Err(error) => format!("FAILED: {error:#}"),
        };
        ui::say(&format!("{:8}  {counts}  {:>10}", row.series, ui::seconds(row.time)));
    }
    let skipped = by_test(rows);
    if !skipped.is_empty() {
        ui::say("\nskipped for what the kernel lacks (checked against its version or its package):");
    }
    for (Skip { test, lack }, kernels) in skipped {
        ui::say(&format!("{test}: {lack} — on {}", kernels.join(", ")));
    }
    let failed: Vec<&str> = rows.iter().filter(|row| row.outcome.is_err()).map(|row| row.series).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed on kernel {}", failed.join(", ")) }
}

/// Every skip once, with the kernels that made it, in the order of the tests.
fn by_test(rows: &[Row]) -> Vec<(&Skip, Vec<&'static str>)> {
    let mut skipped: Vec<(&Skip, Vec<&'static str>)> = Vec::new();
    for (row, skip) in rows
        .iter()
        .flat_map(|row| row.outcome.iter().flat_map(move |passed| passed.skips.iter().map(move |skip| (row, skip))))
    {
        match skipped.iter_mut().find(|(known, _)| *known == skip) {
            Some((_, kernels)) => kernels.push(row.series),
            None => skipped.push((skip, vec![row.series])),
        }
    }
    skipped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Passed, Row, Skip, by_test};

    #[test]
    fn a_skip_is_told_once_with_its_kernels() {
        let skip = |test: &str| Skip { test: test.to_owned(), lack: "Linux 6.6 (tcx)".to_owned() };
        let row = |series, skips| Row { series, time: Duration::ZERO, outcome: Ok(Passed { tests: 1, skips }) };
        let rows = [row("5.10", vec![skip("a"), skip("b")]), row("6.1", vec![skip("a")]), row("6.12", vec![])];
        assert_eq!(by_test(&rows), [(&skip("a"), vec!["5.10", "6.1"]), (&skip("b"), vec!["5.10"])]);
    }
}
