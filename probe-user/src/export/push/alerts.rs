//! Incidents as alerts of Alertmanager's API v2 (`POST /api/v2/alerts`). There an alert is its labels: the same ones update
//! it, other ones are another alert, and what is not repeated ends by itself. So only the present counts, and whoever was
//! away for an hour is told once.
//!
//! Labels are few, and never interfaces or addresses; severity and whose it is are among them, because that is what an alert
//! is routed by. When they change, the alert under the old ones ends with the same request.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Patience,
    told::{Severity, Told, said, word},
};
use crate::detect::{
    incident::State,
    percent,
    verdict::{Name, Verdict},
};

/// Where alerts are posted, below the address of an Alertmanager.
pub(super) const PATH: &str = "/api/v2/alerts";
/// Alerts that hold or whose end has not been told.
const MOST_ALERTS: usize = 64;
/// An alert holds for so many times the pause between repetitions, so that one that is lost ends nothing.
const HOLDS: i32 = 4;

/// All alerts that the receiver should know of.
#[derive(Debug)]
pub(super) struct Alerts {
    host: String,
    repeat: SignedDuration,
    unjudged: SignedDuration,
    alerts: Vec<Alert>,
    /// When the latest body was made.
    made: Timestamp,
}

type Texts = BTreeMap<&'static str, String>;

#[derive(Debug)]
struct Alert {
    incident: String,
    labels: Texts,
    annotations: Texts,
    onset: String,
    /// Not before.
    from: Timestamp,
    ended: Option<Timestamp>,
    /// Changes that are not delivered.
    changes: u64,
}

impl Alert {
    const fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}

impl Alerts {
    pub(super) fn new(host: String, patience: &Patience) -> Self {
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let (repeat, unjudged) = (signed(patience.repeat), signed(patience.unjudged));
        Self { host, repeat, unjudged, alerts: Vec::new(), made: Timestamp::MIN }
    }

    /// Takes a change in. Returns how many changes are lost for want of room.
    pub(super) fn take(&mut self, told: &Told) -> u64 {
        let id = &told.incident.id;
        // What wakes nobody is no alert.
        let labels = (told.severity > Severity::Info).then(|| self.labels(told));
        for alert in self.alerts.iter_mut().filter(|alert| alert.incident == *id && !alert.is_over()) {
            if labels.as_ref() != Some(&alert.labels) {
                alert.ended = Some(told.time);
                alert.changes += 1;
            }
        }
        // Nobody has heard of these.
        self.alerts.retain(|alert| alert.ended.is_none_or(|ended| alert.from <= ended));
        let Some(labels) = labels else { return 0 };
        // A clock that is set back holds up no alert that has a verdict.
        let from = if is_judged(told) { Timestamp::MIN } else { later(told.time, self.unjudged) };
        let known = self.alerts.iter_mut().find(|alert| alert.incident == *id && alert.labels == labels);
        if let Some(alert) = known {
            alert.annotations = annotations(told);
            alert.from = alert.from.min(from);
            alert.ended = None;
            alert.changes += 1;
            return 0;
        }
        let (annotations, onset) = (annotations(told), told.incident.onset.clone());
        let incident = id.clone();
        self.alerts.push(Alert { incident, labels, annotations, onset, from, ended: None, changes: 1 });
        if self.alerts.len() <= MOST_ALERTS {
            return 0;
        }
        let oldest = self.alerts.iter().position(Alert::is_over).unwrap_or(0);
        self.alerts.remove(oldest).changes
    }

    fn labels(&self, told: &Told) -> Texts {
        Texts::from([
            ("alertname", "LossprobeIncident".to_owned()),
            ("instance", self.host.clone()),
            ("incident", told.incident.id.clone()),
            ("severity", told.severity.id().to_owned()),
            ("party", word(&told.incident.party)),
        ])
    }

