//! An agent under traffic, coming and going interfaces and scrapes for as long as one likes: what it holds in the end is compared
//! with what it held in the beginning, and growth is a failure.
//!
//! A round takes a second, whatever the machine: the load is the same in the beginning and in the end. Not looked at are figures
//! that stay the same from the start on: memory of the maps, of which none is made later.

mod load;
mod report;

use std::{
    env,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tests::child;

use load::Load;
use report::{Output, Report, Sample};

/// Until all is as it will stay: counts of an interface that is gone are kept for two minutes, its counters for 10 s, and the
/// agent is told to record one minute.
const SETTLES: Duration = Duration::from_secs(150);

const LEAST_MINUTES: u64 = 4;
const ROUND: Duration = Duration::from_secs(1);
/// Between two words about how far it is.
const SAYS_EVERY: Duration = Duration::from_secs(60);

const USAGE: &str =
    "usage: soak [--minutes N] [--output table|json]\n\n  --minutes N  for so long, 4 to 10000 [default: 5]";

fn main() -> ExitCode {
    child::init();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing has grown.
fn run() -> Result<bool> {
    let (minutes, output) = arguments()?;
    let lasts = Duration::from_secs(60 * minutes);
    let report = soak(lasts)?;
    print!("{}", report.render(output)?);
    Ok(!report.has_grown())
}

fn arguments() -> Result<(u64, Output)> {
    let (mut minutes, mut output) = (5, Output::Table);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0)
            }
            "--minutes" => minutes = words.next().context(USAGE)?.parse().context(USAGE)?,
            "--output" => match words.next().context(USAGE)?.as_str() {
                "table" => output = Output::Table,
                "json" => output = Output::Json,
                name => bail!("no output {name:?}\n{USAGE}"),
            },
            other => bail!("what is {other}?\n{USAGE}"),
        }
    }
    ensure!((LEAST_MINUTES..=10_000).contains(&minutes), "{minutes} minutes\n{USAGE}");
    Ok((minutes, output))
}

fn soak(lasts: Duration) -> Result<Report> {
    let network = load::network()?;
    let mut load = Load::start(&network)?;
    let started = Instant::now();
    let mut report = Report::default();
    let mut said = started;
    eprintln!(
        "[   0 s] traffic, interfaces that come and go, scrapes; what is found is kept after {} s",
        SETTLES.as_secs()
    );
    let mut before = Sample::of(&load)?;
    while started.elapsed() < lasts {
        let round = Instant::now();
        load.round()?;
        thread::sleep(ROUND.saturating_sub(round.elapsed()));
        let sample = Sample::of(&load)?;
        sample.follows(&before)?;
        if started.elapsed() > SETTLES {
            report.add(&before, &sample);
        }
        before = sample;
        if said.elapsed() >= SAYS_EVERY {
            said = Instant::now();
            eprintln!("[{:4} s] {}", started.elapsed().as_secs(), load.account());
        }
    }
    report.close(load.end()?);
    Ok(report)
}
