//! All pointers into packets and kernel objects. What leaves this file is values.
#![allow(unsafe_code)]

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET, xdp_md},
    helpers::{
        bpf_csum_diff, bpf_csum_level, bpf_probe_read_kernel, bpf_skb_load_bytes, bpf_skb_load_bytes_relative,
        bpf_skc_to_tcp_sock, generated::bpf_probe_read_kernel as gen_probe_read_kernel,
    },
    programs::{TcContext, XdpContext},
};
use probe_ebpf::{
    abi::{EVIDENCE_BYTES, GLIMPSE_BYTES, PIECE_BYTES, Scratch, Slot, WINDOW_BYTES},
    classify::Meta,
    frame::Frame,
};

use crate::judge::Hooked;

/// `value & 0xff`, see [`masked`].
#[inline(always)]
fn mask(value: u64) -> u64 {
    masked::<255>(value)
}

/// `value & MASK` that the compiler cannot remove: it may know that the value is small, older verifiers do not.
#[inline(always)]
pub(crate) fn masked<const MASK: u64>(mut value: u64) -> u64 {
    // SAFETY: one AND on a register.
    unsafe { asm!("{0} &= {1}", inout(reg) value, const MASK, options(pure, nomem, nostack)) };
    value
}

/// See [`Frame::is_equal`].
#[inline(always)]
fn is_equal(a: u64, b: u64) -> usize {
    let mut difference = a ^ b;
    // SAFETY: arithmetic on a register: 0 alone has, less one, the highest bit.
    unsafe { asm!("{0} += -1", "{0} >>= 63", inout(reg) difference, options(pure, nomem, nostack)) };
    difference as usize
}

/// A number that the compiler does not know and the verifier does.
#[inline(always)]
pub(crate) fn opaque<const NUMBER: usize>() -> usize {
    let number;
    // SAFETY: one move to a register.
    unsafe { asm!("{0} = {1}", out(reg) number, const NUMBER, options(pure, nomem, nostack)) };
    number
}

/// All of `state` is in memory behind this, nothing of it in registers.
#[inline(always)]
pub(crate) fn settle<T>(state: &mut T) {
    // SAFETY: one move of a register to itself; the compiler has to believe that it reads and writes `state`. (Without
    // an instruction two lines of source would stand at one place, which the kernel refuses.)
    unsafe { asm!("{0} = {0}", in(reg) &raw mut *state, options(nostack)) };
}

/// What was written before this is in memory before what is written or read behind it. (Of other CPUs x86 and the
/// memory that one connection's directions share ask no more.)
#[inline(always)]
pub(crate) fn barrier() {
    // SAFETY: one move of a register to itself; the compiler has to believe that it reads and writes memory.
    unsafe { asm!("{0} = {0}", inout(reg) 0_u64 => _, options(nostack)) };
}

/// The frame under a tc hook.
pub(crate) struct TcFrame {
    skb: *mut __sk_buff,
}

impl TcFrame {
    #[inline(always)]
    pub(crate) fn new(context: &TcContext) -> Self {
        Self::at(context.as_ptr().cast())
    }

    /// With the context that the kernel has handed over.
    #[inline(always)]
    pub(crate) const fn at(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    /// See [`Self::at`].
    #[inline(always)]
    pub(crate) const fn as_ptr(&self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the program's whole run; the verifier checks each field.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).len }
    }

    /// EtherType of the network header.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        // SAFETY: as in `ifindex`.
        unsafe { u16::from_be((*self.skb).protocol as u16) }
    }

    /// The frame's circumstances on the device of `slot`.
    #[inline(always)]
    pub(crate) fn meta(&self, slot: &Slot, flags: u8, first_protocol: u16) -> Meta {
        // SAFETY: as in `ifindex`.
        let (frame_bytes, gso_size, tagged) =
            unsafe { ((*self.skb).len, (*self.skb).gso_size, (*self.skb).vlan_present) };
        let (tag_protocol, tag_control) = if tagged == 0 {
            (0, 0)
        } else {
            // SAFETY: as in `ifindex`.
            unsafe { (u16::from_be((*self.skb).vlan_proto as u16), (*self.skb).vlan_tci as u16) }
        };
        Meta {
            frame_bytes,
            gso_size,
            mtu_bytes: slot.mtu_bytes,
            tag_protocol,
            tag_control,
            first_protocol,
            flags,
            pad: 0,
            tunnels: slot.tunnels,
        }
    }

