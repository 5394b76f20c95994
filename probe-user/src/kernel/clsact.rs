//! The qdisc that carries our filters where there is no tcx: taken away again if we brought it and nobody else uses it.

use std::io;

use anyhow::{Context as _, Result, bail};
use aya::programs::tc::{TcError, qdisc_add_clsact};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcHandle, TcHeader, TcMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

// uapi/linux/pkt_sched.h: TC_H_CLSACT, and its classes that stand for the two hooks.
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const QDISC: u32 = 0xffff_0000;
// uapi/linux/rtnetlink.h and netlink.h.
const RTM_NEWTFILTER: u16 = 44;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A clsact qdisc on an interface. Dropped after its filters, it leaves the interface as it was found.
#[derive(Debug)]
pub(super) struct Clsact {
    ifindex: u32,
    ours: bool,
}

impl Clsact {
    /// Adds the qdisc where there is none.
    ///
    /// # Errors
    /// If the kernel refuses; an `ingress` qdisc in its place is one reason.
    pub(super) fn ensure(name: &str, ifindex: u32) -> Result<Self> {
        match qdisc_add_clsact(name) {
            Ok(()) => Ok(Self { ifindex, ours: true }),
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(nix::libc::EEXIST) => {
                Ok(Self { ifindex, ours: false })
            }
            Err(error) => Err(error).context("add the clsact qdisc"),
        }
    }

    fn remove_if_unused(&self) -> Result<()> {
        for hook in [INGRESS, EGRESS] {
            if self.request(RouteNetlinkMessage::GetTrafficFilter, hook, 0, NLM_F_DUMP)? != 0 {
                return Ok(());
            }
        }
        self.request(RouteNetlinkMessage::DelQueueDiscipline, CLSACT, QDISC, NLM_F_ACK).map(|_| ())
    }

    /// Asks and waits for the end of the answer. Returns how many filters it named.
    fn request(
        &self,
        kind: fn(TcMessage) -> RouteNetlinkMessage,
        parent: u32,
        handle: u32,
        flags: u16,
    ) -> Result<usize> {
        let mut message = TcMessage::default();
        message.header = TcHeader {
            index: i32::try_from(self.ifindex).context("interface index")?,
            parent: TcHandle::from(parent),
            handle: TcHandle::from(handle),
            ..TcHeader::default()
        };
        let mut request = NetlinkMessage::from(kind(message));
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);

        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&bytes, 0)?;
        let mut filters = 0;
        loop {
            let (answer, _) = socket.recv_from_full()?;
            let mut rest = answer.as_slice();
            while !rest.is_empty() {
                let part = NetlinkBuffer::new_checked(rest).context("the kernel's answer is cut")?;
                match part.message_type() {
                    RTM_NEWTFILTER => filters += 1,
                    NLMSG_DONE => return Ok(filters),
                    NLMSG_ERROR => return error_of(part.payload()).map(|()| filters),
                    other => bail!("unexpected answer of type {other}"),
                }
                // Messages are padded to four bytes.
                let length = (part.length() as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[length..];
            }
        }
    }
}

/// An error message starts with the negated error number; 0 acknowledges.
fn error_of(payload: &[u8]) -> Result<()> {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code).into()) }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        // An interface that is gone has taken its qdisc along.
        if self.ours
            && let Err(error) = self.remove_if_unused()
            && error.downcast_ref().and_then(io::Error::raw_os_error) != Some(nix::libc::ENODEV)
        {
            tracing::warn!("an unused clsact qdisc stays on interface {}: {error:#}", self.ifindex);
        }
    }
}
