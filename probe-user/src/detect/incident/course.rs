//! How much is lost: over the last ten seconds, and over the whole of an incident in a bounded number of points.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{COURSE_POINTS, Incident, Point, party::Key};
use crate::detect::{
    alarm::{Kind, Missed, lost_of},
    second::{Counts, Second, Unit},
};

/// What a share is formed over, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// Segments or frames below which a share says nothing; and where nothing gets through, so that there are no more.
const LEAST: u64 = 200;
const LEAST_OF_STALLED: u64 = 10;
/// Seconds that are remembered, so that an incident's course begins at its onset and not at the alarm.
const REMEMBERED: usize = 60;

/// What was lost over [`WINDOW_MS`], on the worst unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// Share of segments lost.
    pub(super) ratio: Option<f64>,
    /// The same, or the share of frames that are malformed, whichever is more.
    pub(super) worst: Option<f64>,
    /// Malformed frames in a second.
    pub(super) malformed: f64,
}

/// The last seconds, and whether each has been counted against the objective.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    seconds: VecDeque<(Second, bool)>,
}

impl Recent {
    /// Takes a second.
    pub(super) fn add(&mut self, second: &Second) {
        self.seconds.push_back((second.clone(), false));
        while self.seconds.len() > REMEMBERED {
            self.seconds.pop_front();
        }
    }

    /// What is remembered, the oldest first: a place for [`Self::level`], its end as the agent's uptime, and how long it was,
    /// in milliseconds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        self.seconds.iter().enumerate().map(|(at, (second, _))| (at, second.uptime_ms, second.duration_ms))
    }

    /// Takes note that this second is counted against the objective. Returns how long it was, 0 if it had been.
    pub(super) fn use_up(&mut self, at: usize) -> u64 {
        match self.seconds.get_mut(at) {
            Some((second, is_used)) if !*is_used => {
                *is_used = true;
                second.duration_ms
            }
            _ => 0,
        }
    }

    /// What `watched` detectors' units had lost when this second was over. `stalled`: nothing gets through any more.
    pub(super) fn level(&self, at: usize, watched: &BTreeSet<Key>, stalled: bool) -> Level {
        let least = if stalled { LEAST_OF_STALLED } else { LEAST };
        let Some(end_ms) = self.seconds.get(at).map(|(last, _)| last.uptime_ms) else { return Level::default() };
        let seconds = self.seconds.range(..=at).rev().map(|(second, _)| second);
        let window: Vec<_> = seconds.take_while(|second| second.uptime_ms + WINDOW_MS > end_ms).collect();
        let window_ms: u64 = window.iter().map(|second| second.duration_ms).sum();
        let units: BTreeSet<&Unit> = watched.iter().map(|(unit, _)| unit).collect();
        let sums: BTreeMap<&Unit, Counts> = units.into_iter().map(|unit| (unit, sum(&window, unit))).collect();
        let of = |(unit, kind): &Key| {
            let (part, whole) = share(*kind, sums.get(unit)?);
            ratio(part, whole).filter(|_| whole >= least)
        };
        let largest = |malformed: bool| {
            let keys = watched.iter().filter(|(_, kind)| malformed || !is_malformed(*kind));
            keys.filter_map(of).max_by(f64::total_cmp)
        };
        // A group's interfaces have what the group has: the same frames are not counted twice.
        let frames = |of_groups: bool| -> u64 {
            let units = sums.iter().filter(|(unit, _)| matches!(unit, Unit::Group(_)) == of_groups);
            units.map(|(_, counts)| counts.malformed_local + counts.malformed_path).sum()
        };
        let malformed = ratio(frames(true).max(frames(false)) * 1_000, window_ms).unwrap_or(0.0);
        Level { ratio: largest(false), worst: largest(true), malformed }
    }
}

const fn is_malformed(kind: Kind) -> bool {
    matches!(kind, Kind::MalformedLocal | Kind::MalformedPath)
}

/// What a unit has seen in these seconds.
fn sum(window: &[&Second], unit: &Unit) -> Counts {
    let mut sum = Counts::default();
    window.iter().filter_map(|second| second.units.get(unit)).for_each(|counts| sum.add(counts));
    sum
}

/// What is lost, of what.
fn share(kind: Kind, counts: &Counts) -> (u64, u64) {
    match kind {
        Kind::MalformedLocal => (counts.malformed_local, counts.frames[0]),
        Kind::MalformedPath => (counts.malformed_path, counts.frames[0]),
        Kind::Link => (counts.link_errors, counts.frames[0] + counts.link_errors),
        compared => lost_of(compared, counts, Missed::default().add(counts)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "what passes in ten seconds is far below 2^53")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Incident {
    /// Adds what was lost at this point. `in_last`: how many are in the last point so far.
    pub(super) fn draw(&mut self, point: Point, in_last: &mut u32) {
        let begin = begin(point.seconds, self.course_seconds);
        match self.course.last_mut() {
            Some(last) if last.seconds >= begin => {
                *last = mean(last, *in_last, &point);
                *in_last = in_last.saturating_add(1);
            }
            _ => {
                self.course.push(Point { seconds: begin, ..point });
                *in_last = 1;
            }
        }
        while self.course.len() > COURSE_POINTS {
            self.widen();
        }
    }

    /// Makes each point stand for twice the time.
    fn widen(&mut self) {
        self.course_seconds = self.course_seconds.max(1).saturating_mul(2);
        let mut wider: Vec<Point> = Vec::with_capacity(COURSE_POINTS / 2 + 1);
        for point in &self.course {
            let begin = begin(point.seconds, self.course_seconds);
            match wider.last_mut() {
                Some(last) if last.seconds >= begin => *last = mean(last, 1, point),
                _ => wider.push(Point { seconds: begin, ..*point }),
            }
        }
        self.course = wider;
    }
}

/// Where the stretch of the course begins that these seconds since the onset lie in.
fn begin(seconds: f64, width: u32) -> f64 {
    let width = f64::from(width.max(1));
    (seconds.max(0.0) / width).floor() * width
}

/// A point that was the mean of so many, and one more.
fn mean(old: &Point, count: u32, new: &Point) -> Point {
    let of = |old: f64, new: f64| (old * f64::from(count) + new) / (f64::from(count) + 1.0);
    let ratio = match (old.ratio, new.ratio) {
        (Some(old), Some(new)) => Some(of(old, new)),
        (old, new) => old.or(new),
    };
    Point { seconds: old.seconds, ratio, malformed: of(old.malformed, new.malformed) }
}
