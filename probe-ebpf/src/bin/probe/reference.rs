//! What the cost of the probe is measured against, at the same hook: nothing, and the least that counts anything.
//! The agent never loads these.

use aya_ebpf::{
    macros::{btf_tracepoint, classifier},
    programs::{BtfTracePointContext, TcContext},
};
use probe_ebpf::abi::{Direction, traffic_index};

use crate::{context::TcFrame, maps, tc::CONTINUE};

/// Looks at nothing.
#[classifier]
fn lossprobe_none(_context: TcContext) -> i32 {
    CONTINUE
}

/// Looks at no drop.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_idle(_context: BtfTracePointContext) -> i32 {
    0
}

/// Counts frames and bytes per interface, and nothing else.
#[classifier]
fn lossprobe_ref(context: TcContext) -> i32 {
    let frame = TcFrame::new(&context);
    if let Some(slot) = maps::slot_of(frame.ifindex())
        && let Some(traffic) = maps::traffic(traffic_index(slot.slot, Direction::Ingress))
    {
        traffic.frames += 1;
        traffic.bytes += u64::from(frame.bytes());
    }
    CONTINUE
}
