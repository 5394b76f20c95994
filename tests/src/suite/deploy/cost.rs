//! What the cost sheet promises: numbers in its tables that are bounds, and what they are here.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    link::{End, veth},
    namespace::Namespace,
};

use super::read;

/// How long CPU time is looked at, which is a rate: at half a percent, ten times the hundredth of a second that the kernel counts in.
const MEASURED: Duration = Duration::from_secs(20);
/// Until what the start has left behind is given back.
const SETTLED: Duration = Duration::from_secs(5);

/// A bound of the sheet: the second cell of a row.
fn bound(row: &str) -> Result<f64> {
    let sheet = read("COST.md")?;
    let line = sheet.lines().find(|line| line.starts_with(&format!("| {row} |")));
    let cell = line.and_then(|line| line.split('|').nth(2)).with_context(|| format!("no row {row:?}"))?;
    cell.trim().trim_matches('*').parse().with_context(|| format!("the number of {row:?}"))
}

/// The cost sheet's bounds hold, and what they are on this kernel.
pub(super) fn series_are_as_few_as_said() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    for name in ["eth0", "x0", "x1"] {
        veth(End::new(&here, name), End::new(&there, name))?;
    }
    here.default_route(&["eth0"])?;
    let agent = Agent::start(&here, &["--interface", "eth0", "--interface", "x*"])?;
    let text = agent.get("/metrics")?;
    let metrics = agent.metrics()?;
    let of = |interface: &str| {
        let labels = metrics.samples().iter().map(|sample| sample.labels.get("interface"));
        labels.flatten().filter(|label| *label == interface).count()
    };
    let detectors = metrics.select("lossprobe_detector_alarmed", &[("unit", "eth0")]).count();
    let (uplink, other) = (of("eth0") + detectors, of("x0"));
    let node = metrics.samples().len() - uplink - of("x0") - of("x1");
    println!(
        "cost: {node} series of the node, {uplink} of an uplink, {other} of another interface; a scrape of {} series has {} bytes",
        metrics.samples().len(),
        text.len(),
    );
    for (what, count) in [("each node", node), ("each uplink", uplink), ("each other interface", other)] {
        ensure!(count as f64 <= bound(what)?, "{what}: {count} series");
    }
    agent.stop()
}

/// Resident memory and CPU time of an idle agent. Of `--full`: what CPU time it takes depends on what else the machine does.
pub(super) fn an_agent_takes_as_little_as_said() -> Result<()> {
    for (count, written) in [(8, "8"), (1000, "1,000")] {
        let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
        for number in 0..count {
            let name = format!("x{number}");
            veth(End::new(&here, &name), End::new(&there, &name))?;
        }
        let agent = Agent::start(&here, &["--interface", "x*", "--max-interfaces", "1024"])?;
        thread::sleep(SETTLED);
        let before = cpu_seconds(agent.pid())?;
        thread::sleep(MEASURED);
        let percent = (cpu_seconds(agent.pid())? - before) / MEASURED.as_secs_f64() * 100.0;
        let mib = resident_mib(agent.pid())?;
        println!(
            "cost: an idle agent with {written} interfaces has {mib:.1} MiB resident and takes {percent:.2} % of a core"
        );
        for (what, taken) in [("MiB resident", mib), ("% of a core", percent)] {
            let row = format!("{what}, {written} interfaces");
            ensure!(taken <= bound(&row)?, "{row}: {taken:.2}");
        }
        // Killed: to let go of 1,000 interfaces in order takes longer than anybody else's agent is given.
        drop(agent);
    }
    Ok(())
}

/// Of all threads, in the kernel and outside of it.
fn cpu_seconds(pid: u32) -> Result<f64> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may have blanks, stands the third field; the 14th and 15th are the times.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at - 3).context("too few fields")?.parse()?) };
    Ok((ticks(14)? + ticks(15)?) / TICKS)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.parse::<f64>()? / 1024.0)
}
