//! Decides, once a second: is more lost than usual, where, and whose fault is it. Pure functions of [snapshots](crate::snapshot):
//! they need no kernel, no clock and no disk, and say of a recorded stream what they would have said of a live one.
//!
//! ```text
//! Snapshot ─ second ─┬─ alarm (cusum, baseline) ─┬─ verdict ─ incident
//!                    └─ source (what is seen) ───┘
//! ```

pub mod alarm;
pub mod baseline;
pub mod cusum;
mod hint;
pub mod incident;
pub mod objective;
pub mod second;
mod sentence;
pub mod source;
pub mod verdict;

use std::{collections::VecDeque, sync::Arc};

pub(crate) use self::sentence::percent;
use self::{
    alarm::{Alarms, Detector, Learned},
    incident::{Change, Incidents, Kept, Thresholds},
    second::Second,
    source::Sources,
    verdict::{Affected, LONG_MS, Verdict, WINDOW_MS, Window},
};
use crate::{derive::RIPENS_AFTER, snapshot::Snapshot};

/// Follows a stream of snapshots, one a second.
#[derive(Debug)]
pub struct Detection {
    alarms: Alarms,
    /// The latest, as many as a verdict looks at.
    seconds: VecDeque<Second>,
    /// The latest, and one every five seconds of that time: what was seen meanwhile.
    snapshots: VecDeque<Arc<Snapshot>>,
    detectors: Vec<Detector>,
    verdict: Verdict,
    incidents: Incidents,
}

impl Detection {
    /// Goes on with what an earlier agent has left.
    #[must_use]
    pub fn new(thresholds: Thresholds, objective_percent: f64, mut kept: Kept) -> Self {
        Self {
            alarms: kept.learned.take().map(Alarms::knowing).unwrap_or_default(),
            seconds: VecDeque::new(),
            snapshots: VecDeque::new(),
            detectors: Vec::new(),
            verdict: Verdict::blind(""),
            incidents: Incidents::new(thresholds, objective_percent, kept),
        }
    }

    /// Takes a snapshot; the first is what the second one is compared with.
    pub fn add(&mut self, later: &Arc<Snapshot>, affected: Affected) -> Vec<Change> {
        let Some(earlier) = self.snapshots.back() else {
            self.snapshots.push_back(Arc::clone(later));
            self.verdict = Verdict::blind(&later.time);
            return Vec::new();
        };
        let second = Second::between(earlier, later);
        refresh(&mut self.detectors, self.alarms.add(&second));
        self.remember(later);
        let seen_from = self.snapshots.front().unwrap_or(later);
        let sources = Sources::between(seen_from, later);
        let window = Window { affected, ..Window::of(self.seconds.iter().chain([&second]), &later.time) };
        self.verdict = verdict::judge(&window, &self.detectors, &sources);
        let changes = self.incidents.add(&later.time, &self.detectors, &self.verdict, &second);
        self.seconds.push_back(second);
        let mut held_ms: u64 = self.seconds.iter().map(|second| second.duration_ms).sum();
        let wanted_ms = LONG_MS + RIPENS_AFTER.as_millis() as u64;
        while let Some(first) = self.seconds.front().filter(|first| held_ms - first.duration_ms >= wanted_ms) {
            held_ms -= first.duration_ms;
            self.seconds.pop_front();
        }
        changes
    }

    fn remember(&mut self, later: &Arc<Snapshot>) {
        let age_ms = |snapshot: &Snapshot| later.uptime_ms.saturating_sub(snapshot.uptime_ms);
        let ages = self.snapshots.iter().map(|snapshot| age_ms(snapshot));
        if self.snapshots.front().is_some_and(|first| first.uptime_ms > later.uptime_ms) {
            // Another agent's time.
            self.snapshots.clear();
        } else if ages.rev().nth(1).is_some_and(|before_last_ms| before_last_ms < WINDOW_MS) {
            self.snapshots.pop_back();
        }
        self.snapshots.push_back(Arc::clone(later));
        while self.snapshots.get(1).is_some_and(|second| age_ms(second) >= LONG_MS) {
            self.snapshots.pop_front();
        }
    }

    /// What there is to say now.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// All detectors, as the last second has left them.
    #[must_use]
    pub fn detectors(&self) -> &[Detector] {
        &self.detectors
    }

    /// Whether anything is unusual.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        self.detectors.iter().any(|detector| detector.alarmed)
    }

    /// What is usual, for who comes after.
    #[must_use]
    pub fn learned(&self) -> Learned {
        self.alarms.learned()
    }

    /// What has gone wrong.
    #[must_use]
    pub const fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// Takes note where an incident's bundle is.
    pub fn bundled(&mut self, id: &str, folder: &str) {
        self.incidents.bundled(id, folder);
    }
}

/// Keeps the memory of those that were there before.
fn refresh(to: &mut Vec<Detector>, from: &[Detector]) {
    to.truncate(from.len());
    let known = to.len();
    to.iter_mut().zip(from).for_each(|(to, from)| to.clone_from(from));
    to.extend_from_slice(&from[known..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered is as old as a verdict looks back, and no more than it needs.
    #[test]
    fn snapshots_are_few() {
        let mut detection = Detection::new(Thresholds::default(), 99.9, Kept::default());
        for second in 1..=100 {
            detection.add(&Arc::new(Snapshot { uptime_ms: second * 1000, ..Snapshot::default() }), Affected::default());
            let first_ms = detection.snapshots.front().map_or(0, |first| first.uptime_ms);
            assert!(second * 1000 - first_ms >= LONG_MS.min((second - 1) * 1000), "{second}: {first_ms}");
            assert!(second * 1000 - first_ms < LONG_MS + WINDOW_MS + 1000, "{second}: {first_ms}");
            assert!(detection.snapshots.len() <= 7 && detection.seconds.len() <= 22);
            assert_eq!(detection.snapshots.back().map(|last| last.uptime_ms), Some(second * 1000));
        }
        detection.add(&Arc::new(Snapshot { uptime_ms: 5, ..Snapshot::default() }), Affected::default());
        assert_eq!(detection.snapshots.len(), 1, "another agent's");
    }
}
