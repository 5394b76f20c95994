//! `tcp:tcp_retransmit_skb` and `tcp:tcp_retransmit_synack`: what sockets of the agent's namespace send again, in
//! segments.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::abi::{ABSENT, Retransmit, RetransmitKey};

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

/// `(sk, req)`: a listening socket, or one made by Fast Open, answers a connection request again. The route of each answer
/// is asked for anew and kept nowhere; the request knows an interface only where it is bound to one (by its listener, a
/// VRF, or a link-local address).
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn lossprobe_synac(context: BtfTracePointContext) -> i32 {
    let (socket, request) = (KernelObject::new(context.arg(0)), KernelObject::new(context.arg(1)));
    if is_own(socket) {
        let ifindex = match route_of(socket) {
            0 if offset!(request_sock_skc_bound_dev_if) != ABSENT => {
                request.u32_at(offset!(request_sock_skc_bound_dev_if))
            }
            ifindex => ifindex,
        };
        count((request, None), &key(ifindex, Retransmit::SynAck), 1);
    }
    0
}

#[inline(always)]
fn observe_segment(socket: KernelObject, skb: KernelObject) {
    if is_own(socket) {
        count((socket, Some(skb)), &key(route_of(socket), occasion(socket)), segments(skb));
    }
}

/// Whether it is for us to count.
#[inline(always)]
fn is_own(socket: KernelObject) -> bool {
    maps::is_active() && netns_of(socket.object_at(offset!(sock_skc_net))) == maps::netns()
}

/// Interface index of the route that the socket has just used, 0 if it keeps none.
#[inline(always)]
fn route_of(socket: KernelObject) -> u32 {
    let route = socket.object_at(offset!(sock_sk_dst_cache));
    if route.is_null() { 0 } else { route.object_at(offset!(dst_entry_dev)).u32_at(offset!(net_device_ifindex)) }
}

/// Why a segment is sent again, by the state in which the kernel does it (`tcp_xmit_retransmit_queue` and
/// `tcp_send_loss_probe` in net/ipv4).
#[inline(always)]
fn occasion(socket: KernelObject) -> Retransmit {
    const TCP_SYN_SENT: u8 = 2;
    const TCP_SYN_RECV: u8 = 3;
    // `enum tcp_ca_state`, linux/tcp.h: all of them fit into three bits.
    const TCP_CA_RECOVERY: u8 = 3;
    const TCP_CA_LOSS: u8 = 4;
    // Set until the probe is sent. A macro, hence in no type information.
    const ICSK_TIME_LOSS_PROBE: u8 = 5;
    match socket.u8_at(offset!(sock_skc_state)) {
        TCP_SYN_SENT => return Retransmit::Syn,
        TCP_SYN_RECV => return Retransmit::SynAck,
        _ => {}
    }
    if offset!(inet_connection_sock_icsk_ca_state) == ABSENT || offset!(inet_connection_sock_icsk_pending) == ABSENT {
        return Retransmit::Unknown;
    }
    let Some(socket) = socket.as_tcp_socket() else { return Retransmit::Unknown };
    let state =
        socket.u8_at(offset!(inet_connection_sock_icsk_ca_state)) >> offset!(inet_connection_sock_icsk_ca_state_shift);
    match state & 7 {
        TCP_CA_RECOVERY => Retransmit::Fast,
        TCP_CA_LOSS => Retransmit::Timeout,
        _ if socket.u8_at(offset!(inet_connection_sock_icsk_pending)) == ICSK_TIME_LOSS_PROBE => Retransmit::TailProbe,
        _ => Retransmit::Unknown,
    }
}

#[inline(always)]
const fn key(ifindex: u32, kind: Retransmit) -> RetransmitKey {
    RetransmitKey { ifindex, kind: kind as u8, pad: [0; 3] }
}

#[inline(always)]
fn count((endpoints, skb): (KernelObject, Option<KernelObject>), key: &RetransmitKey, segments: u64) {
    maps::count_retransmit(key, segments);
    events::show_retransmit(endpoints, skb, key, segments);
}
