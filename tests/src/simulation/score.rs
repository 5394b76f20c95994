//! What many runs come to.

use std::collections::BTreeMap;

use probe_user::detect::verdict::Name;

use super::{cause::Cause, course::Outcome};

/// Runs of one kind.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// All of them.
    pub runs: u64,
    /// What is right was said in time, and nothing wrong.
    pub right: u64,
    /// Something wrong was said.
    pub wrong: u64,
    /// Seconds to the alarm, of those that had one.
    detected_s: Vec<u64>,
    /// Seconds to what is right, of those in which it was said.
    right_s: Vec<u64>,
    held: (u64, u64),
}

impl Cell {
    /// Takes a run.
    pub fn add(&mut self, cause: &Cause, outcome: &Outcome) {
        self.runs += 1;
        self.wrong += u64::from(outcome.wrong.is_some());
        let is_right = outcome.right_s.is_some() || cause.is_innocent();
        self.right += u64::from(is_right && outcome.wrong.is_none());
        self.detected_s.extend(outcome.detected_s);
        self.right_s.extend(outcome.right_s);
        self.held = (self.held.0 + outcome.held.0, self.held.1 + outcome.held.1);
    }

    /// Takes another one's runs.
    pub fn join(&mut self, more: &Self) {
        (self.runs, self.right, self.wrong) = (self.runs + more.runs, self.right + more.right, self.wrong + more.wrong);
        self.detected_s.extend(&more.detected_s);
        self.right_s.extend(&more.right_s);
        self.held = (self.held.0 + more.held.0, self.held.1 + more.held.1);
    }

    /// Runs in which nobody was named, or not in time.
    #[must_use]
    pub const fn abstained(&self) -> u64 {
        self.runs - self.right - self.wrong
    }

    /// Seconds within which this share of all runs was alarmed; `None` if fewer were.
    #[must_use]
    pub fn detected_s(&self, share: f64) -> Option<u64> {
        quantile(&self.detected_s, self.runs, share)
    }

    /// Seconds within which in this share of all runs the right thing was said; `None` if it was in fewer.
    #[must_use]
    pub fn right_s(&self, share: f64) -> Option<u64> {
        quantile(&self.right_s, self.runs, share)
    }

    /// Share of the time behind it in which what is right stood.
    #[must_use]
    pub fn held(&self) -> f64 {
        self.held.0 as f64 / self.held.1.max(1) as f64
    }
}

fn quantile(values: &[u64], of: u64, share: f64) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * of as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// All runs: by cause, loss (in thousandths) and segments a second.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Runs of each kind.
    pub cells: BTreeMap<(&'static str, u64, u64), Cell>,
    /// What was said for the longest time, by cause.
    pub said: BTreeMap<&'static str, BTreeMap<Name, u64>>,
    /// The first runs in which something wrong was said, in words.
    pub wrong: Vec<String>,
    /// Runs by what the paths usually lose, loss and segments a second, of those that count for it.
    pub usual: BTreeMap<(String, u64, u64), Cell>,
    /// Simulated seconds.
    pub seconds: u64,
}

/// Wrong runs that are told in words.
const TOLD: usize = 40;

impl Score {
    /// Takes a run; `what` tells it again.
    pub fn add(&mut self, cause: &Cause, (loss, segments): (u64, u64), outcome: &Outcome, what: impl Fn() -> String) {
        self.cells.entry((cause.name, loss, segments)).or_default().add(cause, outcome);
        let name = outcome.wrong.map_or(outcome.said, |(_, name)| name);
        *self.said.entry(cause.name).or_default().entry(name).or_default() += 1;
        self.seconds += outcome.seconds;
        if let (Some((second, name)), true) = (outcome.wrong, self.wrong.len() < TOLD) {
            self.wrong.push(format!("{}: {} after {second} s, {}", cause.name, name.id(), what()));
        }
    }

    /// Takes another one's runs.
    pub fn join(&mut self, more: Self) {
        for (kind, cell) in more.cells {
            self.cells.entry(kind).or_default().join(&cell);
        }
        for (cause, said) in more.said {
            let own = self.said.entry(cause).or_default();
            said.into_iter().for_each(|(name, runs)| *own.entry(name).or_default() += runs);
        }
        for (usual, cell) in more.usual {
            self.usual.entry(usual).or_default().join(&cell);
        }
        self.wrong.extend(more.wrong);
        self.seconds += more.seconds;
    }

    /// The runs of those kinds together.
    #[must_use]
    pub fn of(&self, is_wanted: impl Fn(&str, u64, u64) -> bool) -> Cell {
        let mut sum = Cell::default();
        let wanted = self.cells.iter().filter(|((cause, loss, segments), _)| is_wanted(cause, *loss, *segments));
        wanted.for_each(|(_, cell)| sum.join(cell));
        sum
    }

    /// The runs on paths that usually lose so much, of this loss and traffic.
    #[must_use]
    pub fn on(&self, usual: &str, is_wanted: impl Fn(u64, u64) -> bool) -> Cell {
        let mut sum = Cell::default();
        let wanted = self.usual.iter().filter(|((of, loss, segments), _)| of == usual && is_wanted(*loss, *segments));
        wanted.for_each(|(_, cell)| sum.join(cell));
        sum
    }
}
