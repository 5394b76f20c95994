//! Time that a hypervisor took from this machine's CPUs: packets wait meanwhile, and rings overflow.

use std::fs;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

const PATH: &str = "/proc/stat";
/// Position of `steal` in the line `cpu` (proc_stat(5), since Linux 2.6.11).
const STEAL: usize = 8;

/// Milliseconds since boot, of all CPUs together; `None` where the kernel does not tell.
///
/// # Errors
/// procfs is not mounted.
pub fn stolen_ms() -> Result<Option<u64>> {
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    Ok(steal_ticks(&text).zip(per_second).map(|(ticks, per_second)| ticks.saturating_mul(1000) / per_second.max(1)))
}

fn steal_ticks(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    line.split_whitespace().nth(STEAL)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column() {
        for (text, expected) in [
            ("cpu  168457 19423 30643 167979 719 0 9242 195 7 0\ncpu0 1 1 1 1 1 1 1 99 0 0\n", Some(195)),
            ("cpu0 1 1 1 1 1 1 1 99 0 0\n", None),
            ("cpu  1 2 3 4\n", None),
            ("", None),
        ] {
            assert_eq!(steal_ticks(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_running_kernel() {
        assert!(stolen_ms().unwrap().is_some());
    }
}
