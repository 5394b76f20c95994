//! The network devices of this namespace and what becomes of them, from rtnetlink (rtnetlink(7)): one dump, then the
//! kernel's own announcements; nothing is polled.
//!
//! Attributes are picked out of the messages one by one instead of being decoded into `LinkMessage`: there an attribute
//! that a newer kernel has grown costs the whole message, and the interface would be missing without a word.
//!
//! Sockets belong to the network namespace of the thread that opens them: call [`list`] and [`Watcher::start`] where
//! every thread of the runtime is in the namespace that is meant.

use std::{collections::VecDeque, fs, io, path::Path};

use anyhow::{Context, Result, bail};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage},
};
use nix::libc;
use probe_ebpf::classify::{FROM_WIRE, LOOPBACK, LinkKind};
use rtnetlink::{
    packet_core::{
        NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
        NlasIterator, parse_u32,
    },
    sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tracing::{debug, warn};

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

/// Longest datagram that the kernel makes of links, in bytes: 32 KiB (af_netlink.c, since 4.9), and as much again.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// Room for announcements that wait to be read, in bytes: some 1,000; the kernel doubles it for its own book-keeping.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// Dumps that are tried until one is not interrupted by a change.
const DUMP_ATTEMPTS: usize = 5;
/// Buses whose devices take frames from another guest or the host as they were built: nobody pads them to the shortest
/// that a wire carries.
const PARAVIRTUAL_BUSES: [&str; 4] = ["virtio", "xen", "xen-backend", "vmbus"];
/// Kinds whose `IFLA_LINK` is the other end of a pair, which is not below the device.
const PAIRS: [&str; 3] = ["veth", "netkit", "vxcan"];
/// Kinds that carry frames inside other packets.
const TUNNELS: [&str; 18] = [
    "amt",
    "bareudp",
    "erspan",
    "fou",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
];

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
    /// It belongs to a device of a bus: physical, virtio, a VF; not one of the kernel's own making.
    pub has_parent_device: bool,
    /// The bus of that device (`pci`, `virtio` …), `""` if there is none or it is not known.
    pub parent_bus: String,
    /// The bus device's driver, or `kind` for a device of the kernel's own making; `""` if not known.
    pub driver: String,
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

    /// The label `role`, given the device's master if it has one: `uplink`, `port`, `tunnel` or `internal`.
    #[must_use]
    pub fn role(&self, master: Option<&Self>) -> &'static str {
        if self.has_parent_device {
            "uplink"
        } else if master.is_some_and(|master| matches!(master.kind.as_str(), "bridge" | "openvswitch")) {
            "port"
        } else if TUNNELS.contains(&self.kind.as_str()) {
            "tunnel"
        } else {
            "internal"
        }
    }
}

/// What became of the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It appeared, or something about it changed.
    Changed(Link),
    /// The device with this index is gone, perhaps into another namespace.
    Removed(u32),
    /// Announcements were lost: this is everything that exists, all else is gone.
    Resync(Vec<Link>),
}

/// Every device of this namespace.
///
/// # Errors
/// The kernel refuses; in a container that can be seccomp.
pub async fn list() -> Result<Vec<Link>> {
    Ok(list_patiently().await?.0)
}

/// Every device, and whether nothing changed while they were listed: if it did, one that exists can be missing (below
/// Linux 6.9, when another of the same hash line vanishes).
async fn list_patiently() -> Result<(Vec<Link>, bool)> {
    let mut listed = (Vec::new(), false);
    for _ in 0..DUMP_ATTEMPTS {
        listed = dump().await.context("list network devices by rtnetlink")?;
        if listed.1 {
            return Ok(listed);
        }
    }
    debug!("the list of network devices changed {DUMP_ATTEMPTS} times while it was read");
    Ok(listed)
}

/// Follows the devices of one namespace.
pub struct Watcher {
    announcements: TokioSocket,
    datagram: Vec<u8>,
    queued: VecDeque<LinkEvent>,
    stale: bool,
}

