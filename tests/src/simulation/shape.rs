//! What a snapshot of the node looks like before anything is counted: recorded from an agent, and made into a node with two
//! uplinks.

use std::{collections::BTreeMap, sync::LazyLock};

use probe_user::{
    classes::class_of,
    snapshot::{Balance, DeviceCounter, Drop, Explained, Interface, Qdisc, Side, Snapshot},
};

/// The node's uplinks: by the first one things go wrong, the other one has a track group of its own and is never affected.
pub(super) const UPLINKS: [&str; 2] = ["eth0", "eth1"];
const GROUPS: [&str; 2] = ["node", "storage"];

/// What the uplinks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// A card of the machine's own that counts wire frames, and drops of its ring and of XDP programs.
    Physical,
    /// A card that a hypervisor has made.
    Virtual,
    /// An end of a pair of the kernel's.
    Pair,
}

impl Card {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Physical, Self::Virtual, Self::Pair];

    const fn driver(self) -> &'static str {
        match self {
            Self::Physical => "mlx5_core",
            Self::Virtual => "virtio_net",
            Self::Pair => "veth",
        }
    }

    /// Causes that its driver tells of.
    const fn causes(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Self::Physical => &[
                ("missed", "dropped", "capacity"),
                ("no_buffer", "dropped", "capacity"),
                ("xdp_drop", "dropped", "policy"),
                ("crc", "error", "malformed"),
                ("length", "error", "malformed"),
                ("frame", "error", "malformed"),
            ],
            Self::Virtual | Self::Pair => &[("no_buffer", "dropped", "capacity"), ("xdp_drop", "dropped", "policy")],
        }
    }
}

/// What the kernel drops on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Dropped {
    Filter = 0,
    ReversePath,
    InputQueue,
    Queue,
    Unspecified,
    NoSocket,
    Tap,
    /// By an XDP program, as packets of the kernel's.
    Xdp,
}

/// By [`Dropped`]: interface and reason.
const DROPS: [(&str, &str); 8] = [
    (UPLINKS[0], "netfilter_drop"),
    (UPLINKS[0], "ip_rpfilter"),
    (UPLINKS[0], "cpu_backlog"),
    (UPLINKS[0], "qdisc_drop"),
    (UPLINKS[0], "not_specified"),
    (UPLINKS[0], "no_socket"),
    ("tap0", "full_ring"),
    (UPLINKS[0], "xdp"),
];
/// How many kinds of drops there are.
pub(super) const DROPS_COUNT: usize = DROPS.len();

static RECORDED: LazyLock<Snapshot> = LazyLock::new(|| {
    let text = include_str!("recorded.json");
    serde_json::from_str(text).unwrap_or_else(|error| unreachable!("recorded.json is in the tree: {error}"))
});

/// A snapshot of a node that has seen nothing yet.
pub(super) fn blank(card: Card) -> Snapshot {
    let mut snapshot = RECORDED.clone();
    let recorded = snapshot.interfaces[0].clone();
    snapshot.interfaces = (0..UPLINKS.len()).map(|at| uplink(&recorded, card, at)).collect();
    snapshot.drops = DROPS.iter().map(|(interface, reason)| drop(interface, reason)).collect();
    snapshot
}

fn drop(interface: &str, reason: &str) -> Drop {
    Drop {
        netns: "own".into(),
        interface: interface.into(),
        reason: reason.into(),
        class: class_of(reason).id().into(),
        family: "ipv4".into(),
        port: interface.starts_with("tap"),
        xdp: reason == "xdp",
        packets: 0,
    }
}

fn uplink(recorded: &Interface, card: Card, at: usize) -> Interface {
    let mut uplink = Interface {
        name: UPLINKS[at].into(),
        ifindex: 2 + at as u32,
        kind: if card == Card::Pair { "veth" } else { "ethernet" }.into(),
        role: "uplink".into(),
        role_reason: "carries a route".into(),
        track: GROUPS[at].into(),
        driver: card.driver().into(),
        ..recorded.clone()
    };
    let counter = |(cause, kind, class): &(&str, &str, &str)| DeviceCounter {
        direction: "ingress".into(),
        cause: (*cause).into(),
        kind: (*kind).into(),
        class: (*class).into(),
        source: "ethtool_driver".into(),
        packets: 0,
    };
    uplink.device.counters = card.causes().iter().map(counter).collect();
    uplink.qdiscs = vec![Qdisc { kind: "fq_codel".into(), ..Qdisc::default() }];
    uplink.malformed = ["local", "path"].map(malformed).into();
    if card == Card::Physical {
        let side = |what: &[&str]| Side {
            explained: what.iter().map(|what| Explained { what: (*what).into(), packets: 0 }).collect(),
            ..Side::default()
        };
        uplink.balance = Balance {
            ingress: Some(side(&["xdp_drop", "kernel_drops_before_hook"])),
            egress: Some(side(&["kernel_drops_behind_hook", "device", "backlog"])),
            not_observable: String::new(),
        };
    }
    uplink
}

fn malformed(scope: &str) -> probe_user::snapshot::Malformed {
    probe_user::snapshot::Malformed {
        direction: "ingress".into(),
        reason: if scope == "local" { "ip4_trunc" } else { "tcp_flags" }.into(),
        severity: "error".into(),
        scope: scope.into(),
        frames: 0,
    }
}

/// The device counter of this cause, where there is one.
pub(super) fn counter<'i>(interface: &'i mut Interface, cause: &str) -> Option<&'i mut u64> {
    interface.device.counters.iter_mut().find(|counter| counter.cause == cause).map(|counter| &mut counter.packets)
}

/// Writes into a map of counters, where it has such a one.
pub(super) fn write(map: &mut BTreeMap<String, u64>, name: &str, value: u64) {
    if let Some(counter) = map.get_mut(name) {
        *counter = value;
    }
}
