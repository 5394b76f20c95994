#![allow(unsafe_code)]
//! The two requests that no safe crate offers: making a tun/tap device and speaking GSO to a packet socket. The only
//! `unsafe` of this package.

use std::{
    fs::File,
    mem::size_of_val,
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context as _, Result, ensure};
use nix::{errno::Errno, libc};

/// What a tun/tap device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunKind {
    /// IP packets, no link header.
    Tun,
    /// Ethernet frames.
    Tap,
}

nix::ioctl_write_ptr_bad!(
    /// `linux/if_tun.h`
    tunsetiff,
    libc::TUNSETIFF,
    libc::ifreq
);

/// Makes the tun or tap device `name` in the calling thread's network namespace; it goes away with the file. A write
/// is a packet that the device receives, a read one that it sends.
///
/// # Errors
/// Without CAP_NET_ADMIN, or when the name is taken or longer than 15 bytes.
pub fn open_tun(name: &str, kind: TunKind) -> Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun").context("open /dev/net/tun")?;
    let flags = libc::IFF_NO_PI
        | match kind {
            TunKind::Tun => libc::IFF_TUN,
            TunKind::Tap => libc::IFF_TAP,
        };
    let mut ifr_name = [0; libc::IFNAMSIZ];
    ensure!(name.len() < ifr_name.len(), "interface name {name:?} is too long");
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: TUNSETIFF reads one `ifreq` whose name ends in NUL (checked above) and whose flags are set; it is alive
    // during the call and the kernel keeps no pointer to it.
    unsafe { tunsetiff(file.as_raw_fd(), &raw const request) }.with_context(|| format!("make {kind:?} {name}"))?;
    Ok(file)
}

/// From now on every frame sent and received on the packet socket starts with a 10-byte `virtio_net_hdr`.
///
/// # Errors
/// When `socket` is not a packet socket.
pub fn use_virtio_headers(socket: impl AsFd) -> Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open for the call (borrowed), and the pointer is to `length` readable bytes of a local.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, (&raw const on).cast(), length)
    };
    Errno::result(result).context("PACKET_VNET_HDR")?;
    Ok(())
}
