//! Prometheus and Alertmanager at work, with the files of `deploy/prometheus` as they are: three nodes in two zones, a network that
//! begins to lose and to damage packets in one of them, and a pager. With `--full` every query of dashboard and runbooks is asked, too,
//! and the network recovers.
//!
//! ```text
//! region ── node1 (zone a) ─┐
//! region ── node2 (zone a) ─┤ management: Prometheus ── Alertmanager ── pager
//! region ── node3 (zone b) ─┘
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tests::{
    agent::Agent,
    http,
    link::{End, veth},
    namespace::Namespace,
    program,
    region::{FaultyDevice, Region, Steady},
    replay::{Scratch, UPLINKS},
    run::is_full,
    wait::eventually,
    webhook::{Request, Webhook},
};

use super::{
    copy_of_prometheus, query, runbooks,
    server::{PAGER, Server},
};

/// Of each node: its zone, and whether its network is the one that fails.
const NODES: [(&str, bool); 3] = [("a", true), ("a", true), ("b", false)];
/// Until somebody is told.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// That day: the first alert, and the page.
const THAT_DAY: [Duration; 2] = [Duration::from_mins(15), Duration::from_mins(30)];
/// Until all is scraped and every rule has something to say.
const BEGINS: Duration = Duration::from_secs(150);
/// Until it is said that it is over: the agent's patience, a scrape, an evaluation, `group_interval`.
const OVER_WITHIN: Duration = Duration::from_secs(240);
const ALERT: &str = "LossprobeIncidentNetwork";

/// Panels of which a query shows nothing here, and why.
const EMPTY: &[(&str, &str)] = &[
    ("Errors that this node sends", "no node sends malformed frames"),
    ("Warnings by reason", "the faulty device makes errors only"),
    ("Transport checksums that were wrong", "a veth leaves them to whoever ends the connection"),
    ("No room, as a share of an interface's frames", "there is room"),
    ("Errors of devices", "a veth has no cable and counts none"),
    ("Queueing disciplines", "a veth has none"),
    ("Protocol errors", "a node that forwards has no sockets of its own"),
    ("Frames that XDP programs lost", "nobody has XDP programs"),
    ("Retransmits of this node's own sockets", "a node that forwards has no sockets of its own"),
    ("Hook coverage of uplinks", "a veth does not count wire frames"),
    ("Ports taken together", "there is no bridge"),
    ("Counts that were lost", "none were"),
    ("Sources that could not be read", "all can be read"),
    ("Features that are missing", "where the kernel gives all"),
    ("Evidence and incidents", "there is no state folder, and no receiver of pushes"),
];

/// Seconds to notification, by node.
static TIMES: Mutex<Vec<(String, f64)>> = Mutex::new(Vec::new());

pub(super) fn table() -> String {
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = times.iter().map(|(node, seconds)| format!("{node}: pager told after {seconds:.1} s"));
    let minutes = THAT_DAY.map(|time| time.as_secs() / 60);
    let that_day = format!("that day: first alert after {} min, page after {} min", minutes[0], minutes[1]);
    if times.is_empty() { String::new() } else { rows.chain([that_day]).map(|row| row + "\n").collect() }
}

/// A node: its network, its agent, its traffic.
struct Node {
    name: String,
    region: Region,
    address: Ipv4Addr,
}

/// Who asks Prometheus.
struct Asked<'n>(&'n Namespace);

impl Asked<'_> {
    /// The series that answer, now.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 9090).into();
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = http::get(self.0, address, &format!("/api/v1/query?query={encoded}"), &[])?;
        let answer: Value = serde_json::from_str(&response.body).context("an answer")?;
        ensure!(answer["status"] == "success", "{expression}: {}", answer["error"]);
        answer["data"]["result"].as_array().cloned().context("no result")
    }

    /// The value of the only series.
    fn value(&self, expression: &str) -> Result<f64> {
        let found = self.query(expression)?;
        let [one] = found.as_slice() else { anyhow::bail!("{expression}: {} series", found.len()) };
        Ok(one["value"][1].as_str().context("a value")?.parse()?)
    }
}

