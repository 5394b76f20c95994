//! `skb:kfree_skb`: every packet that the kernel gives up, by namespace, interface, reason and family, in segments.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::{
    abi::{ABSENT, DropKey, Family, OTHER_NETNS, Tally},
    storm::{Storm, Waiting},
};

use crate::{
    context::{KernelObject, untyped},
    maps::{self, offset},
};

/// Before 5.17: `(skb, location)`.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_drop2(context: BtfTracePointContext) -> i32 {
    observe(KernelObject::new(context.arg(0)), context.arg(1), 0);
    0
}

/// Since 5.17: `(skb, location, reason)`, since 6.11 with the receiving socket behind it.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_drop3(context: BtfTracePointContext) -> i32 {
    observe(KernelObject::new(context.arg(0)), context.arg(1), context.arg(2));
    0
}

#[inline(always)]
fn observe(skb: KernelObject, location: u64, reason: u32) {
    if !maps::is_active() {
        return;
    }
    let settings = maps::settings();
    if location >= settings.release_data_start && location < settings.release_data_end {
        maps::tally(Tally::DropMembers);
        return;
    }
    let segments = segments(skb);
    match maps::enter_storm() {
        Some(storm) => {
            ride_out(storm, skb, reason, segments);
            maps::leave_storm(storm);
        }
        None => {
            maps::count_drop(&key(skb, reason), segments);
        }
    }
}

/// Counts a drop, or lets it wait for the next sample.
#[inline(always)]
fn ride_out(storm: &mut Storm, skb: KernelObject, reason: u32, segments: u64) {
    let is_on = storm.note(maps::jiffies(), maps::hertz());
    let waiting = if is_on || storm.waiting != 0 { maps::waiting(reason) } else { None };
    let Some(waiting) = waiting else {
        maps::count_drop(&key(skb, reason), segments);
        return;
    };
    if is_on && waiting.until_sample > 1 {
        waiting.until_sample -= 1;
        waiting.segments += segments;
        storm.waiting += segments;
        return;
    }
    if waiting.segments != 0 {
        maps::count_drop(&waiting.key(reason, maps::settings().netns), waiting.segments);
        maps::tally_by(Tally::StormSegments, waiting.segments);
        storm.waiting -= waiting.segments;
    }
    let sample = key(skb, reason);
    maps::count_drop(&sample, segments);
    *waiting = Waiting::behind(&sample, storm.distance());
}

#[inline(always)]
fn key(skb: KernelObject, reason: u32) -> DropKey {
    let (netns, ifindex) = match attribute(skb) {
        (netns, ifindex) if netns == maps::settings().netns => (netns, ifindex),
        // One entry for all: namespaces come and go, and would fill the map for good.
        _ => (OTHER_NETNS, 0),
    };
    DropKey { netns, ifindex, reason, family: family(skb) as u8, pad: [0; 3] }
}

/// Namespace and interface: of the device that handles the packet now; else the device it arrived on; else, for
/// packets of this host that have no device yet, the device of their route. 0 is "not known".
#[inline(always)]
pub(crate) fn attribute(skb: KernelObject) -> (u32, u32) {
    // On its way to a UDP socket a packet keeps other things where its device was: not a kernel address.
    let device = skb.object_at(offset!(sk_buff_dev));
    if device.is_kernel_address() {
        return (netns_of(device.object_at(offset!(net_device_nd_net))), device.u32_at(offset!(net_device_ifindex)));
    }
    let socket = skb.object_at(offset!(sk_buff_sk));
    let mut netns = if socket.is_null() { 0 } else { netns_of(socket.object_at(offset!(sock_skc_net))) };
    let (route_netns, route_ifindex) = attribute_by_route(skb).unwrap_or_default();
    if netns == 0 {
        netns = route_netns;
    }
    let arrived_on = skb.u32_at(offset!(sk_buff_skb_iif));
    (netns, if arrived_on == 0 { route_ifindex } else { arrived_on })
}

/// The lowest bit of `_skb_refdst` says whether a reference is held; the rest is the route's address.
#[inline(always)]
fn attribute_by_route(skb: KernelObject) -> Option<(u32, u32)> {
    let route = skb.word_at(offset!(sk_buff_skb_refdst)) & !1;
    if route == 0 {
        return None;
    }
    let device: u64 = untyped(route + u64::from(offset!(dst_entry_dev)))?;
    let net: u64 = untyped(device + u64::from(offset!(net_device_nd_net)))?;
    Some((untyped(net + u64::from(offset!(net_ns_inum)))?, untyped(device + u64::from(offset!(net_device_ifindex)))?))
}

#[inline(always)]
pub(crate) fn netns_of(net: KernelObject) -> u32 {
    net.u32_at(offset!(net_ns_inum))
}

#[inline(always)]
fn family(skb: KernelObject) -> Family {
    match u16::from_be(skb.u16_at(offset!(sk_buff_protocol))) {
        0x0800 => Family::Ipv4,
        0x86dd => Family::Ipv6,
        0x0806 => Family::Arp,
        _ => Family::Other,
    }
}

/// Wire segments of a packet: what GSO or GRO merged into it, at least itself.
#[inline(always)]
pub(crate) fn segments(skb: KernelObject) -> u64 {
    if offset!(skb_shared_info_gso_segs) == ABSENT || is_single(skb) {
        return 1;
    }
    let shared_info = skb.word_at(offset!(sk_buff_head)) + u64::from(skb.u32_at(offset!(sk_buff_end)));
    match untyped::<u16>(shared_info + u64::from(offset!(skb_shared_info_gso_segs))) {
        None | Some(0) => 1,
        Some(segments) => u64::from(segments),
    }
}

/// Whether a packet is plainly one segment: its bytes lie in one piece, and its checksum is not left to be made. Who
/// merges packets keeps their bytes in pieces (GRO, LRO) or leaves the checksum open (GSO, `skb_segment` asks for it).
/// The cheap answer for a flood of small packets: the other one takes a helper of 60 ns.
#[inline(always)]
fn is_single(skb: KernelObject) -> bool {
    const CHECKSUM_PARTIAL: u8 = 3;
    let checksum = skb.u8_at(offset!(sk_buff_ip_summed)) >> offset!(sk_buff_ip_summed_shift);
    skb.u32_at(offset!(sk_buff_data_len)) == 0 && checksum & 3 != CHECKSUM_PARTIAL
}
