//! Child processes that run in a namespace and die with the thread that started them, even when that is killed.
//!
//! Entering a namespace between fork and exec is `unsafe` in std, so the child is this very binary once more: it sees
//! its hidden first argument in [`init`], enters the namespace, asks the kernel for SIGKILL at its parent's death and
//! becomes the program. A child therefore must be started by a thread that lives as long as it should. (One that ends
//! before the child has become the program is not noticed; the end of the whole process always is.)

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::{CommandExt as _, parent_id},
    },
    process::{Command, exit, id},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
};

use crate::namespace::Namespace;

const MARK: &str = "__lossprobe-tests-child";
const OWN_SYSFS: &str = "own-sysfs";
const SHARED_SYSFS: &str = "shared-sysfs";

/// Without this a binary whose main forgot [`init`] would start itself over and over.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// The first statement of every `main` that uses this library; does not return in a child.
pub fn init() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MARK) {
        let Err(error) = become_program(arguments);
        eprintln!("{error:#}");
        exit(127);
    }
    INITIALISED.store(true, Ordering::Relaxed);
}

/// A command that will run `program` inside `namespace`.
///
/// # Errors
/// When `main` has not called [`init`].
pub fn command(namespace: &Namespace, program: impl AsRef<OsStr>) -> Result<Command> {
    ensure!(INITIALISED.load(Ordering::Relaxed), "main must call tests::child::init() first");
    let path = format!("/proc/{}/fd/{}", id(), namespace.as_fd().as_raw_fd());
    let mut command = Command::new("/proc/self/exe");
    let sysfs = if namespace.sees_devices() { OWN_SYSFS } else { SHARED_SYSFS };
    command.arg(MARK).arg(id().to_string()).arg(path).arg(sysfs).arg(program);
    Ok(command)
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<std::convert::Infallible> {
    let mut next = || arguments.next().context("too few arguments");
    let (parent, namespace, sysfs, program) = (next()?, next()?, next()?, next()?);
    let file = File::open(&namespace).with_context(|| format!("open namespace {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    if sysfs == OWN_SYSFS {
        mount_sysfs().context("mount the namespace's own sysfs")?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for the parent-death signal")?;
    // The parent may have died before the request took effect.
    ensure!(OsString::from(parent_id().to_string()) == parent, "the parent is gone");
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("run {}", program.display()))
}

/// sysfs shows the devices of the namespace in which it was mounted, so it is mounted anew, for this process alone.
fn mount_sysfs() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?)
}
