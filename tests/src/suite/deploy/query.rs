//! What is asked of Prometheus, and whether what it asks for exists.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use probe_ebpf::{
    flow::{Quality, TcpEvent},
    reason::Malformed,
};
use probe_user::{
    derive::PathSide,
    detect::{alarm::Kind, verdict::Name},
    export::metrics::METRICS,
};
use serde_json::Value;

/// Labels that a target has.
const OF_TARGETS: [&str; 3] = ["job", "zone", "instance"];

/// One of the dashboard's.
pub(super) struct Query {
    /// Of its panel.
    pub(super) title: String,
    /// As it stands there.
    pub(super) expression: String,
}

impl Query {
    /// With everything chosen.
    pub(super) fn filled(&self) -> String {
        let all = |text: String, variable: &str| text.replace(variable, ".*");
        let text = self.expression.replace("$__rate_interval", "1m");
        ["$zone", "$node", "$interface"].into_iter().fold(text, all)
    }
}

pub(super) fn dashboard() -> Result<Value> {
    serde_json::from_str(&super::read("grafana/lossprobe.json")?).context("read the dashboard")
}

/// All panels, those of rows that are folded among them.
pub(super) fn panels(dashboard: &Value) -> Vec<&Value> {
    fn list(of: &Value) -> &[Value] {
        of["panels"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
    list(dashboard).iter().flat_map(|panel| [panel].into_iter().chain(list(panel))).collect()
}

/// All queries of panels and annotations.
pub(super) fn of_dashboard() -> Result<Vec<Query>> {
    let dashboard = dashboard()?;
    let mut queries = Vec::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().context("a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("an expression")?.to_owned();
            queries.push(Query { title: title.to_owned(), expression });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().context("annotations")? {
        let expression = annotation["expr"].as_str().context("an expression")?.to_owned();
        queries.push(Query { title: "annotations".to_owned(), expression });
    }
    Ok(queries)
}

/// What the variables are made of.
pub(super) fn of_variables() -> Result<Vec<String>> {
    let dashboard = dashboard()?;
    let variables = dashboard["templating"]["list"].as_array().context("variables")?.iter();
    Ok(variables.filter_map(|variable| Some(variable["query"]["query"].as_str()?.to_owned())).collect())
}

/// Names of what is recorded.
pub(super) fn recorded(rules: &str) -> BTreeSet<String> {
    rules.lines().filter_map(|line| Some(line.trim().strip_prefix("- record: ")?.to_owned())).collect()
}

/// A condition on a label.
pub(super) struct Matcher {
    metric: String,
    pub(super) label: String,
    /// What it may be; empty where the text does not say.
    pub(super) values: Vec<String>,
}

/// All conditions on metrics of the agent's.
pub(super) fn matchers(text: &str) -> Vec<Matcher> {
    let plain = text.replace("\\\"", "\"");
    let mut matchers = Vec::new();
    for (metric, behind) in metrics(&plain) {
        let Some((inside, _)) = behind.strip_prefix('{').and_then(|inside| inside.split_once('}')) else { continue };
        for condition in inside.split(',') {
            let label = condition.split(['=', '!']).next().unwrap_or_default().trim();
            let value = condition.split('"').nth(1).unwrap_or_default();
            let is_plain = |value: &&str| !value.is_empty() && !value.contains(['.', '*', '$', '%']);
            let values = value.split('|').filter(is_plain).map(str::to_owned).collect();
            matchers.push(Matcher { metric: metric.to_owned(), label: label.to_owned(), values });
        }
    }
    matchers
}

/// The agent's metrics in a text, each with what follows it.
fn metrics(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("lossprobe_").filter_map(|(at, _)| {
        if text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || [':', '_'].contains(&before)) {
            return None;
        }
        let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - at);
        Some(text[at..].split_at(end))
    })
}

/// Nothing is asked for that is not there.
pub(super) fn check(text: &str, rules: &BTreeSet<String>) -> Result<()> {
    let metric = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    for (name, _) in metrics(text) {
        ensure!(metric(name).is_some(), "the agent has no metric {name}");
    }
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !['_', ':'].contains(&c)) {
        ensure!(!word.contains(":lossprobe_") || rules.contains(word), "no rule records {word}");
    }
    for Matcher { metric: name, label, values } in matchers(text) {
        let labels = metric(&name).map_or(&[][..], |metric| metric.labels);
        ensure!(labels.contains(&&*label) || OF_TARGETS.contains(&&*label), "{name} has no label {label:?}");
        if let Some(known) = closed(&name, &label) {
            let unknown: Vec<_> = values.iter().filter(|value| !known.contains(&value.as_str())).collect();
            ensure!(unknown.is_empty(), "{label} of {name} is never {unknown:?}");
        }
    }
    let known =
        |label: &str| METRICS.iter().any(|metric| metric.labels.contains(&label)) || OF_TARGETS.contains(&label);
    for keyword in ["by (", "on (", "without ("] {
        for (at, _) in text.match_indices(keyword) {
            let inside = text[at + keyword.len()..].split(')').next().unwrap_or_default();
            for label in inside.split(',').map(str::trim).filter(|label| !label.is_empty()) {
                // What is prose has more than a word.
                ensure!(known(label) || label.contains(' '), "nothing has the label {label:?}");
            }
        }
    }
    Ok(())
}

/// The values that a label of a closed list has.
fn closed(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    Some(match (metric, label) {
        (_, "verdict") => Name::ALL.iter().map(|name| name.id()).collect(),
        (_, "side") => PathSide::ALL.iter().map(|side| side.id()).collect(),
        (_, "direction") => vec!["ingress", "egress"],
        (_, "role") => vec!["uplink", "port", "internal", "tunnel"],
        (_, "netns") => vec!["own", "other"],
        (_, "class") => vec!["capacity", "malformed", "config", "policy", "noise", "unknown"],
        ("lossprobe_detector_alarmed", "kind") => Kind::ALL.iter().map(|kind| kind.id()).collect(),
        ("lossprobe_malformed_frames_total", "reason") => Malformed::ALL.iter().map(|reason| reason.id()).collect(),
        ("lossprobe_malformed_frames_total", "severity") => vec!["error", "warning"],
        ("lossprobe_wire_tcp_events_total", "event") => TcpEvent::ALL.iter().map(|event| event.id()).collect(),
        ("lossprobe_flow_quality_total", "cause") => Quality::ALL.iter().map(|cause| cause.id()).collect(),
        _ => return None,
    })
}
