//! IPv4, IPv6 and its extension headers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Built, Change, Checksum, Frame, Layer, fold, plain, sum};

/// IPv4 header. By default from 10.0.0.1 to 10.0.0.2 with DF and TTL 64.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// 4.
    pub version: u8,
    /// Header length in 32-bit words; `None` follows from `options`.
    pub header_words: Option<u8>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Header, options and what follows, in bytes.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// The reserved flag.
    pub reserved: bool,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of what follows; 253 (experimental) for plain data.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Checksum,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options, padded with zeros to a multiple of 4; `total_length` and `header_words` follow.
    pub options: Vec<u8>,
}

/// IPv6 header. By default from fd00::1 to fd00::2 with hop limit 64.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// 6.
    pub version: u8,
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// What follows the header, in bytes.
    pub payload_length: u16,
    /// Protocol of what follows; 253 (experimental) for plain data.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

/// An IPv6 extension header of the common form (type, length, body).
#[derive(Clone, Debug)]
pub struct Extension {
    /// Protocol of what follows.
    pub next_header: u8,
    /// Length in units of 8 bytes without the first 8; `None` follows from `body`.
    pub length_units: Option<u8>,
    /// What comes behind the two bytes, padded with zeros to a multiple of 8 in all.
    pub body: Vec<u8>,
}

/// The IPv6 fragment header.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Protocol of what follows.
    pub next_header: u8,
    /// First reserved byte.
    pub reserved: u8,
    /// In units of 8 bytes.
    pub offset: u16,
    /// Two reserved bits beside M.
    pub reserved_bits: u8,
    /// M.
    pub more_fragments: bool,
    /// Identification.
    pub identification: u32,
}

const EXPERIMENTAL: u8 = 253;

struct Ipv4Layer {
    change: Change<Ipv4>,
}

impl Layer for Ipv4Layer {
    fn wrap(&self, mut inner: Built) -> Built {
        let right = || Ipv4 {
            version: 4,
            header_words: None,
            traffic_class: 0,
            total_length: 20 + inner.bytes.len() as u16,
            identification: 1,
            reserved: false,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: inner.protocol.unwrap_or(EXPERIMENTAL),
            checksum: Checksum::Right,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            options: Vec::new(),
        };
        // Once to learn the options, then once more over a length that counts them in.
        let mut draft = right();
        (self.change)(&mut draft);
        let options = padded(&draft.options, 4);
        let mut ip = right();
        ip.total_length += options.len() as u16;
        (self.change)(&mut ip);
        inner.settle(sum(&ip.source.octets()) + sum(&ip.destination.octets()));
        let words = ip.header_words.unwrap_or(5 + (options.len() / 4) as u8);
        let flags =
            u16::from(ip.reserved) << 15 | u16::from(ip.dont_fragment) << 14 | u16::from(ip.more_fragments) << 13;
        let bytes = [
            &[ip.version << 4 | words & 15, ip.traffic_class][..],
            &ip.total_length.to_be_bytes(),
            &ip.identification.to_be_bytes(),
            &(flags | ip.fragment_offset & 0x1fff).to_be_bytes(),
            &[ip.ttl, ip.protocol, 0, 0],
            &ip.source.octets(),
            &ip.destination.octets(),
            &options,
        ];
        let bytes = bytes.concat();
        let right = fold(sum(&bytes));
        let mut built = inner.prepend(bytes, Some(0x0800), Some(4));
        built.put_checksum(10, ip.checksum, right);
        built
    }
}

struct Ipv6Layer {
    change: Change<Ipv6>,
}

