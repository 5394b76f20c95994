//! One question to rtnetlink and its answer, synchronously: for what is asked rarely. Messages are handed on undecoded,
//! since the decoding library gives up on a message with an attribute that is new to it.

use std::io;

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Asks in the network namespace of the calling thread and shows `each` the type and the payload of what comes until the
/// end of the answer. `flags` besides `NLM_F_REQUEST`: `NLM_F_ACK` for a change, `NLM_F_DUMP` for a list.
///
/// # Errors
/// The kernel's, which [`errno`] tells; those of `each`; an answer that is cut.
pub fn request(message: RouteNetlinkMessage, flags: u16, each: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    exchange(NETLINK_ROUTE, &bytes, each)
}

/// Sends a whole message of a netlink `protocol` and shows `each` what comes, as [`request`] does.
///
/// # Errors
/// As [`request`].
pub fn exchange(protocol: isize, message: &[u8], mut each: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(message, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let part = NetlinkBuffer::new_checked(rest).context("the kernel's answer is cut")?;
            match part.message_type() {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return error_of(part.payload()),
                kind => each(kind, part.payload())?,
            }
            // Messages are padded to four bytes.
            let length = (part.length() as usize).next_multiple_of(4).min(rest.len());
            rest = &rest[length..];
        }
    }
}

/// The kernel's error number, if the error is the kernel's.
#[must_use]
pub fn errno(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref().and_then(io::Error::raw_os_error)
}

/// An error message starts with the negated error number; 0 acknowledges.
fn error_of(payload: &[u8]) -> Result<()> {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code).into()) }
}
