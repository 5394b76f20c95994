//! `tcp:tcp_retransmit_skb` and `tcp:tcp_retransmit_synack`: what sockets of the agent's namespace send again, in
//! segments.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::abi::{Retransmit, RetransmitKey};

use crate::{
    context::KernelObject,
    drops::{netns_of, segments},
    events,
    maps::{self, offset},
};

/// Without the attempt's error: `(sk, skb)`, fired only when it succeeded.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn lossprobe_retx2(context: BtfTracePointContext) -> i32 {
    observe_segment(KernelObject::new(context.arg(0)), KernelObject::new(context.arg(1)));
    0
}

/// With it: `(sk, skb, err)`. A failed attempt put nothing on the wire.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn lossprobe_retx3(context: BtfTracePointContext) -> i32 {
    if context.arg::<i32>(2) == 0 {
        observe_segment(KernelObject::new(context.arg(0)), KernelObject::new(context.arg(1)));
    }
    0
}

/// `(sk, req)`: the listening socket answers a connection request again.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn lossprobe_synac(context: BtfTracePointContext) -> i32 {
    if count(KernelObject::new(context.arg(0)), Retransmit::SynAck, 1) {
        events::show_retransmit(KernelObject::new(context.arg(1)), None, Retransmit::SynAck, 1);
    }
    0
}

#[inline(always)]
fn observe_segment(socket: KernelObject, skb: KernelObject) {
    const TCP_SYN_SENT: u8 = 2;
    let kind = match socket.u8_at(offset!(sock_skc_state)) {
        TCP_SYN_SENT => Retransmit::Syn,
        _ => Retransmit::Unknown,
    };
    let segments = segments(skb);
    if count(socket, kind, segments) {
        events::show_retransmit(socket, Some(skb), kind, segments);
    }
}

/// `false`: not for us to count.
#[inline(always)]
fn count(socket: KernelObject, kind: Retransmit, segments: u64) -> bool {
    if !maps::is_active() || netns_of(socket.object_at(offset!(sock_skc_net))) != maps::settings().netns {
        return false;
    }
    let route = socket.object_at(offset!(sock_sk_dst_cache));
    let ifindex =
        if route.is_null() { 0 } else { route.object_at(offset!(dst_entry_dev)).u32_at(offset!(net_device_ifindex)) };
    let key = RetransmitKey { ifindex, kind: kind as u8, pad: [0; 3] };
    maps::count_retransmit(&key, segments);
    true
}