pub(super) fn is_told_in_time() -> Result<()> {
    program::installed("prometheus")?;
    program::alertmanager()?;
    let management = Namespace::new("management")?;
    management.bridge("mgmt")?;
    management.address("mgmt", Ipv4Addr::new(10, 9, 0, 254), 24)?;
    let nodes = (1..).zip(NODES).map(|(number, _)| node(&management, number)).collect::<Result<Vec<_>>>()?;
    let scratch = Scratch::new()?;
    let settings = format!("{UPLINKS}[incident]\neases_after = \"5s\"\ncloses_after = \"15s\"\n");
    let config = scratch.write("agent.toml", &settings)?;
    let agents = nodes.iter().map(|node| {
        let listen = SocketAddr::from((node.address, 9976)).to_string();
        Agent::start(&node.region.host, &["--config", &config, "--listen", &listen])
    });
    let agents = agents.collect::<Result<Vec<_>>>()?;
    let busy = nodes.iter().map(|node| Ok((node.region.traffic()?, node.region.faulty_device()?)));
    let busy: Vec<(Steady, FaultyDevice)> = busy.collect::<Result<_>>()?;
    let pager = Webhook::listen(&management, (Ipv4Addr::LOCALHOST.into(), PAGER), None, &[])?;
    let servers = servers(&management, &scratch, &nodes)?;
    let outcome = played(&Asked(&management), &nodes, &busy, &pager);
    let said: String = servers.iter().map(Server::said).collect();
    outcome.with_context(|| format!("the servers say:\n{said}"))?;
    busy.into_iter().try_for_each(|(traffic, _)| traffic.end())?;
    agents.into_iter().try_for_each(Agent::stop)
}

fn node(management: &Namespace, number: u8) -> Result<Node> {
    let (region, address, port) = (Region::new()?, Ipv4Addr::new(10, 9, 0, number), format!("node{number}"));
    veth(End::new(&region.host, "mgmt0"), End::new(management, &port))?;
    region.host.address("mgmt0", address, 24)?;
    management.enslave(&port, "mgmt")?;
    Ok(Node { name: port, region, address })
}

fn servers(management: &Namespace, scratch: &Scratch, nodes: &[Node]) -> Result<[Server; 2]> {
    let targets: Vec<Value> = nodes
        .iter()
        .zip(NODES)
        .map(|(node, (zone, _))| {
            json!({"targets": [format!("{}:9976", node.address)], "labels": {"zone": zone, "instance": node.name}})
        })
        .collect();
    let copy = copy_of_prometheus(scratch, &[("nodes", Value::Array(targets))])?;
    let file = |name: &str| copy.join(name).display().to_string();
    let prometheus = [
        format!("--config.file={}", file("prometheus.yml")),
        format!("--storage.tsdb.path={}", file("data")),
        "--web.listen-address=127.0.0.1:9090".to_owned(),
    ];
    Ok([
        Server::start(management, "prometheus", &prometheus, copy.join("prometheus.log"))?,
        Server::alertmanager(management, &copy)?,
    ])
}

