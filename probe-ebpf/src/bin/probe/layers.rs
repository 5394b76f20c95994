//! The library's layers as global functions: verified once each, for any state of the scratch space.
#![allow(unsafe_code, reason = "the verifier knows global functions by their unmangled names")]

use probe_ebpf::{
    classify::{Cursor, Layer, Step, landed, walk},
    wire,
};

use crate::{context::Window, maps};

/// Walks the layers of the frame in this CPU's scratch space, `cursor` included.
#[inline(always)]
pub(crate) fn classify(first: Layer) -> Layer {
    walk(first, |layer| {
        Layer::from_number(match layer {
            Layer::Ethernet => classify_ethernet(),
            Layer::Arp => classify_arp(),
            Layer::Ipv4 => classify_ipv4(),
            Layer::Ipv4Option => classify_ipv4_option(),
            Layer::Ipv6 => classify_ipv6(),
            Layer::Ipv6Extension => classify_ipv6_extension(),
            Layer::Ipv6Option => classify_ipv6_option(),
            Layer::Tcp => classify_tcp(),
            Layer::TcpOption => classify_tcp_option(),
            Layer::Udp => classify_udp(),
            Layer::Icmp => classify_icmp(),
            Layer::Icmpv6 => classify_icmpv6(),
            Layer::End | Layer::Other | Layer::Unseen => layer as u64,
        })
    })
}

#[inline(always)]
fn enter(step: impl FnOnce(&Window<'_>, &mut Cursor) -> Step) -> u64 {
    let Some(scratch) = maps::scratch() else { return Layer::Unseen as u64 };
    let window = Window { bytes: &scratch.bytes, captured_bytes: scratch.captured_bytes };
    landed(step(&window, &mut scratch.cursor)) as u64
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ethernet() -> u64 {
    enter(|window, cursor| wire::ethernet::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_arp() -> u64 {
    enter(|window, cursor| wire::arp::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv4() -> u64 {
    enter(|window, cursor| wire::ipv4::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv4_option() -> u64 {
    enter(|window, cursor| wire::ipv4::option_step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv6() -> u64 {
    enter(|window, cursor| wire::ipv6::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv6_extension() -> u64 {
    enter(|window, cursor| wire::ipv6::extension_step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_ipv6_option() -> u64 {
    enter(|window, cursor| wire::ipv6::option_step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_tcp() -> u64 {
    enter(|window, cursor| wire::tcp::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_tcp_option() -> u64 {
    enter(|window, cursor| wire::tcp::option_step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_udp() -> u64 {
    enter(|window, cursor| wire::udp::step(window, cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_icmp() -> u64 {
    enter(|_, cursor| wire::icmp::step(cursor))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify_icmpv6() -> u64 {
    enter(|window, cursor| wire::icmpv6::step(window, cursor))
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
