//! What others than the probe's programs have counted: devices, queueing disciplines, the stack, the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Packets lost, by cause; a cause that is not here is in `not_observable`, or no cause of this device's.
    pub counters: Vec<DeviceCounter>,
    /// Causes that neither kernel nor driver tell of, as `direction/cause`; nothing is known of them.
    pub not_observable: Vec<String>,
    /// Figures that are no packets lost: pause frames, error correction, symbol errors.
    pub evidence: BTreeMap<String, u64>,
    /// Packets received and sent since the device was made, as the driver counts them (a merged one may be one).
    pub packets: Option<Passed>,
    /// Sizes of its rings, `None` where the driver has no such notion.
    pub rings: Option<Rings>,
    /// Offloads that are on, of those that change what hooks and receivers see.
    pub offloads: Vec<String>,
    /// An XDP program that is not ours is on it: what that drops nobody need tell of. Asked of uplinks and track points, and
    /// of what these bundle.
    #[serde(default)]
    pub foreign_xdp: bool,
    /// Whether there is a carrier, `None` where that is not known.
    pub carrier: Option<bool>,
    /// How often the carrier has come or gone since the device was made.
    pub carrier_changes: Option<u64>,
}

/// Packets lost by a device for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounter {
    /// `ingress`, `egress` or `both` (not told apart).
    pub direction: String,
    /// Id of the closed list.
    pub cause: String,
    /// `dropped` (there was nothing wrong with it) or `error`.
    pub kind: String,
    /// As of kernel drops: `capacity`, `malformed`, `policy` or `noise`.
    pub class: String,
    /// `stats64`, `ethtool_standard` or `ethtool_driver`.
    pub source: String,
    /// Packets as the device counts them.
    pub packets: u64,
}

/// Packets in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// In.
    pub ingress: u64,
    /// Out.
    pub egress: u64,
}

/// Sizes of rings in descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Rings {
    pub rx: Option<u64>,
    pub rx_max: Option<u64>,
    pub tx: Option<u64>,
    pub tx_max: Option<u64>,
}

/// Queueing disciplines of one kind on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// As in `tc qdisc`.
    pub kind: String,
    /// Packets dropped, a GSO packet being one; those of a discipline below it are not repeated.
    pub dropped_packets: u64,
    /// Moments in which a packet had to wait because of a rate.
    pub overlimits: u64,
    /// Packets that wait now.
    pub backlog_packets: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
}

/// Input queues of all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softnet {
    /// Packets for which a queue had no room.
    pub dropped_packets: u64,
    /// Rounds that ended with work left, for want of time or budget.
    pub squeezed: u64,
    /// Those of the dropped ones that were of too large a flow.
    pub flow_limited_packets: u64,
    /// Packets that wait now; `None` where the kernel does not say.
    pub backlog_packets: Option<u64>,
}

/// One of the kernel's protocol counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProtocolError {
    /// `ipv4`, `ipv6`, `icmp`, `icmpv6`, `tcp`, `udp`, `udp6`, `udplite`, `conntrack`, `arp`, `ndisc`, `openvswitch`.
    pub protocol: String,
    /// Id of the closed list.
    pub cause: String,
    /// Packets, or what the protocol counts in their place.
    pub count: u64,
}

/// Evidence that belongs to no interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Milliseconds that a hypervisor took from the CPUs, all together.
    pub cpu_steal_ms: Option<u64>,
    /// Packets received with a mark of congestion (ECN CE).
    pub congestion_marked_packets: Option<u64>,
    /// The table of tracked connections, `None` where none are tracked.
    pub conntrack: Option<Occupancy>,
    /// What switches and cards trapped or dropped by themselves, since they came up.
    pub devlink_traps: Vec<Trap>,
    /// Sources that this kernel does not have, or not in this network namespace: `conntrack`, `devlink_traps`,
    /// `neighbour_tables`, `openvswitch`.
    pub not_observable: Vec<String>,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Entries in use.
    pub entries: u64,
    /// Entries it takes.
    pub capacity: u64,
}

/// A devlink trap that has counted something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// Bus and address.
    pub device: String,
    /// The kernel's name of the trap.
    pub name: String,
    /// Packets trapped.
    pub packets: u64,
    /// Packets dropped by the device because of it, where it counts them.
    pub dropped_packets: Option<u64>,
}

/// A device's packets beside those at our hooks, since the comparison began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// What came in, `None` where it cannot be compared.
    pub ingress: Option<Side>,
    /// What went out, `None` where it cannot be compared.
    pub egress: Option<Side>,
    /// Why not, `""` if both can.
    pub not_observable: String,
}

/// One direction of a [`Balance`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Packets by the device's count.
    pub device_packets: u64,
    /// Packets by ours.
    pub hook_packets: u64,
    /// How much the two may differ because they are not read in the same instant.
    pub slack_packets: u64,
    /// What is known to have been lost between the two, and what waits there.
    pub explained: Vec<Explained>,
}

/// A known part of the difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What it is.
    pub what: String,
    /// Packets.
    pub packets: u64,
}
