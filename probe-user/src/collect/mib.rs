//! Which of the kernel's protocol counters stand for something lost or refused, and what each is called: one closed
//! table. Causes of one protocol do not overlap: where the kernel counts an event under two names, the wider one is
//! shown without the narrower ones.
//!
//! They are witnesses: most of what they count the kernel has also dropped with a reason. They count packets as the
//! protocol handles them (a merged one as one), of this network namespace.

use std::collections::BTreeMap;

use super::{counter::Counter, snmp::Snmp};
use crate::snapshot::ProtocolError;

/// One cause.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// As in the label.
    protocol: &'static str,
    /// As in the label.
    cause: &'static str,
    /// Protocol and name in procfs.
    counter: (&'static str, &'static str),
    /// Counters whose events are in `counter`, too: of the same protocol in procfs unless it is named.
    without: &'static [&'static str],
}

const fn row(
    protocol: &'static str,
    cause: &'static str,
    counter: (&'static str, &'static str),
    without: &'static [&'static str],
) -> Row {
    Row { protocol, cause, counter, without }
}

/// RFC 4293 (IP), 4022 (TCP), 4113 (UDP), 5097 (UDP-Lite), and Linux's own (net/ipv4/proc.c, net/ipv6/proc.c). Which
/// counters are in which others is as of Linux 6.18.
const ROWS: &[Row] = &[
    // ip_rcv_core counts a wrong sum under both names.
    row("ipv4", "header", ("Ip", "InHdrErrors"), &["IpExt:InCsumErrors"]),
    row("ipv4", "checksum", ("IpExt", "InCsumErrors"), &[]),
    row("ipv4", "truncated", ("IpExt", "InTruncatedPkts"), &[]),
    row("ipv4", "address", ("Ip", "InAddrErrors"), &[]),
    row("ipv4", "unknown_protocol", ("Ip", "InUnknownProtos"), &[]),
    row("ipv4", "in_discard", ("Ip", "InDiscards"), &[]),
    row("ipv4", "out_discard", ("Ip", "OutDiscards"), &[]),
    row("ipv4", "in_no_route", ("IpExt", "InNoRoutes"), &[]),
    row("ipv4", "out_no_route", ("Ip", "OutNoRoutes"), &[]),
    row("ipv4", "reverse_path", ("TcpExt", "IPReversePathFilter"), &[]),
    // ip_expire counts under both names.
    row("ipv4", "reassembly", ("Ip", "ReasmFails"), &["ReasmTimeout"]),
    row("ipv4", "reassembly_timeout", ("Ip", "ReasmTimeout"), &[]),
    row("ipv4", "reassembly_overlap", ("IpExt", "ReasmOverlaps"), &[]),
    row("ipv4", "fragmentation", ("Ip", "FragFails"), &[]),
    row("ipv6", "header", ("Ip6", "InHdrErrors"), &[]),
    row("ipv6", "too_big", ("Ip6", "InTooBigErrors"), &[]),
    row("ipv6", "truncated", ("Ip6", "InTruncatedPkts"), &[]),
    row("ipv6", "address", ("Ip6", "InAddrErrors"), &[]),
    row("ipv6", "unknown_protocol", ("Ip6", "InUnknownProtos"), &[]),
    row("ipv6", "in_discard", ("Ip6", "InDiscards"), &[]),
    row("ipv6", "out_discard", ("Ip6", "OutDiscards"), &[]),
    row("ipv6", "in_no_route", ("Ip6", "InNoRoutes"), &[]),
    row("ipv6", "out_no_route", ("Ip6", "OutNoRoutes"), &[]),
    row("ipv6", "reassembly", ("Ip6", "ReasmFails"), &["ReasmTimeout"]),
    row("ipv6", "reassembly_timeout", ("Ip6", "ReasmTimeout"), &[]),
    row("ipv6", "fragmentation", ("Ip6", "FragFails"), &[]),
    row("icmp", "error", ("Icmp", "InErrors"), &["InCsumErrors"]),
    row("icmp", "checksum", ("Icmp", "InCsumErrors"), &[]),
    row("icmp", "out_error", ("Icmp", "OutErrors"), &[]),
    row("icmpv6", "error", ("Icmp6", "InErrors"), &["InCsumErrors"]),
    row("icmpv6", "checksum", ("Icmp6", "InCsumErrors"), &[]),
    row("icmpv6", "out_error", ("Icmp6", "OutErrors"), &[]),
    row("tcp", "error", ("Tcp", "InErrs"), &["InCsumErrors"]),
    row("tcp", "checksum", ("Tcp", "InCsumErrors"), &[]),
    row("tcp", "listen_overflow", ("TcpExt", "ListenOverflows"), &[]),
    // tcp_listendrop counts whatever a listening socket refuses.
    row("tcp", "listen_drop", ("TcpExt", "ListenDrops"), &["ListenOverflows", "TCPReqQFullDrop"]),
    row("tcp", "request_queue", ("TcpExt", "TCPReqQFullDrop"), &[]),
    row("tcp", "backlog", ("TcpExt", "TCPBacklogDrop"), &[]),
    row("tcp", "receive_queue", ("TcpExt", "TCPRcvQDrop"), &[]),
    row("tcp", "receive_pruned", ("TcpExt", "RcvPruned"), &[]),
    row("tcp", "out_of_order", ("TcpExt", "TCPOFODrop"), &[]),
    row("tcp", "zero_window", ("TcpExt", "TCPZeroWindowDrop"), &[]),
    row("tcp", "memory", ("TcpExt", "PFMemallocDrop"), &[]),
    row("tcp", "minimum_ttl", ("TcpExt", "TCPMinTTLDrop"), &[]),
    row("tcp", "paws", ("TcpExt", "PAWSEstab"), &[]),
    row("tcp", "retransmit_failed", ("TcpExt", "TCPRetransFail"), &[]),
    row("tcp", "write_queue", ("TcpExt", "TCPWqueueTooBig"), &[]),
    row("udp", "error", ("Udp", "InErrors"), &["RcvbufErrors", "InCsumErrors", "MemErrors"]),
    row("udp", "checksum", ("Udp", "InCsumErrors"), &[]),
    row("udp", "receive_buffer", ("Udp", "RcvbufErrors"), &[]),
    row("udp", "send_buffer", ("Udp", "SndbufErrors"), &[]),
    row("udp", "memory", ("Udp", "MemErrors"), &[]),
    row("udp", "no_port", ("Udp", "NoPorts"), &[]),
    row("udp6", "error", ("Udp6", "InErrors"), &["RcvbufErrors", "InCsumErrors", "MemErrors"]),
    row("udp6", "checksum", ("Udp6", "InCsumErrors"), &[]),
    row("udp6", "receive_buffer", ("Udp6", "RcvbufErrors"), &[]),
    row("udp6", "send_buffer", ("Udp6", "SndbufErrors"), &[]),
    row("udp6", "memory", ("Udp6", "MemErrors"), &[]),
    row("udp6", "no_port", ("Udp6", "NoPorts"), &[]),
    row("udplite", "error", ("UdpLite", "InErrors"), &["RcvbufErrors", "InCsumErrors", "MemErrors"]),
    row("udplite", "checksum", ("UdpLite", "InCsumErrors"), &[]),
    row("udplite", "receive_buffer", ("UdpLite", "RcvbufErrors"), &[]),
];

