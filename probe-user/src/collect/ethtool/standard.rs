//! What ethtool's netlink family tells of a device in the same words for every driver: standard counters (eth-mac,
//! eth-phy, rmon; Linux 5.13), forward error correction (5.13) and pause frames (5.9), sizes of its rings, offloads.

use std::collections::BTreeMap;

use anyhow::Result;
use netlink_packet_core::DefaultNla;
use nix::libc;

use super::super::causes::{Cause, Key, Way};
use crate::{
    genetlink::{Attributes, ask, attributes, counter, nest, number, text},
    netlink::errno,
    snapshot::Rings,
};

// uapi/linux/ethtool_netlink.h.
const FEATURES_GET: u8 = 11;
const RINGS_GET: u8 = 15;
const PAUSE_GET: u8 = 21;
const FEC_GET: u8 = 29;
const STATS_GET: u8 = 32;
const DEV_INDEX: u16 = 1;
const HEADER_FLAGS: u16 = 3;
/// With counters (`ETHTOOL_FLAG_STATS`).
const WITH_STATISTICS: u32 = 1 << 2;
/// The header's attribute of every message but `STATS_GET`.
const HEADER: u16 = 1;
const STATS_HEADER: u16 = 2;
const STATS_GROUPS: u16 = 3;
const STATS_GROUP: u16 = 4;
const GROUP_ID: u16 = 2;
const GROUP_STATISTIC: u16 = 4;
const BITSET_NOMASK: u16 = 1;
const BITSET_SIZE: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITSET_VALUE: u16 = 4;
const BIT_NAME: u16 = 2;
const FEATURES_ACTIVE: u16 = 4;
const RINGS_RX: u16 = 6;
const RINGS_TX: u16 = 9;
const RINGS_RX_MAX: u16 = 2;
const RINGS_TX_MAX: u16 = 5;
const STATISTICS: u16 = 5;

/// Groups, by their bits.
const ETH_PHY: u32 = 0;
const ETH_MAC: u32 = 1;
const RMON: u32 = 3;

/// What a counter of a group stands for.
enum Meaning {
    Lost(Key),
    Evidence(&'static str),
}

/// Group, number in it (IEEE 802.3 30.3, RFC 2819), meaning. Frames that RMON counts as too short, too long or broken
/// are among those of eth-mac, so they are evidence.
const COUNTERS: [(u32, u16, Meaning); 17] = [
    (ETH_MAC, 4, Meaning::Lost((Way::Ingress, Cause::Crc))),
    (ETH_MAC, 5, Meaning::Lost((Way::Ingress, Cause::Frame))),
    (ETH_MAC, 8, Meaning::Lost((Way::Egress, Cause::Window))),
    (ETH_MAC, 9, Meaning::Lost((Way::Egress, Cause::Aborted))),
    (ETH_MAC, 10, Meaning::Lost((Way::Egress, Cause::InternalMac))),
    (ETH_MAC, 11, Meaning::Lost((Way::Egress, Cause::Carrier))),
    (ETH_MAC, 13, Meaning::Lost((Way::Ingress, Cause::InternalMac))),
    (ETH_MAC, 19, Meaning::Lost((Way::Ingress, Cause::Length))),
    (ETH_MAC, 20, Meaning::Lost((Way::Ingress, Cause::Length))),
    (ETH_MAC, 21, Meaning::Lost((Way::Ingress, Cause::Length))),
    (ETH_PHY, 0, Meaning::Evidence("phy_symbol_errors")),
    (RMON, 0, Meaning::Evidence("rmon_undersize")),
    (RMON, 1, Meaning::Evidence("rmon_oversize")),
    (RMON, 2, Meaning::Evidence("rmon_fragments")),
    (RMON, 3, Meaning::Evidence("rmon_jabbers")),
    // Not of STATS_GET; listed for the names.
    (u32::MAX, 2, Meaning::Evidence("pause_sent")),
    (u32::MAX, 3, Meaning::Evidence("pause_received")),
];
/// Blocks of forward error correction, by attribute.
const FEC: [(u16, &str); 2] = [(2, "fec_corrected_blocks"), (3, "fec_uncorrectable_blocks")];

/// Offloads that change what a hook or a receiver sees.
const OFFLOADS: [&str; 12] = [
    "rx-gro",
    "rx-gro-hw",
    "rx-gro-list",
    "rx-lro",
    "rx-udp-gro-forwarding",
    "rx-checksum",
    "tx-tcp-segmentation",
    "tx-generic-segmentation",
    "tx-udp-segmentation",
    "hw-tc-offload",
    "l2-fwd-offload",
    "rx-all",
];

/// What the device has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets lost.
    pub lost: BTreeMap<Key, u64>,
    /// Anything else, by name.
    pub evidence: BTreeMap<&'static str, u64>,
}

