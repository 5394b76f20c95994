//! One immutable value per tick: everything that was counted, by interface. What the exporter, the API and the
//! ad-hoc commands show is this value and nothing else.
//!
//! Counters are totals since the agent's start and never fall; the unit of packets is wire segments. The JSON form is
//! a contract (`GET /api/v1/snapshot`): keys are added, never renamed.

mod judgement;
mod sources;
mod wire;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::judgement::{DetectorState, IncidentCount, Judgement};
pub use self::sources::{
    Balance, Device, DeviceCounter, Explained, Host, Occupancy, Passed, ProtocolError, Qdisc, Rings, Side, Softnet,
    Trap,
};

pub use self::wire::{Flow, FlowDirection, Flows, Share, SideLoss, Wire};

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Everything that is known at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// Milliseconds since the agent's start, by a clock that never steps.
    pub uptime_ms: u64,
    /// Whether anything is being counted.
    #[serde(default)]
    pub state: State,
    /// Inode number of the agent's own network namespace, as in `readlink /proc/PID/ns/net`; 0 where it is not told.
    #[serde(default)]
    pub netns: u32,
    /// Selected interfaces that exist, by name.
    pub interfaces: Vec<Interface>,
    /// Ports of one bridge as one, by the name of the bridge.
    #[serde(default)]
    pub port_groups: Vec<PortGroup>,
    /// How ports appear in the metrics: `aggregate`, `each` or `none`.
    #[serde(default)]
    pub ports: String,
    /// What the kernel dropped, in every namespace.
    pub drops: Vec<Drop>,
    /// Where in the kernel, the most first, at most [`DROP_SITES`].
    #[serde(default)]
    pub drop_sites: Vec<DropSite>,
    /// Those of `drops` that are of other namespaces, by namespace, the most first, at most [`FOREIGN_DROPS`]. Of
    /// namespaces in which nothing is dropped any more it is forgotten when room is short.
    #[serde(default)]
    pub foreign_drops: Vec<ForeignDrop>,
    /// Frames that XDP programs, whoever has loaded them, wanted to go somewhere and that were lost on the way.
    #[serde(default)]
    pub xdp_failed: Vec<XdpFailed>,
    /// TCP of this namespace's own sockets.
    pub tcp: Tcp,
    /// Input queues of the CPUs, machine-wide; `None` where they could not be read.
    #[serde(default)]
    pub softnet: Option<Softnet>,
    /// Errors by protocol and cause; what this kernel does not count is left out.
    #[serde(default)]
    pub protocols: Vec<ProtocolError>,
    /// Evidence that belongs to no interface.
    #[serde(default)]
    pub host: Host,
    /// The probe's honesty about itself.
    pub probe: Probe,
    /// What was made of it; `None` where nobody judges, as without an agent.
    #[serde(default)]
    pub judgement: Option<Judgement>,
}

/// Places in the kernel that a snapshot shows.
pub const DROP_SITES: usize = 64;
/// Drops in other namespaces that a snapshot shows.
pub const FOREIGN_DROPS: usize = 64;

/// Packets that the kernel dropped at one place in its code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropSite {
    /// As in [`Drop`].
    pub netns: String,
    /// As in [`Drop`].
    pub interface: String,
    /// As in [`Drop`].
    pub reason: String,
    /// As in [`Drop`].
    pub class: String,
    /// `FUNCTION+0xOFFSET` of the running kernel, `""` where it does not show its addresses.
    pub function: String,
    /// Dropped packets, in wire segments.
    pub packets: u64,
}

/// Packets that the kernel dropped in another network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignDrop {
    /// Inode number of the namespace, as in `readlink /proc/PID/ns/net`.
    pub netns: u32,
    /// As in [`Drop`].
    pub reason: String,
    /// As in [`Drop`].
    pub class: String,
    /// Dropped packets, in wire segments.
    pub packets: u64,
}

/// What the agent is told to do: `running`, `paused` or `detached`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It counts.
    #[default]
    Running,
    /// The programs are attached and return at once.
    Paused,
    /// As paused, and no program is on an interface.
    Detached,
}

impl State {
    /// As in JSON.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Detached => "detached",
        }
    }
}

