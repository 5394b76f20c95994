//! The neighbour tables of IPv4 (ARP) and IPv6 (neighbour discovery): packets that waited in vain, and overflows. The
//! kernel counts for all network namespaces at once and shows it in the first one only.

use std::io;

use super::per_cpu;

/// Protocol and file.
const TABLES: [(&str, &str); 2] = [("arp", "arp_cache"), ("ndisc", "ndisc_cache")];
/// Columns and what they are called here. `unresolved_discards`: packets thrown out of the queue of a neighbour that has
/// not answered yet. `table_fulls`: no entry was to be had (since Linux 4.9).
const COUNTERS: [(&str, &str); 2] = [("unresolved_discards", "unresolved_discard"), ("table_fulls", "table_full")];

/// All protocols with their causes.
pub fn causes() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.into_iter().flat_map(|(protocol, _)| COUNTERS.map(|(_, cause)| (protocol, cause)))
}

/// Protocol, cause and count; empty outside of the first namespace.
///
/// # Errors
/// procfs refuses.
pub fn read() -> io::Result<Vec<(&'static str, &'static str, u64)>> {
    let mut found = Vec::new();
    for (protocol, file) in TABLES {
        if let Some(sums) = per_cpu::read(file)? {
            let counters = COUNTERS.iter().filter_map(|(name, cause)| Some((protocol, *cause, *sums.get(*name)?)));
            found.extend(counters);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        // Linux 6.18.
        let sums = per_cpu::sums(
            "entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast \
             periodic_gc_runs forced_gc_runs unresolved_discards table_fulls\n\
             00000002 0000002e 0000001b 00000001   000000a4 00000000 00000000   00000000         00000000         \
             00000081         00000000       00000007            00000009\n",
        );
        assert_eq!(COUNTERS.map(|(name, _)| sums.get(name).copied()), [Some(7), Some(9)]);
    }

    #[test]
    fn the_running_kernel() {
        let found = read().unwrap();
        assert!(found.iter().all(|(protocol, ..)| ["arp", "ndisc"].contains(protocol)), "{found:?}");
    }
}
