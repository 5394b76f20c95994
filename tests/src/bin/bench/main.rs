//! What the probe costs, measured on this kernel, against the targets of its design: ratios are judged, nanoseconds
//! only shown. Everything that is compared is measured in turns inside one round, so that a machine that is busy with
//! other things slows all of it down; a target is missed only when the whole 95 % interval lies beyond it.
//!
//! Deliberately absent: traffic over real devices (all of it stays between network namespaces of this process), and
//! figures of other machines.

mod analyze;
mod empty;
mod flow;
mod frames;
mod harm;
mod instructions;
mod report;
mod rounds;
mod samples;
mod storm;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use tests::child;

use report::{Output, Report};
use rounds::Bench;

const USAGE: &str = "usage: bench [FILTER]… [--output table|json]

  FILTER  only what has one of these in its name: part of `frames/ingress udp4`, `flow`, `instructions`, `drops`,
          `harm/bridge`, `analyze` …";

fn main() -> ExitCode {
    child::init();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no target was missed.
fn run() -> Result<bool> {
    let (filters, output) = arguments()?;
    let mut bench = Bench::new(filters);
    let mut report = Report::default();
    let parts =
        [frames::measure, flow::measure, instructions::measure, storm::measure, harm::measure, analyze::measure];
    for part in parts {
        part(&mut bench, &mut report)?;
    }
    bench.finish();
    if report.is_empty() {
        bail!("nothing has any of {:?} in its name\n{USAGE}", bench.filters());
    }
    print!("{}", report.render(output)?);
    Ok(!report.is_missed())
}

fn arguments() -> Result<(Vec<String>, Output)> {
    let (mut filters, mut output) = (Vec::new(), Output::Table);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0)
            }
            "--output" => {
                let name = words.next().context(USAGE)?;
                output = Output::named(&name).with_context(|| format!("no output {name:?}\n{USAGE}"))?;
            }
            option if option.starts_with('-') => bail!("no option {option}\n{USAGE}"),
            _ => filters.push(word),
        }
    }
    Ok((filters, output))
}
