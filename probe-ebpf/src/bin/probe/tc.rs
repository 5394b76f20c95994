//! tc ingress and egress: every frame of a counted interface, judged and counted, then passed on untouched.

use aya_ebpf::{macros::classifier, programs::TcContext};
use probe_ebpf::{
    abi::{Direction, traffic_index},
    classify::{FROM_WIRE, LinkKind},
};

use crate::{
    context::TcFrame,
    judge::{self, Point},
    maps,
};

/// `TC_ACT_UNSPEC`, `TCX_NEXT`: whoever is next decides.
pub(crate) const CONTINUE: i32 = -1;

// Inlined into what the macro makes around it: a call would cost 8 ns of each frame.
#[classifier]
#[inline(always)]
fn lossprobe_in(context: TcContext) -> i32 {
    observe(&context, Direction::Ingress);
    CONTINUE
}

#[classifier]
#[inline(always)]
fn lossprobe_out(context: TcContext) -> i32 {
    observe(&context, Direction::Egress);
    CONTINUE
}

#[inline(always)]
fn observe(context: &TcContext, direction: Direction) {
    if !maps::is_active() {
        return;
    }
    let frame = TcFrame::new(context);
    let Some(slot) = maps::slot_of(frame.ifindex()) else { return };
    let Some(traffic) = maps::traffic(traffic_index(slot.slot, direction)) else { return };
    let flags = match direction {
        Direction::Ingress => slot.flags,
        Direction::Egress => slot.flags & !FROM_WIRE,
    };
    let point = Point { slot, traffic, direction };
    // A packet that nobody gave a protocol is not looked into.
    let (first_protocol, is_opaque) = if slot.link_kind == LinkKind::Ethernet as u8 {
        (0, false)
    } else {
        let starts_with_network = slot.link_kind == LinkKind::Network as u8
            || (slot.link_kind == LinkKind::NetworkIngress as u8 && direction == Direction::Ingress);
        let protocol = if starts_with_network { frame.protocol() } else { 0 };
        (protocol, protocol == 0)
    };
    let meta = frame.meta(slot, flags, first_protocol);
    if is_opaque {
        judge::count_opaque(&frame, &meta, point);
    } else {
        judge::judge(context, &frame, &meta, point);
    }
}
