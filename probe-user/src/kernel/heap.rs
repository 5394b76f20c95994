//! Loading reads the kernel's type information, megabytes in small pieces, starting frees much besides, and interfaces and
//! scrapes that come and go leave gaps: it goes back to the kernel.
#![allow(unsafe_code, reason = "mallopt(3) and malloc_trim(3) have no safe wrapper")]

use std::{io, panic, path::Path, thread, time::Duration};

use nix::unistd::gettid;

/// Between two looks for a thread that ends.
const LOOKS_EVERY: Duration = Duration::from_millis(1);
/// Bytes from which on a piece is the kernel's own, glibc's default.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// Keeps large pieces from the heap for good: glibc takes up to 32 MiB of them there once one as large was freed, and what
/// is allocated later is scattered over the room that they leave. Other C libraries than glibc do without.
pub fn keep_large_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers, works on the allocator's own state under its locks, touches no allocation.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Does on a thread of its own what allocates much for a moment: glibc gives each thread a heap, so that no gaps are left in
/// the one that stays. The thread is gone when this returns: privileges are a thread's, too.
///
/// # Errors
/// When no thread can be had.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || (gettid(), work()))?;
        let (thread, done) = thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        // The kernel forgets it a moment after it can be joined.
        while Path::new(&format!("/proc/self/task/{thread}")).exists() {
            thread::sleep(LOOKS_EVERY);
        }
        Ok(done)
    })
}

/// Returns freed pages that the allocator keeps. Other C libraries than glibc do without.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, works on the allocator's own state under its locks, invalidates no live allocation.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
