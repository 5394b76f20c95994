//! Which detectors are alarmed: for each unit and each way of losing, is it more than usual?

use serde::{Deserialize, Serialize};

use super::second::{Second, Unit};

/// Units that are watched at most: groups first, then interfaces by name; who has a place keeps it.
pub const UNITS: usize = 64;

/// What a detector looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Segments lost before they came in, of those that came in.
    NetworkIn,
    /// Segments lost after they had gone out, of those that went out.
    NetworkOut,
    /// Segments lost on this host's side of the unit, of all.
    Inside,
    /// Frames for which this host had no room, receiving.
    LocalRx,
    /// Frames for which this host had no room, sending.
    LocalTx,
    /// Segments that somebody wants dropped here, and that were sent again.
    LocalPolicy,
    /// Segments that this host is not set up to pass on, and that were sent again.
    LocalConfig,
    /// Segments that this host has dropped for a reason that says nothing, and that were sent again.
    LocalUnknown,
    /// Malformed frames that only a neighbour on this segment can have made.
    MalformedLocal,
    /// Malformed frames that may come from anywhere.
    MalformedPath,
    /// Frames that were damaged on the wire.
    Link,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NetworkIn,
        Self::NetworkOut,
        Self::Inside,
        Self::LocalRx,
        Self::LocalTx,
        Self::LocalPolicy,
        Self::LocalConfig,
        Self::LocalUnknown,
        Self::MalformedLocal,
        Self::MalformedPath,
        Self::Link,
    ];

    /// The metric label `kind`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::Inside => "inside",
            Self::LocalRx => "local_rx",
            Self::LocalTx => "local_tx",
            Self::LocalPolicy => "local_policy",
            Self::LocalConfig => "local_config",
            Self::LocalUnknown => "local_unknown",
            Self::MalformedLocal => "malformed_local",
            Self::MalformedPath => "malformed_path",
            Self::Link => "link",
        }
    }

    /// Whether it counts (malformed and damaged frames, in a second), or else compares (a share of what has passed).
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::MalformedLocal | Self::MalformedPath | Self::Link)
    }
}

/// State of one detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    /// Where.
    pub unit: Unit,
    /// What.
    pub kind: Kind,
    /// Evidence that more is lost than usual; of a kind that [counts](Kind::counts), frames in 10 s.
    pub score: f64,
    /// The evidence at which it alarms.
    pub threshold: f64,
    /// Whether it is alarmed.
    pub alarmed: bool,
    /// When it alarmed, as [`Second::uptime_ms`]; `None` if it is not alarmed.
    pub since_ms: Option<u64>,
    /// When what it alarmed about began, by estimate; `None` if it is not alarmed.
    pub onset_ms: Option<u64>,
    /// What is usual: a share, or frames in a second.
    pub baseline: f64,
    /// The same of the last 5 s; `None` if nothing has passed.
    pub ratio: Option<f64>,
}

/// All detectors.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    detectors: Vec<Detector>,
}

impl Alarms {
    /// Takes a second. All detectors of the units that it has, by unit and kind.
    pub fn add(&mut self, second: &Second) -> &[Detector] {
        let _ = second;
        &self.detectors
    }

    /// Units of the last second that found no place.
    #[must_use]
    pub fn left_out(&self) -> usize {
        0
    }
}
