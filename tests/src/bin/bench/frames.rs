//! The frames whose judgement is timed, as they arrive on a physical Ethernet device with an MTU of 1,500.

use probe_ebpf::reason::Malformed;
use tests::frames::{A, B, Checksum, Frame, ethernet, flag, plain};

use crate::report::Target;

/// Bytes of a short frame.
const SHORT: usize = 64;

/// NOP, NOP, timestamps: the options of nearly every TCP segment.
const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
/// MSS, SACK permitted, timestamps, NOP, window scale: the options of nearly every SYN.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) finding: Option<Malformed>,
    pub(crate) target: Target,
}

/// At most this many times the reference program: IPv4 or IPv6 with TCP or UDP and at most one tag.
const ORDINARY: Target = Target::AtMost(1.5);
/// Any other frame.
const OTHER: Target = Target::AtMost(4.0);

pub(crate) fn samples() -> Vec<Sample> {
    let link = || ethernet(B, A);
    let timed = |frame: Frame| frame.tcp_with(1000, 2000, |tcp| tcp.options = TIMESTAMP.to_vec());
    let syn = |frame: Frame| {
        frame.tcp_with(1000, 2000, |tcp| {
            tcp.flags = flag::SYN;
            tcp.options = SYN_OPTIONS.to_vec();
        })
    };
    let ordinary = [
        ("udp4", filled(link().ip4().udp(1000, 2000), 42, SHORT)),
        ("tcp4", filled(link().ip4().tcp(1000, 2000), 54, SHORT)),
        ("tcp4 timestamps", timed(link().ip4()).payload(0).bytes()),
        ("tcp4 1500", filled(timed(link().ip4()), 66, 1514)),
        ("tcp4 syn", syn(link().ip4()).payload(0).bytes()),
        ("udp6", filled(link().ip6().udp(1000, 2000), 62, SHORT)),
        ("tcp6", link().ip6().tcp(1000, 2000).payload(0).bytes()),
        ("tcp6 timestamps", timed(link().ip6()).payload(0).bytes()),
        ("vlan tcp4", filled(link().vlan(5).ip4().tcp(1000, 2000), 58, SHORT)),
    ];
    let extended = link().ip6().hop_by_hop(plain).destination_options(plain).tcp(1000, 2000).payload(0);
    let other = [
        ("ipv6 2 extensions", extended.bytes(), None),
        ("arp", link().arp(plain).pad(SHORT).bytes(), None),
        (
            "bad ipv4 checksum",
            filled(link().ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1000, 2000), 42, SHORT),
            Some(Malformed::Ip4Csum),
        ),
        (
            "ipv4 longer than its frame",
            filled(link().ipv4(|ip| ip.total_length += 100).udp(1000, 2000), 42, SHORT),
            Some(Malformed::Ip4Trunc),
        ),
    ];
    let ordinary = ordinary.map(|(name, bytes)| Sample { name, bytes, finding: None, target: ORDINARY });
    let other = other.map(|(name, bytes, finding)| Sample { name, bytes, finding, target: OTHER });
    ordinary.into_iter().chain(other).collect()
}

/// The frame with as much payload behind its headers as makes it `bytes` long.
fn filled(frame: Frame, header_bytes: usize, bytes: usize) -> Vec<u8> {
    frame.payload(bytes - header_bytes).bytes()
}
