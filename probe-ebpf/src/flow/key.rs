//! Which connection a packet belongs to, in one number.

use super::{Reverse, Segment};
use crate::{
    abi::Direction,
    classify::{Cursor, Meta, Network, Packet},
    frame::{Frame, be16, raw32, raw64, word},
    wire::{ethernet, ipv4, ipv6, tcp},
};

/// What the agent has drawn by lot, so that nobody outside can choose connections that share a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Secret {
    /// Any number.
    pub seed: u64,
    /// Any odd number.
    pub factor: u64,
}

/// A connection as seen at one track group: *outside* is where packets come from at ingress and where they go to at egress,
/// so both directions that pass one point meet, and a connection in transit has two entries. IPv4 addresses are mapped
/// into IPv6 (RFC 4291 2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Key {
    /// The address outside, as two numbers in network order.
    pub outside: [u64; 2],
    /// The address inside.
    pub inside: [u64; 2],
    /// Port outside.
    pub outside_port: u16,
    /// Port inside.
    pub inside_port: u16,
    /// VLAN identifiers, the outer one in the upper half; or a tunnel's network identifier with the highest bit set. 0: none.
    pub encapsulation: u32,
    /// The track group.
    pub group: u32,
    #[doc(hidden)]
    pub pad: u32,
}
const _: () = assert!(size_of::<Key>() == 48);

/// Upper and middle part of an IPv4 address mapped into IPv6, in network order, as the number that memory holds.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

/// The last four bytes of an address, where IPv4's are, in its second number.
const LAST: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);

#[inline(always)]
const fn is_mapped(address: &[u64; 2]) -> bool {
    address[0] == 0 && address[1] & !LAST == MAPPED
}

impl Key {
    /// An IPv4 address, in the order in which memory holds it.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(address: u32) -> [u64; 2] {
        let bytes = address.to_ne_bytes();
        [0, MAPPED | u64::from_ne_bytes([0, 0, 0, 0, bytes[0], bytes[1], bytes[2], bytes[3]])]
    }

    /// Of a packet whose headers can be seen.
    #[inline(always)]
    #[must_use]
    pub fn of<F: Frame + ?Sized>(frame: &F, packet: &Packet, direction: Direction) -> Option<Self> {
        let ports: [u8; 4] = frame.read(usize::from(packet.transport_at))?;
        let network_at = usize::from(packet.network_at);
        let (from, to) = match packet.network {
            Network::Ipv4 => ipv4_addresses(&frame.read(network_at + ipv4::SOURCE_AT)?),
            // Word by word, since the stack is short.
            Network::Ipv6 => {
                let word =
                    |number: usize| frame.read(network_at + ipv6::SOURCE_AT + 8 * number).map(u64::from_ne_bytes);
                ([word(0)?, word(1)?], [word(2)?, word(3)?])
            }
            Network::None | Network::Arp => return None,
        };
        Some(Self::between((from, to), (be16(&ports, 0), be16(&ports, 2)), direction))
    }

    #[inline(always)]
    const fn between((from, to): ([u64; 2], [u64; 2]), ports: (u16, u16), direction: Direction) -> Self {
        let (outside, inside, outside_port, inside_port) = match direction {
            Direction::Ingress => (from, to, ports.0, ports.1),
            Direction::Egress => (to, from, ports.1, ports.0),
        };
        Self { outside, inside, outside_port, inside_port, encapsulation: 0, group: 0, pad: 0 }
    }

    /// The same connection seen from the other side.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            outside: self.inside,
            inside: self.outside,
            outside_port: self.inside_port,
            inside_port: self.outside_port,
            ..*self
        }
    }

    /// A number for the connection that is never 0: two connections share it as seldom as any two numbers of 64 bits.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self, secret: &Secret) -> u64 {
        let ends = [(&self.outside, self.outside_port), (&self.inside, self.inside_port)];
        self.tag_between(ends, secret)
    }

    /// The same of [`Self::reversed`].
    #[inline(always)]
    #[must_use]
    pub const fn reversed_tag(&self, secret: &Secret) -> u64 {
        let ends = [(&self.inside, self.inside_port), (&self.outside, self.outside_port)];
        self.tag_between(ends, secret)
    }

    #[inline(always)]
    const fn tag_between(&self, [outside, inside]: [(&[u64; 2], u16); 2], secret: &Secret) -> u64 {
        let ([a, b], [c, d]) = (outside.1.to_be_bytes(), inside.1.to_be_bytes());
        let (outside, inside) = (outside.0, inside.0);
        let tag = Tag::new(self.group, secret);
        let tag = if is_mapped(outside) && is_mapped(inside) {
            tag.ipv4((outside[1] & LAST).rotate_left(32) | (inside[1] & LAST))
        } else {
            tag.ipv6(outside, inside)
        };
        tag.between(u32::from_ne_bytes([a, b, c, d]), self.encapsulation)
    }
}

