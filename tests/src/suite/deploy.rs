//! What `deploy/` has for Prometheus, Grafana and people: rules judged by promtool, queries by the agent's own lists, runbooks by
//! the alerts that lead to them and by the command line; and all of it at work, see [`fleet`].

mod cost;
mod fleet;
mod query;
mod routing;
mod runbooks;
mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use probe_ebpf::reason::{Malformed, Scope, Severity};
use serde_json::{Value, json};
use tests::{
    namespace::Namespace,
    program,
    replay::Scratch,
    run::{is_full, trial},
};

use self::query::Query;

/// These need programs that only a host has.
pub(super) fn host_trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("deploy::prometheus::rules_hold", rules_hold),
        trial("deploy::prometheus::names_exist", names_exist),
        trial("deploy::prometheus::queries_parse", queries_parse),
        trial("deploy::grafana::dashboard_is_whole", dashboard_is_whole),
        trial("deploy::runbooks::lead_somewhere", runbooks::lead_somewhere),
        trial("deploy::runbooks::commands_exist", runbooks::commands_exist),
        trial("deploy::routing::a_zone_pages_once", routing::a_zone_pages_once),
        trial("deploy::cost::series_are_as_few_as_said", cost::series_are_as_few_as_said),
        trial("deploy::fleet", fleet::is_told_in_time),
    ];
    if is_full() {
        trials.push(trial("deploy::cost::an_agent_takes_as_little_as_said", cost::an_agent_takes_as_little_as_said));
    }
    trials
}

/// How soon a pager is told.
pub(super) fn table() -> String {
    fleet::table()
}

/// A file or folder of `deploy/`.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> Result<String> {
    let path = place(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Files in a folder of `deploy/` whose names end so, sorted; names begin with the folder's.
fn files(folder: &str, end: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(place(folder)).with_context(|| format!("list {folder}"))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.retain(|name| name.ends_with(end));
    names.sort();
    ensure!(!names.is_empty(), "no *{end} in {folder}");
    Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect())
}

/// A copy of `deploy/prometheus` with targets: pairs of a zone and its targets.
fn copy_of_prometheus(scratch: &Scratch, targets: &[(&str, Value)]) -> Result<PathBuf> {
    let copy = PathBuf::from(scratch.place("prometheus")?);
    fs::create_dir_all(copy.join("targets"))?;
    for file in files("prometheus", ".yaml")?.into_iter().chain(files("prometheus", ".yml")?) {
        let name = Path::new(&file).file_name().context("a name")?;
        fs::copy(place(&file), copy.join(name)).with_context(|| format!("copy {file}"))?;
    }
    for (name, groups) in targets {
        fs::write(copy.join("targets").join(format!("{name}.yaml")), groups.to_string())?;
    }
    Ok(copy)
}

/// promtool takes rules and configuration, and the rules do what their tests say, the course of the incident among them.
fn rules_hold() -> Result<()> {
    let (namespace, scratch) = (Namespace::new("promtool")?, Scratch::new()?);
    let group = json!([{"targets": ["192.0.2.1:9976"], "labels": {"zone": "a"}}]);
    let copy = copy_of_prometheus(&scratch, &[("zone-a", group)])?;
    let config = copy.join("prometheus.yml");
    let config = config.to_str().context("UTF-8")?;
    let said = program::run(&namespace, "promtool", &["check", "config", config], "")?;
    ensure!(!said.contains("WARNING"), "promtool says: {said}");
    for tests in files("prometheus/tests", ".yaml")? {
        let path = place(&tests);
        let output = program::output(&namespace, "promtool", &["test", "rules", path.to_str().context("UTF-8")?], "")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{tests}: {said}");
    }
    Ok(())
}

