//! The network devices of this namespace and what becomes of them, from rtnetlink (rtnetlink(7)).

mod message;
#[cfg(test)]
mod tests;
mod watch;

use probe_ebpf::classify::{FROM_WIRE, LOOPBACK, LinkKind};

pub use self::watch::{LinkEvent, Watcher, list};
use crate::tunnel::TunnelPort;

/// Device types, include/uapi/linux/if_arp.h.
mod arphrd {
    pub(super) const ETHER: u16 = 1;
    pub(super) const PPP: u16 = 512;
    pub(super) const RAWIP: u16 = 519;
    pub(super) const TUNNEL: u16 = 768;
    pub(super) const TUNNEL6: u16 = 769;
    pub(super) const LOOPBACK: u16 = 772;
    pub(super) const SIT: u16 = 776;
    pub(super) const IPGRE: u16 = 778;
    pub(super) const IP6GRE: u16 = 823;
    pub(super) const NONE: u16 = 65534;
}

/// Buses whose devices take frames from another guest or the host as they were built: nobody pads them to the shortest
/// that a wire carries.
const PARAVIRTUAL_BUSES: [&str; 4] = ["virtio", "xen", "xen-backend", "vmbus"];
/// Kinds whose `IFLA_LINK` is the other end of a pair, which is not below the device.
const PAIRS: [&str; 3] = ["veth", "netkit", "vxcan"];

/// One network device at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index in this namespace.
    pub ifindex: u32,
    /// Name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// `IFLA_INFO_KIND` (`veth`, `bridge`, `vxlan` …), else `loopback`, `ethernet` or `other` from the device type.
    pub kind: String,
    /// `ARPHRD_*`.
    pub device_type: u16,
    /// MTU in bytes, without the MAC header.
    pub mtu_bytes: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Index of the bridge, bond or other master.
    pub master: Option<u32>,
    /// Index of the device below, where that is in this namespace: never the other end of a veth pair.
    pub lower: Option<u32>,
    /// What it carries frames in, if it is a tunnel over UDP.
    pub tunnel: Option<TunnelPort>,
    /// It belongs to a device of a bus: physical, virtio, a VF; not one of the kernel's own making.
    pub has_parent_device: bool,
    /// The bus of that device (`pci`, `virtio` …), `""` if there is none or it is not known.
    pub parent_bus: String,
    /// `IFLA_PHYS_PORT_NAME`: which port of its switch or card it is, `""` if not told.
    pub port_name: String,
    /// The bus device's driver, or `kind` for a device of the kernel's own making; `""` if not known.
    pub driver: String,
    /// Whether the physical link is up (`IFLA_CARRIER`), `None` if not told.
    pub carrier: Option<bool>,
    /// How often it has come or gone since the device was made, `None` if not told.
    pub carrier_changes: Option<u32>,
    /// `IFLA_IFALIAS`, `""` if not set. The kernel announces no new alias of a device that is down: it comes with the
    /// device's next change.
    pub alias: String,
}

impl Link {
    /// Whether it is a loopback.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.device_type == arphrd::LOOPBACK
    }

    /// How the first bytes of its frames are to be read.
    #[must_use]
    pub const fn link_kind(&self) -> LinkKind {
        match self.device_type {
            arphrd::ETHER | arphrd::LOOPBACK => LinkKind::Ethernet,
            arphrd::NONE | arphrd::TUNNEL | arphrd::TUNNEL6 | arphrd::SIT | arphrd::PPP | arphrd::RAWIP => {
                LinkKind::Network
            }
            arphrd::IPGRE | arphrd::IP6GRE => LinkKind::NetworkIngress,
            _ => LinkKind::Opaque,
        }
    }

    /// What the classifier must know about the device: [`LOOPBACK`], [`FROM_WIRE`].
    #[must_use]
    pub fn flags(&self) -> u8 {
        let loopback = if self.is_loopback() { LOOPBACK } else { 0 };
        let from_wire = if self.is_on_wire() { FROM_WIRE } else { 0 };
        loopback | from_wire
    }

    /// Whether what arrives has been padded for a wire. Of a bus that is not known nothing is concluded.
    fn is_on_wire(&self) -> bool {
        let bus = self.parent_bus.as_str();
        self.has_parent_device && !bus.is_empty() && !PARAVIRTUAL_BUSES.contains(&bus)
    }

    /// Whether it stands for one end of a cable. A device of a network card that stands for a virtual machine's function
    /// of it (`IFLA_PHYS_PORT_NAME` `pf0vf1`, `c1pf0sf2`: a switchdev representor) has a parent too, and leads to that
    /// machine.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        let is_representor = ["vf", "sf"].iter().any(|function| self.port_name.contains(function));
        self.has_parent_device && !is_representor
    }
}
