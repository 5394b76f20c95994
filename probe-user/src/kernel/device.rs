//! What attaching native XDP to a device can change or depends on: its XDP programs and MTU (rtnetlink), its features and
//! channels (ethtool's netlink family, Linux 5.6 and later).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use netlink_packet_core::{DefaultNla, NLM_F_ACK};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkHeader, LinkMessage},
};
use nix::libc;

use crate::{
    genetlink::{self, Attributes, attributes, family, nest, number, text},
    netlink::{errno, request},
};

// uapi/linux/rtnetlink.h, if_link.h.
const RTM_NEWLINK: u16 = 16;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
/// `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;

/// Which XDP programs a device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct XdpState {
    /// Any, or one of them.
    pub(super) program: Option<u32>,
    /// The native one.
    pub(super) native: Option<u32>,
    pub(super) mtu_bytes: u32,
    /// A tap that takes packets of many segments from a guest (`IFF_VNET_HDR`).
    pub(super) takes_segments: bool,
}

impl XdpState {
    pub(super) fn of(ifindex: u32) -> Result<Self> {
        let mut message = LinkMessage::default();
        message.header = LinkHeader { index: ifindex, ..LinkHeader::default() };
        let mut state = Self::default();
        request(RouteNetlinkMessage::GetLink(message), NLM_F_ACK, |kind, payload| {
            if kind == RTM_NEWLINK {
                state = Self::parse(payload)?;
            }
            Ok(())
        })
        .with_context(|| format!("ask for the XDP programs of interface {ifindex}"))?;
        Ok(state)
    }

    fn parse(payload: &[u8]) -> Result<Self> {
        let mut state = Self::default();
        for (kind, value) in attributes(payload.get(LINK_HEADER_BYTES..).context("a link message's header")?)? {
            match kind {
                IFLA_MTU => state.mtu_bytes = number(&value),
                IFLA_LINKINFO => {
                    let info = attributes(&value)?;
                    let is_tun =
                        info.iter().any(|(kind, value)| *kind == IFLA_INFO_KIND && value.starts_with(b"tun\0"));
                    for (_, data) in info.iter().filter(|(kind, _)| is_tun && *kind == IFLA_INFO_DATA) {
                        let headers = |(kind, value): &(u16, Vec<u8>)| *kind == IFLA_TUN_VNET_HDR && value[..] == [1];
                        state.takes_segments = attributes(data)?.iter().any(headers);
                    }
                }
                IFLA_XDP => {
                    for (kind, value) in attributes(&value)? {
                        match kind {
                            IFLA_XDP_PROG_ID => state.program = state.program.or(Some(number(&value))),
                            IFLA_XDP_DRV_PROG_ID => state.native = Some(number(&value)),
                            // Of another mode, alone in the message where there are several.
                            kind if kind > IFLA_XDP_DRV_PROG_ID => state.program = Some(number(&value)),
                            _other => {}
                        }
                    }
                    state.program = state.program.or(state.native);
                }
                _other => {}
            }
        }
        Ok(state)
    }
}

// uapi/linux/ethtool_netlink.h.
const FEATURES_GET: u8 = 11;
const FEATURES_ACTIVE: u16 = 4;
const CHANNELS_GET: u8 = 17;
/// The first of the attributes that hold present numbers of channels; before them are the greatest possible.
const CHANNELS_RX_COUNT: u16 = 6;
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
const BITSET_BITS: u16 = 3;
const BIT_NAME: u16 = 2;

/// A device's settings that an XDP program can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Names of the features that are on.
    features: BTreeSet<String>,
    /// Numbers of channels by attribute; none where the driver has no such notion.
    channels: BTreeMap<u16, u32>,
}

impl Device {
    pub(super) fn of(ifindex: u32) -> Result<Self> {
        let family = family("ethtool").context("ask for the kernel's ethtool family")?;
        let index = DefaultNla::new(HEADER_DEV_INDEX, ifindex.to_ne_bytes().to_vec());
        let ask = |command| optional(genetlink::ask(family, command, &[nest(HEADER, std::slice::from_ref(&index))]));
        let mut device = Self { features: BTreeSet::new(), channels: BTreeMap::new() };
        for (kind, value) in ask(FEATURES_GET).context("ask for the device's features")? {
            if kind == FEATURES_ACTIVE {
                device.features = names(&value)?;
            }
        }
        let channels = ask(CHANNELS_GET).context("ask for the device's channels")?.into_iter();
        let present = channels.filter(|(kind, _)| *kind >= CHANNELS_RX_COUNT);
        device.channels = present.map(|(kind, value)| (kind, number(&value))).collect();
        Ok(device)
    }

