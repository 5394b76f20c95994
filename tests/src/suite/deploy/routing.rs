//! Whom Alertmanager tells, with `alertmanager.yml` as it is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{http, namespace::Namespace, replay::Scratch, wait::eventually, webhook::Webhook};

use super::{
    copy_of_prometheus, runbooks,
    server::{ALERTMANAGER, PAGER, Server},
};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), ALERTMANAGER);
const SOON: Duration = Duration::from_secs(20);
const NODES: usize = 1000;
const ZONE: &str = "LossprobeIncidentZone";
const NODE: &str = "LossprobeIncidentNetwork";

/// The network of a thousand nodes fails between two evaluations: one page. Alerts come in the order in which their rules stand, and
/// Alertmanager must know of the zone before it tells of the nodes. What is no part of it pages as ever.
pub(super) fn a_zone_pages_once() -> Result<()> {
    let (namespace, scratch) = (Namespace::new("routing")?, Scratch::new()?);
    let pager = Webhook::listen(&namespace, (Ipv4Addr::LOCALHOST.into(), PAGER), None, &[])?;
    let server = Server::alertmanager(&namespace, &copy_of_prometheus(&scratch, &[])?)?;
    eventually(SOON, "Alertmanager is there", || {
        let status = http::get(&namespace, ADDRESS, "/-/ready", &[])?.status;
        ensure!(status == 200, "{status}: {}", server.said());
        Ok(())
    })?;
    let mut alerts = Vec::new();
    for (name, _) in runbooks::alerts()? {
        match name.as_str() {
            ZONE => alerts.push(alert(ZONE, "a", None)),
            NODE => alerts.extend((0..NODES).map(|number| alert(NODE, "a", Some(format!("node{number}"))))),
            _ => {}
        }
    }
    fires(&namespace, &alerts)?;
    let told = |zone: &str| -> Vec<_> {
        let alerts = pager.taken().into_iter().filter(|request| request.path == "/pager");
        let alerts = alerts.flat_map(|request| request.body["alerts"].as_array().cloned().unwrap_or_default());
        alerts.map(|alert| alert["labels"].clone()).filter(|labels| labels["zone"] == zone).collect()
    };
    eventually(SOON, "the zone pages", || {
        ensure!(told("a").iter().any(|labels| labels["alertname"] == ZONE), "{}", server.said());
        Ok(())
    })?;
    // Sent after all of them, so told after all of them.
    fires(&namespace, &[alert(NODE, "b", Some("other".to_owned()))])?;
    eventually(SOON, "a node of another zone pages", || {
        ensure!(told("b").len() == 1, "{}", server.said());
        Ok(())
    })?;
    let pages = told("a");
    ensure!(pages.len() == 1, "{} pages, the first: {:?}", pages.len(), pages.first());
    Ok(())
}

fn alert(name: &str, zone: &str, instance: Option<String>) -> Value {
    let mut labels = json!({"alertname": name, "severity": "critical", "job": "lossprobe", "zone": zone});
    if let Some(instance) = instance {
        labels["instance"] = instance.into();
    }
    json!({ "labels": labels })
}

/// As Prometheus tells Alertmanager.
fn fires(namespace: &Namespace, alerts: &[Value]) -> Result<()> {
    let body = Value::from(alerts).to_string();
    let head = format!(
        "POST /api/v2/alerts HTTP/1.1\r\nHost: {ADDRESS}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = http::exchange(namespace, ADDRESS, &[head.as_bytes(), body.as_bytes()].concat())?;
    let response = http::parse(&answer)?;
    ensure!(response.status == 200, "Alertmanager says {}: {}", response.status, response.body);
    Ok(())
}