    /// How long until something is to be sent even if nothing changes; `None`: for ever.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<SignedDuration> {
        let due = |alert: &Alert| match alert.from.duration_since(now) {
            until if until.is_positive() => until.min(self.repeat),
            _ => self.repeat,
        };
        self.alerts.iter().map(due).min()
    }

    /// All that holds or has ended, `None` if nothing.
    pub(super) fn body(&mut self, now: Timestamp) -> Option<Value> {
        self.made = now;
        let holds_until = later(now, self.repeat.saturating_mul(HOLDS)).to_string();
        let told = self.alerts.iter().filter(|alert| alert.from <= now).map(|alert| {
            json!({
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": alert.onset,
                "endsAt": alert.ended.map_or_else(|| holds_until.clone(), |ended| ended.to_string()),
            })
        });
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then_some(Value::Array(told))
    }

    /// The latest body was taken or refused: returns how many changes were in it.
    pub(super) fn settled(&mut self) -> u64 {
        let made = self.made;
        let told = self.alerts.iter_mut().filter(|alert| alert.from <= made);
        let changes = told.map(|alert| std::mem::take(&mut alert.changes)).sum();
        self.alerts.retain(|alert| !alert.is_over());
        changes
    }

    /// Changes that are not delivered.
    pub(super) fn changes(&self) -> u64 {
        self.alerts.iter().map(|alert| alert.changes).sum()
    }
}

/// Until there is a verdict it may still be one that wakes nobody.
fn is_judged(told: &Told) -> bool {
    told.incident.state != State::Opening || told.incident.verdict != Name::None
}

