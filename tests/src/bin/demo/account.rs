//! The account: one row for each thing that was done, what the agent found of it, and in which metric.

use std::{
    env,
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use anyhow::{Result, ensure};
use tests::{agent::Agent, metrics::Metrics, wait::eventually};

/// From a packet's end to its place in a scrape.
pub(crate) const SOON: Duration = Duration::from_secs(5);

type Labels<'l> = [(&'l str, &'l str)];

/// What was done, how often, and the metric (name and labels) that must grow by it.
pub(crate) type Expected<'l> = (&'l str, usize, &'l str, Vec<(&'l str, &'l str)>);

struct Row {
    done: String,
    made: usize,
    found: f64,
    metric: String,
}

/// The rows so far.
pub(crate) struct Account<'a> {
    pub(crate) agent: &'a Agent<'a>,
    rows: Vec<Row>,
}

impl<'a> Account<'a> {
    pub(crate) fn new(agent: &'a Agent<'a>) -> Self {
        Self { agent, rows: Vec::new() }
    }

    /// Runs `traffic` and adds one row for each thing that it should add to a metric.
    pub(crate) fn expect(&mut self, rows: &[Expected<'_>], traffic: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.agent.metrics()?;
        traffic()?;
        for (done, made, name, labels) in rows {
            self.compare(done, *made, name, labels, before.sum(name, labels))?;
        }
        Ok(())
    }

    /// Adds the row of a metric that was `before` and should have grown by `made`.
    pub(crate) fn compare(
        &mut self,
        done: &str,
        made: usize,
        name: &str,
        labels: &Labels<'_>,
        before: f64,
    ) -> Result<()> {
        let growth = |metrics: &Metrics| metrics.sum(name, labels) - before;
        // One that does not come is shown by the row itself.
        let _late = eventually(SOON, done, || {
            ensure!(growth(&self.agent.metrics()?) >= made as f64, "less");
            Ok(())
        });
        let found = growth(&self.agent.metrics()?);
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.rows.push(Row { done: done.to_owned(), made, found, metric: format!("{name}{{{}}}", labels.join(",")) });
        Ok(())
    }

    /// The agent's own losses, which must be none.
    pub(crate) fn own_losses(&mut self) -> Result<()> {
        let metrics = self.agent.metrics()?;
        for (done, name) in [
            ("events that the agent missed", "lossprobe_program_missed_total"),
            ("events that did not fit its maps", "lossprobe_map_update_failed_total"),
        ] {
            let found = metrics.sum(name, &[]);
            self.rows.push(Row { done: done.to_owned(), made: 0, found, metric: name.to_owned() });
        }
        Ok(())
    }

    /// Prints the account and returns whether everything matches.
    pub(crate) fn print(&self) -> bool {
        let colours = stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        let paint = |text: &str, code: u8| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let width = self.rows.iter().map(|row| row.done.chars().count()).max().unwrap_or(0);
        println!("{}", paint(&format!("{:<width$}  {:>9}  {:>9}      metric", "what was done", "made", "found"), 1));
        for Row { done, made, found, metric } in &self.rows {
            let mark = if *found == *made as f64 { paint("ok ", 32) } else { paint("BAD", 31) };
            println!("{done:<width$}  {made:>9}  {found:>9}  {mark} {}", paint(metric, 2));
        }
        let wrong = self.rows.iter().filter(|row| row.found != row.made as f64).count();
        match wrong {
            0 => println!("\nEverything that was done was found, number for number."),
            _ => println!("\n{wrong} of {} do not match.", self.rows.len()),
        }
        wrong == 0
    }
}
