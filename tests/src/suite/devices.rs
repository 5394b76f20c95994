//! What devices, queueing disciplines, input queues and protocols count: as much as their own tools say, under the right
//! name, and nothing where nobody looks.

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tests::{
    agent::{Agent, lossprobe},
    frames::{A, B, Checksum, Mac, ethernet},
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    program,
    raw::{ProgramKind, XdpPlace, attach_xdp, instruction, load_program},
    run::{requires_kernel, requires_module, trial, trial_alone},
    topology::{LEFT, Pair, RIGHT},
    wait::{eventually, settled},
    wire::PacketSocket,
};

use super::counts::SOON;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("devices::full_receive_buffer", full_receive_buffer),
        trial("devices::wrong_header_checksum", wrong_header_checksum),
        trial("devices::another_stations_address", another_stations_address),
        trial("devices::older_than_its_selection", older_than_its_selection),
        trial("devices::absent_is_not_zero", absent_is_not_zero),
        trial("devices::dropped_by_xdp", dropped_by_xdp),
        trial("devices::losses_of_a_clean_topology", losses_of_a_clean_topology),
        trial("devices::losses_by_place", losses_by_place),
    ]
}

/// These need programs that only a host has, or change what all CPUs do.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("devices::tail_drop", tail_drop),
        trial("devices::as_ip_shows_it", as_ip_shows_it),
        trial_alone("devices::input_queue", input_queue),
        trial_alone("devices::a_thousand_interfaces", a_thousand_interfaces),
    ]
}

const COUNT: usize = 200;

fn errors(metrics: &Metrics, protocol: &str, cause: &str) -> Option<f64> {
    metrics.get("lossprobe_protocol_errors_total", &[("protocol", protocol), ("cause", cause)])
}

/// Waits until these protocol errors are exactly so many.
fn has_errors(agent: &Agent<'_>, expected: &[(&str, &str, u64)]) -> Result<()> {
    eventually(SOON, &format!("protocol errors {expected:?}"), || {
        let metrics = agent.metrics()?;
        for (protocol, cause, count) in expected {
            let counted = errors(&metrics, protocol, cause);
            ensure!(counted == Some(*count as f64), "{protocol} {cause}: {counted:?}");
        }
        Ok(())
    })
}

fn full_receive_buffer() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let socket = right.udp((RIGHT, 5000))?;
    setsockopt(&socket, sockopt::RcvBuf, &2048)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let before = right.mib("Udp", "RcvbufErrors")?;
    left.send_udp((RIGHT, 5000), COUNT, 500)?;
    let lost = settled(SOON, Duration::from_millis(200), || right.mib("Udp", "RcvbufErrors"))? - before;
    ensure!(lost > 100, "only {lost} of {COUNT} found no room");
    // The kernel's InErrors repeats them; here each is counted once.
    has_errors(&agent, &[("udp", "receive_buffer", lost), ("udp", "error", 0), ("udp", "checksum", 0)])?;
    agent.stop()
}

fn wrong_header_checksum() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let wrong = |ip: &mut tests::frames::Ipv4| {
        (ip.source, ip.destination) = (LEFT, RIGHT);
        ip.checksum = Checksum::Value(0x1234);
    };
    let frame = ethernet(B, A).ipv4(wrong).udp(1, 5000).payload(18).bytes();
    PacketSocket::sender(left, "a")?.send_copies(&frame, COUNT)?;
    let kernel = |group, name| right.mib(group, name);
    eventually(SOON, "the kernel has counted them", || {
        ensure!(kernel("IpExt", "InCsumErrors")? == COUNT as u64);
        Ok(())
    })?;
    // It counts them as broken headers, too.
    let headers = kernel("Ip", "InHdrErrors")? - COUNT as u64;
    has_errors(&agent, &[("ipv4", "checksum", COUNT as u64), ("ipv4", "header", headers), ("ipv4", "truncated", 0)])?;
    agent.stop()
}

/// Nobody's address: with the interface up and not promiscuous such a frame is for another station.
const ELSEWHERE: Mac = [2, 0, 0, 0, 0, 0x0c];

