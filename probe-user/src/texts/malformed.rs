//! Drop reasons of class malformed: the packet contradicts itself or a standard.

use super::Text;

pub(super) const TEXTS: &[Text] = &[
    Text {
        name: "dev_hdr",
        meaning: "The header that a device's driver expects in front of the packet was invalid: mostly the virtio header of \
                  a tun or tap device, whose lengths or offload fields do not fit the packet.",
        causes: &[
            "a guest or program that writes wrong offload information into its tap",
            "program and device disagree about the header's size (IFF_VNET_HDR, TUNSETVNETHDRSZ)",
        ],
        next_steps: &[
            ("ip -d link show dev DEV", "the tap's flags: vnet_hdr on or off"),
            ("ethtool -K GUESTDEV tso off gso off tx off", "in the guest: no offloads, no such fields"),
            ("lossprobe watch --reason dev_hdr --interface DEV", "what the packets are"),
        ],
    },
    Text {
        name: "dup_frag",
        meaning: "A fragment came whose bytes had already arrived in another fragment of the same packet.",
        causes: &[
            "the network delivers packets twice: a loop, a mirror, a bond that sends on two links",
            "overlapping fragments, as old attacks make them",
            "identifications repeat because a sender fragments very many packets (RFC 4963)",
        ],
        next_steps: &[
            ("nstat -az IpReasmFails Ip6ReasmFails TcpExtIPReasmOverlaps", "failures to put packets together"),
            ("lossprobe watch --reason dup_frag", "from where"),
            ("tcpdump -ni DEV 'ip[6:2] & 0x3fff != 0'", "the fragments themselves: are they there twice?"),
        ],
    },
    Text {
        name: "frag_reasm_timeout",
        meaning: "Fragments waited for the missing rest of their packet until the time was up (30 s for IPv4 and 60 s for IPv6 \
                  by default). At least one fragment was lost before it came here, or dropped here.",
        causes: &[
            "loss on the path: a packet in N fragments is lost N times as easily",
            "a firewall, load balancer or ECMP hash that lets only first fragments pass, since the others have no ports",
            "fragments of one packet arrive at different hosts (anycast, several load balancers)",
        ],
        next_steps: &[
            ("nstat -az IpReasmTimeout Ip6ReasmTimeout IpReasmReqds IpReasmOKs", "how many of how many"),
            ("lossprobe watch --reason frag_reasm_timeout", "whose packets"),
            ("ping -M do -s 1472 ADDRESS", "the path's real MTU: a sender that fits into it need not fragment"),
        ],
    },
    Text {
        name: "frag_too_far",
        meaning: "Between two fragments of one packet too many others from the same source have arrived, so it was taken for \
                  a packet of which a fragment is lost (net.ipv4.ipfrag_max_dist, 64 by default).",
        causes: &[
            "strong reordering or a lost fragment while the source sends much fragmented UDP (NFS, IPsec, video)",
            "fragments spread over several links or CPUs",
        ],
        next_steps: &[
            ("nstat -az IpReasmFails", "the sum of packets that were not put together"),
            ("sysctl -w net.ipv4.ipfrag_max_dist=0", "switches the check off, where sources do send so much"),
            (
                "ethtool -n DEV rx-flow-hash udp4",
                "a hash over ports (sdfn) parts first from later fragments; sd does not",
            ),
        ],
    },
    Text {
        name: "hdr_trunc",
        meaning: "A header that had to be there was not: the packet ends before it, or its first bytes could not be had in \
                  one piece.",
        causes: &[
            "packets that are cut: by the sender, a tunnel or a guest",
            "a program that writes short packets into a tun or tap device",
            "no memory to make the header contiguous",
        ],
        next_steps: &[
            ("lossprobe watch --reason hdr_trunc --output json", "the packet's length and its first bytes"),
            ("lossprobe stats", "whether a malformed reason such as ip4_short counts on the same interface"),
        ],
    },
    Text {
        name: "icmp_csum",
        meaning: "The checksum of an ICMP or ICMPv6 message is wrong.",
        causes: &[
            "the message was damaged on its way: bad memory in a router or NIC, since links have checksums of their own",
            "a middlebox that rewrites addresses and forgets the checksum (NAT of quoted packets, NPTv6)",
            "a home-made ICMP sender",
        ],
        next_steps: &[
            ("nstat -az IcmpInCsumErrors Icmp6InCsumErrors", "the kernel's own sum"),
            ("tcpdump -nvvi DEV icmp or icmp6", "`wrong icmp cksum` marks them, with the sender"),
            ("ethtool -K DEV rx off", "for a moment: if it ends, the NIC checked wrongly"),
        ],
    },
    Text {
        name: "invalid_proto",
        meaning: "The packet breaks a protocol's rule and must not be answered (RFC 1122): mostly an ICMP echo or timestamp \
                  request that was sent to a broadcast or multicast address.",
        causes: &[
            "`ping` to a broadcast address, by monitoring or by a device that looks for others",
            "an attempt to use this segment as an amplifier (smurf)",
        ],
        next_steps: &[
            ("lossprobe watch --reason invalid_proto", "who sends what to whom"),
            ("sysctl net.ipv4.icmp_echo_ignore_broadcasts", "1, the default, is why echo requests to all are dropped"),
        ],
    },
    Text {
        name: "ip_csum",
        meaning: "The checksum of an IPv4 header is wrong. No router forwards such a packet, so it was damaged, or made wrongly, \
                  on this segment or by this segment's router.",
        causes: &[
            "bad memory in a switch, router or NIC, which damages packets after the link's own check",
            "a NIC or hypervisor whose checksum offload is broken",
            "a program that builds packets by hand",
        ],
        next_steps: &[
            ("lossprobe watch --reason ip_csum --output json", "the header as it came: what is wrong in it"),
            ("lossprobe stats", "ip4_csum counts the same frames at the interface"),
            ("nstat -az IpExtInCsumErrors IpInHdrErrors", "the kernel's own sums"),
        ],
    },
    Text {
        name: "ip_inhdr",
        meaning: "An IP header is not acceptable: wrong version or length, bad options; or the hop limit (TTL) ran out while the \
                  packet was being forwarded, for which the kernel has no other name.",
        causes: &[
            "traceroute through this host: each probe ends like this, on purpose",
            "a routing loop: packets go round until their hop limit is used up",
            "damaged or forged headers",
        ],
        next_steps: &[
            ("lossprobe watch --reason ip_inhdr --output json", "a TTL of 1 in the header says that it ran out"),
            ("traceroute -n ADDRESS", "towards such a destination: two hops in turn are a loop"),
            ("nstat -az IpInHdrErrors Ip6InHdrErrors IcmpOutTimeExcds", "time exceeded against all header errors"),
        ],
    },
    Text {
        name: "ip_invalid_dest",
        meaning: "The destination address is one that no packet on a wire may have, such as 0.0.0.0.",
        causes: &["a program or a device that sends before it knows whom to", "forged packets"],
        next_steps: &[
            ("tcpdump -eni DEV dst net 0.0.0.0/8", "the MAC address of whoever sends them"),
            ("journalctl -k | grep -i martian", "with net.ipv4.conf.DEV.log_martians=1 the kernel logs them"),
        ],
    },
    Text {
        name: "ip_invalid_source",
        meaning: "The source address is one that nobody can have: multicast, broadcast, or 0.0.0.0 where that is not allowed.",
        causes: &[
            "a host without an address that already sends (DHCP clients may, others may not)",
            "a wrong netmask, so that somebody's own address is another's broadcast address",
            "forged packets",
        ],
        next_steps: &[
            ("tcpdump -eni DEV 'src net 0.0.0.0/8 or src net 224.0.0.0/3'", "the MAC address of whoever sends them"),
            ("sysctl -w net.ipv4.conf.DEV.log_martians=1", "the kernel then logs them with their link-layer header"),
            ("ip -4 address show dev DEV", "whether this host's own netmask is right"),
        ],
    },
    Text {
        name: "ip_localnet",
        meaning: "A packet with a loopback address (127.0.0.0/8) as source or destination came from, or was to leave by, an \
                  interface that is not the loopback.",
        causes: &[
            "a DNAT or REDIRECT rule to 127.0.0.1 for packets that come from outside",
            "a BPF program or a proxy that rewrites addresses and does not rewrite them back",
            "forged packets",
        ],
        next_steps: &[
            ("nft list ruleset", "rules that redirect to 127.0.0.1"),
            ("sysctl net.ipv4.conf.DEV.route_localnet", "1 allows it on that interface; know what you open"),
            ("lossprobe watch --reason ip_localnet", "which packets"),
        ],
    },
    Text {
        name: "ipv6_bad_exthdr",
        meaning: "An IPv6 extension header is malformed, or the packet has more of them or more options than this kernel follows.",
        causes: &[
            "scanners and protocol tests that send odd chains of headers",
            "a segment routing or hop-by-hop header from a device that builds it wrongly",
            "packets damaged on their way",
        ],
        next_steps: &[
            ("lossprobe stats", "reasons such as ip6_ext_trunc or ip6_opt_len at the interface say which header"),
            ("lossprobe watch --reason ipv6_bad_exthdr --output json", "the header chain is in the bytes"),
            ("sysctl net.ipv6.max_hbh_opts_number net.ipv6.max_dst_opts_number", "how many options this host takes"),
        ],
    },
    Text {
        name: "ipv6_ndisc_bad_code",
        meaning: "A neighbour discovery message has a code other than 0, which RFC 4861 says to drop.",
        causes: &[
            "a home-made or broken neighbour discovery sender on this segment",
            "a tool that tests or attacks IPv6",
        ],
        next_steps: &[
            ("lossprobe watch --reason ipv6_ndisc_bad_code", "the sender's address, most likely one of this segment"),
            (
                "tcpdump -nevvi DEV 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137 and ip6[41] != 0'",
                "these messages, with the sender's MAC address",
            ),
        ],
    },
    Text {
        name: "ipv6_ndisc_bad_options",
        meaning: "The options of a neighbour discovery message do not parse: a length of 0, or one that reaches beyond the message.",
        causes: &[
            "a router or guest that builds router advertisements or solicitations wrongly",
            "messages cut or damaged on this segment",
            "fuzzing",
        ],
        next_steps: &[
            (
                "lossprobe watch --reason ipv6_ndisc_bad_options --output json",
                "the sender's address, and the message itself",
            ),
            ("rdisc6 DEV", "asks all routers of the segment and shows what they answer"),
        ],
    },
    Text {
        name: "ipv6_ndisc_frag",
        meaning: "A neighbour discovery message came in fragments, which RFC 6980 forbids, because filters on switches can be \
                  passed that way.",
        causes: &[
            "an attempt to get router advertisements past RA guard",
            "an extremely long list of options in an advertisement",
        ],
        next_steps: &[
            (
                "tcpdump -eni DEV 'ip6[6] == 44'",
                "fragments with the MAC address of their sender, who is on this segment",
            ),
            ("sysctl net.ipv6.conf.DEV.suppress_frag_ndisc", "1, the default, is the rule of RFC 6980"),
        ],
    },
    Text {
        name: "ipv6_ndisc_hop_limit",
        meaning: "A neighbour discovery message has a hop limit under 255, so it does not come from this segment, or its maker \
                  is broken.",
        causes: &[
            "somebody sends forged neighbour discovery from another network",
            "a router or tunnel that forwards what must stay on its link",
            "a device that sets the hop limit wrongly",
        ],
        next_steps: &[
            (
                "lossprobe watch --reason ipv6_ndisc_hop_limit --output json",
                "source and hop limit: from which network they came",
            ),
            (
                "tcpdump -nevvi DEV 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137 and ip6[7] != 255'",
                "with MAC addresses: a router's says that it forwards them",
            ),
        ],
    },
    Text {
        name: "mac_invalid_source",
        meaning: "The source MAC address is one that no sender can have: a group address, all zeros, or the receiving device's own.",
        causes: &[
            "a virtual device or guest without a proper address",
            "a loop: frames of a VXLAN or bridge come back to their maker",
            "a damaged frame, or a tool that forges",
        ],
        next_steps: &[
            ("tcpdump -eni DEV", "link-layer addresses of the frames as they come"),
            ("ip link show dev DEV", "this device's own address, to compare"),
            ("bridge fdb show dev DEV", "from where such an address was learnt"),
        ],
    },
    Text {
        name: "ovs_drop_frag_invalid_proto",
        meaning: "Open vSwitch was to fragment a packet that is neither IPv4 nor IPv6.",
        causes: &[
            "a frame of another protocol that is larger than the MTU of the output port, behind a conntrack action",
            "headers that were changed so that they no longer are what the flow takes them for",
        ],
        next_steps: &[
            ("ovs-appctl dpctl/dump-flows -m", "the flow that outputs there"),
            ("ip link show dev DEV", "the MTU of the output port against that of the input"),
        ],
    },
    Text {
        name: "pkt_too_big",
        meaning: "The packet is larger than the next link takes, and may not be fragmented: a router sends \"packet too big\" \
                  back, a bridge or veth just drops it.",
        causes: &[
            "path MTU discovery at work: a few per connection are ordinary",
            "the sender never hears of it, because ICMP is filtered: connections hang as soon as they send much",
            "different MTUs on one segment or on the two ends of a veth; a tunnel whose overhead was not subtracted",
        ],
        next_steps: &[
            ("ip link show", "MTUs along the way of the packet"),
            ("tracepath -n ADDRESS", "where the path becomes narrower"),
            (
                "nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu",
                "for TCP where ICMP gets lost",
            ),
        ],
    },
    Text {
        name: "pkt_too_small",
        meaning: "The packet has fewer bytes than its own headers say, or than the protocol needs at the least.",
        causes: &[
            "packets that were cut on their way or by a guest's driver",
            "home-made packets with wrong length fields, scans among them",
        ],
        next_steps: &[
            ("nstat -az IpExtInTruncatedPkts Ip6InTruncatedPkts UdpInErrors TcpInErrs", "at which layer"),
            ("lossprobe watch --reason pkt_too_small --output json", "lengths, and the first bytes"),
            ("lossprobe stats", "ip4_trunc, ip6_trunc, tcp_short or udp_short at the interface say more"),
        ],
    },
    Text {
        name: "skb_csum",
        meaning: "A checksum that was left to be computed could not be: the packet's own description of where it begins does not \
                  fit the packet.",
        causes: &[
            "a guest or driver that asks for checksum offload with wrong offsets",
            "a header was added or removed by a tunnel or a BPF program without adjusting the offsets",
        ],
        next_steps: &[
            ("ethtool -K GUESTDEV tx off", "in the sender: if it ends, its offload information was wrong"),
            ("lossprobe watch --reason skb_csum", "which packets, and where in the kernel"),
            ("bpftool net show", "BPF programs that may change packets"),
        ],
    },
    Text {
        name: "tcp_auth_hdr",
        meaning: "A TCP segment bears authentication options that contradict each other: MD5 and TCP-AO together, one of them \
                  twice, or one with a wrong length.",
        causes: &[
            "a peer in the middle of a change from MD5 to TCP-AO that sends both",
            "a segment that was changed by a middlebox, or forged",
        ],
        next_steps: &[
            ("lossprobe watch --reason tcp_auth_hdr --output json", "which peer; the options are in the bytes"),
            ("tcpdump -nvi DEV 'tcp port 179'", "shows the options, one line each segment"),
        ],
    },
    Text {
        name: "tcp_csum",
        meaning: "The checksum of a TCP segment is wrong; TCP repeats it, so this costs time and not data.",
        causes: &[
            "damage on the way: bad memory in a router, switch or NIC, which the links' own checksums do not see",
            "a middlebox that changes segments and not the checksum",
            "packets of a guest on the same host that were captured or redirected before their checksum was filled in",
        ],
        next_steps: &[
            ("nstat -az TcpInCsumErrors TcpInErrs", "the kernel's own sum; it must stand still on a healthy network"),
            ("lossprobe watch --reason tcp_csum", "one peer, one path or all of them?"),
            ("ethtool -K DEV rx off", "for a moment: if it ends, the NIC checked wrongly"),
        ],
    },
    Text {
        name: "tcp_flags",
        meaning: "The flags of a TCP segment make no sense in the state of its socket, such as none of SYN, ACK and RST, or SYN \
                  together with FIN.",
        causes: &["port scans (null, FIN, Xmas) and fingerprinting: by far the most", "a middlebox or a broken stack"],
        next_steps: &[
            ("lossprobe watch --reason tcp_flags", "few sources and many ports are a scan"),
            (
                "nft 'add rule inet filter input tcp flags & (fin | syn | rst | ack) == 0x0 counter drop'",
                "if it is to be filtered",
            ),
            ("lossprobe stats", "the malformed reason tcp_flags counts them at the interface"),
        ],
    },
    Text {
        name: "udp_csum",
        meaning: "The checksum of a UDP datagram is wrong, or is zero over IPv6 where it must not be: the datagram is lost, nobody \
                  repeats it.",
        causes: &[
            "damage on the way: bad memory in a router, switch or NIC",
            "a sender or a tunnel that leaves the checksum out over IPv6 (VXLAN with udp6zerocsumtx)",
            "DHCP or other packets of a guest on the same host whose checksum was never filled in",
        ],
        next_steps: &[
            ("nstat -az UdpInCsumErrors Udp6InCsumErrors", "the kernel's own sum"),
            ("lossprobe watch --reason udp_csum", "from whom, to which port"),
            ("ip -d link show dev DEV", "of a VXLAN: udp6zerocsumrx lets zero pass, if the far end sends it"),
        ],
    },
    Text {
        name: "vxlan_invalid_hdr",
        meaning: "A packet came to a VXLAN port whose VXLAN header has no valid network identifier, or reserved bits set that this \
                  device does not take.",
        causes: &[
            "the far end uses an extension (group policy, GPE) that the device here has not switched on",
            "something else than VXLAN is sent to the port: another overlay, a scan",
        ],
        next_steps: &[
            ("ip -d link show type vxlan", "port, gbp and gpe here; compare with the far end"),
            (
                "lossprobe watch --reason vxlan_invalid_hdr --output json",
                "who sends; the 8 bytes behind UDP are the header",
            ),
        ],
    },
];
