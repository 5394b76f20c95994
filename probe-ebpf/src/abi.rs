//! Everything that crosses the line between kernel and user space: names, map keys and values, read-only globals.
//!
//! Plain data only: fixed-width integers and byte arrays, no padding that is not named, sizes asserted below each type.

use crate::{
    budget::Budget,
    classify::{Cursor, TunnelPorts},
    flow::{FLOW_WAYS, Half, Key, Passing, Secret},
    reason::Malformed,
};

/// Names of maps. The kernel side's statics bear the same names; a test compares both sets.
pub mod map {
    /// `Array<Slot>`: interface index to slot, direct-mapped.
    pub const SLOTS: &str = "SLOTS";
    /// `PerCpuArray<Traffic>`: hot counters, see [`super::traffic_index`].
    pub const TRAFFIC: &str = "TRAFFIC";
    /// `PerCpuHashMap<MalformedKey, MalformedCount>`: frames that contradict themselves.
    pub const MALFORMED: &str = "MALFORMED";
    /// `Array<SourceSet>`: who has sent such frames last, see [`crate::source`].
    pub const SOURCES: &str = "SOURCES";
    /// `PerCpuArray<Checksums>`: what became of transport checksums, by [`super::Slot::track`] less one.
    pub const CHECKSUMS: &str = "CHECKSUMS";
    /// `PerCpuHashMap<DropKey, u64>`: segments that the kernel dropped.
    pub const DROPS: &str = "DROPS";
    /// `PerCpuHashMap<NamespaceKey, u64>`: segments that the kernel dropped in other network namespaces.
    pub const NAMESPACES: &str = "NAMESPACES";
    /// `PerCpuHashMap<RetransmitKey, u64>`: segments that local sockets sent again.
    pub const RETRANSMITS: &str = "RETRANSMITS";
    /// `PerCpuHashMap<FaultKey, u64>`: what went wrong besides, by interface.
    pub const FAULTS: &str = "FAULTS";
    /// `PerCpuArray<u64>`: what the probe could not do, by [`super::Tally`].
    pub const TALLIES: &str = "TALLIES";
    /// `PerCpuArray<Storm>`: how fast drops come, see [`crate::storm`].
    pub const STORM: &str = "STORM";
    /// `PerCpuArray<Waiting>`: drops of a storm that have no interface yet, by reason.
    pub const WAITING: &str = "WAITING";
    /// `PerCpuArray<Scratch>`: the frame being classified.
    pub const SCRATCH: &str = "SCRATCH";
    /// Ring buffer of [`super::Evidence`], short and long ones.
    pub const EVIDENCE: &str = "EVIDENCE";
    /// `PerCpuArray<Sum>`: bytes that are summed up.
    pub const SUM: &str = "SUM";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// `PerCpuArray<Bucket>`: how many examples each kind of event may still put into [`EVENTS`].
    pub const BUCKETS: &str = "BUCKETS";
    /// `Array<FlowSet>`: connections as they pass towards this host.
    pub const FLOWS_IN: &str = "FLOWS_IN";
    /// `Array<FlowSet>`: the same away from it.
    pub const FLOWS_OUT: &str = "FLOWS_OUT";
    /// `Array<FlowNames>`: who they are, and what they have lost.
    pub const FLOW_NAMES: &str = "FLOW_NAMES";
    /// `PerCpuArray<Ledger>`: what connections tell, see [`super::ledger_index`].
    pub const LEDGERS: &str = "LEDGERS";
    /// aya-log's ring buffer; the name is the library's.
    pub const AYA_LOGS: &str = "AYA_LOGS";
    /// All of them.
    pub const ALL: [&str; 22] = [
        SLOTS,
        TRAFFIC,
        MALFORMED,
        SOURCES,
        CHECKSUMS,
        DROPS,
        NAMESPACES,
        RETRANSMITS,
        FAULTS,
        TALLIES,
        STORM,
        WAITING,
        SCRATCH,
        EVIDENCE,
        SUM,
        EVENTS,
        BUCKETS,
        FLOWS_IN,
        FLOWS_OUT,
        FLOW_NAMES,
        LEDGERS,
        AYA_LOGS,
    ];
    /// The map that holds the one writable global, [`super::Control`]. The name is the compiler's.
    pub const CONTROL: &str = ".bss";
}

