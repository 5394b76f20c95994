//! `tcp:tcp_bad_csum`: segments for this namespace whose TCP checksum is wrong, by the interface that brought them.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::abi::{Fault, FaultKey};

use crate::{
    context::KernelObject,
    drops::{attribute, segments},
    maps,
};

/// `(skb)`, since 5.14.
#[btf_tracepoint(function = "tcp_bad_csum")]
fn lossprobe_tcsum(context: BtfTracePointContext) -> i32 {
    if maps::is_active() {
        let skb = KernelObject::new(context.arg(0));
        let (netns, ifindex) = attribute(skb, KernelObject::NULL);
        if netns == maps::netns() {
            maps::count_fault(&FaultKey { ifindex, fault: Fault::TcpBadChecksum as u8, pad: [0; 3] }, segments(skb));
        }
    }
    0
}
