//! One thing that went wrong, from its onset to the return to what is usual, however often it eases and comes back.
//!
//! An incident has one [`Party`], and a party at most one open incident: what several units lose at once on the same side is
//! one cause, and what two sides lose are two. [`Incidents`] feeds them, one second at a time.

mod course;
mod follow;
mod open;
mod party;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::{
    follow::{Change, Incidents, Kept, MOST_FINISHED, What},
    party::Party,
    progress::Thresholds,
};
use super::{
    objective::Objective,
    verdict::{Name, Verdict},
};

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;
/// Points of a course.
pub const COURSE_POINTS: usize = 1_440;
/// Changes of state and of verdict that are kept of each.
pub const MOST_CHANGES: usize = 256;
/// Names in each of the lists of what was affected, and stretches of time in which nobody looked.
pub const MOST_NAMES: usize = 64;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A detector has alarmed; there is no verdict yet.
    #[default]
    Opening,
    /// There is a verdict, or for half a minute none that names anybody, and it goes on.
    Active,
    /// Less is lost than at the peak, and still too much.
    Easing,
    /// Below the objective, above what is usual.
    Acceptable,
    /// Back to what is usual.
    Closed,
}

/// One incident (`GET /api/v1/incidents`, `incident.json`). Keys are added, never renamed; times are RFC 3339, UTC, all by the
/// clock as it is set now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unique on this host, sorts by time, fit for a file's name.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// Whose it is, by the first verdict that names somebody, until then by the detector.
    pub party: Party,
    /// When it began, by estimate; not after `detected`.
    pub onset: String,
    /// When a detector alarmed.
    pub detected: String,
    /// When the first verdict that names somebody was there.
    pub judged: Option<String>,
    /// When it was over: since then all is as usual. Without a state folder, or an agent, that is when it was last seen.
    pub closed: Option<String>,
    /// The last second that was looked at.
    pub last_seen: String,
    /// The verdict that names somebody and has led for the longest time, while more was lost than is acceptable.
    pub verdict: Name,
    /// Seconds for which each verdict has led in that time.
    pub led_seconds: BTreeMap<Name, f64>,
    /// The latest statement with that verdict, whole.
    pub statement: Verdict,
    /// Every change of state, of very many the first and the latest [`MOST_CHANGES`].
    pub states: Vec<StateChange>,
    /// Every change of verdict, of very many the first and the latest [`MOST_CHANGES`].
    pub verdicts: Vec<VerdictChange>,
    /// Changes for which there was no room.
    pub changes_left_out: u64,
    /// When it was worst.
    pub peak: Peak,
    /// The share lost over time, at most [`COURSE_POINTS`] points that cover it evenly. Where nobody looked there is none.
    pub course: Vec<Point>,
    /// Seconds that each point of it stands for.
    pub course_seconds: u32,
    /// Track groups and interfaces that were affected at any time, at most [`MOST_NAMES`].
    pub affected: Vec<String>,
    /// Uplinks and track points that carried traffic and never were, at most [`MOST_NAMES`].
    pub unaffected: Vec<String>,
    /// When nobody looked: no agent, or one that was paused; the first [`MOST_NAMES`].
    pub gaps: Vec<Gap>,
    /// Seconds by which this host's clock was set forward (or back, if negative) meanwhile. All times were moved along.
    pub clock_set_seconds: f64,
    /// Against the objective that is configured.
    pub objective: Objective,
    /// Folder of its bundle, `""` while there is none.
    pub bundle: String,
}

/// A change of state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// When.
    pub time: String,
    /// To what.
    pub state: State,
}

/// A change of verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// When.
    pub time: String,
    /// To what.
    pub verdict: Name,
    /// In words.
    pub sentence: String,
}

/// When it was worst.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// When.
    pub time: String,
    /// Share of segments lost, 0 to 1, over ten seconds, on the worst of the units that were affected.
    pub ratio: f64,
}

/// A point of the course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since the onset, where its time begins.
    pub seconds: f64,
    /// Share of segments lost, 0 to 1, as of [`Peak`]; `None` where too little passed to say.
    pub ratio: Option<f64>,
    /// Malformed frames in a second.
    pub malformed: f64,
}

/// A stretch of time in which nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its begin.
    pub from: String,
    /// Its end.
    pub to: String,
}

/// A point in time as an incident has it: with milliseconds, so that letters sort as times do.
fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The point in time of such a text.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

impl Incident {
    /// Says what keeps this from being an incident that an agent has written: a file can hold anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.schema == 0 || self.schema > SCHEMA {
            return Err(format!("its schema is {}, and this version knows {SCHEMA}", self.schema));
        }
        let is_wrong = |text: &&str| time(text).is_none();
        let mut copy = self.clone();
        if let Some(wrong) = copy.times().into_iter().map(|text| &**text).find(is_wrong) {
            return Err(format!("`{}` is no time", wrong.escape_debug()));
        }
        let lists = [
            (self.states.len().max(self.verdicts.len()), MOST_CHANGES),
            (self.course.len(), COURSE_POINTS),
            (self.affected.len().max(self.unaffected.len()).max(self.gaps.len()), MOST_NAMES),
        ];
        match lists.into_iter().find(|(length, most)| length > most) {
            Some((length, most)) => Err(format!("a list has {length} entries, and {most} are allowed")),
            None => Ok(()),
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Moves all its times, because the clock was set.
    fn shift(&mut self, by: SignedDuration) {
        self.clock_set_seconds += by.as_secs_f64();
        for old in self.times() {
            // What no calendar has stays as it is.
            if let Some(moved) = time(old).and_then(|time| time.checked_add(by).ok()) {
                *old = text(moved);
            }
        }
    }

    fn times(&mut self) -> Vec<&mut String> {
        let once = [&mut self.onset, &mut self.detected, &mut self.last_seen].into_iter();
        let once = once.chain(&mut self.judged).chain(&mut self.closed);
        // There is no worst second yet.
        let once = once.chain(Some(&mut self.peak.time).filter(|time| !time.is_empty()));
        let changes = self.states.iter_mut().map(|change| &mut change.time);
        let changes = changes.chain(self.verdicts.iter_mut().map(|change| &mut change.time));
        let gaps = self.gaps.iter_mut().flat_map(|gap| [&mut gap.from, &mut gap.to]);
        once.chain(changes).chain(gaps).collect()
    }
}