fn nic_dropped(metrics: &Metrics, cause: &str) -> Option<f64> {
    metrics.get("lossprobe_nic_dropped_packets_total", &[("interface", "b"), ("cause", cause)])
}

fn send_elsewhere(left: &Namespace, frames: usize) -> Result<()> {
    let frame = ethernet(ELSEWHERE, A).ip4().udp(1, 5000).payload(18).bytes();
    PacketSocket::sender(left, "a")?.send_copies(&frame, frames)
}

fn another_stations_address() -> Result<()> {
    requires_kernel(5, 19, "rx_otherhost_dropped")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    send_elsewhere(left, 7)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    send_elsewhere(left, COUNT)?;
    eventually(SOON, "they are counted, without those of before", || {
        let counted = nic_dropped(&agent.metrics()?, "otherhost");
        ensure!(counted == Some(COUNT as f64), "{counted:?}");
        Ok(())
    })?;
    agent.stop()
}

fn older_than_its_selection() -> Result<()> {
    requires_kernel(5, 19, "rx_otherhost_dropped")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    // Zeros are shown of uplinks only.
    let agent = Agent::start(right, &["--interface", "b", "--uplink", "b"])?;
    let shows = |expected: Option<f64>, what: &str| {
        eventually(SOON, what, || {
            let counted = nic_dropped(&agent.metrics()?, "otherhost");
            ensure!(counted == expected, "{counted:?}");
            Ok(())
        })
    };
    send_elsewhere(left, COUNT)?;
    shows(Some(COUNT as f64), "it is selected")?;
    right.rename_down("b", "other")?;
    shows(None, "it is not selected any more")?;
    send_elsewhere(left, COUNT)?;
    right.rename_down("other", "b")?;
    shows(Some(0.0), "it is selected again, and has lost nothing since")?;
    send_elsewhere(left, 7)?;
    shows(Some(7.0), "they are counted, without those of before")?;
    agent.stop()
}

fn absent_is_not_zero() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b", "--uplink", "b"])?;
    left.send_udp((RIGHT, 9), 10, 10)?;
    let metrics = agent.metrics()?;
    let nic = |name: &str| -> Vec<String> {
        metrics.select(name, &[]).filter_map(|sample| sample.labels.get("cause").cloned()).collect()
    };
    // A veth has no cable, and its driver no such counters.
    ensure!(nic("lossprobe_nic_errors_total").is_empty(), "{:?}", nic("lossprobe_nic_errors_total"));
    for cause in ["missed", "fifo", "provider_limit"] {
        ensure!(nic_dropped(&metrics, cause).is_none(), "{cause} is shown");
    }
    // What it has an uplink shows with its zeros.
    for cause in ["xdp_drop", "no_buffer", "nohandler"] {
        ensure!(nic_dropped(&metrics, cause) == Some(0.0), "{cause}: {:?}", nic_dropped(&metrics, cause));
    }
    let snapshot = agent.snapshot()?;
    let device = &snapshot.interfaces[0].device;
    let sources: Vec<_> = device.counters.iter().map(|counter| (&*counter.cause, &*counter.source)).collect();
    ensure!(sources.contains(&("xdp_drop", "ethtool_driver")), "{sources:?}");
    ensure!(device.carrier == Some(true) && device.packets.is_some(), "{device:?}");
    let broken: Vec<_> = snapshot.probe.collect_errors.iter().filter(|(_, errors)| **errors > 0).collect();
    ensure!(broken.is_empty(), "{broken:?}");
    agent.stop()
}

/// What `stats --losses` says of an agent.
fn losses(agent: &Agent<'_>, namespace: &Namespace) -> Result<Value> {
    let socket = agent.socket().to_str().context("path")?;
    let output = lossprobe(namespace, &["stats", "--losses", "--socket", socket, "--output", "json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read its JSON")
}

/// What was lost on `b`: other tests lose packets in other namespaces at the same time.
fn rows_of_b(losses: &Value) -> Result<Vec<&Value>> {
    Ok(losses["lost"].as_array().context("no list")?.iter().filter(|row| row["interface"] == "b").collect())
}

fn losses_of_a_clean_topology() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _sink = right.udp((RIGHT, 5000))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 5000), 50, 10)?;
    let found = losses(&agent, right)?;
    ensure!(rows_of_b(&found)?.is_empty(), "{found}");
    let laws = found["laws"].as_array().context("no laws")?;
    // veth counts packets of any size as one: that is said, and is no remainder of 0.
    ensure!(laws.len() == 2 && laws.iter().all(|law| law["remainder_packets"].is_null()), "{found}");
    ensure!(laws.iter().all(|law| law["not_observable"].as_str().is_some_and(|why| why.contains("veth"))), "{found}");
    ensure!(found["unexplained_packets"].is_null(), "{found}");
    agent.stop()
}