    /// Addresses of the first byte and behind the last that lies in one piece.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: as in `ifindex`.
        unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) }
    }

    /// Copies `bytes` (1 to `N`, a power of two) from offset `at` on.
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32, to: *mut u8, bytes: u64, from_network_header: bool) -> Option<u64> {
        const { assert!(N.is_power_of_two() && N <= EVIDENCE_BYTES) };
        let bytes = loaded::<N>(bytes);
        // SAFETY: at most `N` bytes, for which every caller has room; the helper checks the offset.
        let failed = unsafe {
            if from_network_header {
                bpf_skb_load_bytes_relative(self.skb.cast(), at, to.cast(), bytes as u32, BPF_HDR_START_NET)
            } else {
                bpf_skb_load_bytes(self.skb.cast(), at, to.cast(), bytes as u32)
            }
        };
        (failed == 0).then_some(bytes)
    }
}

/// The number itself, if it is 1 to `N`; as 5.10 and 6.1 want it: subtract, mask, add.
#[inline(always)]
fn loaded<const N: usize>(bytes: u64) -> u64 {
    let mut less_one = bytes.wrapping_sub(1);
    // SAFETY: one AND on a register.
    unsafe { asm!("{0} &= {1}", inout(reg) less_one, const N - 1, options(pure, nomem, nostack)) };
    less_one + 1
}

/// Adds the next piece of a frame to a sum. `None` if it is not there.
#[inline(always)]
pub(crate) fn add_up(
    frame: &TcFrame,
    (at, bytes): (u32, u64),
    piece: &mut [u8; PIECE_BYTES + 8],
    sum: u32,
) -> Option<u32> {
    let to = piece.as_mut_ptr();
    let bytes = frame.load::<PIECE_BYTES>(at, to, bytes, false)?;
    // The helper takes multiples of four bytes: what is missing is zero.
    // SAFETY: four bytes behind at most 512 in 520; the mask is for the verifier, which has just seen 1 to 512.
    unsafe { to.add(bytes as usize).cast::<u32>().write_unaligned(0) };
    let rounded = masked::<1020>(bytes + 3) as u32;
    // SAFETY: at most 512 bytes of the piece.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, to.cast(), rounded, sum) };
    // Sums have 32 bits; what is below 0 is an error.
    (sum >= 0).then_some(sum as u32)
}

impl Hooked for TcFrame {
    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).gso_segs }
    }

    #[inline(always)]
    fn capture(&self, scratch: &mut Scratch, from_network_header: bool) -> bool {
        let wanted = u64::from(self.bytes()).min(WINDOW_BYTES as u64);
        if !from_network_header && (Copy { bounds: || self.bounds(), scratch: &mut *scratch, done: 0 }).run() == wanted
        {
            scratch.captured_bytes = wanted;
            return true;
        }
        if wanted == 0 {
            return false;
        }
        // At most 256 bytes into an array of 320.
        let loaded = self.load::<256>(0, scratch.bytes.as_mut_ptr(), wanted, from_network_header);
        scratch.captured_bytes = loaded.unwrap_or(0);
        loaded.is_some()
    }

    #[inline(always)]
    fn copy<const N: usize>(&self, scratch: &Scratch, to: *mut [u8; N], wanted: u64) -> Option<u64> {
        self.load::<N>(0, to.cast(), wanted, scratch.cursor.meta.first_protocol != 0)
    }

    #[inline(always)]
    fn as_packet(&self) -> Option<&TcFrame> {
        Some(self)
    }
}

impl TcFrame {
    /// Whether somebody has looked at the outermost transport checksum, or it is still to be finished.
    #[inline(always)]
    pub(crate) fn is_validated(&self) -> bool {
        const QUERY: u64 = 0;
        // SAFETY: the context is valid; the helper only reads.
        unsafe { bpf_csum_level(self.skb, QUERY) >= 0 }
    }
}

/// The frame under an XDP hook.
pub(crate) struct XdpFrame {
    xdp: *mut xdp_md,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self { xdp: context.as_ptr().cast() }
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the program's whole run; the verifier checks each field.
        unsafe { (*self.xdp).ingress_ifindex }
    }

    /// As [`TcFrame::bounds`].
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: as in `ifindex`.
        unsafe { ((*self.xdp).data as usize, (*self.xdp).data_end as usize) }
    }

    /// The frame's circumstances on the device of `slot`. No segments are merged yet.
    #[inline(always)]
    pub(crate) fn meta(&self, slot: &Slot) -> Meta {
        let (start, mut end) = self.bounds();
        // By hand: the compiler would subtract the 32-bit numbers that the context declares both to be, and the verifier
        // refuses halves of pointers.
        // SAFETY: one subtraction on registers.
        unsafe { asm!("{0} -= {1}", inout(reg) end, in(reg) start, options(pure, nomem, nostack)) };
        Meta {
            frame_bytes: end as u32,
            mtu_bytes: slot.mtu_bytes,
            flags: slot.flags,
            tunnels: slot.tunnels,
            ..Meta::default()
        }
    }
}

