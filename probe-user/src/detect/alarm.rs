//! Which detectors are alarmed: for each unit and each way of losing, is it more than usual?
//!
//! What this host drops because somebody wants it so, or because it is not set up for it, is a loss only where it is missed:
//! a packet filter that turns a scanner away harms nobody. So of policy, configuration and unknown reasons only that counts
//! which was sent again.

mod count;
mod learned;
mod share;
mod state;
mod usual;
mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::learned::Learned;
use self::{
    count::Count,
    share::Share,
    state::State,
    usual::Usual,
    window::{Sum, Window},
};
use super::second::{Counts, Place, Second, Unit};
use crate::{
    classes::Class,
    derive::{PathSide, RIPENS_AFTER},
};

/// Units that are watched at most: groups first, then interfaces by name; who has a place keeps it while it is there.
pub const UNITS: usize = 64;

/// What goes on for two days is usual, whatever it is.
const LONGEST_MS: u64 = 172_800_000;
/// What comes from far away, like scanners, after an hour.
const LONGEST_FROM_FAR_MS: u64 = 3_600_000;
/// Evidence is forgotten of a unit that was not there for so long, and what is usual after an hour.
const ABSENT_MS: u64 = 30_000;
const FORGOTTEN_MS: u64 = 3_600_000;
/// Seconds between two false alarms of all detectors together: ten weeks.
const BETWEEN_FALSE_ALARMS: f64 = 6_048_000.0;
/// Where so many times more segments pass one way than the other over this time, they go one way.
const WAYS_FEWER: u64 = 10;
const WAYS_MS: u64 = 5_000;
/// Sums of each detector that compares.
const SUMS: usize = 2;

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

    /// Whether its losses are told only when what explains them would have come.
    const fn ripens(self) -> bool {
        matches!(self, Self::NetworkIn | Self::NetworkOut | Self::Inside)
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
    /// It is alarmed, far less passes than before, and what does goes one way: nothing gets through.
    pub stalled: bool,
}

/// All detectors.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    watched: BTreeMap<Unit, Watch>,
    now_ms: u64,
    /// What the last second has shown.
    detectors: Vec<Detector>,
    left_out: usize,
}

/// A second as a detector needs it.
#[derive(Clone, Copy, Debug)]
struct Tick {
    /// When it ended.
    now_ms: u64,
    duration_ms: u64,
    /// Evidence at which shares alarm.
    threshold: f64,
}

/// The detectors of one unit.
#[derive(Clone, Debug, Default)]
struct Watch {
    last_ms: u64,
    shares: BTreeMap<Kind, Share>,
    counts: BTreeMap<Kind, Count>,
    usual: Usual,
    missed: Missed,
    /// Segments that came in, as what was lost, and that went out, as what has passed.
    ways: Window,
    one_way: bool,
}

/// What this host has dropped and nobody has sent again yet, by place, of the classes [`MISSED`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missed([[u64; MISSED.len()]; 3]);

/// The rest was dropped for want of room, because it was malformed, or is noise.
const MISSED: [(Class, Kind); 3] =
    [(Class::Config, Kind::LocalConfig), (Class::Policy, Kind::LocalPolicy), (Class::Unknown, Kind::LocalUnknown)];

impl Alarms {
    /// Takes a second. All detectors of the units that it has, by unit and kind.
    pub fn add(&mut self, second: &Second) -> &[Detector] {
        let now_ms = second.uptime_ms;
        if now_ms < std::mem::replace(&mut self.now_ms, now_ms) {
            // Another agent's time.
            self.watched.values_mut().for_each(|watch| watch.begin_anew(now_ms));
        }
        self.make_room(second);
        let units = second.units.keys().filter(|unit| self.watched.contains_key(unit)).count();
        self.left_out = second.units.len() - units;
        let sums = (SUMS * units * Kind::ALL.iter().filter(|kind| !kind.counts()).count()).max(1);
        let threshold = (BETWEEN_FALSE_ALARMS * sums as f64).ln();
        let tick = Tick { now_ms, duration_ms: second.duration_ms, threshold };
        self.detectors.truncate(units * Kind::ALL.len());
        let mut at = 0;
        for (unit, counts) in &second.units {
            let Some(watch) = self.watched.get_mut(unit) else { continue };
            watch.add(tick, counts, |kind, state| {
                match self.detectors.get_mut(at) {
                    // The same as in the second before: its name need not be copied.
                    Some(shown) if shown.unit == *unit && shown.kind == kind => shown.show(state),
                    Some(shown) => *shown = Detector::of(unit, kind, state),
                    None => self.detectors.push(Detector::of(unit, kind, state)),
                }
                at += 1;
            });
        }
        &self.detectors
    }

    /// Units of the last second that found no place.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    fn make_room(&mut self, second: &Second) {
        let now_ms = second.uptime_ms;
        self.watched.retain(|_, watch| now_ms.saturating_sub(watch.last_ms) < FORGOTTEN_MS);
        for unit in second.units.keys() {
            if self.watched.contains_key(unit) {
                continue;
            }
            if self.watched.len() >= UNITS {
                let absent = self.watched.keys().find(|watched| !second.units.contains_key(watched)).cloned();
                let Some(absent) = absent else { break };
                self.watched.remove(&absent);
            }
            self.watched.insert(unit.clone(), Watch { last_ms: now_ms, ..Watch::default() });
        }
    }
}

