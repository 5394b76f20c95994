//! What an agent holds and takes, in the beginning and in the end.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{CellAlignment, LineStyle, Table, presets};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};
use tests::statistics::median_of;

use crate::load::Load;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

#[derive(Clone, Copy)]
pub(crate) enum Output {
    Table,
    Json,
}

/// One look at a running agent.
pub(crate) struct Sample {
    at: Instant,
    resident_kib: f64,
    descriptors: f64,
    threads: f64,
    map_entries: f64,
    series: f64,
    /// CPU time since its start.
    busy: Duration,
    /// Counters that live as long as the agent.
    counters: Vec<(String, f64)>,
}

/// A figure that must not grow.
struct Figure {
    name: &'static str,
    unit: &'static str,
    decimals: usize,
    /// What stands for many samples.
    of: Of,
    /// How much more it may be in the end: a share of what it was, and so much.
    allowance: (f64, f64),
    read: fn(&Sample, &Sample) -> f64,
}

#[derive(Clone, Copy)]
enum Of {
    /// What it comes back to: what is taken for a moment is no growth.
    Least,
    Median,
}

impl Of {
    fn all(self, values: &[f64]) -> f64 {
        match self {
            Self::Least => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Median => median_of(values.iter().copied()),
        }
    }
}

static FIGURES: [Figure; 6] = [
    // An allocator that takes another half megabyte at once is no leak; one of 1 KiB a scrape is 2 MiB in ten minutes.
    Figure {
        name: "resident memory",
        unit: "KiB",
        decimals: 0,
        of: Of::Median,
        allowance: (0.0, 512.0),
        read: |_, now| now.resident_kib,
    },
    // Connections and attachments come and go: what is never closed raises the floor.
    Figure {
        name: "descriptors",
        unit: "",
        decimals: 0,
        of: Of::Least,
        allowance: (0.0, 0.0),
        read: |_, now| now.descriptors,
    },
    Figure { name: "threads", unit: "", decimals: 0, of: Of::Least, allowance: (0.0, 0.0), read: |_, now| now.threads },
    // Counts of vanished interfaces are there for two minutes; rounds are not all of the same length.
    Figure {
        name: "map entries",
        unit: "",
        decimals: 0,
        of: Of::Median,
        allowance: (0.1, 16.0),
        read: |_, now| now.map_entries,
    },
    Figure { name: "series", unit: "", decimals: 0, of: Of::Median, allowance: (0.1, 16.0), read: |_, now| now.series },
    // Of one CPU. What else the machine does makes the same work dearer, but not by half.
    Figure {
        name: "CPU share",
        unit: "%",
        decimals: 2,
        of: Of::Median,
        allowance: (0.5, 0.5),
        read: |before, now| {
            let wall = now.at.duration_since(before.at).as_secs_f64();
            100.0 * now.busy.saturating_sub(before.busy).as_secs_f64() / wall
        },
    },
];

/// Metrics that must stay at 0: something was lost.
const LOSSES: [&str; 4] = [
    "lossprobe_map_update_failed_total",
    "lossprobe_collect_errors_total",
    "lossprobe_incident_write_failed_total",
    "lossprobe_uncounted_seconds_total",
];

impl Sample {
    pub(crate) fn of(load: &Load<'_>) -> Result<Self> {
        let process = format!("/proc/{}", load.agent().pid());
        let status = fs::read_to_string(format!("{process}/status")).context("the agent is gone")?;
        let field = |name: &str| -> Result<f64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
            Ok(value.with_context(|| format!("no {name}"))?.parse()?)
        };
        let metrics = load.metrics();
        for name in LOSSES {
            ensure!(metrics.sum(name, &[]) == 0.0, "{:?}", metrics.select(name, &[]).collect::<Vec<_>>());
        }
        let lives = |labels: &BTreeMap<String, String>| {
            labels.get("interface").is_none_or(|interface| interface == "r1" || interface == "r2")
        };
        let counters =
            metrics.samples().iter().filter(|sample| sample.name.ends_with("_total") && lives(&sample.labels));
        Ok(Self {
            at: Instant::now(),
            resident_kib: field("VmRSS:")?,
            descriptors: fs::read_dir(format!("{process}/fd"))?.count() as f64,
            threads: field("Threads:")?,
            map_entries: metrics.sum("lossprobe_map_entries", &[]),
            series: metrics.samples().len() as f64,
            busy: busy(&fs::read_to_string(format!("{process}/stat"))?)?,
            counters: counters.map(|sample| (format!("{} {:?}", sample.name, sample.labels), sample.value)).collect(),
        })
    }

    /// No counter falls, and none goes.
    pub(crate) fn follows(&self, before: &Self) -> Result<()> {
        let now: BTreeMap<_, _> = self.counters.iter().map(|(name, value)| (name, *value)).collect();
        for (name, value) in &before.counters {
            let found = now.get(name).with_context(|| format!("{name} is gone"))?;
            ensure!(found >= value, "{name} was {value} and is {found}");
        }
        Ok(())
    }
}

