//! One thing that went wrong, from its onset to the return to what is usual, however often it eases and comes back.

use serde::{Deserialize, Serialize};

use super::verdict::{Name, Verdict};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A detector has alarmed; there is no verdict yet.
    #[default]
    Opening,
    /// There is a verdict, and it goes on.
    Active,
    /// Less is lost than at the peak, and still too much.
    Easing,
    /// Below the objective, above what is usual.
    Acceptable,
    /// Back to what is usual.
    Closed,
}

/// One incident (`GET /api/v1/incidents`, `incident.json`). Keys are added, never renamed; times are RFC 3339, UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Version of the JSON form.
    pub schema: u32,
    /// Unique on this host, sorts by time, fit for a file's name.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// When it began, by estimate; before `detected`.
    pub onset: String,
    /// When a detector alarmed.
    pub detected: String,
    /// When the first verdict that names somebody was there.
    pub judged: Option<String>,
    /// When it was closed.
    pub closed: Option<String>,
    /// The verdict that has led for the longest time.
    pub verdict: Name,
    /// The latest that names somebody, whole.
    pub statement: Verdict,
    /// Every change of state.
    pub states: Vec<StateChange>,
    /// Every change of verdict.
    pub verdicts: Vec<VerdictChange>,
    /// The worst second.
    pub peak: Peak,
    /// The share lost over time, at most [`COURSE_POINTS`] points that cover it evenly.
    pub course: Vec<Point>,
    /// Track groups and interfaces that were affected at any time.
    pub affected: Vec<String>,
    /// Uplinks and track points that never were.
    pub unaffected: Vec<String>,
    /// Against the objective that is configured.
    pub objective: Objective,
    /// Folder of its bundle, `""` while there is none.
    #[serde(default)]
    pub bundle: String,
}

/// Points of a course.
pub const COURSE_POINTS: usize = 1_440;

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

/// The worst second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// When.
    pub time: String,
    /// Share of segments lost, 0 to 1.
    pub ratio: f64,
}

/// A point of the course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since the onset.
    pub seconds: f64,
    /// Share of segments lost, 0 to 1.
    pub ratio: f64,
    /// Malformed frames in a second.
    pub malformed: f64,
}

/// Minutes beyond an objective, e.g. 99.9 % in a month of 30 days: 43.2 min.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// In percent.
    pub percent: f64,
    /// Minutes in which more was lost than is acceptable.
    pub minutes_beyond: f64,
    /// Minutes that a month of 30 days allows.
    pub minutes_allowed: f64,
}