/// One selected interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Name in the agent's network namespace.
    pub name: String,
    /// Index in that namespace.
    pub ifindex: u32,
    /// Kind as in `ip -d link` (`veth`, `bridge`, `vxlan` …), `ethernet` or `loopback` where the kernel has no name.
    pub kind: String,
    /// `uplink`, `port`, `internal` or `tunnel`.
    pub role: String,
    /// Why it has this role, in words.
    #[serde(default)]
    pub role_reason: String,
    /// Track group, `""` if it is no track point.
    #[serde(default)]
    pub track: String,
    /// Name of the bridge, bond or other master, `""` if none.
    pub master: String,
    /// Name of the device below, `""` if none.
    pub lower: String,
    /// Name of the driver, `""` if not known.
    pub driver: String,
    /// `IFLA_IFALIAS`, `""` if not set.
    pub alias: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// How its frames are read: `ethernet`, `network`, `network_ingress`, or `opaque` (counted, not looked into).
    pub link: String,
    /// What is attached.
    pub attached: Vec<Attachment>,
    /// Why a hook is not attached, `""` if nothing is missing.
    pub refused: String,
    /// Frames that came in.
    pub ingress: Traffic,
    /// Frames that went out.
    pub egress: Traffic,
    /// Frames that contradict themselves; reasons not seen are left out.
    pub malformed: Vec<Malformed>,
    /// Segments at the hooks for each packet that the device has counted.
    #[serde(default)]
    pub coverage: Coverage,
    /// What the device says of itself.
    #[serde(default)]
    pub device: Device,
    /// Its queueing disciplines, by kind.
    #[serde(default)]
    pub qdiscs: Vec<Qdisc>,
    /// The device's packets beside ours.
    #[serde(default)]
    pub balance: Balance,
    /// What its TCP connections tell; `None` if they are not and never were followed.
    #[serde(default)]
    pub wire: Option<Wire>,
    /// What became of the transport checksums of packets that came in, by `good`, `bad`, `hardware`, `gro` and `budget`
    /// (not looked at); `None` if they are not looked at here: at no track point, and by XDP.
    #[serde(default)]
    pub checksums: Option<BTreeMap<String, u64>>,
}

/// Ports of one bridge as one: what each has counted since it is one of them, also those that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// `BRIDGE/ports`, which no interface can be called.
    pub name: String,
    /// The bridge.
    pub master: String,
    /// Ports in it now.
    pub ports: u64,
    /// Ports by what is attached to them.
    pub attached: Vec<AttachedPorts>,
    /// Frames that came in.
    pub ingress: Traffic,
    /// Frames that went out.
    pub egress: Traffic,
    /// Frames that contradict themselves; reasons not seen are left out.
    pub malformed: Vec<Malformed>,
    /// What the kernel dropped of them, in their name.
    pub drops: Vec<Drop>,
    /// Segments that local sockets sent again through them, in their name.
    pub retransmitted: Vec<Retransmitted>,
    /// Frames that XDP programs lost on them, in their name.
    #[serde(default)]
    pub xdp_failed: Vec<XdpFailed>,
}

/// How many ports of a group have this hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedPorts {
    /// The hook.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Ports.
    pub ports: u64,
}

/// Segments at a hook for each packet that the device has counted, in the last seconds; `None` where the device does
/// not count wire frames, or too little has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Of frames that came in.
    pub ingress: Option<f64>,
    /// Of frames that went out.
    pub egress: Option<f64>,
}

/// One hook on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// `tc_ingress`, `tc_egress` or `xdp`.
    pub hook: String,
    /// `tcx`, `clsact` or `native`.
    pub mode: String,
    /// Place among the hook's programs: `first`, `last`, `only`, `middle`, or `unknown`.
    pub position: String,
}

/// Counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Wire segments.
    pub frames: u64,
    /// Bytes as on the wire, without FCS.
    pub bytes: u64,
    /// Frames of protocols that are not looked into.
    pub other_frames: u64,
    /// Frames whose headers reach beyond what can be seen.
    pub unseen_frames: u64,
    /// Wire segments of TCP connections that are followed.
    #[serde(default)]
    pub tcp_segments: u64,
    /// Frames of protocols that are about the link itself: STP, LLDP, LACP and the like.
    #[serde(default)]
    pub control_frames: u64,
}

/// Frames of one malformed kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malformed {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Id of the closed list.
    pub reason: String,
    /// `error` or `warning`.
    pub severity: String,
    /// `local` or `path`: the reason's, but `path` for what a tunnel carries.
    pub scope: String,
    /// Frames.
    pub frames: u64,
}

/// Who has sent malformed frames last to an interface. By API on the unix socket, never by TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Senders {
    /// Name in the agent's network namespace.
    pub interface: String,
    /// The last senders on this segment, which need not be the devices that have damaged the frames; the most frames first.
    pub senders: Vec<Sender>,
    /// Malformed frames that came in from senders who found no room in the table, or have lost their place in it.
    #[serde(default)]
    pub other_frames: u64,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Malformed reason.
    pub reason: String,
    /// MAC address.
    pub source_mac: String,
    /// (Outer) VLAN identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Frames.
    pub frames: u64,
}

/// Packets that the kernel dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Drop {
    /// `own` (the agent's network namespace) or `other` (every other one, and packets of which it is not known).
    pub netns: String,
    /// Interface name, `""` outside the agent's namespace or where the kernel knows none.
    pub interface: String,
    /// The kernel's own name in lower case.
    pub reason: String,
    /// `capacity`, `malformed`, `config`, `policy`, `noise` or `unknown`.
    pub class: String,
    /// `ipv4`, `ipv6`, `arp` or `other`.
    pub family: String,
    /// The interface is a port, or was one until it vanished.
    #[serde(default)]
    pub port: bool,
    /// At the word of an XDP program: dropped before any hook of ours.
    #[serde(default)]
    pub xdp: bool,
    /// Wire segments.
    pub packets: u64,
}

