//! TCP, UDP, SCTP, ICMP and ICMPv6.

use super::{Built, Change, Checksum, Frame, Layer, Pending, fold, plain, sum};

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u16 = 0x01;
    /// Synchronise.
    pub const SYN: u16 = 0x02;
    /// Reset.
    pub const RST: u16 = 0x04;
    /// Push.
    pub const PSH: u16 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u16 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x20;
    /// ECN echo.
    pub const ECE: u16 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u16 = 0x80;
    /// Accurate ECN, once the nonce sum.
    pub const AE: u16 = 0x100;
}

/// TCP header. By default an ACK.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Header length in 32-bit words; `None` follows from `options`.
    pub header_words: Option<u8>,
    /// [`flag`] bits; three reserved bits above them.
    pub flags: u16,
    /// Window.
    pub window: u16,
    /// Checksum.
    pub checksum: Checksum,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, padded with zeros to a multiple of 4.
    pub options: Vec<u8>,
}

/// UDP header.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Header and payload, in bytes.
    pub length: u16,
    /// Checksum; `Value(0)` is none.
    pub checksum: Checksum,
}

/// ICMP or ICMPv6 header.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: Checksum,
    /// The four bytes behind the checksum.
    pub rest: [u8; 4],
}

/// SCTP common header. Chunks follow, each by [`Frame::chunk`].
#[derive(Clone, Debug)]
pub struct Sctp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Verification tag.
    pub tag: u32,
    /// CRC32c over everything; `None`: the right one.
    pub checksum: Option<u32>,
}

struct TcpLayer {
    source: u16,
    destination: u16,
    change: Change<Tcp>,
}

impl Layer for TcpLayer {
    fn wrap(&self, inner: Built) -> Built {
        let right = |acknowledgement| Tcp {
            source: self.source,
            destination: self.destination,
            sequence: 1,
            acknowledgement,
            header_words: None,
            flags: flag::ACK,
            window: 1000,
            checksum: Checksum::Right,
            urgent: 0,
            options: Vec::new(),
        };
        // Once to learn the flags, then once more with the acknowledgement number that suits them.
        let mut draft = right(0);
        (self.change)(&mut draft);
        let mut tcp = right(u32::from(draft.flags & flag::ACK != 0));
        (self.change)(&mut tcp);
        let mut options = tcp.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = u16::from(tcp.header_words.unwrap_or(5 + (options.len() / 4) as u8));
        let bytes = [
            &tcp.source.to_be_bytes()[..],
            &tcp.destination.to_be_bytes(),
            &tcp.sequence.to_be_bytes(),
            &tcp.acknowledgement.to_be_bytes(),
            &(words << 12 | tcp.flags & 0xfff).to_be_bytes(),
            &tcp.window.to_be_bytes(),
            &[0, 0],
            &tcp.urgent.to_be_bytes(),
            &options,
        ];
        let mut built = inner.prepend(bytes.concat(), None, Some(6));
        let bytes = built.bytes.len();
        built.pending =
            Some(Pending { at: 16, from: 0, bytes, protocol: 6, checksum: tcp.checksum, zero_means_none: false });
        built
    }
}

struct UdpLayer {
    source: u16,
    destination: u16,
    change: Change<Udp>,
}

impl Layer for UdpLayer {
    fn wrap(&self, inner: Built) -> Built {
        let length = 8 + inner.bytes.len() as u16;
        let mut udp = Udp { source: self.source, destination: self.destination, length, checksum: Checksum::Right };
        (self.change)(&mut udp);
        let bytes =
            [udp.source.to_be_bytes(), udp.destination.to_be_bytes(), udp.length.to_be_bytes(), [0, 0]].concat();
        let mut built = inner.prepend(bytes, None, Some(17));
        // A length that is none covers everything.
        let bytes =
            if (8..built.bytes.len()).contains(&udp.length.into()) { udp.length.into() } else { built.bytes.len() };
        built.pending =
            Some(Pending { at: 6, from: 0, bytes, protocol: 17, checksum: udp.checksum, zero_means_none: true });
        built
    }
}

struct SctpLayer {
    source: u16,
    destination: u16,
    change: Change<Sctp>,
}

impl Layer for SctpLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut sctp = Sctp { source: self.source, destination: self.destination, tag: 1, checksum: None };
        (self.change)(&mut sctp);
        let bytes = [&sctp.source.to_be_bytes()[..], &sctp.destination.to_be_bytes(), &sctp.tag.to_be_bytes(), &[0; 4]];
        let mut built = inner.prepend(bytes.concat(), None, Some(132));
        // Least significant byte first (RFC 9260 A).
        let checksum = sctp.checksum.unwrap_or_else(|| crc32c(&built.bytes).swap_bytes());
        built.bytes[8..12].copy_from_slice(&checksum.to_be_bytes());
        built
    }
}