fn later(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// What a human reads; nothing that is empty.
fn annotations(told: &Told) -> Texts {
    let incident = &told.incident;
    let (verdict, sentence) = said(incident);
    // What a verdict rests on goes with it.
    let statement = Some(&incident.statement).filter(|statement| statement.verdict == verdict);
    let lines =
        |lines: fn(&Verdict) -> &[String]| statement.map_or_else(String::new, |statement| lines(statement).join("\n"));
    let peak = Some(incident.peak.ratio).filter(|ratio| *ratio > 0.0).map_or_else(String::new, percent);
    let all = Texts::from([
        ("summary", sentence.to_owned()),
        ("description", lines(|statement| &statement.evidence)),
        ("next_steps", lines(|statement| &statement.next_steps)),
        ("verdict", verdict.id().to_owned()),
        ("state", word(&incident.state)),
        ("affected", incident.affected.join(", ")),
        ("unaffected", incident.unaffected.join(", ")),
        ("peak_loss", peak),
    ]);
    all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::detect::incident::{Incident, Party, Peak, What};

    const START: i64 = 1_700_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    fn told(id: &str, state: State, verdict: Name, seconds: i64) -> Told {
        let statement = Verdict {
            verdict,
            sentence: if verdict == Name::None { "" } else { "It is the network." }.to_owned(),
            evidence: vec!["one".to_owned(), "two".to_owned()],
            ..Verdict::default()
        };
        let incident = Incident {
            id: id.to_owned(),
            state,
            party: Party::named_by(verdict).unwrap_or_default(),
            verdict,
            statement,
            onset: "2023-11-14T22:13:11Z".to_owned(),
            affected: vec!["eth0".to_owned()],
            peak: Peak { ratio: 0.0312, ..Peak::default() },
            ..Incident::default()
        };
        let severity = Severity::of(&incident);
        Told { time: at(seconds), ..Told::now(&incident, What::State(state), severity) }
    }

    #[test]
    fn what_is_taken_back_is_told() {
        let incident = super::super::told::tests::taken_back();
        let annotations = annotations(&Told::now(&incident, What::Verdict(Name::Unknown), Severity::Critical));
        let told = ["verdict", "summary", "description"].map(|key| annotations.get(key).map(String::as_str));
        assert_eq!(told, [Some("unknown"), Some("It cannot be told."), None]);
    }

    fn alerts() -> Alerts {
        Alerts::new("node7".to_owned(), &Patience::default())
    }

    /// Each as `severity party seconds-to-its-end`.
    fn body(alerts: &mut Alerts, seconds: i64) -> Vec<String> {
        let body = alerts.body(at(seconds)).unwrap_or(json!([]));
        let one = |alert: &Value| {
            let ends: Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
            let text = |label: &str| alert["labels"][label].as_str().unwrap().to_owned();
            format!("{} {} {}", text("severity"), text("party"), ends.duration_since(at(seconds)).as_secs())
        };
        body.as_array().unwrap().iter().map(one).collect()
    }

    #[test]
    fn an_alert_in_full() {
        let mut alerts = alerts();
        assert_eq!(alerts.take(&told("i", State::Active, Name::NetworkIn, 0)), 0);
        let expected = json!([{
            "labels": {"alertname": "LossprobeIncident", "instance": "node7", "incident": "i", "severity": "critical",
                "party": "network"},
            "annotations": {"summary": "It is the network.", "description": "one\ntwo", "state": "active", "verdict": "network_in",
                "affected": "eth0", "peak_loss": "3.1 %"},
            "startsAt": "2023-11-14T22:13:11Z",
            "endsAt": at(240).to_string(),
        }]);
        assert_eq!(alerts.body(at(0)), Some(expected));
    }

    #[test]
    fn the_course_of_an_incident() {
        use State::{Acceptable, Active, Closed, Easing, Opening};
        let mut alerts = alerts();
        assert_eq!((alerts.due_in(at(0)), alerts.body(at(0))), (None, None));
        // Not judged: told only when no verdict has come.
        alerts.take(&told("i", Opening, Name::None, 0));
        assert_eq!((body(&mut alerts, 29), alerts.settled(), alerts.changes()), (vec![], 0, 1));
        assert_eq!(alerts.due_in(at(29)), Some(SignedDuration::from_secs(1)));
        assert_eq!((body(&mut alerts, 30), alerts.settled()), (vec!["warning network 240".to_owned()], 1));
        assert_eq!(alerts.due_in(at(31)), Some(SignedDuration::from_secs(60)));
        // Judged: the old one ends with the same request. What does not change the labels changes the alert.
        alerts.take(&told("i", Active, Name::NetworkIn, 40));
        let both = ["warning network 0".to_owned(), "critical network 240".to_owned()];
        assert_eq!(body(&mut alerts, 40), both, "and again, until it is taken");
        assert_eq!((body(&mut alerts, 40), alerts.settled()), (both.to_vec(), 2));
        alerts.take(&told("i", Easing, Name::NetworkIn, 50));
        assert_eq!((body(&mut alerts, 50), alerts.settled()), (vec!["critical network 240".to_owned()], 1));
        assert_eq!((body(&mut alerts, 110), alerts.settled()), (vec!["critical network 240".to_owned()], 0));
        // Back and forth while the receiver is away.
        alerts.take(&told("i", Acceptable, Name::NetworkIn, 120));
        assert_eq!(body(&mut alerts, 120), ["critical network 0", "warning network 240"]);
        alerts.take(&told("i", Easing, Name::NetworkIn, 130));
        assert_eq!(body(&mut alerts, 130), ["critical network 240", "warning network 0"]);
        alerts.take(&told("i", Closed, Name::NetworkIn, 140));
        assert_eq!(body(&mut alerts, 141), ["critical network -1", "warning network -11"]);
        assert_eq!((alerts.settled(), alerts.body(at(150)), alerts.changes()), (5, None, 0));
    }

    #[test]
    fn what_is_far_away_wakes_nobody() {
        let mut alerts = alerts();
        alerts.take(&told("i", State::Opening, Name::None, 0));
        alerts.take(&told("i", State::Active, Name::RemoteMalformed, 3));
        alerts.take(&told("i", State::Closed, Name::RemoteMalformed, 99));
        assert_eq!((alerts.body(at(100)), alerts.changes(), alerts.due_in(at(100))), (None, 0, None));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut alerts = alerts();
        let ids: Vec<_> = (0..=MOST_ALERTS).map(|number| number.to_string()).collect();
        let lost: Vec<_> = ids.iter().map(|id| alerts.take(&told(id, State::Active, Name::Link, 0))).collect();
        assert_eq!((lost.iter().sum::<u64>(), lost.last()), (1, Some(&1)));
        assert_eq!((body(&mut alerts, 0).len(), alerts.settled()), (MOST_ALERTS, MOST_ALERTS as u64));
    }

    #[test]
    fn a_long_patience_overflows_nothing() {
        let patience = Patience { repeat: Duration::MAX, unjudged: Duration::MAX, ..Patience::default() };
        let mut alerts = Alerts::new(String::new(), &patience);
        alerts.take(&told("i", State::Opening, Name::None, 0));
        assert_eq!(alerts.body(at(0)), None);
        alerts.take(&told("j", State::Active, Name::Link, 0));
        assert!(alerts.body(at(0)).is_some());
    }
}
