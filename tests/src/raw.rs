#![allow(unsafe_code)]
//! The requests that no safe crate offers: making a tun/tap device, speaking GSO to a packet socket, and loading and
//! attaching a program of somebody else's, instruction by instruction. The only `unsafe` of this package.

use std::{
    fs::File,
    mem::{offset_of, size_of_val},
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};

use crate::wait::{HELD, eventually};

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
    load(Load { kind: kind as u32, ..Load::default() }, instructions, &[])
        .with_context(|| format!("load a program for {kind:?}"))
}

/// What `BPF_PROG_LOAD` reads; what is not named stays zero.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: u64,
    name: [u64; 2],
    ifindex_and_attach_type: u64,
    types: u32,
    function_bytes: u32,
    functions: u64,
    function_count: u32,
    lines: [u32; 4],
    replaces_type: u32,
    replaces: u32,
    padding: u32,
}

const _: () = assert!(offset_of!(Load, functions) == 80 && offset_of!(Load, replaces) == 112);

/// Where a function begins, and its type.
#[repr(C)]
#[derive(Clone, Copy)]
struct Function {
    at: u32,
    type_id: u32,
}

fn load(request: Load, instructions: &[u64], functions: &[Function]) -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    // Below 5.11 programs are locked memory; later kernels, where raising it may be forbidden, do not ask.
    let _unasked = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let request = Load {
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"none".as_ptr() as u64,
        function_bytes: if functions.is_empty() { 0 } else { size_of::<Function>() as u32 },
        functions: functions.as_ptr() as u64,
        function_count: u32::try_from(functions.len())?,
        ..request
    };
    // SAFETY: the request is plain data; its pointers are to `count` instructions and `function_count` functions of the
    // caller's slices and to a literal that ends in NUL, all of them alive during the call.
    unsafe { bpf(BPF_PROG_LOAD, &request) }
}

/// An XDP program as libxdp's dispatcher is: its answer is that of a part that passes every frame until it is replaced by
/// another program (`freplace`), while it is attached.
pub struct Dispatcher {
    /// What is attached.
    pub program: OwnedFd,
    types: OwnedFd,
}

impl Dispatcher {
    /// Loads it.
    ///
    /// # Errors
    /// Without CAP_BPF.
    pub fn new() -> Result<Self> {
        const PART: u32 = 2;
        const XDP_PASS: i32 = 2;
        const EXIT: u64 = instruction(0x95, 0, 0, 0);
        let types = load_types(&dispatcher_types()).context("load the types of a dispatcher")?;
        let call_part = instruction(0x85, 1 << 4, 0, 1);
        let instructions = [call_part, EXIT, instruction(0xb7, 0, 0, XDP_PASS), EXIT];
        let functions = [Function { at: 0, type_id: DISPATCH }, Function { at: PART, type_id: REPLACED }];
        let request =
            Load { kind: ProgramKind::Xdp as u32, types: u32::try_from(types.as_raw_fd())?, ..Load::default() };
        Ok(Self { program: load(request, &instructions, &functions).context("load a dispatcher")?, types })
    }

    /// Puts a program of these instructions in the place of the part, until what is returned is closed.
    ///
    /// # Errors
    /// Where the kernel lets no program replace another one.
    pub fn replace(&self, instructions: &[u64]) -> Result<OwnedFd> {
        /// What `BPF_RAW_TRACEPOINT_OPEN` reads.
        #[repr(C)]
        struct Open {
            name: u64,
            program: u64,
        }
        const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
        const BPF_PROG_TYPE_EXT: u32 = 28;
        let request = Load {
            kind: BPF_PROG_TYPE_EXT,
            types: u32::try_from(self.types.as_raw_fd())?,
            replaces_type: REPLACED,
            replaces: u32::try_from(self.program.as_raw_fd())?,
            ..Load::default()
        };
        let program = load(request, instructions, &[Function { at: 0, type_id: REPLACED }]).context("load a part")?;
        let request = Open { name: 0, program: u64::try_from(program.as_raw_fd())? };
        // SAFETY: the request is plain data without pointers.
        unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &request) }.context("replace the part")
    }
}

/// Numbers of the types of [`dispatcher_types`].
const DISPATCH: u32 = 5;
const REPLACED: u32 = 6;

/// `int dispatch(struct xdp_md *ctx)` and `int part(struct xdp_md *ctx)` as `linux/btf.h` has them.
fn dispatcher_types() -> Vec<u8> {
    const HEADER_BYTES: u32 = 24;
    const NAMES: &[u8] = b"\0int\0xdp_md\0ctx\0dispatch\0part\0";
    let [int, xdp_md, ctx, dispatch, part] = [1, 5, 12, 16, 25];
    let kind = |kind: u32, vlen: u32| kind << 24 | vlen;
    // Name, kind, size or type, and what the kind has besides.
    let types: [&[u32]; 6] = [
        &[int, kind(1, 0), 4, 1 << 24 | 32],
        &[xdp_md, kind(4, 0), 24],
        &[0, kind(2, 0), 2],
        &[0, kind(13, 1), 1, ctx, 3],
        &[dispatch, kind(12, 1), 4],
        &[part, kind(12, 1), 4],
    ];
    let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
    let header = [HEADER_BYTES, 0, types.len() as u32, types.len() as u32, NAMES.len() as u32];
    let magic_and_version = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0]].concat();
    [magic_and_version, header.into_iter().flat_map(u32::to_ne_bytes).collect(), types, NAMES.to_vec()].concat()
}

fn load_types(types: &[u8]) -> Result<OwnedFd> {
    /// What `BPF_BTF_LOAD` reads; fields behind these are zero.
    #[repr(C)]
    struct Request {
        types: u64,
        log: u64,
        bytes: u32,
        log_bytes: u32,
    }
    const BPF_BTF_LOAD: libc::c_int = 18;
    let request = Request { types: types.as_ptr() as u64, log: 0, bytes: u32::try_from(types.len())?, log_bytes: 0 };
    // SAFETY: the request is plain data; its pointer is to as many bytes as it says, borrowed for the call.
    unsafe { bpf(BPF_BTF_LOAD, &request) }
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
    let attach = || unsafe { bpf(BPF_LINK_CREATE, &request) };
    let attached = eventually(HELD, "nobody else is there", || match attach() {
        Err(error) if error.downcast_ref() == Some(&Errno::EBUSY) => Err(error),
        outcome => Ok(outcome),
    });
    attached.and_then(|outcome| outcome).with_context(|| format!("attach XDP to interface {ifindex}"))
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
