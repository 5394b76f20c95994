//! UDP, ICMP and ICMPv6 with neighbour discovery.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::UdpShort,
        more: "",
        causes: &[
            "a scanner or a flood of cut packets",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ip.proto == 17 && ip.len < 28'", "the sources: a flood has many"),
            ("nstat -az UdpInErrors Udp6InErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && (ip.proto == 17 || ipv6.nxt == 17)"],
        suricata: &["udp.hlen_too_small"],
        kernel: &["UdpInErrors", "Udp6InErrors"],
    },
    Finding {
        reason: Malformed::UdpLenLt8,
        more: "",
        causes: &[
            "a scanner, or a program that builds datagrams by hand and forgets the header's own 8 bytes",
            "damage on the way: then the checksum of most of them is wrong, too",
        ],
        exceptions: &["length 0, which a jumbogram has (RFC 2675): not reported"],
        next_steps: &[
            ("tcpdump -vni DEV 'udp[4:2] < 8'", "the sources and ports"),
            ("nstat -az UdpInErrors Udp6InErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["udp.length.bad", "udp.length < 8"],
        suricata: &["udp.len_invalid"],
        kernel: &["pkt_too_small", "UdpInErrors", "Udp6InErrors"],
    },
    Finding {
        reason: Malformed::UdpLenGt,
        more: "",
        causes: &[
            "a middlebox or tunnel that cuts packets and corrects the IP length, but not this one",
            "a translator or relay that sends the first fragment on as if it were the whole datagram",
            "damage on the way, or a program that builds datagrams by hand",
        ],
        exceptions: &[
            "first fragments, of which the rest comes later: not judged",
            "datagrams that GSO or GRO has put together: not reported",
        ],
        next_steps: &[
            (
                "tshark -r udp_len_gt.pcapng -T fields -e ip.src -e ip.len -e udp.length",
                "whether all are cut at the same length",
            ),
            ("nstat -az UdpInErrors Udp6InErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["udp.length.bad"],
        suricata: &["udp.pkt_too_small"],
        kernel: &["pkt_too_small", "UdpInErrors", "Udp6InErrors"],
    },
    Finding {
        reason: Malformed::UdpSurplus,
        more: "A receiver without UDP options drops these bytes and takes the datagram.",
        causes: &[
            "UDP options (RFC 9868), or an experiment with them",
            "a device that pads datagrams and corrects the IP length",
            "a covert channel",
        ],
        exceptions: &["UDP options: reported, never as a metric"],
        next_steps: &[
            (
                "tshark -r udp_surplus.pcapng -T fields -e ip.src -e ip.len -e udp.length -e udp.port",
                "how many bytes, on which ports",
            ),
            ("tcpdump -xxni DEV udp port PORT", "what the bytes are: options begin with a checksum of their own"),
        ],
        wireshark: &[],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Udp6Csum0,
        more: "Over IPv6 the checksum is the only thing that covers the addresses, so that a receiver must drop a datagram \
               without one, unless its port is set up to take them.",
        causes: &[
            "a tunnel on a port of its own, which leaves the checksum out for speed",
            "a translator from IPv4, where the checksum may be left out, that does not make one",
            "a program or an embedded system that builds datagrams by hand",
        ],
        exceptions: &[
            "well-known ports of tunnels (VXLAN, GENEVE, GTP-U, MPLS, LISP, GUE, RoCEv2 …, RFC 6935): not reported",
            "a tunnel on another port: reported",
        ],
        next_steps: &[
            ("tcpdump -eni DEV 'ip6 and ip6[6] = 17 and ip6[46:2] = 0'", "from which port to which"),
            ("ip -d link show type vxlan", "udp6zerocsumrx: whether this host's tunnels take them"),
            ("nstat -az Udp6InCsumErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["udp.checksum.zero"],
        suricata: &[],
        kernel: &["udp_csum", "Udp6InCsumErrors"],
    },
    Finding {
        reason: Malformed::UdpCsum,
        more: "The header of IP was right, so a router may have forwarded it: the damage can lie anywhere on the path. It is looked \
               for where packets come in at a track point, in those that neither card nor kernel has verified, as far as the \
               budget goes: lossprobe_l4_checksums_total says how many that are.",
        causes: &[
            "bad memory in a switch, router or NIC on the way: each link's own checksum was right",
            "a middlebox (NAT, load balancer) that rewrites addresses or data and does not correct the checksum",
            "a sender or hypervisor that leaves the checksum to a card which does not do it (offload)",
        ],
        exceptions: &[
            "checksum 0 over IPv4, which means 'none': not reported",
            "packets between guests and this host, whose checksum is left open (CHECKSUM_PARTIAL): not reported",
            "fragments, of which none has the whole datagram: not judged",
        ],
        next_steps: &[
            (
                "tshark -r udp_csum.pcapng -o udp.check_checksum:TRUE -V",
                "value and right value; one peer, or all behind one way?",
            ),
            ("nstat -az UdpInCsumErrors Udp6InCsumErrors", "what this host's own stack has refused"),
            ("ethtool -K DEV rx off", "for a moment: if they stay, it is not the card's verification that is wrong"),
        ],
        wireshark: &["udp.checksum.status == \"Bad\"", "udp.checksum.bad"],
        suricata: &["udpv4-csum:invalid", "udpv6-csum:invalid"],
        kernel: &["udp_csum", "UdpInCsumErrors", "Udp6InCsumErrors"],
    },
    Finding {
        reason: Malformed::IcmpShort,
        more: "",
        causes: &[
            "a scanner, or a program that builds messages by hand",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ip.proto == 1 && ip.len < 28'", "the sources"),
            ("nstat -az IcmpInErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && ip.proto == 1"],
        suricata: &["icmpv4.pkt_too_small"],
        kernel: &["IcmpInErrors"],
    },
    Finding {
        reason: Malformed::IcmpCsum,
        more: "No card verifies ICMP. It is looked for where packets come in at a track point, as far as the budget goes: \
               lossprobe_l4_checksums_total says how many were verified.",
        causes: &[
            "the message was damaged on its way: bad memory in a switch, router or NIC, each link's own checksum being right",
            "a middlebox that rewrites the packet quoted inside an error and forgets this checksum (NAT)",
            "a home-made sender",
        ],
        exceptions: &["fragments, of which none has the whole message: not judged"],
        next_steps: &[
            ("tcpdump -nvvi DEV icmp", "`wrong icmp cksum` marks them, with the sender"),
            ("nstat -az IcmpInCsumErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["icmp.checksum.status == \"Bad\"", "icmp.checksum_bad"],
        suricata: &["icmpv4-csum:invalid"],
        kernel: &["icmp_csum", "IcmpInCsumErrors"],
    },
    Finding {
        reason: Malformed::IcmpQuote,
        more: "Whoever gets such an error cannot tell which of its packets is meant, and path MTU discovery fails.",
        causes: &[
            "a router or firewall that quotes too little, or writes a wrong length over a quote with extensions (RFC 4884)",
            "a NAT that translates the quote and leaves lengths behind that do not fit",
            "forged errors that are to end connections",
        ],
        exceptions: &["a quoted length that a router on the way has changed: reported, and harmless"],
        next_steps: &[
            (
                "tcpdump -i DEV -c 1000 -w FILE 'icmp[0] = 3 or icmp[0] = 11 or icmp[0] = 12'",
                "a capture of what may break the rule",
            ),
            ("lossprobe analyze FILE", "which frames do"),
            ("tshark -r FILE -Y icmp -V", "the quote, and the router that sent it"),
            ("nstat -az IcmpInErrors", "what this host's own stack has refused"),
        ],
        wireshark: &[],
        suricata: &["icmpv4.ipv4_trunc_pkt", "icmpv4.ipv4_unknown_ver"],
        kernel: &["IcmpInErrors"],
    },
    Finding {
        reason: Malformed::IcmpFamily,
        more: "The other protocol's messages mean nothing there; a host answers that it does not know the protocol.",
        causes: &[
            "a scanner that tests filters",
            "a translator between IPv4 and IPv6 that forgets the protocol number",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV 'ip proto 58 or ip6 proto 1'", "the sources, and what they send"),
            ("nstat -az IpInUnknownProtos Ip6InUnknownProtos", "what this host's own stack has refused"),
        ],
        wireshark: &["(ip.proto == 58 && ip) || (ipv6.nxt == 1 && ipv6)"],
        suricata: &["ipv4.icmpv6", "ipv6.icmpv4"],
        kernel: &["IpInUnknownProtos", "Ip6InUnknownProtos"],
    },
    Finding {
        reason: Malformed::Icmp6Short,
        more: "",
        causes: &[
            "a scanner, or a program that builds messages by hand",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ipv6.nxt == 58 && ipv6.plen < 4'", "the sources"),
            ("nstat -az Icmp6InErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && ipv6.nxt == 58"],
        suricata: &["icmpv6.pkt_too_small"],
        kernel: &["Icmp6InErrors"],
    },
    Finding {
        reason: Malformed::Icmp6Csum,
        more: "It covers the addresses, too. It is looked for where packets come in at a track point, as far as the budget goes: \
               lossprobe_l4_checksums_total says how many were verified.",
        causes: &[
            "the message was damaged on its way: bad memory in a switch, router or NIC, each link's own checksum being right",
            "a middlebox that rewrites addresses and does not correct the checksum (NPTv6, NAT64)",
            "a home-made sender",
        ],
        exceptions: &[
            "messages whose checksum this host leaves open (CHECKSUM_PARTIAL): not reported",
            "fragments, of which none has the whole message: not judged",
        ],
        next_steps: &[
            ("tcpdump -nvvi DEV icmp6", "`bad icmp6 cksum` marks them, with the sender"),
            ("nstat -az Icmp6InCsumErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["icmpv6.checksum.status == \"Bad\"", "icmpv6.checksum_bad.expert"],
        suricata: &["icmpv6-csum:invalid"],
        kernel: &["icmp_csum", "Icmp6InCsumErrors"],
    },
    Finding {
        reason: Malformed::NdHopLimit,
        more: "A router would have counted down, so 255 proves that the sender is on this segment: a message with less pretends to be.",
        causes: &[
            "somebody far away who tries to pass for a neighbour or a router",
            "a tunnel or a virtual switch that counts down although it does not route",
            "a home-made sender that leaves the hop limit at 64",
        ],
        exceptions: &[],
        next_steps: &[
            (
                "tcpdump -evni DEV 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137 and ip6[7] != 255'",
                "the MAC address, and how far it is off 255",
            ),
            ("lossprobe watch --reason ipv6_ndisc_hop_limit", "those that the kernel here has refused"),
        ],
        wireshark: &["icmpv6.type in {133 .. 137} && ipv6.hlim != 255"],
        suricata: &[],
        kernel: &["ipv6_ndisc_hop_limit"],
    },
    Finding {
        reason: Malformed::NdCode,
        more: "",
        causes: &["a home-made or broken sender on this segment", "a tool that tests or attacks IPv6"],
        exceptions: &[],
        next_steps: &[
            (
                "tcpdump -evni DEV 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137 and ip6[41] != 0'",
                "the sender's MAC address",
            ),
            ("lossprobe watch --reason ipv6_ndisc_bad_code", "those that the kernel here has refused"),
        ],
        wireshark: &["icmpv6.type in {133 .. 137} && icmpv6.code != 0"],
        suricata: &["icmpv6.unknown_code"],
        kernel: &["ipv6_ndisc_bad_code"],
    },
    Finding {
        reason: Malformed::NdOptLen,
        more: "Such a message is not to be believed at all (RFC 4861 4.6).",
        causes: &[
            "a router or host whose advertisements are built wrongly, after a change of its options",
            "a tool that tests or attacks IPv6: length 0 once made receivers loop",
        ],
        exceptions: &[],
        next_steps: &[
            (
                "tcpdump -i DEV -c 1000 -w FILE 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137'",
                "a capture of what may break the rule",
            ),
            ("lossprobe analyze FILE", "which frames do"),
            ("tshark -r FILE -Y icmpv6 -V", "the options, and the sender's MAC address"),
            ("lossprobe watch --reason ipv6_ndisc_bad_options", "those that the kernel here has refused"),
        ],
        wireshark: &["icmpv6.invalid_option_length"],
        suricata: &[],
        kernel: &["ipv6_ndisc_bad_options"],
    },
];
