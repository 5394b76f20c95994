//! The kernel's protocol counters (MIB) of one network namespace, from procfs.
//!
//! `/proc/net/snmp` and `/proc/net/netstat` have one shape: a line of names and a line of values, both led by the same
//! protocol. `snmp6` has another: a name and a value on each line, the protocol being what the name begins with.

use std::{collections::BTreeMap, fs, io};

/// Counters by protocol and name, as in `Tcp` and `OutSegs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snmp {
    values: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Reads the calling thread's network namespace, also where it differs from the process's.
///
/// # Errors
/// procfs is not mounted or does not have the file; the message names it.
pub fn read() -> io::Result<Snmp> {
    let mut snmp = Snmp::default();
    for path in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
        let text = fs::read_to_string(path);
        snmp.add(&text.map_err(|error| io::Error::new(error.kind(), format!("read {path}: {error}")))?);
    }
    Ok(snmp)
}

/// As [`read`], with the counters of IPv6 where the kernel has it.
///
/// # Errors
/// As [`read`].
pub fn read_with_ipv6() -> io::Result<Snmp> {
    let mut snmp = read()?;
    match fs::read_to_string("/proc/thread-self/net/snmp6") {
        Ok(text) => snmp.add_snmp6(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("read /proc/net/snmp6: {error}"))),
    }
    Ok(snmp)
}

/// What names of `snmp6` begin with.
const PROTOCOLS6: [&str; 4] = ["Ip6", "Icmp6", "UdpLite6", "Udp6"];

impl Snmp {
    /// Reads text of that shape. Lines without a partner, names without a value and values that are no numbers are left
    /// out: what one kernel has and another has not is for the asker of [`Snmp::get`] to decide.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut snmp = Self::default();
        snmp.add(text);
        snmp
    }

    /// One value; most are counters of packets or segments since boot, some are settings (`Tcp MaxConn` may be -1).
    #[must_use]
    pub fn get(&self, protocol: &str, name: &str) -> Option<i64> {
        self.values.get(protocol)?.get(name).copied()
    }

    fn add_snmp6(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, value)) = line.split_once(char::is_whitespace) else { continue };
            let split = PROTOCOLS6.iter().find_map(|protocol| Some((*protocol, name.strip_prefix(protocol)?)));
            if let (Some((protocol, name)), Ok(value)) = (split, value.trim().parse()) {
                self.values.entry(protocol.to_owned()).or_default().insert(name.to_owned(), value);
            }
        }
    }

    fn add(&mut self, text: &str) {
        let mut names_line = None;
        for line in text.lines() {
            let Some((protocol, fields)) = line.split_once(':') else { continue };
            match names_line.take() {
                Some((same, names)) if same == protocol => {
                    let of_protocol = self.values.entry(protocol.to_owned()).or_default();
                    for (name, value) in str::split_whitespace(names).zip(fields.split_whitespace()) {
                        if let Ok(value) = value.parse() {
                            of_protocol.insert(name.to_owned(), value);
                        }
                    }
                }
                Some(_) | None => names_line = Some((protocol, fields)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.18, shortened.
    const SNMP: &str = "\
Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 1 64 11943 0
Icmp: InMsgs InErrors InCsumErrors
Icmp: 4 0 0
IcmpMsg: InType3 OutType3
IcmpMsg: 4 4
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens InSegs OutSegs RetransSegs
Tcp: 1 200 120000 -1 215 11716 13041 7
";
    const NETSTAT: &str = "\
TcpExt: SyncookiesSent TCPSynRetrans TCPOrigDataSent
TcpExt: 0 3 8127
IpExt: InNoRoutes InOctets
IpExt: 0 18446744073709551615
";

    #[test]
    fn values_by_name() {
        let mut snmp = Snmp::parse(SNMP);
        snmp.add(NETSTAT);
        for (protocol, name, expected) in [
            ("Ip", "InReceives", Some(11_943)),
            ("Tcp", "OutSegs", Some(13_041)),
            ("Tcp", "RetransSegs", Some(7)),
            ("Tcp", "MaxConn", Some(-1)),
            ("TcpExt", "TCPSynRetrans", Some(3)),
            ("IcmpMsg", "OutType3", Some(4)),
            ("IpExt", "InNoRoutes", Some(0)),
            ("IpExt", "InOctets", None),
            ("Tcp", "InReceives", None),
            ("Sctp", "OutSegs", None),
        ] {
            assert_eq!(snmp.get(protocol, name), expected, "{protocol} {name}");
        }
    }

    #[test]
    fn version_6() {
        let mut snmp = Snmp::parse(SNMP);
        snmp.add_snmp6(
            "Ip6InReceives                   \t1\nIp6InTruncatedPkts \t3\nUdpLite6InErrors 4\nUdp6InErrors 5\n\
             Icmp6InType133 6\nnonsense\nTcp6 7\nIp6OutDiscards many\n",
        );
        for (protocol, name, expected) in [
            ("Ip6", "InTruncatedPkts", Some(3)),
            ("UdpLite6", "InErrors", Some(4)),
            ("Udp6", "InErrors", Some(5)),
            ("Icmp6", "InType133", Some(6)),
            ("Ip6", "OutDiscards", None),
            ("Ip", "InReceives", Some(11_943)),
        ] {
            assert_eq!(snmp.get(protocol, name), expected, "{protocol} {name}");
        }
    }

    #[test]
    fn odd_shapes() {
        for (text, expected) in [
            ("", None),
            ("Tcp: OutSegs", None),
            ("Tcp: OutSegs\n", None),
            ("Tcp: A OutSegs\nTcp: 1", None),
            ("Tcp: OutSegs\nTcp: 5 6 7\n", Some(5)),
            ("Tcp: OutSegs\nTcp: five\n", None),
            ("Udp: X\nTcp: OutSegs\nTcp: 5\n", Some(5)),
            ("no colon\nTcp: OutSegs\nTcp: 5\n", Some(5)),
            ("Tcp:\nTcp:\n", None),
        ] {
            assert_eq!(Snmp::parse(text).get("Tcp", "OutSegs"), expected, "{text:?}");
        }
    }

    #[test]
    fn the_running_kernel() {
        let snmp = read_with_ipv6().expect("procfs is mounted at /proc");
        assert!(snmp.get("Tcp", "OutSegs").is_some());
        assert!(snmp.get("TcpExt", "TCPSynRetrans").is_some());
    }
}
