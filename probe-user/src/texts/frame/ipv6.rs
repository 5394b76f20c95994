//! IPv6 and its extension headers.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::Ip6Short,
        more: "",
        causes: &[
            "a device on this segment that cuts frames and writes a new, valid FCS over what is left",
            "bits that flipped in the type: 0x86DD where something else stood",
            "a program or guest that writes short packets into a tap, a tun or a raw socket",
        ],
        exceptions: &[],
        next_steps: &[
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused; on a bridge nobody counts them"),
            ("tcpdump -exxni DEV ip6 and less 53", "the bytes, and the last sender's MAC address"),
        ],
        wireshark: &["_ws.malformed && eth.type == 0x86dd"],
        suricata: &["ipv6.pkt_too_small"],
        kernel: &["ip_inhdr", "Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6Ver,
        more: "",
        causes: &[
            "bits that flipped in the first byte of the header or in the type, in a device's memory",
            "a tunnel's end or converter that writes 0x86DD before IPv4, or takes off a header of the wrong length",
            "a program that builds packets by hand",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -exxni DEV 'ether proto 0x86dd and ether[14] & 0xf0 != 0x60'", "what stands there: 4 is IPv4"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.bogus_ipv6_version"],
        suricata: &["ipv6.wrong_ip_version"],
        kernel: &["ip_inhdr", "Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6Trunc,
        more: "The FCS was right, or the card had not let the frame in: who cut it wrote a new one. IPv6 has no checksum of \
               its header, so this is what shows that a length was damaged.",
        causes: &[
            "a switch, router or converter that cuts frames in its memory, often at one length or one MTU",
            "bits that flipped in the payload length",
            "a program or guest that writes short packets into a tap or a tun",
        ],
        exceptions: &[
            "a packet that this host has put together (GSO, GRO, BIG TCP): not reported",
            "frames that the snap length of a capture has cut: not reported by `lossprobe analyze`",
        ],
        next_steps: &[
            (
                "tshark -r ip6_trunc.pcapng -T fields -e eth.src -e frame.len -e ipv6.plen",
                "whether all are cut at the same length",
            ),
            ("nstat -az Ip6InTruncatedPkts", "what this host's own stack has refused"),
            ("ethtool -S DEV | grep -iE 'err|crc|align'", "if these stand still, the damage is older than this link"),
        ],
        wireshark: &["ipv6.plen_exceeds_framing"],
        suricata: &["ipv6.trunc_pkt"],
        kernel: &["pkt_too_small", "Ip6InTruncatedPkts"],
    },
    Finding {
        reason: Malformed::Ip6Plen0,
        more: "What follows the header is not judged then.",
        causes: &[
            "a device that offloads segmentation and sends the unfinished header as it is",
            "bits that flipped in the length",
            "a scanner or a program that builds packets by hand",
        ],
        exceptions: &[
            "a jumbogram, whose length is in an option (RFC 2675): not reported",
            "next header 59, and packets of GSO and BIG TCP: not reported",
        ],
        next_steps: &[
            ("tcpdump -evni DEV 'ip6[4:2] = 0'", "who sends them, and with what behind the header"),
            ("ethtool -k DEV | grep segmentation", "if it is this host that sends them: what the card is left to do"),
        ],
        wireshark: &["ipv6.plen_zero", "ipv6.opt.jumbo.missing"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip6ExtTrunc,
        more: "",
        causes: &[
            "a scanner or protocol test that sends broken chains of headers",
            "a device that adds an extension header (segment routing, hop-by-hop) with a wrong length",
            "damage on the way: no checksum covers these headers, so a router forwards it",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip6 and ip6[6] != 6 and ip6[6] != 17 and ip6[6] != 58'", "the chain, and the source"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && ipv6"],
        suricata: &["ipv6.trunc_exthdr"],
        kernel: &["ipv6_bad_exthdr", "Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6HbhPos,
        more: "A router would not look for it there; a host answers with a parameter problem.",
        causes: &[
            "a scanner that tests how systems treat the order of headers",
            "a device that adds a header in front of others without looking",
        ],
        exceptions: &[],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y ipv6.hopopts.not_first", "the sources: a scan comes from few"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.hopopts.not_first"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip6Dup,
        more: "",
        causes: &[
            "a scanner that tests filters with repeated headers",
            "a tunnel or middlebox that fragments a fragment, or adds a routing header twice",
        ],
        exceptions: &["destination options before a routing header and once more at the end: not reported"],
        next_steps: &[
            (
                "tshark -i DEV -a duration:60 -Y 'ipv6.fraghdr || ipv6.routing'",
                "chains with these headers, and their sources",
            ),
            ("nstat -az Ip6ReasmFails Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &[],
        suricata: &["ipv6.exthdr_dupl_hh", "ipv6.exthdr_dupl_rh", "ipv6.exthdr_dupl_fh", "ipv6.exthdr_dupl_dh"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip6Rh0,
        more: "RFC 5095 has taken it out of use, because one packet could be sent to and fro between two hosts.",
        causes: &[
            "a scanner that looks for systems which still obey it",
            "a system older than 2008, or a test by hand",
        ],
        exceptions: &["segment routing (type 4) and mobile IPv6 (type 2) are other types: not reported"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ipv6.routing.type == 0'", "from whom, and by which addresses"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.routing.deprecated", "ipv6.routing.type.rt0"],
        suricata: &["ipv6.rh_type_0"],
        kernel: &["Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6OptLen,
        more: "",
        causes: &[
            "a scanner or protocol test that sends broken options on purpose",
            "a device that adds an option (IOAM, router alert) with a wrong length",
            "damage on the way: no checksum covers these headers, so a router forwards it",
        ],
        exceptions: &[],
        next_steps: &[
            (
                "tshark -i DEV -a duration:60 -Y 'ipv6.hopopts || ipv6.dstopts'",
                "headers with options, and their sources",
            ),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && (ipv6.hopopts || ipv6.dstopts)"],
        suricata: &["ipv6.exthdr_invalid_optlen"],
        kernel: &["Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6FragAlign,
        more: "A host answers with a parameter problem, and the packet is lost.",
        causes: &[
            "a tunnel's end or a sender that cuts at its MTU without rounding down (no router fragments IPv6)",
            "an attack or a test of how systems put fragments together",
            "bits that flipped in the payload length",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip6 proto 44'", "the fragments: do all of one size come from one source?"),
            ("nstat -az Ip6ReasmFails Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.fraghdr.more == 1 && ipv6.plen % 8 != 0"],
        suricata: &["ipv6.frag_invalid_length"],
        kernel: &["Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6FragBig,
        more: "",
        causes: &[
            "an attack on old systems (ping of death), or a scanner that looks for them",
            "damage of the fragment offset on the way",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip6 proto 44 and ip6[42:2] > 64000'", "fragments near the end of what is possible"),
            ("nstat -az Ip6ReasmFails Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.fraghdr.offset * 8 + ipv6.plen > 65535"],
        suricata: &["ipv6.frag_pkt_too_large"],
        kernel: &["Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6FragResv,
        more: "An atomic fragment is a whole packet with a fragment header all the same.",
        causes: &[
            "a sender that was told of an MTU under 1,280 bytes, as translators between IPv6 and IPv4 did (RFC 8021)",
            "a scanner that tests filters",
        ],
        exceptions: &["atomic fragments of older systems: reported, never as a metric"],
        next_steps: &[
            ("tcpdump -vni DEV 'ip6 proto 44 and ip6[42:2] & 0xfff9 = 0'", "atomic fragments, and their sources"),
            ("ip -6 route show cache", "destinations for which this host knows a small MTU"),
        ],
        wireshark: &[
            "ipv6.fraghdr.reserved_octet != 0",
            "ipv6.fraghdr.reserved_bits != 0",
            "ipv6.fraghdr.offset == 0 && ipv6.fraghdr.more == 0",
        ],
        suricata: &["ipv6.fh_non_zero_reserved_field", "ipv6.exthdr_useless_fh"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip6FirstFrag,
        more: "A filter cannot see the ports then, and RFC 7112 lets everybody drop the packet.",
        causes: &[
            "a scanner that tries to pass packet filters",
            "a sender or tunnel with a very long chain of headers, or an absurdly small MTU",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip6 proto 44 and ip6[42:2] & 0xfff8 = 0'", "first fragments, and what they hold"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.fraghdr.offset == 0 && ipv6.fraghdr.more == 1 && !tcp && !udp && !icmpv6"],
        suricata: &[],
        kernel: &["Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6NoNext,
        more: "A receiver must ignore the bytes, a router must pass them on: a place to hide something.",
        causes: &[
            "a covert channel, or a scanner that looks for one",
            "a device that damages the next header field, or pads packets by itself",
        ],
        exceptions: &["RFC 8200 allows the bytes: reported, since nobody has a use for them"],
        next_steps: &[
            ("tcpdump -xxni DEV 'ip6 proto 59'", "what the bytes are, and the source"),
            ("lossprobe stats", "whether errors count at the same interface: then it is damage"),
        ],
        wireshark: &["ipv6.nxt == 59 && ipv6.plen > 0"],
        suricata: &["ipv6.data_after_none_header"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip6Src,
        more: "Nobody can answer such an address.",
        causes: &[
            "forged packets, which a provider with filters by RFC 2827 would not let in",
            "a rewriting rule (NAT, BPF, a proxy on ::1) whose answer leaves without being translated back",
            "damage of the address on the way: no checksum covers it but that of TCP or UDP",
        ],
        exceptions: &["::1 on a loopback: not reported", "::, with which hosts look for their address: not reported"],
        next_steps: &[
            ("tcpdump -eni DEV 'src net ff00::/8 or src host ::1'", "the addresses, and the last sender"),
            ("nstat -az Ip6InHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ipv6.src == ff00::/8 || ipv6.src == ::1"],
        suricata: &[],
        kernel: &["ip_inhdr", "Ip6InHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip6Chain,
        more: "What follows the eighth header is not judged.",
        causes: &[
            "a scanner that tries to tire filters, or to pass them",
            "an experiment: nobody sends more than three or four on purpose",
        ],
        exceptions: &["RFC 8200 sets no limit: reported, since RFC 8883 lets a node stop at one of its own"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ipv6.dstopts || ipv6.routing' -V", "the chain, and the source"),
            ("lossprobe watch --reason ipv6_bad_exthdr", "what the kernel here refuses"),
        ],
        wireshark: &[],
        suricata: &[],
        kernel: &[],
    },
];
