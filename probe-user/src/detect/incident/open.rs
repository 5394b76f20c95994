//! One incident that is open: what each second does to it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{
    Gap, Incident, MOST_CHANGES, MOST_NAMES, Party, Peak, Point, SCHEMA, State, StateChange, Thresholds, VerdictChange,
    What, course::Level, party::Key, progress::Progress, text, time,
};
use crate::detect::{
    alarm::{Detector, Kind},
    objective::{Objective, minutes},
    second::Unit,
    verdict::{Name, Verdict},
};

/// How long nobody is named before that is what there is to say, in milliseconds.
const GIVES_UP_AFTER_MS: u64 = 30_000;
/// How long another verdict must stand to be one, in milliseconds.
const SETTLES_AFTER_MS: u64 = 10_000;
/// What is missing between two seconds for it to be a gap.
const LEAST_GAP: SignedDuration = SignedDuration::from_secs(2);

/// An instant by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The agent's uptime, in milliseconds.
    pub(super) uptime_ms: u64,
    /// Wall-clock time.
    pub(super) wall: Timestamp,
}

impl Now {
    /// When the agent's uptime was so much.
    pub(super) fn at(&self, uptime_ms: u64) -> Timestamp {
        let milliseconds = self.uptime_ms.saturating_sub(uptime_ms);
        let ago = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
        self.wall.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    /// What time it will be by a clock that nobody sets.
    pub(super) fn after(&self, uptime_ms: u64) -> Timestamp {
        let milliseconds = uptime_ms.saturating_sub(self.uptime_ms);
        let more = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
        self.wall.checked_add(more).unwrap_or(Timestamp::MAX)
    }
}

/// An incident that is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) incident: Incident,
    progress: Progress,
    /// Detectors that have alarmed, and those that tell what that has led to.
    watched: BTreeSet<Key>,
    opened_ms: u64,
    /// A verdict that is not the last one, and since when.
    other: Option<(Name, u64)>,
    /// What the last point of the course is the mean of.
    in_last: u32,
    /// What was lost when there was last enough to say.
    level: Level,
}

impl Open {
    /// One that a detector has noticed now, and that began at `onset`.
    pub(super) fn new(now: Now, id: String, (party, onset): (Party, Timestamp), objective: Objective) -> Self {
        let detected = text(now.wall);
        let mut open = Self::again(Incident {
            schema: SCHEMA,
            id,
            party,
            onset: text(onset),
            last_seen: detected.clone(),
            states: vec![StateChange { time: detected.clone(), state: State::Opening }],
            detected,
            course_seconds: 1,
            objective,
            ..Incident::default()
        });
        open.opened_ms = now.uptime_ms;
        open
    }

    /// One that was open when the last agent ended.
    pub(super) fn again(incident: Incident) -> Self {
        Self {
            progress: Progress::with_peak(incident.peak.ratio),
            watched: BTreeSet::new(),
            opened_ms: 0,
            other: None,
            in_last: 1,
            level: Level::default(),
            incident,
        }
    }

    /// Detectors whose units' losses are its own.
    pub(super) const fn watched(&self) -> &BTreeSet<Key> {
        &self.watched
    }

    /// When it began.
    pub(super) fn onset(&self) -> Timestamp {
        time(&self.incident.onset).unwrap_or(Timestamp::MIN)
    }

    /// Nobody has looked until `now` since it was seen last. Closes it if that is so long that what comes may be another one;
    /// says so.
    pub(super) fn miss(&mut self, now: Timestamp, closes_after_ms: u64) -> bool {
        let is_long = u128::from(closes_after_ms) < self.unseen(now).unsigned_abs().as_millis();
        if is_long {
            self.enter(State::Closed, self.seen());
        }
        is_long
    }

    /// Somebody looks from `begin` to `end`.
    pub(super) fn look(&mut self, begin: Timestamp, end: Timestamp) {
        let (seen, unseen) = (self.seen(), self.unseen(begin));
        if unseen > LEAST_GAP {
            self.progress.wait(u64::try_from(unseen.as_millis()).unwrap_or(u64::MAX));
            if self.incident.gaps.len() < MOST_NAMES {
                self.incident.gaps.push(Gap { from: text(seen), to: text(begin) });
            }
        }
        self.incident.last_seen = text(end.max(seen));
    }