/// The CRC of Castagnoli, reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

struct ChunkLayer {
    kind: u8,
    /// Of the value.
    bytes: usize,
    change: fn(&mut u16),
}

impl Layer for ChunkLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut length = 4 + self.bytes as u16;
        (self.change)(&mut length);
        let header = [&[self.kind, 3][..], &length.to_be_bytes()].concat();
        let value = vec![0; self.bytes.next_multiple_of(4)];
        inner.prepend([header, value].concat(), None, None)
    }
}

struct IcmpLayer {
    version6: bool,
    kind: u8,
    code: u8,
    change: Change<Icmp>,
}

impl Layer for IcmpLayer {
    fn wrap(&self, inner: Built) -> Built {
        let mut icmp = Icmp { kind: self.kind, code: self.code, checksum: Checksum::Right, rest: [0, 1, 0, 1] };
        (self.change)(&mut icmp);
        let bytes = [&[icmp.kind, icmp.code, 0, 0][..], &icmp.rest].concat();
        let checksum = icmp.checksum;
        if self.version6 {
            let mut built = inner.prepend(bytes, None, Some(58));
            let bytes = built.bytes.len();
            built.pending = Some(Pending { at: 2, from: 0, bytes, protocol: 58, checksum, zero_means_none: false });
            built
        } else {
            let mut built = inner.prepend(bytes, None, Some(1));
            // ICMP for IPv4 has no pseudo header.
            built.pending = None;
            let right = fold(sum(&built.bytes));
            built.put_checksum(2, checksum, right);
            built
        }
    }
}

impl Frame {
    /// A TCP header with ACK set.
    pub fn tcp(self, source: u16, destination: u16) -> Self {
        self.tcp_with(source, destination, plain)
    }

    /// A TCP header, with changes.
    pub fn tcp_with(self, source: u16, destination: u16, change: impl Fn(&mut Tcp) + Send + Sync + 'static) -> Self {
        self.layer(TcpLayer { source, destination, change: Box::new(change) })
    }

    /// A UDP header.
    pub fn udp(self, source: u16, destination: u16) -> Self {
        self.udp_with(source, destination, plain)
    }

    /// A UDP header, with changes.
    pub fn udp_with(self, source: u16, destination: u16, change: impl Fn(&mut Udp) + Send + Sync + 'static) -> Self {
        self.layer(UdpLayer { source, destination, change: Box::new(change) })
    }

    /// An SCTP header with verification tag 1.
    pub fn sctp(self, source: u16, destination: u16) -> Self {
        self.sctp_with(source, destination, plain)
    }

    /// An SCTP header, with changes.
    pub fn sctp_with(self, source: u16, destination: u16, change: impl Fn(&mut Sctp) + Send + Sync + 'static) -> Self {
        self.layer(SctpLayer { source, destination, change: Box::new(change) })
    }

    /// An SCTP chunk of this type (0 is data, 1 an INIT) with so many bytes of zeros, padded to a multiple of four; the
    /// next one follows.
    pub fn chunk(self, kind: u8, bytes: usize) -> Self {
        self.chunk_with(kind, bytes, |_| ())
    }

    /// As [`Self::chunk`], with another length.
    pub fn chunk_with(self, kind: u8, bytes: usize, change: fn(&mut u16)) -> Self {
        self.layer(ChunkLayer { kind, bytes, change })
    }

    /// An ICMP header (8 is an echo request).
    pub fn icmp(self, kind: u8, code: u8) -> Self {
        self.icmp_with(kind, code, plain)
    }

    /// An ICMP header, with changes.
    pub fn icmp_with(self, kind: u8, code: u8, change: impl Fn(&mut Icmp) + Send + Sync + 'static) -> Self {
        self.layer(IcmpLayer { version6: false, kind, code, change: Box::new(change) })
    }

    /// An ICMPv6 header (128 is an echo request).
    pub fn icmpv6(self, kind: u8, code: u8) -> Self {
        self.icmpv6_with(kind, code, plain)
    }

    /// An ICMPv6 header, with changes.
    pub fn icmpv6_with(self, kind: u8, code: u8, change: impl Fn(&mut Icmp) + Send + Sync + 'static) -> Self {
        self.layer(IcmpLayer { version6: true, kind, code, change: Box::new(change) })
    }
}
