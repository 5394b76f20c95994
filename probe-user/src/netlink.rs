//! Questions to rtnetlink and their answers, synchronously: the kernel answers within the call, so there is nothing to
//! wait for. Messages are handed on undecoded, since the decoding library gives up on a message with an attribute that is
//! new to it.
//!
//! Sockets belong to the network namespace of the thread that opens them.

use std::{io, ops::ControlFlow};

use anyhow::{Context as _, Result};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Longest datagram that the kernel makes of a list, in bytes: 32 KiB (af_netlink.c, since 4.9), and as much again.
pub const DATAGRAM_BYTES: usize = 64 * 1024;

/// Asks in the network namespace of the calling thread and shows `each` the type and the payload of what comes until the
/// end of the answer. `flags` besides `NLM_F_REQUEST`: `NLM_F_ACK` for a change, `NLM_F_DUMP` for a list.
///
/// # Errors
/// The kernel's, which [`errno`] tells; those of `each`; an answer that is cut.
pub fn request(message: RouteNetlinkMessage, flags: u16, each: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
    exchange(NETLINK_ROUTE, &serialize(message, flags), each)
}

/// Sends a whole message of a netlink `protocol` and shows `each` what comes, as [`request`] does.
///
/// # Errors
/// As [`request`].
pub fn exchange(protocol: isize, message: &[u8], mut each: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
    let socket = connect(protocol)?;
    socket.send(message, 0)?;
    read_answer(&socket, |kind, payload| each(kind, payload).map(ControlFlow::Continue)).map(drop)
}

/// Asks for a list that the kernel cuts down itself by what `message` says (`NETLINK_GET_STRICT_CHK`, since 4.20), until
/// `each` has seen enough. `false` if something changed meanwhile, so that one that exists can be missing.
///
/// # Errors
/// As [`request`].
pub fn list(message: RouteNetlinkMessage, each: impl FnMut(u16, &[u8]) -> Result<ControlFlow<()>>) -> Result<bool> {
    let socket = connect(NETLINK_ROUTE)?;
    socket.set_netlink_get_strict_chk(true)?;
    socket.send(&serialize(message, NLM_F_DUMP), 0)?;
    read_answer(&socket, each)
}

fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn serialize(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    bytes
}

fn read_answer(socket: &Socket, mut each: impl FnMut(u16, &[u8]) -> Result<ControlFlow<()>>) -> Result<bool> {
    let mut unchanged = true;
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        for part in messages(&datagram) {
            let part = part.context("the kernel's answer is cut")?;
            unchanged &= part.flags() & NLM_F_DUMP_INTR == 0;
            match part.message_type() {
                // Both begin with an error number; some kernels leave it out of DONE.
                NLMSG_DONE | NLMSG_ERROR => return error_of(part.payload()).map(|()| unchanged),
                kind => {
                    if each(kind, part.payload())?.is_break() {
                        return Ok(unchanged);
                    }
                }
            }
        }
    }
}

/// The netlink messages of a datagram; an error ends them.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest).context("a netlink header");
        // Messages are padded to four bytes.
        let bytes = message.as_ref().map_or(rest.len(), |message| (message.length() as usize).next_multiple_of(4));
        rest = rest.get(bytes..).unwrap_or_default();
        Some(message)
    })
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
