//! What one rtnetlink message says of a device, and what sysfs adds.
//!
//! Attributes are picked out of the messages one by one instead of being decoded into `LinkMessage`: there an attribute
//! that a newer kernel has grown costs the whole message, and the interface would be missing without a word.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NlasIterator, parse_u32};
use netlink_packet_route::{
    AddressFamily,
    link::{LinkFlags, LinkHeader},
};
use nix::libc;

use super::{Link, PAIRS, arphrd};
use crate::tunnel::{TunnelKind, TunnelPort};

/// What one message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Device(Box<Device>),
    Gone(u32),
}

/// A device as far as its message tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) link: Link,
    has_info_kind: bool,
    address: Vec<u8>,
}

/// `None`: not about a device. Messages of other families than `AF_UNSPEC` are not: a bridge announces with `AF_BRIDGE`
/// that a device is its port (without saying what kind of device), and by `RTM_DELLINK` that it no longer is.
pub(super) fn event(message_type: u16, payload: &[u8]) -> Result<Option<Seen>> {
    if !matches!(message_type, libc::RTM_NEWLINK | libc::RTM_DELLINK) {
        return Ok(None);
    }
    let header = LinkHeader::parse(payload).context("a link message's header")?;
    if header.interface_family != AddressFamily::Unspec {
        return Ok(None);
    }
    if message_type == libc::RTM_DELLINK {
        return Ok(Some(Seen::Gone(header.index)));
    }
    let mut device = Device::default();
    device.link.ifindex = header.index;
    device.link.device_type = header.link_layer_type.into();
    device.link.up = header.flags.contains(LinkFlags::Up);
    let (mut lower, mut below, mut lower_is_elsewhere) = (None, None, false);
    for attribute in NlasIterator::new(&payload[LINK_HEADER_BYTES..]) {
        let attribute = attribute.context("a link message's attribute")?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => device.link.name = text(value),
            libc::IFLA_IFALIAS => device.link.alias = text(value),
            libc::IFLA_ADDRESS => device.address = value.to_vec(),
            libc::IFLA_MTU => device.link.mtu_bytes = parse_u32(value).context("IFLA_MTU")?,
            libc::IFLA_MASTER => device.link.master = Some(parse_u32(value).context("IFLA_MASTER")?),
            libc::IFLA_LINK => lower = Some(parse_u32(value).context("IFLA_LINK")?),
            libc::IFLA_LINK_NETNSID => lower_is_elsewhere = true,
            libc::IFLA_PHYS_PORT_NAME => device.link.port_name = text(value),
            libc::IFLA_CARRIER => device.link.carrier = value.first().map(|carrier| *carrier != 0),
            libc::IFLA_CARRIER_CHANGES => device.link.carrier_changes = parse_u32(value).ok(),
            libc::IFLA_PARENT_DEV_NAME => device.link.has_parent_device = true,
            libc::IFLA_PARENT_DEV_BUS_NAME => device.link.parent_bus = text(value),
            // What a wireless driver announces with nothing else of the device (`wireless_nlevent_process` of net/wireless/wext-core.c).
            libc::IFLA_WIRELESS => return Ok(None),
            libc::IFLA_LINKINFO => {
                for info in NlasIterator::new(value) {
                    let info = info.context("IFLA_LINKINFO")?;
                    match info.kind() {
                        libc::IFLA_INFO_KIND => {
                            device.link.kind = text(info.value());
                            device.has_info_kind = true;
                        }
                        // Behind the kind, on which it depends.
                        libc::IFLA_INFO_DATA => below = device.link.take_tunnel(info.value()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if device.link.name.is_empty() {
        bail!("device {} has no name", header.index);
    }
    if !device.has_info_kind {
        device.link.kind = kind_of_type(device.link.device_type).to_owned();
    }
    let is_below = |lower: &u32| !matches!(*lower, 0) && *lower != header.index;
    let pair = PAIRS.contains(&device.link.kind.as_str());
    device.link.lower = lower.or(below).filter(is_below).filter(|_| !lower_is_elsewhere && !pair);
    Ok(Some(Seen::Device(Box::new(device))))
}

/// Attributes of tunnels (include/uapi/linux/if_link.h).
mod info {
    pub(super) const VXLAN_LINK: u16 = 3;
    pub(super) const VXLAN_PORT: u16 = 15;
    pub(super) const GENEVE_PORT: u16 = 5;
}

impl Link {
    /// Takes the port of a tunnel out of what is told of its kind alone. Returns the device that its packets leave by, if
    /// that is given.
    fn take_tunnel(&mut self, data: &[u8]) -> Option<u32> {
        let kind = TunnelKind::of(&self.kind)?;
        let port_attribute = match kind {
            TunnelKind::Vxlan => info::VXLAN_PORT,
            TunnelKind::Geneve => info::GENEVE_PORT,
        };
        let mut below = None;
        for attribute in NlasIterator::new(data).flatten() {
            let value = attribute.value();
            match (kind, attribute.kind()) {
                (TunnelKind::Vxlan, info::VXLAN_LINK) => below = parse_u32(value).ok(),
                (_, number) if number == port_attribute => {
                    let port = value.first_chunk().map(|port| u16::from_be_bytes(*port)).filter(|port| *port != 0);
                    self.tunnel = port.map(|port| TunnelPort { kind, port });
                }
                _ => {}
            }
        }
        below
    }
}

/// `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;

const fn kind_of_type(device_type: u16) -> &'static str {
    match device_type {
        arphrd::LOOPBACK => "loopback",
        arphrd::ETHER => "ethernet",
        _ => "other",
    }
}

/// A C string.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl Device {
    /// Adds what only sysfs tells: the driver, and below Linux 5.14 (`IFLA_PARENT_DEV_NAME`) the parent device and its
    /// bus.
    pub(super) fn complete(mut self) -> Link {
        let directory = Path::new("/sys/class/net").join(&self.link.name);
        let target = |link: &str| {
            let path = fs::read_link(directory.join(link)).ok()?;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        let driver = if self.is_at(&directory) {
            self.link.has_parent_device |= directory.join("device").exists();
            if self.link.parent_bus.is_empty() {
                self.link.parent_bus = target("device/subsystem").unwrap_or_default();
            }
            target("device/driver")
        } else {
            None
        };
        let own =
            || if self.has_info_kind && !self.link.has_parent_device { self.link.kind.clone() } else { String::new() };
        self.link.driver = driver.unwrap_or_else(own);
        self.link
    }

    /// sysfs shows the namespace it was mounted in, where another device can have this name, even with the same index
    /// (`eth0` is number 2 in every other container); hardly with the same address too.
    fn is_at(&self, directory: &Path) -> bool {
        let says = |file: &str, expected: &str| {
            fs::read_to_string(directory.join(file)).is_ok_and(|content| content.trim() == expected)
        };
        let address: Vec<_> = self.address.iter().map(|byte| format!("{byte:02x}")).collect();
        says("ifindex", &self.link.ifindex.to_string()) && says("address", &address.join(":"))
    }
}