impl Layer for Ipv6Layer {
    fn wrap(&self, mut inner: Built) -> Built {
        let mut ip = Ipv6 {
            version: 6,
            traffic_class: 0,
            flow_label: 0,
            payload_length: inner.bytes.len() as u16,
            next_header: inner.protocol.unwrap_or(EXPERIMENTAL),
            hop_limit: 64,
            source: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            destination: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        };
        (self.change)(&mut ip);
        inner.settle(sum(&ip.source.octets()) + sum(&ip.destination.octets()));
        let first = u32::from(ip.version) << 28 | u32::from(ip.traffic_class) << 20 | ip.flow_label & 0xf_ffff;
        let bytes = [
            &first.to_be_bytes()[..],
            &ip.payload_length.to_be_bytes(),
            &[ip.next_header, ip.hop_limit],
            &ip.source.octets(),
            &ip.destination.octets(),
        ];
        inner.prepend(bytes.concat(), Some(0x86dd), Some(41))
    }
}

struct ExtensionLayer {
    protocol: u8,
    body: Vec<u8>,
    change: Change<Extension>,
}

impl Layer for ExtensionLayer {
    fn wrap(&self, inner: Built) -> Built {
        let next_header = inner.protocol.unwrap_or(EXPERIMENTAL);
        let mut header = Extension { next_header, length_units: None, body: self.body.clone() };
        (self.change)(&mut header);
        let mut bytes = padded(&[&[0, 0][..], &header.body].concat(), 8);
        bytes[0] = header.next_header;
        bytes[1] = header.length_units.unwrap_or((bytes.len() / 8 - 1) as u8);
        inner.prepend(bytes, None, Some(self.protocol))
    }
}

struct FragmentLayer {
    change: Change<Fragment>,
}

impl Layer for FragmentLayer {
    fn wrap(&self, inner: Built) -> Built {
        let next_header = inner.protocol.unwrap_or(EXPERIMENTAL);
        let mut header = Fragment {
            next_header,
            reserved: 0,
            offset: 0,
            reserved_bits: 0,
            more_fragments: false,
            identification: 1,
        };
        (self.change)(&mut header);
        let field = header.offset << 3 | u16::from(header.reserved_bits & 3) << 1 | u16::from(header.more_fragments);
        let bytes =
            [&[header.next_header, header.reserved][..], &field.to_be_bytes(), &header.identification.to_be_bytes()];
        inner.prepend(bytes.concat(), None, Some(44))
    }
}

impl Frame {
    /// An IPv4 header.
    pub fn ipv4(self, change: impl Fn(&mut Ipv4) + Send + Sync + 'static) -> Self {
        self.layer(Ipv4Layer { change: Box::new(change) })
    }

    /// An IPv6 header.
    pub fn ipv6(self, change: impl Fn(&mut Ipv6) + Send + Sync + 'static) -> Self {
        self.layer(Ipv6Layer { change: Box::new(change) })
    }

    /// An IPv6 extension header of any type of the common form.
    pub fn extension(self, protocol: u8, change: impl Fn(&mut Extension) + Send + Sync + 'static) -> Self {
        // PadN over the whole body: right for the two option headers, and harmless elsewhere.
        self.layer(ExtensionLayer { protocol, body: vec![1, 4, 0, 0, 0, 0], change: Box::new(change) })
    }

    /// A hop-by-hop options header, by default one PadN option.
    pub fn hop_by_hop(self, change: impl Fn(&mut Extension) + Send + Sync + 'static) -> Self {
        self.extension(0, change)
    }

    /// A destination options header, by default one PadN option.
    pub fn destination_options(self, change: impl Fn(&mut Extension) + Send + Sync + 'static) -> Self {
        self.extension(60, change)
    }

    /// A routing header of this type with no segments left.
    pub fn routing(self, kind: u8) -> Self {
        self.extension(43, move |header| header.body = vec![kind, 0, 0, 0, 0, 0])
    }

    /// An IPv6 fragment header.
    pub fn fragment(self, change: impl Fn(&mut Fragment) + Send + Sync + 'static) -> Self {
        self.layer(FragmentLayer { change: Box::new(change) })
    }

    /// An IPv4 header as it should be.
    pub fn ip4(self) -> Self {
        self.ipv4(plain)
    }

    /// An IPv6 header as it should be.
    pub fn ip6(self) -> Self {
        self.ipv6(plain)
    }
}

fn padded(bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(unit), 0);
    bytes
}
