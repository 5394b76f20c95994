//! What each class means: for `explain CLASS`, and for reasons that have no text of their own.

use super::Text;
use crate::classes::Class;

/// The text for a class.
#[must_use]
pub const fn of_class(class: Class) -> &'static Text {
    match class {
        Class::Capacity => &CAPACITY,
        Class::Malformed => &MALFORMED,
        Class::Config => &CONFIG,
        Class::Policy => &POLICY,
        Class::Noise => &NOISE,
        Class::Unknown => &UNKNOWN,
    }
}

const CAPACITY: Text = Text {
    name: "capacity",
    meaning: "A queue, buffer or limit of this machine was full: real loss, and local.",
    causes: &[
        "more is sent, or comes in, than a link, a CPU or a program takes, for longer than the queue in between lasts",
        "a limit that is set too low for the machine's work",
    ],
    next_steps: &[
        ("lossprobe stats --interval 1", "the rate by reason and interface: bursts, or all the time?"),
        ("lossprobe watch --class capacity", "which packets"),
        ("tc -s qdisc show; nstat -az; cat /proc/net/softnet_stat", "the kernel's own counters of queues"),
    ],
};

const MALFORMED: Text = Text {
    name: "malformed",
    meaning: "The packet contradicts itself or a standard: it was damaged on its way, or made like that.",
    causes: &[
        "bad memory or a broken offload in a NIC, switch, router or hypervisor",
        "a middlebox that changes packets and forgets a length or a checksum",
        "scanners and home-made packets",
    ],
    next_steps: &[
        ("lossprobe watch --class malformed --output json", "who sends them, with the first bytes"),
        ("lossprobe stats", "what counts as malformed at which interface"),
    ],
};

const CONFIG: Text = Text {
    name: "config",
    meaning: "Routing, neighbours, devices or keys are set up so that the packet could not go on.",
    causes: &[
        "a missing or wrong route, address, forwarding entry or key, here or at a neighbour",
        "something was being changed while packets passed",
    ],
    next_steps: &[
        ("lossprobe watch --class config", "which packets"),
        ("ip route get ADDRESS", "what this host would do with such a packet"),
        ("ip -d link show", "devices, their state and what lies on what"),
    ],
};

const POLICY: Text = Text {
    name: "policy",
    meaning: "Somebody decided that packets like this be dropped: a packet filter, a tc or XDP program, a BPF program of a \
              cgroup, a security module, IPsec policy. It is no loss if the decision is right.",
    causes: &[
        "a rule that works as it is meant to",
        "a rule that catches more than it should, since a change or for a new kind of traffic",
    ],
    next_steps: &[
        ("lossprobe watch --class policy", "which packets, and where in the kernel"),
        ("nft list ruleset", "rules, with counters where they have any (also: iptables-save -c)"),
        ("tc -s filter show dev DEV ingress; bpftool net show; ip xfrm policy", "who else may drop"),
    ],
};

const NOISE: Text = Text {
    name: "noise",
    meaning: "Not a loss: nobody here wanted the packet, or what it carried had already arrived.",
    causes: &[
        "packets for others or for nobody: flooding, broadcasts, scans, sockets that have been closed",
        "duplicates and late packets of TCP",
    ],
    next_steps: &[
        ("lossprobe watch --class noise", "which packets, if there are surprisingly many"),
        ("nstat -az", "the kernel's own counters tell the cases apart"),
    ],
};

/// The one reason of class unknown that every kernel has.
pub(super) const NOT_SPECIFIED: Text = Text {
    name: "not_specified",
    meaning: "The kernel freed the packet in a place that gives no reason. Which place, and so what it stands for, the kernel \
              function tells: `lossprobe stats` lists them, `lossprobe watch` shows it for each packet. What an XDP program drops in \
              generic mode or on a veth is of class policy all the same: its function says so.",
    causes: &[
        "multicast and broadcast for which no socket is open here: the stack frees what nobody takes without a reason",
        "an XDP program in generic mode or on a veth, and drivers and tunnels that have no reasons of their own yet",
        "a kernel before 5.17, which has no reasons: only some functions imply one",
    ],
    next_steps: &[
        ("lossprobe stats", "the kernel functions that freed them, the most first"),
        ("lossprobe watch --reason not_specified", "which packets, and the function of each"),
        ("lossprobe agent --config FILE", "[drop_classes] in the file gives it the class that you find right"),
    ],
};

const UNKNOWN: Text = Text {
    name: "unknown",
    meaning: "The kernel gave no reason, or one that this lossprobe does not know: it may be a loss and it may be nothing, so it \
              counts as neither before somebody has looked.",
    causes: &[
        "a place in the kernel that frees packets without saying why",
        "a reason that is newer than this lossprobe, or one of a subsystem's or driver's own",
    ],
    next_steps: &[
        ("lossprobe watch --class unknown", "which packets, and the kernel function that dropped them"),
        ("lossprobe explain --list drops", "the reasons of this kernel with their classes"),
        ("lossprobe agent --config FILE", "[drop_classes] in the file gives a reason the class that you find right"),
    ],
};
