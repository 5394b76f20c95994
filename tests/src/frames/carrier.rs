//! What carries other packets: MPLS labels, GRE. (The headers of VXLAN and GENEVE are [`Frame::data`] before
//! [`Frame::nested`].)

use super::{Built, Change, Frame, Layer, plain};

/// An MPLS label stack entry. The last of a stack is the one behind which no other follows.
#[derive(Clone, Debug)]
pub struct Mpls {
    /// 20 bits.
    pub label: u32,
    /// Traffic class, 3 bits.
    pub traffic_class: u8,
    /// The bottom of the stack.
    pub bottom: bool,
    /// Time to live.
    pub ttl: u8,
}

/// GRE header. By default version 0 without optional fields.
#[derive(Clone, Debug, Default)]
pub struct Gre {
    /// The checksum is present, and here 0.
    pub checksum: bool,
    /// The key.
    pub key: Option<u32>,
    /// The sequence number.
    pub sequence: Option<u32>,
    /// Other bits of the first two bytes, the version among them.
    pub flags: u16,
    /// EtherType of what follows; 0x6558 for a frame with its MAC header.
    pub ether_type: u16,
}

const MPLS: u16 = 0x8847;
const BRIDGED: u16 = 0x6558;

struct MplsLayer {
    label: u32,
    change: Change<Mpls>,
}

impl Layer for MplsLayer {
    fn wrap(&self, inner: Built) -> Built {
        let bottom = inner.ether_type != Some(MPLS);
        let mut entry = Mpls { label: self.label, traffic_class: 0, bottom, ttl: 64 };
        (self.change)(&mut entry);
        let word = entry.label << 12
            | u32::from(entry.traffic_class & 7) << 9
            | u32::from(entry.bottom) << 8
            | u32::from(entry.ttl);
        inner.prepend(word.to_be_bytes().to_vec(), Some(MPLS), None)
    }
}

struct GreLayer {
    change: Change<Gre>,
}

impl Layer for GreLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut gre = Gre { ether_type: inner.ether_type.unwrap_or(BRIDGED), ..Gre::default() };
        (self.change)(&mut gre);
        let present = |field: bool, bit: u16| if field { bit } else { 0 };
        let flags = gre.flags
            | present(gre.checksum, 0x8000)
            | present(gre.key.is_some(), 0x2000)
            | present(gre.sequence.is_some(), 0x1000);
        let mut bytes = [flags.to_be_bytes(), gre.ether_type.to_be_bytes()].concat();
        if gre.checksum {
            bytes.extend([0; 4]);
        }
        bytes.extend([gre.key, gre.sequence].into_iter().flatten().flat_map(u32::to_be_bytes));
        inner.prepend(bytes, None, Some(47))
    }
}

impl Frame {
    /// An MPLS label.
    pub fn mpls(self, label: u32) -> Self {
        self.mpls_with(label, plain)
    }

    /// An MPLS label, with changes.
    pub fn mpls_with(self, label: u32, change: impl Fn(&mut Mpls) + Send + Sync + 'static) -> Self {
        self.layer(MplsLayer { label, change: Box::new(change) })
    }

    /// A GRE header.
    pub fn gre(self, change: impl Fn(&mut Gre) + Send + Sync + 'static) -> Self {
        self.layer(GreLayer { change: Box::new(change) })
    }
}
