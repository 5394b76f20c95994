//! Native XDP where it was asked for: counted once, refused where it would do harm, gone with the agent.

use std::{fs::File, io::Write as _};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{Xdp, XdpMode};
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use probe_ebpf::abi::program;
use probe_user::kernel::load::{Capacity, load};
use tests::{
    agent::Agent,
    frames::{A, B, Checksum, ethernet},
    namespace::Namespace,
    raw::{TunKind, open_tun},
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::counts::{Counts, SOON, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("attach_xdp::refused_on_veth", refused_on_veth),
        trial("attach_xdp::counts_on_a_tap", counts_on_a_tap),
        trial("attach_xdp::refused_beside_another_program", refused_beside_another_program),
        trial("attach_xdp::taken_back_if_the_device_changes", taken_back_if_the_device_changes),
        trial("attach_xdp::refused_for_a_great_mtu_and_for_tun", refused_for_a_great_mtu_and_for_tun),
    ]
}

/// What hangs on the interface, `hook mode position`, and why not what was asked for.
fn hooks(agent: &Agent<'_>, interface: &str) -> Result<(Vec<String>, String)> {
    let snapshot = agent.snapshot()?;
    let found = snapshot.interfaces.iter().find(|found| found.name == interface);
    let found = found.with_context(|| format!("no interface {interface}"))?;
    let attached = found.attached.iter();
    let hooks = attached.map(|hook| format!("{} {} {}", hook.hook, hook.mode, hook.position)).collect();
    Ok((hooks, found.refused.clone()))
}

/// tc counts ingress instead, and the reason is named.
fn is_refused(agent: &Agent<'_>, interface: &str, reason: &str) -> Result<()> {
    eventually(SOON, &format!("{interface} is refused: {reason}"), || {
        let (hooks, refused) = hooks(agent, interface)?;
        ensure!(hooks.first().is_some_and(|hook| hook.starts_with("tc_ingress ")), "{hooks:?}");
        ensure!(refused.contains("no native XDP, tc ingress instead") && refused.contains(reason), "{refused:?}");
        ensure!(agent.log().contains(reason), "the log does not say so");
        Ok(())
    })
}

fn is_native(agent: &Agent<'_>, interface: &str) -> Result<()> {
    let (hooks, refused) = hooks(agent, interface)?;
    ensure!(
        hooks.len() == 2 && hooks[0] == "xdp native only" && hooks[1].starts_with("tc_egress "),
        "{hooks:?} {refused}"
    );
    ensure!(refused.is_empty(), "{refused}");
    Ok(())
}

fn tap(namespace: &Namespace) -> Result<File> {
    let tap = namespace.run(|| open_tun("tap0", TunKind::Tap))?;
    namespace.up("tap0")?;
    Ok(tap)
}

/// It would clear the segmentation offload of the peer, which is in somebody else's namespace.
fn refused_on_veth() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let offloads = || tests::program::run(left, "ethtool", &["-k", "a"], "");
    let before = offloads()?;
    let agent = Agent::start(right, &["--interface", "b", "--xdp", "*"])?;
    is_refused(&agent, "b", "veth")?;
    assert_eq!(before, offloads()?);
    let (_sink, frame) = (right.udp((RIGHT, 5000))?, 14 + 20 + 8 + 10);
    counts_exactly(&agent, ("b", "ingress"), Counts::new(10, 10 * frame), || left.send_udp((RIGHT, 5000), 10, 10))?;
    agent.stop()
}

