//! Programs of others on the same tcx hooks: one that drops and one that redirects do, to the packet, what they did
//! before the agent came, while it is there and after it has gone.
//!
//! What the agent sees of their packets follows from the order: it asks to be first at ingress and last at egress, and
//! does not fight for it. So at ingress it counts what a program behind it takes away; at egress what it counts is
//! what the programs before it let pass.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, B, ethernet},
    link::{End, veth},
    namespace::Namespace,
    program,
    raw::{ProgramKind, TcxHook, TcxPlace, attach_tcx, instruction, load_program},
    run::{requires_kernel, trial},
    topology::{LEFT, Pair, RIGHT},
    wait::settled,
    wire::PacketSocket,
};

use super::{
    super::counts::{Counts, SOON, counts_exactly, lost_nothing},
    tcx_programs,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("harm::foreign_drop_keeps_working", foreign_drop_keeps_working),
        trial("harm::foreign_redirect_keeps_working", foreign_redirect_keeps_working),
    ]
}

pub(super) const COUNT: usize = 20;
/// Payload of the datagrams that are nobody's business, and of those that the foreign program takes.
const FREE: usize = 10;
pub(super) const TAKEN: usize = 20;

pub(super) const fn frame_bytes(payload: usize) -> u64 {
    14 + 20 + 8 + payload as u64
}

/// A program that ends in `r0`, set by `taking`, for frames with the payload [`TAKEN`], and in "next program" for others.
fn taking(taking: &[u64]) -> Result<OwnedFd> {
    const LOAD_SKB_LEN: u64 = instruction(0x61, 0x12, 0, 0); // r2 = *(u32 *)(r1 + 0)
    const NEXT: u64 = instruction(0xb7, 0, 0, -1); // r0 = TCX_NEXT
    const EXIT: u64 = instruction(0x95, 0, 0, 0);
    let skip = i16::try_from(taking.len() + 1)?;
    let unless_taken = instruction(0x55, 2, skip, frame_bytes(TAKEN) as i32); // if r2 != … goto behind `taking`
    load_program(ProgramKind::Tc, &[&[LOAD_SKB_LEN, unless_taken][..], taking, &[EXIT, NEXT, EXIT]].concat())
}

fn dropping() -> Result<OwnedFd> {
    taking(&[instruction(0xb7, 0, 0, 2)]) // r0 = TCX_DROP
}

fn redirecting_to(ifindex: u32) -> Result<OwnedFd> {
    const BPF_REDIRECT: i32 = 23;
    let set = |register, value| instruction(0xb7, register, 0, value);
    taking(&[set(1, i32::try_from(ifindex)?), set(2, 0), instruction(0x85, 0, 0, BPF_REDIRECT)])
}

/// Attached to `b` until it is dropped.
fn attach(right: &Namespace, program: &OwnedFd, hook: TcxHook, place: TcxPlace) -> Result<OwnedFd> {
    let index = right.index("b")?;
    right.run(|| attach_tcx(program, index, hook, place))
}

/// Traffic through one hook of `b`: [`COUNT`] datagrams that the foreign program takes, then as many that it does not,
/// of which every one arrives, and nothing else.
pub(super) fn send(pair: &Pair, hook: TcxHook) -> Result<()> {
    let (sender, receiver, to) = match hook {
        TcxHook::Ingress => (&pair.left, &pair.right, RIGHT),
        TcxHook::Egress => (&pair.right, &pair.left, LEFT),
    };
    let sink = receiver.udp((to, 5000))?;
    for payload in [TAKEN, FREE] {
        sender.send_udp((to, 5000), COUNT, payload)?;
    }
    for number in 0..COUNT {
        let length = sink.recv(&mut [0; 64]).with_context(|| {
            format!(
                "datagram {number} has not arrived\n{}{}",
                ledger(sender, "the sender"),
                ledger(receiver, "the receiver")
            )
        })?;
        ensure!(length == FREE, "a datagram that the foreign program should have taken has arrived");
    }
    sink.set_nonblocking(true)?;
    ensure!(sink.recv(&mut [0; 64]).is_err(), "more has arrived than was sent");
    Ok(())
}

/// What the kernel has counted in a namespace: where a datagram that is missing may be found.
fn ledger(namespace: &Namespace, who: &str) -> String {
    let show = |program, arguments: &[&str]| {
        program::run(namespace, program, arguments, "").unwrap_or_else(|error| format!("{error:#}\n"))
    };
    format!("{who}:\n{}{}", show("ip", &["-s", "-s", "link"]), show("cat", &["/proc/thread-self/net/snmp"]))
}

