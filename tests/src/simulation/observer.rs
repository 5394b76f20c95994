//! The agent's part: snapshots in, what its detectors and its judge say out. As [`probe_user::detect::Detection`] does it, but
//! that a snapshot's memory is used again, and that it is judged only when somebody asks.

use std::collections::VecDeque;

use probe_user::{
    derive::RIPENS_AFTER,
    detect::{
        alarm::{Alarms, Detector, Kind},
        second::Second,
        source::Sources,
        verdict::{Affected, LONG_MS, Verdict, WINDOW_MS, Window, judge},
    },
    snapshot::Snapshot,
};

use super::node::Node;

/// Seconds that a verdict looks back, and those in which losses ripen.
const SECONDS: usize = (LONG_MS / 1_000 + RIPENS_AFTER.as_secs()) as usize;

/// One agent.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    shape: Snapshot,
    /// The latest, and one every five seconds of the time that a verdict looks back.
    snapshots: VecDeque<Snapshot>,
    /// Those that are not needed any more.
    spare: Vec<Snapshot>,
    seconds: VecDeque<Second>,
    alarms: Alarms,
    detectors: Vec<Detector>,
}

impl Observer {
    /// Of a node of which each snapshot has this shape.
    pub(super) fn new(shape: Snapshot) -> Self {
        let snapshots = [shape.clone()].into();
        let (seconds, alarms, detectors, spare) = Default::default();
        Self { shape, snapshots, spare, seconds, alarms, detectors }
    }

    /// Changes what all snapshots have in common.
    pub(super) fn reshape(&mut self, change: fn(&mut Snapshot)) {
        change(&mut self.shape);
        self.snapshots.iter_mut().chain(&mut self.spare).for_each(change);
    }

    /// Takes a snapshot. Whether anything is alarmed.
    pub(super) fn look(&mut self, node: &mut Node) -> bool {
        let mut later = self.spare.pop().unwrap_or_else(|| self.shape.clone());
        node.show(&mut later);
        let second = Second::between(self.snapshots.back().unwrap_or(&self.shape), &later);
        self.alarms.add(&second).clone_into(&mut self.detectors);
        self.remember(later);
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
        self.alarmed(|_| true).is_some()
    }

    fn remember(&mut self, later: Snapshot) {
        let age_ms = |snapshot: &Snapshot| later.uptime_ms - snapshot.uptime_ms;
        let before_last_ms = self.snapshots.iter().rev().nth(1).map(age_ms);
        if before_last_ms.is_some_and(|age_ms| age_ms < WINDOW_MS) {
            self.spare.extend(self.snapshots.pop_back());
        }
        while self.snapshots.get(1).is_some_and(|second| age_ms(second) >= LONG_MS) {
            self.spare.extend(self.snapshots.pop_front());
        }
        self.snapshots.push_back(later);
    }

    /// What is alarmed first of these detectors.
    pub(super) fn alarmed(&self, which: impl Fn(&Detector) -> bool) -> Option<Kind> {
        self.detectors.iter().find(|detector| detector.alarmed && which(detector)).map(|detector| detector.kind)
    }

    /// Whose fault it is.
    pub(super) fn judge(&self, affected: Affected) -> Verdict {
        let window = Window { affected, ..Window::of(self.seconds.iter(), "") };
        let later = self.snapshots.back().unwrap_or(&self.shape);
        judge(&window, &self.detectors, &Sources::between(self.snapshots.front().unwrap_or(later), later))
    }
}
