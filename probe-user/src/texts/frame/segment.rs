//! VLAN tags, MPLS labels and ARP: what does not leave a segment.

use probe_ebpf::reason::Malformed;

use super::Finding;

pub(super) const FINDINGS: &[Finding] = &[
    Finding {
        reason: Malformed::VlanShort,
        more: "",
        causes: &[
            "a program or a tunnel's end that cuts frames",
            "bits that flipped in the type: 0x8100 where something else stood, near the end of a short frame",
        ],
        exceptions: &[],
        next_steps: &[
            ("ip -d link show dev DEV", "what the device is: behind a tap stands a guest or a program of this host"),
            ("ethtool -k DEV | grep vlan", "who takes tags off and puts them on: card or kernel"),
        ],
        wireshark: &["_ws.malformed && eth.type == 0x8100"],
        suricata: &["vlan.header_too_small"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Vlan4095,
        more: "",
        causes: &[
            "a device that uses 4095 inside as 'no VLAN' or 'any VLAN' and lets it out",
            "bits that flipped in the tag",
            "a hypervisor's trunk port (4095 is its word for all VLANs) on whose wire a tag was left",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV vlan 4095", "the sender, and what is inside"),
            ("bridge vlan show", "which VLANs the ports here let pass, and which they tag"),
        ],
        wireshark: &["vlan.id == 4095"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::Vlan0,
        more: "The tag says which priority, not which VLAN: the frame belongs to the port's own.",
        causes: &[
            "telephones, storage (FCoE, RoCE) and industrial devices that ask for a priority",
            "a driver that tags everything as soon as priorities are configured",
        ],
        exceptions: &["all of them: reported for those who wonder why a tag is there, never as a metric"],
        next_steps: &[
            ("tcpdump -eni DEV vlan 0", "who asks for which priority"),
            ("lldptool -t -i DEV", "what data centre bridging has agreed on (of lldpad, where it runs)"),
        ],
        wireshark: &["vlan.id == 0"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::VlanDepth,
        more: "",
        causes: &[
            "a provider's switch that adds its tag to a customer's two",
            "a port that adds a tag to frames that have it already: a trunk taken for an access port",
            "a loop that adds a tag each time round",
        ],
        exceptions: &["provider networks that are built with three tags: reported, since two is what 802.1ad has"],
        next_steps: &[
            ("tcpdump -eni DEV 'vlan and vlan and vlan'", "the tags and their order: one of them twice?"),
            ("bridge -d vlan show", "what the ports here add and take off"),
        ],
        wireshark: &["vlan.id#3"],
        suricata: &["vlan.too_many_layers"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::VlanOrder,
        more: "",
        causes: &[
            "two ends of a provider's line that disagree on the tag's type (0x8100 or 0x88a8)",
            "a guest or a device that sends service tags into a network of customer tags",
        ],
        exceptions: &["two tags 0x8100, and 0x9100 outside, as old QinQ has them: not reported"],
        next_steps: &[
            ("tcpdump -eni DEV 'ether proto 0x8100'", "the types of both tags, and the sender"),
            ("ip -d link show type vlan", "which protocol (802.1Q, 802.1ad) the devices of this host use"),
        ],
        wireshark: &["vlan.etype == 0x88a8"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::VlanLenGt,
        more: "",
        causes: &[
            "a device that cuts frames and keeps their length field, with a new and valid FCS over what is left",
            "bits that flipped in the type or length field behind the tag",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV 'vlan and ether[16:2] <= 1500'", "all tagged frames with a length"),
            ("lossprobe stats", "whether eth_len_gt counts, too: then the tag has nothing to do with it"),
        ],
        wireshark: &["vlan.len.past_end"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::MplsShort,
        more: "",
        causes: &[
            "a router or a tunnel's end that cuts frames",
            "a stack whose bottom bit is missing, so that what follows is read as labels to the end",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -eni DEV mpls", "the labels, and the router that sends them"),
            ("ip -f mpls route show", "what this host does with which label"),
        ],
        wireshark: &["_ws.malformed && eth.type == 0x8847"],
        suricata: &["mpls.header_too_small"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::MplsNoBottom,
        more: "lossprobe follows 8 labels.",
        causes: &[
            "a router that loses the bottom bit when it adds or takes off labels",
            "bits that flipped in the stack, or another protocol behind EtherType 0x8847",
        ],
        exceptions: &["segment routing with more than 8 labels: reported, for want of a view behind them"],
        next_steps: &[
            ("tcpdump -eni DEV mpls", "the stack as far as it goes: more than 8 labels, or none at the bottom?"),
            ("ip -f mpls route show", "what this host does with which label"),
        ],
        wireshark: &["mpls && !(mpls.bottom == 1)"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::MplsReserved,
        more: "",
        causes: &[
            "a router that knows a label (entropy, OAM) of which its neighbour knows nothing",
            "a router alert label (1) at the bottom, or a label that was never given out (4 to 6, 8 to 12)",
        ],
        exceptions: &["GAL (13), ELI (7) and OAM (14) where they may stand: not reported"],
        next_steps: &[
            ("tcpdump -i DEV -c 1000 -w FILE mpls", "a capture of what may break the rule"),
            ("lossprobe analyze FILE", "which frames do"),
            ("tcpdump -eni DEV mpls", "the labels, and the router that sends them"),
        ],
        wireshark: &["mpls.label < 16"],
        suricata: &["mpls.bad_label_reserved", "mpls.bad_label_router_alert"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::MplsImplicitNull,
        more: "The label means 'send it to me without one': who is told so takes the last label off instead of writing 3.",
        causes: &[
            "a router whose neighbour has announced implicit null, and which takes the word for a label",
            "a label entered by hand",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -i DEV -c 1000 -w FILE mpls 3", "a capture of what may break the rule"),
            ("lossprobe analyze FILE", "which frames do"),
            ("ip -f mpls route show", "whether a route of this host writes the label"),
        ],
        wireshark: &["mpls.label == 3", "mpls.invalid_label"],
        suricata: &["mpls.bad_label_implicit_null"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::ArpShort,
        more: "",
        causes: &[
            "a device or program that cuts packets or builds them by hand",
            "bits that flipped in the type: 0x0806 where something else stood",
        ],
        exceptions: &[],
        next_steps: &[
            ("tcpdump -exxni DEV arp and less 41", "the bytes, and the sender"),
            ("ip -s -s link show dev DEV", "length errors: what the device itself has refused"),
        ],
        wireshark: &["_ws.malformed && arp"],
        suricata: &["arp.pkt_too_small", "arp.invalid_pkt"],
        kernel: &["pkt_too_small"],
    },
    Finding {
        reason: Malformed::ArpHdr,
        more: "",
        causes: &[
            "ARP of another medium (InfiniBand, FireWire, Fibre Channel) that a gateway bridges as it is",
            "bits that flipped in the first eight bytes",
            "a scanner or a home-made sender",
        ],
        exceptions: &["hardware type 6 (IEEE 802), which is the same on the wire: not reported"],
        next_steps: &[
            ("tcpdump -exxni DEV 'arp and (arp[0:4] != 0x00010800 or arp[4:2] != 0x0604)'", "which field it is"),
            ("ip neighbour show dev DEV", "whether the sender answers ordinary ARP, too"),
        ],
        wireshark: &[
            "arp && !(arp.hw.type == 1 && arp.proto.type == 0x0800)",
            "arp.hw.size != 6",
            "arp.proto.size != 4",
        ],
        suricata: &[
            "arp.unsupported_hardware",
            "arp.unsupported_protocol",
            "arp.invalid_hardware_size",
            "arp.invalid_protocol_size",
        ],
        kernel: &[],
    },
    Finding {
        reason: Malformed::ArpOp,
        more: "",
        causes: &[
            "an experimental or vendor's use of ARP (operations 10 to 25 are registered, nearly nobody sends them)",
            "bits that flipped, or a scanner",
        ],
        exceptions: &["registered operations of DRARP, MARS and others: reported, since Ethernet has no use for them"],
        next_steps: &[
            ("tcpdump -eni DEV 'arp and arp[6:2] > 2'", "which operation, and from whom"),
            ("lossprobe stats", "whether arp_hdr counts at the same interface: then it is damage"),
        ],
        wireshark: &["arp.opcode > 4 && !(arp.opcode in {8, 9})"],
        suricata: &["arp.unsupported_opcode"],
        kernel: &[],
    },
    Finding {
        reason: Malformed::ArpSha,
        more: "The packet says 'I am at' another address than the one that the frame came from.",
        causes: &[
            "proxy ARP, VRRP or CARP, a bond, a wireless bridge: somebody answers for somebody else, on purpose",
            "somebody who pretends to be another (ARP spoofing)",
        ],
        exceptions: &["all of the first kind: reported, never as a metric, since the frame does not tell them apart"],
        next_steps: &[
            ("tcpdump -eni DEV arp", "both addresses: 00:00:5e:00:01:xx is VRRP"),
            ("ip neighbour show dev DEV", "which address this host has learnt: does it change to and fro?"),
        ],
        wireshark: &["arp.src.hw_mac != eth.src"],
        suricata: &[],
        kernel: &[],
    },
    Finding {
        reason: Malformed::ArpShaGroup,
        more: "Whoever believes it sends packets for one host to a group.",
        causes: &[
            "a cluster that shares an address by multicast (network load balancing in multicast mode)",
            "bits that flipped in the first byte of the address",
            "somebody who wants traffic to be flooded, so as to listen",
        ],
        exceptions: &["load balancers of that kind: reported, since RFC 1812 3.3.2 forbids a router to believe them"],
        next_steps: &[
            ("tcpdump -eni DEV 'arp and arp[8] & 1 = 1'", "which address is announced: 03:bf:… is such a cluster"),
            ("ip neighbour show dev DEV", "whether this host has learnt it"),
        ],
        wireshark: &["arp.src.hw_mac[0] & 1"],
        suricata: &[],
        kernel: &[],
    },
];
