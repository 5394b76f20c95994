//! The system call filter from inside: this very program once more, which confines itself as the agent does and then
//! tries what it must not do, and what it must still be able to do.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
};
use caps::{CapSet, Capability};
use nix::{
    libc,
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, setrlimit},
};
use probe_ebpf::{abi::Direction, classify::LinkKind};
use probe_user::kernel::{
    attach::{Attached, Target},
    load::{Capacity, load},
    privilege,
    read::Maps,
    types::KernelTypes,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tests::{agent, child, namespace::Namespace};

const MARK: &str = "__lossprobe-tests-confined";
const IN_A_CONTAINER: &str = "in-a-container";
const LITTLE_LOCKED_MEMORY: &str = "little-locked-memory";

pub(super) fn refused_calls() -> Result<()> {
    itself(&[])
}

/// Where somebody else's filter forbids to set one, that is a missing feature and nothing more.
pub(super) fn filter_forbidden() -> Result<()> {
    itself(&[IN_A_CONTAINER])
}

fn itself(arguments: &[&str]) -> Result<()> {
    let namespace = Namespace::new("confined")?;
    let output =
        child::command(&namespace, "/proc/self/exe")?.arg(MARK).args(arguments).output().context("start itself")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("confined as it should be"), "{}: {said}", output.status);
    Ok(())
}

/// Runs `lossprobe` where it may lock 64 KiB of memory and not raise that.
pub(crate) fn with_little_locked_memory(namespace: &Namespace, arguments: &[&str]) -> Result<Output> {
    let mut command = child::command(namespace, "/proc/self/exe")?;
    command.args([MARK, LITTLE_LOCKED_MEMORY]).arg(agent::binary()).args(arguments);
    command.output().context("start itself")
}

/// Runs the child's part where this process is the child: `Some` says how it went.
pub(crate) fn become_confined() -> Option<Result<()>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mark, arguments) = arguments.split_first()?;
    (mark == MARK).then(|| {
        match arguments {
            [] => attempt()?,
            [mode, command @ ..] if mode == LITTLE_LOCKED_MEMORY => become_limited(command)?,
            _ => with_a_foreign_filter()?,
        }
        println!("confined as it should be");
        Ok(())
    })
}

fn become_limited(command: &[String]) -> Result<()> {
    const LOCKED_BYTES: u64 = 64 << 10;
    let (program, arguments) = command.split_first().context("no program")?;
    setrlimit(Resource::RLIMIT_MEMLOCK, LOCKED_BYTES, LOCKED_BYTES)?;
    caps::drop(None, CapSet::Bounding, Capability::CAP_SYS_RESOURCE)?;
    Err(Command::new(program).args(arguments).exec().into())
}

fn attempt() -> Result<()> {
    privilege::start()?;
    let mut loaded = load(Capacity::for_interfaces(8))?;
    let maps = Maps::take(&mut loaded.ebpf)?;
    // The very calls that are refused below succeed before.
    ensure!(is_map_supported(MapType::Array)?, "no arrays");
    ensure!(is_program_supported(ProgramType::SocketFilter)?, "no socket filters");
    let mut features = BTreeMap::new();
    privilege::confine(&mut features)?;
    ensure!(features.values().all(|available| *available), "{features:?}");

    not_permitted("BPF_MAP_CREATE", is_map_supported(MapType::Array))?;
    not_permitted("BPF_PROG_LOAD", is_program_supported(ProgramType::SocketFilter))?;
    not_permitted("BPF_BTF_LOAD", load(Capacity::for_interfaces(8)))?;
    not_permitted("execve", Command::new("/proc/self/exe").spawn())?;
    not_permitted("unshare", unshare(CloneFlags::CLONE_NEWUSER))?;

    let traffic = maps.traffic(1, Direction::Ingress).context("read a map")?;
    assert_eq!(traffic.frames, 0);
    let target = Target { name: "lo", ifindex: 1, kind: "loopback", link_kind: LinkKind::Ethernet, xdp: false };
    drop(Attached::new(&mut loaded.ebpf, target).context("attach")?);
    // Of modules that come later.
    KernelTypes::running()?;
    UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
    thread::Builder::new().spawn(|| ()).context("start a thread")?.join().map_err(|_| anyhow::anyhow!("a panic"))
}

fn with_a_foreign_filter() -> Result<()> {
    let forbidden = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(forbidden, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    privilege::start()?;
    let mut features = BTreeMap::new();
    let privileges = privilege::confine(&mut features)?;
    assert_eq!(features, BTreeMap::from([("no_new_privs".to_owned(), true), ("seccomp".to_owned(), false)]));
    assert_eq!(privileges.held, ["CAP_BPF", "CAP_NET_ADMIN"]);
    Ok(())
}

fn not_permitted<T, E: Into<anyhow::Error>>(call: &str, outcome: Result<T, E>) -> Result<()> {
    let Err(error) = outcome.map_err(Into::into) else { anyhow::bail!("{call} is possible") };
    let error: anyhow::Error = error;
    let said = format!("{error:#}");
    ensure!(said.contains("Operation not permitted") || said.contains("EPERM"), "{call} fails with {said}");
    Ok(())
}
