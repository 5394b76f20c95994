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
    let stay = || -> Result<()> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("ask for the allowed CPUs")?;
        let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let mut only = CpuSet::new();
        only.set(last.context("no CPU is allowed")?)?;
        sched_setaffinity(Pid::from_raw(0), &only).context("stay on one CPU")
    };
    thread::scope(|scope| {
        let worker = scope.spawn(|| stay().and_then(|()| work()));
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
