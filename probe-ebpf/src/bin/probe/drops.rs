//! `skb:kfree_skb`: every packet that the kernel gives up, by namespace, interface, reason and family, in segments.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::{
    abi::{ABSENT, DropKey, Family, NamespaceKey, OTHER_NETNS, Tally},
    storm::{Storm, Waiting},
};

use crate::{
    context::{KernelObject, untyped},
    events,
    maps::{self, offset},
};

/// Before 5.17: `(skb, location)`.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_drop2(context: BtfTracePointContext) -> i32 {
    observe(KernelObject::new(context.arg(0)), context.arg(1), 0, KernelObject::NULL);
    0
}

/// Since 5.17: `(skb, location, reason)`.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_drop3(context: BtfTracePointContext) -> i32 {
    observe(KernelObject::new(context.arg(0)), context.arg(1), context.arg(2), KernelObject::NULL);
    0
}

/// Since 6.11: `(skb, location, reason, rx_sk)`; the socket is that of a packet which its protocol has received, or none.
#[btf_tracepoint(function = "kfree_skb")]
fn lossprobe_drop4(context: BtfTracePointContext) -> i32 {
    let receiver = KernelObject::new(context.arg(3));
    observe(KernelObject::new(context.arg(0)), context.arg(1), context.arg(2), receiver);
    0
}

#[inline(always)]
fn observe(skb: KernelObject, location: u64, reason: u32, receiver: KernelObject) {
    if !maps::is_active() {
        return;
    }
    if location >= maps::release_data_start() && location < maps::release_data_end() {
        maps::tally(Tally::DropMembers);
        return;
    }
    let drop = Drop { skb, receiver, location, reason, segments: segments(skb) };
    match maps::enter_storm() {
        Some(storm) => {
            drop.ride_out(storm);
            maps::leave_storm(storm);
        }
        None => drop.count(&drop.key()),
    }
}

/// One event of the tracepoint.
struct Drop {
    skb: KernelObject,
    receiver: KernelObject,
    location: u64,
    reason: u32,
    segments: u64,
}

impl Drop {
    /// Counts it, or lets it wait for the next sample.
    #[inline(always)]
    fn ride_out(&self, storm: &mut Storm) {
        let is_on = storm.note(maps::jiffies(), maps::hertz().into());
        let waiting = if is_on || storm.waiting != 0 { maps::waiting(self.reason) } else { None };
        let Some(waiting) = waiting else { return self.count(&self.key()) };
        // Where drops have no reasons, the function tells what they are.
        if is_on && waiting.until_sample > 1 && waiting.location == self.location {
            waiting.until_sample -= 1;
            waiting.segments += self.segments;
            storm.waiting += self.segments;
            return;
        }
        let own = maps::netns();
        if waiting.segments != 0 {
            add(&waiting.key(self.reason, own), waiting.segments);
            maps::tally_by(Tally::StormSegments, waiting.segments);
            storm.waiting -= waiting.segments;
        }
        let sample = self.key();
        self.count(&sample);
        *waiting = Waiting::behind(&sample, own, storm.distance());
    }

    #[inline(always)]
    fn count(&self, key: &DropKey) {
        add(key, self.segments);
        events::show_drop(self.skb, key, self.segments);
    }

    /// With the namespace it is in; the interface only if that is the agent's.
    #[inline(always)]
    fn key(&self) -> DropKey {
        let (netns, ifindex) = attribute(self.skb, self.receiver);
        let ifindex = if netns == maps::netns() { ifindex } else { 0 };
        let family = family(self.skb) as u8;
        DropKey { location: self.location, netns, ifindex, reason: self.reason, family, pad: [0; 3] }
    }
}

/// Other namespaces share one entry, and have one each where they may be lost: they come and go, and would fill the map
/// for good.
#[inline(always)]
fn add(key: &DropKey, segments: u64) {
    if key.netns == maps::netns() {
        maps::count_drop(key, segments);
        return;
    }
    maps::count_drop(&DropKey { netns: OTHER_NETNS, ..*key }, segments);
    if key.netns != OTHER_NETNS {
        maps::count_namespace(&NamespaceKey { netns: key.netns, reason: key.reason }, segments);
    }
}

/// Inode numbers of namespaces begin a little below 0xf000_0000 (`PROC_DYNAMIC_FIRST`, fs/proc/generic.c; the first ones have
/// fixed numbers in linux/proc_ns.h).
const LEAST_NAMESPACE: u32 = 0xe000_0000;

/// Namespace and interface: of the device that handles the packet now; else the device it arrived on; else, for
/// packets of this host that have no device yet, the device of their route. 0 is "not known".
#[inline(always)]
pub(crate) fn attribute(skb: KernelObject, receiver: KernelObject) -> (u32, u32) {
    // On its way to a UDP socket a packet keeps other things where its device was: not a kernel address.
    let device = skb.object_at(offset!(sk_buff_dev));
    if device.is_kernel_address() {
        let netns = netns_of(device.object_at(offset!(net_device_nd_net)));
        let ifindex = device.u32_at(offset!(net_device_ifindex));
        // One that was taken out of a tree (TCP's segments out of order, fragments) keeps the address of another packet there.
        if netns >= LEAST_NAMESPACE && (ifindex as i32) > 0 {
            return (netns, ifindex);
        }
    }
    // What TCP has taken in has neither device nor route any more, nor does it belong to its socket yet.
    let mut netns = match netns_of_socket(skb.object_at(offset!(sk_buff_sk))) {
        0 => netns_of_socket(receiver),
        netns => netns,
    };
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
fn netns_of_socket(socket: KernelObject) -> u32 {
    if socket.is_null() { 0 } else { netns_of(socket.object_at(offset!(sock_skc_net))) }
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
    if offset!(skb_shared_info_gso_size) == ABSENT || is_single(skb) {
        return 1;
    }
    let shared_info = skb.word_at(offset!(sk_buff_head)) + u64::from(skb.u32_at(offset!(sk_buff_end)));
    match untyped::<[u16; 2]>(shared_info + u64::from(offset!(skb_shared_info_gso_size))) {
        None | Some([0, _]) => 1,
        Some([gso_bytes, 0]) => segments_of_guest(skb, shared_info, u64::from(gso_bytes)),
        Some([_, segments]) => u64::from(segments),
    }
}

/// A guest says how long its segments are to be, and not how many they make: as many as their payload fills.
#[inline(always)]
fn segments_of_guest(skb: KernelObject, shared_info: u64, gso_bytes: u64) -> u64 {
    const TCP: u32 = 1 << 0 | 1 << 4;
    const UDP_HEADER_BYTES: u64 = 8;
    let head = skb.word_at(offset!(sk_buff_head));
    let transport = head + u64::from(skb.u16_at(offset!(sk_buff_transport_header)));
    let kinds = untyped::<u32>(shared_info + u64::from(offset!(skb_shared_info_gso_type))).unwrap_or(0);
    let transport_bytes = match untyped::<u8>(transport + 12) {
        Some(data_offset) if kinds & TCP != 0 => u64::from(data_offset >> 4) * 4,
        _ => UDP_HEADER_BYTES,
    };
    // A packet that is being received begins behind headers that were taken off already.
    let headers = (transport + transport_bytes).saturating_sub(skb.word_at(offset!(sk_buff_data)));
    let payload = u64::from(skb.u32_at(offset!(sk_buff_len))).saturating_sub(headers);
    payload.div_ceil(gso_bytes).max(1)
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
