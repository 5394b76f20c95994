//! The agent's part: snapshots in, what its detectors and its judge say out.

use std::collections::VecDeque;

use probe_user::{
    detect::{
        alarm::{Alarms, Detector},
        second::Second,
        source::Sources,
        verdict::{Damaged, Peers, Verdict, Window, judge},
    },
    snapshot::Snapshot,
};

use super::node::Node;

/// Seconds that a verdict looks back.
const SECONDS: usize = 5;

/// One agent.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    /// The latest is the last one.
    snapshots: VecDeque<Snapshot>,
    seconds: VecDeque<Second>,
    alarms: Alarms,
    detectors: Vec<Detector>,
}

impl Observer {
    /// Of a node of which each snapshot has this shape.
    pub(super) fn new(shape: &Snapshot) -> Self {
        let snapshots = (0..=SECONDS).map(|_| shape.clone()).collect();
        Self { snapshots, seconds: VecDeque::new(), alarms: Alarms::default(), detectors: Vec::new() }
    }

    /// Changes what all snapshots have in common.
    pub(super) fn reshape(&mut self, change: fn(&mut Snapshot)) {
        self.snapshots.iter_mut().for_each(change);
    }

    /// Takes a snapshot. Whether anything is alarmed.
    pub(super) fn look(&mut self, node: &mut Node) -> bool {
        self.snapshots.rotate_left(1);
        let [.., earlier, later] = self.snapshots.make_contiguous() else { return false };
        node.show(later);
        let second = Second::between(earlier, later);
        self.alarms.add(&second).clone_into(&mut self.detectors);
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
        self.is_alarmed(|_| true)
    }

    /// Whether one of these detectors is alarmed.
    pub(super) fn is_alarmed(&self, which: impl Fn(&Detector) -> bool) -> bool {
        self.detectors.iter().any(|detector| detector.alarmed && which(detector))
    }

    /// Whose fault it is.
    pub(super) fn judge(&self, peers: Option<Peers>, damaged: Option<Damaged>) -> Verdict {
        let window = Window { peers, damaged, ..Window::of(self.seconds.iter(), "") };
        let (Some(first), Some(last)) = (self.snapshots.front(), self.snapshots.back()) else {
            return Verdict::default();
        };
        judge(&window, &self.detectors, &Sources::between(first, last))
    }
}
