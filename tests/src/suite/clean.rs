//! The two ends of what a verdict about frames must hold: ordinary traffic has none of it, however it is cut, merged and
//! carried; and a flood of malformed frames loses no count.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{B, Checksum, Mac, ethernet},
    metrics::Metrics,
    namespace::Namespace,
    pump::{Datagrams, Path},
    run::{is_full, requires_module, trial},
    topology::{Bridged, LEFT, Pair, RIGHT, RIGHT6},
    wait::{eventually, settled},
    wire::PacketSocket,
};

use super::{
    counts::{SOON, lost_nothing},
    devices::input_queue_drops,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("malformed::clean_traffic", clean_traffic),
        trial("malformed::clean_traffic_without_offloads", clean_traffic_without_offloads),
        trial("malformed::clean_traffic_of_a_bridge", clean_traffic_of_a_bridge),
        trial("malformed::clean_traffic_of_a_tunnel", clean_traffic_of_a_tunnel),
        trial("malformed::clean_traffic_that_others_carry", clean_traffic_that_others_carry),
        trial("malformed::a_flood_loses_no_count", a_flood_loses_no_count),
    ]
}

/// Bytes of one TCP connection; four kinds of path, most of them twice, make 10 GB of a full run.
fn stream_bytes() -> usize {
    if is_full() { 1_500_000_000 } else { 48 << 20 }
}

/// How long one connection may take, on a machine that is busy.
const TRANSFER: Duration = Duration::from_mins(3);

/// One TCP connection, and datagrams there and back.
fn talk(left: &Namespace, right: &Namespace, to: IpAddr, port: u16) -> Result<()> {
    left.tcp_transfer(right, (to, port).into(), stream_bytes(), TRANSFER)?;
    let mut datagrams = Datagrams::new(&Path::new(left, right, (to, port + 1)))?;
    datagrams.pass(if is_full() { 200_000 } else { 5000 })?;
    datagrams.finish()?;
    Ok(())
}

/// Nothing is malformed, and all that was looked at is right.
fn is_clean(agent: Agent<'_>) -> Result<()> {
    let metrics = at_rest(&agent)?;
    let found: Vec<_> =
        metrics.select("lossprobe_malformed_frames_total", &[]).filter(|sample| sample.value > 0.0).collect();
    ensure!(found.is_empty(), "{found:?}");
    let bad = metrics.sum("lossprobe_l4_checksums_total", &[("result", "bad")]);
    ensure!(bad == 0.0, "{bad} checksums are wrong");
    ensure!(metrics.sum("lossprobe_frames_total", &[]) * 100.0 > stream_bytes() as f64 / 1500.0, "hardly a frame");
    lost_nothing(&agent)?;
    agent.stop()
}

/// When nothing comes any more.
fn at_rest(agent: &Agent<'_>) -> Result<Metrics> {
    settled(SOON, Duration::from_millis(300), || Ok(agent.metrics()?.sum("lossprobe_frames_total", &[])))?;
    agent.metrics()
}

fn clean_traffic() -> Result<()> {
    let pair = Pair::new()?.with_ipv6()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b"])?;
    talk(left, right, RIGHT.into(), 9000)?;
    talk(left, right, RIGHT6.into(), 9100)?;
    is_clean(agent)
}

/// Then each segment is a packet of its own, and its checksum is there.
fn clean_traffic_without_offloads() -> Result<()> {
    const OFF: [(&str, bool); 4] = [
        ("tx-checksum-ip-generic", false),
        ("tx-tcp-segmentation", false),
        ("tx-tcp6-segmentation", false),
        ("tx-generic-segmentation", false),
    ];
    let pair = Pair::new()?.with_ipv6()?;
    let Pair { left, right } = &pair;
    left.offloads("a", &OFF)?;
    right.offloads("b", &OFF)?;
    let agent = Agent::start(right, &["--interface", "b", "--track", "b"])?;
    talk(left, right, RIGHT.into(), 9000)?;
    talk(left, right, RIGHT6.into(), 9100)?;
    let good = agent.metrics()?.sum("lossprobe_l4_checksums_total", &[("result", "good")]);
    // Some thousand packets a second.
    ensure!(good > 100.0, "only {good} checksums were looked at");
    is_clean(agent)
}

