//! Frames that somebody else's XDP programs lose without wanting to: as many as were lost, under the right cause, on the
//! right interface, and nothing under any other.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{setsockopt, sockopt},
};
use tests::{
    agent::Agent,
    namespace::Namespace,
    raw::{ProgramKind, TunKind, XdpPlace, attach_xdp, instruction, load_program, map_into, open_tun, queue_to_cpu},
    run::trial,
    topology::{LEFT, Pair, RIGHT},
    wait::{eventually, settled},
};

use super::counts::{Counts, SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("xdp_failed::exceptions_and_redirects", exceptions_and_redirects),
        trial("xdp_failed::what_the_target_does_not_take", what_the_target_does_not_take),
        trial("xdp_failed::what_another_cpu_does_not_take", what_another_cpu_does_not_take),
        trial("xdp_failed::of_other_namespaces_have_no_name", of_other_namespaces_have_no_name),
        trial("xdp_failed::dropping_is_no_failure", dropping_is_no_failure),
    ]
}

const METRIC: &str = "lossprobe_xdp_failed_packets_total";
const COUNT: usize = 100;

const EXIT: u64 = instruction(0x95, 0, 0, 0);

const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, helper)
}

/// Returns the same for every frame.
fn returning(action: i32) -> Result<OwnedFd> {
    load_program(ProgramKind::Xdp, &[set(0, action), EXIT])
}

/// Redirects every frame to an interface.
fn redirecting(ifindex: u32) -> Result<OwnedFd> {
    const BPF_REDIRECT: i32 = 23;
    load_program(ProgramKind::Xdp, &[set(1, i32::try_from(ifindex)?), set(2, 0), call(BPF_REDIRECT), EXIT])
}

/// Redirects every frame to the first entry of a map.
fn redirecting_by(map: &OwnedFd) -> Result<OwnedFd> {
    const BPF_REDIRECT_MAP: i32 = 51;
    let rest = [set(2, 0), set(3, 0), call(BPF_REDIRECT_MAP), EXIT];
    load_program(ProgramKind::Xdp, &[&map_into(1, map)[..], &rest].concat())
}

/// Attached to `b` until it is dropped.
fn attach(right: &Namespace, program: &OwnedFd, place: XdpPlace) -> Result<OwnedFd> {
    let index = right.index("b")?;
    right.run(|| attach_xdp(program, index, place))
}

/// Runs `traffic` and expects exactly `count` more under this cause, and nothing under another of an interface here.
fn fails_exactly(
    agent: &Agent<'_>,
    (interface, cause): (&str, &str),
    count: usize,
    traffic: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let now = || -> Result<(f64, f64)> {
        let metrics = agent.metrics()?;
        let named = metrics.sum(METRIC, &[("interface", interface), ("cause", cause)]);
        // Other tests have programs in other namespaces.
        Ok((named, metrics.sum(METRIC, &[]) - metrics.sum(METRIC, &[("interface", "")])))
    };
    let before = now()?;
    traffic()?;
    eventually(SOON, &format!("{count} frames failed on {interface:?} by {cause}"), || {
        let (named, all) = now()?;
        let (named, all) = (named - before.0, all - before.1);
        ensure!(named == count as f64 && all == count as f64, "{named} under this name, {all} of interfaces here");
        Ok(())
    })?;
    lost_nothing(agent)
}

fn exceptions_and_redirects() -> Result<()> {
    const NO_INTERFACE: u32 = 0x7fff_fff0;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _down = right.run(|| open_tun("tap0", TunKind::Tap))?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let rows = [
        ("aborted", returning(0)?, XdpPlace::Native, "exception_aborted"),
        ("no action", returning(77)?, XdpPlace::Native, "exception_unknown"),
        ("redirected to nowhere", redirecting(NO_INTERFACE)?, XdpPlace::Native, "redirect"),
        ("redirected to what is down", redirecting(right.index("tap0")?)?, XdpPlace::Native, "redirect"),
        // The peer has no queue for frames of programs.
        ("sent back", returning(3)?, XdpPlace::Native, "tx"),
        ("aborted by the kernel's own XDP", returning(0)?, XdpPlace::Generic, "exception_aborted"),
        ("no action, by the kernel's own XDP", returning(77)?, XdpPlace::Generic, "exception_unknown"),
        ("redirected to nowhere by the kernel's own XDP", redirecting(NO_INTERFACE)?, XdpPlace::Generic, "redirect"),
    ];
    for (what, program, place, cause) in rows {
        let _link = attach(right, &program, place)?;
        fails_exactly(&agent, ("b", cause), COUNT, || left.send_udp((RIGHT, 5000), COUNT, 10)).context(what)?;
    }
    let count = COUNT as u64;
    let expected =
        [("exception_aborted", 2 * count), ("exception_unknown", 2 * count), ("redirect", 3 * count), ("tx", count)];
    eventually(SOON, "the snapshot says the same", || {
        let failed = agent.snapshot()?.xdp_failed;
        let here = failed.iter().filter(|row| row.interface == "b");
        let causes: Vec<_> = here.map(|row| (row.cause.as_str(), row.packets)).collect();
        ensure!(causes == expected, "{causes:?}");
        Ok(())
    })?;
    agent.stop()
}

