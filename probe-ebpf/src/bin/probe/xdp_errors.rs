//! `xdp:*`: frames that XDP programs, whoever has loaded them, wanted to go somewhere and that were lost on the way.
//!
//! What a program drops by its own will (`XDP_DROP`) passes none of these tracepoints. Frames of other namespaces are
//! counted without an interface.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::abi::{Fault, FaultKey};

use crate::{
    context::KernelObject,
    drops::netns_of,
    maps::{self, offset},
};

/// `(dev, prog, act)`, on all kernels.
#[btf_tracepoint(function = "xdp_exception")]
fn lossprobe_xexce(context: BtfTracePointContext) -> i32 {
    count_of(KernelObject::new(context.arg(0)), Fault::exception(context.arg(2)), 1);
    0
}

/// `(dev, prog, tgt, err, …)`; what follows differs before and after 5.12 and is not read.
#[btf_tracepoint(function = "xdp_redirect_err")]
fn lossprobe_xredi(context: BtfTracePointContext) -> i32 {
    count_of(KernelObject::new(context.arg(0)), Fault::Redirect, 1);
    0
}

/// `(from_dev, to_dev, sent, drops, err)` for each batch of up to 16 frames, also when all were sent.
#[btf_tracepoint(function = "xdp_devmap_xmit")]
fn lossprobe_xdevm(context: BtfTracePointContext) -> i32 {
    let drops = context.arg::<u32>(3);
    if drops != 0 {
        count_of(KernelObject::new(context.arg(1)), Fault::Devmap, drops);
    }
    0
}

/// `(dev, sent, drops, err)` for each batch that a driver sends back for programs, also when all were sent.
#[btf_tracepoint(function = "xdp_bulk_tx")]
fn lossprobe_xbulk(context: BtfTracePointContext) -> i32 {
    let drops = context.arg::<u32>(2);
    if drops != 0 {
        count_of(KernelObject::new(context.arg(0)), Fault::Tx, drops);
    }
    0
}

/// `(map_id, processed, drops, to_cpu)` for each batch of up to 8 frames. No device is told.
#[btf_tracepoint(function = "xdp_cpumap_enqueue")]
fn lossprobe_xcpum(context: BtfTracePointContext) -> i32 {
    let drops = context.arg::<u32>(2);
    if drops != 0 {
        count(0, Fault::Cpumap, drops);
    }
    0
}

#[inline(always)]
fn count_of(device: KernelObject, fault: Fault, frames: u32) {
    let own = netns_of(device.object_at(offset!(net_device_nd_net))) == maps::netns();
    count(if own { device.u32_at(offset!(net_device_ifindex)) } else { 0 }, fault, frames);
}

#[inline(always)]
fn count(ifindex: u32, fault: Fault, frames: u32) {
    if maps::is_active() {
        maps::count_fault(&FaultKey { ifindex, fault: fault as u8, pad: [0; 3] }, u64::from(frames));
    }
}
