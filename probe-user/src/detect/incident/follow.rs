//! All incidents of this host.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{
    Incident, Party, State, Thresholds,
    course::{Level, Recent},
    open::{Now, Open},
    party::{Taken, Takers},
    time,
};
use crate::detect::{
    alarm::{Detector, Learned},
    objective::{Month, Objective},
    second::Second,
    verdict::{Name, Verdict},
};

/// Incidents that are over and still shown.
pub const MOST_FINISHED: usize = 32;
/// Names that are not given again: more than a state folder keeps.
const MOST_IDS: usize = 1_024;
/// What the clock must be off by to have been set.
const CLOCK_WAS_SET: SignedDuration = SignedDuration::from_secs(2);

/// What has become of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Opened,
    /// A verdict names somebody, for the first time.
    Judged,
    /// Its state is another.
    State(State),
    /// Its verdict is another.
    Verdict(Name),
    /// It is over.
    Closed,
}

/// A change of one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub id: String,
    /// What has become of it.
    pub what: What,
}

/// What an earlier agent has left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The latest incidents, whole.
    pub incidents: Vec<Incident>,
    /// The names of all.
    pub ids: BTreeSet<String>,
    /// What of the objective is used.
    pub month: Month,
    /// What is usual, if it was learned a short time ago.
    pub learned: Option<Learned>,
}

/// All incidents: at most one of each [`Party`] is open, and the latest [`MOST_FINISHED`] others are shown.
#[derive(Clone, Debug)]
pub struct Incidents {
    thresholds: Thresholds,
    objective_percent: f64,
    last: Option<Now>,
    /// Since when somebody looks without a gap, as the agent's uptime (ms).
    looked_at_since_ms: u64,
    recent: Recent,
    takers: Takers,
    open: Vec<Open>,
    finished: VecDeque<Incident>,
    ids: BTreeSet<String>,
    month: Month,
}

impl Incidents {
    /// Goes on with what was kept.
    #[must_use]
    pub fn new(thresholds: Thresholds, objective_percent: f64, kept: Kept) -> Self {
        let Kept { mut incidents, mut ids, month, learned: _ } = kept;
        incidents.sort_by(|a, b| a.id.cmp(&b.id));
        ids.extend(incidents.iter().map(|incident| incident.id.clone()));
        let (open, finished): (Vec<_>, Vec<_>) = incidents.into_iter().partition(Incident::is_open);
        let mut all = Self {
            thresholds,
            objective_percent,
            last: None,
            looked_at_since_ms: 0,
            recent: Recent::default(),
            takers: Takers::default(),
            open: Vec::new(),
            finished: finished.into(),
            ids,
            month,
        };
        for incident in open.into_iter().rev() {
            let mut open = Open::again(incident);
            // Who was killed while it wrote has left a second one of its party: the later one goes on.
            if all.open.iter().any(|later| later.incident.party == open.incident.party) {
                open.miss(Timestamp::MAX, 0);
                all.finished.push_back(open.incident);
            } else {
                all.open.push(open);
            }
        }
        all.forget();
        all
    }

    /// Takes what a second has brought, and what was made of it; `at` is the wall-clock time of its end (RFC 3339). A second
    /// without any unit is one in which nobody looked.
    pub fn add(&mut self, at: &str, detectors: &[Detector], verdict: &Verdict, second: &Second) -> Vec<Change> {
        let now = self.tick(at, second.uptime_ms);
        let is_looked_at = !second.units.is_empty();
        let begin = if is_looked_at { now.at(second.uptime_ms.saturating_sub(second.duration_ms)) } else { now.wall };
        let mut changes = self.miss(begin);
        if !is_looked_at {
            self.looked_at_since_ms = second.uptime_ms;
        } else {
            self.recent.add(second);
            self.open.iter_mut().for_each(|open| open.look(begin, now.wall));
            changes.extend(self.take(now, detectors, verdict, second.duration_ms));
        }
        self.finish();
        changes
    }

