//! Packets that the kernel drops: as many as were dropped, by the right name, on the right interface.

use std::{io::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::socket::{setsockopt, sockopt};
use probe_user::snapshot::ForeignDrop;
use tests::{
    agent::Agent,
    frames::{A, B, ethernet},
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    raw::{TunKind, open_tun},
    run::{kernel_version, requires_kernel, trial, trial_alone},
    topology::{CLIENT, CLIENT_MAC, Pair, RIGHT, ROUTER1_MAC, Routed, SERVER},
    wait::eventually,
    wire::{Gso, PacketSocket},
};

use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("drops::packet_filter_on_input", packet_filter_on_input),
        trial("drops::packet_filter_on_forward", packet_filter_on_forward),
        trial("drops::packet_filter_on_output", packet_filter_on_output),
        trial("drops::closed_udp_port", closed_udp_port),
        trial("drops::a_successor_starts_at_nothing", a_successor_starts_at_nothing),
        trial("drops::of_other_namespaces_have_no_name", of_other_namespaces_have_no_name),
        trial("drops::gso_packet_is_its_segments", gso_packet_is_its_segments),
        trial("drops::gso_packet_of_a_guest_is_its_segments", gso_packet_of_a_guest_is_its_segments),
        trial("drops::have_a_function", have_a_function),
        trial("drops::members_of_a_frag_list_count_once", members_of_a_frag_list_count_once),
    ]
}

/// Emulated machines are not fast enough for a storm.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial_alone("drops::storm_is_counted_exactly_and_attributed_by_sample", storm)]
}

const COUNT: usize = 1000;

/// A packet filter that counts and drops UDP to port 5000 at one hook.
fn drop_rule(hook: &str) -> String {
    format!(
        "table ip t {{
            counter gone {{}}
            chain c {{
                type filter hook {hook} priority 0
                udp dport 5000 counter name gone drop
            }}
        }}"
    )
}

/// Segments dropped for `reason` on `interface`.
fn dropped(metrics: &Metrics, interface: &str, reason: &str, class: &str) -> f64 {
    let labels = [("interface", interface), ("reason", reason), ("class", class)];
    metrics.sum("lossprobe_dropped_packets_total", &labels)
}

/// Runs `traffic` and expects exactly `count` more of these drops, and no other drop on that interface. Before 5.18 a
/// drop has no name (or not yet that of packet filters) and is only counted.
fn drops_exactly(
    agent: &Agent<'_>,
    (interface, reason, class): (&str, &str, &str),
    count: usize,
    traffic: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let now = || -> Result<(f64, f64)> {
        let metrics = agent.metrics()?;
        let all = metrics.sum("lossprobe_dropped_packets_total", &[("interface", interface)]);
        Ok((dropped(&metrics, interface, reason, class), all))
    };
    let nameless = kernel_version()?.0 < (5, 18);
    let before = now()?;
    traffic()?;
    eventually(SOON, &format!("{count} drops {reason} ({class}) on {interface}"), || {
        let (named, all) = now()?;
        let (named, all) = (named - before.0, all - before.1);
        let named_right = nameless || named == count as f64;
        if !named_right || all != count as f64 {
            let metrics = agent.metrics()?;
            let seen: Vec<_> = metrics.select("lossprobe_dropped_packets_total", &[("netns", "own")]).collect();
            anyhow::bail!("{named} of that name, {all} in all; now {seen:?}");
        }
        Ok(())
    })?;
    lost_nothing(agent)
}

fn packet_filter_on_input() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(&drop_rule("input"))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    drops_exactly(&agent, ("b", "netfilter_drop", "policy"), COUNT, || left.send_udp((RIGHT, 5000), COUNT, 10))?;
    assert_eq!(right.nft_counter("ip t", "gone")?.0, COUNT as u64);
    agent.stop()
}

fn packet_filter_on_forward() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, server } = &net;
    let _sink = server.udp((SERVER, 5001))?;
    router.nft(&drop_rule("forward"))?;
    let agent = Agent::start(router, &["--interface", "r*"])?;
    drops_exactly(&agent, ("r1", "netfilter_drop", "policy"), COUNT, || {
        client.send_udp((SERVER, 5001), COUNT, 10)?;
        client.send_udp((SERVER, 5000), COUNT, 10)
    })?;
    agent.stop()
}

/// In the output hook a packet has no device yet: its route's device is named.
fn packet_filter_on_output() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, .. } = &pair;
    left.nft(&drop_rule("output"))?;
    let agent = Agent::start(left, &["--interface", "a"])?;
    let socket = left.udp(([0; 4], 0))?;
    drops_exactly(&agent, ("a", "netfilter_drop", "policy"), COUNT, || {
        for _ in 0..COUNT {
            let refused = socket.send_to(b"x", SocketAddr::from((RIGHT, 5000)));
            ensure!(refused.is_err(), "the packet filter has let a datagram pass");
        }
        Ok(())
    })?;
    agent.stop()
}

