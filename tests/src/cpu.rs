//! Work that stays on one CPU.

use std::{panic::resume_unwind, thread};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Does `work` on a thread of its own that stays on one CPU, the last of those that are allowed (the first serves most
/// interrupts): what is sent on two CPUs has no order.
///
/// # Errors
/// Those of `work`.
pub fn pinned<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let mut only = CpuSet::new();
    only.set(*allowed()?.last().context("no CPU is allowed")?)?;
    on(&only, work)
}

/// Does `work`, and all threads that it starts, on a thread of its own that stays on these CPUs.
///
/// # Errors
/// Those of `work`, and when they are not allowed.
pub fn on<T: Send>(cpus: &CpuSet, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let stay = || sched_setaffinity(Pid::from_raw(0), cpus).context("stay on some CPUs");
    thread::scope(|scope| {
        let worker = scope.spawn(|| stay().and_then(|()| work()));
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The CPUs on which this thread may run, by number.
///
/// # Errors
/// When the kernel does not say.
pub fn allowed() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("ask for the allowed CPUs")?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}
