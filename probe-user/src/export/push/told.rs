//! One change of an incident, as it is told.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    detect::{
        incident::{Incident, Party, State, What},
        verdict::Name,
    },
    record::host,
};

/// Version of the JSON form. Keys are added, never renamed.
const SCHEMA: u32 = 1;
/// What is said before anything is.
const UNJUDGED: &str = "More is lost than usual; there is no verdict yet.";

/// Whether somebody is to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Nobody: it is over, or somebody far away sends malformed frames.
    Info,
    /// Somebody should look: it is not judged yet, or below the objective.
    Warning,
    /// Too much is lost, now.
    Critical,
}

impl Severity {
    pub(super) fn of(incident: &Incident) -> Self {
        match incident.state {
            State::Closed => Self::Info,
            _ if incident.party == Party::Remote => Self::Info,
            State::Opening | State::Acceptable => Self::Warning,
            State::Active | State::Easing => Self::Critical,
        }
    }

    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A change, with the incident as it was then.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) what: What,
    pub(super) severity: Severity,
    pub(super) time: Timestamp,
    /// Without its course, of which the agent's API and the bundle have all.
    pub(super) incident: Incident,
    /// Roughly what it takes.
    pub(super) bytes: usize,
}

impl Told {
    pub(super) fn now(incident: &Incident, what: What, severity: Severity) -> Self {
        let incident = Incident { course: Vec::new(), ..incident.clone() };
        let bytes = serde_json::to_vec(&incident).map_or(0, |text| text.len());
        Self { what, severity, time: Timestamp::now(), incident, bytes }
    }

    /// As the receiver of JSON gets it.
    pub(super) fn event(&self) -> Value {
        let (verdict, sentence) = said(&self.incident);
        json!({
            "schema": SCHEMA,
            "event": change(self.what),
            "time": self.time.to_string(),
            "host": host::name(),
            "severity": self.severity.id(),
            "verdict": verdict.id(),
            "sentence": sentence,
            "version": env!("CARGO_PKG_VERSION"),
            "incident": self.incident,
        })
    }
}

/// What is said of an incident now. It keeps the verdict that has led for the longest time; whoever was told of that one must
/// hear when it is taken back.
pub(super) fn said(incident: &Incident) -> (Name, &str) {
    let statement = &incident.statement;
    let other = incident.verdicts.last().filter(|latest| latest.verdict != statement.verdict);
    match other.map_or((statement.verdict, &*statement.sentence), |latest| (latest.verdict, &*latest.sentence)) {
        (verdict, "") => (verdict, UNJUDGED),
        said => said,
    }
}

/// What has changed, in a word; to what is said by the incident.
pub(super) const fn change(what: What) -> &'static str {
    match what {
        What::Opened => "opened",
        What::Judged => "judged",
        What::State(_) => "state",
        What::Verdict(_) => "verdict",
        What::Closed => "closed",
    }
}

/// A name as it is in JSON.
pub(super) fn word(name: &impl Serialize) -> String {
    match serde_json::to_value(name) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::detect::{
        incident::{Point, VerdictChange},
        verdict::Verdict,
    };

    /// One of which the network was accused, and is not any more.
    pub(in crate::export::push) fn taken_back() -> Incident {
        let change = |verdict, sentence: &str| VerdictChange {
            verdict,
            sentence: sentence.to_owned(),
            ..VerdictChange::default()
        };
        let verdicts = vec![change(Name::NetworkIn, "It is the network."), change(Name::Unknown, "It cannot be told.")];
        let (verdict, sentence) = (Name::NetworkIn, "It is the network.".to_owned());
        let statement = Verdict { verdict, sentence, evidence: vec!["one".to_owned()], ..Verdict::default() };
        Incident { id: "i".to_owned(), state: State::Active, verdict, statement, verdicts, ..Incident::default() }
    }

    #[test]
    fn what_is_said_now_is_told() {
        let mut incident = taken_back();
        let event = |incident: &Incident| Told::now(incident, What::Closed, Severity::Warning).event();
        let told = event(&incident);
        assert_eq!((&told["verdict"], &told["sentence"]), (&json!("unknown"), &json!("It cannot be told.")));
        assert_eq!(told["incident"]["verdict"], "network_in", "that it was judged so stays");
        incident.statement.sentence = "It is the network, and more of it.".to_owned();
        incident.verdicts.pop();
        assert_eq!(said(&incident), (Name::NetworkIn, "It is the network, and more of it."), "the latest figures");
        assert_eq!(said(&Incident::default()), (Name::None, UNJUDGED));
    }

    #[test]
    fn who_is_woken() {
        use Party::{Host, Network, Remote};
        use State::{Acceptable, Active, Closed, Easing, Opening};
        for (party, state, expected) in [
            (Network, Opening, Severity::Warning),
            (Network, Active, Severity::Critical),
            (Host, Easing, Severity::Critical),
            (Network, Acceptable, Severity::Warning),
            (Network, Closed, Severity::Info),
            (Remote, Opening, Severity::Info),
            (Remote, Active, Severity::Info),
        ] {
            let incident = Incident { party, state, ..Incident::default() };
            assert_eq!(Severity::of(&incident), expected, "{party:?} {state:?}");
        }
    }

    #[test]
    fn an_event_is_the_incident_without_its_course() {
        let incident = Incident { id: "i".to_owned(), course: vec![Point::default(); 9], ..Incident::default() };
        let event = Told::now(&incident, What::Judged, Severity::Warning).event();
        assert_eq!(
            (&event["event"], &event["severity"], &event["schema"]),
            (&json!("judged"), &json!("warning"), &json!(1))
        );
        assert_eq!((&event["incident"]["id"], &event["incident"]["course"]), (&json!("i"), &json!([])));
        assert_eq!(event["incident"]["state"], "opening");
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
    }
}
