//! Connections by hand: what the kernel's followers say of crafted segments, exactly; who may stay in their table; what is
//! listed of them. Loss on a path with real senders is in `wire`.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    frames::{A, B, Frame, ethernet, flag},
    run::trial,
    topology::Pair,
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("flows::say_what_segments_mean", say_what_segments_mean),
        trial("flows::vlans_and_families_are_apart", vlans_and_families_are_apart),
        trial("flows::a_flood_of_syns_drives_nobody_out", a_flood_of_syns_drives_nobody_out),
        trial("flows::what_finds_no_room_is_counted", what_finds_no_room_is_counted),
        trial("flows::what_is_malformed_is_not_followed", what_is_malformed_is_not_followed),
        trial("flows::the_worst_are_listed", the_worst_are_listed),
        trial("flows::one_of_many", one_of_many),
        trial("flows::none", none),
        trial("flows::hairpins_are_followed_once", hairpins_are_followed_once),
    ]
}

const SEGMENTS: &str = "lossprobe_wire_tcp_segments_total";
const EVENTS: &str = "lossprobe_wire_tcp_events_total";
const PAYLOAD: usize = 100;

/// The segment of data with this number, of a connection with this port.
fn data(port: u16, number: u32) -> Frame {
    behind(ip4(ethernet(B, A)), port, number)
}

/// Without an identifier: with the same one, segments that are equal would be copies of one packet.
fn ip4(frame: Frame) -> Frame {
    frame.ipv4(|ip| ip.identification = 0)
}

fn behind(frame: Frame, port: u16, number: u32) -> Frame {
    let sequence = 1 + number * PAYLOAD as u32;
    frame.tcp_with(port, 443, move |tcp| (tcp.sequence, tcp.acknowledgement) = (sequence, 1)).payload(PAYLOAD)
}

fn syn(port: u16, source: [u8; 4]) -> Frame {
    let packet = ethernet(B, A).ipv4(move |ip| (ip.source, ip.identification) = (source.into(), 0));
    packet.tcp_with(port, 443, |tcp| (tcp.flags, tcp.sequence, tcp.acknowledgement) = (flag::SYN, 7, 0)).payload(0)
}

/// Events of `b` at ingress that are not 0.
fn events(agent: &Agent<'_>) -> Result<BTreeMap<String, u64>> {
    let metrics = agent.metrics()?;
    let all = metrics.select(EVENTS, &[("interface", "b"), ("direction", "ingress")]);
    let named =
        all.filter(|sample| sample.value > 0.0).map(|sample| (sample.labels["event"].clone(), sample.value as u64));
    Ok(named.collect())
}

fn followed(agent: &Agent<'_>) -> Result<u64> {
    Ok(agent.metrics()?.sum(SEGMENTS, &[("interface", "b"), ("direction", "ingress")]) as u64)
}

fn quality(agent: &Agent<'_>, cause: &str) -> Result<u64> {
    Ok(agent.metrics()?.sum("lossprobe_flow_quality_total", &[("cause", cause)]) as u64)
}

