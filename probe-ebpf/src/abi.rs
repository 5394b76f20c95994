//! Everything that crosses the line between kernel and user space: names, map keys and values, read-only globals.
//!
//! Plain data only: fixed-width integers and byte arrays, no padding that is not named, sizes asserted below each type.

use crate::{classify::Cursor, reason::Malformed};

/// Names of maps. The kernel side's statics bear the same names; a test compares both sets.
pub mod map {
    /// `Array<Slot>`: interface index to slot, direct-mapped.
    pub const SLOTS: &str = "SLOTS";
    /// `PerCpuArray<Traffic>`: hot counters, see [`super::traffic_index`].
    pub const TRAFFIC: &str = "TRAFFIC";
    /// `PerCpuHashMap<MalformedKey, u64>`: frames that contradict themselves.
    pub const MALFORMED: &str = "MALFORMED";
    /// `PerCpuHashMap<DropKey, u64>`: segments that the kernel dropped.
    pub const DROPS: &str = "DROPS";
    /// `PerCpuHashMap<RetransmitKey, u64>`: segments that local sockets sent again.
    pub const RETRANSMITS: &str = "RETRANSMITS";
    /// `PerCpuArray<u64>`: what the probe could not do, by [`super::Tally`].
    pub const TALLIES: &str = "TALLIES";
    /// `PerCpuArray<Storm>`: how fast drops come.
    pub const STORM: &str = "STORM";
    /// `PerCpuArray<Waiting>`: drops of a storm that have no interface yet, by reason.
    pub const WAITING: &str = "WAITING";
    /// `PerCpuArray<Scratch>`: the frame being classified.
    pub const SCRATCH: &str = "SCRATCH";
    /// aya-log's ring buffer; the name is the library's.
    pub const AYA_LOGS: &str = "AYA_LOGS";
    /// All of them.
    pub const ALL: [&str; 10] =
        [SLOTS, TRAFFIC, MALFORMED, DROPS, RETRANSMITS, TALLIES, STORM, WAITING, SCRATCH, AYA_LOGS];
    /// The map that holds the one writable global, `HEARTBEAT`: jiffies at the agent's last sign of life, 0 if the
    /// programs are to do nothing. The name is the compiler's.
    pub const HEARTBEAT: &str = ".bss";
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
    /// `tcp:tcp_retransmit_skb` of kernels that fire it only for success.
    pub const RETRANSMITS: &str = "lossprobe_retx2";
    /// `tcp:tcp_retransmit_skb` with the error of the attempt.
    pub const RETRANSMITS_WITH_ERROR: &str = "lossprobe_retx3";
    /// `tcp:tcp_retransmit_synack`.
    pub const SYNACKS: &str = "lossprobe_synac";
    /// Notes that the agent lives; run by the agent itself.
    pub const BEAT: &str = "lossprobe_beat";
    /// For measurements: looks at nothing.
    pub const EMPTY: &str = "lossprobe_none";
    /// For measurements: counts frames and bytes per interface and nothing else.
    pub const REFERENCE: &str = "lossprobe_ref";
    /// All of them.
    pub const ALL: [&str; 11] = [
        INGRESS,
        EGRESS,
        XDP,
        DROPS_WITHOUT_REASON,
        DROPS,
        RETRANSMITS,
        RETRANSMITS_WITH_ERROR,
        SYNACKS,
        BEAT,
        EMPTY,
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
    #[doc(hidden)]
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Slot>() == 16);

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
}
const _: () = assert!(size_of::<Traffic>() == 32);

/// Index into [`map::TRAFFIC`].
#[must_use]
#[inline(always)]
pub const fn traffic_index(slot: u32, direction: Direction) -> u32 {
    slot * 2 + direction as u32
}

/// Key of [`map::MALFORMED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct MalformedKey {
    /// The interface's slot.
    pub slot: u16,
    /// A [`Direction`].
    pub direction: u8,
    /// A [`Malformed`].
    pub reason: u8,
}
const _: () = assert!(size_of::<MalformedKey>() == 4);
const _: () = assert!(Malformed::ALL.len() < 255);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DropKey {
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
const _: () = assert!(size_of::<DropKey>() == 16);

/// What was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Retransmit {
    /// A segment of an established connection; which timer or event caused it is not known.
    Unknown = 0,
    /// A SYN.
    Syn = 1,
    /// A SYN-ACK.
    SynAck = 2,
}

impl Retransmit {
    /// All, in the order of the numbers.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Syn, Self::SynAck];

    /// The metric label `type`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Syn => "syn",
            Self::SynAck => "synack",
        }
    }
}

/// Key of [`map::RETRANSMITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct RetransmitKey {
    /// Interface index of the socket's route, 0 if it has none.
    pub ifindex: u32,
    /// A [`Retransmit`].
    pub kind: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<RetransmitKey>() == 8);