/// Names of programs, at most 15 characters, all with one prefix: so an operator finds them in `bpftool prog`.
pub mod program {
    /// tc ingress.
    pub const INGRESS: &str = "lossprobe_in";
    /// tc egress.
    pub const EGRESS: &str = "lossprobe_out";
    /// Native XDP ingress, where it was asked for.
    pub const XDP: &str = "lossprobe_xdp";
    /// `skb:kfree_skb` of kernels whose tracepoint has no reason.
    pub const DROPS_WITHOUT_REASON: &str = "lossprobe_drop2";
    /// `skb:kfree_skb` with a reason.
    pub const DROPS: &str = "lossprobe_drop3";
    /// `skb:kfree_skb` with a reason and the receiving socket.
    pub const DROPS_WITH_SOCKET: &str = "lossprobe_drop4";
    /// `tcp:tcp_retransmit_skb` of kernels that fire it only for success.
    pub const RETRANSMITS: &str = "lossprobe_retx2";
    /// `tcp:tcp_retransmit_skb` with the error of the attempt.
    pub const RETRANSMITS_WITH_ERROR: &str = "lossprobe_retx3";
    /// `tcp:tcp_retransmit_synack`.
    pub const SYNACKS: &str = "lossprobe_synac";
    /// `tcp:tcp_bad_csum`.
    pub const BAD_CHECKSUMS: &str = "lossprobe_tcsum";
    /// `xdp:xdp_exception`.
    pub const XDP_EXCEPTIONS: &str = "lossprobe_xexce";
    /// `xdp:xdp_redirect_err`.
    pub const XDP_REDIRECTS: &str = "lossprobe_xredi";
    /// `xdp:xdp_devmap_xmit`.
    pub const XDP_DEVMAPS: &str = "lossprobe_xdevm";
    /// `xdp:xdp_bulk_tx`.
    pub const XDP_SENDS: &str = "lossprobe_xbulk";
    /// `xdp:xdp_cpumap_enqueue`.
    pub const XDP_CPUMAPS: &str = "lossprobe_xcpum";
    /// Notes that the agent lives; run by the agent itself.
    pub const BEAT: &str = "lossprobe_beat";
    /// For measurements: looks at nothing.
    pub const EMPTY: &str = "lossprobe_none";
    /// The same at `skb:kfree_skb`.
    pub const EMPTY_DROPS: &str = "lossprobe_idle";
    /// For measurements: counts frames and bytes per interface and nothing else.
    pub const REFERENCE: &str = "lossprobe_ref";
    /// All of them.
    pub const ALL: [&str; 19] = [
        INGRESS,
        EGRESS,
        XDP,
        DROPS_WITHOUT_REASON,
        DROPS,
        DROPS_WITH_SOCKET,
        RETRANSMITS,
        RETRANSMITS_WITH_ERROR,
        SYNACKS,
        BAD_CHECKSUMS,
        XDP_EXCEPTIONS,
        XDP_REDIRECTS,
        XDP_DEVMAPS,
        XDP_SENDS,
        XDP_CPUMAPS,
        BEAT,
        EMPTY,
        EMPTY_DROPS,
        REFERENCE,
    ];
}

/// Names of read-only globals.
pub mod global {
    /// [`super::Offsets`].
    pub const OFFSETS: &str = "OFFSETS";
    /// [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// aya-log's level; the name is the library's.
    pub const AYA_LOG_LEVEL: &str = "AYA_LOG_LEVEL";
    /// All of them.
    pub const ALL: [&str; 3] = [OFFSETS, SETTINGS, AYA_LOG_LEVEL];
}

/// Entries that a lookup of [`Slot`] starts from: `ifindex & (SLOT_LINES - 1)`, then the next one.
pub const SLOT_LINES: u32 = 4096;
/// Places at which an interface can be found.
pub const SLOT_PROBES: u32 = 2;
/// Bytes of a frame that the classifier can see.
pub const WINDOW_BYTES: usize = 192;

