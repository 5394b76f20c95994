//! Verdicts: whose fault it is, what that rests on, and whom to call. `DEV` is the interface that a verdict is about.

use super::Text;
use crate::detect::verdict::Name;

/// The text for a verdict.
#[must_use]
pub fn of_verdict(name: Name) -> &'static Text {
    match name {
        Name::None => &NONE,
        Name::LocalRx => &LOCAL_RX,
        Name::LocalTx => &LOCAL_TX,
        Name::LocalPolicy => &LOCAL_POLICY,
        Name::LocalConfig => &LOCAL_CONFIG,
        Name::Inside => &INSIDE,
        Name::NetworkIn => &NETWORK_IN,
        Name::NetworkOut => &NETWORK_OUT,
        Name::NetworkMalformed => &NETWORK_MALFORMED,
        Name::RemoteMalformed => &REMOTE_MALFORMED,
        Name::Link => &LINK,
        Name::Mixed => &MIXED,
        Name::Unknown => &UNKNOWN,
    }
}

const NONE: Text = Text {
    name: "none",
    meaning: "No more is lost, and no more malformed frames come, than is usual here. What is usual is learned over half an hour; \
              what is sent again because it came late is no loss.",
    causes: &["a healthy network", "a loss that is as old as the agent, which has learned it: look at the ratio, too"],
    next_steps: &[
        ("lossprobe stats --losses", "what is lost all the same, and where"),
        ("lossprobe flows", "the connections that lose most"),
    ],
};

const LOCAL_RX: Text = Text {
    name: "local_rx",
    meaning: "This machine had no room for packets that came in: in the card's receive ring, a CPU's input queue, or a socket's \
              buffer. The network has delivered them.",
    causes: &[
        "a CPU that does not keep up with its queue: one busy queue, a small ring, stolen CPU time",
        "a program that reads its socket too slowly",
        "a burst that is larger than ring or buffer",
    ],
    next_steps: &[
        ("lossprobe stats --losses", "ring, input queue or socket: the row with the most"),
        ("ethtool -g DEV; ethtool -l DEV", "whether ring and queues can be larger and more"),
        ("cat /proc/net/softnet_stat; mpstat -P ALL 1 5", "a CPU that drops, or has no time left"),
    ],
};

const LOCAL_TX: Text = Text {
    name: "local_tx",
    meaning: "This machine had no room for packets on their way out: in a queueing discipline, or in the device's own queue. They \
              never reached the network.",
    causes: &[
        "more is sent than the link, or the rate of a shaper, takes",
        "a queue whose limit is short for its bursts",
        "a device that does not send: no carrier, paused by its peer",
    ],
    next_steps: &[
        ("tc -s qdisc show dev DEV", "which discipline drops, its backlog and limits"),
        ("lossprobe watch --class capacity --interface DEV", "whose packets"),
        ("ethtool -S DEV | grep -i pause; ip -s link show dev DEV", "whether the device is held up"),
    ],
};

const LOCAL_POLICY: Text = Text {
    name: "local_policy",
    meaning: "This machine drops these packets because somebody wants it so: a packet filter, an XDP program, a BPF or tc filter. \
              They were missed, so it may be more than was meant.",
    causes: &[
        "a rule that was changed and matches too much",
        "a rate limit or protection against floods that has begun to bite",
        "an agent (CNI, firewall, mitigation) that has loaded a new program",
    ],
    next_steps: &[
        ("lossprobe watch --class policy", "which packets, and the kernel function that dropped them"),
        ("nft list ruleset; bpftool net show", "rules with their counters, and whose programs are attached"),
        ("journalctl --since -1h | grep -iE 'nft|iptables|bpf|xdp'", "what has changed lately"),
    ],
};

const LOCAL_CONFIG: Text = Text {
    name: "local_config",
    meaning: "This machine drops these packets because routes, neighbours, addresses or devices are set up so that they cannot go on.",
    causes: &[
        "a route, address or forwarding entry that is missing, wrong or was just removed",
        "a neighbour that no longer answers, so that its entry failed",
        "packets that come in where the way back does not lead (reverse-path filter)",
    ],
    next_steps: &[
        ("lossprobe watch --class config", "which packets, and the reason"),
        ("ip route get ADDRESS; ip neighbour show dev DEV", "what this host would do with such a packet"),
        ("ip -d link show; bridge fdb show", "devices, their state and what they forward"),
    ],
};

const INSIDE: Text = Text {
    name: "inside",
    meaning: "Packets are lost on this host's side of the uplink: in a guest or container, or on the way between it and the uplink. \
              The network has delivered them, or never got them.",
    causes: &[
        "a guest whose CPU or receive queue does not keep up",
        "a device between guest and uplink (tap, bridge, tunnel) that drops, in another network namespace",
        "a packet filter inside of the guest",
    ],
    next_steps: &[
        ("lossprobe flows", "which guests' addresses the connections that lose have"),
        ("lossprobe stats --losses", "what this host itself drops, also for other namespaces"),
        ("lossprobe agent --track 'tap*:guests'", "follow ports as well: that tells guest and host apart"),
    ],
};

