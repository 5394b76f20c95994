//! Following the devices of one namespace: one list, then the kernel's own announcements; nothing is polled.

use std::{collections::VecDeque, io, ops::ControlFlow};

use anyhow::{Context, Result};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
};
use nix::libc;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tracing::{debug, warn};

use super::{
    Link,
    message::{Seen, event},
};
use crate::netlink::{self, DATAGRAM_BYTES, messages};

/// Room for announcements that wait to be read, in bytes: some 1,000; the kernel doubles it for its own book-keeping.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// Lists that are tried until one is not interrupted by a change.
const LIST_ATTEMPTS: usize = 5;

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
pub fn list() -> Result<Vec<Link>> {
    Ok(list_patiently()?.0)
}

/// Every device, and whether nothing changed while they were listed: if it did, one that exists can be missing (below
/// Linux 6.9, when another of the same hash line vanishes).
fn list_patiently() -> Result<(Vec<Link>, bool)> {
    let mut listed = (Vec::new(), false);
    for _ in 0..LIST_ATTEMPTS {
        listed = list_once().context("list network devices by rtnetlink")?;
        if listed.1 {
            return Ok(listed);
        }
    }
    debug!("the list of network devices changed {LIST_ATTEMPTS} times while it was read");
    Ok(listed)
}

/// Every device, and whether nothing changed meanwhile.
fn list_once() -> Result<(Vec<Link>, bool)> {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut links = Vec::new();
    let unchanged = netlink::list(RouteNetlinkMessage::GetLink(ask), |message_type, payload| {
        if let Some(Seen::Device(device)) = event(message_type, payload)? {
            links.push(device.complete());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((links, unchanged))
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
        let (links, complete) = list_patiently()?;
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
                let (links, complete) = list_patiently()?;
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