/// Which way a frame passes a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Towards this host.
    Ingress = 0,
    /// Away from this host.
    Egress = 1,
}

impl Direction {
    /// Both, in the order of the numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The metric label.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// An interface that is counted. `ifindex` 0: vacant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// Interface index in the agent's network namespace.
    pub ifindex: u32,
    /// Index of its counters.
    pub slot: u32,
    /// The device's MTU, 0 if not to be judged.
    pub mtu_bytes: u32,
    /// A [`LinkKind`](crate::classify::LinkKind).
    pub link_kind: u8,
    /// Bits of [`Meta`](crate::classify::Meta) that come from the device, `FROM_WIRE` for ingress only.
    pub flags: u8,
    /// Index of its ledgers and checksums plus one if it is a track point, else 0.
    pub track: u8,
    /// Number of its track group.
    pub group: u8,
    /// Tunnels of this node whose packets it carries.
    pub tunnels: TunnelPorts,
    /// 1 if its connections are followed.
    pub follows: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<Slot>() == 28);

/// Hot counters of one (slot, direction) on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Wire segments: a GSO or GRO packet counts as its segments.
    pub frames: u64,
    /// Bytes as on the wire: from the MAC header, stripped tags included, without FCS.
    pub bytes: u64,
    /// Frames whose headers reach beyond what can be seen: judged neither well formed nor malformed.
    pub unseen_frames: u64,
    /// Frames of protocols that are not understood, or of devices that are opaque.
    pub other_frames: u64,
    /// Wire segments of TCP connections that are followed.
    pub tcp_segments: u64,
    /// Frames of protocols that are about the link itself: STP, LLDP, LACP and the like.
    pub control_frames: u64,
}
const _: () = assert!(size_of::<Traffic>() == 48);

/// Index into [`map::TRAFFIC`].
#[must_use]
#[inline(always)]
pub const fn traffic_index(slot: u32, direction: Direction) -> u32 {
    slot * 2 + direction as u32
}

/// Index into [`map::LEDGERS`].
#[must_use]
#[inline(always)]
pub const fn ledger_index(track: u8, direction: Direction) -> u32 {
    (track as u32 - 1) * 2 + direction as u32
}

/// Halves of connections that share a place.
pub type FlowSet = [Half; FLOW_WAYS];

/// Their names, in any order.
pub type FlowNames = [FlowName; FLOW_WAYS];

/// Who a connection is: what is too seldom touched to stand in its [`Half`]. Both directions share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowName {
    /// See [`Key::tag`]; another one's if two that share a place came at once.
    pub tag: u64,
    /// The connection.
    pub key: Key,
    /// Interface on which each direction was last seen, by [`Direction`]; 0 if it was not. With [`HAIRPIN`] at ingress.
    pub ifindex: [u32; 2],
    /// Segments of each direction that were lost before this point.
    pub lost_before: [u32; 2],
    /// Segments of each direction that passed here again: lost behind this point, or not needed.
    pub seen_again: [u32; 2],
    /// Of those, how many the receiver said it had not needed: of the direction that was sent again. Less those that were
    /// known as needless without its word (`spurious`, `duplicate`), which it says of them, too: so it may be negative.
    /// Written by both directions, each by one instruction.
    pub not_needed: [i32; 2],
}
const _: () = assert!(size_of::<FlowName>() == 88);

/// Bit of an ingress interface in [`FlowName::ifindex`]: packets leave by it, too. What passes again was lost behind the way
/// out, not inside.
pub const HAIRPIN: u32 = 1 << 31;

/// Key of [`map::MALFORMED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct MalformedKey {
    /// The interface's slot.
    pub slot: u16,
    /// A [`Direction`]; with [`INSIDE`] of what a tunnel carries.
    pub direction: u8,
    /// A [`Malformed`].
    pub reason: u8,
}
const _: () = assert!(size_of::<MalformedKey>() == 4);
/// Bit of [`MalformedKey::direction`]: the maker is wherever the tunnel begins, not on this segment.
pub const INSIDE: u8 = 1 << 7;
const _: () = assert!(Malformed::ALL.len() < 255);

