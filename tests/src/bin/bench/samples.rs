//! The frames whose judgement is timed, as they arrive on a physical Ethernet device with an MTU of 1,500.

use probe_ebpf::reason::Malformed;
use tests::frames::{A, B, Checksum, Frame, ethernet, ethernet_with, flag, packet, plain};

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
    /// `None`: only shown.
    pub(crate) target: Option<Target>,
    /// Seen at a track point, where transport checksums are looked at; `None`: elsewhere.
    pub(crate) sums: Option<Sums>,
}

/// How many of the sums are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// As many as the budget allows.
    Some,
    /// All, as behind a finding.
    All,
}

/// A header of version 0 in front of IPv4.
const GRE_IPV4: [u8; 4] = [0, 0, 8, 0];
/// Ports, verification tag, checksum, and a chunk without anything in it.
const SCTP_COOKIE_ACK: [u8; 16] = [0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 11, 0, 0, 4];

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
        (
            "tcp option cut",
            link().ip4().tcp_with(1000, 2000, |tcp| tcp.options = vec![1, 1, 8, 40]).payload(0).pad(SHORT).bytes(),
            Some(Malformed::TcpOpt),
        ),
        ("gre tcp4", link().ipv4(|ip| ip.protocol = 47).data(GRE_IPV4).nested(packet().ip4().tcp(1, 2)).bytes(), None),
        (
            "gre version 2",
            link().ipv4(|ip| ip.protocol = 47).data([0, 2, 8, 0]).pad(SHORT).bytes(),
            Some(Malformed::GreVer),
        ),
        ("sctp", link().ipv4(|ip| ip.protocol = 132).data(SCTP_COOKIE_ACK).pad(SHORT).bytes(), None),
        ("mpls", ethernet_with(B, A, |header| header.ether_type = 0x8847).data([0, 1, 1, 64]).pad(SHORT).bytes(), None),
        ("lldp", ethernet_with(B, A, |header| header.ether_type = 0x88cc).pad(SHORT).bytes(), None),
    ];
    let summed = [("sum of udp4", SHORT), ("sum of udp4 1500", 1514)];
    let summed = summed.map(|(name, bytes)| (name, filled(link().ip4().udp(1000, 2000), 42, bytes)));
    let sample = |(name, bytes), finding, target, sums| Sample { name, bytes, finding, target, sums };
    let ordinary = ordinary.map(|frame| sample(frame, None, Some(ORDINARY), None));
    let other = other.map(|(name, bytes, finding)| sample((name, bytes), finding, Some(OTHER), None));
    let beyond_budget = filled(link().ip4().udp(1000, 2000), 42, SHORT);
    let beyond_budget = sample(("sum beyond the budget", beyond_budget), None, None, Some(Sums::Some));
    let summed = summed.map(|frame| sample(frame, None, None, Some(Sums::All)));
    // In this order: behind a finding all sums are made, for a while.
    ordinary.into_iter().chain(other).chain([beyond_budget]).chain(summed).collect()
}

/// A frame whose transport checksum is wrong.
pub(crate) fn wrong_sum() -> Vec<u8> {
    let wrong = ethernet(B, A).ip4().udp_with(1000, 2000, |udp| udp.checksum = Checksum::Wrong);
    filled(wrong, 42, SHORT)
}

/// The frame with as much payload behind its headers as makes it `bytes` long.
fn filled(frame: Frame, header_bytes: usize, bytes: usize) -> Vec<u8> {
    frame.payload(bytes - header_bytes).bytes()
}
