//! Open files: a program on a tcx hook hangs there for as long as this process holds a file, and what reads or serves takes
//! some besides.

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Of an interface: one for each direction.
const HELD: u64 = 2;
/// What else is open at most: maps and programs, connections, whatever is read every second.
const BESIDE: u64 = 256;

/// Takes what the hard limit allows.
pub fn allow() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!("RLIMIT_NOFILE stays at {soft}: {error}");
    }
}

/// How many may be open; none is as good as no limit.
#[must_use]
pub fn allowed() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// How many an agent of this process's limits can have: the hard limit.
#[must_use]
pub fn within_reach() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// How many are needed to hold the programs of so many interfaces.
#[must_use]
pub const fn needed(interfaces: u64) -> u64 {
    HELD * interfaces + BESIDE
}

/// Whether the programs of so many interfaces can be held, and everything else goes on.
///
/// # Errors
/// If not, with both numbers and what to raise.
pub fn check(interfaces: u64, allowed: u64) -> Result<()> {
    let needed = needed(interfaces);
    ensure!(
        needed <= allowed,
        "holding the programs of {interfaces} interfaces takes {needed} open files, and RLIMIT_NOFILE allows {allowed}: raise it \
         (`LimitNOFILE=` in systemd, `--ulimit nofile=` in a container), or select fewer interfaces"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_has_both_numbers() {
        assert!(check(384, 1024).is_ok());
        let said = check(385, 1024).unwrap_err().to_string();
        assert!(said.contains("1026 open files") && said.contains("allows 1024"), "{said}");
    }
}