/// Value of [`map::MALFORMED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MalformedCount {
    /// How many there were.
    pub frames: u64,
    /// Jiffies, their lower half, at which the current time for evidence began.
    pub since: u32,
    /// Frames that were kept as evidence in it.
    pub kept: u32,
}
const _: () = assert!(size_of::<MalformedCount>() == 16);

/// Bytes of a frame that can be kept as evidence.
pub const EVIDENCE_BYTES: usize = 2048;
/// Bytes of a frame for which a short piece of evidence has room.
pub const GLIMPSE_BYTES: usize = 256;

/// A frame that contradicts itself, in the ring buffer [`map::EVIDENCE`]; with room for [`GLIMPSE_BYTES`] of it or for
/// [`EVIDENCE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Evidence<const N: usize> {
    /// What is known of it.
    pub about: About,
    /// The frame's first bytes.
    pub bytes: [u8; N],
}
const _: () = assert!(size_of::<Evidence<GLIMPSE_BYTES>>() == 40 + GLIMPSE_BYTES);
const _: () = assert!(size_of::<Evidence<EVIDENCE_BYTES>>() == 40 + EVIDENCE_BYTES);

/// What an [`Evidence`] says besides the frame's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct About {
    /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Interface index in the agent's network namespace.
    pub ifindex: u32,
    /// Bytes of the whole frame, a tag that was taken out of it not included.
    pub frame_bytes: u32,
    /// How much of [`Evidence::bytes`] is the frame's.
    pub captured_bytes: u32,
    /// Wire segments of it.
    pub segments: u32,
    /// EtherType of what the bytes begin with; 0: an Ethernet header.
    pub first_protocol: u16,
    /// TPID of the tag that was taken out, 0 if none.
    pub tag_protocol: u16,
    /// TCI of that tag.
    pub tag_control: u16,
    /// Offset of the contradiction in the frame.
    pub offset: u16,
    /// A [`Malformed`].
    pub reason: u8,
    /// As in [`MalformedKey::direction`].
    pub direction: u8,
    /// How to read the frame: bits of [`Meta`](crate::classify::Meta).
    pub flags: u8,
    #[doc(hidden)]
    pub pad: [u8; 5],
}
const _: () = assert!(size_of::<About>() == 40);

/// Bytes that are summed up at once: the kernel takes no more, and it is a multiple of two.
pub const PIECE_BYTES: usize = 512;

/// The state of a sum over a packet, on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sum {
    /// Offset of the next byte in the frame.
    pub at: u32,
    /// The sum so far, in this machine's order, not folded.
    pub sum: u32,
    /// Bytes that are missing.
    pub left: u64,
    /// The next of them, and what fills them up to four.
    pub piece: [u8; PIECE_BYTES + 8],
}
const _: () = assert!(size_of::<Sum>() == 16 + PIECE_BYTES + 8);

/// What became of a transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Checksum {
    /// Looked at here: right.
    Good = 0,
    /// Looked at here: wrong.
    Bad = 1,
    /// The network card has looked, or another machine part finishes it later.
    Hardware = 2,
    /// The kernel has looked, before it merged segments.
    Gro = 3,
    /// Nobody has: there was no budget left, or there is none (UDP).
    Budget = 4,
}

impl Checksum {
    /// All, in the order of the numbers.
    pub const ALL: [Self; 5] = [Self::Good, Self::Bad, Self::Hardware, Self::Gro, Self::Budget];

    /// The metric label `result`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Hardware => "hardware",
            Self::Gro => "gro",
            Self::Budget => "budget",
        }
    }
}

/// Transport checksums at the ingress of a track point, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Checksums {
    /// Packets by [`Checksum`].
    pub results: [u64; 5],
    /// See [`crate::budget`].
    pub budget: Budget,
}
const _: () = assert!(size_of::<Checksums>() == 64);

/// Protocol family of a dropped packet, from `skb->protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    Other = 0,
    Ipv4 = 1,
    Ipv6 = 2,
    Arp = 3,
}

