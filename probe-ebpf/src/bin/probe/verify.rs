//! Transport checksums of what arrives at a track point: a device that damages frames writes a right FCS over them, so that
//! nothing else tells. What the network card or GRO has looked at is not looked at again, the rest within a
//! [budget](probe_ebpf::budget).

use probe_ebpf::{
    abi::{Checksum, PIECE_BYTES, Scratch, Sum},
    checksum,
    classify::{FROM_WIRE, Meta, Network, Packet, Transport},
    frame::Frame as _,
    reason::Malformed,
    wire::{ipv4, udp},
};

use crate::{
    context::{TcFrame, Window, add_up, settle},
    maps,
};

/// Pieces that a packet can have: 9,216 bytes. What is longer without being made of segments is not looked at.
const MAX_PIECES: usize = 18;

const TCP_CHECKSUM_AT: u32 = 16;
const UDP_DESTINATION_AT: u32 = 2;
const UDP_LENGTH_AT: u32 = 4;
const UDP_CHECKSUM_AT: u32 = 6;
const ICMP_CHECKSUM_AT: u32 = 2;

/// Bytes that the transport checksum covers, if the IP header says so.
#[inline(always)]
fn covered_bytes(packet: &Packet) -> u64 {
    u64::from(packet.header_bytes) + u64::from(packet.payload_bytes) - u64::from(packet.transport_at)
}

/// Whether the checksum of a packet is to be looked at here and now. If not, it is counted why.
#[inline(always)]
pub(crate) fn is_due(skb: &TcFrame, meta: &Meta, packet: &Packet, track: u8) -> bool {
    if !matches!(packet.transport, Transport::Tcp | Transport::Udp | Transport::Icmp | Transport::Icmpv6) {
        return false;
    }
    let Some(checksums) = maps::checksums(track) else { return false };
    let bytes = covered_bytes(packet);
    let why_not = if meta.first_protocol != 0 {
        // Where its bytes begin is another matter on every kind of device without MAC header.
        Checksum::Budget
    } else if meta.gso_size != 0 {
        Checksum::Gro
    } else if !checksums.budget.has_room(maps::jiffies(), maps::hertz()) {
        // Before anybody is asked, which takes 8 ns: where cards look themselves nothing is spent.
        Checksum::Budget
    } else if skb.is_validated() {
        Checksum::Hardware
    } else if bytes > (MAX_PIECES * PIECE_BYTES) as u64 {
        Checksum::Budget
    } else {
        checksums.budget.spend(bytes);
        return true;
    };
    checksums.results[why_not as usize] += 1;
    false
}

/// Looks at the checksum of the packet in the scratch space, counts what came of it and notes what is wrong.
#[inline(always)]
pub(crate) fn verify(skb: &TcFrame, scratch: &mut Scratch, track: u8) {
    let result = look(skb, scratch, track);
    if let Some(checksums) = maps::checksums(track) {
        checksums.results[result.unwrap_or(Checksum::Budget) as usize] += 1;
    }
}

/// `None` if there is none to look at, or not all of what it covers.
#[inline(always)]
fn look(skb: &TcFrame, scratch: &mut Scratch, track: u8) -> Option<Checksum> {
    let window = Window { bytes: &scratch.bytes, captured_bytes: scratch.captured_bytes };
    let packet = &scratch.cursor.packet;
    let (reason, field_at, protocol) = match packet.transport {
        Transport::Tcp => (Malformed::TcpCsum, TCP_CHECKSUM_AT, ipv4::TCP),
        Transport::Udp => (Malformed::UdpCsum, UDP_CHECKSUM_AT, ipv4::UDP),
        Transport::Icmp => (Malformed::IcmpCsum, ICMP_CHECKSUM_AT, ipv4::ICMP),
        _ => (Malformed::Icmp6Csum, ICMP_CHECKSUM_AT, ipv4::ICMPV6),
    };
    let at = u32::from(packet.transport_at);
    let mut bytes = covered_bytes(packet);
    let field_at = at + field_at;
    let field = window.read::<2>(field_at as usize)?;
    if packet.transport == Transport::Udp {
        // 0: as long as the packet. More than there is was found before.
        match u64::from(u16::from_be_bytes(window.read::<2>((at + UDP_LENGTH_AT) as usize)?)) {
            0 => {}
            length => bytes = bytes.min(length),
        }
        let port = window.read::<2>((at + UDP_DESTINATION_AT) as usize)?;
        // A tunnel's also where a card's own switch brings it from a neighbour of this machine.
        if field == [0, 0] || udp::is_tunnel(u16::from_be_bytes(port)) {
            return None;
        }
    }
    let (addresses_at, address_bytes) = match packet.network {
        Network::Ipv6 => (u32::from(packet.network_at) + 8, 32),
        _ => (u32::from(packet.network_at) + 12, 8),
    };
    let state = maps::sum()?;
    let pseudo = if packet.transport == Transport::Icmp {
        0
    } else {
        let rest = checksum::pseudo(protocol, bytes as u32) as u32;
        add_up(skb, (addresses_at, address_bytes), &mut state.piece, rest)?
    };
    let sum = add_all(skb, (at, bytes), state, pseudo)?;
    // A field that has only the pseudo header's sum: whoever sends it on would finish it.
    let is_unfinished =
        checksum::fold(pseudo.into()) == u16::from_ne_bytes(field) && packet.transport != Transport::Icmp;
    // What carries an unfinished packet has the checksum of what will be sent (local checksum offload), whatever its port.
    let may_carry = packet.transport == Transport::Udp && scratch.cursor.meta.flags & FROM_WIRE == 0;
    Some(if checksum::is_right(sum.into()) {
        Checksum::Good
    } else if is_unfinished || may_carry {
        Checksum::Hardware
    } else {
        maps::checksums(track)?.budget.open(maps::jiffies(), maps::hertz());
        scratch.cursor.note(reason, field_at as usize);
        Checksum::Bad
    })
}

/// The sum of `bytes` from `at` on. What the loop remembers lies in the map, where no verifier follows it.
#[inline(always)]
fn add_all(skb: &TcFrame, (at, bytes): (u32, u64), state: &mut Sum, start: u32) -> Option<u32> {
    (state.at, state.left, state.sum) = (at, bytes, start);
    for _ in 0..MAX_PIECES {
        settle(state);
        let (at, left, sum) = (state.at, state.left, state.sum);
        if left == 0 {
            break;
        }
        let bytes = left.min(PIECE_BYTES as u64);
        state.sum = add_up(skb, (at, bytes), &mut state.piece, sum)?;
        state.at = at + bytes as u32;
        state.left = left - bytes;
    }
    settle(state);
    (state.left == 0).then_some(state.sum)
}