/// All that is asked of Prometheus, by where it stands: rules and alerts with their texts, the dashboard, the runbooks.
fn asked() -> Result<BTreeMap<String, String>> {
    let mut asked = BTreeMap::new();
    for name in ["prometheus/rules.yaml", "prometheus/alerts.yaml"] {
        asked.insert(name.to_owned(), read(name)?);
    }
    for (at, Query { title, expression, .. }) in query::of_dashboard()?.into_iter().enumerate() {
        asked.insert(format!("dashboard, query {at} of {title:?}"), expression);
    }
    for (at, expression) in query::of_variables()?.into_iter().enumerate() {
        asked.insert(format!("dashboard, variable {at}"), expression);
    }
    for (file, at, expression) in runbooks::queries()? {
        asked.insert(format!("{file}, query {at}"), expression);
    }
    Ok(asked)
}

/// Only metrics, labels and values of closed lists that the agent has, and only rules that exist.
fn names_exist() -> Result<()> {
    let rules = read("prometheus/rules.yaml")?;
    let recorded = query::recorded(&rules);
    for (place, text) in asked()? {
        query::check(&text, &recorded).with_context(|| place.clone())?;
    }
    // Scope is no label: the rule lists the reasons, and has exactly those that the agent counts at its hooks.
    let local = Malformed::ALL.iter().filter(|reason| {
        reason.scope() == Scope::Local && reason.severity() == Severity::Error && reason.is_judged_at_hooks()
    });
    let mut expected: Vec<&str> = local.map(|reason| reason.id()).collect();
    expected.sort_unstable();
    let matchers = query::matchers(&rules);
    let listed = matchers.iter().find(|matcher| matcher.label == "reason" && matcher.values.len() > 1);
    let mut listed = listed.context("no rule lists reasons")?.values.clone();
    listed.sort_unstable();
    ensure!(listed == expected, "reasons of local scope are {}", expected.join("|"));
    Ok(())
}

/// What people and the dashboard ask is a question that Prometheus understands.
fn queries_parse() -> Result<()> {
    let namespace = Namespace::new("promtool")?;
    let dashboard = query::of_dashboard()?.into_iter().map(|query| query.filled());
    let asked: Vec<String> =
        dashboard.chain(runbooks::queries()?.into_iter().map(|(_, _, expression)| expression)).collect();
    let rules =
        asked.iter().enumerate().map(|(at, expression)| json!({"record": format!("query:{at}"), "expr": expression}));
    // JSON is YAML.
    let file = json!({"groups": [{"name": "asked", "rules": rules.collect::<Vec<_>>()}]}).to_string();
    let scratch = Scratch::new()?;
    let path = scratch.write("asked.yaml", &file)?;
    let said = program::run(&namespace, "promtool", &["check", "rules", &path], "")?;
    ensure!(said.contains(&format!("{} rules found", asked.len())), "promtool says: {said}");
    Ok(())
}

/// Panels can be told apart, each asks something, and all of it by the data source that is chosen.
fn dashboard_is_whole() -> Result<()> {
    let dashboard = query::dashboard()?;
    let panels = query::panels(&dashboard);
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().context("an id")).collect::<Result<_>>()?;
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == count && count > 0, "ids are not unique");
    let variables = dashboard["templating"]["list"].as_array().context("variables")?;
    let names: Vec<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    ensure!(names == ["datasource", "zone", "node", "interface"], "variables: {names:?}");
    // What is asked once for each node or interface is folded: to open the dashboard must not ask that of a whole fleet.
    for row in panels.iter().filter(|panel| panel["type"] == "row") {
        ensure!(row["collapsed"] == (row["title"] != "Fleet"), "{}: {}", row["title"], row["collapsed"]);
    }
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().context("targets")?;
        ensure!(!targets.is_empty(), "{} asks nothing", panel["title"]);
        for asked in targets.iter().chain([*panel]) {
            ensure!(asked["datasource"]["uid"] == "${datasource}", "{}: {}", panel["title"], asked["datasource"]);
        }
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().context("x")? + place["w"].as_u64().context("w")?;
        ensure!(right <= 24, "{} is outside: {place}", panel["title"]);
    }
    Ok(())
}
