//! What arrives at a track point: transport checksums that are looked at or not, and why not; and malformed frames that are
//! kept as proof, with whoever has sent them last.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use probe_ebpf::reason::Malformed;
use probe_user::{event::Event, record::evidence::Evidence};
use tests::{
    agent::{Agent, lossprobe},
    frames::{A, B, Checksum, Frame, ethernet, plain},
    http,
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("evidence::checksums_are_looked_at", checksums_are_looked_at),
        trial("evidence::checksums_of_ordinary_traffic", checksums_of_ordinary_traffic),
        trial("evidence::no_more_than_the_budget", no_more_than_the_budget),
        trial("evidence::the_first_and_the_latest_are_kept", the_first_and_the_latest_are_kept),
        trial("evidence::no_more_than_proves_it", no_more_than_proves_it),
        trial("evidence::a_tag_is_part_of_it", a_tag_is_part_of_it),
        trial("evidence::who_has_sent_them", who_has_sent_them),
    ]
}

const TRACKED: [&str; 4] = ["--interface", "b", "--track", "b"];

/// Packets at ingress of `b` by what became of their checksum.
fn results(agent: &Agent<'_>) -> Result<BTreeMap<String, u64>> {
    let metrics = agent.metrics()?;
    let samples = metrics.select("lossprobe_l4_checksums_total", &[("interface", "b")]);
    Ok(samples.map(|sample| (sample.labels["result"].clone(), sample.value as u64)).collect())
}

/// Malformed frames at ingress of `b`, by reason.
fn malformed(agent: &Agent<'_>) -> Result<BTreeMap<String, u64>> {
    let metrics = agent.metrics()?;
    let samples = metrics.select("lossprobe_malformed_frames_total", &[("interface", "b"), ("direction", "ingress")]);
    let seen = samples.filter(|sample| sample.value > 0.0);
    Ok(seen.map(|sample| (sample.labels["reason"].clone(), sample.value as u64)).collect())
}