/// Every network namespace but the agent's, and those that are not known.
pub const OTHER_NETNS: u32 = 0;

/// Key of [`map::DROPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct DropKey {
    /// Where in the kernel: the address behind the call that gave the packet up.
    pub location: u64,
    /// Inode number of the agent's network namespace, or [`OTHER_NETNS`].
    pub netns: u32,
    /// Interface index in the agent's namespace, 0 if the kernel knows none, and for all others.
    pub ifindex: u32,
    /// The kernel's `enum skb_drop_reason`, subsystem bits included; 0 where the kernel has no reasons.
    pub reason: u32,
    /// A [`Family`].
    pub family: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<DropKey>() == 24);

/// Key of [`map::NAMESPACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct NamespaceKey {
    /// Inode number of a network namespace that is not the agent's.
    pub netns: u32,
    /// As in [`DropKey`].
    pub reason: u32,
}
const _: () = assert!(size_of::<NamespaceKey>() == 8);

/// What was sent again, and on what occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Retransmit {
    /// On another occasion (data of a Fast Open that was refused), or the kernel's types do not tell.
    Unknown = 0,
    /// A SYN.
    Syn = 1,
    /// A SYN-ACK.
    SynAck = 2,
    /// In fast recovery: acknowledgements, or RACK's clock, say that it was lost (`TCP_CA_Recovery`).
    Fast = 3,
    /// The retransmission timer expired, and what followed until all that was lost then is acknowledged
    /// (`TCP_CA_Loss`); also what became too long for the path.
    Timeout = 4,
    /// A tail loss probe: the last segment again, to provoke an acknowledgement.
    TailProbe = 5,
}

impl Retransmit {
    /// All, in the order of the numbers.
    pub const ALL: [Self; 6] = [Self::Unknown, Self::Syn, Self::SynAck, Self::Fast, Self::Timeout, Self::TailProbe];

    /// The metric label `type`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Syn => "syn",
            Self::SynAck => "synack",
            Self::Fast => "fast",
            Self::Timeout => "timeout",
            Self::TailProbe => "tail_probe",
        }
    }
}

/// Key of [`map::RETRANSMITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct RetransmitKey {
    /// Interface index of the socket's route, else the one that the request is bound to, else 0.
    pub ifindex: u32,
    /// A [`Retransmit`].
    pub kind: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<RetransmitKey>() == 8);

macro_rules! faults {
    ($($(#[$doc:meta])+ $variant:ident $id:literal;)+) => {
        /// What went wrong without a packet of the kernel's that it could drop by a reason, or besides.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])+ $variant,)+
        }

        impl Fault {
            /// All, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The metric label `cause`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)+
                }
            }
        }
    };
}

faults! {
    /// `xdp_exception`, by the program's action: the first five are numbered as `enum xdp_action` is (linux/bpf.h).
    ExceptionAborted "exception_aborted";
    /// No driver is known to fail at it.
    ExceptionDrop "exception_drop";
    /// No packet could be made of the frame.
    ExceptionPass "exception_pass";
    /// The frame could not be sent back.
    ExceptionTx "exception_tx";
    /// The frame could not be redirected, said by the driver; the kernel may have said it before, see `Redirect`.
    ExceptionRedirect "exception_redirect";
    /// The program has returned what is no action.
    ExceptionUnknown "exception_unknown";
    /// `xdp_redirect_err`: the target does not take frames. Of the interface on which the frame arrived.
    Redirect "redirect";
    /// `xdp_devmap_xmit`: frames that the target did not take. Of the target.
    Devmap "devmap";
    /// `xdp_bulk_tx`: frames that could not be sent back, said by drivers that send in batches (veth).
    Tx "tx";
    /// `xdp_cpumap_enqueue`: frames for which the other CPU's queue had no room. Of no interface.
    Cpumap "cpumap";
    /// `tcp_bad_csum`: segments, not frames.
    TcpBadChecksum "tcp_bad_checksum";
}