/// What the agent has to count on `b`: the free datagrams, and the taken ones if it stands before the other program.
pub(super) fn seen(taken_too: bool) -> Counts {
    let count = COUNT as u64;
    let (frames, bytes) = if taken_too { (count, count * frame_bytes(TAKEN)) } else { (0, 0) };
    Counts::new(count + frames, count * frame_bytes(FREE) + bytes)
}

const fn direction(hook: TcxHook) -> &'static str {
    match hook {
        TcxHook::Ingress => "ingress",
        TcxHook::Egress => "egress",
    }
}

fn foreign_drop_keeps_working() -> Result<()> {
    requires_kernel(6, 6, "tcx")?;
    let pair = Pair::new()?;
    let right = &pair.right;
    let dropping = dropping()?;
    for hook in [TcxHook::Ingress, TcxHook::Egress] {
        let early = attach(right, &dropping, hook, TcxPlace::Last)?;
        send(&pair, hook).context("before the agent")?;
        let agent = Agent::start(right, &["--interface", "b"])?;
        let check = |what: &str, taken_too: bool| {
            let traffic = || send(&pair, hook);
            let what = || format!("{}, the other {what}", direction(hook));
            counts_exactly(&agent, ("b", direction(hook)), seen(taken_too), traffic).with_context(what)?;
            lost_nothing(&agent)
        };
        // Ours asks for the outer place on both hooks: the first at ingress, the last at egress.
        check("came first", hook == TcxHook::Ingress)?;
        drop(early);
        let late = attach(right, &dropping, hook, TcxPlace::Last)?;
        check("came later and went behind", true)?;
        drop(late);
        let pushy = attach(right, &dropping, hook, TcxPlace::First)?;
        check("came later and went before", false)?;
        agent.stop()?;
        send(&pair, hook).context("after the agent")?;
        assert_eq!(tcx_programs(right, "b")?, 1, "only the other program is left");
        drop(pushy);
    }
    Ok(())
}

/// To a second interface `e` of the same namespace, whose other end is watched.
fn foreign_redirect_keeps_working() -> Result<()> {
    requires_kernel(6, 6, "tcx")?;
    let pair = Pair::new()?;
    let (right, elsewhere) = (&pair.right, Namespace::new("elsewhere")?);
    veth(End::new(right, "e").mac([2, 0, 0, 0, 0, 0xe]), End::new(&elsewhere, "f"))?;
    let redirecting = redirecting_to(right.index("e")?)?;
    let watcher = PacketSocket::receiver(&elsewhere, "f")?;
    for hook in [TcxHook::Ingress, TcxHook::Egress] {
        let _link = attach(right, &redirecting, hook, TcxPlace::Last)?;
        let (to, from) = if hook == TcxHook::Ingress { ((B, RIGHT), (A, LEFT)) } else { ((A, LEFT), (B, RIGHT)) };
        let redirected = |frame: &[u8]| {
            let head = ethernet(to.0, from.0).bytes();
            frame.len() as u64 == frame_bytes(TAKEN) && frame[..12] == head[..12] && frame[30..34] == to.1.octets()
        };
        let redirects = |what: &str| -> Result<()> {
            send(&pair, hook)?;
            let bytes = watcher.receive_bytes(COUNT, redirected).with_context(|| format!("redirected {what}"))?;
            ensure!(bytes as u64 == COUNT as u64 * frame_bytes(TAKEN), "{bytes} bytes redirected {what}");
            Ok(())
        };
        redirects("before the agent")?;
        let agent = Agent::start(right, &["--interface", "b", "--interface", "e"])?;
        let on_e = || Ok(Counts::of(&agent.metrics()?, "e", "egress"));
        let before = on_e()?;
        let traffic = || redirects("while the agent runs");
        counts_exactly(&agent, ("b", direction(hook)), seen(hook == TcxHook::Ingress), traffic)?;
        let left = settled(SOON, std::time::Duration::from_millis(100), on_e)?.since(before);
        assert_eq!(left, Counts::new(COUNT as u64, COUNT as u64 * frame_bytes(TAKEN)), "what leaves on e");
        lost_nothing(&agent)?;
        agent.stop()?;
        redirects("after the agent")?;
    }
    Ok(())
}