fn played(asked: &Asked<'_>, nodes: &[Node], busy: &[(Steady, FaultyDevice)], pager: &Webhook) -> Result<()> {
    eventually(BEGINS, "every node is scraped, and nothing is wrong", || {
        ensure!(asked.value("sum(up{job=\"lossprobe\"})")? >= 2.5, "not all are up");
        let quiet = asked.query("lossprobe_verdict{verdict=\"none\"} == 1")?;
        ensure!(quiet.len() == NODES.len(), "{quiet:#?}");
        let ruled = asked.query("zone_side:lossprobe_loss:ratio_rate1m")?.len();
        ensure!(ruled == 6 || !is_full(), "the rules have not seen two zones");
        Ok(())
    })?;
    let pages = pager.requests().into_iter().filter(|request| request.path == "/pager");
    let pages: Vec<_> = pages.collect();
    ensure!(pages.is_empty(), "a page without a cause: {pages:#?}");
    let failing = || nodes.iter().zip(busy).zip(NODES).filter(|(_, (_, fails))| *fails).map(|(pair, _)| pair);
    let fault = |share: u32, per_second: u32| {
        failing().try_for_each(|(node, (_, device))| {
            device.makes(per_second);
            node.region.lose([share; 2])
        })
    };
    let onset = Timestamp::now();
    fault(800, 40)?;
    for (node, _) in failing() {
        let told = eventually(TOLD_WITHIN, "the pager is told", || {
            let requests = pager.taken();
            let told = requests.iter().find(|request| !of(request, &node.name, "firing").is_empty());
            told.cloned().with_context(|| format!("{}: {:?}", node.name, asked.query("ALERTS")))
        })?;
        let seconds = told.time.duration_since(onset).as_secs_f64();
        ensure!(seconds <= TOLD_WITHIN.as_secs_f64(), "{} after {seconds:.1} s", node.name);
        TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((node.name.clone(), seconds));
    }
    if !is_full() {
        return once(&pager.taken(), &["firing"]);
    }
    queries_answer(asked)?;
    fault(0, 0)?;
    for (node, _) in failing() {
        eventually(OVER_WITHIN, "the pager is told that it is over", || {
            let over = pager.taken().iter().any(|request| !of(request, &node.name, "resolved").is_empty());
            ensure!(over, "{}: {:?}", node.name, asked.query("ALERTS")?);
            Ok(())
        })?;
    }
    once(&pager.taken(), &["firing", "resolved"])
}

/// The alerts of a node's network in a request, with this status.
fn of<'r>(request: &'r Request, node: &str, status: &str) -> Vec<&'r Value> {
    let alerts = request.body["alerts"].as_array().into_iter().flatten();
    let is_it = |alert: &&Value| {
        alert["labels"]["alertname"] == ALERT && alert["labels"]["instance"] == node && alert["status"] == status
    };
    alerts.filter(is_it).collect()
}

/// The pager was told of each failing node once for each status, and of nothing else.
fn once(requests: &[Request], statuses: &[&str]) -> Result<()> {
    let pages: Vec<_> = requests.iter().filter(|request| request.path == "/pager").collect();
    for (number, (zone, fails)) in (1..).zip(NODES) {
        let name = format!("node{number}");
        for status in statuses {
            let times = pages.iter().filter(|request| !of(request, &name, status).is_empty()).count();
            ensure!(times == usize::from(fails), "{name}: told {times} times that it is {status}: {pages:#?}");
        }
        for alert in pages.iter().flat_map(|request| of(request, &name, "firing")) {
            let annotations = &alert["annotations"];
            let says = |text: &str| annotations["description"].as_str().is_some_and(|said| said.contains(text));
            ensure!(says(&name) && says("uplink0") && alert["labels"]["zone"] == zone, "{alert:#}");
        }
    }
    let others = pages.iter().flat_map(|request| request.body["alerts"].as_array().into_iter().flatten());
    let others: Vec<_> = others.filter(|alert| alert["labels"]["alertname"] != ALERT).collect();
    ensure!(others.is_empty(), "the pager was told of something else: {others:#?}");
    Ok(())
}

/// Every query of the dashboard and of the runbooks is answered; which may be empty is said.
fn queries_answer(asked: &Asked<'_>) -> Result<()> {
    const SOON: Duration = Duration::from_secs(60);
    let mut answered = 0;
    for query in query::of_dashboard()? {
        let expression = query.filled();
        let may_be_empty = EMPTY.iter().any(|(title, _)| *title == query.title);
        eventually(SOON, "a panel shows something", || {
            let found = asked.query(&expression)?;
            ensure!(may_be_empty || !found.is_empty(), "{}: nothing for {expression}", query.title);
            answered += usize::from(!found.is_empty());
            Ok(())
        })?;
    }
    for (file, at, expression) in runbooks::queries()? {
        asked.query(&expression).with_context(|| format!("{file}, query {at}"))?;
    }
    println!("deploy: {answered} queries of the dashboard have data, {} panels may be empty", EMPTY.len());
    Ok(())
}
