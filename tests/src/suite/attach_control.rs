//! `lossprobe pause`, `resume` and `detach`, to a running agent and to none.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    http,
    link::{End, veth},
    namespace::Namespace,
    run::trial,
    topology::{LEFT, Pair, RIGHT},
    wait::eventually,
};

use super::counts::{Counts, SOON, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("attach_control::pause_and_resume", pause_and_resume),
        trial("attach_control::detach_and_resume", detach_and_resume),
        trial("attach_control::who_may_give_orders", who_may_give_orders),
        trial("attach_control::no_agent", no_agent),
    ]
}

const FRAME: u64 = 14 + 20 + 8 + 10;

fn is(agent: &Agent<'_>, namespace: &Namespace, state: &str) -> Result<()> {
    let running = state == "running";
    let ready = http::get(namespace, Agent::address(), "/readyz", &[])?;
    let expected = if running { 200 } else { 503 };
    ensure!(ready.status == expected, "{state}: /readyz says {}: {}", ready.status, ready.body);
    ensure!(running || ready.body.contains(state) && ready.body.contains("lossprobe resume"), "{}", ready.body);
    ensure!(agent.json("/api/v1/snapshot")?["state"] == state, "the snapshot does not say {state}");
    let paused = agent.metrics()?.get("lossprobe_paused", &[]);
    ensure!(paused == Some(f64::from(u8::from(!running))), "{state}: lossprobe_paused is {paused:?}");
    let socket = agent.socket().to_str().context("path")?;
    let table = String::from_utf8(lossprobe(namespace, &["stats", "--socket", socket])?.stdout)?;
    ensure!(running != table.contains(&format!("The agent is {state}")), "stats, {state}:\n{table}");
    Ok(())
}

fn attached(agent: &Agent<'_>, interface: &str) -> Result<usize> {
    Ok(agent.metrics()?.select("lossprobe_attached", &[("interface", interface)]).count())
}

fn pause_and_resume() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let send = || left.send_udp((RIGHT, 5000), 20, 10);
    let ingress = ("b", "ingress");
    is(&agent, right, "running")?;
    counts_exactly(&agent, ingress, Counts::new(20, 20 * FRAME), send)?;
    for _twice_is_once in 0..2 {
        ensure!(agent.order("pause")?.contains("paused"), "pause says nothing of it");
        is(&agent, right, "paused")?;
        ensure!(attached(&agent, "b")? == 2, "pause has detached");
        counts_exactly(&agent, ingress, Counts::default(), send)?;
    }
    agent.order("resume")?;
    is(&agent, right, "running")?;
    counts_exactly(&agent, ingress, Counts::new(20, 20 * FRAME), send)?;
    lost_nothing(&agent)?;
    agent.stop()
}

/// While detached, nothing hangs anywhere, interfaces that come are not attached to either, and no counter falls.
fn detach_and_resume() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _sinks = (right.udp((RIGHT, 5000))?, left.udp((LEFT, 5000))?);
    let agent = Agent::start(right, &["--exclude", "lo", "--exclude", "*tun*", "--exclude", "*gre*"])?;
    let (send, answer) = (|| left.send_udp((RIGHT, 5000), 20, 10), || right.send_udp((LEFT, 5000), 20, 10));
    counts_exactly(&agent, ("b", "ingress"), Counts::new(20, 20 * FRAME), send)?;
    counts_exactly(&agent, ("b", "egress"), Counts::new(20, 20 * FRAME), answer)?;
    let before = ["ingress", "egress"].map(|direction| agent.metrics().map(|m| Counts::of(&m, "b", direction)));
    let before = before.into_iter().collect::<Result<Vec<_>>>()?;
    agent.order("detach")?;
    is(&agent, right, "detached")?;
    agent.order("pause")?;
    is(&agent, right, "detached")?;
    ensure!(attached(&agent, "b")? == 0, "something is attached");
    veth(End::new(right, "new"), End::new(left, "peer"))?;
    counts_exactly(&agent, ("b", "ingress"), Counts::default(), send)?;
    counts_exactly(&agent, ("b", "egress"), Counts::default(), answer)?;
    let now = ["ingress", "egress"].map(|direction| agent.metrics().map(|m| Counts::of(&m, "b", direction)));
    ensure!(now.into_iter().collect::<Result<Vec<_>>>()? == before, "the counters have changed");
    eventually(SOON, "the new interface is known", || {
        let snapshot: Value = agent.json("/api/v1/snapshot")?;
        let interfaces = snapshot["interfaces"].as_array().context("no interfaces")?;
        ensure!(interfaces.iter().any(|interface| interface["name"] == "new"), "{interfaces:?}");
        Ok(())
    })?;
    ensure!(attached(&agent, "new")? == 0, "a new interface was attached to");
    agent.order("resume")?;
    is(&agent, right, "running")?;
    ensure!((attached(&agent, "b")?, attached(&agent, "new")?) == (2, 2), "not attached again");
    counts_exactly(&agent, ("b", "ingress"), Counts::new(20, 20 * FRAME), send)?;
    counts_exactly(&agent, ("b", "egress"), Counts::new(20, 20 * FRAME), answer)?;
    // A link that is detached must not keep an agent from ending in order.
    agent.order("detach")?;
    agent.stop()
}

/// The TCP port is for readers; the socket is for its owner and group.
fn who_may_give_orders() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    for order in ["pause", "resume", "detach"] {
        let request = format!("POST /api/v1/{order} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = http::parse(&http::exchange(right, Agent::address(), request.as_bytes())?)?;
        ensure!(answer.status == 405, "{order} by TCP: {}", answer.status);
        is(&agent, right, "running")?;
    }
    let mode = std::fs::metadata(agent.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "the socket has the mode {mode:o}");
    agent.stop()
}

fn no_agent() -> Result<()> {
    let namespace = Namespace::new("nobody")?;
    for (arguments, status, expected) in [
        (&["pause", "--socket", "/nonexistent/x.sock"][..], 1, &["no agent answers", "/nonexistent/x.sock"][..]),
        (&["resume", "--socket", "/nonexistent/x.sock"], 1, &["no agent answers"]),
        (&["detach", "--socket", "/nonexistent/x.sock"], 0, &["no agent answers"]),
        (&["pause", "--socket", "none"], 2, &["--socket", "none"]),
        (&["detach", "now"], 2, &["now"]),
    ] {
        let output = lossprobe(&namespace, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status), "{arguments:?} ended with {}: {said}", output.status);
        for word in expected {
            ensure!(said.contains(word), "{arguments:?}: no {word:?} in {said:?}");
        }
    }
    Ok(())
}
