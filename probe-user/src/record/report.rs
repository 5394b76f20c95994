//! What there is to tell of an incident, for people: the skeleton of a post-mortem, as [Markdown](markdown) and as a [page](html).
//!
//! One list of blocks is made, and each form writes all of them: neither knows an incident, and neither says what the other does
//! not. Nothing in a block is markup. Names of interfaces and what a kernel says are hostile input: both forms escape everything.

pub mod html;
pub mod markdown;
mod provider;
pub(super) mod section;
#[cfg(test)]
pub(crate) mod tests;

use jiff::Timestamp;
use serde::Serialize;

use super::{chart::Chart, evidence::Evidence, history::Recording};
use crate::detect::incident::Incident;

/// What a report is made of besides the incident. What is `None` was not there to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'f> {
    /// Name of the machine, `""` if it is not known.
    pub host: &'f str,
    /// Malformed frames, and who has sent them.
    pub evidence: Option<&'f Evidence>,
    /// Every counter, second by second.
    pub recording: Option<&'f Recording>,
    /// Files that lie beside the report.
    pub files: &'f [File],
}

/// A file beside the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, relative to the report.
    pub name: String,
    /// What is in it.
    pub what: &'static str,
}

/// A piece of a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    /// The title of the whole.
    Title(String),
    /// The title of a section.
    Section(&'static str),
    /// What must not be missed.
    Lead(String),
    /// A paragraph.
    Text(String),
    /// Points.
    List(Vec<String>),
    /// A column for each title; the first one is what a row is about.
    Table(Vec<&'static str>, Vec<Vec<String>>),
    /// To be copied as it is.
    Verbatim(String),
    /// A graph, and what of it can be said in a line of text.
    Graph(Chart),
}

/// The report.
pub(super) fn blocks(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let sections = [
        section::summary(incident, facts),
        section::graphs(incident, facts),
        section::timeline(incident),
        section::verdict(incident),
        section::malformed(incident, facts),
        section::extent(incident),
        section::objective(incident),
        provider::section(incident, facts),
        section::open_ends(incident, facts),
    ];
    sections.concat()
}

/// What happened, when, and whose fault it is.
pub(crate) fn overview(incident: &Incident) -> Vec<Block> {
    [section::summary(incident, &Facts::default()), section::timeline(incident), section::verdict(incident)].concat()
}

/// How a value is called in JSON.
pub(crate) fn id(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).ok();
    json.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// A time as the report shows it: to the second, UTC. What is no time is shown as it is.
pub(crate) fn clock(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// Seconds from one time to another, `None` if one of them is no time.
pub(crate) fn seconds(from: &str, to: &str) -> Option<f64> {
    let [from, to] = [from, to].map(|time| time.parse::<Timestamp>().ok());
    Some(to?.duration_since(from?).as_secs_f64())
}

/// A length of time, in the two units that say most.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 0.0 {
        return format!("−{}", duration(-seconds));
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3_600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) if seconds < 10.0 && seconds.fract() > 0.05 => format!("{seconds:.1} s"),
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes} min {rest:02} s"),
        (..72, _) => format!("{hours} h {minutes:02} min"),
        _ => format!("{} d {:02} h", hours / 24, hours % 24),
    }
}