/// What the agent has kept.
fn kept(agent: &Agent<'_>) -> Result<Evidence> {
    let mut stream = UnixStream::connect(agent.socket()).context("connect to the agent's socket")?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET /api/v1/evidence HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = http::parse(&answer)?;
    ensure!(answer.status == 200, "the agent says {}: {}", answer.status, answer.body);
    serde_json::from_str(&answer.body).with_context(|| format!("read {}", answer.body))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sum of an IPv4 pseudo header (of addresses 10.0.0.1 and 10.0.0.2), as it stands in a packet that is to be finished.
fn unfinished(protocol: u16, bytes: u16) -> Checksum {
    let sum: u32 = [0x0a00, 1, 0x0a00, 2, protocol, bytes].into_iter().map(u32::from).sum();
    Checksum::Value(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// What becomes of a checksum, with the reason if it is wrong; `None`: nothing.
type Outcome = Option<(&'static str, Option<Malformed>)>;

/// Each frame alone at a fresh agent, and what has to become of its checksum; `None`: nothing, it is not the header's.
fn checksums_are_looked_at() -> Result<()> {
    let link = || ethernet(B, A);
    let udp = |checksum| link().ip4().udp_with(1000, 2000, move |udp| udp.checksum = checksum);
    let tcp = |checksum| link().ip4().tcp_with(1000, 2000, move |tcp| tcp.checksum = checksum);
    let bad = |reason| Some(("bad", Some(reason)));
    let (good, none) = (Some(("good", None)), None);
    let wrong = Checksum::Wrong;
    let rows: Vec<(&str, Frame, Outcome)> = vec![
        ("TCP", tcp(Checksum::Right).payload(100), good),
        ("TCP, odd", tcp(Checksum::Right).payload(101), good),
        ("TCP, nothing in it", tcp(Checksum::Right).payload(0), good),
        ("TCP, several pieces", tcp(Checksum::Right).payload(1460), good),
        ("TCP, a whole piece", tcp(Checksum::Right).payload(512 - 20), good),
        ("TCP, wrong", tcp(wrong).payload(100), bad(Malformed::TcpCsum)),
        ("TCP, wrong, odd", tcp(wrong).payload(1459), bad(Malformed::TcpCsum)),
        ("TCP, to be finished", tcp(unfinished(6, 120)).payload(100), Some(("hardware", None))),
        ("TCP over IPv6", link().ip6().tcp(1, 2).payload(33), good),
        (
            "TCP over IPv6, wrong",
            link().ip6().tcp_with(1, 2, move |tcp| tcp.checksum = wrong).payload(33),
            bad(Malformed::TcpCsum),
        ),
        (
            "TCP in a VLAN, wrong",
            link().vlan(5).ip4().tcp_with(1, 2, move |tcp| tcp.checksum = wrong),
            bad(Malformed::TcpCsum),
        ),
        ("UDP", udp(Checksum::Right).payload(100), good),
        ("UDP, none", udp(Checksum::Value(0)).payload(100), Some(("budget", None))),
        // It may carry what is to be finished: no card has brought it.
        ("UDP, wrong", udp(wrong).payload(100), Some(("hardware", None))),
        ("UDP, to be finished", udp(unfinished(17, 108)).payload(100), Some(("hardware", None))),
        (
            "UDP of a tunnel",
            link().ip4().udp_with(1000, 4789, move |udp| udp.checksum = wrong).payload(50),
            Some(("budget", None)),
        ),
        ("UDP, more behind it", udp(Checksum::Right).payload(20).pad(60), good),
        (
            "UDP over IPv6, wrong",
            link().ip6().udp_with(1, 2, move |udp| udp.checksum = wrong).payload(7),
            Some(("hardware", None)),
        ),
        ("ICMP", link().ip4().icmp(8, 0).payload(56), good),
        (
            "ICMP, wrong",
            link().ip4().icmp_with(8, 0, move |icmp| icmp.checksum = wrong).payload(56),
            bad(Malformed::IcmpCsum),
        ),
        ("ICMPv6", link().ip6().icmpv6(128, 0).payload(57), good),
        (
            "ICMPv6, wrong",
            link().ip6().icmpv6_with(128, 0, move |icmp| icmp.checksum = wrong).payload(57),
            bad(Malformed::Icmp6Csum),
        ),
        ("behind a hop-by-hop header", link().ip6().hop_by_hop(plain).udp(1, 2).payload(9), good),
        ("behind destination options", link().ip6().destination_options(plain).udp(1, 2).payload(9), none),
        ("behind a routing header", link().ip6().routing(4).udp(1, 2).payload(9), none),
        (
            "a fragment",
            link().ipv4(|ip| (ip.protocol, ip.more_fragments, ip.dont_fragment) = (17, true, false)).payload(64),
            none,
        ),
        ("behind options", link().ipv4(|ip| ip.options = vec![7, 7, 4, 0, 0, 0, 0, 0]).udp(1, 2).payload(9), none),
        ("ARP", link().arp(plain).pad(60), none),
        ("what is malformed anyway", link().ipv4(move |ip| ip.checksum = wrong).tcp(1, 2).payload(9), none),
    ];
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let sender = PacketSocket::sender(left, "a")?;
    let agent = Agent::start(right, &TRACKED)?;
    let mut expected: BTreeMap<String, u64> =
        ["good", "bad", "hardware", "gro", "budget"].map(|result| (result.to_owned(), 0)).into();
    let mut reasons = BTreeMap::from([("ip4_csum".to_owned(), 1)]);
    for (name, frame, result) in rows {
        sender.send([frame.bytes()])?;
        if let Some((result, reason)) = result {
            *expected.entry(result.to_owned()).or_default() += 1;
            reason.into_iter().for_each(|reason| *reasons.entry(reason.id().to_owned()).or_default() += 1);
        }
        // Nothing else may count, so the last row must have passed.
        sender.send([ethernet(B, A).ip4().icmp(8, 0).payload(1).bytes()])?;
        *expected.entry("good".to_owned()).or_default() += 1;
        eventually(SOON, name, || {
            let said = results(&agent)?;
            ensure!(said == expected, "{name}: {said:?} instead of {expected:?}");
            Ok(())
        })?;
    }
    let said = malformed(&agent)?;
    ensure!(said == reasons, "{said:?} instead of {reasons:?}");
    lost_nothing(&agent)?;
    agent.stop()
}

/// Between two namespaces nobody makes checksums: that is no finding, with and without merged segments.
fn checksums_of_ordinary_traffic() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &TRACKED)?;
    left.tcp_transfer(right, (RIGHT, 9000).into(), 8 << 20, SOON)?;
    left.send_udp((RIGHT, 9001), 50, 1000)?;
    let said = eventually(SOON, "all have come", || {
        let said = results(&agent)?;
        ensure!(said["hardware"] >= 50, "{said:?}");
        Ok(said)
    })?;
    ensure!(said["bad"] == 0 && said["gro"] > 0, "{said:?}");
    let found = malformed(&agent)?;
    ensure!(found.is_empty(), "{found:?}");
    lost_nothing(&agent)?;
    agent.stop()
}

/// What is not looked at is counted as that; one finding, and everything is looked at.
fn no_more_than_the_budget() -> Result<()> {
    const COPIES: usize = 20_000;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let sender = PacketSocket::sender(left, "a")?;
    let agent = Agent::start(right, &TRACKED)?;
    let frame =
        |checksum| ethernet(B, A).ip4().tcp_with(1000, 2000, move |tcp| tcp.checksum = checksum).payload(1000).bytes();
    sender.send_copies(&frame(Checksum::Right), COPIES)?;
    let passed = |sum: u64| {
        eventually(SOON, "all have come", || {
            let said = results(&agent)?;
            ensure!(said.values().sum::<u64>() == sum, "{said:?}");
            Ok(said)
        })
    };
    let said = passed(COPIES as u64)?;
    // 4 MB a second, on each CPU; nobody sends 20 MB in five seconds here.
    ensure!(said["budget"] > 0 && said["good"] > 0 && said["bad"] == 0, "{said:?}");
    // Each CPU has a budget of its own, and the sender may be on any.
    let mut sent = COPIES as u64;
    eventually(SOON, "all are looked at", || {
        let before = results(&agent)?["bad"];
        sender.send_copies(&frame(Checksum::Wrong), 2000)?;
        sent += 2000;
        let looked_at = passed(sent)?["bad"] - before;
        ensure!(looked_at == 2000, "{looked_at} of 2000");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn of_reason<'e>(evidence: &'e Evidence, reason: &str) -> Vec<&'e Event> {
    evidence.frames.iter().filter(|frame| frame.reason == reason).collect()
}

fn the_first_and_the_latest_are_kept() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let sender = PacketSocket::sender(left, "a")?;
    let agent = Agent::start(right, &TRACKED)?;
    let numbered = |number: u16| {
        ethernet(B, A).ip4().tcp_with(number, 2000, |tcp| tcp.checksum = Checksum::Wrong).payload(1200).bytes()
    };
    let mut number = 0;
    let found = eventually(SOON, "two are kept", || {
        // One in a second is kept of a kind on a CPU.
        number += 1;
        sender.send([numbered(number)])?;
        let evidence = kept(&agent)?;
        ensure!(of_reason(&evidence, "tcp_csum").len() == 2, "{} frames", evidence.frames.len());
        Ok(evidence)
    })?;
    let [first, latest] = of_reason(&found, "tcp_csum")[..] else { unreachable!() };
    ensure!(first.bytes == hexadecimal(&numbered(1)), "the whole frame, since only all of it proves it: {first:?}");
    ensure!(first.time < latest.time && latest.bytes != first.bytes, "{first:?} {latest:?}");
    ensure!(first.packet_bytes == 1254 && first.offset == Some(50) && first.link_type == Some(1), "{first:?}");
    ensure!(first.severity.as_deref() == Some("error") && first.scope.as_deref() == Some("path"), "{first:?}");
    ensure!(first.interface == "b" && first.direction.as_deref() == Some("ingress"), "{first:?}");
    ensure!(found.lost == 0 && agent.metrics()?.sum("lossprobe_evidence_lost_total", &[]) == 0.0);
    agent.stop()
}

/// Headers and 16 bytes, or what was asked for.
fn no_more_than_proves_it() -> Result<()> {
    let wrong = Checksum::Wrong;
    let frames = [
        ethernet(B, A).ip4().tcp_with(1, 2, |tcp| tcp.flags = 0).payload(500).bytes(),
        ethernet(B, A).ip4().tcp_with(1, 2, move |tcp| tcp.checksum = wrong).payload(500).bytes(),
        // The finding stands behind everything that somebody sent.
        ethernet(B, A).ip4().udp(1, 2).payload(500).trailer([0; 50]).bytes(),
        ethernet(B, A).ipv4(|ip| ip.total_length += 100).udp(1, 2).payload(500).bytes(),
    ];
    for (arguments, expected) in [
        (&[][..], [54 + 16, 554, 42 + 16, 36 + 16]),
        (&["--evidence-payload", "400"], [54 + 400, 554, 42 + 400, 36 + 400]),
        (&["--redact"], [54, 54, 42, 36]),
    ] {
        let pair = Pair::new()?;
        let Pair { left, right } = &pair;
        let agent = Agent::start(right, &[&TRACKED[..], arguments].concat())?;
        PacketSocket::sender(left, "a")?.send(&frames)?;
        eventually(SOON, "all are kept", || {
            let evidence = kept(&agent)?;
            let bytes = |reason| of_reason(&evidence, reason).first().map(|frame| frame.bytes.len() / 2);
            let said = ["tcp_flags", "tcp_csum", "eth_trailer", "ip4_trunc"].map(bytes);
            ensure!(said == expected.map(Some), "{arguments:?}: {said:?} instead of {expected:?}");
            Ok(())
        })?;
        agent.stop()?;
    }
    Ok(())
}

/// Linux takes it out of the frame before the hook; the evidence is the frame as it was.
fn a_tag_is_part_of_it() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &TRACKED)?;
    let frame = ethernet(B, A).vlan(5).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(30).bytes();
    PacketSocket::sender(left, "a")?.send([&frame])?;
    let found = eventually(SOON, "it is kept", || {
        let found = kept(&agent)?.frames.pop().context("nothing yet")?;
        Ok(found)
    })?;
    ensure!(found.bytes == hexadecimal(&frame), "{found:?}\n{}", hexadecimal(&frame));
    ensure!(
        found.offset == Some(28) && found.vlan == Some(5) && found.packet_bytes as usize == frame.len(),
        "{found:?}"
    );
    ensure!(found.source_mac.as_deref() == Some("02:00:00:00:00:0a"), "{found:?}");
    agent.stop()
}