/// The counters of a device; empty where neither kernel nor driver has any.
///
/// # Errors
/// The device is gone, or the kernel refuses.
pub fn counters(family: u16, ifindex: u32) -> Result<Counters> {
    let mut counters = Counters::default();
    let header = nest(STATS_HEADER, &[index(ifindex)]);
    let groups = (1 << ETH_PHY) | (1 << ETH_MAC) | (1 << RMON);
    let word = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
    let bits = [DefaultNla::new(BITSET_NOMASK, Vec::new()), word(BITSET_SIZE, 4), word(BITSET_VALUE, groups)];
    counters.add_groups(&optional(ask(family, STATS_GET, &[header, nest(STATS_GROUPS, &bits)]))?)?;
    let header = nest(HEADER, &[index(ifindex), word(HEADER_FLAGS, WITH_STATISTICS)]);
    let nested = |command| -> Result<Attributes> {
        let answer = optional(ask(family, command, std::slice::from_ref(&header)))?;
        answer.iter().find(|(kind, _)| *kind == STATISTICS).map_or(Ok(Vec::new()), |(_, nest)| attributes(nest))
    };
    for (kind, value) in nested(PAUSE_GET)? {
        let named = COUNTERS.iter().find(|(group, at, _)| (*group, *at) == (u32::MAX, kind));
        if let Some((.., Meaning::Evidence(name))) = named {
            counters.evidence.extend(counter(&value).map(|value| (*name, value)));
        }
    }
    for (kind, value) in nested(FEC_GET)? {
        // The sum comes first, one for each lane after it.
        let named = FEC.iter().find(|(at, _)| *at == kind).map(|(_, name)| *name);
        counters.evidence.extend(named.zip(counter(&value)));
    }
    Ok(counters)
}

impl Counters {
    fn add_groups(&mut self, answer: &[(u16, Vec<u8>)]) -> Result<()> {
        for (_, group) in answer.iter().filter(|(kind, _)| *kind == STATS_GROUP) {
            let group = attributes(group)?;
            let id = group.iter().find(|(kind, _)| *kind == GROUP_ID).map(|(_, id)| number(id));
            for (_, statistic) in group.iter().filter(|(kind, _)| *kind == GROUP_STATISTIC) {
                for (at, value) in attributes(statistic)? {
                    let meaning = COUNTERS.iter().find(|(group, number, _)| (Some(*group), *number) == (id, at));
                    let Some(value) = counter(&value) else { continue };
                    match meaning {
                        Some((.., Meaning::Lost(key))) => *self.lost.entry(*key).or_default() += value,
                        Some((.., Meaning::Evidence(name))) => *self.evidence.entry(name).or_default() += value,
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// Sizes of the device's rings in descriptors; `None` where the driver has no such notion.
///
/// # Errors
/// As [`counters`].
pub fn rings(family: u16, ifindex: u32) -> Result<Option<Rings>> {
    let answer = optional(ask(family, RINGS_GET, &[nest(HEADER, &[index(ifindex)])]))?;
    let size = |wanted: u16| answer.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| u64::from(number(value)));
    Ok(size(RINGS_RX).or(size(RINGS_TX)).map(|_| Rings {
        rx: size(RINGS_RX),
        rx_max: size(RINGS_RX_MAX),
        tx: size(RINGS_TX),
        tx_max: size(RINGS_TX_MAX),
    }))
}

/// Offloads that are on, of those that change what a hook or a receiver sees, sorted.
///
/// # Errors
/// As [`counters`].
pub fn offloads(family: u16, ifindex: u32) -> Result<Vec<String>> {
    let answer = optional(ask(family, FEATURES_GET, &[nest(HEADER, &[index(ifindex)])]))?;
    let mut on = Vec::new();
    for (_, bitset) in answer.iter().filter(|(kind, _)| *kind == FEATURES_ACTIVE) {
        for (_, bits) in attributes(bitset)?.into_iter().filter(|(kind, _)| *kind == BITSET_BITS) {
            for (_, bit) in attributes(&bits)? {
                let name =
                    attributes(&bit)?.into_iter().find(|(kind, _)| *kind == BIT_NAME).map(|(_, name)| text(&name));
                on.extend(name.filter(|name| OFFLOADS.contains(&name.as_str())));
            }
        }
    }
    on.sort_unstable();
    Ok(on)
}

fn index(ifindex: u32) -> DefaultNla {
    DefaultNla::new(DEV_INDEX, ifindex.to_ne_bytes().to_vec())
}

/// Nothing where kernel or driver have no such notion: an older kernel does not know the command.
fn optional(answer: Result<Attributes>) -> Result<Attributes> {
    match answer {
        Err(error) if matches!(errno(&error), Some(libc::EOPNOTSUPP | libc::EINVAL)) => Ok(Vec::new()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genetlink::{emitted, family};

    #[test]
    fn groups() {
        let word = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
        let statistic = |at, value: u64| nest(GROUP_STATISTIC, &[DefaultNla::new(at, value.to_ne_bytes().to_vec())]);
        let bytes = |group: &[DefaultNla]| emitted(&[nest(STATS_GROUP, group)]);
        // FrameCheckSequenceErrors, two lengths, FramesReceivedOK; symbol errors; fragments.
        let message = [
            bytes(&[word(GROUP_ID, ETH_MAC), statistic(4, 7), statistic(19, 1), statistic(21, 2), statistic(3, 99)]),
            bytes(&[word(GROUP_ID, ETH_PHY), statistic(0, 5)]),
            bytes(&[word(GROUP_ID, RMON), statistic(2, 6)]),
        ];
        let mut counters = Counters::default();
        counters.add_groups(&attributes(&message.concat()).unwrap()).unwrap();
        assert_eq!(
            counters.lost,
            BTreeMap::from([((Way::Ingress, Cause::Crc), 7), ((Way::Ingress, Cause::Length), 3)])
        );
        assert_eq!(counters.evidence, BTreeMap::from([("phy_symbol_errors", 5), ("rmon_fragments", 6)]));
    }

    /// The loopback has features and nothing else.
    #[test]
    fn the_running_kernel() {
        let family = family("ethtool").unwrap();
        assert_eq!(counters(family, 1).unwrap(), Counters::default());
        assert_eq!(rings(family, 1).unwrap(), None);
        assert!(!offloads(family, 1).unwrap().is_empty());
        assert!(counters(family, 0x7fff_fff0).is_err());
    }
}
