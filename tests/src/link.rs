//! Links, addresses, routes and neighbours of a [`Namespace`], by rtnetlink.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, MacVlanMode,
};
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::{InterfaceFlags, if_nametoindex},
};
use rtnetlink::{
    Handle, LinkBond, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan, LinkVxlan,
    RouteMessageBuilder,
};

use crate::{frames::Mac, namespace::Namespace, program, wait::eventually};

/// How long a link may take to have a carrier.
const CARRIER: Duration = Duration::from_secs(10);

/// One end of a veth pair.
#[derive(Clone, Copy)]
pub struct End<'n> {
    namespace: &'n Namespace,
    name: &'n str,
    mac: Option<Mac>,
    mtu: u32,
    queues: u32,
    index: u32,
}

impl<'n> End<'n> {
    /// An end called `name`, with MTU 1,500 and one queue each way.
    #[must_use]
    pub fn new(namespace: &'n Namespace, name: &'n str) -> Self {
        Self { namespace, name, mac: None, mtu: 1500, queues: 1, index: 0 }
    }

    /// With this hardware address.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// With this MTU in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// With this many transmit and receive queues.
    #[must_use]
    pub fn queues(self, queues: u32) -> Self {
        Self { queues, ..self }
    }

    /// With this index instead of the kernel's next one.
    #[must_use]
    pub fn index(self, index: u32) -> Self {
        Self { index, ..self }
    }

    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::NumTxQueues(self.queues),
            LinkAttribute::NumRxQueues(self.queues),
            LinkAttribute::NetNsFd(self.namespace.as_fd().as_raw_fd()),
        ];
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes
    }
}

/// Makes a veth pair, each end in its namespace and up.
///
/// # Errors
/// When a name is taken.
pub fn veth(one: End<'_>, other: End<'_>) -> Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = other.attributes();
    peer.header.index = other.index;
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth);
    let link = link.set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let mut message = one.attributes().into_iter().fold(link, LinkMessageBuilder::append_extra_attribute).build();
    message.header.index = one.index;
    one.namespace
        .netlink(async |handle| Ok(handle.link().add(message).execute().await?))
        .with_context(|| format!("make the veth pair {} - {}", one.name, other.name))?;
    one.namespace.up(one.name)?;
    other.namespace.up(other.name)?;
    // The one that was up first had no carrier then; until the kernel has noticed that it has one, it sends into nothing.
    one.namespace.wait_for_carrier(one.name)
}

