//! Two commands of bpf(2) that the library does otherwise. Which programs are on a tcx hook, by number: the library's own
//! query opens every program it finds, which needs `CAP_SYS_ADMIN`; the numbers alone need only `CAP_NET_ADMIN`. And a
//! native XDP link: where the kernel refuses one, the library attaches in a way that outlives the process.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper for these commands")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{XDP_FLAGS_DRV_MODE, bpf_attach_type, bpf_attr, bpf_cmd};
use nix::libc;
use probe_ebpf::abi::Direction;

/// Programs of one hook that are shown; the kernel allows 64 (`BPF_MPROG_MAX`).
const MOST_PROGRAMS: usize = 64;

/// Numbers of the programs on the tcx hook of an interface, in the order in which they run.
///
/// # Errors
/// `EINVAL` where the kernel has no tcx, `ENODEV` if the interface is gone, `EPERM` without the capability.
pub fn tcx_programs(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let mut numbers = [0_u32; MOST_PROGRAMS];
    // SAFETY: all-zero bytes are a valid value of this union of plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.query.__bindgen_anon_1.target_ifindex = ifindex;
    attributes.query.__bindgen_anon_2.prog_cnt = MOST_PROGRAMS as u32;
    attributes.query.prog_ids = numbers.as_mut_ptr() as u64;
    attributes.query.attach_type = match direction {
        Direction::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Direction::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    } as u32;
    // SAFETY: the command reads and writes `attributes`, whose size is given, and writes at most `prog_cnt` numbers to
    // `prog_ids`; both live until the call returns.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_QUERY, &raw mut attributes, size_of::<bpf_attr>()) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has set it.
    let found = unsafe { attributes.query.__bindgen_anon_2.prog_cnt };
    Ok(numbers[..(found as usize).min(MOST_PROGRAMS)].to_vec())
}

/// Attaches an XDP program natively, as a link that ends with the descriptor.
///
/// # Errors
/// The kernel's, and the driver's.
pub fn link_native_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: all-zero bytes are a valid value of this union of plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attributes.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attributes.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attributes.link_create.flags = XDP_FLAGS_DRV_MODE;
    // SAFETY: the command only reads `attributes`, whose size is given and which holds no pointer.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_LINK_CREATE, &raw mut attributes, size_of::<bpf_attr>()) };
    match RawFd::try_from(outcome) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