/// `b` is tracked; these frames arrive on it. Expects so many followed segments, and these events and no others.
fn check(name: &str, frames: &[Vec<u8>], segments: u64, expected: &[(&str, u64)]) -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    sender.send(frames)?;
    let expected: BTreeMap<_, _> = expected.iter().map(|(event, count)| ((*event).to_owned(), *count)).collect();
    eventually(SOON, name, || {
        let (said, count) = (events(&agent)?, followed(&agent)?);
        ensure!(said == expected && count == segments, "{name}: {count} segments, {said:?}");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}

fn say_what_segments_mean() -> Result<()> {
    let numbers = |numbers: &[u32]| numbers.iter().map(|number| data(1000, *number).bytes()).collect::<Vec<_>>();
    check("in order", &numbers(&[0, 1, 2, 3]), 4, &[])?;
    check("twice", &numbers(&[0, 1, 1, 0]), 4, &[("retransmit_seen", 2)])?;
    check("half of it twice", &numbers(&[0, 1, 2, 2]), 4, &[("retransmit_seen", 1)])?;
    let frames = [vec![syn(1000, [10, 0, 0, 1]).bytes(); 2], numbers(&[0])].concat();
    // The data begins elsewhere than behind this SYN: before it.
    check("a SYN once more", &frames, 3, &[("syn_retransmit", 1), ("retransmit_seen", 1)])
}

fn vlans_and_families_are_apart() -> Result<()> {
    let link = || ethernet(B, A);
    let frames = [
        behind(ip4(link()), 1000, 0),
        behind(ip4(link().vlan(5)), 1000, 0),
        behind(ip4(link().vlan(6)), 1000, 0),
        behind(ip4(link().qinq(5, 6)), 1000, 0),
        behind(link().ip6(), 1000, 0),
        behind(link().vlan(5).ip6(), 1000, 0),
    ]
    .map(|frame| frame.bytes());
    check("each is new", &frames, 6, &[])?;
    check("each comes again", &[frames.clone(), frames].concat(), 12, &[("retransmit_seen", 6)])
}

fn a_flood_of_syns_drives_nobody_out() -> Result<()> {
    const CONNECTIONS: u16 = 20;
    const SYNS: u16 = 20_000;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b", "--flows", "64"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let once = || sender.send((0..CONNECTIONS).map(|port| data(1000 + port, 0).bytes()));
    once()?;
    let residents = eventually(SOON, "connections are followed", || {
        let (count, full) = (followed(&agent)?, quality(&agent, "table_full")?);
        ensure!(count + full == u64::from(CONNECTIONS), "{count} followed, {full} have no room");
        Ok(count)
    })?;
    ensure!(residents >= u64::from(CONNECTIONS) / 2, "{residents} of {CONNECTIONS} have a place");
    let address = |number: u16| [10, 9, (number >> 8) as u8, number as u8];
    sender.send((0..SYNS).map(|number| syn(2000 + number % 7, address(number)).bytes()))?;
    once()?;
    let again = [("retransmit_seen".to_owned(), residents)].into();
    eventually(SOON, "those that were there are there", || {
        let said = events(&agent)?;
        ensure!(said == again, "{said:?} instead of {again:?}");
        Ok(())
    })?;
    let full = quality(&agent, "table_full")?;
    ensure!(full > u64::from(SYNS) / 2, "{full} of {SYNS} had no room");
    agent.stop()
}

/// Segments are followed, or the table was full: none is neither.
fn what_finds_no_room_is_counted() -> Result<()> {
    const CONNECTIONS: u32 = 500;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b", "--flows", "64"])?;
    let sender = PacketSocket::sender(left, "a")?;
    for number in 0..3 {
        sender.send((0..CONNECTIONS).map(|port| data(1000 + port as u16, number).bytes()))?;
    }
    eventually(SOON, "all are accounted for", || {
        let (count, full) = (followed(&agent)?, quality(&agent, "table_full")?);
        ensure!(count + full == u64::from(3 * CONNECTIONS), "{count} followed, {full} have no room");
        ensure!((3 * 40..=3 * 64).contains(&count), "{count} followed by 64 places");
        Ok(())
    })?;
    ensure!(events(&agent)?.is_empty(), "{:?}", events(&agent)?);
    agent.stop()
}

fn what_is_malformed_is_not_followed() -> Result<()> {
    let frames = [
        data(1000, 0),
        // The header claims more than there is.
        ethernet(B, A).ipv4(|ip| ip.total_length += 100).tcp(1000, 443).payload(PAYLOAD),
        // SYN and FIN at once.
        data(1000, 0).poke(47, [0x13]),
        ethernet(B, A).ipv4(|ip| ip.more_fragments = true).tcp(1000, 443).payload(PAYLOAD),
        data(1000, 1),
    ]
    .map(|frame| frame.bytes());
    check("two of five", &frames, 2, &[])
}

fn the_worst_are_listed() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b:guests"])?;
    let sender = PacketSocket::sender(left, "a")?;
    for (port, copies) in [(1000_u16, 2_usize), (1001, 5), (1002, 1)] {
        sender.send_copies(&data(port, 0).bytes(), copies)?;
    }
    eventually(SOON, "all have come", || {
        let count = followed(&agent)?;
        ensure!(count == 8, "{count} segments");
        Ok(())
    })?;
    let socket = agent.socket().to_str().context("a path")?;
    let list = |arguments: &[&str]| -> Result<String> {
        let output = lossprobe(right, &[&["flows", "--socket", socket], arguments].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let json: Value = serde_json::from_str(&list(&["--output", "json"])?)?;
    let row = |flow: &Value| {
        let of = |key: &str| flow["ingress"][key].as_u64();
        (flow["outside"].as_str().map(str::to_owned), of("segments"), of("seen_again"))
    };
    let rows: Vec<_> = json["flows"].as_array().context("no flows")?.iter().map(row).collect();
    let expected = [(1001, 5, 4), (1000, 2, 1), (1002, 1, 0)]
        .map(|(port, segments, again)| (Some(format!("10.0.0.1:{port}")), Some(segments), Some(again)));
    ensure!(rows == expected, "{rows:?}");
    ensure!(json["known"] == 3 && json["capacity"] == 32_768, "{json}");
    let worst = &json["flows"][0];
    ensure!(worst["group"] == "guests" && worst["inside"] == "10.0.0.2:443", "{worst}");
    // Nobody listens: what went out are resets.
    ensure!(worst["ingress"]["interface"] == "b" && worst["egress"]["interface"] == "b", "{worst}");
    let table = list(&["--top", "1"])?;
    ensure!(table.contains("10.0.0.1:1001") && !table.contains("10.0.0.1:1000"), "{table}");
    // Addresses are for who may open the socket.
    ensure!(agent.json("/api/v1/flows").is_err(), "addresses are served by TCP");
    ensure!(!agent.get("/metrics")?.contains("10.0.0."), "an address is a metric");
    agent.stop()
}

/// Whole connections are in the sample or not.
fn one_of_many() -> Result<()> {
    const CONNECTIONS: u64 = 4_000;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b", "--flow-sample", "8"])?;
    let sender = PacketSocket::sender(left, "a")?;
    for _ in 0..2 {
        sender.send((0..CONNECTIONS).map(|port| data(1000 + port as u16, 0).bytes()))?;
    }
    eventually(SOON, "all have come", || {
        let frames =
            agent.metrics()?.sum("lossprobe_frames_total", &[("interface", "b"), ("direction", "ingress")]) as u64;
        ensure!(frames == 2 * CONNECTIONS, "{frames} frames");
        Ok(())
    })?;
    let (count, again) = (followed(&agent)?, events(&agent)?["retransmit_seen"]);
    // An eighth of them, within six standard deviations.
    ensure!((375..=625).contains(&again) && count == 2 * again, "{count} segments followed, {again} seen again");
    // Three of 500 can meet in one of 16,384 places: once in a dozen runs; each counts at both of its segments.
    ensure!(quality(&agent, "table_full")? <= 6);
    agent.stop()
}

/// What is not followed has no series, which would be zeros that mean nothing.
fn none() -> Result<()> {
    for arguments in [&["--track", "none"][..], &["--track", "b", "--flows", "0"]] {
        let pair = Pair::new()?;
        let Pair { left, right } = &pair;
        let agent = Agent::start(right, &[&["--interface", "b"], arguments].concat())?;
        PacketSocket::sender(left, "a")?.send_copies(&data(1000, 0).bytes(), 10)?;
        let metrics = agent.metrics()?;
        for name in [SEGMENTS, EVENTS, "lossprobe_path_lost_segments_total", "lossprobe_flow_quality_total"] {
            ensure!(metrics.select(name, &[]).count() == 0, "{arguments:?}: {name} is there");
        }
        agent.stop()?;
    }
    Ok(())
}

/// What a router sends back by the interface that it came by is followed on its way in; what passes again was lost behind its
/// way out, not in this host.
fn hairpins_are_followed_once() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let behind = Ipv4Addr::new(10, 0, 0, 77);
    right.sysctl("net.ipv4.ip_forward", "1")?;
    right.sysctl("net.ipv4.conf.all.send_redirects", "0")?;
    right.sysctl("net.ipv4.conf.b.send_redirects", "0")?;
    right.neighbour("b", behind, [2, 0, 0, 0, 0, 0x77])?;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b"])?;
    let onward = |number| {
        let packet = ethernet(B, A).ipv4(move |ip| (ip.destination, ip.identification) = (behind, 0));
        let sequence = 1 + number * PAYLOAD as u32;
        packet.tcp_with(1000, 443, move |tcp| (tcp.sequence, tcp.acknowledgement) = (sequence, 1)).payload(PAYLOAD)
    };
    let sender = PacketSocket::sender(left, "a")?;
    sender.send([onward(0).bytes()])?;
    eventually(SOON, "the first has gone on", || {
        let passed = quality(&agent, "hairpin")?;
        ensure!(passed == 1, "{passed} hairpins");
        Ok(())
    })?;
    sender.send([1, 1, 2].map(|number| onward(number).bytes()))?;
    eventually(SOON, "all have gone on", || {
        let metrics = agent.metrics()?;
        let of = |name, direction| metrics.sum(name, &[("interface", "b"), ("direction", direction)]) as u64;
        ensure!(of("lossprobe_frames_total", "egress") == 4, "{}", of("lossprobe_frames_total", "egress"));
        let [segments, events] = [SEGMENTS, EVENTS].map(|name| ["ingress", "egress"].map(|way| of(name, way)));
        let skipped = quality(&agent, "hairpin")?;
        ensure!(segments == [4, 0] && events == [0, 1] && skipped == 4, "{segments:?} {events:?}, {skipped} hairpins");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}