fn closed_udp_port() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    drops_exactly(&agent, ("b", "no_socket", "noise"), COUNT, || left.send_udp((RIGHT, 9), COUNT, 10))?;
    agent.stop()
}

/// An interface that bears the name of one that is gone, whose drops are still shown then, has none of them; and the
/// counter under its name does not fall when they are forgotten for good.
fn a_successor_starts_at_nothing() -> Result<()> {
    requires_kernel(5, 18, "the drop reason of a packet filter")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(
        "table netdev t {
            chain c {
                type filter hook ingress device b priority 0
                drop
            }
        }",
    )?;
    let agent = Agent::start(right, &["--interface", "b*"])?;
    drops_exactly(&agent, ("b", "netfilter_drop", "policy"), COUNT, || left.send_udp((RIGHT, 9), COUNT, 10))?;
    let first = right.index("b")?;
    right.delete("b")?;
    veth(End::new(left, "a").mac(A), End::new(right, "b").mac(B))?;
    assert_ne!(first, right.index("b")?);
    eventually(SOON, "the successor has no drops", || {
        let metrics = agent.metrics()?;
        let frames = metrics.select("lossprobe_frames_total", &[("interface", "b")]).count();
        let dropped = dropped(&metrics, "b", "netfilter_drop", "policy");
        ensure!(frames > 0 && dropped == 0.0, "{dropped}, of {frames} directions");
        Ok(())
    })?;
    agent.stop()
}

/// Interface numbers repeat in every namespace, so that only the agent's own have a name.
fn of_other_namespaces_have_no_name() -> Result<()> {
    requires_kernel(5, 18, "the drop reason of a packet filter")?;
    let (here, there) = (Pair::new()?, Pair::new()?);
    assert_eq!(here.right.index("b")?, there.right.index("b")?);
    there.right.nft(&drop_rule("input"))?;
    let agent = Agent::start(&here.right, &["--interface", "b"])?;
    let other = |metrics: &Metrics| {
        let labels = [("interface", ""), ("reason", "netfilter_drop"), ("netns", "other")];
        metrics.sum("lossprobe_dropped_packets_total", &labels)
    };
    let before = other(&agent.metrics()?);
    there.left.send_udp((RIGHT, 5000), COUNT, 10)?;
    eventually(SOON, "the other namespace's drops are counted", || {
        let metrics = agent.metrics()?;
        let own = dropped(&metrics, "b", "netfilter_drop", "policy");
        ensure!(own == 0.0, "{own} of them have the name of an interface here");
        // Tests of other subjects drop packets at the same time.
        let counted = other(&metrics) - before;
        ensure!(counted >= COUNT as f64, "{counted} counted");
        Ok(())
    })?;
    // By namespace they are exact.
    let inode = u32::try_from(there.right.inode()?)?;
    eventually(SOON, "the other namespace's drops are told apart", || {
        let foreign = agent.snapshot()?.foreign_drops;
        let of_there = |drop: &&ForeignDrop| drop.netns == inode && drop.reason == "netfilter_drop";
        let packets = foreign.iter().find(of_there).map(|drop| drop.packets);
        ensure!(packets == Some(COUNT as u64), "{packets:?} of {inode} in {foreign:?}");
        Ok(())
    })?;
    agent.stop()
}

/// The kernel says where it gives a packet up, and its symbols say which function that is.
fn have_a_function() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(&drop_rule("input"))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    left.send_udp((RIGHT, 5000), COUNT, 10)?;
    eventually(SOON, "the packet filter's function is named", || {
        let sites = agent.snapshot()?.drop_sites;
        let of_filter =
            |function: &str| ["nf_hook_slow+0x", "nft_do_chain+0x"].iter().any(|it| function.starts_with(it));
        let here = sites.iter().filter(|site| site.interface == "b" && of_filter(&site.function));
        let (packets, reasons): (Vec<_>, Vec<_>) = here.map(|site| (site.packets, site.reason.as_str())).unzip();
        ensure!((packets, reasons) == (vec![COUNT as u64], vec!["netfilter_drop"]), "{sites:?}");
        Ok(())
    })?;
    agent.stop()
}

/// What a guest hands to its tap says how long its segments are, and not how many.
fn gso_packet_of_a_guest_is_its_segments() -> Result<()> {
    const PACKETS: usize = 100;
    let namespace = Namespace::new("guest")?;
    let mut tap = namespace.run(|| open_tun("tap0", TunKind::GuestTap))?;
    namespace.up("tap0")?;
    namespace.nft(
        "table netdev t {
            chain c {
                type filter hook ingress device tap0 priority 0
                tcp dport 5000 drop
            }
        }",
    )?;
    let agent = Agent::start(&namespace, &["--interface", "tap0"])?;
    let frame = ethernet(B, A).ip4().tcp(1, 5000).payload(9500).bytes();
    let gso = Gso { segment_bytes: 1000, header_bytes: 54, transport_at: 34, version6: false };
    let packet = [&gso.header()[..], &frame].concat();
    drops_exactly(&agent, ("tap0", "netfilter_drop", "policy"), PACKETS * 10, || {
        Ok((0..PACKETS).try_for_each(|_| tap.write_all(&packet))?)
    })?;
    agent.stop()
}