    /// What lies between the last second that was looked at and this instant; never negative.
    fn unseen(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.seen()).max(SignedDuration::ZERO)
    }

    fn seen(&self) -> Timestamp {
        time(&self.incident.last_seen).unwrap_or(Timestamp::MIN)
    }

    /// Takes the alarms of a second.
    pub(super) fn watch(&mut self, alarms: &[Detector]) {
        for Detector { unit, kind, .. } in alarms {
            // Of a group the verdict says which.
            if let Unit::Interface(name) = unit {
                self.affects(name);
            }
            self.watched.insert((unit.clone(), *kind));
            if matches!(kind, Kind::MalformedLocal | Kind::MalformedPath) {
                // Whether they do harm is seen in what is lost beside them.
                self.watched.extend([Kind::NetworkIn, Kind::NetworkOut].map(|kind| (unit.clone(), kind)));
            }
        }
    }

    /// What is lost while nothing gets through: as much as when there was last enough to say.
    pub(super) fn hold(&self, level: Level) -> Level {
        Level { ratio: level.ratio.or(self.level.ratio), worst: level.worst.or(self.level.worst), ..level }
    }

    /// Adds what was lost when a second was over, which may be one before its detection.
    pub(super) fn draw(&mut self, at: Timestamp, level: Level) {
        self.level = self.hold(level);
        if let Some(ratio) = level.ratio.filter(|ratio| *ratio > self.incident.peak.ratio) {
            self.incident.peak = Peak { time: text(at.max(self.onset())), ratio };
        }
        let seconds = at.duration_since(self.onset()).as_secs_f64();
        self.incident.draw(Point { seconds, ratio: level.ratio, malformed: level.malformed }, &mut self.in_last);
    }

    /// Whether more is lost than is acceptable.
    pub(super) fn is_beyond(&self, level: Level) -> bool {
        let acceptable = self.incident.objective.acceptable_ratio;
        // What somebody far away sends is no loss of ours.
        self.incident.party != Party::Remote && level.worst.is_some_and(|worst| worst > acceptable)
    }

    /// Counts time in which that was so.
    pub(super) fn count(&mut self, milliseconds: u64) {
        self.incident.objective.minutes_beyond += minutes(milliseconds);
    }

    /// Goes on by a second: what has become of it.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        (alarmed, level): (bool, Level),
        thresholds: &Thresholds,
    ) -> Option<State> {
        let state = self.incident.state;
        let (state, since_ms) = self.progress.add(now.uptime_ms, state, (alarmed, level.worst), thresholds)?;
        self.enter(state, now.at(since_ms));
        Some(state)
    }

    /// Hears a verdict. Returns what that has changed.
    pub(super) fn hear(&mut self, now: Now, verdict: &Verdict, duration_ms: u64) -> Vec<What> {
        let mut changes = Vec::new();
        let name = verdict.verdict;
        let is_mine = Party::named_by(name) == Some(self.incident.party);
        let is_heard = is_mine || matches!(name, Name::Mixed | Name::Unknown);
        if is_heard {
            verdict.unaffected.iter().for_each(|name| self.is_well(name));
            if is_mine || self.incident.affected.is_empty() {
                verdict.affected.iter().for_each(|name| self.affects(name));
            }
            changes = self.settle(now, verdict, is_mine);
        }
        let is_judged = self.incident.judged.is_some() || self.has_waited(now);
        if self.incident.state == State::Opening && is_judged {
            self.enter(State::Active, now.wall);
            changes.push(What::State(State::Active));
        }
        self.lead(duration_ms);
        let is_at_its_worst = self.incident.state <= State::Active;
        let is_new = self.incident.statement.verdict != self.incident.verdict;
        if is_heard && name == self.incident.verdict && (is_at_its_worst || is_new) {
            self.incident.statement.clone_from(verdict);
        }
        changes
    }

    /// A verdict that is another than the last one must stand for a while, but for the first that names somebody.
    fn settle(&mut self, now: Now, verdict: &Verdict, is_mine: bool) -> Vec<What> {
        let (name, said) = (verdict.verdict, self.incident.verdicts.last().map(|change| change.verdict));
        let since = match self.other {
            Some((other, since)) if other == name => since,
            _ => now.uptime_ms,
        };
        self.other = (said != Some(name)).then_some((name, since));
        let is_first = is_mine && self.incident.judged.is_none();
        let has_settled = now.uptime_ms.saturating_sub(since) >= SETTLES_AFTER_MS;
        let is_due = is_first || (has_settled && (said.is_some() || self.has_waited(now)));
        if self.other.take_if(|_| is_due).is_none() {
            return Vec::new();
        }
        self.say(now.wall, verdict);
        if is_first {
            self.incident.judged = Some(text(now.wall));
            return vec![What::Judged, What::Verdict(name)];
        }
        vec![What::Verdict(name)]
    }

    fn has_waited(&self, now: Now) -> bool {
        now.uptime_ms.saturating_sub(self.opened_ms) >= GIVES_UP_AFTER_MS
    }

    fn affects(&mut self, name: &str) {
        self.incident.unaffected.retain(|well| well != name);
        if self.incident.affected.len() < MOST_NAMES && !self.incident.affected.iter().any(|known| known == name) {
            self.incident.affected.push(name.to_owned());
        }
    }

    fn is_well(&mut self, name: &str) {
        let is_known = |list: &[String]| list.iter().any(|known| known == name);
        let Incident { affected, unaffected, .. } = &mut self.incident;
        // Who finds no room among the affected must not stand among the others.
        if affected.len() < MOST_NAMES && unaffected.len() < MOST_NAMES && !is_known(affected) && !is_known(unaffected)
        {
            unaffected.push(name.to_owned());
        }
    }

    /// The verdict that names somebody and has led for the longest time; while none does, the latest.
    fn lead(&mut self, duration_ms: u64) {
        let Incident { verdicts, led_seconds, state, .. } = &mut self.incident;
        let Some(latest) = verdicts.last().map(|change| change.verdict) else { return };
        if *state < State::Acceptable {
            *led_seconds.entry(latest).or_default() += minutes(duration_ms) * 60.0;
        }
        let named = led_seconds.iter().filter(|(name, _)| Party::named_by(**name).is_some());
        let longest = named.max_by(|a, b| a.1.total_cmp(b.1)).map(|(name, _)| *name);
        self.incident.verdict = longest.unwrap_or(latest);
    }

    fn say(&mut self, at: Timestamp, verdict: &Verdict) {
        let verdicts = &mut self.incident.verdicts;
        let time = after(at, verdicts.last().map_or(self.incident.detected.as_str(), |last| &last.time));
        verdicts.push(VerdictChange { time, verdict: verdict.verdict, sentence: verdict.sentence.clone() });
        self.incident.changes_left_out += thin_out(verdicts, |a, b| a.verdict == b.verdict);
    }

    /// Changes its state, at the earliest when it has changed last.
    fn enter(&mut self, state: State, at: Timestamp) {
        let states = &mut self.incident.states;
        let time = after(at, states.last().map_or(self.incident.detected.as_str(), |last| &last.time));
        if state == State::Closed {
            self.incident.closed = Some(time.clone());
        }
        self.incident.state = state;
        states.push(StateChange { time, state });
        self.incident.changes_left_out += thin_out(states, |a, b| a.state == b.state);
    }
}

/// This time, or the one before it where that is later: the clock can be set back by less than is noticed.
fn after(at: Timestamp, before: &str) -> String {
    text(time(before).map_or(at, |before| at.max(before)))
}

/// Makes room in a list of changes: the first two stay, and the latest. Returns how many had to go; no two that are alike
/// stand beside each other afterwards.
fn thin_out<T>(changes: &mut Vec<T>, is_alike: impl Fn(&T, &T) -> bool) -> u64 {
    let mut gone = 0;
    while changes.len() > MOST_CHANGES || (gone > 0 && is_alike(&changes[1], &changes[2])) {
        changes.remove(2);
        gone += 1;
    }
    gone
}