/// Frames that are waiting to be read.
fn frames_in(tap: &mut File) -> Result<usize> {
    fcntl(&*tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut frames = 0;
    loop {
        match tap.read(&mut [0; 2048]) {
            Ok(_) => frames += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(frames),
            Err(error) => return Err(error).context("read the tap"),
        }
    }
}

/// A tap that nobody reads takes as many frames as its queue holds.
fn what_the_target_does_not_take() -> Result<()> {
    const QUEUE: usize = 30;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let mut tap = right.run(|| open_tun("tap0", TunKind::Tap))?;
    right.queue_packets("tap0", QUEUE as u32)?;
    right.up("tap0")?;
    let program = redirecting(right.index("tap0")?)?;
    let _link = attach(right, &program, XdpPlace::Native)?;
    let agent = Agent::start(right, &["--interface", "*"])?;
    fails_exactly(&agent, ("tap0", "devmap"), COUNT - QUEUE, || left.send_udp((RIGHT, 5000), COUNT, 10))?;
    assert_eq!(frames_in(&mut tap)?, QUEUE, "the others have arrived");
    agent.stop()
}

/// A queue of one frame to another CPU, and batches: what arrives and what does not is what was sent.
fn what_another_cpu_does_not_take() -> Result<()> {
    const BATCH: usize = 20;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    // One send of 20 datagrams is cut in front of the device and crosses as one batch.
    left.offloads("a", &[("tx-udp-segmentation", false)])?;
    let map = queue_to_cpu(0, 1)?;
    let _link = attach(right, &redirecting_by(&map)?, XdpPlace::Native)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let now = || -> Result<(f64, f64)> {
        let metrics = agent.metrics()?;
        let labels = [("interface", ""), ("cause", "cpumap")];
        Ok((metrics.sum(METRIC, &labels), Counts::of(&metrics, "b", "ingress").frames))
    };
    let before = now()?;
    let socket = left.udp((LEFT, 6000))?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &1000)?;
    for _ in 0..COUNT / BATCH {
        socket.send_to(&[0; BATCH * 1000], SocketAddr::from((RIGHT, 5000)))?;
    }
    eventually(SOON, "every frame has arrived or is lost", || {
        let (lost, arrived) = now()?;
        let (lost, arrived) = (lost - before.0, arrived - before.1);
        ensure!(lost + arrived == COUNT as f64, "{lost} lost, {arrived} arrived");
        ensure!(lost > 0.0, "the queue has taken all");
        Ok(())
    })?;
    lost_nothing(&agent)?;
    agent.stop()
}

/// Interface numbers repeat in every namespace, so that only the agent's own have a name.
fn of_other_namespaces_have_no_name() -> Result<()> {
    let (here, there) = (Pair::new()?, Pair::new()?);
    assert_eq!(here.right.index("b")?, there.right.index("b")?);
    let program = returning(0)?;
    let _link = attach(&there.right, &program, XdpPlace::Native)?;
    let agent = Agent::start(&here.right, &["--interface", "b"])?;
    let now = || agent.metrics();
    let other = [("interface", ""), ("cause", "exception_aborted")];
    let before = now()?.sum(METRIC, &other);
    there.left.send_udp((RIGHT, 5000), COUNT, 10)?;
    eventually(SOON, "the other namespace's failures are counted", || {
        let metrics = now()?;
        let counted = metrics.sum(METRIC, &other) - before;
        // Programs of other tests fail at the same time.
        ensure!(counted >= COUNT as f64, "{counted} counted");
        let named: Vec<_> =
            metrics.select(METRIC, &[]).filter(|sample| !sample.labels["interface"].is_empty()).collect();
        ensure!(named.is_empty(), "{named:?} of interfaces here");
        Ok(())
    })?;
    agent.stop()
}

/// What a program does with a frame by its own will is its business: dropped, passed, and redirected with success.
fn dropping_is_no_failure() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let _tap = right.run(|| open_tun("tap0", TunKind::Tap))?;
    right.up("tap0")?;
    let agent = Agent::start(right, &["--interface", "*"])?;
    for program in [returning(1)?, returning(2)?, redirecting(right.index("tap0")?)?] {
        let _link = attach(right, &program, XdpPlace::Native)?;
        left.send_udp((RIGHT, 5000), COUNT, 10)?;
        let failed = settled(SOON, std::time::Duration::from_millis(100), || {
            let metrics = agent.metrics()?;
            Ok(metrics.sum(METRIC, &[]) - metrics.sum(METRIC, &[("interface", "")]))
        })?;
        ensure!(failed == 0.0, "{failed} of them are said to have failed");
    }
    agent.stop()
}