/// By reason, address and VLAN; the most first; addresses drawn by lot displace nobody, and how many frames nobody is named for
/// is said.
fn who_has_sent_them() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &TRACKED)?;
    let sender = PacketSocket::sender(left, "a")?;
    let from = |last: u8, high: u8| ethernet(B, [2, 0, 0, 7, high, last]);
    let broken = |link: Frame| link.ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(30).bytes();
    sender.send_copies(&broken(from(1, 0)), 30)?;
    sender.send_copies(&broken(from(1, 0).vlan(9)), 20)?;
    sender.send_copies(&from(2, 0).ip4().tcp_with(1, 2, |tcp| tcp.flags = 0).bytes(), 10)?;
    let expected = [
        ("ip4_csum", "02:00:00:07:00:01", None, 30),
        ("ip4_csum", "02:00:00:07:00:01", Some(9), 20),
        ("tcp_flags", "02:00:00:07:00:02", None, 10),
    ];
    let check = || {
        let senders = kept(&agent)?.senders;
        ensure!(senders.len() == 1 && senders[0].interface == "b", "{senders:?}");
        ensure!(senders[0].senders.len() <= 64, "{}", senders[0].senders.len());
        let said: Vec<_> = senders[0]
            .senders
            .iter()
            .take(3)
            .map(|sender| (sender.reason.as_str(), sender.source_mac.as_str(), sender.vlan, sender.frames))
            .collect();
        ensure!(said == expected, "{said:?}");
        Ok(senders[0].senders.len())
    };
    eventually(SOON, "three senders", check)?;
    let socket = agent.socket().to_str().context("path")?;
    let output = lossprobe(right, &["stats", "--senders", "--socket", socket, "--output", "json"])?;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(shown == serde_json::json!({ "schema": 1, "senders": kept(&agent)?.senders }), "{shown}");
    let many: Vec<_> = (0..2000_u16).map(|number| broken(from(number as u8, 1 + (number >> 8) as u8))).collect();
    sender.send(&many)?;
    eventually(SOON, "all are counted", || {
        let count = malformed(&agent)?["ip4_csum"];
        ensure!(count == 2050, "{count}");
        Ok(())
    })?;
    let shown = check()?;
    ensure!(shown > 32, "{shown} of 64 places are used");
    let others = kept(&agent)?.senders[0].other_frames;
    let without_place = agent.metrics()?.sum("lossprobe_map_update_failed_total", &[("map", "senders")]);
    ensure!(
        others > 1900 && without_place == others as f64,
        "{others} frames of others, {without_place} by the metric"
    );
    agent.stop()
}
