//! Native XDP, where it was asked for: what arrives, before the kernel has made a packet of it. It takes the place of the
//! tc ingress hook; a tag that hardware took out of the frame cannot be seen here.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use probe_ebpf::{
    abi::{Direction, traffic_index},
    classify::LinkKind,
};

use crate::{
    context::XdpFrame,
    judge::{self, Point},
    maps,
};

#[xdp]
#[inline(always)]
fn lossprobe_xdp(context: XdpContext) -> u32 {
    observe(&context);
    XDP_PASS
}

#[inline(always)]
fn observe(context: &XdpContext) {
    if !maps::is_active() {
        return;
    }
    let frame = XdpFrame::new(context);
    let Some(slot) = maps::slot_of(frame.ifindex()) else { return };
    let Some(traffic) = maps::traffic(traffic_index(slot.slot, Direction::Ingress)) else { return };
    let meta = frame.meta(slot);
    let point = Point { slot, traffic, direction: Direction::Ingress };
    if slot.link_kind == LinkKind::Ethernet as u8 {
        judge::judge(context, &frame, &meta, point);
    } else {
        judge::count_opaque(&frame, &meta, point);
    }
}