impl Watcher {
    /// Subscribes first and lists then, so that nothing is lost in between; an announcement that is older than the list
    /// is repeated by [`Watcher::next`] and followed by all that came after it.
    ///
    /// # Errors
    /// As [`list`].
    pub async fn start() -> Result<(Vec<Link>, Self)> {
        let announcements = open(1 << (libc::RTNLGRP_LINK - 1)).context("subscribe to changes of network devices")?;
        let (links, complete) = list_patiently().await?;
        let datagram = Vec::with_capacity(DATAGRAM_BYTES);
        Ok((links, Self { announcements, datagram, queued: VecDeque::new(), stale: !complete }))
    }

    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket or a new list failed; asking again is allowed.
    pub async fn next(&mut self) -> Result<LinkEvent> {
        loop {
            if let Some(event) = self.queued.pop_front() {
                return Ok(event);
            }
            if self.stale {
                self.drain().context("read changes of network devices")?;
                let (links, complete) = list_patiently().await?;
                self.stale = !complete;
                return Ok(LinkEvent::Resync(links));
            }
            self.datagram.clear();
            match self.announcements.recv_from(&mut self.datagram).await {
                Ok(sender) if sender.port_number() != 0 => debug!("a netlink message that is not the kernel's"),
                Ok(_) => self.read_datagram(),
                // The kernel had no room for an announcement (netlink(7)).
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.stale = true,
                Err(error) => return Err(error).context("read changes of network devices"),
            }
        }
    }

    /// Throws away what waits. After ENOBUFS that is older than the gap, so a device in it may be gone without a word;
    /// and the kernel drops every further announcement, without saying so again, until nothing waits any more
    /// (`NETLINK_S_CONGESTED`, af_netlink.c). Only a list that is asked for after that has no gap behind it.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            self.datagram.clear();
            match self.announcements.socket_ref().recv(&mut self.datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_datagram(&mut self) {
        for message in messages(&self.datagram) {
            match message.and_then(|message| event(message.message_type(), message.payload())) {
                Ok(Some(Seen::Device(device))) => self.queued.push_back(LinkEvent::Changed(device.complete())),
                Ok(Some(Seen::Gone(ifindex))) => self.queued.push_back(LinkEvent::Removed(ifindex)),
                Ok(None) => {}
                Err(error) => {
                    warn!("an unreadable announcement of a network device: {error:#}");
                    self.stale = true;
                }
            }
        }
    }
}

fn open(groups: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    // Refused or cut down by net.core.rmem_max: then a storm leads to a new list sooner.
    let _ = socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER_BYTES as libc::c_int);
    Ok(socket)
}

/// Every device, and whether nothing changed meanwhile.
async fn dump() -> Result<(Vec<Link>, bool)> {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(ask));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let socket = open(0)?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0)).await?;
    let (mut links, mut complete) = (Vec::new(), true);
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    loop {
        datagram.clear();
        if socket.recv_from(&mut datagram).await?.port_number() != 0 {
            continue;
        }
        for message in messages(&datagram) {
            let message = message?;
            complete &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_DONE | NLMSG_ERROR => {
                    // Both begin with an error number, negated; 0 is none, and some kernels leave it out of DONE.
                    let error = message.payload().first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
                    return if error == 0 {
                        Ok((links, complete))
                    } else {
                        Err(io::Error::from_raw_os_error(-error).into())
                    };
                }
                message_type => {
                    if let Some(Seen::Device(device)) = event(message_type, message.payload())? {
                        links.push(device.complete());
                    }
                }
            }
        }
    }
}

/// The netlink messages of a datagram; an error ends them.
fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest).context("a netlink header");
        let bytes = message.as_ref().map_or(rest.len(), |message| (message.length() as usize).next_multiple_of(4));
        rest = rest.get(bytes..).unwrap_or_default();
        Some(message)
    })
}

/// What one message says.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Device(Box<Device>),
    Gone(u32),
}

/// A device as far as its message tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Device {
    link: Link,
    has_info_kind: bool,
    address: Vec<u8>,
}

/// `None`: not about a device. Messages of other families than `AF_UNSPEC` are not: a bridge announces with `AF_BRIDGE`
/// that a device is its port (without saying what kind of device), and by `RTM_DELLINK` that it no longer is.
fn event(message_type: u16, payload: &[u8]) -> Result<Option<Seen>> {
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
    let (mut lower, mut lower_is_elsewhere) = (None, false);
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
            libc::IFLA_PARENT_DEV_NAME => device.link.has_parent_device = true,
            libc::IFLA_PARENT_DEV_BUS_NAME => device.link.parent_bus = text(value),
            libc::IFLA_LINKINFO => {
                for info in NlasIterator::new(value) {
                    let info = info.context("IFLA_LINKINFO")?;
                    if info.kind() == libc::IFLA_INFO_KIND {
                        device.link.kind = text(info.value());
                        device.has_info_kind = true;
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
    device.link.lower = lower.filter(is_below).filter(|_| !lower_is_elsewhere && !pair);
    Ok(Some(Seen::Device(Box::new(device))))
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
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

impl Device {
    /// Adds what only sysfs tells: the driver, and below Linux 5.14 (`IFLA_PARENT_DEV_NAME`) the parent device and its
    /// bus.
    fn complete(mut self) -> Link {
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

#[cfg(test)]
mod tests;
