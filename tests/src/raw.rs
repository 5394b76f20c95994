#![allow(unsafe_code)]
//! The requests that no safe crate offers: making a tun/tap device, speaking GSO to a packet socket, and loading and
//! attaching a program of somebody else's, instruction by instruction. The only `unsafe` of this package.

use std::{
    fs::File,
    mem::size_of_val,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};

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

/// `struct bpf_insn` as a number; `registers` is the target, and the source shifted by 4.
#[must_use]
pub const fn instruction(code: u8, registers: u8, offset: i16, value: i32) -> u64 {
    code as u64 | (registers as u64) << 8 | (offset as u16 as u64) << 16 | (value as u32 as u64) << 32
}

/// The two instructions that put a map into a register.
#[must_use]
pub fn map_into(register: u8, map: impl AsFd) -> [u64; 2] {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    [instruction(0x18, register | BPF_PSEUDO_MAP_FD << 4, 0, map.as_fd().as_raw_fd()), 0]
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_SCHED_CLS`
    Tc = 3,
    /// `BPF_PROG_TYPE_XDP`
    Xdp = 6,
}

/// Loads a program of these [`instruction`]s without a licence.
///
/// # Errors
/// When the verifier refuses it, or without CAP_BPF.
pub fn load_program(kind: ProgramKind, instructions: &[u64]) -> Result<OwnedFd> {
    // Below 5.11 programs are locked memory; later kernels, where raising it may be forbidden, do not ask.
    let _unasked = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
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
    let request = Request {
        kind: kind as u32,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"none".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: 0,
    };
    // SAFETY: the request is plain data; its two pointers are to `count` instructions of the caller's slice and to a
    // literal that ends in NUL, both alive during the call.
    unsafe { bpf(BPF_PROG_LOAD, &request) }.with_context(|| format!("load a program for {kind:?}"))
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

/// How an XDP program gets the frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum XdpPlace {
    /// `XDP_FLAGS_SKB_MODE`: from the kernel.
    Generic = 2,
    /// `XDP_FLAGS_DRV_MODE`: from the driver.
    Native = 4,
}

/// Attaches an XDP program to the interface `ifindex` of the calling thread's network namespace, until the link is
/// closed.
///
/// # Errors
/// When there is no such interface, or its driver refuses.
pub fn attach_xdp(program: impl AsFd, ifindex: u32, place: XdpPlace) -> Result<OwnedFd> {
    /// What `BPF_LINK_CREATE` reads for XDP.
    #[repr(C)]
    struct Request {
        program: u32,
        ifindex: u32,
        hook: u32,
        flags: u32,
    }
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_XDP: u32 = 37;
    let program = u32::try_from(program.as_fd().as_raw_fd())?;
    let request = Request { program, ifindex, hook: BPF_XDP, flags: place as u32 };
    // SAFETY: the request is plain data without pointers.
    unsafe { bpf(BPF_LINK_CREATE, &request) }.with_context(|| format!("attach XDP to interface {ifindex}"))
}

/// Makes a map (`BPF_MAP_TYPE_CPUMAP`) with one entry: a queue of `frames` frames to the CPU `cpu`.
///
/// # Errors
/// When there is no such CPU, or without CAP_NET_ADMIN.
pub fn queue_to_cpu(cpu: u32, frames: u32) -> Result<OwnedFd> {
    /// What `BPF_MAP_CREATE` reads; fields behind these are zero.
    #[repr(C)]
    struct Create {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
    }
    /// What `BPF_MAP_UPDATE_ELEM` reads.
    #[repr(C)]
    struct Update {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    const BPF_MAP_TYPE_CPUMAP: u32 = 16;
    let create = Create { kind: BPF_MAP_TYPE_CPUMAP, key_bytes: 4, value_bytes: 4, entries: cpu + 1 };
    // SAFETY: the request is plain data without pointers.
    let map = unsafe { bpf(BPF_MAP_CREATE, &create) }.context("make a map of CPUs")?;
    let (key, value) = (&raw const cpu as u64, &raw const frames as u64);
    let update = Update { map: u64::try_from(map.as_raw_fd())?, key, value, flags: 0 };
    // SAFETY: the request is plain data, its pointers are to 4 bytes each of this function's arguments.
    unsafe { command(BPF_MAP_UPDATE_ELEM, &update) }.with_context(|| format!("put CPU {cpu} into a map"))?;
    Ok(map)
}

/// The bpf(2) calls that answer with a new descriptor.
///
/// # Safety
/// `request` is what `command` reads, and its pointers are valid during the call.
unsafe fn bpf<T>(number: libc::c_int, request: &T) -> Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { command(number, request) }?;
    // SAFETY: these commands answer with a descriptor that they have just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.try_into()?) })
}

/// Any bpf(2) call.
///
/// # Safety
/// As for [`bpf`].
unsafe fn command<T>(number: libc::c_int, request: &T) -> Result<libc::c_long> {
    // SAFETY: the kernel reads `size` bytes of the request, which is borrowed; the caller vouches for its pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, number, std::ptr::from_ref(request), size_of::<T>()) };
    Ok(Errno::result(result)?)
}
