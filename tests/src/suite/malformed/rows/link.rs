//! Ethernet, 802.3, VLAN tags, ARP.

use probe_ebpf::{classify::Meta, reason::Malformed};
use tests::frames::{A, B, Ethernet, Frame, Mac, ethernet, ethernet_with, plain};

use super::{
    super::{Row, bad, loopback, physical, stripped, veth},
    datagram, start,
};

pub(super) fn rows() -> Vec<Row> {
    [link(), tags(), arp()].into_iter().flatten().collect()
}

const ZERO: Mac = [0; 6];
const GROUP: Mac = [3, 0, 0, 0, 0, 0x0a];

fn with_type(ether_type: u16) -> Frame {
    ethernet_with(B, A, move |header: &mut Ethernet| header.ether_type = ether_type)
}

fn link() -> Vec<Row> {
    vec![
        bad("no byte at all", start().cut(0), veth(), Malformed::EthShort, 0),
        bad("13 bytes", datagram(start()).cut(13), veth(), Malformed::EthShort, 0),
        bad("59 bytes from a wire", start().ip4().udp(1, 2).payload(17), physical(), Malformed::EthRunt, 59),
        bad(
            "55 bytes and a stripped tag from a wire",
            start().ip4().udp(1, 2).payload(13),
            Meta { flags: physical().flags, ..stripped(0x8100, 5) },
            Malformed::EthRunt,
            55,
        ),
        bad("group bit in the source", datagram(ethernet(B, GROUP)), veth(), Malformed::EthSrcGroup, 6),
        bad("group bit in the source on loopback", datagram(ethernet(B, GROUP)), loopback(), Malformed::EthSrcGroup, 6),
        bad("source zero", datagram(ethernet(B, ZERO)), veth(), Malformed::EthSrcZero, 6),
        bad("source MAC is destination", datagram(ethernet(A, A)), veth(), Malformed::EthSameAddr, 6),
        bad("type 1501", with_type(1501).payload(60), veth(), Malformed::EthTypeGap, 12),
        bad("type 1535", with_type(1535).payload(60), veth(), Malformed::EthTypeGap, 12),
        bad("length one too large", with_type(39).llc(plain).payload(35), veth(), Malformed::EthLenGt, 12),
        bad("length 1500 in a small frame", with_type(1500).payload(46), veth(), Malformed::EthLenGt, 12),
        bad("two LLC bytes", with_type(2).data([0x42, 0x42]).pad(60), veth(), Malformed::LlcShort, 12),
        bad("length 0", with_type(0).pad(60), veth(), Malformed::LlcShort, 12),
        bad("experimental type", start().payload(46), veth(), Malformed::EthUnknownType, 12),
        bad("type 1536", with_type(1536).payload(46), veth(), Malformed::EthUnknownType, 12),
        bad("five bytes behind the datagram", datagram(start()).trailer([0; 5]), veth(), Malformed::EthTrailer, 142),
        bad(
            "five bytes behind an IPv6 datagram",
            start().ip6().udp(1, 2).payload(100).trailer([0; 5]),
            veth(),
            Malformed::EthTrailer,
            162,
        ),
        bad(
            "five bytes behind the padding",
            start().ip4().udp(1, 2).pad(60).trailer([0; 5]),
            veth(),
            Malformed::EthTrailer,
            42,
        ),
        bad("1523 bytes at MTU 1500", start().ip4().udp(1, 2).payload(1481), veth(), Malformed::EthOversize, 1522),
    ]
}

fn tags() -> Vec<Row> {
    let tagged = |id| datagram(start().vlan(id));
    vec![
        bad("tag of three bytes", tagged(5).cut(17), veth(), Malformed::VlanShort, 14),
        bad("inner tag of three bytes", datagram(start().qinq(5, 6)).cut(21), veth(), Malformed::VlanShort, 18),
        bad("VLAN 4095", tagged(4095), veth(), Malformed::Vlan4095, 14),
        bad("inner VLAN 4095", datagram(start().qinq(5, 4095)), veth(), Malformed::Vlan4095, 18),
        bad("stripped VLAN 4095", datagram(start()), stripped(0x8100, 0xefff), Malformed::Vlan4095, 12),
        bad("priority tag", datagram(start().tag(0x8100, 0, |tag| tag.priority = 7)), veth(), Malformed::Vlan0, 14),
        bad("stripped priority tag", datagram(start()), stripped(0x8100, 0xe000), Malformed::Vlan0, 12),
        bad("three tags", datagram(start().qinq(5, 6).vlan(7)), veth(), Malformed::VlanDepth, 20),
        bad(
            "stripped tag and two more",
            datagram(start().vlan(6).vlan(7)),
            stripped(0x88a8, 5),
            Malformed::VlanDepth,
            16,
        ),
        bad("five tags", datagram(start().qinq(5, 6).vlan(7).vlan(8).vlan(9)), veth(), Malformed::VlanDepth, 20),
        bad("customer tag outside", datagram(start().vlan(5).tag(0x88a8, 6, plain)), veth(), Malformed::VlanOrder, 16),
        bad(
            "stripped customer tag outside",
            datagram(start().tag(0x88a8, 6, plain)),
            stripped(0x8100, 5),
            Malformed::VlanOrder,
            12,
        ),
        bad(
            "length behind a tag one too large",
            start().tag(0x8100, 5, |tag| tag.ether_type = 39).llc(plain).payload(35),
            veth(),
            Malformed::VlanLenGt,
            16,
        ),
        bad(
            "length behind a stripped tag one too large",
            with_type(39).llc(plain).payload(35),
            stripped(0x8100, 5),
            Malformed::VlanLenGt,
            12,
        ),
    ]
}

fn arp() -> Vec<Row> {
    let with = |change: fn(&mut tests::frames::Arp)| start().arp(change).pad(60);
    vec![
        bad("ARP of 27 bytes", start().arp(plain).cut(41), veth(), Malformed::ArpShort, 14),
        bad("hardware type 7", with(|arp| arp.hardware_type = 7), veth(), Malformed::ArpHdr, 14),
        bad("protocol type IPv6", with(|arp| arp.protocol_type = 0x86dd), veth(), Malformed::ArpHdr, 14),
        bad("hardware addresses of 8 bytes", with(|arp| arp.hardware_length = 8), veth(), Malformed::ArpHdr, 14),
        bad("protocol addresses of 16 bytes", with(|arp| arp.protocol_length = 16), veth(), Malformed::ArpHdr, 14),
        bad("operation 0", with(|arp| arp.operation = 0), veth(), Malformed::ArpOp, 20),
        bad("operation 5", with(|arp| arp.operation = 5), veth(), Malformed::ArpOp, 20),
        bad("operation 10", with(|arp| arp.operation = 10), veth(), Malformed::ArpOp, 20),
        bad("sender is not the Ethernet source", with(|arp| arp.sender_mac = B), veth(), Malformed::ArpSha, 22),
        bad("group bit in the sender", with(|arp| arp.sender_mac = GROUP), veth(), Malformed::ArpShaGroup, 22),
    ]
}