macro_rules! tallies {
    ($($variant:ident $map:literal $cause:literal;)+) => {
        /// What the probe could not do, or did apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Tally {
            /// Drop events that are members of a packet already counted.
            DropMembers = 0,
            /// Segments in [`map::DROPS`] whose interface is that of a sample, see [`Storm`].
            StormSegments,
            $(#[doc = concat!("Counts lost: ", $map, " ", $cause, ".")] $variant,)+
        }

        impl Tally {
            /// How many there are: entries of [`map::TALLIES`].
            pub const COUNT: u32 = Self::FAILURES.len() as u32 + 2;
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
    RetransmitsFull "retransmits" "full";
    RetransmitsBusy "retransmits" "busy";
    ScratchUnreadable "scratch" "unreadable";
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
    pub skb_shared_info_gso_segs: u32,
    pub net_device_ifindex: u32,
    pub net_device_nd_net: u32,
    pub net_ns_inum: u32,
    pub dst_entry_dev: u32,
    pub sock_skc_net: u32,
    pub sock_skc_state: u32,
    pub sock_sk_dst_cache: u32,
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
        skb_shared_info_gso_segs: ABSENT,
        net_device_ifindex: ABSENT,
        net_device_nd_net: ABSENT,
        net_ns_inum: ABSENT,
        dst_entry_dev: ABSENT,
        sock_skc_net: ABSENT,
        sock_skc_state: ABSENT,
        sock_sk_dst_cache: ABSENT,
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
}

impl Settings {
    /// Before the agent has spoken.
    pub const UNSET: Self = Self { release_data_start: 0, release_data_end: 0, netns: 0, hertz: 0 };
}

/// Seconds without a sign of life from the agent after which the programs do nothing any more: below Linux 6.6 filters
/// outlive a killed agent.
pub const INERT_AFTER_SECONDS: u64 = 10;

/// Drop events in a tenth of a second on one CPU above which a storm is on: 100,000 in a second.
pub const STORM_EVENTS: u64 = 10_000;
/// In a storm one event in this many, at random distances, shows the interface of those before it.
pub const STORM_SAMPLE: u64 = 64;
/// Reasons that a storm counts apart; drops with a greater number (of subsystems) are attributed one by one.
pub const STORM_REASONS: u32 = 256;

/// How fast drops come on one CPU. While a storm is on, drops are counted by reason, and every so often all that wait
/// are attributed to the interface, namespace and family of the drop at hand: sums by reason stay exact, the rest is a
/// sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Storm {
    /// Jiffies at which the current tenth of a second began.
    pub since: u64,
    /// Drop events in it.
    pub events: u64,
    /// Segments in [`map::WAITING`].
    pub waiting: u64,
    /// State of the generator of distances.
    pub random: u64,
    /// 1 while a storm is on.
    pub on: u32,
    /// 1 while this entry is being used: a program that interrupts itself must not use it.
    pub busy: u32,
}
const _: () = assert!(size_of::<Storm>() == 40);

/// Drops of one reason on one CPU that wait to be attributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Waiting {
    /// Segments.
    pub segments: u64,
    /// Events until the next sample.
    pub until_sample: u64,
}
const _: () = assert!(size_of::<Waiting>() == 16);

impl Storm {
    /// Notes an event at `now` (jiffies). `true` if a storm is on.
    #[inline(always)]
    pub fn note(&mut self, now: u64, hertz: u64) -> bool {
        let tenth = hertz / 10;
        let elapsed = now.wrapping_sub(self.since);
        if elapsed >= tenth {
            // Not if nothing happened for a while after the last busy tenth.
            self.on = u32::from(self.events > STORM_EVENTS && elapsed < 2 * tenth);
            self.since = now;
            self.events = 0;
        }
        self.events += 1;
        if self.events > STORM_EVENTS {
            self.on = 1;
        }
        self.on != 0
    }

    /// Events until the next sample, [`STORM_SAMPLE`] on average: equal distances would miss an interface that drops in
    /// the same rhythm.
    #[inline(always)]
    pub fn distance(&mut self) -> u64 {
        const { assert!(STORM_SAMPLE == 64) };
        // Knuth's MMIX constants; the high bits are the good ones.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        33 + (self.random >> 58)
    }
}

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
}
const _: () = assert!(size_of::<Cursor>() == 56);
const _: () = assert!(size_of::<Scratch>() == 384);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_begins_within_a_tenth_and_ends_when_it_slows_down() {
        const HERTZ: u64 = 250;
        let mut storm = Storm::default();
        let burst = |storm: &mut Storm, at: u64, events: u64| (0..events).map(|_| storm.note(at, HERTZ)).last();
        assert_eq!(burst(&mut storm, 1_000, STORM_EVENTS), Some(false));
        assert_eq!(burst(&mut storm, 1_024, 1), Some(true), "the same tenth of a second");
        assert_eq!(burst(&mut storm, 1_025, 1), Some(true), "the tenth before was busy");
        assert_eq!(burst(&mut storm, 1_050, 1), Some(false), "the tenth before was quiet");
        assert_eq!(burst(&mut storm, 1_060, STORM_EVENTS + 1), Some(true));
        assert_eq!(burst(&mut storm, 9_000, 1), Some(false), "after a long pause");
    }

    #[test]
    fn distances_are_64_on_average() {
        let mut storm = Storm::default();
        let distances: Vec<_> = (0..10_000).map(|_| storm.distance()).collect();
        assert!(distances.iter().all(|distance| (33..97).contains(distance)));
        let mean = distances.iter().sum::<u64>() as f64 / distances.len() as f64;
        assert!((mean - STORM_SAMPLE as f64).abs() < 1.0, "{mean}");
    }

    #[test]
    fn tallies_are_numbered_by_position() {
        for (position, (tally, _, _)) in Tally::FAILURES.iter().enumerate() {
            assert_eq!(*tally as usize, position + 2);
        }
    }
}
