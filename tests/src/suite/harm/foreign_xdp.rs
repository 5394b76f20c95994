//! XDP programs of others, which see a frame before the agent does: one that drops, one that redirects, and one whose parts are
//! replaced while it runs, as libxdp's dispatcher does it. They do what they did before the agent came, while it is there and
//! after it has gone; also where the agent is asked for native XDP itself.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, B, ethernet},
    link::{End, veth},
    namespace::Namespace,
    raw::{Dispatcher, ProgramKind, TcxHook, XdpPlace, attach_xdp, instruction, load_program},
    run::{requires_replacing, trial},
    topology::Pair,
    wire::PacketSocket,
};

use super::{
    super::counts::{counts_exactly, lost_nothing},
    foreign::{COUNT, TAKEN, frame_bytes, seen, send},
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("harm::foreign_xdp_drop_keeps_working", || {
            [XdpPlace::Generic, XdpPlace::Native].into_iter().try_for_each(foreign_xdp_drop_keeps_working)
        }),
        trial("harm::foreign_xdp_redirect_keeps_working", foreign_xdp_redirect_keeps_working),
        trial("harm::xdp_dispatcher_keeps_working", xdp_dispatcher_keeps_working),
    ]
}

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}

/// A program that ends in `r0`, set by `taking`, for frames with the payload [`TAKEN`], and lets others pass.
fn taking(taking: &[u64]) -> Result<Vec<u64>> {
    const DATA: u64 = instruction(0x61, 0x13, 0, 0); // r3 = ctx->data
    const END: u64 = instruction(0x61, 0x12, 4, 0); // r2 = ctx->data_end
    const LENGTH: u64 = instruction(0x1f, 0x32, 0, 0); // r2 -= r3
    const EXIT: u64 = instruction(0x95, 0, 0, 0);
    let skip = i16::try_from(taking.len() + 1)?;
    let unless_taken = instruction(0x55, 2, skip, frame_bytes(TAKEN) as i32); // if r2 != … goto behind `taking`
    Ok([&[DATA, END, LENGTH, unless_taken][..], taking, &[EXIT, set(0, XDP_PASS), EXIT]].concat())
}

/// The foreign program takes its frames before, while and after an agent is on `b`, which counts the others.
fn keeps_working(pair: &Pair, takes: impl Fn(&str) -> Result<()>) -> Result<()> {
    takes("before the agent")?;
    let agent = Agent::start(&pair.right, &["--interface", "b", "--xdp", "b"])?;
    counts_exactly(&agent, ("b", "ingress"), seen(false), || takes("while the agent runs"))?;
    lost_nothing(&agent)?;
    agent.stop()?;
    takes("after the agent")
}

fn foreign_xdp_drop_keeps_working(place: XdpPlace) -> Result<()> {
    let pair = Pair::new()?;
    let (right, program) = (&pair.right, load_program(ProgramKind::Xdp, &taking(&[set(0, XDP_DROP)])?)?);
    let index = right.index("b")?;
    let _link = right.run(|| attach_xdp(&program, index, place))?;
    keeps_working(&pair, |when| send(&pair, TcxHook::Ingress).with_context(|| format!("{place:?}, {when}")))
}

/// To a second interface `e` of the same namespace, whose other end is watched.
fn foreign_xdp_redirect_keeps_working() -> Result<()> {
    const BPF_REDIRECT: i32 = 23;
    let pair = Pair::new()?;
    let (right, elsewhere) = (&pair.right, Namespace::new("elsewhere")?);
    veth(End::new(right, "e").mac([2, 0, 0, 0, 0, 0xe]), End::new(&elsewhere, "f"))?;
    let to = i32::try_from(right.index("e")?)?;
    let program = taking(&[set(1, to), set(2, 0), instruction(0x85, 0, 0, BPF_REDIRECT)])?;
    let (program, index) = (load_program(ProgramKind::Xdp, &program)?, right.index("b")?);
    let _link = right.run(|| attach_xdp(&program, index, XdpPlace::Generic))?;
    let watcher = PacketSocket::receiver(&elsewhere, "f")?;
    let redirected =
        |frame: &[u8]| frame.len() as u64 == frame_bytes(TAKEN) && frame[..12] == ethernet(B, A).bytes()[..12];
    keeps_working(&pair, |when| {
        send(&pair, TcxHook::Ingress).with_context(|| when.to_owned())?;
        let bytes = watcher.receive_bytes(COUNT, redirected).with_context(|| format!("redirected {when}"))?;
        ensure!(bytes as u64 == COUNT as u64 * frame_bytes(TAKEN), "{bytes} bytes redirected {when}");
        Ok(())
    })
}

/// A part is put in before the agent, taken out while it runs, put in again, and is there when the agent has gone.
fn xdp_dispatcher_keeps_working() -> Result<()> {
    let pair = Pair::new()?;
    let (right, dispatcher) = (&pair.right, Dispatcher::new()?);
    let part = taking(&[set(0, XDP_DROP)])?;
    let early = requires_replacing(dispatcher.replace(&part))?;
    let index = right.index("b")?;
    let _link = right.run(|| attach_xdp(&dispatcher.program, index, XdpPlace::Native))?;
    let takes = |when: &str| send(&pair, TcxHook::Ingress).with_context(|| when.to_owned());
    takes("before the agent")?;
    let agent = Agent::start(right, &["--interface", "b", "--xdp", "b"])?;
    counts_exactly(&agent, ("b", "ingress"), seen(false), || takes("the part came before the agent"))?;
    drop(early);
    ensure!(takes("").is_err(), "a part that was taken out still drops");
    let late = dispatcher.replace(&part)?;
    counts_exactly(&agent, ("b", "ingress"), seen(false), || takes("the part came after the agent"))?;
    lost_nothing(&agent)?;
    agent.stop()?;
    takes("after the agent")?;
    drop(late);
    Ok(())
}
