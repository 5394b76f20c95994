//! Why a device lost a packet, and which source says so: a table by driver, so that nothing is counted twice.
//!
//! For each cause of a device the first of these that has it wins: `stats64` where the driver is known to fill the
//! field in, the standard groups of ethtool (`eth-mac`), a string of the driver, and `stats64` where it shows something
//! though nothing is known of the driver. What none has is not observable. The sums that mix causes (`rx_errors`,
//! `rx_dropped`, `tx_errors`, `tx_dropped`) are never read.

use probe_ebpf::abi::Direction;

use self::Cause::{
    Aborted, Carrier, Crc, Fifo, Frame, Heartbeat, InternalMac, Length, Missed, NoBuffer, Nohandler, Otherhost, Over,
    ProviderLimit, Window, XdpDrop,
};

/// Why a packet was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No room in the host's buffers.
    Missed,
    /// An overflow of the device's queue.
    Fifo,
    /// No buffer or descriptor was to be had, by the driver's own counter.
    NoBuffer,
    /// An XDP program dropped it (`XDP_DROP`, `XDP_ABORTED`).
    XdpDrop,
    /// The provider's virtual card did not take it: an allowance of the machine is used up.
    ProviderLimit,
    /// Nobody takes packets from this device (the inactive slave of a bond).
    Nohandler,
    /// For another station's address.
    Otherhost,
    /// The frame check sequence is wrong.
    Crc,
    /// Not a whole number of bytes.
    Frame,
    /// Too short, too long, or not as long as it says.
    Length,
    /// It did not fit into one buffer.
    Over,
    /// Too many collisions, or given up by the device.
    Aborted,
    /// No carrier.
    Carrier,
    /// The transceiver's self test (10 Mb/s Ethernet).
    Heartbeat,
    /// A late collision.
    Window,
    /// Lost inside of the MAC.
    InternalMac,
}

impl Cause {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Missed,
        Fifo,
        NoBuffer,
        XdpDrop,
        ProviderLimit,
        Nohandler,
        Otherhost,
        Crc,
        Frame,
        Length,
        Over,
        Aborted,
        Carrier,
        Heartbeat,
        Window,
        InternalMac,
    ];

    /// As in the label.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Missed => "missed",
            Fifo => "fifo",
            NoBuffer => "no_buffer",
            XdpDrop => "xdp_drop",
            ProviderLimit => "provider_limit",
            Nohandler => "nohandler",
            Otherhost => "otherhost",
            Crc => "crc",
            Frame => "frame",
            Length => "length",
            Over => "over",
            Aborted => "aborted",
            Carrier => "carrier",
            Heartbeat => "heartbeat",
            Window => "window",
            InternalMac => "internal_mac",
        }
    }

    /// Whether a good packet was dropped; else something was wrong with it or with the link.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(self, Missed | Fifo | NoBuffer | XdpDrop | ProviderLimit | Nohandler | Otherhost)
    }

    /// `capacity`, `malformed`, `policy` or `noise`, as for the kernel's drops.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Missed | Fifo | NoBuffer | ProviderLimit => "capacity",
            XdpDrop => "policy",
            Nohandler | Otherhost => "noise",
            Crc | Frame | Length | Over | Aborted | Carrier | Heartbeat | Window | InternalMac => "malformed",
        }
    }
}

/// Which way a packet went; allowances of some providers are for both ways together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// In.
    Ingress,
    /// Out.
    Egress,
    /// Not told apart.
    Both,
}

impl Way {
    /// As in the label `direction`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Ingress => Direction::Ingress.id(),
            Self::Egress => Direction::Egress.id(),
            Self::Both => "both",
        }
    }
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `struct rtnl_link_stats64`, from a driver that is known to fill it in.
    Stats64,
    /// The standard groups of ethtool.
    Standard,
    /// A string of the driver's (`ethtool -S`).
    Driver,
    /// `struct rtnl_link_stats64`, from a driver of which nothing is known: only what is not zero.
    Unknown,
}

impl Source {
    /// As in JSON.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Stats64 | Self::Unknown => "stats64",
            Self::Standard => "ethtool_standard",
            Self::Driver => "ethtool_driver",
        }
    }
}

/// A cause and its way.
pub type Key = (Way, Cause);

