//! Frames byte by byte: each call adds one header inside the one before, and everything that depends on the rest
//! (lengths, types, checksums) is right unless a closure says otherwise.
//!
//! ```
//! # use tests::frames::*;
//! let frame = ethernet(B, A).ipv4(|ip| ip.total_length -= 1).udp(1000, 2000).payload(22).bytes();
//! assert_eq!(frame.len(), 14 + 20 + 8 + 22);
//! ```
//!
//! A closure sees the header with its right values already in it, in host byte order, and changes what it likes; a
//! checksum is then computed over the changed header unless it was set ([`Checksum`]). A header without changes takes
//! [`plain`].

mod carrier;
mod link;
mod network;
mod transport;

pub use carrier::{Gre, Mpls};
pub use link::{Arp, Ethernet, Llc, Vlan};
pub use network::{Extension, Fragment, Ipv4, Ipv6};
pub use transport::{Icmp, Sctp, Tcp, Udp, flag};

/// A hardware address.
pub type Mac = [u8; 6];

/// The hardware address of side A, by convention the sender.
pub const A: Mac = [2, 0, 0, 0, 0, 0x0a];
/// The hardware address of side B, by convention the receiver.
pub const B: Mac = [2, 0, 0, 0, 0, 0x0b];

/// What a header's checksum field holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    #[default]
    Right,
    /// A wrong one: the right one with its lowest bit changed.
    Wrong,
    /// Just this number.
    Value(u16),
    /// What a sender leaves to the network card to finish: the sum of the pseudo header. Right where there is none.
    Unfinished,
}

/// Changes nothing: the closure of a header that is as it should be.
pub fn plain<T>(_: &mut T) {}

type Change<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// A frame under construction, outermost header first.
#[must_use]
#[derive(Default)]
pub struct Frame {
    layers: Vec<Box<dyn Layer>>,
    finish: Vec<Finish>,
}

enum Finish {
    Cut(usize),
    Pad(usize),
    Poke(usize, Vec<u8>),
    Append(Vec<u8>),
}

/// An Ethernet frame from `source` to `destination`, in the order of the wire.
pub fn ethernet(destination: Mac, source: Mac) -> Frame {
    ethernet_with(destination, source, plain)
}

/// As [`ethernet`], with changes.
pub fn ethernet_with(destination: Mac, source: Mac, change: impl Fn(&mut Ethernet) + Send + Sync + 'static) -> Frame {
    Frame::default().layer(link::EthernetLayer { destination, source, change: Box::new(change) })
}

/// A packet without link header, as on a tun device; add its IP header.
pub fn packet() -> Frame {
    Frame::default()
}

impl Frame {
    fn layer(mut self, layer: impl Layer + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// These bytes as they are.
    pub fn data(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.layer(Data { bytes: bytes.into() })
    }

    /// That many bytes, counting up.
    pub fn payload(self, length: usize) -> Self {
        self.data((0..length).map(|at| at as u8).collect::<Vec<_>>())
    }

    /// Another frame inside this one, for instance behind the VXLAN header given by [`Frame::data`].
    pub fn nested(mut self, inner: Frame) -> Self {
        self.layers.extend(inner.layers);
        self.finish.extend(inner.finish);
        self
    }

    /// Only the first `length` bytes of the finished frame; the headers know nothing of it.
    pub fn cut(mut self, length: usize) -> Self {
        self.finish.push(Finish::Cut(length));
        self
    }

    /// Zeros up to `length` bytes behind the finished frame, as a sender pads to 60.
    pub fn pad(mut self, length: usize) -> Self {
        self.finish.push(Finish::Pad(length));
        self
    }

    /// Bytes behind the finished frame.
    pub fn trailer(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.finish.push(Finish::Append(bytes.into()));
        self
    }

    /// Overwrites bytes of the finished frame; bytes behind its end are ignored.
    pub fn poke(mut self, at: usize, bytes: impl Into<Vec<u8>>) -> Self {
        self.finish.push(Finish::Poke(at, bytes.into()));
        self
    }

    /// The frame as it is on the wire, without FCS.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut built = Built::default();
        for layer in self.layers.iter().rev() {
            built = layer.wrap(built);
        }
        // A transport header that no IP header encloses is summed without pseudo header.
        built.settle(0);
        let mut bytes = built.bytes;
        for finish in &self.finish {
            match finish {
                Finish::Cut(length) => bytes.truncate(*length),
                Finish::Pad(length) => bytes.resize(bytes.len().max(*length), 0),
                Finish::Append(trailer) => bytes.extend(trailer),
                Finish::Poke(at, patch) => bytes.iter_mut().skip(*at).zip(patch).for_each(|(to, from)| *to = *from),
            }
        }
        bytes
    }
}

/// A header that can enclose what was built so far.
trait Layer: Send + Sync {
    fn wrap(&self, inner: Built) -> Built;
}

/// The inner part of a frame, and what the next outer header has to know of it.
#[derive(Default)]
struct Built {
    bytes: Vec<u8>,
    ether_type: Option<u16>,
    protocol: Option<u8>,
    /// A checksum that waits for the pseudo header of the next outer IP header.
    pending: Option<Pending>,
}

struct Pending {
    /// Where the field is, from the start of `Built::bytes`.
    at: usize,
    /// Where the summed part starts.
    from: usize,
    /// How long it is.
    bytes: usize,
    protocol: u8,
    checksum: Checksum,
    zero_means_none: bool,
}

impl Built {
    /// Puts `header` in front.
    fn prepend(mut self, header: Vec<u8>, ether_type: Option<u16>, protocol: Option<u8>) -> Self {
        if let Some(pending) = &mut self.pending {
            pending.at += header.len();
            pending.from += header.len();
        }
        self.bytes.splice(0..0, header);
        Self { ether_type, protocol, ..self }
    }

    /// Writes the waiting checksum; `addresses` is the sum over the pseudo header's two addresses.
    fn settle(&mut self, addresses: u64) {
        let Some(Pending { at, from, bytes, protocol, checksum, zero_means_none }) = self.pending.take() else {
            return;
        };
        let pseudo = addresses + u64::from(protocol) + bytes as u64;
        let checksum = match checksum {
            Checksum::Unfinished => Checksum::Value(!fold(pseudo)),
            other => other,
        };
        let right = match fold(pseudo + sum(&self.bytes[from..from + bytes])) {
            0 if zero_means_none => 0xffff,
            other => other,
        };
        self.put_checksum(at, checksum, right);
    }

    fn put_checksum(&mut self, at: usize, checksum: Checksum, right: u16) {
        let value = match checksum {
            Checksum::Right | Checksum::Unfinished => right,
            Checksum::Wrong => right ^ 1,
            Checksum::Value(value) => value,
        };
        self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

struct Data {
    bytes: Vec<u8>,
}

impl Layer for Data {
    fn wrap(&self, inner: Built) -> Built {
        inner.prepend(self.bytes.clone(), None, None)
    }
}

/// The sum of 16-bit words (RFC 1071), an odd byte padded with zero.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low))).sum()
}

/// The Internet checksum of a sum.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