/// User and system time of a process, by `/proc/PID/stat`; its name may have any character.
fn busy(stat: &str) -> Result<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("a short line")?.parse()?) };
    let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / hertz as f64))
}

/// All figures, sample by sample.
#[derive(Default)]
pub(crate) struct Report {
    samples: Vec<[f64; 6]>,
    account: String,
}

/// What became of one figure.
struct Row {
    figure: &'static Figure,
    begin: f64,
    end: f64,
    most: f64,
    bound: f64,
}

impl Row {
    fn has_grown(&self) -> bool {
        // Not a number is no proof.
        self.end.is_nan() || self.end > self.bound
    }
}

impl Report {
    pub(crate) fn add(&mut self, before: &Sample, now: &Sample) {
        self.samples.push(FIGURES.each_ref().map(|figure| (figure.read)(before, now)));
    }

    pub(crate) fn close(&mut self, account: String) {
        self.account = account;
    }

    /// The first third is compared with the last.
    fn rows(&self) -> Vec<Row> {
        let third = self.samples.len() / 3;
        let row = |(at, figure): (usize, &'static Figure)| {
            let values: Vec<f64> = self.samples.iter().map(|sample| sample[at]).collect();
            let begin = figure.of.all(&values[..third]);
            let end = figure.of.all(&values[values.len() - third..]);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            Row { figure, begin, end, most, bound: begin * (1.0 + figure.allowance.0) + figure.allowance.1 }
        };
        FIGURES.iter().enumerate().map(row).collect()
    }

    pub(crate) fn has_grown(&self) -> bool {
        self.samples.len() < 3 || self.rows().iter().any(Row::has_grown)
    }

    pub(crate) fn render(&self, output: Output) -> Result<String> {
        match output {
            Output::Table => self.table(),
            Output::Json => Ok(format!("{}\n", self.json()?)),
        }
    }

    fn table(&self) -> Result<String> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
        table.set_header(["", "", "in the beginning", "in the end", "may be", "most at once", ""]);
        for row in self.rows() {
            let Figure { name, unit, decimals, .. } = *row.figure;
            let number = |value: f64| format!("{value:.decimals$}");
            let verdict = if row.has_grown() { "has grown" } else { "has not grown" };
            table.add_row([
                name.to_owned(),
                unit.to_owned(),
                number(row.begin),
                number(row.end),
                number(row.bound),
                number(row.most),
                verdict.to_owned(),
            ]);
        }
        for at in 2..6 {
            if let Some(column) = table.column_mut(at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("Linux {}: {}\n\n", kernel()?, self.account);
        for line in table.lines() {
            writeln!(text, "{}", line.trim_end())?;
        }
        Ok(text)
    }

    fn json(&self) -> Result<Value> {
        let row = |row: &Row| {
            json!({
                "name": row.figure.name,
                "unit": row.figure.unit,
                "begin": row.begin,
                "end": row.end,
                "most": row.most,
                "bound": row.bound,
                "grown": row.has_grown(),
            })
        };
        Ok(json!({
            "schema": SCHEMA,
            "kernel": kernel()?,
            "load": self.account,
            "samples": self.samples.len(),
            "rows": self.rows().iter().map(row).collect::<Vec<_>>(),
            "grown": self.has_grown(),
        }))
    }
}

fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(release.trim().to_owned())
}
