//! Types of retransmits: what made TCP send a segment again. Facts: RFC 9293, 6298, 8985, and net/ipv4/tcp_output.c of Linux
//! 6.18.

use super::Text;

pub(super) const TEXTS: &[Text] = &[
    Text {
        name: "fast",
        meaning: "Sent again in fast recovery: later segments were acknowledged, so this one or its acknowledgement was lost, \
                  or overtaken by far. The connection hardly paused.",
        causes: &[
            "single losses on the way, as every full queue of a router makes them",
            "packets that overtake each other: several paths, several queues, a shaper",
        ],
        next_steps: &[
            ("lossprobe watch --type retransmit --reason fast", "which peers and ports: one destination, or all?"),
            ("ss -ti dst ADDRESS", "retransmits, reordering and round-trip time of each connection"),
            ("lossprobe stats --losses", "whether this host lost them itself"),
        ],
    },
    Text {
        name: "syn",
        meaning: "A SYN of ours was not answered in time, a second after the first one: the peer, something on the way to it or \
                  on the way back did not let it pass. Each one delays a new connection by a second or more.",
        causes: &[
            "nobody answers: the peer is down, or a packet filter drops without a word",
            "the peer's listen queue is full",
            "the way there or back loses packets",
        ],
        next_steps: &[
            ("lossprobe watch --type retransmit --reason syn", "to whom"),
            ("ip route get ADDRESS", "which way they leave this host"),
            ("lossprobe watch --address ADDRESS", "whether answers come and are dropped here"),
        ],
    },
    Text {
        name: "synack",
        meaning: "A client did not acknowledge our SYN-ACK in time. It belongs to no interface unless the listener is bound to \
                  one: the kernel keeps no route for it.",
        causes: &[
            "a scan or a flood of SYNs from addresses that do not exist",
            "the way back to the client, or its last acknowledgement, is lost",
        ],
        next_steps: &[
            ("lossprobe watch --type retransmit --reason synack", "to whom"),
            ("ss -Htan state syn-recv", "how many wait, from where"),
            ("nstat -az TcpExtListenOverflows TcpExtTCPReqQFullDrop", "whether our own queues were full"),
        ],
    },
    Text {
        name: "tail_probe",
        meaning: "The last segment again, after some two round-trip times without an acknowledgement, so that a loss at the end \
                  of a burst shows (RACK-TLP). It need not mean that anything was lost.",
        causes: &[
            "the last segment of a burst, or its acknowledgement, was lost",
            "a receiver that delays acknowledgements longer than the probe waits",
        ],
        next_steps: &[
            ("lossprobe watch --type retransmit --reason tail_probe", "which peers and ports"),
            (
                "nstat -az TcpExtTCPLossProbeRecovery TcpExtTCPDSACKRecv",
                "recovered losses, and segments that came twice",
            ),
        ],
    },
    Text {
        name: "timeout",
        meaning: "The retransmission timer expired: for a whole timeout, 200 ms at least, no acknowledgement came, and all that \
                  was on its way counts as lost. The connection stood still; also what became too long for the path.",
        causes: &[
            "the way was interrupted, or lost a whole window",
            "the peer stood still or is gone",
            "packets that are too long for the path, and nobody says so",
        ],
        next_steps: &[
            ("lossprobe watch --type retransmit --reason timeout", "which peers and ports: one destination, or all?"),
            ("lossprobe stats --losses", "whether this host lost them itself"),
            ("ip route get ADDRESS; tracepath -n ADDRESS", "the way, and the longest packet that passes"),
        ],
    },
    Text {
        name: "unknown",
        meaning: "Sent again on another occasion, such as data of a Fast Open that was refused, or the running kernel's types do \
                  not tell which.",
        causes: &[
            "a kernel whose type information lacks what tells the occasions apart (feature `retransmit_types` is 0)",
            "TCP Fast Open whose data the server did not take",
        ],
        next_steps: &[
            ("lossprobe doctor", "whether this kernel has the feature `retransmit_types`"),
            ("lossprobe watch --type retransmit --reason unknown", "which peers and ports"),
        ],
    },
];
