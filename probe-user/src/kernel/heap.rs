//! Loading reads the kernel's type information, megabytes in small pieces, starting frees much besides, and interfaces and
//! scrapes that come and go leave gaps: it goes back to the kernel.
#![allow(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]

/// Returns freed pages that the allocator keeps. Other C libraries than glibc do without.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, works on the allocator's own state under its locks, invalidates no live allocation.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