fn losses_by_place() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(
        "table ip t {
            chain c {
                type filter hook input priority 0
                udp dport 5000 drop
            }
        }",
    )?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 5000), COUNT, 10)?;
    eventually(SOON, "the drops are listed, once", || {
        let found = losses(&agent, right)?;
        let rows = rows_of_b(&found)?;
        ensure!(rows.len() == 1 && rows[0]["place"] == "kernel" && rows[0]["packets"] == COUNT, "{found}");
        ensure!(found["policy_packets"].as_u64() >= Some(COUNT as u64), "{found}");
        Ok(())
    })?;
    agent.stop()
}

/// A foreign program that drops everything: no tracepoint and no kernel drop tells of it, only the driver's own counter.
fn dropped_by_xdp() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    // r0 = XDP_DROP; exit
    let program = load_program(ProgramKind::Xdp, &[instruction(0xb7, 0, 0, 1), instruction(0x95, 0, 0, 0)])?;
    let index = right.index("b")?;
    let _link = right.run(|| attach_xdp(&program, index, XdpPlace::Native))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 9), COUNT, 10)?;
    eventually(SOON, "they are counted as the driver does", || {
        let metrics = agent.metrics()?;
        let (counted, no_buffer) = (nic_dropped(&metrics, "xdp_drop"), nic_dropped(&metrics, "no_buffer"));
        ensure!(counted == Some(COUNT as f64) && no_buffer.is_none(), "{counted:?}, no buffer for {no_buffer:?}");
        let passed = metrics.sum("lossprobe_frames_total", &[("interface", "b"), ("direction", "ingress")]);
        ensure!(passed == 0.0, "{passed} frames have passed it");
        let found = losses(&agent, right)?;
        let rows = rows_of_b(&found)?;
        ensure!(rows.len() == 1 && rows[0]["place"] == "device" && rows[0]["packets"] == COUNT, "{found}");
        Ok(())
    })?;
    agent.stop()
}

/// Drops of a device's queueing disciplines as `tc` shows them, by kind.
fn shown_by_tc(namespace: &Namespace, kind: &str) -> Result<u64> {
    let text = program::run(namespace, "tc", &["-s", "-j", "qdisc", "show", "dev", "a"], "")?;
    let json: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let disciplines = json.as_array().context("no list")?.iter().filter(|discipline| discipline["kind"] == kind);
    disciplines.map(|discipline| discipline["drops"].as_u64().with_context(|| text.clone())).sum()
}

