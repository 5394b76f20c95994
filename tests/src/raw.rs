#![allow(unsafe_code)]
//! The requests that no safe crate offers: making a tun/tap device, speaking GSO to a packet socket, and loading and
//! attaching a program of somebody else's, instruction by instruction. The only `unsafe` of this package.

use std::{
    fs::File,
    mem::size_of_val,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
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
    /// Ethernet frames behind a `virtio_net_hdr` of 10 bytes each, as virtual machines use it.
    GuestTap,
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
            TunKind::GuestTap => libc::IFF_TAP | libc::IFF_VNET_HDR,
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

/// Loads a tc program of these instructions (`struct bpf_insn` as a number) without a licence.
///
/// # Errors
/// When the verifier refuses it, or without CAP_BPF.
pub fn load_tc_program(instructions: &[u64]) -> Result<OwnedFd> {
    /// What `BPF_PROG_LOAD` reads; fields behind these are zero.
    #[repr(C)]
    struct Request {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
        version_and_flags: u64,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    let request = Request {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"none".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: 0,
    };
    // SAFETY: the request is plain data; its two pointers are to `count` instructions of the caller's slice and to a
    // literal that ends in NUL, both alive during the call.
    unsafe { bpf(BPF_PROG_LOAD, &request) }.context("load a tc program")
}

/// Which tcx hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TcxHook {
    /// `BPF_TCX_INGRESS`
    Ingress = 46,
    /// `BPF_TCX_EGRESS`
    Egress = 47,
}

/// Where among the programs of a hook a new one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TcxPlace {
    /// Behind all that are there: without a flag.
    Last = 0,
    /// Before all that are there: `BPF_F_BEFORE`, relative to none.
    First = 8,
}

/// Attaches a tc program to the interface `ifindex` of the calling thread's network namespace, until the link is closed.
///
/// # Errors
/// When there is no such interface, or no tcx (before Linux 6.6).
pub fn attach_tcx(program: impl AsFd, ifindex: u32, hook: TcxHook, place: TcxPlace) -> Result<OwnedFd> {
    /// What `BPF_LINK_CREATE` reads for tcx.
    #[repr(C)]
    struct Request {
        program: u32,
        ifindex: u32,
        hook: u32,
        flags: u32,
        relative_to: u64,
        expected_revision: u64,
    }
    const BPF_LINK_CREATE: libc::c_int = 28;
    let program = u32::try_from(program.as_fd().as_raw_fd())?;
    let request =
        Request { program, ifindex, hook: hook as u32, flags: place as u32, relative_to: 0, expected_revision: 0 };
    // SAFETY: the request is plain data without pointers.
    unsafe { bpf(BPF_LINK_CREATE, &request) }.with_context(|| format!("attach to {hook:?} of interface {ifindex}"))
}

/// The bpf(2) calls that answer with a new descriptor.
///
/// # Safety
/// `request` is what `command` reads, and its pointers are valid during the call.
unsafe fn bpf<T>(command: libc::c_int, request: &T) -> Result<OwnedFd> {
    // SAFETY: the kernel reads `size` bytes of the request, which is borrowed; the caller vouches for its pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(request), size_of::<T>()) };
    let fd = Errno::result(result)?;
    // SAFETY: both commands answer with a descriptor that they have just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.try_into()?) })
}