/// Exactly what is written into a tap, each frame once; nothing of the agent is left when it is killed.
fn counts_on_a_tap() -> Result<()> {
    let namespace = Namespace::new("tap")?;
    let mut tap = tap(&namespace)?;
    let agent = Agent::start(&namespace, &["--interface", "tap0", "--xdp", "tap*"])?;
    is_native(&agent, "tap0")?;
    let good = ethernet(B, A).ip4().udp(1000, 2000).payload(22).bytes();
    let bad = ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1000, 2000).payload(400).bytes();
    let malformed = |reason: &str| -> Result<f64> {
        let labels = [("interface", "tap0"), ("direction", "ingress"), ("reason", reason)];
        Ok(agent.metrics()?.sum("lossprobe_malformed_frames_total", &labels))
    };
    // The driver runs the program before it makes a packet only for who does not wait.
    for (round, flags) in [(1, OFlag::empty()), (2, OFlag::O_NONBLOCK)] {
        fcntl(&tap, FcntlArg::F_SETFL(flags))?;
        let expected = Counts::new(100 + 7, (100 * good.len() + 7 * bad.len()) as u64);
        counts_exactly(&agent, ("tap0", "ingress"), expected, || {
            (0..100).try_for_each(|_| tap.write_all(&good))?;
            Ok((0..7).try_for_each(|_| tap.write_all(&bad))?)
        })?;
        let found = malformed("ip4_csum")?;
        ensure!(found == f64::from(7 * round), "{found} malformed frames in round {round}");
    }
    ensure!(agent.metrics()?.sum("lossprobe_malformed_frames_total", &[]) == malformed("ip4_csum")?, "another reason");
    lost_nothing(&agent)?;
    agent.kill_9()?;
    // What is left of it would be another program.
    let next = Agent::start(&namespace, &["--interface", "tap0", "--xdp", "tap0"])?;
    is_native(&next, "tap0")?;
    next.stop()
}

fn refused_beside_another_program() -> Result<()> {
    let namespace = Namespace::new("foreign")?;
    let mut tap = tap(&namespace)?;
    let mut foreign = namespace.run(|| load(Capacity::for_interfaces(1)))?;
    let xdp: &mut Xdp = foreign.ebpf.program_mut(program::XDP).context("no XDP program")?.try_into()?;
    xdp.load()?;
    let _link = namespace.run(|| Ok(xdp.attach("tap0", XdpMode::Driver)?))?;
    let agent = Agent::start(&namespace, &["--interface", "tap0", "--xdp", "tap0"])?;
    is_refused(&agent, "tap0", &format!("another XDP program (number {})", xdp.info()?.id()))?;
    let frame = ethernet(B, A).ip4().udp(1000, 2000).payload(22).bytes();
    counts_exactly(&agent, ("tap0", "ingress"), Counts::new(10, 10 * frame.len() as u64), || {
        Ok((0..10).try_for_each(|_| tap.write_all(&frame))?)
    })?;
    agent.stop()?;
    let still_there = namespace.run(|| Ok(xdp.attach("tap0", XdpMode::Driver).is_err()))?;
    ensure!(still_there, "the foreign program's place is free");
    Ok(())
}

/// Whoever changes the device's offloads right after the attachment: the agent must take it for its own doing, and undo it
/// once.
fn taken_back_if_the_device_changes() -> Result<()> {
    let namespace = Namespace::new("changed")?;
    let mut tap = tap(&namespace)?;
    let agent = Agent::start(&namespace, &["--interface", "tap0", "--xdp", "tap0"])?;
    is_native(&agent, "tap0")?;
    namespace.offloads("tap0", &[("gro", false)])?;
    is_refused(&agent, "tap0", "features changed within 5 s of attaching: rx-gro")?;
    let frame = ethernet(B, A).ip4().udp(1000, 2000).payload(22).bytes();
    counts_exactly(&agent, ("tap0", "ingress"), Counts::new(10, 10 * frame.len() as u64), || {
        Ok((0..10).try_for_each(|_| tap.write_all(&frame))?)
    })?;
    agent.stop()
}

fn refused_for_a_great_mtu_and_for_tun() -> Result<()> {
    let namespace = Namespace::new("great")?;
    let _tap = tap(&namespace)?;
    let _tun = namespace.run(|| open_tun("tun0", TunKind::Tun))?;
    namespace.up("tun0")?;
    namespace.mtu("tap0", 9000)?;
    let agent = Agent::start(&namespace, &["--interface", "t*0", "--xdp", "t*"])?;
    is_refused(&agent, "tap0", "its MTU of 9000")?;
    is_refused(&agent, "tun0", "not Ethernet")?;
    agent.stop()
}