fn clean_traffic_of_a_bridge() -> Result<()> {
    let bridged = Bridged::new()?;
    let Bridged { left, switch, right } = &bridged;
    let agent = Agent::start(switch, &["--track", "p1", "--track", "p2", "--ports", "each"])?;
    talk(left, right, RIGHT.into(), 9000)?;
    is_clean(agent)
}

fn clean_traffic_of_a_tunnel() -> Result<()> {
    let (near, far) = (Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 7, 0, 2));
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    requires_module("vxlan", right.vxlan("vx", "b", 7, LEFT.into()))?;
    left.vxlan("vx", "a", 7, RIGHT.into())?;
    left.address("vx", near, 24)?;
    right.address("vx", far, 24)?;
    let agent = Agent::start(right, &["--track", "b"])?;
    talk(left, right, far.into(), 9000)?;
    is_clean(agent)
}

/// A tunnel between two others, of a port that nobody knows: its outer checksums are those of what will be sent, once
/// somebody has finished the inner ones.
fn clean_traffic_that_others_carry() -> Result<()> {
    let bridged = Bridged::new()?;
    let Bridged { left, switch, right } = &bridged;
    for (namespace, lower, remote, own) in
        [(left, "a", RIGHT, Ipv4Addr::new(10, 7, 0, 1)), (right, "b", LEFT, Ipv4Addr::new(10, 7, 0, 2))]
    {
        requires_module("vxlan", namespace.vxlan_with_checksums("vx", lower, 4096, remote.into()))?;
        namespace.address("vx", own, 24)?;
    }
    let agent = Agent::start(switch, &["--track", "p1", "--track", "p2", "--ports", "each"])?;
    talk(left, right, Ipv4Addr::new(10, 7, 0, 2).into(), 9000)?;
    is_clean(agent)
}

/// As fast as one CPU can send, of several kinds and from many senders: each counts where it leaves, and where it arrives
/// all but those that found no room in the input queue of a CPU.
fn a_flood_loses_no_count() -> Result<()> {
    let rounds = if is_full() { 400 } else { 20 };
    const EACH: usize = 1000;
    let from = |number: usize| -> Mac { [2, 0, 0, 9, (number >> 8) as u8, number as u8] };
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let (leaving, arriving) = (Agent::start(left, &["--interface", "a"])?, Agent::start(right, &["--interface", "b"])?);
    let sender = PacketSocket::sender(left, "a")?;
    let queued = input_queue_drops()?;
    for round in 0..rounds {
        let link = || ethernet(B, from(round));
        let frames = [
            link().ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(18),
            link().ipv4(|ip| ip.total_length += 100).udp(1, 2).payload(18),
            link().ip4().tcp_with(1, 2, |tcp| tcp.flags = 0).payload(6),
            link().ip4().tcp_with(1, 2, |tcp| tcp.options = vec![1, 1, 8, 40]).payload(2),
        ];
        for frame in frames {
            sender.flood(&frame.bytes(), EACH)?;
        }
    }
    let each = (rounds * EACH) as f64;
    let reasons = ["ip4_csum", "ip4_trunc", "tcp_flags", "tcp_opt"];
    let counted = |agent: &Agent<'_>, direction: &str| -> Result<[f64; 4]> {
        let metrics = agent.metrics()?;
        Ok(reasons.map(|reason| {
            metrics.sum("lossprobe_malformed_frames_total", &[("direction", direction), ("reason", reason)])
        }))
    };
    let left_by = counted(&leaving, "egress")?;
    ensure!(left_by == [each; 4], "{left_by:?} of {each} each have left");
    eventually(SOON, "all have come", || {
        let came = counted(&arriving, "ingress")?;
        let lost = (input_queue_drops()? - queued) as f64;
        let missing = 4.0 * each - came.iter().sum::<f64>();
        // Others may lose packets in these queues, too, but no packet is in both.
        ensure!(missing >= 0.0 && missing <= lost, "{came:?} of {each} each, {lost} found no room before");
        Ok(())
    })?;
    lost_nothing(&leaving)?;
    lost_nothing(&arriving)?;
    leaving.stop()?;
    arriving.stop()
}