/// The tag of an ordinary packet's connection, from its bytes: that of its [`Key`], without the detour.
#[inline(always)]
#[must_use]
pub fn tag_of<F: Frame + ?Sized>(
    frame: &F,
    (network, network_at, at): (Network, usize, usize),
    (direction, group): (Direction, u8),
    encapsulation: u32,
    secret: &Secret,
) -> Option<u64> {
    // The same bytes as for the segment, so that they are looked for once.
    let header: &[u8; tcp::HEADER_BYTES] = frame.at(at)?;
    let tag = Tag::new(group.into(), secret);
    let tag = match network {
        Network::Ipv4 => {
            let addresses = raw64::<{ ipv4::HEADER_BYTES }>(frame.at(network_at)?, ipv4::SOURCE_AT);
            tag.ipv4(match direction {
                Direction::Ingress => addresses,
                Direction::Egress => addresses.rotate_left(32),
            })
        }
        Network::Ipv6 => {
            let header: &[u8; ipv6::HEADER_BYTES] = frame.at(network_at)?;
            let (from, to) = ipv6_addresses(&word(header, ipv6::SOURCE_AT));
            match direction {
                Direction::Ingress => tag.ipv6(&from, &to),
                Direction::Egress => tag.ipv6(&to, &from),
            }
        }
        Network::None | Network::Arp => return None,
    };
    let ports = raw32(header, 0);
    let ports = match direction {
        Direction::Ingress => ports,
        Direction::Egress => ports.rotate_left(16),
    };
    Some(tag.between(ports, encapsulation))
}

/// A tag in the making. Addresses and ports in network order, those outside first.
struct Tag {
    state: u64,
    factor: u64,
}

impl Tag {
    #[inline(always)]
    const fn new(group: u32, secret: &Secret) -> Self {
        Self { state: secret.seed ^ group as u64, factor: secret.factor }
    }

    #[inline(always)]
    const fn ipv4(self, addresses: u64) -> Self {
        self.mix(addresses)
    }

    #[inline(always)]
    const fn ipv6(self, outside: &[u64; 2], inside: &[u64; 2]) -> Self {
        self.mix(outside[0] ^ outside[1].rotate_left(32)).mix(outside[1]).mix(inside[0]).mix(inside[1])
    }

    #[inline(always)]
    const fn between(self, ports: u32, encapsulation: u32) -> u64 {
        self.mix(ports as u64).mix(encapsulation as u64).state | 1
    }

    /// Multiplication carries upwards, the shift brings it down again.
    #[inline(always)]
    const fn mix(self, word: u64) -> Self {
        let state = (self.state ^ word).wrapping_mul(self.factor);
        Self { state: state ^ state >> 32, ..self }
    }
}

#[inline(always)]
fn ipv4_addresses(addresses: &[u8; 8]) -> ([u64; 2], [u64; 2]) {
    (Key::mapped(raw32(addresses, 0)), Key::mapped(raw32(addresses, 4)))
}

#[inline(always)]
fn ipv6_addresses(addresses: &[u8; 32]) -> ([u64; 2], [u64; 2]) {
    ([raw64(addresses, 0), raw64(addresses, 8)], [raw64(addresses, 16), raw64(addresses, 24)])
}

/// VLAN identifiers of a frame with that many tags in it, the outermost first, as in [`Key::encapsulation`]: whether a tag
/// was taken out of the frame makes no difference.
#[inline(always)]
#[must_use]
pub fn encapsulation<F: Frame + ?Sized>(frame: &F, meta: &Meta, tags_in_frame: u32) -> u32 {
    const IDENTIFIER: u32 = 0x0fff;
    let tag = |at| frame.at(at).copied().or_else(|| frame.read(at)).map_or(0, |tag| u32::from(u16::from_be_bytes(tag)));
    let stripped = u32::from(meta.tag_control) & IDENTIFIER;
    let is_stripped = meta.tag_protocol != 0;
    if tags_in_frame == 0 {
        return if is_stripped { stripped << 16 } else { 0 };
    }
    let first = tag(FIRST_TAG_AT) & IDENTIFIER;
    if is_stripped {
        return stripped << 16 | first;
    }
    let second = if tags_in_frame == 1 { 0 } else { tag(FIRST_TAG_AT + ethernet::TAG_BYTES) & IDENTIFIER };
    first << 16 | second
}

/// VLAN identifiers in [`Key::encapsulation`], the outer one first; 0: none.
#[must_use]
pub const fn vlans(encapsulation: u32) -> [u16; 2] {
    match tunnel(encapsulation) {
        Some(_) => [0; 2],
        None => [(encapsulation >> 16) as u16, encapsulation as u16],
    }
}

/// The network identifier of a tunnel in [`Key::encapsulation`].
#[must_use]
pub const fn tunnel(encapsulation: u32) -> Option<u32> {
    if encapsulation & Cursor::INSIDE == 0 { None } else { Some(encapsulation & Cursor::IDENTIFIER) }
}

/// Offset of the first tag's control field.
const FIRST_TAG_AT: usize = ethernet::HEADER_BYTES;

/// A packet on its way through a hook, as its connection sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Passing {
    /// See [`Key::tag`].
    pub tag: u64,
    /// What it says.
    pub segment: Segment,
    /// Where its half is among those that share a place, as found.
    pub way: u32,
    /// And its name.
    pub name_way: u32,
    /// What the other direction says.
    pub reverse: Reverse,
    /// Its connection.
    pub key: Key,
}
const _: () = assert!(size_of::<Passing>() == 128);