impl Hooked for XdpFrame {
    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn capture(&self, scratch: &mut Scratch, _from_network_header: bool) -> bool {
        scratch.captured_bytes = (Copy { bounds: || self.bounds(), scratch: &mut *scratch, done: 0 }).run();
        scratch.captured_bytes != 0
    }

    /// What the classifier has seen: no helper of all kernels reads more.
    #[inline(always)]
    fn copy<const N: usize>(&self, scratch: &Scratch, to: *mut [u8; N], wanted: u64) -> Option<u64> {
        const { assert!(N >= GLIMPSE_BYTES) };
        let bytes = loaded::<GLIMPSE_BYTES>(wanted.min(scratch.captured_bytes));
        // SAFETY: 1 to 256 bytes of 320 into at least as many; both are in maps.
        let failed = unsafe { gen_probe_read_kernel(to.cast(), bytes as u32, scratch.bytes.as_ptr().cast()) };
        (failed == 0).then_some(bytes)
    }

    #[inline(always)]
    fn as_packet(&self) -> Option<&TcFrame> {
        None
    }
}

/// A copy of what lies in one piece of a frame, [`WINDOW_BYTES`] at most: for the short frames that most are, a helper
/// costs several times as much.
struct Copy<'a, B> {
    /// Asked anew for each block: that costs two loads, and the verifier knows of each what it has just compared.
    bounds: B,
    scratch: &'a mut Scratch,
    done: usize,
}

impl<B: Fn() -> (usize, usize)> Copy<'_, B> {
    /// Returns how many bytes lay there.
    #[inline(always)]
    fn run(mut self) -> u64 {
        const { assert!(WINDOW_BYTES == 3 * 64) };
        if self.block(64, words::<8>) && self.block(64, words::<8>) && self.block(64, words::<8>) {
            return self.done as u64;
        }
        self.block(32, words::<4>);
        self.forget();
        self.block(16, words::<2>);
        self.block(8, words::<1>);
        self.block(4, one::<u32>);
        self.block(2, one::<u16>);
        // The compiler makes of `start + 1 > end` a comparison from which no verifier derives a byte.
        self.block(opaque::<1>(), one::<u8>);
        self.done as u64
    }

    /// Makes the verifier forget `done`: it would follow all ways through the rest from each of its numbers.
    #[inline(always)]
    fn forget(&mut self) {
        self.scratch.captured_bytes = self.done as u64;
        settle(self.scratch);
        self.done = mask(self.scratch.captured_bytes) as usize;
    }

    #[inline(always)]
    fn block(&mut self, bytes: usize, copy: impl FnOnce(*const u8, *mut u8)) -> bool {
        let (start, end) = (self.bounds)();
        let start = start + self.done;
        if start + bytes > end {
            return false;
        }
        // SAFETY: `done` is at most 255 (the verifier's bound; in truth less than 192), and the array has 320 bytes.
        copy(start as *const u8, unsafe { self.scratch.bytes.as_mut_ptr().add(self.done) });
        self.done += bytes;
        true
    }
}

/// Copies a number, which need not be aligned.
#[inline(always)]
fn one<T>(from: *const u8, to: *mut u8) {
    // SAFETY: `Copy::block` has compared both with their ends.
    unsafe { to.cast::<T>().write_unaligned(from.cast::<T>().read_unaligned()) };
}

/// Copies words one by one, so that no call is made of it.
#[inline(always)]
fn words<const N: usize>(from: *const u8, to: *mut u8) {
    for word in 0..N {
        // SAFETY: as in `one`.
        one::<u64>(unsafe { from.add(word * 8) }, unsafe { to.add(word * 8) });
    }
}

/// The `N` bytes at a constant offset, which the verifier follows.
#[inline(always)]
fn in_place<'a, const N: usize>((start, end): (usize, usize), at: usize) -> Option<&'a [u8; N]> {
    let start = start + at;
    if start + N > end {
        return None;
    }
    // SAFETY: an address of the kernel's. (Without this it would be compared with 0, which is what `None` is here.)
    unsafe { core::hint::assert_unchecked(start != 0) };
    // SAFETY: the `N` bytes from `start` were just compared with the packet's end, and the packet outlives the program.
    Some(unsafe { &*(start as *const [u8; N]) })
}