/// Packets whose last router marked them as having met congestion (RFC 3168): (IPv4, IPv6).
const CONGESTION_MARKS: [(&str, &str); 2] = [("IpExt", "InCEPkts"), ("Ip6", "InCEPkts")];

/// All protocols with their causes, and the counter's name as `nstat` has it.
pub fn causes() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    ROWS.iter().map(|row| (row.protocol, row.cause, format!("{}{}", row.counter.0, row.counter.1)))
}

/// Errors by protocol and cause from the agent's start on.
#[derive(Debug, Default)]
pub struct ProtocolSums {
    sums: BTreeMap<(&'static str, &'static str), Counter>,
    congestion_marks: [Option<Counter>; 2],
}

impl ProtocolSums {
    /// Takes the counters of the MIB; `counts` is whether what happened since the last time counts.
    pub fn add(&mut self, snmp: &Snmp, counts: bool) {
        for row in ROWS {
            if let Some(count) = row.read(snmp) {
                self.add_one((row.protocol, row.cause), count, counts);
            }
        }
        for (known, (protocol, name)) in self.congestion_marks.iter_mut().zip(CONGESTION_MARKS) {
            if let Some(count) = counter(snmp, protocol, name) {
                take(known.get_or_insert(Counter::after(count)), count, counts);
            }
        }
    }

    /// Takes one that is counted elsewhere.
    pub fn add_one(&mut self, (protocol, cause): (&'static str, &'static str), count: u64, counts: bool) {
        take(self.sums.entry((protocol, cause)).or_insert(Counter::after(count)), count, counts);
    }

    /// What was counted; causes that this kernel does not count are left out.
    #[must_use]
    pub fn shown(&self) -> Vec<ProtocolError> {
        let error = |((protocol, cause), counter): (&(&str, &str), &Counter)| ProtocolError {
            protocol: (*protocol).to_owned(),
            cause: (*cause).to_owned(),
            count: counter.total(),
        };
        self.sums.iter().map(error).collect()
    }

    /// Packets with a mark of congestion, both versions together; `None` where the kernel does not count them.
    #[must_use]
    pub fn congestion_marks(&self) -> Option<u64> {
        self.congestion_marks.iter().flatten().map(|counter| counter.total()).reduce(|sum, more| sum + more)
    }
}

/// A wider counter without its parts, read a moment apart, can seem to fall by what came between; it is not set back.
const fn take(counter: &mut Counter, count: u64, counts: bool) {
    if counts { counter.add_highest(count) } else { counter.skip(count) }
}

