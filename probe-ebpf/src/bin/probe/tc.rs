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
    let first_protocol = match (slot.link_kind, direction) {
        (kind, _) if kind == LinkKind::Ethernet as u8 => Some(0),
        (kind, _) if kind == LinkKind::Network as u8 => named(frame.protocol()),
        (kind, Direction::Ingress) if kind == LinkKind::NetworkIngress as u8 => named(frame.protocol()),
        _ => None,
    };
    let meta = frame.meta(slot, flags, first_protocol.unwrap_or(0));
    let point = Point { slot, traffic, direction };
    match first_protocol {
        Some(_) => judge::judge(context, &frame, &meta, point),
        None => judge::count_opaque(&frame, &meta, point),
    }
}

/// A packet that nobody gave a protocol is not looked into.
#[inline(always)]
fn named(protocol: u16) -> Option<u16> {
    (protocol != 0).then_some(protocol)
}
