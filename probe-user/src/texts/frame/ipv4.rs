//! IPv4.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::Ip4Short,
        more: "",
        causes: &[
            "a device on this segment that cuts frames and writes a new, valid FCS over what is left",
            "bits that flipped in the type: 0x0800 where something else stood",
            "a program or guest that writes short packets into a tap, a tun or a raw socket",
        ],
        exceptions: &[],
        next_steps: &[
            ("nstat -az IpInHdrErrors", "what this host's own stack has refused; on a bridge nobody counts them"),
            ("tcpdump -exxni DEV ip and less 33", "the bytes, and the last sender's MAC address"),
        ],
        wireshark: &["_ws.malformed && eth.type == 0x0800"],
        suricata: &["ipv4.pkt_too_small"],
        kernel: &["ip_inhdr", "IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4Ver,
        more: "",
        causes: &[
            "bits that flipped in the first byte of the header or in the type, in a device's memory",
            "a tunnel's end or converter that writes 0x0800 before IPv6, or takes off a header of the wrong length",
            "a program that builds packets by hand",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -exxni DEV 'ether proto 0x0800 and ether[14] & 0xf0 != 0x40'", "what stands there: 6 is IPv6"),
            ("nstat -az IpInHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ip.bogus_ip_version"],
        suricata: &["ipv4.wrong_ip_version"],
        kernel: &["ip_inhdr", "IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4Ihl,
        more: "",
        causes: &[
            "bits that flipped in the first byte of the header, in a device's memory",
            "a device on this segment that cuts frames inside the header's options",
            "a program that builds packets by hand",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -exxni DEV 'ip[0] & 0xf != 5'", "all with an unusual header length, and the last sender"),
            ("nstat -az IpInHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ip.bogus_header_length"],
        suricata: &["ipv4.hlen_too_small"],
        kernel: &["ip_inhdr", "IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4LenLtHdr,
        more: "",
        causes: &[
            "bits that flipped in the length, in a device's memory: look whether the header checksum fits the old value",
            "a device that offloads segmentation and sends the unfinished header (length 0) as it is",
            "a program that builds packets by hand",
        ],
        exceptions: &["length 0 on a packet that this host has put together (GSO, GRO, BIG TCP): not reported"],
        next_steps: &[
            ("tcpdump -evni DEV 'ip[2:2] < 20'", "who sends them: all from one address is one device's offload"),
            ("ethtool -k DEV | grep segmentation", "if it is this host that sends them: what the card is left to do"),
            ("ethtool -K DEV tso off gso off", "for a moment: if it ends, the offload was it"),
        ],
        wireshark: &["ip.bogus_ip_length", "ip.len < ip.hdr_len"],
        suricata: &["ipv4.iplen_smaller_than_hlen"],
        kernel: &["ip_inhdr", "IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4Trunc,
        more: "The FCS was right, or the card had not let the frame in: who cut it wrote a new one.",
        causes: &[
            "a switch, router or converter that cuts frames in its memory, often at one length or one MTU",
            "a tunnel's end or middlebox that loses the end of a packet",
            "a program or guest that writes short packets into a tap or a tun",
        ],
        exceptions: &["frames that the snap length of a capture has cut: not reported by `lossprobe analyze`"],
        next_steps: &[
            (
                "tshark -r ip4_trunc.pcapng -T fields -e eth.src -e frame.len -e ip.len",
                "whether all are cut at the same length",
            ),
            ("nstat -az IpExtInTruncatedPkts", "what this host's own stack has refused"),
            ("ethtool -S DEV | grep -iE 'err|crc|align'", "if these stand still, the damage is older than this link"),
        ],
        wireshark: &["ip.len > frame.len"],
        suricata: &["ipv4.trunc_pkt"],
        kernel: &["pkt_too_small", "IpExtInTruncatedPkts"],
    },
    Finding {
        reason: Malformed::Ip4Csum,
        more: "Each router checks it and writes a new one, and the FCS of the link, where there is one, was right: the header was damaged inside a \
               device between the last router and here, or made wrongly there.",
        causes: &[
            "bad memory in a switch, router or NIC, which damages packets after the link's own check",
            "a NIC or hypervisor whose checksum offload is broken, or off at one end only",
            "a middlebox (NAT, load balancer, XDP or BPF program) that rewrites the header and forgets the checksum",
        ],
        exceptions: &[],
        next_steps: &[
            (
                "tshark -r ip4_csum.pcapng -o ip.check_checksum:TRUE -V",
                "which field is wrong: the same bit each time is bad memory",
            ),
            ("nstat -az IpExtInCsumErrors IpInHdrErrors", "what this host's own stack has refused"),
            ("ethtool -S DEV | grep -iE 'err|crc|align'", "if these stand still, the damage is older than this link"),
        ],
        wireshark: &["ip.checksum.status == \"Bad\"", "ip.checksum_bad.expert"],
        suricata: &["ipv4-csum:invalid"],
        kernel: &["ip_csum", "IpExtInCsumErrors"],
    },
    Finding {
        reason: Malformed::Ip4Opt,
        more: "",
        causes: &[
            "a scanner or protocol test that sends broken options on purpose",
            "old or home-made equipment that builds options wrongly",
            "damage before the last router, which has written a new checksum over it",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip[0] & 0xf > 5'", "the options, and the source: one address is one sender"),
            ("nstat -az IpInHdrErrors", "what this host's own stack has refused"),
        ],
        wireshark: &["ip.opt.len.invalid", "ip.opt.ptr.before_address", "ip.opt.ptr.middle_address"],
        suricata: &["ipv4.opt_invalid_len", "ipv4.opt_malformed", "ipv4.opt_invalid"],
        kernel: &["IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4SourceRoute,
        more: "Nobody has a use for it on today's Internet; routers that heed RFC 7126 drop it.",
        causes: &[
            "a scanner that looks for hosts which let themselves be used as a relay",
            "`traceroute -g` or `ping` with a route, by hand",
        ],
        exceptions: &["tests of a network's own operator: reported, since the packet does not tell"],
        next_steps: &[
            ("tcpdump -vni DEV 'ip[0] & 0xf > 5'", "from whom, and by which addresses"),
            ("sysctl net.ipv4.conf.all.accept_source_route", "0 lets this host drop them (both all and DEV count)"),
        ],
        wireshark: &["ip.opt.type in {131, 137}"],
        suricata: &["ipopts:lsrr", "ipopts:ssrr"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip4Resv,
        more: "",
        causes: &[
            "a scanner, or a test that identifies systems by their answers",
            "damage before the last router, which has written a new checksum over it",
            "an experiment that uses the bit",
        ],
        exceptions: &["packets that mark themselves by RFC 3514, an April joke: reported"],
        next_steps: &[
            ("tcpdump -vni DEV 'ip[6] & 0x80 != 0'", "the sources: many, from one way, is a device on that way"),
            ("lossprobe stats", "whether errors count at the same interface: then it is damage"),
        ],
        wireshark: &["ip.flags.rb == 1"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip4FragAlign,
        more: "The kernel cuts such a fragment to a multiple of 8 bytes without a word, and the packet misses bytes.",
        causes: &[
            "a router, tunnel or middlebox that cuts packets at its MTU without rounding down",
            "an attack or a test of how systems put fragments together",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip[6] & 0x20 != 0'", "the fragments: do all of one size come from one source?"),
            ("nstat -az IpReasmFails IpReasmReqds", "whether packets are put together here, and how many fail"),
        ],
        wireshark: &["ip.flags.mf == 1 && {ip.len - ip.hdr_len} % 8 != 0"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip4FragBig,
        more: "",
        causes: &[
            "an attack on old systems (ping of death), or a scanner that looks for them",
            "damage of the fragment offset before the last router",
        ],
        exceptions: &[],
        next_steps: &[
            (
                "tcpdump -vni DEV 'ip[6:2] & 0x1fff > 8000'",
                "fragments near the end of what is possible, and the source",
            ),
            ("nstat -az IpReasmFails", "what could not be put together"),
        ],
        wireshark: &["ip.frag_offset * 8 + ip.len > 65535"],
        suricata: &["ipv4.frag_pkt_too_large"],
        kernel: &["IpReasmFails"],
    },
    Finding {
        reason: Malformed::Ip4FragTiny,
        more: "Ports and flags of TCP stand in different fragments then, so that a filter without reassembly does not see both.",
        causes: &[
            "a scanner that tries to pass packet filters (`nmap -f`)",
            "a link with an absurdly small MTU: IPv4 needs 68 bytes only",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vni DEV 'ip[6:2] & 0x3fff != 0 and ip[9] = 6'", "fragments of TCP: hosts of today send none"),
            ("nft list ruleset", "whether the filter here reassembles (connection tracking does) before it judges"),
        ],
        wireshark: &["ip.proto == 6 && ip.flags.mf == 1 && ip.frag_offset == 0 && ip.len < 36"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip4DfMf,
        more: "Somebody has cut a packet that said that it must not be cut.",
        causes: &[
            "a tunnel's end or a router that is told to ignore don't-fragment",
            "old NFS and UDP senders that fragment themselves and set the flag on the pieces",
            "a scanner",
        ],
        exceptions: &["fragments of a sender's own making with both flags, which RFC 6864 lets pass: reported"],
        next_steps: &[
            (
                "tcpdump -vni DEV 'ip[6] & 0x60 = 0x60'",
                "one source is the sender's habit, many are a device on the way",
            ),
            ("ping -M do -s 1472 ADDRESS", "the path's real MTU towards the source"),
        ],
        wireshark: &["ip.flags.df == 1 && ip.flags.mf == 1"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Ip4Src,
        more: "Nobody can answer such an address.",
        causes: &[
            "forged packets, which a provider with filters by RFC 2827 would not let in",
            "a rewriting rule (NAT, BPF, a proxy on 127.0.0.1) whose answer leaves without being translated back",
            "damage of the address before the last router",
        ],
        exceptions: &["0.0.0.0, with which DHCP clients begin: not reported", "127/8 on a loopback: not reported"],
        next_steps: &[
            ("tcpdump -eni DEV 'src net 224.0.0.0/3 or src net 127.0.0.0/8'", "the addresses, and the last sender"),
            ("sysctl -w net.ipv4.conf.DEV.log_martians=1", "the kernel then logs those that it refuses"),
        ],
        wireshark: &["ip.src in {127.0.0.0/8, 224.0.0.0/3}"],
        suricata: &[],
        kernel: &["ip_invalid_source", "ip_localnet"],
    },
    Finding {
        reason: Malformed::Ip4Ttl0,
        more: "A router drops a packet before its TTL is 0; the kernel drops it only where it would have to forward it.",
        causes: &[
            "a router or a device in between that counts down once too often, or sends what it should have dropped",
            "a program that sends with TTL 0, meaning 'this host only'",
            "a scanner or a traceroute of its own kind",
        ],
        exceptions: &["multicast that was meant for its own host only and left it: reported, at the sender"],
        next_steps: &[
            ("tcpdump -evni DEV 'ip[8] = 0'", "from whom and to where: multicast, or anything?"),
            ("traceroute -n ADDRESS", "which router the answers miss"),
        ],
        wireshark: &["ip.ttl == 0"],
        suricata: &[],
        kernel: &["ip_inhdr", "IpInHdrErrors"],
    },
    Finding {
        reason: Malformed::Ip4Land,
        more: "",
        causes: &[
            "forged packets (land attack), for which today's systems do not fall",
            "a host that talks to its own public address, and a NAT (hairpin) that sends the packet back",
        ],
        exceptions: &["packets on a loopback: not reported"],
        next_steps: &[
            (
                "tshark -i DEV -a duration:60 -Y 'ip.src == ip.dst'",
                "the address: one of this host's, one of a guest's?",
            ),
            (
                "lossprobe watch --reason ip_local_source",
                "whether the kernel refuses them, since the source is its own",
            ),
        ],
        wireshark: &["ip.src == ip.dst"],
        suricata: &[],
        kernel: &["ip_local_source"],
    },
];
