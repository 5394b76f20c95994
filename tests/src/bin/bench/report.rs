//! What was measured, as tables for people or as one JSON object for programs.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde_json::{Map, Value, json};
use tests::statistics::Estimate;

/// Version of the JSON object.
const SCHEMA: u32 = 1;

#[derive(Clone, Copy)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Output {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "table" => Some(Self::Table),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Where a ratio has to be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The whole interval is where it has to be.
    Met,
    /// The interval reaches beyond the target, but not all of it does.
    Open,
    /// The whole interval is beyond the target.
    Missed,
}

impl Target {
    fn verdict(self, ratio: &Estimate) -> Verdict {
        let (best, worst, bound) = match self {
            Self::AtMost(bound) => (ratio.low, ratio.high, bound),
            Self::AtLeast(bound) => (-ratio.high, -ratio.low, -bound),
        };
        match (best <= bound, worst <= bound) {
            (_, true) => Verdict::Met,
            (true, false) => Verdict::Open,
            (false, false) => Verdict::Missed,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound:.2}"),
            Self::AtLeast(bound) => format!("≥ {bound:.2}"),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::AtMost(bound) => json!({ "at_most": bound }),
            Self::AtLeast(bound) => json!({ "at_least": bound }),
        }
    }
}

impl Verdict {
    const fn id(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "open",
            Self::Missed => "missed",
        }
    }
}

/// A ratio that is judged.
pub(crate) struct Judged {
    /// Of what to what.
    pub(crate) of: &'static str,
    pub(crate) ratio: Estimate,
    pub(crate) target: Target,
}

/// What was measured of one thing. Rows of one part have the same figures: a name that ends in the unit, a value that
/// the kernel may not give, and how many decimals of it mean something.
pub(crate) struct Row {
    pub(crate) part: &'static str,
    pub(crate) name: String,
    pub(crate) figures: Vec<(&'static str, Option<f64>, usize)>,
    pub(crate) judged: Option<Judged>,
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.missed().next().is_some()
    }

    fn missed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict() == Some(Verdict::Missed))
    }

    pub(crate) fn render(&self, output: Output) -> Result<String> {
        match output {
            Output::Table => self.tables(),
            Output::Json => Ok(format!("{}\n", self.json()?)),
        }
    }

    fn json(&self) -> Result<Value> {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        Ok(json!({
            "schema": SCHEMA,
            "kernel": kernel()?,
            "cpu": cpu()?,
            "missed": self.missed().count(),
            "rows": rows,
        }))
    }

    fn tables(&self) -> Result<String> {
        let mut text = format!("Linux {}, {}\n", kernel()?, cpu()?);
        for part in self.rows.chunk_by(|one, next| one.part == next.part) {
            let Some(first) = part.first() else { continue };
            let mut table = Table::new();
            table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
            table.set_header(first.header());
            for row in part {
                table.add_row(row.cells());
            }
            for (at, column) in table.column_iter_mut().enumerate() {
                let alignment = if at == 0 { CellAlignment::Left } else { CellAlignment::Right };
                column.set_padding((0, 1)).set_cell_alignment(alignment);
            }
            writeln!(text, "\n{}", first.part)?;
            for line in table.lines() {
                writeln!(text, "{}", line.trim_end())?;
            }
        }
        let missed: Vec<_> = self.missed().map(|row| format!("{}/{}", row.part, row.name)).collect();
        match missed.as_slice() {
            [] => writeln!(text, "\nNo target is missed.")?,
            names => writeln!(text, "\nMissed: {}.", names.join(", "))?,
        }
        if self.rows.iter().any(|row| row.verdict() == Some(Verdict::Open)) {
            writeln!(text, "Open: the target lies inside the 95 % interval; an idle machine narrows it.")?;
        }
        Ok(text)
    }
}

impl Row {
    fn verdict(&self) -> Option<Verdict> {
        self.judged.as_ref().map(|judged| judged.target.verdict(&judged.ratio))
    }

    fn header(&self) -> Vec<String> {
        let figures = self.figures.iter().map(|(name, ..)| name.replace('_', " "));
        let judged: &[_] =
            if self.judged.is_some() { &["ratio of", "median", "95 % interval", "rounds", "target", ""] } else { &[] };
        [String::new()].into_iter().chain(figures).chain(judged.iter().map(|name| (*name).to_owned())).collect()
    }

    fn cells(&self) -> Vec<String> {
        let figure = |value: &Option<f64>, decimals: &usize| {
            value.map_or_else(|| "not told".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let mut cells = vec![self.name.clone()];
        cells.extend(self.figures.iter().map(|(_, value, decimals)| figure(value, decimals)));
        if let Some(Judged { of, ratio, target }) = &self.judged {
            cells.extend([
                (*of).to_owned(),
                format!("{:.3}", ratio.median),
                format!("{:.3} to {:.3}", ratio.low, ratio.high),
                ratio.rounds.to_string(),
                target.text(),
                target.verdict(ratio).id().to_owned(),
            ]);
        }
        cells
    }

    fn json(&self) -> Value {
        let figures: Map<_, _> =
            self.figures.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))).collect();
        let judged = self.judged.as_ref().map(|Judged { of, ratio, target }| {
            json!({
                "of": of,
                "median": ratio.median,
                "interval": [ratio.low, ratio.high],
                "rounds": ratio.rounds,
                "target": target.json(),
                "verdict": target.verdict(ratio).id(),
            })
        });
        json!({ "part": self.part, "name": self.name, "figures": figures, "ratio": judged })
    }
}

fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(release.trim().to_owned())
}

fn cpu() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()))
}
