//! Routes of a [`Namespace`] beyond an ordinary one: straight to a device, over several legs, by nexthop objects, and
//! very many.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use netlink_packet_route::route::{RouteMessage, RouteScope};
use nix::libc;
use rtnetlink::{
    RouteMessageBuilder, RouteNextHopBuilder,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use crate::namespace::Namespace;

impl Namespace {
    /// Adds the default route straight to these devices, one leg each.
    ///
    /// # Errors
    /// When a device does not exist or is down, or there is a default route.
    pub fn default_route(&self, devices: &[&str]) -> Result<()> {
        let message = self.default_message(devices)?;
        self.netlink(async |handle| Ok(handle.route().add(message).execute().await?))
            .with_context(|| format!("add the default route over {devices:?}"))
    }

    /// Deletes what [`Namespace::default_route`] made.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete_default_route(&self, devices: &[&str]) -> Result<()> {
        let message = self.default_message(devices)?;
        self.netlink(async |handle| Ok(handle.route().del(message).execute().await?))
            .with_context(|| format!("delete the default route over {devices:?}"))
    }

    fn default_message(&self, devices: &[&str]) -> Result<RouteMessage> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().scope(RouteScope::Link);
        Ok(match devices {
            [device] => route.output_interface(self.index(device)?),
            several => {
                let leg = |device: &&str| Ok(RouteNextHopBuilder::new_ipv4().interface(self.index(device)?).build());
                route.multipath(several.iter().map(leg).collect::<Result<_>>()?)
            }
        }
        .build())
    }

    /// Adds a route to each of the `count` first addresses of 44.0.0.0/8 straight to a device.
    ///
    /// # Errors
    /// When the device does not exist or is down.
    pub fn many_routes(&self, device: &str, count: u32) -> Result<()> {
        let index = self.index(device)?;
        self.run(|| {
            let socket = connect()?;
            for number in 0..count {
                let destination = Ipv4Addr::from_bits(Ipv4Addr::new(44, 0, 0, 0).to_bits() + number);
                let attributes =
                    [(libc::RTA_DST, destination.octets().to_vec()), (libc::RTA_OIF, index.to_ne_bytes().to_vec())];
                ask(&socket, libc::RTM_NEWROUTE, &route_header(32), &attributes)?;
            }
            Ok(())
        })
    }

    /// Adds the default route over a group of nexthop objects (since Linux 5.3), one for each device.
    ///
    /// # Errors
    /// As [`Namespace::default_route`].
    pub fn default_route_by_objects(&self, devices: &[&str]) -> Result<()> {
        // uapi/linux/rtnetlink.h and nexthop.h, which libc does not have.
        const RTM_NEWNEXTHOP: u16 = 104;
        const NHA_ID: u16 = 1;
        const NHA_GROUP: u16 = 2;
        const NHA_OIF: u16 = 5;
        const RTA_NH_ID: u16 = 30;
        const GROUP: u32 = 100;
        let indices = devices.iter().map(|device| self.index(device)).collect::<Result<Vec<_>>>()?;
        self.run(|| {
            let socket = connect()?;
            // struct nhmsg: family, scope, protocol, reserved, flags; a group has no family.
            let header = |family: i32| [family as u8, 0, libc::RTPROT_STATIC, 0, 0, 0, 0, 0];
            let mut group = Vec::new();
            for (id, index) in (1_u32..).zip(&indices) {
                let attributes = [(NHA_ID, id.to_ne_bytes().to_vec()), (NHA_OIF, index.to_ne_bytes().to_vec())];
                ask(&socket, RTM_NEWNEXTHOP, &header(libc::AF_INET), &attributes)?;
                // struct nexthop_grp: id, weight, reserved.
                group.extend(id.to_ne_bytes().into_iter().chain([0; 4]));
            }
            let attributes = [(NHA_ID, GROUP.to_ne_bytes().to_vec()), (NHA_GROUP, group)];
            ask(&socket, RTM_NEWNEXTHOP, &header(libc::AF_UNSPEC), &attributes)?;
            ask(&socket, libc::RTM_NEWROUTE, &route_header(0), &[(RTA_NH_ID, GROUP.to_ne_bytes().to_vec())])
        })
    }
}

/// `struct rtmsg` of a static IPv4 unicast route in the main table.
fn route_header(destination_bits: u8) -> [u8; 12] {
    let (table, kind) = (libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
    let scope = libc::RT_SCOPE_LINK;
    [libc::AF_INET as u8, destination_bits, 0, 0, table, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0]
}

fn connect() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends a request that the library has no words for, and waits until it has been obeyed.
fn ask(socket: &Socket, kind: u16, header: &[u8], attributes: &[(u16, Vec<u8>)]) -> Result<()> {
    const HEADER_BYTES: usize = 16;
    let mut body = header.to_vec();
    for (attribute, value) in attributes {
        body.extend(u16::try_from(4 + value.len())?.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut message = u32::try_from(HEADER_BYTES + body.len())?.to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let code = answer.get(HEADER_BYTES..).and_then(<[u8]>::first_chunk).map(|code| i32::from_ne_bytes(*code));
    ensure!(code == Some(0), "rtnetlink request {kind}: {}", std::io::Error::from_raw_os_error(-code.unwrap_or(0)));
    Ok(())
}
