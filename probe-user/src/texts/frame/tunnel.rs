//! SCTP, and what carries other packets: GRE, VXLAN, GENEVE.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::SctpShort,
        more: "",
        causes: &[
            "a scanner, or a program that builds packets by hand",
            "a middlebox or tunnel that cuts packets and corrects the IP length",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'ip.proto == 132 && ip.len < 32'", "the sources"),
            ("cat /proc/net/sctp/snmp", "what this host's own SCTP counts, where it is loaded"),
        ],
        wireshark: &["_ws.malformed && (ip.proto == 132 || ipv6.nxt == 132)"],
        suricata: &["sctp.pkt_too_small"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::SctpChunkLen,
        more: "",
        causes: &[
            "a middlebox that takes out or adds a chunk (an ASCONF, a HEARTBEAT) and leaves a wrong length behind",
            "a scanner or protocol test",
            "damage on the way: the CRC of the packet is wrong then, too",
        ],
        exceptions: &["packets that GSO or GRO has put together have their chunks elsewhere: not judged"],
        next_steps: &[
            ("tshark -r sctp_chunk_len.pcapng -o sctp.checksum:crc32c -V", "the chunks, and whether the CRC is right"),
            ("cat /proc/net/sctp/snmp", "what this host's own SCTP counts, where it is loaded"),
        ],
        wireshark: &["sctp.chunk_length < 4", "sctp.chunk_length.bad"],
        suricata: &["sctp.chunk_too_small", "sctp.chunk_len_invalid"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::SctpInit,
        more: "",
        causes: &[
            "a scanner, or a test of how systems treat the beginning of an association",
            "a home-made or very old SCTP",
        ],
        exceptions: &[],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'sctp.chunk_type == 1'", "who asks whom for an association"),
            ("cat /proc/net/sctp/snmp", "what this host's own SCTP counts, where it is loaded"),
        ],
        wireshark: &["sctp.chunk_type == 1 && sctp.verification_tag != 0"],
        suricata: &["sctp.init_chunk_bundled", "sctp.init_with_non_zero_vtag"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::GreShort,
        more: "",
        causes: &[
            "a tunnel's other end, or a device on the way to it, that cuts packets and corrects the IP length",
            "flags that promise a key, checksum or sequence number which is not there: damage, or a home-made sender",
            "a scanner",
        ],
        exceptions: &["fragments behind the first have no header: not judged"],
        next_steps: &[
            ("tcpdump -vvni DEV ip proto 47", "the flags, and the tunnel's other end"),
            (
                "ip -s -d link show type gre",
                "errors and flags (key, csum, seq) of this host's tunnels; also gretap, ip6gre",
            ),
        ],
        wireshark: &["_ws.malformed && (ip.proto == 47 || ipv6.nxt == 47)"],
        suricata: &["gre.pkt_too_small", "gre.version0_hdr_too_big", "gre.version1_hdr_too_big"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::GreVer,
        more: "Versions are 0 (RFC 2784) and 1 (PPTP).",
        causes: &[
            "damage on the way: a tunnel has no checksum of its header unless both ends ask for it",
            "a scanner or a home-made sender",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -xxni DEV ip proto 47", "the first four bytes, and the source"),
            ("ip -s -d link show type gre", "errors of this host's tunnels; also gretap, ip6gre"),
        ],
        wireshark: &["gre.flags.version > 1"],
        suricata: &["gre.wrong_version"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::GreResv,
        more: "",
        causes: &[
            "an old tunnel by RFC 1701 (source routes, recursion control), which RFC 2784 has taken out",
            "damage on the way, or a scanner",
        ],
        exceptions: &["tunnels by RFC 1701: reported, since no receiver of today follows such routes"],
        next_steps: &[
            ("tcpdump -vvni DEV ip proto 47", "the flags, and the tunnel's other end"),
            ("ip -s -d link show type gre", "errors of this host's tunnels; also gretap, ip6gre"),
        ],
        wireshark: &[
            "gre.flags.routing == 1",
            "gre.flags.reserved != 0",
            "gre.flags.version == 1 && gre.flags.key == 0",
        ],
        suricata: &[
            "gre.version0_recur",
            "gre.version0_flags",
            "gre.version1_no_key",
            "gre.version1_flags",
            "gre.version1_route",
            "gre.version1_chksum",
        ],
        kernel: &[],
    },
    Finding {
        reason: Malformed::VxlanShort,
        more: "Judged on ports of this node's own tunnels only, where their packets come in.",
        causes: &[
            "a tunnel's other end, or a device on the way to it, that cuts packets and corrects the lengths",
            "another program that sends to the tunnel's port: a scan, a probe by a load balancer",
        ],
        exceptions: &["datagrams to the same port of other machines, also those that are forwarded: not judged"],
        next_steps: &[
            ("tcpdump -eni DEV udp port 4789 and less 63", "who sends them (put your tunnel's port there)"),
            ("ip -s -d link show type vxlan", "errors, ports and peers of this host's tunnels"),
        ],
        wireshark: &["_ws.malformed && vxlan"],
        suricata: &[],
        kernel: &["pkt_too_small"],
    },
    Finding {
        reason: Malformed::VxlanNoVni,
        more: "The kernel drops it: it cannot know which network the frame belongs to.",
        causes: &[
            "another program that sends to the tunnel's port: a scan, a probe by a load balancer",
            "damage of the first byte behind a UDP checksum that was left out",
            "an end that speaks another protocol on the port, such as one without the flag in its group policy",
        ],
        exceptions: &["datagrams to the same port of other machines, also those that are forwarded: not judged"],
        next_steps: &[
            (
                "tcpdump -exxni DEV 'udp port 4789 and udp[8] & 8 = 0'",
                "what it is, and from whom (put your port there)",
            ),
            ("ip -s -d link show type vxlan", "errors, ports and peers of this host's tunnels"),
        ],
        wireshark: &["vxlan.flag_i == 0"],
        suricata: &[],
        kernel: &["vxlan_invalid_hdr"],
    },
    Finding {
        reason: Malformed::VxlanResv,
        more: "What is inside is not judged then, nor does the kernel take it.",
        causes: &[
            "an extension that the two ends do not agree on (checksum offload, a vendor's own bits)",
            "damage behind a UDP checksum that was left out",
            "another program that sends to the tunnel's port",
        ],
        exceptions: &[
            "VXLAN-GPE, and a group policy (GBP) as Cilium and Calico use it: not reported",
            "other extensions, such as remote checksum offload: reported",
        ],
        next_steps: &[
            ("tcpdump -exxni DEV udp port 4789", "the eight bytes of the header, and the tunnel's other end"),
            ("ip -d link show type vxlan", "gbp, gpe, remcsum: what this host's tunnels expect"),
        ],
        wireshark: &["vxlan.flags_reserved != 0", "vxlan.reserved8 != 0"],
        suricata: &[],
        kernel: &["vxlan_invalid_hdr"],
    },
    Finding {
        reason: Malformed::GeneveShort,
        more: "Judged on ports of this node's own tunnels only, where their packets come in.",
        causes: &[
            "a tunnel's other end, or a device on the way to it, that cuts packets and corrects the lengths",
            "damage of the options' length behind a UDP checksum that was left out",
            "another program that sends to the tunnel's port",
        ],
        exceptions: &["datagrams to the same port of other machines, also those that are forwarded: not judged"],
        next_steps: &[
            ("tcpdump -vvni DEV udp port 6081", "the header, and the tunnel's other end (put your port there)"),
            ("ip -s -d link show type geneve", "errors and ports of this host's tunnels"),
        ],
        wireshark: &["_ws.malformed && geneve"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::GeneveVer,
        more: "There is one version, 0; the kernel drops all others.",
        causes: &[
            "another program that sends to the tunnel's port: a scan, a probe by a load balancer, VXLAN",
            "damage behind a UDP checksum that was left out",
        ],
        exceptions: &["datagrams to the same port of other machines, also those that are forwarded: not judged"],
        next_steps: &[
            (
                "tcpdump -exxni DEV 'udp port 6081 and udp[8] & 0xc0 != 0'",
                "what it is, and from whom (put your port there)",
            ),
            ("ip -s -d link show type geneve", "errors and ports of this host's tunnels"),
        ],
        wireshark: &["geneve.version.unknown"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::GeneveOptLen,
        more: "",
        causes: &[
            "an end that builds options wrongly (Open vSwitch, a network plug-in, a smart card of another version)",
            "damage behind a UDP checksum that was left out",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -vvni DEV udp port 6081", "the options, and the tunnel's other end (put your port there)"),
            ("ovs-ofctl dump-tlv-map BRIDGE", "which options Open vSwitch has mapped, where it runs"),
        ],
        wireshark: &["geneve.option.length.invalid"],
        suricata: &[],
        kernel: &[],
    },
];