/// Frames that XDP could not do with what a program wanted. What a program drops by its own will is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XdpFailed {
    /// Interface: where the frame arrived, but for `devmap` where it should have left. `""` for `cpumap`, for which the
    /// kernel tells none, and for all other network namespaces.
    pub interface: String,
    /// `exception_aborted`, `exception_drop`, `exception_pass`, `exception_tx`, `exception_redirect`,
    /// `exception_unknown`, `redirect`, `devmap`, `tx` or `cpumap`. Some drivers say of one frame both `redirect` and
    /// `exception_redirect`.
    pub cause: String,
    /// The interface is a port, or was one until it vanished.
    #[serde(default)]
    pub port: bool,
    /// Frames.
    pub packets: u64,
}

/// TCP of this namespace's own sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Segments sent since the agent's start, those that only repeat data left out, repeated SYN-ACKs not (`OutSegs`, RFC
    /// 4022). `None` where it could not be read.
    pub sent_segments: Option<u64>,
    /// Segments sent again.
    pub retransmitted: Vec<Retransmitted>,
    /// Segments that came in with a wrong TCP checksum. Empty also where the feature `tcp_bad_csum` is missing.
    #[serde(default)]
    pub bad_checksums: Vec<BadChecksums>,
}

/// Segments with a wrong checksum that one interface brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BadChecksums {
    /// Interface, `""` where the kernel knows none.
    pub interface: String,
    /// Segments.
    pub segments: u64,
}

/// Segments sent again by one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Retransmitted {
    /// Interface of the socket's route; of a SYN-ACK the one that its request is bound to. `""` if there is none.
    pub interface: String,
    /// `fast`, `timeout`, `tail_probe`, `syn`, `synack` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The interface is a port, or was one until it vanished.
    #[serde(default)]
    pub port: bool,
    /// Segments.
    pub segments: u64,
}

/// The probe's honesty about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What this kernel gives, by name.
    pub features: BTreeMap<String, bool>,
    /// Entries in use and capacity of each bounded map.
    pub maps: Vec<Map>,
    /// Counts that were lost because a map took no more.
    pub map_update_failed: Vec<MapUpdateFailed>,
    /// Runs of a program that the kernel skipped, by program; a program is left out where the kernel does not say.
    pub program_missed: BTreeMap<String, u64>,
    /// Drop events that were members of a packet already counted.
    pub drop_members: u64,
    /// Milliseconds in which nothing was counted because the agent stood still for more than 10 s (SIGSTOP, a starved CPU).
    #[serde(default)]
    pub uncounted_ms: u64,
    /// Events that nobody who watches was shown, because too many of their kind came at once, or in all, or their reason was
    /// still being looked for. They are counted.
    #[serde(default)]
    pub events_suppressed: u64,
    /// Those of `drops`, in wire segments, that came in drop storms: counted exactly by reason; interface, namespace and
    /// family are those of a sample, one event in about 64.
    #[serde(default)]
    pub drop_storm_packets: u64,
    /// Further ones that are not in `drops` yet: they wait for the next sample, at most 96 events for each reason and CPU.
    #[serde(default)]
    pub drop_storm_waiting_packets: u64,
    /// Microseconds that reading all of this took.
    #[serde(default)]
    pub snapshot_us: u64,
    /// Why the followers of connections saw less than there was, by cause; empty if nothing is followed.
    #[serde(default)]
    pub flow_quality: BTreeMap<String, u64>,
    /// Malformed frames that were to be kept as evidence and were not: no room, or they could not be copied.
    #[serde(default)]
    pub evidence_lost: u64,
    /// Failed reads, by source.
    pub collect_errors: BTreeMap<String, u64>,
    /// Whether what protects the HTTP address is what its file says now; `None` without such a file.
    #[serde(default)]
    pub web_config_current: Option<bool>,
    /// What the agent may do.
    #[serde(default)]
    pub privileges: Privileges,
    /// What the maps take of the kernel's memory.
    #[serde(default)]
    pub memory: Memory,
}

/// What the maps take of the kernel's memory, by calculation before they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes of all maps together.
    pub maps_bytes: u64,
    /// CPUs that per-CPU maps are made for.
    pub possible_cpus: u64,
    /// The least that this process is allowed, `None` where nothing limits it.
    pub limit_bytes: Option<u64>,
    /// What sets that limit, `""` if nothing does.
    pub limit: String,
}

/// What the agent may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Capabilities that it holds, by the kernel's names.
    pub held: Vec<String>,
    /// Capabilities that it had a use for at the start and was not given.
    pub missing: Vec<String>,
}

/// One bounded map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Name, as in the label `map`.
    pub name: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// Counts lost by one map for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUpdateFailed {
    /// Name, as in the label `map`.
    pub map: String,
    /// `full`, `busy` or `unreadable`.
    pub cause: String,
    /// Counts lost.
    pub count: u64,
}