fn gso_packet_is_its_segments() -> Result<()> {
    let net = Routed::new()?;
    let Routed { client, router, .. } = &net;
    router.nft(
        "table ip t {
            counter gone {}
            chain c {
                type filter hook forward priority 0
                tcp dport 5000 counter name gone drop
            }
        }",
    )?;
    let agent = Agent::start(router, &["--interface", "r1"])?;
    let addresses = |ip: &mut tests::frames::Ipv4| (ip.source, ip.destination) = (CLIENT, SERVER);
    let frame = ethernet(ROUTER1_MAC, CLIENT_MAC).ipv4(addresses).tcp(1, 5000).payload(9500).bytes();
    let gso = Gso { segment_bytes: 1000, header_bytes: 54, transport_at: 34, version6: false };
    let socket = PacketSocket::sender(client, "c")?;
    drops_exactly(&agent, ("r1", "netfilter_drop", "policy"), 100 * 10, || {
        (0..100).try_for_each(|_| socket.send_gso(&frame, gso))
    })?;
    assert_eq!(router.nft_counter("ip t", "gone")?.0, 100, "the router saw whole packets");
    agent.stop()
}

/// Merged into one packet with a list of members, 20 datagrams are dropped once: by name for the packet, and once more
/// without a reason for each member, which must not count again.
fn members_of_a_frag_list_count_once() -> Result<()> {
    const PACKETS: usize = 10;
    const MEMBERS: usize = 20;
    requires_kernel(5, 13, "GRO on veth")?;
    let net = Routed::new()?;
    let Routed { client, router, .. } = &net;
    // One send of 20 datagrams is cut in front of the device, crosses as one batch, and is merged behind it.
    client.offloads("c", &[("tx-udp-segmentation", false)])?;
    router.offloads("r1", &[("gro", true), ("rx-gro-list", true)])?;
    router.nft(&drop_rule("forward"))?;
    let agent = Agent::start(router, &["--interface", "r1"])?;
    let members = || Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_drop_members_total", &[]));
    let before = members()?;
    let socket = client.udp((CLIENT, 6000))?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &1000)?;
    drops_exactly(&agent, ("r1", "netfilter_drop", "policy"), PACKETS * MEMBERS, || {
        for _ in 0..PACKETS {
            socket.send_to(&[0; MEMBERS * 1000], SocketAddr::from((SERVER, 5000)))?;
        }
        Ok(())
    })?;
    let packets = router.nft_counter("ip t", "gone")?.0;
    ensure!(packets == PACKETS as u64, "the batches were not merged: {packets} packets");
    let counted = members()? - before;
    ensure!(counted >= (PACKETS * (MEMBERS - 1)) as f64, "{counted} members seen");
    agent.stop()
}

/// More than 100,000 drops a second on one CPU, of two interfaces in turn: none is lost, the agent says that their
/// interface is a sample's, and the sample is fair. Somebody else's packet filter on this machine can be that sample.
fn storm() -> Result<()> {
    const EACH: usize = 250_000;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    veth(End::new(left, "a2").mac(A), End::new(right, "b2").mac(B))?;
    right.nft(
        "table netdev t {
            chain c {
                type filter hook ingress devices = { b, b2 } priority 0
                udp dport 5000 drop
            }
        }",
    )?;
    let agent = Agent::start(right, &["--interface", "b*"])?;
    let frame = ethernet(B, A).ip4().udp(1, 5000).payload(18).bytes();
    let senders = [PacketSocket::sender(left, "a")?, PacketSocket::sender(left, "a2")?];
    for _ in 0..EACH {
        senders.iter().try_for_each(|sender| sender.send_copies(&frame, 1))?;
    }
    eventually(SOON, "every drop is counted or waits for its sample", || {
        let snapshot = agent.snapshot()?;
        let of = |interface: &str| -> u64 {
            let drops = snapshot.drops.iter().filter(|drop| drop.interface == interface);
            drops.filter(|drop| drop.reason == "netfilter_drop").map(|drop| drop.packets).sum()
        };
        let (one, other, probe) = (of("b"), of("b2"), &snapshot.probe);
        let (storm, waiting) = (probe.drop_storm_packets, probe.drop_storm_waiting_packets);
        let foreign = snapshot.foreign_drops.iter().filter(|drop| drop.reason == "netfilter_drop");
        let foreign: u64 = foreign.map(|drop| drop.packets).sum();
        let found = one + other + waiting;
        let missing = (2 * EACH as u64).checked_sub(found).context("more than was sent")?;
        ensure!(missing <= foreign, "{one} + {other} counted, {waiting} wait, {foreign} elsewhere");
        ensure!(storm > EACH as u64, "only {storm} drops came in a storm: was this machine slow?");
        ensure!(waiting < 200, "{waiting} wait for one reason on two CPUs");
        let share = one as f64 / (one + other) as f64;
        ensure!((0.45..0.55).contains(&share), "{share} of the drops are said to be of the first interface");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}
