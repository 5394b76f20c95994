//! One change of an incident, as it is told.

use jiff::Timestamp;
use nix::sys::utsname::uname;
use serde::Serialize;
use serde_json::{Value, json};

use crate::detect::incident::{Incident, Party, State, What};

/// Version of the JSON form. Keys are added, never renamed.
const SCHEMA: u32 = 1;

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
        json!({
            "schema": SCHEMA,
            "event": change(self.what),
            "time": self.time.to_string(),
            "host": host(),
            "severity": self.severity.id(),
            "version": env!("CARGO_PKG_VERSION"),
            "incident": self.incident,
        })
    }
}

/// This machine's name, as `uname -n` says it.
pub(super) fn host() -> String {
    uname().map_or_else(|_| String::new(), |uname| uname.nodename().to_string_lossy().into_owned())
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
mod tests {
    use super::*;
    use crate::detect::incident::Point;

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
        assert!(!host().is_empty());
    }
}