/// Frames that are read where they lie.
macro_rules! read_in_place {
    ($($frame:ty),+) => {$(
        impl Frame for $frame {
            #[inline(always)]
            fn read<const N: usize>(&self, _at: usize) -> Option<[u8; N]> {
                None
            }

            #[inline(always)]
            fn at<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
                in_place(self.bounds(), at)
            }

            #[inline(always)]
            fn look_again(&self) {
                barrier();
            }

            #[inline(always)]
            fn is_equal(&self, a: u64, b: u64) -> usize {
                is_equal(a, b)
            }
        }
    )+};
}

read_in_place!(TcFrame, XdpFrame);

/// The bytes that were copied into the scratch space.
pub(crate) struct Window<'a> {
    pub(crate) bytes: &'a [u8; 320],
    pub(crate) captured_bytes: u64,
}

impl Frame for Window<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at as u64 + N as u64 > self.captured_bytes {
            return None;
        }
        // SAFETY: the masked offset is at most 255, and 255 + N is inside the 320 bytes.
        Some(unsafe { self.bytes.as_ptr().add(mask(at as u64) as usize).cast::<[u8; N]>().read() })
    }

    #[inline(always)]
    fn at<const N: usize>(&self, _at: usize) -> Option<&[u8; N]> {
        None
    }

    #[inline(always)]
    fn settle<T>(&self, state: &mut T) {
        settle(state);
    }
}

/// An object of the kernel whose type the verifier knows (an argument of a `tp_btf` program, or what it points to).
#[derive(Clone, Copy)]
pub(crate) struct KernelObject(*const u8);

impl KernelObject {
    pub(crate) const NULL: Self = Self(core::ptr::null());

    #[inline(always)]
    pub(crate) fn new(pointer: *const core::ffi::c_void) -> Self {
        Self(pointer.cast())
    }

    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Whether the pointer is one into the kernel: the upper half of the address space.
    #[inline(always)]
    pub(crate) fn is_kernel_address(self) -> bool {
        (self.0 as i64) < 0
    }

    #[inline(always)]
    pub(crate) fn u8_at(self, offset: u32) -> u8 {
        // SAFETY: the verifier accepts the read only if a scalar of this size stands at the offset in the object's
        // type; a bad address reads as 0. Volatile keeps LLVM from merging or widening it.
        unsafe { self.0.add(offset as usize).read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn u16_at(self, offset: u32) -> u16 {
        // SAFETY: as in `u8_at`.
        unsafe { self.0.add(offset as usize).cast::<u16>().read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn u32_at(self, offset: u32) -> u32 {
        // SAFETY: as in `u8_at`.
        unsafe { self.0.add(offset as usize).cast::<u32>().read_volatile() }
    }

    /// A word that is not a typed pointer.
    #[inline(always)]
    pub(crate) fn word_at(self, offset: u32) -> u64 {
        // SAFETY: as in `u8_at`.
        unsafe { self.0.add(offset as usize).cast::<u64>().read_volatile() }
    }

    /// A socket as the kernel's `tcp_sock`, of which it is the first part: the verifier knows no field behind it else.
    /// `None` if it is no full TCP socket.
    #[inline(always)]
    pub(crate) fn as_tcp_socket(self) -> Option<Self> {
        // SAFETY: the verifier accepts the call only for a socket; the helper looks at what it is.
        let socket = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        (!socket.is_null()).then_some(Self(socket.cast_const().cast()))
    }

    /// What the pointer at `offset` points to.
    #[inline(always)]
    pub(crate) fn object_at(self, offset: u32) -> Self {
        // SAFETY: as in `u8_at`.
        Self(unsafe { self.0.add(offset as usize).cast::<*const u8>().read_volatile() })
    }
}

/// A value at an address that has no type for the verifier. `None` where nothing can be read.
#[inline(always)]
pub(crate) fn untyped<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Copies `wanted` bytes, 128 at most, from an address that has no type for the verifier. Returns how many: all or none.
#[inline(always)]
pub(crate) fn copy_untyped(address: u64, wanted: u64, to: &mut [u8; 128]) -> u32 {
    if wanted == 0 {
        return 0;
    }
    let bytes = (masked::<127>(wanted.wrapping_sub(1)) + 1) as u32;
    // SAFETY: 1 to 128 bytes into an array of as many; the helper checks the address.
    let failed = unsafe { gen_probe_read_kernel(to.as_mut_ptr().cast(), bytes, address as *const _) };
    if failed == 0 { bytes } else { 0 }
}
