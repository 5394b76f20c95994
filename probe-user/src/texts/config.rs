//! Drop reasons of class config: routing, neighbours, devices or keys are set up so that the packet could not go on.

use super::Text;

pub(super) const TEXTS: &[Text] = &[
    Text {
        name: "bridge_ingress_stp_state",
        meaning: "The frame came in on a bridge port that spanning tree, or the operator, does not let forward (blocking, \
                  listening, learning or disabled).",
        causes: &[
            "a port that has just come up waits for the forward delay (15 s by default, twice)",
            "a redundant link that spanning tree keeps blocked, as it should",
            "a loop elsewhere, or a second root bridge, has changed the tree",
        ],
        next_steps: &[
            ("bridge -d link show dev DEV", "the port's state"),
            ("ip -d link show dev BRIDGE", "stp_state, forward_delay and the root's id"),
            ("ip link set dev BRIDGE type bridge forward_delay 0", "where the bridge has no loops and STP is off"),
        ],
    },
    Text {
        name: "ip_inaddrerrors",
        meaning: "The packet is for another host, and this one does not take it on: the destination counts as unreachable \
                  from the interface it came in on.",
        causes: &[
            "forwarding is off (net.ipv4.ip_forward, or conf.DEV.forwarding) and packets for others arrive",
            "a neighbour has this host as its gateway by mistake, or its bridge floods frames to this host's MAC",
            "an explicit `unreachable` route for the destination",
        ],
        next_steps: &[
            (
                "sysctl net.ipv4.ip_forward net.ipv4.conf.DEV.forwarding",
                "whether this host is a router on that interface",
            ),
            ("ip route get ADDRESS from SOURCE iif DEV", "what the kernel would do with such a packet, and why"),
            ("nstat -az IpInAddrErrors Ip6InAddrErrors", "the kernel's own sum"),
        ],
    },
    Text {
        name: "ip_innoroutes",
        meaning: "A packet that was to be forwarded, or delivered here, has a destination that no route of this host matches.",
        causes: &[
            "a route is missing, or was withdrawn by a routing daemon",
            "a policy rule (`ip rule`) sends such packets to a table that does not have the destination",
            "no default route, and a neighbour that believes there is one",
        ],
        next_steps: &[
            ("ip route get ADDRESS from SOURCE iif DEV", "what the kernel would do with it"),
            ("ip rule show", "which tables are asked, in which order"),
            ("nstat -az IpInNoRoutes Ip6InNoRoutes", "the kernel's own sum"),
        ],
    },
    Text {
        name: "ip_local_source",
        meaning: "The packet came from outside and bears an address of this very host as its source.",
        causes: &[
            "an address is used twice: another machine, a clone of a virtual machine, or a failover pair that is both active",
            "packets of this host come back: a loop, a mirror port, a bridge over two of its interfaces",
            "somebody forges the source",
        ],
        next_steps: &[
            ("tcpdump -eni DEV src host ADDRESS", "the MAC address of whoever sends with this host's ADDRESS"),
            ("arping -D -I DEV ADDRESS", "whether another machine answers for that address"),
            ("sysctl net.ipv4.conf.DEV.accept_local", "set to 1 only where this is on purpose"),
        ],
    },
    Text {
        name: "ip_outnoroutes",
        meaning: "A packet of this host could not be sent because its route was gone or did not allow it.",
        causes: &[
            "the route vanished while the connection lived: an interface went down, DHCP or a routing daemon took it away",
            "a packet filter or NAT rule changed the destination to one without a route",
            "an unreachable or prohibit route",
        ],
        next_steps: &[
            ("ip route get ADDRESS", "whether there is a route now"),
            ("ip monitor route", "whether routes come and go"),
            ("nstat -az IpOutNoRoutes Ip6OutNoRoutes", "the kernel's own sum"),
        ],
    },
    Text {
        name: "ip_rpfilter",
        meaning: "Reverse path filtering: this host would send an answer to the packet's source through another interface \
                  (strict mode) or through none at all (loose mode), so it took the source for forged.",
        causes: &[
            "asymmetric routing: two uplinks, a VPN beside the default route, policy routing without a matching rule",
            "sources that really are forged, or private addresses that leak",
            "the route back is missing",
        ],
        next_steps: &[
            (
                "sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.DEV.rp_filter",
                "the larger one counts: 1 strict, 2 loose",
            ),
            ("ip route get SOURCE", "the interface that the answer would take"),
            ("sysctl -w net.ipv4.conf.DEV.rp_filter=2", "loose mode, where asymmetry is meant; all must not be 1 then"),
        ],
    },
    Text {
        name: "ip_tunnel_ecn",
        meaning: "A tunnelled packet arrived whose outer header says that congestion was met, while its inner header cannot \
                  carry such a mark; RFC 6040 4.2 says to drop it.",
        causes: &[
            "one end of the tunnel copies ECN bits outward although the packet inside does not use them",
            "a device on the path marks packets that did not ask for it",
            "the bottleneck of the tunnel's path is congested",
        ],
        next_steps: &[
            ("lossprobe watch --reason ip_tunnel_ecn", "which tunnel it is"),
            ("ip -d link show dev DEV", "the tunnel's tos setting: `inherit` copies the bits"),
            ("nstat -az IpExtInCEPkts", "how much arrives with marks"),
        ],
    },
    Text {
        name: "ipv6disabled",
        meaning: "An IPv6 packet met an interface on which IPv6 is switched off.",
        causes: &[
            "net.ipv6.conf.DEV.disable_ipv6 is 1, as container runtimes and bridges without an address have it",
            "duplicate address detection switched it off (accept_dad 2)",
            "neighbours announce IPv6 on a segment where this host is not to use it: harmless then",
        ],
        next_steps: &[
            ("sysctl net.ipv6.conf.DEV.disable_ipv6", "the switch"),
            ("sysctl -w net.ipv6.conf.DEV.disable_ipv6=0", "if it is to be used"),
            ("journalctl -k | grep -i 'duplicate address'", "whether the kernel did it"),
        ],
    },
    Text {
        name: "neigh_createfail",
        meaning: "No entry could be made in the neighbour table (ARP or IPv6) for the packet's next hop.",
        causes: &[
            "the table is full (gc_thresh3, 1,024 by default): many neighbours on large flat segments, or many containers",
            "a scan of a large directly connected subnet, most of all of an IPv6 /64",
            "no memory",
        ],
        next_steps: &[
            ("ip -s neigh show | wc -l", "how many there are"),
            ("journalctl -k | grep 'neighbour table overflow'", "the kernel's own report"),
            ("sysctl -w net.ipv4.neigh.default.gc_thresh3=8192", "and net.ipv6.neigh.default.gc_thresh3"),
        ],
    },
    Text {
        name: "neigh_dead",
        meaning: "The neighbour entry of the packet's next hop was being deleted while the packet waited in it.",
        causes: &[
            "the interface went down or lost its address",
            "entries are flushed: `ip neigh flush`, a failover, a network manager that reconfigures",
            "the table was full and old entries were thrown out",
        ],
        next_steps: &[
            ("ip monitor neigh link", "what is deleted, and when"),
            ("ip neigh show dev DEV", "what is there now"),
        ],
    },
    Text {
        name: "neigh_failed",
        meaning: "The next hop did not answer ARP or neighbour solicitations, and what had waited for its link-layer address \
                  was dropped.",
        causes: &[
            "the host or gateway is off, or is not on this segment (wrong VLAN, wrong netmask)",
            "its answers do not come back: a firewall, a port's isolation, a switch that does not forward them",
            "somebody scans addresses that nobody has",
        ],
        next_steps: &[
            ("ip neigh show nud failed", "which next hops"),
            ("arping -I DEV ADDRESS", "whether it answers when asked directly (IPv6: ndisc6 ADDRESS DEV)"),
            ("ip route get ADDRESS", "whether that next hop is the one you want"),
        ],
    },
    Text {
        name: "neigh_hh_fillfail",
        meaning: "The link-layer header for the next hop could not be written in front of the packet.",
        causes: &[
            "the device was deleted or changed its type or MTU of headers under the packet",
            "a stacked device (VLAN, bond, tunnel) whose lower device has vanished",
        ],
        next_steps: &[
            ("ip -d link show dev DEV", "what it is stacked on"),
            ("ip monitor link", "whether devices change"),
            ("ip neigh show dev DEV", "the entry of the next hop"),
        ],
    },
    Text {
        name: "no_tx_target",
        meaning: "A bridge or tunnel device had nowhere to send the frame: no port took it, or no remote is known for its \
                  destination.",
        causes: &[
            "a bridge whose only other ports are down, isolated, blocked or filter the VLAN",
            "flooding of unknown destinations is off (`flood off`) and the address is not learnt",
            "a VXLAN device without a default remote, and no forwarding entry for the MAC address",
        ],
        next_steps: &[
            ("bridge -d link show master BRIDGE", "state, isolation and flooding of the ports"),
            ("bridge fdb show br BRIDGE", "whether the destination is known, and where (VXLAN: dev DEV)"),
            ("bridge vlan show", "whether a port carries the frame's VLAN"),
        ],
    },
    Text {
        name: "ovs_drop_action_error",
        meaning: "Open vSwitch could not carry out an action of the flow that the packet matched.",
        causes: &[
            "the packet does not have the header that an action is to change, or not in one piece",
            "an output port or a tunnel that no longer exists",
            "a controller has installed actions that this kernel does not take",
        ],
        next_steps: &[
            ("ovs-appctl dpctl/dump-flows -m", "the flow and its actions"),
            ("ovs-appctl ofproto/trace BRIDGE 'in_port=PORT,…'", "what the pipeline does with such a packet"),
            ("journalctl -u openvswitch-switch --since -1h", "what ovs-vswitchd complains about"),
        ],
    },
    Text {
        name: "ovs_drop_explicit_with_error",
        meaning: "An explicit drop action of Open vSwitch with an error code: ovs-vswitchd could not translate the OpenFlow \
                  rules for this packet and told the datapath to drop it.",
        causes: &[
            "too many resubmits, or a recursion in the OpenFlow tables",
            "a rule that needs something this datapath does not support",
            "the bridge was being reconfigured",
        ],
        next_steps: &[
            ("ovs-appctl coverage/show | grep -i drop", "which error, by its drop_action_* counter"),
            ("ovs-appctl ofproto/trace BRIDGE 'in_port=PORT,…'", "where the translation ends"),
        ],
    },
    Text {
        name: "ovs_drop_frag_l2_too_long",
        meaning: "Open vSwitch had to fragment the packet, and what stands in front of its IP header is longer than the \
                  datapath can keep for the fragments.",
        causes: &[
            "deep stacks of tags or labels on packets that are larger than the output port's MTU",
            "an MTU on the output port that is smaller than what comes in, behind conntrack's reassembly",
        ],
        next_steps: &[
            ("ip -d link show dev DEV", "the MTU of the output port"),
            ("ovs-appctl dpctl/dump-flows -m", "which flow sends there, with push_vlan or push_mpls"),
        ],
    },
    Text {
        name: "ovs_drop_recursion_limit",
        meaning: "Actions of Open vSwitch were nested more deeply than the datapath allows, mostly because a packet came \
                  back to it through patch ports or recirculation.",
        causes: &[
            "a loop between bridges or through the host's own stack",
            "a pipeline with very many nested samples, clones or checks",
        ],
        next_steps: &[
            ("journalctl -k | grep -i 'recursion limit reached'", "the datapath that the kernel names"),
            ("ovs-appctl ofproto/trace BRIDGE 'in_port=PORT,…'", "the way that such a packet takes"),
        ],
    },
    Text {
        name: "recursion_limit",
        meaning: "A packet passed from one virtual device to the next more often than the kernel follows within one send \
                  (8 to 10 devices).",
        causes: &[
            "a tunnel whose route leads back into itself",
            "a loop of devices: macvlan, veth, bridge or mirred redirecting to each other",
            "a stack of devices that is really that deep",
        ],
        next_steps: &[
            ("ip route get REMOTE", "that a tunnel's remote is not reached through the tunnel itself"),
            ("ip -d link show", "what lies on what"),
            ("journalctl -k | grep -iE 'dead loop|recursion'", "the device that the kernel names"),
        ],
    },
    Text {
        name: "skb_gso_seg",
        meaning: "A large packet had to be cut into segments by software, and that failed.",
        causes: &[
            "a packet that claims to be segmentable in a way the kernel does not know: from a guest or a driver",
            "a tunnel or a packet filter changed headers so that the offload information no longer fits",
            "no memory for the segments",
        ],
        next_steps: &[
            ("ethtool -k DEV | grep -E 'segmentation|scatter'", "which offloads the outgoing device has"),
            ("ethtool -K GUESTDEV tso off gso off", "in the sender, to see whether it ends"),
            ("journalctl -k | grep -i 'offset.*gso'", "whether the kernel has complained about a driver"),
        ],
    },
    Text {
        name: "tcp_aofailure",
        meaning: "A TCP segment bore an authentication option (TCP-AO, RFC 5925) whose hash is not right under the key it names.",
        causes: &[
            "the two ends have different secrets, algorithms or MAC lengths under the same key id",
            "a NAT or middlebox changed addresses, ports or options that the hash covers",
            "somebody sends forged segments into the session",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPAOBad", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_aofailure", "which peer"),
            ("ss -tieo dst ADDRESS", "the session; then compare the keys in both routing daemons"),
        ],
    },
    Text {
        name: "tcp_aokeynotfound",
        meaning: "A TCP segment with an authentication option (TCP-AO) names a key id that the socket does not have for this peer.",
        causes: &[
            "keys were rolled at one end and not yet at the other",
            "the key is bound to another address, prefix or VRF than the peer's",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPAOKeyNotFound", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_aokeynotfound", "which peer; then compare send and receive ids"),
        ],
    },
    Text {
        name: "tcp_aonotfound",
        meaning: "A TCP segment without an authentication option came to a socket that asks for TCP-AO.",
        causes: &[
            "the peer has no key set for this session",
            "a connection from an address that is not the peer: scans of port 179",
            "a middlebox strips TCP options",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPAORequired", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_aonotfound", "who sends without it"),
        ],
    },
    Text {
        name: "tcp_aounexpected",
        meaning: "A TCP segment bore an authentication option (TCP-AO), and the socket has no such keys.",
        causes: &[
            "the session is secured at the other end only",
            "the local daemon listens without the peer's key: not loaded yet, or bound to another address",
        ],
        next_steps: &[
            ("lossprobe watch --reason tcp_aounexpected", "which peer"),
            ("ss -ltnp", "which program listens; then give it the peer's key"),
        ],
    },
    Text {
        name: "tcp_md5failure",
        meaning: "A TCP segment bore an MD5 signature (RFC 2385) that is wrong: the ends disagree about the password, or the \
                  segment was changed on its way.",
        causes: &[
            "different passwords for the same BGP or LDP session",
            "NAT between the peers: the signature covers addresses and ports",
            "forged segments against the session",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPMD5Failure", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_md5failure", "which peer"),
            ("tcpdump -ni DEV -M PASSWORD port 179", "verifies the signatures with a given password"),
        ],
    },
    Text {
        name: "tcp_md5notfound",
        meaning: "A TCP segment came unsigned to a socket that asks for an MD5 signature (RFC 2385) from this peer.",
        causes: &[
            "the password is configured at this end only",
            "the peer's sessions restart without it, after an update or a new configuration",
            "scans of the BGP port from the peer's address range",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPMD5NotFound", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_md5notfound", "who sends unsigned segments"),
        ],
    },
    Text {
        name: "tcp_md5unexpected",
        meaning: "A TCP segment was signed with MD5 (RFC 2385), and the socket knows no password for this peer.",
        causes: &[
            "the password is configured at the other end only",
            "the listening daemon has the peer under another address, or in another VRF",
        ],
        next_steps: &[
            ("nstat -az TcpExtTCPMD5Unexpected", "the kernel's own sum"),
            ("lossprobe watch --reason tcp_md5unexpected", "which peer signs"),
        ],
    },
    Text {
        name: "tunnel_txinfo",
        meaning: "A packet without tunnel metadata was sent into a tunnel device in external mode, which takes remote and key \
                  from each packet.",
        causes: &[
            "an address or a route was put on a device that belongs to a switch, a BPF program or a CNI",
            "the flow or program that should set the tunnel's key does not match this packet: neighbour discovery, multicast",
        ],
        next_steps: &[
            ("ip -d link show dev DEV", "`external` says that it takes its remote from the packet"),
            ("ip route show dev DEV", "whether something is routed there that should not be"),
            ("tc filter show dev DEV egress", "who sets tunnel_key, if it is tc"),
        ],
    },
    Text {
        name: "vxlan_vni_not_found",
        meaning: "A VXLAN packet arrived whose network identifier (VNI) no VXLAN device of this host has.",
        causes: &[
            "the peer floods to all hosts of its list, also to those without this network: common, and harmless then",
            "the device for this VNI is missing, down or in another namespace",
            "the two ends have different VNIs for one network",
        ],
        next_steps: &[
            ("ip -d link show type vxlan", "ids, ports and state of the devices here"),
            ("lossprobe watch --reason vxlan_vni_not_found", "which peer sends"),
            ("bridge fdb show dev DEV", "at the sender: where it floods to"),
        ],
    },
];
