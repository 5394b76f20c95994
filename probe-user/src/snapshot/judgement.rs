//! What was made of snapshots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was made of the snapshots until the last second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whose fault: a verdict's name, `none` if nothing is wrong.
    pub verdict: String,
    /// Incidents by the verdict that they have, or had when one was there first.
    pub incidents: BTreeMap<String, IncidentCount>,
    /// Of every unit that is watched.
    pub detectors: Vec<DetectorState>,
    /// Changes of incidents by what became of telling them; `None` where nobody is told.
    pub pushed: Option<BTreeMap<String, u64>>,
    /// Times that an incident, or its bundle, could not be written to the state folder; `None` without one.
    pub not_written: Option<u64>,
}

/// Incidents of one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentCount {
    /// Open now.
    pub active: u64,
    /// Since the agent's start.
    pub total: u64,
}

/// One detector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorState {
    /// Track group or interface.
    pub unit: String,
    /// What it looks at.
    pub kind: String,
    /// Whether it is alarmed.
    pub alarmed: bool,
    /// Evidence, as a share of what it takes to alarm.
    pub score_ratio: f64,
    /// What is usual: a share, or frames in a second.
    pub baseline: f64,
    /// The same of the last 5 s; `None` if nothing has passed.
    pub ratio: Option<f64>,
}