/// Position of each cause in `struct rtnl_link_stats64` (uapi/linux/if_link.h). `rx_nohandler` is there since Linux 4.6,
/// `rx_otherhost_dropped` since 5.19.
pub const FIELDS: [(usize, Key); 13] = [
    (10, (Way::Ingress, Length)),
    (11, (Way::Ingress, Over)),
    (12, (Way::Ingress, Crc)),
    (13, (Way::Ingress, Frame)),
    (14, (Way::Ingress, Fifo)),
    (15, (Way::Ingress, Missed)),
    (16, (Way::Egress, Aborted)),
    (17, (Way::Egress, Carrier)),
    (18, (Way::Egress, Fifo)),
    (19, (Way::Egress, Heartbeat)),
    (20, (Way::Egress, Window)),
    (23, (Way::Ingress, Nohandler)),
    (24, (Way::Ingress, Otherhost)),
];

const RX: Way = Way::Ingress;
const TX: Way = Way::Egress;

/// What drivers fill in of `struct rtnl_link_stats64`, as their sources have it; none but `virtio_net`, `veth` and `tun`
/// could be tried. The kernel itself fills in [`Nohandler`] and [`Otherhost`] of every device. A bond or a team repeats
/// its slaves, and so counts for nothing.
const FILLED: &[(&str, &[Key])] = &[
    ("e1000", &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Missed), (TX, Aborted), (TX, Carrier), (TX, Window)]),
    ("e1000e", &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Missed), (TX, Aborted), (TX, Carrier), (TX, Window)]),
    (
        "igb",
        &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Fifo), (RX, Missed), (TX, Aborted), (TX, Carrier), (TX, Window)],
    ),
    ("igc", &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Missed), (TX, Aborted), (TX, Carrier), (TX, Window)]),
    ("ixgbe", &[(RX, Length), (RX, Crc), (RX, Missed)]),
    ("i40e", &[(RX, Length), (RX, Crc)]),
    ("ice", &[(RX, Crc), (RX, Missed)]),
    ("bnxt_en", &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Missed)]),
    ("mlx5_core", &[(RX, Length), (RX, Crc), (RX, Frame), (RX, Missed), (TX, Aborted)]),
    ("virtio_net", &[(RX, Length), (RX, Frame), (TX, Fifo)]),
    ("tun", &[(RX, Frame)]),
    ("gre", &[(RX, Crc), (RX, Fifo), (RX, Length)]),
    ("gretap", &[(RX, Crc), (RX, Fifo), (RX, Length)]),
];

/// Devices that repeat what their slaves have counted.
const REPEATERS: [&str; 2] = ["bond", "team"];

/// Whether the driver, or the kernel for it, fills the field in.
#[must_use]
pub fn is_filled(driver: &str, key: Key) -> bool {
    match key {
        (_, Nohandler | Otherhost) => true,
        _ => FILLED.iter().any(|(name, filled)| *name == driver && filled.contains(&key)),
    }
}

/// Whether a device of this kind only repeats others.
#[must_use]
pub fn is_repeater(kind: &str) -> bool {
    REPEATERS.contains(&kind)
}

/// What a string of a driver stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Packets lost.
    Lost(Key),
    /// Packets that another string has counted as lost, too.
    NotLost(Key),
    /// Evidence, by name.
    Evidence(&'static str),
}