    /// The incident of this name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.iter().find(|incident| incident.id == id)
    }

    /// All that are known, those that are open first, then the latest.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().map(|open| &open.incident).chain(self.finished.iter().rev())
    }

    /// Those that are open.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().map(|open| &open.incident)
    }

    /// What of the objective is used.
    #[must_use]
    pub const fn month(&self) -> &Month {
        &self.month
    }

    /// Takes note where an incident's bundle is.
    pub fn bundled(&mut self, id: &str, folder: &str) {
        let open = self.open.iter_mut().map(|open| &mut open.incident);
        for incident in open.chain(&mut self.finished).filter(|incident| incident.id == id) {
            folder.clone_into(&mut incident.bundle);
        }
    }

    /// What time it is. Where the clock was set since the last second, the times of what is open are moved along: the
    /// distances between them are right, and do not change.
    fn tick(&mut self, at: &str, uptime_ms: u64) -> Now {
        let expected = self.last.map(|last| last.after(uptime_ms));
        let wall = time(at).or(expected).unwrap_or(Timestamp::UNIX_EPOCH);
        for Open { incident, .. } in &mut self.open {
            // Who saw it last is gone: all that is known is that this was not later than now.
            let expected = expected.or_else(|| time(&incident.last_seen).filter(|seen| *seen > wall));
            let by = expected.map_or(SignedDuration::ZERO, |expected| wall.duration_since(expected));
            if by.abs() >= CLOCK_WAS_SET {
                incident.shift(by);
            }
        }
        let now = Now { uptime_ms, wall };
        self.last = Some(now);
        now
    }

    /// Nobody has looked until now.
    fn miss(&mut self, now: Timestamp) -> Vec<Change> {
        let closes_after_ms = self.thresholds.closes_after_ms;
        let missed = self.open.iter_mut().filter_map(|open| open.miss(now, closes_after_ms).then_some(&open.incident));
        let changes = missed.map(|incident| Change { id: incident.id.clone(), what: What::Closed }).collect();
        self.finish();
        changes
    }

    /// Gives the alarms to whose they are.
    fn take(&mut self, now: Now, detectors: &[Detector], verdict: &Verdict, duration_ms: u64) -> Vec<Change> {
        self.hand_over(detectors, verdict.verdict);
        let parties = self.open.iter().map(|open| open.incident.party).collect();
        let unjudged = self.open.iter().any(|open| open.incident.state == State::Opening);
        let taken = self.takers.take((duration_ms, detectors), verdict.verdict, &parties, unjudged);
        let new = taken.new.iter().map(|(party, alarms)| self.begin(now, (*party, alarms)));
        let mut changes: Vec<_> = new.collect();
        changes.extend(self.go_on(now, &taken, verdict, duration_ms));
        changes
    }

    /// An incident of which nothing is known but an alarm is whose the verdict says it is, unless that one's own alarms make
    /// one of their own.
    fn hand_over(&mut self, detectors: &[Detector], verdict: Name) {
        let Some(named) = Party::named_by(verdict) else { return };
        if self.open.iter().any(|open| open.incident.party == named) {
            return;
        }
        let has_alarms = detectors.iter().any(|detector| detector.alarmed && Party::of_kind(detector.kind) == named);
        let unjudged = self.open.iter_mut().map(|open| &mut open.incident).find(|incident| match incident.state {
            State::Opening => true,
            _ => incident.judged.is_none() && !has_alarms,
        });
        if let Some(incident) = unjudged {
            incident.party = named;
        }
    }

    fn begin(&mut self, now: Now, (party, alarms): (Party, &[Detector])) -> Change {
        let id = self.name(now.wall);
        let objective = Objective::new(self.objective_percent, self.thresholds.acceptable_ratio);
        let onset_ms = alarms.iter().filter_map(|alarm| alarm.onset_ms).min().unwrap_or(now.uptime_ms);
        // What a detector remembers from before a pause may be another one.
        let onset_ms = onset_ms.clamp(self.looked_at_since_ms.min(now.uptime_ms), now.uptime_ms);
        let mut open = Open::new(now, id.clone(), (party, now.at(onset_ms)), objective);
        open.watch(alarms);
        // What came before the alarm is part of it; this second comes with all others.
        let onset = open.onset();
        let earlier: Vec<_> = self.recent.iter().filter(|(_, end_ms, _)| *end_ms < now.uptime_ms).collect();
        for (at, end_ms, duration_ms) in earlier {
            let end = now.at(end_ms);
            if end > onset {
                self.weigh(&mut open, (at, end, duration_ms), false);
            }
        }
        self.open.push(open);
        Change { id, what: What::Opened }
    }

    fn go_on(&mut self, now: Now, taken: &Taken, verdict: &Verdict, duration_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some((latest, ..)) = self.recent.iter().last() else { return changes };
        for mut open in std::mem::take(&mut self.open) {
            let party = open.incident.party;
            let alarms = taken.by.get(&party).or_else(|| taken.new.get(&party)).map_or(&[][..], Vec::as_slice);
            open.watch(alarms);
            let stalled = alarms.iter().any(|alarm| alarm.stalled);
            let level = self.weigh(&mut open, (latest, now.wall, duration_ms), stalled);
            let mut whats = open.hear(now, verdict, duration_ms);
            let state = open.go_on(now, (!alarms.is_empty(), level), &self.thresholds);
            whats.extend(state.map(|state| if state == State::Closed { What::Closed } else { What::State(state) }));
            changes.extend(whats.into_iter().map(|what| Change { id: open.incident.id.clone(), what }));
            self.open.push(open);
        }
        // All have used what they have in common.
        let used = self.month.minutes(now.wall);
        self.open.iter_mut().for_each(|open| open.incident.objective.minutes_used = used);
        changes
    }

    /// Adds what was lost in a second (its place, end and length) to an incident, and to what of the objective is used.
    fn weigh(&mut self, open: &mut Open, second: (usize, Timestamp, u64), stalled: bool) -> Level {
        let (at, end, duration_ms) = second;
        let level = self.recent.level(at, open.watched(), stalled);
        let level = if stalled { open.hold(level) } else { level };
        open.draw(end, level);
        if open.is_beyond(level) {
            open.count(duration_ms);
            self.month.add(end, self.recent.use_up(at));
        }
        level
    }

    /// By the second of its detection, and a number where that is taken.
    fn name(&mut self, at: Timestamp) -> String {
        let plain = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let numbered = (2..=MOST_IDS).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|id| !self.ids.contains(id)).unwrap_or(plain);
        self.ids.insert(free.clone());
        free
    }

    fn finish(&mut self) {
        let (open, over) = std::mem::take(&mut self.open).into_iter().partition(|open| open.incident.is_open());
        self.open = open;
        self.finished.extend(over.into_iter().map(|over: Open| over.incident));
        self.forget();
    }

    fn forget(&mut self) {
        while self.finished.len() > MOST_FINISHED {
            self.finished.pop_front();
        }
        while self.ids.len() > MOST_IDS {
            self.ids.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_open_one_of_a_party_is_over() {
        let incident = |id: &str, party| {
            let [onset, detected] = [0, 1].map(|_| "2024-01-18T10:40:00.000Z".to_owned());
            let last_seen = "2024-01-18T10:50:00.000Z".to_owned();
            Incident { id: id.to_owned(), party, onset, detected, last_seen, ..Incident::default() }
        };
        let known = [("1", Party::Network), ("2", Party::Network), ("3", Party::Host)].map(|(id, of)| incident(id, of));
        let kept = Kept { incidents: known.to_vec(), ..Kept::default() };
        let incidents = Incidents::new(Thresholds::default(), 99.9, kept);
        let open: Vec<_> = incidents.open().map(|incident| incident.id.as_str()).collect();
        assert_eq!(open, ["3", "2"]);
        let over = incidents.get("1").map(|incident| (incident.state, incident.closed.as_deref()));
        assert_eq!(over, Some((State::Closed, Some("2024-01-18T10:50:00.000Z"))));
    }
}
