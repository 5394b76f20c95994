//! Connection tracking of this network namespace: what it lost, and how full its table is.

use std::{collections::BTreeMap, fs, io};

use super::per_cpu;
use crate::snapshot::Occupancy;

/// Counters of connection tracking that stand for a packet or an entry lost, as in `/proc/net/stat/nf_conntrack`, and
/// what each is called here. `drop` is a packet for which there was no entry to be had (a full table, no memory) or that
/// a helper dropped, and also one whose entry could not be inserted, which here counts as that alone; with `early_drop` an
/// entry made room for another one.
const COUNTERS: [(&str, &str); 3] =
    [("drop", "table_full"), (INSERT_FAILED, INSERT_FAILED), ("early_drop", "early_drop")];
const INSERT_FAILED: &str = "insert_failed";

/// All causes.
pub fn causes() -> impl Iterator<Item = &'static str> {
    COUNTERS.into_iter().map(|(_, cause)| cause)
}

/// Cause and count; `None` where connections are not tracked here, or the kernel does not show it by procfs.
///
/// # Errors
/// procfs refuses.
pub fn read() -> io::Result<Option<Vec<(&'static str, u64)>>> {
    Ok(per_cpu::read("nf_conntrack")?.map(|sums| counters(&sums)))
}

fn counters(sums: &BTreeMap<String, u64>) -> Vec<(&'static str, u64)> {
    let inserts = sums.get(INSERT_FAILED).copied().unwrap_or(0);
    let counter = |(name, cause): (&str, &'static str)| {
        let count = *sums.get(name)?;
        Some((cause, if name == "drop" { count.saturating_sub(inserts) } else { count }))
    };
    COUNTERS.into_iter().filter_map(counter).collect()
}

/// Entries in the table of this namespace, and how many it takes; `None` without connection tracking.
#[must_use]
pub fn occupancy() -> Option<Occupancy> {
    let number = |name: &str| fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().parse().ok();
    Some(Occupancy { entries: number("nf_conntrack_count")?, capacity: number("nf_conntrack_max")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        // Linux 6.18.
        let text = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
                    icmp_error  expect_new expect_create expect_delete search_restart\n\
                    00000000  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000007 \
                    00000003 00000000  00000000 00000000 00000000 00000000\n";
        assert_eq!(counters(&per_cpu::sums(text)), [("table_full", 5), ("insert_failed", 2), ("early_drop", 3)]);
    }

    #[test]
    fn the_running_kernel() {
        // With or without connection tracking: the file has either all of them or is not there.
        assert!(read().unwrap().is_none_or(|counters| counters.len() == COUNTERS.len()));
        assert!(occupancy().is_none_or(|table| table.capacity > 0));
    }
}