/// Strings of `ethtool -S`, `*` being digits (queues are added up), with what their drivers' sources say they count.
/// Left out on purpose: `rx_no_buffer_count` of Intel's (RNBC), which counts moments without a descriptor whose packets
/// may still be taken.
const STRINGS: &[(&str, &str, Meaning)] = &[
    ("veth", "rx_queue_*_drops", Meaning::Lost((RX, NoBuffer))),
    ("veth", "rx_queue_*_xdp_drops", Meaning::Lost((RX, XdpDrop))),
    // Names of queues until and since Linux 6.10. What XDP drops goes through the error path, and is in `drops`, too.
    ("virtio_net", "rx_queue_*_drops", Meaning::Lost((RX, NoBuffer))),
    ("virtio_net", "rx*_drops", Meaning::Lost((RX, NoBuffer))),
    ("virtio_net", "rx_queue_*_xdp_drops", Meaning::Lost((RX, XdpDrop))),
    ("virtio_net", "rx*_xdp_drops", Meaning::Lost((RX, XdpDrop))),
    ("virtio_net", "rx_queue_*_xdp_drops", Meaning::NotLost((RX, NoBuffer))),
    ("virtio_net", "rx*_xdp_drops", Meaning::NotLost((RX, NoBuffer))),
    // "Queued or dropped" because an allowance was exceeded: what the instance type may at most.
    ("ena", "bw_in_allowance_exceeded", Meaning::Lost((RX, ProviderLimit))),
    ("ena", "bw_out_allowance_exceeded", Meaning::Lost((TX, ProviderLimit))),
    ("ena", "pps_allowance_exceeded", Meaning::Lost((Way::Both, ProviderLimit))),
    ("ena", "conntrack_allowance_exceeded", Meaning::Lost((Way::Both, ProviderLimit))),
    ("ena", "linklocal_allowance_exceeded", Meaning::Lost((TX, ProviderLimit))),
    ("ena", "queue_*_rx_xdp_drop", Meaning::Lost((RX, XdpDrop))),
    // Dropped by the provider's side of the queue, reported every 20 s.
    ("gve", "rx_queue_drop_cnt[*]", Meaning::Lost((RX, ProviderLimit))),
    ("gve", "rx_drops_packet_over_mru[*]", Meaning::Lost((RX, Length))),
    ("gve", "rx_xdp_drop[*]", Meaning::Lost((RX, XdpDrop))),
    // The host's ring takes no more.
    ("hv_netvsc", "tx_no_space", Meaning::Lost((TX, ProviderLimit))),
    ("hv_netvsc", "tx_no_memory", Meaning::Lost((TX, NoBuffer))),
    ("hv_netvsc", "tx_too_big", Meaning::Lost((TX, Length))),
    ("hv_netvsc", "rx_no_memory", Meaning::Lost((RX, NoBuffer))),
    ("hv_netvsc", "rx_queue_*_xdp_drop", Meaning::Lost((RX, XdpDrop))),
    ("vmxnet3", "pkts rx OOB", Meaning::Lost((RX, NoBuffer))),
    ("ixgbe", "rx_no_dma_resources", Meaning::Lost((RX, NoBuffer))),
    ("i40e", "port.rx_dropped", Meaning::Lost((RX, Missed))),
    ("mlx5_core", "rx_xdp_drop", Meaning::Lost((RX, XdpDrop))),
    // The port's own buffer, in front of the host's.
    ("mlx5_core", "rx_discards_phy", Meaning::Lost((RX, NoBuffer))),
    ("mlx5_core", "rx_prio*_pause", Meaning::Evidence("pfc_pause_received")),
    ("mlx5_core", "tx_prio*_pause", Meaning::Evidence("pfc_pause_sent")),
];

/// What the strings of a driver stand for; empty if nothing is known of it.
pub fn strings(driver: &str) -> impl Iterator<Item = (&'static str, Meaning)> {
    STRINGS.iter().filter(move |(name, ..)| *name == driver).map(|(_, pattern, meaning)| (*pattern, *meaning))
}

/// Whether a name is the pattern, whose `*` stands for one digit or more.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, behind)) => name
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(behind))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("rx_queue_*_drops", "rx_queue_0_drops", true),
            ("rx_queue_*_drops", "rx_queue_127_drops", true),
            ("rx_queue_*_drops", "rx_queue_0_xdp_drops", false),
            ("rx_queue_*_drops", "rx_queue__drops", false),
            ("rx*_drops", "rx0_drops", true),
            ("rx*_drops", "rx_drops", false),
            ("rx*_drops", "rx0_xdp_drops", false),
            ("rx_queue_drop_cnt[*]", "rx_queue_drop_cnt[3]", true),
            ("tx_no_space", "tx_no_space", true),
            ("tx_no_space", "tx_no_space2", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    /// One source for each cause of a driver: what a driver fills in has no string beside it.
    #[test]
    fn no_cause_has_two_sources() {
        for (driver, filled) in FILLED {
            for (pattern, meaning) in strings(driver) {
                if let Meaning::Lost(key) = meaning {
                    assert!(!filled.contains(&key), "{driver}: {pattern}");
                }
            }
            assert_eq!(filled.iter().collect::<BTreeSet<_>>().len(), filled.len(), "{driver}");
            assert!(filled.iter().all(|key| FIELDS.iter().any(|(_, field)| field == key)), "{driver}");
        }
    }

    #[test]
    fn causes_are_one_list() {
        let ids: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
        assert_eq!(ids.len(), Cause::ALL.len());
        assert!(
            is_filled("anything", (RX, Otherhost)) && is_filled("igb", (RX, Fifo)) && !is_filled("ena", (RX, Missed))
        );
        assert!(is_repeater("bond") && !is_repeater("bridge"));
    }
}
