//! Examples of drops and retransmits, for whoever watches: a packet's first bytes and why it is shown. Nothing of this runs
//! while nobody does, and of each kind only so many are shown as a reader can take.

use probe_ebpf::abi::{DropKey, EVENT_BYTES, Event, EventKind, Retransmit, RetransmitKey};

use crate::{
    context::{KernelObject, copy_untyped},
    maps::{self, offset},
};

/// Where a protocol is not known. No EtherType.
const UNKNOWN_PROTOCOL: u16 = u16::MAX;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const TCP_HEADER_BYTES: u16 = 20;
const SYN: u8 = Retransmit::Syn as u8;
const SYNACK: u8 = Retransmit::SynAck as u8;

/// A packet that is being given up, from its network header on.
#[inline(always)]
pub(crate) fn show_drop(skb: KernelObject, key: &DropKey, segments: u64) {
    let Some(mut room) = maps::room_for(EventKind::Drop, key.reason, key.netns) else { return };
    let head = skb.word_at(offset!(sk_buff_head));
    let data_at = skb.word_at(offset!(sk_buff_data)).wrapping_sub(head);
    let tail_at = u64::from(skb.u32_at(offset!(sk_buff_tail)));
    let network_at = u64::from(skb.u16_at(offset!(sk_buff_network_header)));
    // 0: nobody has said yet where it is.
    let start = if network_at == 0 || network_at > tail_at { data_at } else { network_at };
    let there = tail_at.saturating_sub(start).min(EVENT_BYTES as u64);
    let event = room.write(Event {
        time_ns: maps::nanoseconds(),
        location: key.location,
        netns: key.netns,
        ifindex: key.ifindex,
        reason: key.reason,
        packet_bytes: (u64::from(skb.u32_at(offset!(sk_buff_len))) + data_at).saturating_sub(start) as u32,
        segments: segments as u32,
        captured_bytes: 0,
        first_protocol: match u16::from_be(skb.u16_at(offset!(sk_buff_protocol))) {
            0 => UNKNOWN_PROTOCOL,
            protocol => protocol,
        },
        kind: EventKind::Drop as u8,
        pad: [0; 5],
        bytes: [0; EVENT_BYTES],
    });
    event.captured_bytes = copy_untyped(head + start, there, &mut event.bytes);
    room.submit(0);
}

/// A segment that is sent again. Its headers are not made yet: such as they will be, as far as `endpoints` (a socket, or a
/// connection that is being asked for) and `skb` tell.
#[inline(always)]
pub(crate) fn show_retransmit(endpoints: KernelObject, skb: Option<KernelObject>, key: &RetransmitKey, segments: u64) {
    const AF_INET6: u16 = 10;
    let Some(mut room) = maps::room_for(EventKind::Retransmit, u32::from(key.kind), maps::netns()) else {
        return;
    };
    let (payload_bytes, sequence) = match skb {
        // `seq` comes first in `struct tcp_skb_cb`.
        Some(skb) => (skb.u32_at(offset!(sk_buff_len)), skb.u32_at(offset!(sk_buff_cb))),
        None => (0, 0),
    };
    let is_ipv6 = endpoints.u16_at(offset!(sock_skc_family)) == AF_INET6;
    let header_bytes = TCP_HEADER_BYTES + if is_ipv6 { 40 } else { 20 };
    let event = room.write(Event {
        time_ns: maps::nanoseconds(),
        location: 0,
        netns: maps::netns(),
        ifindex: key.ifindex,
        reason: u32::from(key.kind),
        packet_bytes: payload_bytes + u32::from(header_bytes),
        segments: segments as u32,
        captured_bytes: u32::from(header_bytes),
        first_protocol: if is_ipv6 { IPV6 } else { IPV4 },
        kind: EventKind::Retransmit as u8,
        pad: [0; 5],
        bytes: [0; EVENT_BYTES],
    });
    let bytes = &mut event.bytes;
    let behind = |own: u16| (payload_bytes.min(u32::from(u16::MAX - header_bytes)) as u16 + own).to_be_bytes();
    let at = if is_ipv6 {
        [bytes[0], bytes[6], bytes[7]] = [0x60, TCP, 64];
        [bytes[4], bytes[5]] = behind(TCP_HEADER_BYTES);
        for word in 0..4 {
            let part = 4 * word;
            put(bytes, 8 + part, endpoints.u32_at(offset!(sock_skc_v6_rcv_saddr) + part as u32).to_ne_bytes());
            put(bytes, 24 + part, endpoints.u32_at(offset!(sock_skc_v6_daddr) + part as u32).to_ne_bytes());
        }
        40
    } else {
        [bytes[0], bytes[8], bytes[9]] = [0x45, 64, TCP];
        [bytes[2], bytes[3]] = behind(header_bytes);
        put(bytes, 12, endpoints.u32_at(offset!(sock_skc_rcv_saddr)).to_ne_bytes());
        put(bytes, 16, endpoints.u32_at(offset!(sock_skc_daddr)).to_ne_bytes());
        let mut sum = 0_u32;
        for at in 0..10 {
            sum += u32::from(u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]));
        }
        sum = (sum & 0xffff) + (sum >> 16);
        [bytes[10], bytes[11]] = (!(sum + (sum >> 16)) as u16).to_be_bytes();
        20
    };
    put(bytes, at, endpoints.u16_at(offset!(sock_skc_num)).to_be_bytes());
    put(bytes, at + 2, endpoints.u16_at(offset!(sock_skc_dport)).to_ne_bytes());
    put(bytes, at + 4, sequence.to_be_bytes());
    [bytes[at + 12], bytes[at + 13]] = match key.kind {
        SYN => [0x50, 0x02],
        SYNACK => [0x50, 0x12],
        _ => [0x50, 0x10],
    };
    room.submit(0);
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8; EVENT_BYTES], at: usize, value: [u8; N]) {
    for (offset, byte) in value.into_iter().enumerate() {
        bytes[at + offset] = byte;
    }
}