const NETWORK_IN: Text = Text {
    name: "network_in",
    meaning: "Packets are lost in the network before they reach this machine. At least 80 % of all that is lost beyond the usual \
              is lost there, for certain, and all that this machine could have lost itself was seen and is taken off.",
    causes: &[
        "a switch, router or link of the provider that is overloaded or faulty",
        "maintenance in the provider's network",
        "the way from one remote peer, if the scope says so",
    ],
    next_steps: &[
        ("lossprobe report", "what to attach to the ticket for the provider: course, evidence, what is not affected"),
        ("lossprobe flows", "which peers are affected: all of them, or one"),
        ("lossprobe verdict --for 30s", "the same question on another machine, which narrows it down"),
    ],
};

const NETWORK_OUT: Text = Text {
    name: "network_out",
    meaning: "Packets are lost in the network after they have left this machine. At least 80 % of all that is lost beyond the usual \
              is lost there, for certain; what queues and the device dropped was seen and is taken off.",
    causes: &[
        "a switch, router or link of the provider that is overloaded or faulty",
        "a rate limit of the provider on what this machine sends",
        "the remote peer, or its network, if the scope says so",
    ],
    next_steps: &[
        ("lossprobe report", "what to attach to the ticket for the provider: its course and the evidence"),
        ("lossprobe flows", "to which peers: all of them, or one"),
        ("lossprobe verdict --for 30s", "on the peer's machine: there it must be network_in"),
    ],
};

const NETWORK_MALFORMED: Text = Text {
    name: "network_malformed",
    meaning: "Malformed frames come in that no router would have forwarded, so that a device of this segment makes them; or frames of \
              healthy connections from several networks come damaged. Equipment that meets such frames may lose others, too.",
    causes: &[
        "a switch, a card or a hypervisor of the provider with broken firmware or memory",
        "an offload that miscalculates lengths or checksums",
        "a machine on the same segment that is faulty or hostile",
    ],
    next_steps: &[
        (
            "lossprobe capture --interface DEV --count 20 -w evidence.pcapng",
            "the frames, each with what is wrong with it",
        ),
        ("lossprobe watch --type malformed --interface DEV --output json", "which kinds, from which source addresses"),
        ("lossprobe report", "all of that for the provider's support; ask who owns the source addresses"),
    ],
};

const REMOTE_MALFORMED: Text = Text {
    name: "remote_malformed",
    meaning: "Malformed frames come in that may have been made anywhere: by a scanner, by a broken or home-made stack far away. It \
              accuses nobody nearby, and never pages.",
    causes: &["scanners that try how systems answer to nonsense", "one remote peer with a broken offload or middlebox"],
    next_steps: &[
        ("lossprobe watch --type malformed --interface DEV", "which kinds, from which addresses"),
        ("lossprobe explain REASON", "what a kind means, and who makes it"),
    ],
};

const LINK: Text = Text {
    name: "link",
    meaning: "Frames arrive damaged, and the card says so: wrong check sequences, symbol or length errors. It is what lies between the \
              card and the next port.",
    causes: &[
        "a bad cable, a dirty or ageing transceiver, a connector that is not all the way in",
        "a faulty port, of the card or of the switch",
    ],
    next_steps: &[
        ("ethtool -S DEV | grep -iE 'crc|fcs|symbol|err'", "the card's own counters"),
        ("ethtool -m DEV; ethtool --show-fec DEV", "light levels, and how much is corrected"),
        ("ip -s -s link show dev DEV", "errors by kind, and how often the carrier went"),
    ],
};

const MIXED: Text = Text {
    name: "mixed",
    meaning: "More is lost than usual, in several places, and none of them has most of it. The shares say how it is divided; begin \
              with what this machine loses itself.",
    causes: &["two faults at once", "one fault with consequences elsewhere: retransmissions that overload a queue"],
    next_steps: &[
        ("lossprobe stats --losses", "what this machine loses itself: that can be mended here"),
        ("lossprobe verdict --for 30s", "whether one of them leads after that"),
    ],
};

const UNKNOWN: Text = Text {
    name: "unknown",
    meaning: "Something is wrong, and whose fault it is cannot be told from here without guessing: a source is missing, too little is \
              lost so far, or the kernel does not say why it dropped. A wrong accusation would be worse than none.",
    causes: &[
        "a device whose driver does not tell what it drops, or traffic that passes the hooks by",
        "a foreign XDP program without a counter of what it drops",
        "losses in too few segments or connections",
    ],
    next_steps: &[
        ("lossprobe doctor", "what is not seen on this machine, and how to change that"),
        ("lossprobe verdict --for 30s", "whether more time decides it"),
        ("lossprobe stats --losses", "what is known all the same"),
    ],
};