    /// The offload, if one is on, that hands merged frames to the host: drivers refuse XDP beside it, or switch it off.
    pub(super) fn merging_offload(&self) -> Option<&'static str> {
        ["rx-lro", "rx-gro-hw"].into_iter().find(|offload| self.features.contains(*offload))
    }

    /// What is different in `now`, for a human.
    pub(super) fn change_to(&self, now: &Self) -> Option<String> {
        let differing: Vec<_> = self.features.symmetric_difference(&now.features).map(String::as_str).collect();
        if !differing.is_empty() {
            return Some(format!("features changed within 5 s of attaching: {}", differing.join(", ")));
        }
        (self.channels != now.channels).then(|| "the number of queues changed within 5 s of attaching".to_owned())
    }
}

/// The names of a bitset's bits that are set.
fn names(bitset: &[u8]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (_, bits) in attributes(bitset)?.into_iter().filter(|(kind, _)| *kind == BITSET_BITS) {
        for (_, bit) in attributes(&bits)? {
            let name = attributes(&bit)?.into_iter().find(|(kind, _)| *kind == BIT_NAME);
            names.extend(name.map(|(_, name)| text(&name)));
        }
    }
    Ok(names)
}

/// Nothing where the driver has no such notion.
fn optional(answer: Result<Attributes>) -> Result<Attributes> {
    match answer {
        Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;

    fn link(attributes: &[DefaultNla]) -> Vec<u8> {
        let mut bytes = vec![0; LINK_HEADER_BYTES + attributes.buffer_len()];
        attributes.emit(&mut bytes[LINK_HEADER_BYTES..]);
        bytes
    }

    #[test]
    fn programs_of_a_device() {
        let word = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
        let state = |xdp: &[DefaultNla]| XdpState::parse(&link(&[word(IFLA_MTU, 1500), nest(IFLA_XDP, xdp)])).unwrap();
        let is = |program, native| XdpState { program, native, mtu_bytes: 1500, takes_segments: false };
        assert_eq!(state(&[DefaultNla::new(2, vec![0])]), is(None, None));
        assert_eq!(state(&[DefaultNla::new(2, vec![1]), word(4, 7), word(5, 7)]), is(Some(7), Some(7)), "native");
        assert_eq!(state(&[DefaultNla::new(2, vec![2]), word(4, 7), word(6, 7)]), is(Some(7), None), "generic");
        assert_eq!(state(&[DefaultNla::new(2, vec![4]), word(5, 7), word(6, 8)]), is(Some(8), Some(7)), "both");
        assert!(XdpState::parse(&[0; 15]).is_err());
    }

    #[test]
    fn what_has_changed() {
        let device = |features: &[&str], channels: &[(u16, u32)]| Device {
            features: features.iter().map(|name| (*name).to_owned()).collect(),
            channels: channels.iter().copied().collect(),
        };
        let before = device(&["rx-gro", "tx-lro"], &[(9, 4)]);
        assert_eq!(before.change_to(&before.clone()), None);
        assert_eq!((before.merging_offload(), device(&["rx-lro"], &[]).merging_offload()), (None, Some("rx-lro")));
        let change = before.change_to(&device(&["rx-gro"], &[(9, 4)])).unwrap();
        assert!(change.contains("tx-lro") && !change.contains("rx-gro"), "{change}");
        assert!(before.change_to(&device(&["rx-gro", "tx-lro"], &[(9, 2)])).unwrap().contains("queues"));
    }

    /// The loopback of whatever machine this is.
    #[test]
    fn the_loopback() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(XdpState::of(index).unwrap().mtu_bytes > 0);
        let device = Device::of(index).unwrap();
        assert!(device.features.contains("loopback"), "{device:?}");
        assert!(XdpState::of(0x7fff_fff0).is_err());
    }
}
