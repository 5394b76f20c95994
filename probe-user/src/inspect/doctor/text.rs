//! The report for people: a line for each check, the rest below it where something is missing.

use std::fmt::Write as _;

use super::{Check, Plan, Report, Status};
use crate::inspect::stats::printable;

/// Columns of a mark.
const MARK: usize = 8;

pub(super) fn render(report: &Report, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    page.line(&format!("lossprobe {} on Linux {}: {}", report.lossprobe, report.release, report.summary));
    for (title, checks) in report.sections() {
        page.section(title);
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        checks.iter().for_each(|check| page.check(check, width));
    }
    page.section("Interfaces");
    let width = report.interfaces.iter().map(|plan| printable(&plan.name).chars().count()).max().unwrap_or(0);
    report.interfaces.iter().for_each(|plan| page.plan(plan, width));
    page.text
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.text, "{}", line.trim_end());
    }

    fn section(&mut self, title: &str) {
        let title = if self.colour { format!("\x1b[1m{title}\x1b[0m") } else { title.to_owned() };
        self.line(&format!("\n{title}"));
    }

    fn mark(&self, status: Status) -> String {
        let (word, code) = match status {
            Status::Ok => ("ok", "32"),
            Status::Warning => ("warning", "33"),
            Status::Unknown => ("unknown", "36"),
            Status::Failure => ("FAILURE", "31"),
        };
        let padded = format!("{word:MARK$}");
        if self.colour { format!("\x1b[{code}m{padded}\x1b[0m") } else { padded }
    }

    fn check(&mut self, check: &Check, width: usize) {
        let indent = MARK + width + 4;
        let mut found = check.found.lines();
        let first = found.next().unwrap_or_default();
        self.line(&format!("  {} {:width$} {}", self.mark(check.status), check.name, printable(first)));
        found.for_each(|line| self.line(&format!("{:indent$}{}", "", printable(line))));
        for (word, text) in [("without it:", &check.consequence), ("next:", &check.next_step)] {
            if !text.is_empty() {
                self.line(&format!("{:indent$}{word} {text}", ""));
            }
        }
    }

    fn plan(&mut self, plan: &Plan, width: usize) {
        let name = printable(&plan.name);
        let hooks = [("ingress", &plan.ingress), ("egress", &plan.egress)];
        let hooks = hooks.map(|(direction, hook)| format!("{direction} {}", hook.plan)).join(", ");
        self.line(&format!("  {} {name:width$} {}, {}: {hooks}", self.mark(plan.status), plan.kind, plan.link));
        let indent = MARK + width + 4;
        let track = if plan.track.is_empty() { String::new() } else { format!(" (track group {})", plan.track) };
        self.line(&format!("{:indent$}{}{track}: {}", "", plan.role, printable(&plan.role_reason)));
        plan.notes.iter().for_each(|note| self.line(&format!("{:indent$}{}", "", printable(note))));
    }
}
