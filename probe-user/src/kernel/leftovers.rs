//! Filters of a lossprobe that was killed: below Linux 6.6 they survive it. Every running lossprobe holds a marker for
//! each of its programs, which dies with it; a filter of ours whose program has no marker is a leftover.
//!
//! A marker is an abstract unix socket, which the kernel keeps per network namespace, as it does interfaces.

use std::{
    fmt,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket},
};
use probe_ebpf::abi::{Direction, program};
use tracing::warn;

use super::{
    clsact::{self, CLSACT_KIND},
    filter::{self, Filter},
    load::classifier,
};

/// Says that this process lives, for as long as it does.
#[derive(Debug)]
pub struct Marker {
    _sockets: Vec<OwnedFd>,
}

impl Marker {
    /// Marks the loaded programs that can be on interfaces. Before any of them is.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set(ebpf: &mut Ebpf) -> Result<Self> {
        let mut sockets = Vec::new();
        for name in [program::INGRESS, program::EGRESS] {
            let number = classifier(ebpf, name)?.info().with_context(|| format!("ask for {name}'s number"))?.id();
            let (socket, address) = marker(number)?;
            match bind(socket.as_raw_fd(), &address) {
                // Anybody in this network namespace may take any name. It says what it is to say all the same.
                Err(Errno::EADDRINUSE) => warn!("somebody else has marked program {number} as in use"),
                outcome => outcome.with_context(|| format!("mark program {number} as in use"))?,
            }
            sockets.push(socket);
        }
        Ok(Self { _sockets: sockets })
    }
}

fn marker(program: u32) -> Result<(OwnedFd, UnixAddr)> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok((socket, UnixAddr::new_abstract(format!("lossprobe-prog-{program}").as_bytes())?))
}

/// When in doubt, yes.
fn is_marked(program: u32) -> Result<bool> {
    let (socket, address) = marker(program)?;
    Ok(connect(socket.as_raw_fd(), &address) != Err(Errno::ECONNREFUSED))
}

/// What was left on one interface, and is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The interface's index.
    pub ifindex: u32,
    /// Filters.
    pub filters: usize,
    /// The clsact qdisc that had been brought for them.
    pub qdisc: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.ifindex;
        match nix::net::if_::if_indextoname(index) {
            Ok(name) => write!(to, "{}: ", name.to_string_lossy())?,
            Err(_) => write!(to, "interface {index}: ")?,
        }
        write!(to, "{} filter{}", self.filters, if self.filters == 1 { "" } else { "s" })?;
        if self.qdisc { write!(to, " and the clsact qdisc that was brought with them") } else { Ok(()) }
    }
}

/// Removes the leftovers from all interfaces of this network namespace. Of a qdisc only what a lossprobe had brought,
/// and only if nobody uses it.
///
/// # Errors
/// If the kernel refuses, which it does without `CAP_NET_ADMIN`.
pub fn remove() -> Result<Vec<Removed>> {
    let mut all = Vec::new();
    for (ifindex, qdisc) in clsact::all_in_place().context("list the qdiscs")? {
        // An `ingress` qdisc shows the same filters for both directions.
        let directions = if qdisc == CLSACT_KIND { &Direction::ALL[..] } else { &[Direction::Ingress] };
        let mut removed = Vec::new();
        for direction in directions {
            removed.extend(filter::remove(ifindex, *direction, is_leftover)?);
        }
        if removed.is_empty() {
            continue;
        }
        let brought = qdisc == CLSACT_KIND && removed.iter().any(Filter::says_brought);
        let qdisc = brought && clsact::remove_if_unused(ifindex).context("remove the clsact qdisc")?;
        all.push(Removed { ifindex, filters: removed.len(), qdisc });
    }
    Ok(all)
}

fn is_leftover(filter: &Filter) -> bool {
    filter.is_lossprobe() && matches!(is_marked(filter.program), Ok(false))
}