/// A slow bucket in front of a short queue: the leaf's drops are counted, and not again as its root's; and they stay when
/// all of it is replaced.
fn tail_drop() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, .. } = &pair;
    let tc = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        program::run(left, "tc", &arguments, "").map(drop)
    };
    let agent = Agent::start(left, &["--interface", "a"])?;
    let dropped = |kind: &str| {
        let labels = [("interface", "a"), ("kind", kind)];
        Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_qdisc_dropped_packets_total", &labels))
    };
    let is_as_tc_says = |kind: &str, before: u64| -> Result<u64> {
        eventually(SOON, &format!("drops of {kind} are those of tc"), || {
            let (tc, agent) = (shown_by_tc(left, kind)?, dropped(kind)?);
            ensure!(tc > 0 && agent == (before + tc) as f64, "{tc} by tc, {agent} by the agent, {before} before");
            Ok(tc)
        })
    };
    tc("qdisc add dev a root handle 1: tbf rate 8kbit burst 2000 limit 3000")?;
    left.send_udp((RIGHT, 5000), COUNT, 1000)?;
    let by_tbf = is_as_tc_says("tbf", 0)?;
    ensure!(by_tbf > COUNT as u64 / 2, "{by_tbf} of {COUNT} dropped");

    // A leaf of its own, in the list: from now on the bucket only repeats it.
    tc("qdisc add dev a parent 1:1 handle 10: pfifo limit 3")?;
    left.send_udp((RIGHT, 5000), COUNT, 1000)?;
    let by_pfifo = is_as_tc_says("pfifo", 0)?;
    ensure!(shown_by_tc(left, "tbf")? >= by_tbf + by_pfifo, "the root does not repeat its leaf");
    // The queue that was thrown away when the leaf was hung in counts for the bucket.
    let own = dropped("tbf")?;
    ensure!((own - by_tbf as f64) <= 3.0, "{own} of tbf, {by_tbf} before it had a leaf");

    // Replaced: the old ones' drops stay, the new one's begin at nothing.
    tc("qdisc replace dev a root handle 2: tbf rate 8kbit burst 2000 limit 3000")?;
    left.send_udp((RIGHT, 5000), COUNT, 1000)?;
    is_as_tc_says("tbf", own as u64)?;
    ensure!(dropped("pfifo")? == by_pfifo as f64, "the leaf's drops are gone with it");
    eventually(SOON, "what waits is shown", || {
        let snapshot = agent.snapshot()?;
        let qdiscs = &snapshot.interfaces[0].qdiscs;
        let waits = qdiscs.iter().any(|qdisc| qdisc.kind == "tbf" && qdisc.overlimits > 0 && qdisc.backlog_packets > 0);
        ensure!(waits, "{qdiscs:?}");
        Ok(())
    })?;
    agent.stop()
}

/// `ip -s -s link` as second opinion of a driver of which nothing is known here: a VXLAN device counts packets whose mark
/// of congestion the packet inside cannot take (RFC 6040) as frame errors.
fn as_ip_shows_it() -> Result<()> {
    const CONGESTION_EXPERIENCED: u8 = 3;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    requires_module("vxlan", right.vxlan("vx", "b", 7, LEFT.into()))?;
    let shown = || -> Result<u64> {
        let text = program::run(right, "ip", &["-s", "-s", "-j", "link", "show", "dev", "vx"], "")?;
        let json: Value = serde_json::from_str(&text)?;
        json[0]["stats64"]["rx"]["frame_errors"].as_u64().with_context(|| text)
    };
    let agent = Agent::start(right, &["--interface", "vx"])?;
    let inner = ethernet([0xff; 6], ELSEWHERE).ip4().udp(1, 5000).payload(18).bytes();
    let marked = |ip: &mut tests::frames::Ipv4| {
        (ip.source, ip.destination, ip.traffic_class) = (LEFT, RIGHT, CONGESTION_EXPERIENCED);
    };
    let header = [8, 0, 0, 0, 0, 0, 7, 0];
    let frame = ethernet(B, A).ipv4(marked).udp(4789, 4789).data([&header[..], &inner].concat()).bytes();
    PacketSocket::sender(left, "a")?.send_copies(&frame, COUNT)?;
    eventually(SOON, "both have counted the same", || {
        let labels = [("interface", "vx"), ("direction", "ingress"), ("cause", "frame")];
        let (ip, agent) = (shown()?, agent.metrics()?.get("lossprobe_nic_errors_total", &labels));
        ensure!(ip == COUNT as u64 && agent == Some(ip as f64), "{ip} by ip, {agent:?} by the agent");
        Ok(())
    })?;
    agent.stop()
}

const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

/// A setting of the whole machine, put back when dropped.
struct MaxBacklog(String);

impl MaxBacklog {
    fn set(packets: u32) -> Result<Self> {
        let before = fs::read_to_string(MAX_BACKLOG).context("read the longest input queue")?;
        fs::write(MAX_BACKLOG, packets.to_string()).context("shorten the input queues")?;
        Ok(Self(before))
    }
}

impl Drop for MaxBacklog {
    fn drop(&mut self) {
        // Nothing to be done about it here.
        let _unset = fs::write(MAX_BACKLOG, self.0.trim());
    }
}

