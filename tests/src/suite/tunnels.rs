//! What tunnels over UDP carry: which ports are theirs, whose connections are inside, and whom its contradictions accuse.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    frames::{A, B, Checksum, Frame, ethernet},
    run::{requires_module, trial},
    topology::{LEFT, Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("tunnels::connections_inside", connections_inside),
        trial("tunnels::of_this_node_are_found", of_this_node_are_found),
        trial("tunnels::what_is_broken_inside_was_made_elsewhere", what_is_broken_inside_was_made_elsewhere),
    ]
}

const VXLAN: u16 = 4789;
const GENEVE: u16 = 6081;
const PAYLOAD: usize = 100;

/// Its header for a network, and what follows.
fn in_vxlan(network: u8, inner: Frame) -> Frame {
    ethernet(B, A).ip4().udp(50_000, VXLAN).data([8, 0, 0, 0, 0, 0, network, 0]).nested(inner)
}

fn in_geneve(network: u8, inner: Frame) -> Frame {
    ethernet(B, A).ip4().udp(50_000, GENEVE).data([0, 0, 0x65, 0x58, 0, 0, network, 0]).nested(inner)
}

/// A segment of data.
fn data() -> Frame {
    let packet = ethernet(B, A).ipv4(|ip| ip.identification = 0);
    packet.tcp_with(1000, 443, |tcp| (tcp.sequence, tcp.acknowledgement) = (1, 1)).payload(PAYLOAD)
}

/// TCP segments of `b` at ingress, and those that were seen again.
fn followed(agent: &Agent<'_>) -> Result<(u64, u64)> {
    let labels = [("interface", "b"), ("direction", "ingress")];
    let (metrics, again) = (agent.metrics()?, [labels[0], labels[1], ("event", "retransmit_seen")]);
    let sum = |name, labels: &[_]| metrics.sum(name, labels) as u64;
    Ok((sum("lossprobe_wire_tcp_segments_total", &labels), sum("lossprobe_wire_tcp_events_total", &again)))
}

fn frames(agent: &Agent<'_>) -> Result<u64> {
    Ok(agent.metrics()?.sum("lossprobe_frames_total", &[("interface", "b"), ("direction", "ingress")]) as u64)
}

/// The same connection in two networks, in none and in another kind of tunnel is four; where the ports are not tunnels',
/// it is one.
fn connections_inside() -> Result<()> {
    let all = [data(), in_vxlan(7, data()), in_vxlan(8, data()), in_geneve(7, data())].map(|frame| frame.bytes());
    for (arguments, expected) in [
        (&["--tunnel-port", "4789", "--tunnel-port", "6081:geneve"][..], (12, 8)),
        (&["--tunnel-port", "4789"], (9, 6)),
        (&[], (3, 2)),
    ] {
        let pair = Pair::new()?;
        let Pair { left, right } = &pair;
        let agent = Agent::start(right, &[&["--interface", "b", "--track", "b"], arguments].concat())?;
        let sender = PacketSocket::sender(left, "a")?;
        for _ in 0..3 {
            sender.send(&all)?;
        }
        eventually(SOON, "all have come", || {
            let (frames, followed) = (frames(&agent)?, followed(&agent)?);
            ensure!(
                frames == 12 && followed == expected,
                "{frames} frames, {followed:?} of {expected:?} {arguments:?}"
            );
            Ok(())
        })?;
        lost_nothing(&agent)?;
        agent.stop()?;
    }
    Ok(())
}

/// The port of a VXLAN device is one of the device below it, for as long as there is one; what passes it in large packets
/// is judged well.
fn of_this_node_are_found() -> Result<()> {
    const BYTES: usize = 8 << 20;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    requires_module("vxlan", right.vxlan("vx", "b", 7, LEFT.into()))?;
    left.vxlan("vx", "a", 7, RIGHT.into())?;
    left.address("vx", Ipv4Addr::new(10, 7, 0, 1), 24)?;
    right.address("vx", Ipv4Addr::new(10, 7, 0, 2), 24)?;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b"])?;
    left.tcp_transfer(right, (Ipv4Addr::new(10, 7, 0, 2), 9000).into(), BYTES, Duration::from_secs(30))?;
    let (segments, _) = followed(&agent)?;
    ensure!(segments as usize > BYTES / 1500, "{segments} segments for {BYTES} bytes");
    let malformed = agent.metrics()?.sum("lossprobe_malformed_frames_total", &[]);
    ensure!(malformed == 0.0, "{malformed} frames are called malformed: {}", agent.get("/api/v1/snapshot")?);
    let flows = flows(&agent, right)?;
    let inside: Vec<_> = flows.iter().filter(|flow| flow["inside"] == "10.7.0.2:9000").collect();
    ensure!(matches!(inside[..], [flow] if flow["tunnel"] == 7), "{flows:?}");
    let doctor = lossprobe(right, &["doctor", "--interface", "b"])?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    ensure!(said.contains("carries vxlan on UDP port 4789"), "doctor says\n{said}");
    right.delete("vx")?;
    left.delete("vx")?;
    let sender = PacketSocket::sender(left, "a")?;
    eventually(SOON, "the port is anybody's", || {
        let before = followed(&agent)?;
        let passed = frames(&agent)?;
        sender.send_copies(&in_vxlan(7, data()).bytes(), 10)?;
        eventually(SOON, "ten have come", || {
            let now = frames(&agent)?;
            ensure!(now >= passed + 10, "{} frames", now - passed);
            Ok(())
        })?;
        let now = followed(&agent)?;
        ensure!(now == before, "{before:?} became {now:?}");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn flows(agent: &Agent<'_>, right: &tests::namespace::Namespace) -> Result<Vec<Value>> {
    let socket = agent.socket().to_str().context("a path")?;
    let output = lossprobe(right, &["flows", "--socket", socket, "--output", "json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    Ok(json["flows"].as_array().context("no flows")?.clone())
}

/// It is counted, and nobody on this segment is accused of it.
fn what_is_broken_inside_was_made_elsewhere() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b", "--tunnel-port", "4789"])?;
    let broken = || ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(50);
    let sender = PacketSocket::sender(left, "a")?;
    sender.send_copies(&in_vxlan(7, broken()).bytes(), 5)?;
    sender.send_copies(&broken().bytes(), 3)?;
    eventually(SOON, "all are counted, and told apart", || {
        let labels = [("interface", "b"), ("direction", "ingress"), ("reason", "ip4_csum"), ("severity", "error")];
        let counted = agent.metrics()?.get("lossprobe_malformed_frames_total", &labels);
        ensure!(counted == Some(8.0), "{counted:?}");
        let snapshot = agent.snapshot()?;
        let interface = snapshot.interfaces.iter().find(|interface| interface.name == "b").context("no b")?;
        let scopes: BTreeMap<_, _> =
            interface.malformed.iter().map(|found| (found.scope.as_str(), found.frames)).collect();
        ensure!(scopes == BTreeMap::from([("local", 3), ("path", 5)]), "{scopes:?}");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}
