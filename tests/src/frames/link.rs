//! Headers of the link: Ethernet, 802.3/LLC, VLAN tags, ARP.

use std::net::Ipv4Addr;

use super::{A, B, Built, Change, Frame, Layer, Mac, plain};

/// Ethernet II header; as 802.3 header the type is a length.
#[derive(Clone, Debug)]
pub struct Ethernet {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// EtherType of what follows; the number of bytes that follow, for LLC; 0x88b5 (experimental) for plain data.
    pub ether_type: u16,
}

/// 802.2 LLC header, three bytes.
#[derive(Clone, Debug)]
pub struct Llc {
    /// Destination service access point.
    pub dsap: u8,
    /// Source service access point.
    pub ssap: u8,
    /// Control.
    pub control: u8,
}

/// A VLAN tag.
#[derive(Clone, Debug)]
pub struct Vlan {
    /// Priority, 3 bits.
    pub priority: u8,
    /// Drop-eligible indicator.
    pub drop_eligible: u8,
    /// VLAN identifier, 12 bits.
    pub id: u16,
    /// EtherType of what follows.
    pub ether_type: u16,
}

/// ARP for IPv4 over Ethernet.
#[derive(Clone, Debug)]
pub struct Arp {
    /// 1 is Ethernet.
    pub hardware_type: u16,
    /// 0x0800 is IPv4.
    pub protocol_type: u16,
    /// 6.
    pub hardware_length: u8,
    /// 4.
    pub protocol_length: u8,
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender's hardware address.
    pub sender_mac: Mac,
    /// Sender's protocol address.
    pub sender_ip: Ipv4Addr,
    /// Target's hardware address.
    pub target_mac: Mac,
    /// Target's protocol address.
    pub target_ip: Ipv4Addr,
}

const EXPERIMENTAL: u16 = 0x88b5;

pub(super) struct EthernetLayer {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    pub(super) change: Change<Ethernet>,
}

impl Layer for EthernetLayer {
    fn wrap(&self, inner: Built) -> Built {
        let ether_type = inner.ether_type.unwrap_or(EXPERIMENTAL);
        let mut header = Ethernet { destination: self.destination, source: self.source, ether_type };
        (self.change)(&mut header);
        let bytes = [&header.destination[..], &header.source, &header.ether_type.to_be_bytes()].concat();
        inner.prepend(bytes, None, None)
    }
}

struct LlcLayer {
    change: Change<Llc>,
}

impl Layer for LlcLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut header = Llc { dsap: 0x42, ssap: 0x42, control: 3 };
        (self.change)(&mut header);
        let length = inner.bytes.len() as u16 + 3;
        inner.prepend(vec![header.dsap, header.ssap, header.control], Some(length), None)
    }
}

struct VlanLayer {
    protocol: u16,
    id: u16,
    change: Change<Vlan>,
}

impl Layer for VlanLayer {
    fn wrap(&self, inner: Built) -> Built {
        let ether_type = inner.ether_type.unwrap_or(EXPERIMENTAL);
        let mut tag = Vlan { priority: 0, drop_eligible: 0, id: self.id, ether_type };
        (self.change)(&mut tag);
        let control = u16::from(tag.priority) << 13 | u16::from(tag.drop_eligible & 1) << 12 | (tag.id & 0xfff);
        let bytes = [control.to_be_bytes(), tag.ether_type.to_be_bytes()].concat();
        inner.prepend(bytes, Some(self.protocol), None)
    }
}

struct ArpLayer {
    change: Change<Arp>,
}

impl Layer for ArpLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut arp = Arp {
            hardware_type: 1,
            protocol_type: 0x0800,
            hardware_length: 6,
            protocol_length: 4,
            operation: 1,
            sender_mac: A,
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: B,
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        (self.change)(&mut arp);
        let bytes = [
            &arp.hardware_type.to_be_bytes()[..],
            &arp.protocol_type.to_be_bytes(),
            &[arp.hardware_length, arp.protocol_length],
            &arp.operation.to_be_bytes(),
            &arp.sender_mac,
            &arp.sender_ip.octets(),
            &arp.target_mac,
            &arp.target_ip.octets(),
        ];
        inner.prepend(bytes.concat(), Some(0x0806), None)
    }
}

impl Frame {
    /// An 802.1Q tag.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id, plain)
    }

    /// An 802.1ad service tag with an 802.1Q tag inside.
    pub fn qinq(self, service: u16, customer: u16) -> Self {
        self.tag(0x88a8, service, plain).vlan(customer)
    }

    /// A VLAN tag of any tag protocol, with changes.
    pub fn tag(self, protocol: u16, id: u16, change: impl Fn(&mut Vlan) + Send + Sync + 'static) -> Self {
        self.layer(VlanLayer { protocol, id, change: Box::new(change) })
    }

    /// An LLC header, by default that of spanning tree; the outer type becomes the 802.3 length.
    pub fn llc(self, change: impl Fn(&mut Llc) + Send + Sync + 'static) -> Self {
        self.layer(LlcLayer { change: Box::new(change) })
    }

    /// An ARP message, by default the request of 10.0.0.1 at [`A`] for 10.0.0.2 at [`B`].
    pub fn arp(self, change: impl Fn(&mut Arp) + Send + Sync + 'static) -> Self {
        self.layer(ArpLayer { change: Box::new(change) })
    }
}