impl Detector {
    fn of(unit: &Unit, kind: Kind, state: State) -> Self {
        let mut detector = Self {
            unit: unit.clone(),
            kind,
            score: 0.0,
            threshold: 0.0,
            alarmed: false,
            since_ms: None,
            onset_ms: None,
            baseline: 0.0,
            ratio: None,
            stalled: false,
        };
        detector.show(state);
        detector
    }

    fn show(&mut self, state: State) {
        (self.score, self.threshold) = (state.score, state.threshold);
        (self.baseline, self.ratio) = (state.baseline, state.ratio);
        (self.alarmed, self.stalled) = (state.times.is_some(), state.has_stopped);
        self.since_ms = state.times.map(|times| times.since_ms);
        let earlier_ms = if self.kind.ripens() { RIPENS_AFTER.as_millis() as u64 } else { 0 };
        self.onset_ms = state.times.map(|times| times.onset_ms.saturating_sub(earlier_ms));
    }
}

impl Watch {
    fn add(&mut self, tick: Tick, counts: &Counts, mut show: impl FnMut(Kind, State)) {
        if tick.now_ms.saturating_sub(self.last_ms) > ABSENT_MS + tick.duration_ms {
            self.begin_anew(tick.now_ms);
        }
        self.last_ms = tick.now_ms;
        let is_alarmed = |kind: &Kind| self.shares.get(kind).is_some_and(Share::is_alarmed);
        let calm = !MISSED.iter().any(|(_, kind)| is_alarmed(kind));
        let missed = self.missed.add(&self.usual.beyond(tick, counts, calm));
        let goes_one_way = self.goes_one_way(tick, counts);
        for kind in Kind::ALL {
            let state = match kind {
                Kind::MalformedLocal => self.count(tick, kind, counts.malformed_local, LONGEST_MS),
                Kind::MalformedPath => self.count(tick, kind, counts.malformed_path, LONGEST_FROM_FAR_MS),
                Kind::Link => self.count(tick, kind, counts.link_errors, LONGEST_MS),
                _ => {
                    let (lost, passed) = lost_of(kind, counts, missed);
                    let state = self.shares.entry(kind).or_default().add(tick, lost, passed);
                    State { has_stopped: state.has_stopped && goes_one_way, ..state }
                }
            };
            show(kind, state);
        }
    }

    /// Whether segments pass one way, and hardly any the other. While none pass at all it is as it was before: what is sent
    /// again is sent ever more seldom.
    fn goes_one_way(&mut self, tick: Tick, counts: &Counts) -> bool {
        let [came, went] = counts.segments;
        self.ways.add(tick.now_ms, Sum { duration_ms: tick.duration_ms, lost: came, passed: went });
        let Sum { lost: came, passed: went, .. } = self.ways.of(tick.now_ms, WAYS_MS);
        if came + went > 0 {
            self.one_way = came.max(went) >= WAYS_FEWER * came.min(went);
        }
        self.one_way
    }

    fn count(&mut self, tick: Tick, kind: Kind, count: u64, longest_ms: u64) -> State {
        self.counts.entry(kind).or_default().add(tick, count, longest_ms)
    }

    /// Forgets all but what is usual.
    fn begin_anew(&mut self, now_ms: u64) {
        self.last_ms = now_ms;
        (self.missed, self.ways, self.one_way) = Default::default();
        self.shares.values_mut().for_each(Share::begin_anew);
        self.counts.values_mut().for_each(Count::begin_anew);
    }
}

/// What is lost of how much, as a detector of this kind sees it.
pub(super) fn lost_of(kind: Kind, counts: &Counts, missed: [u64; MISSED.len()]) -> (u64, u64) {
    let [came, went] = counts.segments;
    let lost = |side: PathSide| counts.lost[side as usize];
    let no_room = |place: Place| counts.own[place as usize][Class::Capacity as usize];
    match kind {
        Kind::NetworkIn => (lost(PathSide::NetworkIn), came + lost(PathSide::NetworkIn)),
        Kind::NetworkOut => (lost(PathSide::NetworkOut), went),
        Kind::Inside => (lost(PathSide::Inside), came + went),
        Kind::LocalRx => (no_room(Place::Before) + no_room(Place::Within), counts.frames[0] + no_room(Place::Before)),
        Kind::LocalTx => (no_room(Place::Behind), counts.frames[1]),
        _ => (MISSED.iter().position(|(_, of)| *of == kind).map_or(0, |at| missed[at]), came + went),
    }
}

impl Missed {
    /// How much of each class was sent again by now. What nobody sends again within seconds is not missed.
    pub(super) fn add(&mut self, counts: &Counts) -> [u64; MISSED.len()] {
        // What was dropped before the ingress hook leaves a hole there; what had passed it passes it again, or leaves a hole
        // at egress; what was dropped behind the egress hook passes that again.
        let [in_again, out_again] = [0, 1].map(|at: usize| counts.seen_again[at] + counts.handshakes_again[at]);
        let again = [counts.refilled[0], in_again + counts.refilled[1], out_again];
        let mut missed = [0; MISSED.len()];
        for ((dropped, waiting), again) in counts.own.iter().zip(&mut self.0).zip(again) {
            let mut left = again.saturating_sub(dropped[Class::Capacity as usize]);
            for ((class, _), (waiting, missed)) in MISSED.iter().zip(waiting.iter_mut().zip(&mut missed)) {
                *waiting = *waiting / 2 + dropped[*class as usize];
                let sent_again = left.min(*waiting);
                *waiting -= sent_again;
                left -= sent_again;
                *missed += sent_again;
            }
        }
        missed
    }
}

#[cfg(test)]
mod tests;