impl Fault {
    /// An exception by the number of the action that the program has returned.
    #[must_use]
    #[inline(always)]
    pub const fn exception(action: u32) -> Self {
        match action {
            0 => Self::ExceptionAborted,
            1 => Self::ExceptionDrop,
            2 => Self::ExceptionPass,
            3 => Self::ExceptionTx,
            4 => Self::ExceptionRedirect,
            _ => Self::ExceptionUnknown,
        }
    }
}

/// Key of [`map::FAULTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FaultKey {
    /// Interface index in the agent's namespace, 0 if the kernel tells none, and for all other namespaces.
    pub ifindex: u32,
    /// A [`Fault`].
    pub fault: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<FaultKey>() == 8);

macro_rules! tallies {
    ($($variant:ident $map:literal $cause:literal;)+) => {
        /// What the probe could not do, or did apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Tally {
            /// Drop events that are members of a packet already counted.
            DropMembers = 0,
            /// Segments in [`map::DROPS`] whose interface is that of a sample, see [`crate::storm`].
            StormSegments,
            /// Events that nobody was shown, because too many of their kind came at once.
            EventsSuppressed,
            /// Events that nobody was shown, because the reader was too slow for [`map::EVENTS`].
            EventsFull,
            /// Malformed frames that were to be evidence, and could not be copied or found no room in [`map::EVIDENCE`].
            EvidenceLost,
            $(#[doc = concat!("Counts lost: ", $map, " ", $cause, ".")] $variant,)+
        }

        impl Tally {
            /// How many there are: entries of [`map::TALLIES`].
            pub const COUNT: u32 = Self::FAILURES.len() as u32 + 5;
            /// Events that were counted, but nobody was shown.
            pub const NOT_SHOWN: [Self; 2] = [Self::EventsSuppressed, Self::EventsFull];
            /// Lost counts with the metric labels `map` and `cause`.
            pub const FAILURES: &'static [(Self, &'static str, &'static str)] = &[$((Self::$variant, $map, $cause),)+];
        }
    };
}

tallies! {
    MalformedFull "malformed" "full";
    MalformedBusy "malformed" "busy";
    DropsFull "drops" "full";
    DropsBusy "drops" "busy";
    NamespacesFull "namespaces" "full";
    NamespacesBusy "namespaces" "busy";
    RetransmitsFull "retransmits" "full";
    RetransmitsBusy "retransmits" "busy";
    FaultsFull "faults" "full";
    FaultsBusy "faults" "busy";
    ScratchUnreadable "scratch" "unreadable";
    SendersFull "senders" "full";
    SendersReplaced "senders" "replaced";
}

/// An offset that the running kernel's types do not have.
pub const ABSENT: u32 = u32::MAX;

/// Where the kernel keeps what the programs read: byte offsets from the start of each structure, by the running
/// kernel's BTF; [`ABSENT`] where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "named structure_member")]
pub struct Offsets {
    pub sk_buff_dev: u32,
    pub sk_buff_sk: u32,
    pub sk_buff_skb_iif: u32,
    pub sk_buff_protocol: u32,
    pub sk_buff_skb_refdst: u32,
    pub sk_buff_head: u32,
    pub sk_buff_end: u32,
    pub sk_buff_data: u32,
    pub sk_buff_tail: u32,
    pub sk_buff_len: u32,
    pub sk_buff_cb: u32,
    pub sk_buff_network_header: u32,
    pub sk_buff_transport_header: u32,
    pub sk_buff_data_len: u32,
    /// Of the byte that holds it, and how far it is shifted in there.
    pub sk_buff_ip_summed: u32,
    pub sk_buff_ip_summed_shift: u32,
    /// `gso_segs` stands directly behind it.
    pub skb_shared_info_gso_size: u32,
    pub skb_shared_info_gso_type: u32,
    pub net_device_ifindex: u32,
    pub net_device_nd_net: u32,
    pub net_ns_inum: u32,
    pub dst_entry_dev: u32,
    pub sock_skc_net: u32,
    pub sock_skc_state: u32,
    pub sock_skc_family: u32,
    pub sock_skc_daddr: u32,
    pub sock_skc_rcv_saddr: u32,
    pub sock_skc_v6_daddr: u32,
    pub sock_skc_v6_rcv_saddr: u32,
    pub sock_skc_dport: u32,
    pub sock_skc_num: u32,
    pub sock_sk_dst_cache: u32,
    pub request_sock_skc_bound_dev_if: u32,
    /// As [`Self::sk_buff_ip_summed`].
    pub inet_connection_sock_icsk_ca_state: u32,
    pub inet_connection_sock_icsk_ca_state_shift: u32,
    pub inet_connection_sock_icsk_pending: u32,
}