impl Row {
    fn read(&self, snmp: &Snmp) -> Option<u64> {
        let (protocol, name) = self.counter;
        let parts = self.without.iter().map(|part| part.split_once(':').unwrap_or((protocol, part)));
        let parts = parts.filter_map(|(protocol, part)| counter(snmp, protocol, part)).sum();
        counter(snmp, protocol, name).map(|count| count.saturating_sub(parts))
    }
}

fn counter(snmp: &Snmp, protocol: &str, name: &str) -> Option<u64> {
    u64::try_from(snmp.get(protocol, name)?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn causes_are_one_list() {
        let mut names = BTreeSet::new();
        for row in ROWS {
            let is_snake = |text: &str| {
                text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            };
            assert!(is_snake(row.protocol) && is_snake(row.cause), "{row:?}");
            assert!(names.insert((row.protocol, row.cause)), "{row:?} twice");
            assert!(!row.without.contains(&row.counter.1), "{row:?}");
        }
        let counters: BTreeSet<_> = ROWS.iter().map(|row| row.counter).collect();
        assert_eq!(counters.len(), ROWS.len(), "a counter under two names");
    }

    /// After one reading with nothing, one with this.
    fn counted(text: &str) -> BTreeMap<String, u64> {
        // Numbers stand on every second line.
        let zero = |word: &str| if word.parse::<u64>().is_ok() { "0".to_owned() } else { word.to_owned() };
        let nothing: Vec<String> =
            text.lines().map(|line| line.split(' ').map(zero).collect::<Vec<_>>().join(" ")).collect();
        let nothing = nothing.join("\n");
        let mut sums = ProtocolSums::default();
        sums.add(&Snmp::parse(&nothing), true);
        sums.add(&Snmp::parse(text), true);
        sums.shown().into_iter().map(|error| (format!("{} {}", error.protocol, error.cause), error.count)).collect()
    }

    #[test]
    fn an_event_counts_once() {
        for (name, text, expected) in [
            (
                "a full receive buffer, a wrong sum, and something else",
                "Udp: InErrors RcvbufErrors InCsumErrors MemErrors\nUdp: 10 6 3 0\n",
                &[("udp error", 1), ("udp receive_buffer", 6), ("udp checksum", 3), ("udp memory", 0)][..],
            ),
            ("a kernel without MemErrors", "Udp: InErrors RcvbufErrors\nUdp: 7 6\n", &[("udp error", 1)]),
            (
                "a listen queue that is full",
                "TcpExt: ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 5 8 1\n",
                &[("tcp listen_overflow", 5), ("tcp listen_drop", 2), ("tcp request_queue", 1)],
            ),
            (
                "headers with a wrong sum",
                "Ip: InHdrErrors\nIp: 7\nIpExt: InCsumErrors\nIpExt: 5\n",
                &[("ipv4 header", 2), ("ipv4 checksum", 5)],
            ),
            (
                "fragments that never came",
                "Ip: ReasmTimeout ReasmFails\nIp: 4 4\n",
                &[("ipv4 reassembly", 0), ("ipv4 reassembly_timeout", 4)],
            ),
        ] {
            let counted = counted(text);
            for (cause, count) in expected {
                assert_eq!(counted.get(*cause), Some(count), "{name}: {cause} in {counted:?}");
            }
        }
        assert_eq!(counted("Udp: InErrors\nUdp: 1\n").get("udp memory"), None, "absent, not 0");
    }

    #[test]
    fn readings_that_are_a_moment_apart() {
        let read = |errors: u64, full: u64| Snmp::parse(&format!("Udp: InErrors RcvbufErrors\nUdp: {errors} {full}\n"));
        let mut sums = ProtocolSums::default();
        for (errors, full) in [(0, 0), (5, 4), (5, 5), (6, 5)] {
            sums.add(&read(errors, full), true);
        }
        let shown = sums.shown();
        let error = shown.iter().find(|error| error.cause == "error").unwrap();
        assert_eq!(error.count, 1, "as many as at last, and never counted anew");
        sums.add(&read(20, 9), false);
        sums.add(&read(20, 10), true);
        let of = |cause: &str| sums.shown().into_iter().find(|error| error.cause == cause).map(|error| error.count);
        assert_eq!(of("receive_buffer"), Some(6), "what came while the agent stood still is left out");
    }

    #[test]
    fn marks_of_congestion() {
        let mut sums = ProtocolSums::default();
        assert_eq!(sums.congestion_marks(), None);
        sums.add(&Snmp::parse("IpExt: InCEPkts\nIpExt: 3\n"), true);
        sums.add(&Snmp::parse("IpExt: InCEPkts\nIpExt: 8\n"), true);
        assert_eq!(sums.congestion_marks(), Some(5));
    }

    #[test]
    fn the_running_kernel() {
        let snmp = super::super::snmp::read_with_ipv6().unwrap();
        for (protocol, cause) in
            [("ipv4", "header"), ("ipv4", "truncated"), ("tcp", "checksum"), ("udp", "receive_buffer")]
        {
            let row = ROWS.iter().find(|row| (row.protocol, row.cause) == (protocol, cause)).unwrap();
            assert!(row.read(&snmp).is_some(), "{protocol} {cause}");
        }
    }
}
