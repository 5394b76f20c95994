//! `cargo xtask fuzz`: the parsers against bytes that nobody thought of (tests/fuzz), and a table of how far it came.
//!
//! cargo-fuzz builds, and the programs are started directly: so nothing is written outside of the target folder. What
//! libFuzzer finds is kept from run to run in `target/fuzz/corpus`; the seeds in the repository are only read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::parallel::{at_once, side_by_side};
use crate::setup::{self, Scope};
use crate::ui;
use crate::workspace::{Workspace, create_folder, output};

const TARGETS: [&str; 9] = ["classify", "flow", "capture", "evidence", "btf", "config", "web", "accept", "state"];
/// Bytes of an input: two windows of the kernel side and the longest extension header.
const LONGEST: &str = "-max_len=2400";
/// Of one input, in seconds and MiB: far beyond what any needs, on a machine that does other things too.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];
/// How libFuzzer announces the input that failed.
const KEPT: &str = "Test unit written to ";

/// What is asked for on the command line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Minutes in all: each target gets an equal share, as many at a time as there are CPUs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Only these targets
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
}

/// What one target came to.
struct Row<'a> {
    target: &'a str,
    statistics: Statistics,
    /// The input that failed and what was said about it.
    finding: Option<Finding>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Statistics {
    executions: u64,
    per_second: u64,
    new_inputs: u64,
    edges: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    input: PathBuf,
    cause: String,
}

/// Runs every target for its share of the time; an error if one failed.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, Scope::Fuzz)?;
    let programs = build(workspace)?;
    let is_chosen =
        |target: &&str| arguments.targets.is_empty() || arguments.targets.iter().any(|name| name == *target);
    let chosen: Vec<_> = TARGETS.into_iter().filter(is_chosen).collect();
    let time = Duration::from_mins(arguments.minutes).mul_f64(at_once(chosen.len()) as f64 / chosen.len() as f64);
    let rows = side_by_side(&chosen, |target| fuzz(workspace, &programs, target, time));
    report(&rows.into_iter().collect::<Result<Vec<_>>>()?, &programs)
}

/// Builds all targets and returns the folder that they are in.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let sources = workspace.path("tests/fuzz");
    let manifest = sources.join("Cargo.toml");
    // cargo-fuzz hands on no `--locked`.
    output(workspace.cargo("fetch").args(["--locked", "--manifest-path"]).arg(&manifest))
        .context("tests/fuzz has a Cargo.lock of its own")?;
    let target = workspace.target("fuzz");
    let mut cargo = workspace.cargo("fuzz");
    cargo.args(["build", "--sanitizer", "none", "--fuzz-dir"]).arg(&sources).arg("--target-dir").arg(&target);
    ui::watch("build the fuzz targets", &target.join("build.log"), &mut cargo)?;
    let verbose = output(Command::new("rustc").arg("-vV"))?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    Ok(target.join(host).join("release"))
}

fn fuzz<'a>(workspace: &Workspace, programs: &Path, target: &'a str, time: Duration) -> Result<Row<'a>> {
    let folder = |name: &str| workspace.target("fuzz").join(name).join(target);
    let (corpus, findings) = (folder("corpus"), folder("findings"));
    create_folder(&corpus)?;
    create_folder(&findings)?;
    let log = workspace.target("fuzz").join(format!("{target}.log"));
    let mut program = Command::new(programs.join(target));
    program.args([LONGEST, "-print_final_stats=1"]).args(LIMITS).arg(format!("-max_total_time={}", time.as_secs()));
    program.arg(format!("-artifact_prefix={}/", findings.display()));
    program.arg(corpus).arg(workspace.path("tests/fuzz/seeds").join(target));
    let status = ui::watch_status(&format!("fuzz {target}"), &log, &mut program)?;
    let text = ui::read_log(&log);
    let finding = finding(&text);
    if !status.success() && finding.is_none() {
        bail!("the fuzz target {target} ended with {status} and kept no input; its last lines:\n{}", ui::tail(&log));
    }
    Ok(Row { target, statistics: statistics(&text), finding })
}

/// From libFuzzer's final lines and its last line of progress.
fn statistics(text: &str) -> Statistics {
    let last = |key: &str| {
        let value = text.lines().rev().find_map(|line| line.split_once(key)?.1.split_whitespace().next()?.parse().ok());
        value.unwrap_or_default()
    };
    Statistics {
        executions: last("stat::number_of_executed_units:"),
        per_second: last("stat::average_exec_per_sec:"),
        new_inputs: last("stat::new_units_added:"),
        edges: last(" cov: "),
    }
}

fn finding(text: &str) -> Option<Finding> {
    let input = text.lines().find_map(|line| line.split_once(KEPT))?.1.trim().into();
    // A panic says where in its first line and why in the next ones, up to the backtrace; a limit in one line.
    let panic: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains(" panicked at "))
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note:"))
        .collect();
    let limit = text.lines().find(|line| line.contains("ERROR: libFuzzer"));
    let cause = if panic.is_empty() { limit.unwrap_or_default().to_owned() } else { panic.join("\n") };
    Some(Finding { input, cause })
}

fn report(rows: &[Row<'_>], programs: &Path) -> Result<()> {
    ui::say("\ntarget      executions  per second  new inputs   edges");
    for Row { target, statistics, finding } in rows {
        let Statistics { executions, per_second, new_inputs, edges } = statistics;
        let word = if finding.is_some() { "  FAILED" } else { "" };
        ui::say(&format!("{target:8}  {executions:>12}  {per_second:>10}  {new_inputs:>10}  {edges:>6}{word}"));
    }
    let mut failed = Vec::new();
    for Row { target, finding, .. } in rows {
        if let Some(Finding { input, cause }) = finding {
            ui::say(&format!("\n{target}: {cause}\nthe input is kept: {}", input.display()));
            ui::say(&format!("to run it again: {} {}", programs.join(target).display(), input.display()));
            failed.push(*target);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("fuzzing found a fault in {}", failed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Statistics, finding, statistics};

    const END: &str = "#4096\tpulse  cov: 100 ft: 200 corp: 3/4b\n#5000\tDONE   cov: 101 ft: 201 corp: 3/4b\n\
        stat::number_of_executed_units: 5000\nstat::average_exec_per_sec:     2500\nstat::new_units_added:          7\n";

    #[test]
    fn reads_what_libfuzzer_says() {
        let expected = Statistics { executions: 5000, per_second: 2500, new_inputs: 7, edges: 101 };
        assert_eq!((statistics(END), finding(END)), (expected, None));
        assert_eq!(statistics("killed"), Statistics::default());
    }

    #[test]
    fn finds_the_input_that_failed() {
        let kept = "artifact_prefix='t/'; Test unit written to t/crash-1\n";
        let panic =
            format!("thread '<unnamed>' (1) panicked at a.rs:1:2:\nleft\nright\nstack backtrace:\n0: x\n{kept}");
        let rows = [
            (panic, "thread '<unnamed>' (1) panicked at a.rs:1:2:\nleft\nright"),
            (
                format!("==1== ERROR: libFuzzer: timeout after 6 seconds\n{kept}"),
                "==1== ERROR: libFuzzer: timeout after 6 seconds",
            ),
        ];
        for (text, cause) in rows {
            assert_eq!(finding(&text), Some(Finding { input: "t/crash-1".into(), cause: cause.to_owned() }));
        }
    }
}
