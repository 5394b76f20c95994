//! Ethernet and 802.3.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::EthShort,
        more: "No network card sends or delivers so few bytes: look for software.",
        causes: &[
            "a program that writes cut frames into a tap or through a packet socket",
            "a tunnel's end or a converter that loses the rest of a frame",
        ],
        exceptions: &[],
        next_steps: &[
            ("ip -d link show dev DEV", "what the device is: behind a tap stands a guest or a program of this host"),
            ("ip -s -s link show dev DEV", "length errors: what the device itself has refused"),
        ],
        wireshark: &["frame.len < 14", "_ws.malformed"],
        suricata: &["ethernet.pkt_too_small"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthRunt,
        more: "A wire carries 64 bytes at least, the last four of which, the checksum, the card keeps. Devices without a wire \
               (veth, tap, virtio and the like) pad nothing and are not judged.",
        causes: &[
            "a card or driver that takes off padding before it hands the frame on",
            "a virtual function or a switch inside the card: frames between guests never were on a wire",
            "a switch or media converter that sends without padding",
        ],
        exceptions: &["a frame whose VLAN tag the card has taken out: not reported, the tag's four bytes are added"],
        next_steps: &[
            (
                "ethtool -S DEV | grep -iE 'undersize|runt|fragment'",
                "whether the card sees short frames on the wire, too",
            ),
            ("ethtool --show-priv-flags DEV", "settings of the driver that concern padding, where it has any"),
            ("tcpdump -eni DEV less 59", "who sends them: one address, or all (then it is the card)"),
        ],
        wireshark: &["frame.len < 60"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthSrcGroup,
        more: "",
        causes: &[
            "bits that flipped in the first byte of the address, in a device's memory",
            "a device or guest whose own address is set wrongly: its first byte must be even",
            "a program that builds frames by hand",
        ],
        exceptions: &["source routing of token ring, where the bit had a meaning: reported, and extinct"],
        next_steps: &[
            ("tcpdump -eni DEV 'ether[6] & 1 = 1'", "the addresses: always the same one, or one that almost exists"),
            ("bridge fdb show | grep -i MAC", "behind which port the address with the bit clear lives"),
        ],
        wireshark: &["eth.src.ig == 1", "eth.src_not_group"],
        suricata: &[],
        kernel: &["mac_invalid_source"],
    },
    Finding {
        reason: Malformed::EthSrcZero,
        more: "",
        causes: &[
            "a virtual device or a program that has not filled in its address",
            "a test generator, or a loop test of old equipment",
            "a device that lost its address: an empty EEPROM, a failed firmware update",
        ],
        exceptions: &["frames on a loopback have no addresses: not reported"],
        next_steps: &[
            ("tcpdump -eni DEV ether src 00:00:00:00:00:00", "what they carry: the network addresses tell who it is"),
            ("ip -br link", "whether a device of this host has no address"),
        ],
        wireshark: &["eth.src == 00:00:00:00:00:00"],
        suricata: &[],
        kernel: &["mac_invalid_source"],
    },
    Finding {
        reason: Malformed::EthSameAddr,
        more: "",
        causes: &[
            "a loop or port test of a switch or a card in the network",
            "a program that fills both addresses with one",
            "two devices or guests with the same address",
        ],
        exceptions: &[
            "frames on a loopback: not reported",
            "the loop test of switches (type 0x9000), sent to the port's own address: not reported",
        ],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -Y 'eth.src == eth.dst'", "who, and with what inside"),
            ("bridge fdb show | grep -i MAC", "whether the address is known behind more than one port"),
        ],
        wireshark: &["eth.src == eth.dst"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthTypeGap,
        more: "",
        causes: &[
            "bits that flipped in the type, in a device's memory: the other fields often are all right",
            "a tag or tunnel header taken off at the wrong place, so that what is read as the type is something else",
            "a program that writes a length over 1,500 into the field (frames of 802.3 cannot be jumbo frames)",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV 'ether[12:2] > 1500 and ether[12:2] < 1536'", "what follows the field: an IP header?"),
            ("lossprobe stats", "whether other reasons of this layer count at the same interface"),
        ],
        wireshark: &["eth.invalid_lentype"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthLenGt,
        more: "",
        causes: &[
            "a device that cuts frames and keeps their length field, with a new and valid FCS over what is left",
            "bits that flipped in the type or length field",
            "a home-made protocol that uses small numbers as its type",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV 'ether[12:2] <= 1500'", "all frames with a length: to which address, of which protocol"),
            ("ethtool -S DEV | grep -iE 'range|length'", "what the card says of length fields (InRangeLengthErrors)"),
        ],
        wireshark: &["eth.len.past_end"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::LlcShort,
        more: "",
        causes: &[
            "a device that sends frames with length 0 to 2, as some keep-alives and vendors' tests do",
            "bits that flipped in the type or length field",
        ],
        exceptions: &["raw IPX of Novell (length 2, then 0xFFFF): not reported"],
        next_steps: &[
            ("tcpdump -eni DEV 'ether[12:2] < 3'", "who sends them, how often: a steady rhythm is a keep-alive"),
            ("lossprobe stats", "whether other reasons of this layer count at the same interface"),
        ],
        wireshark: &["eth.len < 3"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthUnknownType,
        more: "The list has the types that are in common use; the registry knows hundreds more.",
        causes: &[
            "a vendor's own protocol: loop detection, stacking, storage, audio, industrial control",
            "bits that flipped in the type: then it comes once, with an ordinary header behind it",
        ],
        exceptions: &["every registered type that is not in the list: reported, and mostly all right"],
        next_steps: &[
            ("tshark -i DEV -a duration:60 -T fields -e eth.type -e eth.src", "which types, and from whom"),
            ("lossprobe explain unhandled_proto", "what the kernel does with types that nobody here takes"),
        ],
        wireshark: &[],
        suricata: &["ethernet.unknown_ethertype"],
        kernel: &["unhandled_proto"],
    },
    Finding {
        reason: Malformed::EthTrailer,
        more: "",
        causes: &[
            "a tap, a packet broker or a switch that appends a time stamp or a port number",
            "a switch inside the machine that marks ports at the end (DSA trailers), or a ring protocol",
            "a device that writes a wrong, too short length into the IP header, or leaves old bytes in its buffer",
        ],
        exceptions: &[
            "4 bytes (a kept FCS) and 6 bytes (PRP, HSR): not reported",
            "padding up to 60 bytes: not reported",
            "trailers of taps and of DSA: reported, since they look like any others",
        ],
        next_steps: &[
            (
                "tshark -i DEV -a duration:60 -Y eth.trailer -T fields -e eth.src -e eth.trailer",
                "what the bytes are, always alike?",
            ),
            ("ethtool -k DEV | grep rx-fcs", "on: the card hands over the FCS, too"),
        ],
        wireshark: &["eth.trailer"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::EthOversize,
        more: "",
        causes: &[
            "this device's MTU is smaller than that of its neighbours",
            "a jumbo frame that reaches a segment without jumbo frames",
            "tags of tags, MACsec or a tunnel that make frames longer than the MTU tells",
        ],
        exceptions: &["packets that GSO, GRO or LRO has put together: not reported"],
        next_steps: &[
            ("ip link show dev DEV", "its MTU; compare it with that of the neighbour and of the switch"),
            ("ethtool -k DEV | grep -E 'large-receive|generic-receive'", "what may put packets together"),
            ("ethtool -S DEV | grep -iE 'oversize|too_?long|jabber'", "what the card has refused as too long"),
        ],
        wireshark: &[],
        suricata: &[],
        kernel: &[],
    },
];