impl Offsets {
    /// Nothing known.
    pub const UNKNOWN: Self = Self {
        sk_buff_dev: ABSENT,
        sk_buff_sk: ABSENT,
        sk_buff_skb_iif: ABSENT,
        sk_buff_protocol: ABSENT,
        sk_buff_skb_refdst: ABSENT,
        sk_buff_head: ABSENT,
        sk_buff_end: ABSENT,
        sk_buff_data: ABSENT,
        sk_buff_tail: ABSENT,
        sk_buff_len: ABSENT,
        sk_buff_cb: ABSENT,
        sk_buff_network_header: ABSENT,
        sk_buff_transport_header: ABSENT,
        sk_buff_data_len: ABSENT,
        sk_buff_ip_summed: ABSENT,
        sk_buff_ip_summed_shift: ABSENT,
        skb_shared_info_gso_size: ABSENT,
        skb_shared_info_gso_type: ABSENT,
        net_device_ifindex: ABSENT,
        net_device_nd_net: ABSENT,
        net_ns_inum: ABSENT,
        dst_entry_dev: ABSENT,
        sock_skc_net: ABSENT,
        sock_skc_state: ABSENT,
        sock_skc_family: ABSENT,
        sock_skc_daddr: ABSENT,
        sock_skc_rcv_saddr: ABSENT,
        sock_skc_v6_daddr: ABSENT,
        sock_skc_v6_rcv_saddr: ABSENT,
        sock_skc_dport: ABSENT,
        sock_skc_num: ABSENT,
        sock_sk_dst_cache: ABSENT,
        request_sock_skc_bound_dev_if: ABSENT,
        inet_connection_sock_icsk_ca_state: ABSENT,
        inet_connection_sock_icsk_ca_state_shift: ABSENT,
        inet_connection_sock_icsk_pending: ABSENT,
    };
}

/// What the agent tells the programs once, before they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// First address of `skb_release_data`, 0 if not known.
    pub release_data_start: u64,
    /// Address behind its last byte.
    pub release_data_end: u64,
    /// Inode number of the agent's network namespace.
    pub netns: u32,
    /// Jiffies in a second.
    pub hertz: u32,
    /// What places of connections depend on.
    pub secret: Secret,
    /// Entries of [`map::FLOWS_IN`] and its like, less one; a power of two less one.
    pub flow_mask: u32,
    /// Connections are followed whose tag's upper half is at most this.
    pub flow_share: u32,
    /// Bytes behind a malformed frame's headers that are kept as evidence.
    pub evidence_payload_bytes: u32,
    /// Bytes of a frame with a wrong checksum that are kept, [`EVIDENCE_BYTES`] at most; 0: no more than of others.
    pub evidence_whole_bytes: u32,
}

impl Settings {
    /// Before the agent has spoken.
    pub const UNSET: Self = Self {
        release_data_start: 0,
        release_data_end: 0,
        netns: 0,
        hertz: 0,
        secret: Secret { seed: 0, factor: 0 },
        flow_mask: 0,
        flow_share: 0,
        evidence_payload_bytes: 0,
        evidence_whole_bytes: 0,
    };
}

/// What the agent tells the programs at any time, in [`map::CONTROL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Jiffies at the agent's last sign of life, 0 if the programs are to do nothing.
    pub heartbeat: u64,
    /// 1 while somebody wants to see examples, and more evidence than is kept anyway.
    pub watched: u64,
}
const _: () = assert!(size_of::<Control>() == 16);