impl Namespace {
    /// Speaks rtnetlink inside the namespace.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn netlink<T: Send>(&self, work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
        // Outside of the namespace: the first runtime of a process makes a pair of sockets for signals and keeps it, and
        // a socket keeps its namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        self.run(|| {
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().context("open rtnetlink")?;
                let connection = tokio::spawn(connection);
                let result = work(handle).await;
                connection.abort();
                result
            })
        })
    }

    /// The index of a link.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn index(&self, name: &str) -> Result<u32> {
        self.run(|| if_nametoindex(name).with_context(|| format!("no interface {name}")))
    }

    fn add_link<T>(&self, name: &str, message: LinkMessageBuilder<T>) -> Result<()> {
        let message = message.build();
        self.netlink(async |handle| Ok(handle.link().add(message).execute().await?))
            .with_context(|| format!("make link {name}"))
    }

    fn set_link(
        &self,
        name: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = change(LinkUnspec::new_with_index(self.index(name)?)).build();
        self.netlink(async |handle| Ok(handle.link().set(message).execute().await?))
            .with_context(|| format!("change link {name}"))
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn up(&self, name: &str) -> Result<()> {
        self.set_link(name, LinkMessageBuilder::up)
    }

    /// Waits until a link that is up can send.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_carrier(&self, name: &str) -> Result<()> {
        eventually(CARRIER, "the link has a carrier", || {
            let is_running = |entry: InterfaceAddress| {
                entry.interface_name == name && entry.flags.contains(InterfaceFlags::IFF_RUNNING)
            };
            ensure!(self.run(|| Ok(getifaddrs()?.any(is_running)))?, "{name} has none");
            Ok(())
        })
    }

    /// Takes a link down.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn down(&self, name: &str) -> Result<()> {
        self.set_link(name, LinkMessageBuilder::down)
    }

    /// Renames a link (since Linux 6.4 also while it is up).
    ///
    /// # Errors
    /// When the new name is taken.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.set_link(from, |link| link.name(to))
    }

    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// When the device does not take it.
    pub fn mtu(&self, name: &str, bytes: u32) -> Result<()> {
        self.set_link(name, |link| link.mtu(bytes))
    }

    /// Sets how many packets a device's own queue holds.
    ///
    /// # Errors
    /// When the device does not take it.
    pub fn queue_packets(&self, name: &str, packets: u32) -> Result<()> {
        self.set_link(name, |link| link.append_extra_attribute(LinkAttribute::TxQueueLen(packets)))
    }

    /// Sets the alias (`IFLA_IFALIAS`).
    ///
    /// # Errors
    /// When there is no such link.
    pub fn alias(&self, name: &str, alias: &str) -> Result<()> {
        self.set_link(name, |link| link.alias(alias))
    }

    /// Moves a link into another namespace, where it is down and without addresses.
    ///
    /// # Errors
    /// When the name is taken there.
    pub fn move_link(&self, name: &str, to: &Self) -> Result<()> {
        self.set_link(name, |link| link.setns_by_fd(to.as_fd().as_raw_fd()))
    }

    /// Makes a link a port of a bridge or bond.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn enslave(&self, name: &str, master: &str) -> Result<()> {
        let master = self.index(master)?;
        self.set_link(name, |link| link.controller(master))
    }

    /// Takes a link from its bridge or bond.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn release(&self, name: &str) -> Result<()> {
        self.set_link(name, LinkMessageBuilder::nocontroller)
    }

    /// Renames a link on any kernel: down for the moment.
    ///
    /// # Errors
    /// When the new name is taken.
    pub fn rename_down(&self, from: &str, to: &str) -> Result<()> {
        self.down(from)?;
        self.rename(from, to)?;
        self.up(to)
    }

    /// Deletes a link.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn delete(&self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        self.netlink(async |handle| Ok(handle.link().del(index).execute().await?))
            .with_context(|| format!("delete link {name}"))
    }

    /// Makes a bridge, up.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn bridge(&self, name: &str) -> Result<()> {
        self.add_link(name, LinkBridge::new(name))
    }

    /// Makes a bridge that runs spanning tree: a port forwards nothing in its first 30 s (IEEE 802.1D, forward delay).
    /// It does not snoop, so it announces itself to no other snooper meanwhile.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn bridge_with_spanning_tree(&self, name: &str) -> Result<()> {
        self.add_link(
            name,
            LinkBridge::new(name)
                .stp_state(BridgeStpState::KernelStp)
                .append_info_data(InfoBridge::MulticastSnooping(false)),
        )
    }

    /// Makes a bond, up; its slaves must be down when they are enslaved.
    ///
    /// # Errors
    /// When the kernel has no bonding (the development kernel does not).
    pub fn bond(&self, name: &str) -> Result<()> {
        self.add_link(name, LinkBond::new(name).up())
    }

    /// Makes the VLAN sub-interface `id` of `lower`, up.
    ///
    /// # Errors
    /// When the kernel has no 8021q (the development kernel does not).
    pub fn vlan(&self, name: &str, lower: &str, id: u16) -> Result<()> {
        self.add_link(name, LinkVlan::new(name, self.index(lower)?, id).up())
    }

    /// Makes a macvlan in bridge mode above `lower`, up.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn macvlan(&self, name: &str, lower: &str) -> Result<()> {
        self.add_link(name, LinkMacVlan::new(name, self.index(lower)?, MacVlanMode::Bridge).up())
    }

    /// Makes a VXLAN device over `lower` on UDP port 4789, up.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn vxlan(&self, name: &str, lower: &str, vni: u32, remote: IpAddr) -> Result<()> {
        let link = LinkVxlan::new(name, vni).dev(self.index(lower)?).port(4789).up();
        self.add_vxlan(name, link, remote)
    }

    /// The same of network 7 on another port, with checksums in the outer datagrams.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn vxlan_with_checksums(&self, name: &str, lower: &str, port: u16, remote: IpAddr) -> Result<()> {
        let link = LinkVxlan::new(name, 7).dev(self.index(lower)?).port(port).udp_csum(true).up();
        self.add_vxlan(name, link, remote)
    }

    fn add_vxlan(&self, name: &str, link: LinkMessageBuilder<LinkVxlan>, remote: IpAddr) -> Result<()> {
        let link = match remote {
            IpAddr::V4(remote) => link.remote(remote),
            IpAddr::V6(remote) => link.remote6(remote),
        };
        self.add_link(name, link)
    }

    /// Adds an address with its prefix length.
    ///
    /// # Errors
    /// When it is already there.
    pub fn address(&self, name: &str, address: impl Into<IpAddr>, prefix: u8) -> Result<()> {
        let (index, address) = (self.index(name)?, address.into());
        self.netlink(async |handle| Ok(handle.address().add(index, address, prefix).execute().await?))
            .with_context(|| format!("add {address}/{prefix} to {name}"))
    }

    /// Adds a route to `destination`/`prefix` (0 for the default route) through `gateway`.
    ///
    /// # Errors
    /// When the gateway cannot be reached directly.
    pub fn route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        let text = || format!("add the route {destination}/{prefix} via {gateway}");
        let message =
            RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, prefix).with_context(text)?;
        let message = message.gateway(gateway).with_context(text)?.build();
        self.netlink(async |handle| Ok(handle.route().add(message).execute().await?)).with_context(text)
    }

    /// Adds a permanent neighbour, so that nobody has to ask for it.
    ///
    /// # Errors
    /// When it is already there.
    pub fn neighbour(&self, name: &str, address: impl Into<IpAddr>, mac: Mac) -> Result<()> {
        let (index, address) = (self.index(name)?, address.into());
        self.netlink(async |handle| {
            Ok(handle.neighbours().add(index, address).link_layer_address(&mac).execute().await?)
        })
        .with_context(|| format!("add the neighbour {address} on {name}"))
    }

    /// Switches offloads by their `ethtool -K` names, such as `[("gro", true), ("tso", false)]`.
    ///
    /// # Errors
    /// When a feature is fixed, or ethtool is missing.
    pub fn offloads(&self, name: &str, features: &[(&str, bool)]) -> Result<()> {
        let switches = features.iter().flat_map(|(feature, on)| [*feature, if *on { "on" } else { "off" }]);
        let arguments: Vec<_> = ["-K", name].into_iter().chain(switches).collect();
        program::run(self, "ethtool", &arguments, "").map(drop)
    }
}