/// Packets that found the input queue of a CPU full, in whichever namespace: of all that were since the machine started.
pub(super) fn input_queue_drops() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/softnet_stat")?;
    let dropped = text.lines().filter_map(|line| line.split(' ').nth(1));
    dropped.map(|dropped| u64::from_str_radix(dropped, 16).context("softnet_stat")).sum()
}

/// Packets steered to the other CPU's input queue, which takes one.
fn input_queue() -> Result<()> {
    let Pair { left, right } = Pair::new()?;
    let right = right.seeing_devices();
    let steer = "echo 3 > /sys/class/net/b/queues/rx-0/rps_cpus";
    program::run(&right, "sh", &["-c", steer], "")?;
    let agent = Agent::start(&right, &["--interface", "b"])?;
    let kernel = input_queue_drops;
    let agents = || -> Result<f64> {
        agent.metrics()?.get("lossprobe_softnet_dropped_packets_total", &[]).context("it is not shown")
    };
    let before = (kernel()?, agents()?);
    let frames: Vec<_> = (1..=250_u16).map(|port| ethernet(B, A).ip4().udp(port, 5000).payload(18).bytes()).collect();
    let socket = PacketSocket::sender(&left, "a")?;
    {
        let _short = MaxBacklog::set(1)?;
        eventually(SOON, "packets are lost in an input queue", || {
            // The sender is told of what did not fit.
            let _lost = frames.iter().map(|frame| socket.send([frame])).filter(Result::is_err).count();
            ensure!(kernel()? > before.0, "none lost");
            Ok(())
        })?;
    }
    eventually(SOON, "the agent has counted as many", || {
        let (kernel, agent) = (kernel()? - before.0, agents()? - before.1);
        ensure!(agent == kernel as f64, "{kernel} by the kernel, {agent} by the agent");
        Ok(())
    })?;
    agent.stop()
}

/// They are counted from the first one on that is attached to, and let go and taken again when told to. How long a snapshot takes is
/// shown, not judged: a busy machine is no failure. A thousand with `--full` only, since it takes half a minute to attach to them and
/// to let go; fewer are too quick for the programs to go to rest.
fn a_thousand_interfaces() -> Result<()> {
    let pairs = if env::var_os("LOSSPROBE_FULL").is_some() { 500 } else { 50 };
    let namespace = Namespace::new("many")?;
    for pair in 0..pairs {
        veth(End::new(&namespace, &format!("x{pair}")), End::new(&namespace, &format!("y{pair}")))?;
    }
    let agent = Agent::start(&namespace, &["--max-interfaces", "1024"])?;
    let (mut times, mut last) = (Vec::new(), String::new());
    for _ in 0..10 {
        let snapshot = eventually(SOON, "the next tick's snapshot", || {
            let snapshot = agent.snapshot()?;
            ensure!(snapshot.time != last);
            Ok(snapshot)
        })?;
        last.clone_from(&snapshot.time);
        ensure!(snapshot.interfaces.len() == 2 * pairs, "{} interfaces", snapshot.interfaces.len());
        let of_all = snapshot.interfaces.iter().filter(|interface| interface.device.packets.is_some()).count();
        ensure!(of_all == 2 * pairs, "devices of {of_all} were read");
        let broken: Vec<_> = snapshot.probe.collect_errors.iter().filter(|(_, errors)| **errors > 0).collect();
        ensure!(broken.is_empty(), "{broken:?}");
        times.push(snapshot.probe.snapshot_us);
    }
    // The programs rest when no sign of life comes for 10 s; and who gives orders waits until they are carried out.
    let uncounted = agent.metrics()?.sum("lossprobe_uncounted_seconds_total", &[]);
    ensure!(uncounted == 0.0, "nothing was counted for {uncounted} s");
    for (order, state) in [("detach", "detached"), ("resume", "running")] {
        agent.order(order)?;
        ensure!(agent.json("/api/v1/snapshot")?["state"] == state, "not {state}");
    }
    times.sort_unstable();
    println!(
        "snapshot of {} interfaces: median {} us, longest {} us",
        2 * pairs,
        times[times.len() / 2],
        times[times.len() - 1]
    );
    Ok(())
}
