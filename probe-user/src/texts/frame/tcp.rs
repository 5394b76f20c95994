//! TCP.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::TcpShort,
        more: "",
        causes: &[
            "a scanner, or a test of filters by packets without flags",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
            "damage of the protocol field before the last router: it was no TCP",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ip.proto == 6 && ip.len < 40'", "the sources: a scan comes from few"),
            ("nstat -az TcpInErrs", "what this host's own stack has refused"),
        ],
        wireshark: &["_ws.malformed && (ip.proto == 6 || ipv6.nxt == 6)"],
        suricata: &["tcp.pkt_too_small"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpDoff,
        more: "",
        causes: &[
            "a scanner, or a test of filters by broken headers",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
            "damage on the way: then the checksum of most of them is wrong, too",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tcpdump -vni DEV 'tcp[12] & 0xf0 < 0x50'", "the sources: a scan comes from few"),
            ("nstat -az TcpInErrs", "what this host's own stack has refused"),
        ],
        wireshark: &["tcp.bogus_header_length", "tcp.short_segment"],
        suricata: &["tcp.hlen_too_small", "tcp.invalid_optlen"],
        kernel: &["pkt_too_small", "TcpInErrs"],
    },
    Finding {
        reason: Malformed::TcpOpt,
        more: "",
        causes: &[
            "a middlebox that changes options (MSS, window scale, timestamps) and leaves a wrong length behind",
            "a scanner that identifies systems by their answers",
            "damage on the way: then the checksum of most of them is wrong, too",
        ],
        exceptions: &["an empty SACK (length 2), which some systems send: not reported"],
        next_steps: &[
            (
                "tcpdump -vni DEV 'tcp[12] & 0xf0 > 0x50 and tcp[tcpflags] & tcp-syn != 0'",
                "the options of new connections",
            ),
            ("lossprobe stats", "whether tcp_csum counts, too: damage; if not, somebody writes them like this"),
        ],
        wireshark: &["tcp.option.len.invalid"],
        suricata: &["tcp.opt_invalid_len"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpOptSyn,
        more: "A receiver ignores them; but somebody has added or moved what the other end did not send.",
        causes: &[
            "a middlebox that adds or clamps the MSS on every packet instead of the SYN only",
            "an embedded or old TCP that sends its MSS all the time",
            "a scanner that identifies systems by their answers",
        ],
        exceptions: &["an MSS beyond the SYN, by systems that know no better: reported"],
        next_steps: &[
            (
                "tshark -i DEV -a duration:60 -Y tcp.options.mss.present",
                "one source is one system, many are a middlebox",
            ),
            ("nft list ruleset | grep -i maxseg", "whether this host clamps the MSS itself, and on which packets"),
        ],
        wireshark: &["tcp.options.mss.present", "tcp.options.wscale.shift.invalid"],
        suricata: &["tcp.opt_duplicate"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpNop4,
        more: "A sender pads to four bytes, so it never needs four NOPs: where an option of four bytes (MSS, SACK permitted with \
               its padding) or more stood, a device on the way has written NOPs over it. Without SACK or timestamps losses cost \
               more.",
        causes: &[
            "a firewall or router that takes options out ('normalises' TCP)",
            "a load balancer or DDoS filter that answers with fewer options",
            "an old or embedded TCP that pads like this",
        ],
        exceptions: &["systems that pad with NOPs: reported, since the segment does not tell who wrote them"],
        next_steps: &[
            ("tcpdump -vni DEV 'tcp[tcpflags] & tcp-syn != 0'", "which option is missing, towards which networks"),
            ("tracebox ADDRESS", "after which hop options change (where that tool is installed)"),
            ("nft list ruleset | grep -iE 'reset tcp option|tcp option'", "whether this host does it itself"),
        ],
        wireshark: &["tcp.nop"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpFlags,
        more: "",
        causes: &[
            "a port scanner (`nmap -sN`, `-sF`, `-sX`) or one that identifies systems",
            "a middlebox that ends connections and sets flags carelessly (FIN and RST in one)",
            "damage on the way: then the checksum of most of them is wrong, too",
        ],
        exceptions: &["T/TCP (RFC 1644), which opened and closed in one segment: reported, and extinct"],
        next_steps: &[
            (
                "tcpdump -vni DEV 'tcp[13] & 0x16 = 0 or tcp[13] & 3 = 3 or tcp[13] & 6 = 6 or tcp[13] & 5 = 5'",
                "the sources and ports: many ports of one source are a scan",
            ),
            ("lossprobe explain tcp_invalid_syn", "what the kernel does with a SYN that contradicts itself"),
        ],
        wireshark: &[
            "tcp.flags.syn == 1 && (tcp.flags.fin == 1 || tcp.flags.reset == 1)",
            "tcp.flags.fin == 1 && tcp.flags.reset == 1",
            "tcp.flags & 0x16 == 0",
        ],
        suricata: &[],
        kernel: &["tcp_flags", "tcp_invalid_syn"],
    },
    Finding {
        reason: Malformed::TcpPort0,
        more: "",
        causes: &[
            "a scanner, or a flood with random ports",
            "fragments that a device has taken for whole segments and passed on without their ports",
            "a program that forgot to choose a port and sends through a raw socket",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV tcp port 0", "the sources: few, or forged ones without number?"),
            ("nft list ruleset", "whether a rule drops them: nobody needs them"),
        ],
        wireshark: &["tcp.port == 0"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpAckNz,
        more: "A receiver does not look at the number.",
        causes: &[
            "systems that leave the field as it was when they send a RST or a SYN",
            "a scanner or a flood with random fields",
        ],
        exceptions: &["RSTs of such systems: reported, never as a metric"],
        next_steps: &[
            (
                "tcpdump -vni DEV 'tcp[13] & 0x10 = 0 and tcp[8:4] != 0'",
                "RSTs of many sources are habits, SYNs are a flood",
            ),
            ("lossprobe stats", "whether tcp_flags counts at the same interface: then it is a scanner"),
        ],
        wireshark: &["tcp.ack.nonzero"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpUrgNz,
        more: "A receiver does not look at the pointer.",
        causes: &[
            "systems and middleboxes that leave the field as it was",
            "a scanner that identifies systems, or a covert channel",
        ],
        exceptions: &["senders of that kind: reported, never as a metric"],
        next_steps: &[
            (
                "tcpdump -vni DEV 'tcp[13] & 0x20 = 0 and tcp[18:2] != 0'",
                "the sources, and whether the value is always one",
            ),
            ("lossprobe stats", "whether tcp_flags counts at the same interface: then it is a scanner"),
        ],
        wireshark: &["tcp.urgent_pointer.non_zero"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::TcpCsum,
        more: "The header of IP was right, so a router may have forwarded it: the damage can lie anywhere on the path. It is looked \
               for where packets come in at a track point, in those that neither card nor kernel has verified, as far as the \
               budget goes: lossprobe_l4_checksums_total says how many that are.",
        causes: &[
            "bad memory in a switch, router or NIC on the way: each link's own checksum was right",
            "a middlebox (NAT, load balancer) that rewrites addresses or data and does not correct the checksum",
            "a sender or hypervisor that leaves the checksum to a card which does not do it (offload)",
            "a scanner: packets that only a filter takes for real",
        ],
        exceptions: &[
            "packets between guests and this host, whose checksum is left open (CHECKSUM_PARTIAL): not reported",
            "packets that GRO has put together, each verified before: not reported",
            "fragments, of which none has the whole segment: not judged",
        ],
        next_steps: &[
            (
                "tshark -r tcp_csum.pcapng -o tcp.check_checksum:TRUE -V",
                "value and right value; one peer, or all behind one way?",
            ),
            ("nstat -az TcpInCsumErrors", "what this host's own stack has refused"),
            ("ethtool -K DEV rx off", "for a moment: if they stay, it is not the card's verification that is wrong"),
        ],
        wireshark: &["tcp.checksum.status == \"Bad\"", "tcp.checksum_bad.expert"],
        suricata: &["tcpv4-csum:invalid", "tcpv6-csum:invalid"],
        kernel: &["tcp_csum", "TcpInCsumErrors"],
    },
];