/// Seconds without a sign of life from the agent after which the programs do nothing any more: below Linux 6.6 filters
/// outlive a killed agent.
pub const INERT_AFTER_SECONDS: u64 = 10;

/// The frame being classified on one CPU. Longer than 255 + the longest read, so that a masked index is inside.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Scratch {
    /// The frame's first bytes.
    pub bytes: [u8; 320],
    /// How many of them are the frame's.
    pub captured_bytes: u64,
    /// The walk's state.
    pub cursor: Cursor,
    /// Where it passes, if its connection is followed.
    pub passage: Passage,
    /// What its connection sees of it.
    pub passing: Passing,
}
const _: () = assert!(size_of::<Cursor>() == 72);
const _: () = assert!(size_of::<Scratch>() == 544);

/// Where and how a packet of a connection passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Passage {
    /// The interface.
    pub ifindex: u32,
    /// Wire segments.
    pub segments: u32,
    /// Payload bytes of each but the last if there are several, else 0.
    pub gso_size: u32,
    /// See [`Slot::track`].
    pub track: u8,
    /// See [`Slot::group`].
    pub group: u8,
    #[doc(hidden)]
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Passage>() == 16);

/// What an [`Event`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A packet that the kernel dropped.
    Drop = 0,
    /// A segment that a local socket sent again.
    Retransmit = 1,
}

/// Bytes of a packet that an [`Event`] shows.
pub const EVENT_BYTES: usize = 128;

/// An example of something that is counted, for whoever watches; in the ring buffer [`map::EVENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Of a drop: where in the kernel, an address; else 0.
    pub location: u64,
    /// Inode number of the packet's network namespace, 0 if not known.
    pub netns: u32,
    /// Interface index in that namespace, 0 if not known.
    pub ifindex: u32,
    /// Number of the kernel's drop reason or of a [`Retransmit`], by `kind`.
    pub reason: u32,
    /// Bytes of the whole packet, from where `bytes` begins.
    pub packet_bytes: u32,
    /// Wire segments of the packet.
    pub segments: u32,
    /// How much of `bytes` is the packet's.
    pub captured_bytes: u32,
    /// EtherType of what `bytes` begins with; 0: an Ethernet header.
    pub first_protocol: u16,
    /// An [`EventKind`].
    pub kind: u8,
    #[doc(hidden)]
    pub pad: [u8; 5],
    /// The packet's first bytes.
    pub bytes: [u8; EVENT_BYTES],
}
const _: () = assert!(size_of::<Event>() == 176);

/// Kinds of events that are limited apart, so that a flood of one does not hide another: half of them of the agent's own
/// namespace, half of all others.
pub const EVENT_BUCKETS: u32 = 32;
/// Examples of each in a tenth of a second, on one CPU.
pub const EVENTS_PER_TENTH: u64 = 16;

/// Examples of some kinds of events that one CPU has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// Jiffies at which the current tenth of a second began.
    pub since: u64,
    /// Examples in it.
    pub shown: u64,
}
const _: () = assert!(size_of::<Bucket>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_are_numbered_by_position() {
        for (position, (tally, _, _)) in Tally::FAILURES.iter().enumerate() {
            assert_eq!(*tally as usize, position + 5);
        }
        assert_eq!(Tally::COUNT as usize, Tally::FAILURES.len() + 5);
    }

    #[test]
    fn what_is_not_shown_is_no_lost_count() {
        let failures: Vec<Tally> = Tally::FAILURES.iter().map(|(tally, _, _)| *tally).collect();
        assert!(Tally::NOT_SHOWN.iter().all(|tally| !failures.contains(tally)));
        assert!(Tally::FAILURES.iter().all(|(_, map, _)| *map != "events"));
    }

    #[test]
    fn faults_are_numbered_by_position_and_by_action() {
        for (position, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, position);
        }
        for action in 0..5 {
            assert_eq!(Fault::exception(action) as u32, action);
        }
        assert_eq!([Fault::exception(5), Fault::exception(u32::MAX)], [Fault::ExceptionUnknown; 2]);
    }
}
