//! Link types: what stands in front of the frame that the classifier knows, and what it tells.
//!
//! Numbers are those of the registry (draft-ietf-opsawg-pcaplinktype); 12 and 14 are what some systems write for 101.

use probe_ebpf::{
    classify::{LOOPBACK, Meta},
    wire::ethernet,
};

use super::capture::Record;

/// A link type that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// BSD's loopback: an address family in the capturing machine's order of bytes.
    Null,
    Ethernet,
    /// IPv4 or IPv6, by its own version field.
    Ip,
    /// OpenBSD's loopback: an address family in network order.
    Loop,
    /// Linux' `any` device.
    Cooked,
    Ipv4,
    Ipv6,
    /// Linux' `any` device, second version.
    Cooked2,
}

impl Link {
    #[inline]
    const fn of(link_type: u32) -> Option<Self> {
        Some(match link_type {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 => Self::Ip,
            108 => Self::Loop,
            113 => Self::Cooked,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::Cooked2,
            _ => return None,
        })
    }
}

/// Other link types that captures are made of, by the registry's names.
pub(super) fn name(link_type: u32) -> &'static str {
    match link_type {
        6 => "IEEE802_5",
        8 => "SLIP",
        9 => "PPP",
        10 => "FDDI",
        50 => "PPP_HDLC",
        51 => "PPP_ETHER",
        104 => "C_HDLC",
        105 => "IEEE802_11",
        107 => "FRELAY",
        119 => "IEEE802_11_PRISM",
        127 => "IEEE802_11_RADIOTAP",
        143 => "DOCSIS",
        147..=162 => "USER",
        163 => "IEEE802_11_AVS",
        187 | 201 => "BLUETOOTH_HCI_H4",
        189 | 220 => "USB_LINUX",
        192 => "PPI",
        195 | 215 | 230 | 283 => "IEEE802_15_4",
        227 => "CAN_SOCKETCAN",
        239 => "NFLOG",
        247 => "INFINIBAND",
        249 => "USBPCAP",
        252 => "WIRESHARK_UPPER_PDU",
        253 => "NETLINK",
        254 => "BLUETOOTH_LINUX_MONITOR",
        268 => "USB_2_0",
        270 => "DSA_TAG_BRCM",
        _ => "unknown",
    }
}

/// What a record turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened<'w> {
    /// Of a link type that is not read.
    Skipped,
    /// Its link header is cut, or was not captured whole.
    Unseen,
    /// Neither IP nor ARP nor Ethernet is in it.
    Other,
    /// A frame for the classifier.
    Frame(Frame<'w>),
}

/// What the classifier is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'w> {
    /// From the first byte that the classifier knows.
    pub(super) bytes: &'w [u8],
    pub(super) meta: Meta,
    /// Bytes in front of it.
    pub(super) link_bytes: u16,
    /// VLAN identifiers in the link header, as in a flow's key.
    pub(super) encapsulation: u32,
    /// The tunnel that its packet is in, as in a flow's key; 0: none, or not looked at.
    pub(super) tunnel: u32,
    /// Where it was seen: the capture's interface, or the one that the link header names.
    pub(super) point: u32,
    /// Whether the capturing machine sent it, where the capture says so.
    pub(super) sent: Option<bool>,
}

/// Takes off what stands in front.
#[inline]
pub(super) fn open<'w>(record: &Record<'w>) -> Opened<'w> {
    let Some(link) = Link::of(record.link_type) else { return Opened::Skipped };
    let bytes = record.bytes;
    let family = |word: Option<[u8; 4]>, is_host_order: bool| {
        let number = u32::from_be_bytes(word?);
        // Families are small numbers: what is large was written the other way around.
        let number = if is_host_order && number > 0xffff { number.swap_bytes() } else { number };
        Some(match number {
            2 => ethernet::IPV4,
            24 | 28 | 30 => ethernet::IPV6,
            _ => 0,
        })
    };
    let head = bytes.first_chunk().copied();
    let inner = match link {
        Link::Ethernet => return Opened::Frame(frame(record, Inner::default())),
        Link::Ipv4 => Some(Inner { protocol: ethernet::IPV4, ..Inner::default() }),
        Link::Ipv6 => Some(Inner { protocol: ethernet::IPV6, ..Inner::default() }),
        Link::Ip => {
            let is_6 = bytes.first().is_some_and(|first| first >> 4 == 6);
            Some(Inner { protocol: if is_6 { ethernet::IPV6 } else { ethernet::IPV4 }, ..Inner::default() })
        }
        Link::Null => family(head, true).map(Inner::loopback),
        Link::Loop => family(head, false).map(Inner::loopback),
        Link::Cooked => cooked(bytes),
        Link::Cooked2 => cooked2(bytes),
    };
    match inner {
        None => Opened::Unseen,
        Some(inner) if inner.protocol == 0 => Opened::Other,
        Some(inner) => Opened::Frame(frame(record, inner)),
    }
}

/// What a link header says.
#[derive(Clone, Copy, Default)]
struct Inner {
    /// EtherType, 0 for what is none.
    protocol: u16,
    bytes: u16,
    flags: u8,
    encapsulation: u32,
    point: u32,
    sent: Option<bool>,
}

impl Inner {
    fn loopback(protocol: u16) -> Self {
        Self { protocol, bytes: 4, flags: LOOPBACK, ..Self::default() }
    }

    /// Moves over tags, which libpcap puts back between the header and what it announces.
    fn untagged(mut self, bytes: &[u8]) -> Option<Self> {
        for shift in [16, 0] {
            if !matches!(self.protocol, ethernet::C_TAG | ethernet::S_TAG | ethernet::OLD_S_TAG) {
                break;
            }
            let [control_high, control_low, protocol @ ..] =
                *bytes.get(usize::from(self.bytes)..)?.first_chunk::<4>()?;
            let vlan = u32::from(u16::from_be_bytes([control_high, control_low]) & 0x0fff);
            self.encapsulation |= vlan << shift;
            self.protocol = u16::from_be_bytes(protocol);
            self.bytes += 4;
        }
        Some(self)
    }
}

/// Linux' ARPHRD_LOOPBACK.
const LOOPBACK_DEVICE: u16 = 772;
/// Linux' PACKET_OUTGOING; what is less came in, or passed by.
const OUTGOING: u8 = 4;

const fn loopback_flag(device: u16) -> u8 {
    if device == LOOPBACK_DEVICE { LOOPBACK } else { 0 }
}

const fn sent(packet_type: u8) -> Option<bool> {
    match packet_type {
        0..OUTGOING => Some(false),
        OUTGOING => Some(true),
        _ => None,
    }
}

/// Packet type, device type, address length, address (8 bytes), protocol.
fn cooked(bytes: &[u8]) -> Option<Inner> {
    let header: &[u8; 16] = bytes.first_chunk()?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let inner = Inner {
        protocol: number(14),
        bytes: 16,
        flags: loopback_flag(number(2)),
        sent: if header[0] == 0 { sent(header[1]) } else { None },
        ..Inner::default()
    };
    inner.untagged(bytes)
}

/// Protocol, two bytes of nothing, interface index, device type, packet type, address length, address (8 bytes).
fn cooked2(bytes: &[u8]) -> Option<Inner> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let inner = Inner {
        protocol: number(0),
        bytes: 20,
        flags: loopback_flag(number(8)),
        point: u32::from(number(4)) << 16 | u32::from(number(6)),
        sent: sent(header[10]),
        ..Inner::default()
    };
    inner.untagged(bytes)
}

#[inline]
fn frame<'w>(record: &Record<'w>, inner: Inner) -> Frame<'w> {
    let meta = Meta {
        frame_bytes: record.frame_bytes.saturating_sub(inner.bytes.into()),
        first_protocol: inner.protocol,
        flags: inner.flags,
        ..Meta::default()
    };
    Frame {
        bytes: record.bytes.get(usize::from(inner.bytes)..).unwrap_or_default(),
        meta,
        link_bytes: inner.bytes,
        encapsulation: inner.encapsulation,
        tunnel: 0,
        // Interfaces of a file are few: they and the machine's do not meet.
        point: if inner.point == 0 { record.interface } else { inner.point | 1 << 31 },
        sent: inner.sent.or(record.sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(link_type: u32, bytes: &[u8]) -> Record<'_> {
        let frame_bytes = bytes.len() as u32;
        Record { bytes, frame_bytes, time_ns: 0, link_type, interface: 7, sent: None }
    }

    /// What is in front of the frame, which protocol it has, and the flags.
    fn seen(link_type: u32, bytes: &[u8]) -> Result<(u16, u16, u8), Opened<'_>> {
        match open(&record(link_type, bytes)) {
            Opened::Frame(frame) => {
                assert_eq!(frame.bytes, &bytes[usize::from(frame.link_bytes)..]);
                assert_eq!(frame.meta.frame_bytes as usize, frame.bytes.len());
                Ok((frame.link_bytes, frame.meta.first_protocol, frame.meta.flags))
            }
            other => Err(other),
        }
    }

    #[test]
    fn every_link_type() {
        let v4 = [0x45, 0, 0, 20];
        let v6 = [0x60, 0, 0, 0];
        let cooked = |packet_type: u8, device: u16, protocol: u16| {
            [&[0, packet_type][..], &device.to_be_bytes(), &[0, 6, 2, 0, 0, 0, 0, 1, 0, 0], &protocol.to_be_bytes()]
                .concat()
        };
        let cooked2 = |packet_type: u8, device: u16, protocol: u16| {
            let start = [&protocol.to_be_bytes()[..], &[0, 0, 0, 0, 0, 3], &device.to_be_bytes()].concat();
            [&start[..], &[packet_type, 6, 2, 0, 0, 0, 0, 1, 0, 0]].concat()
        };
        for (name, link_type, head, frame, expected) in [
            ("ethernet", 1, vec![], vec![2; 60], Ok((0, 0, 0))),
            ("null, little", 0, vec![2, 0, 0, 0], v4.to_vec(), Ok((4, 0x800, LOOPBACK))),
            ("null, big", 0, vec![0, 0, 0, 2], v4.to_vec(), Ok((4, 0x800, LOOPBACK))),
            ("null, FreeBSD's IPv6", 0, vec![28, 0, 0, 0], v6.to_vec(), Ok((4, 0x86dd, LOOPBACK))),
            ("null, macOS' IPv6", 0, vec![30, 0, 0, 0], v6.to_vec(), Ok((4, 0x86dd, LOOPBACK))),
            ("null, NetBSD's IPv6", 0, vec![0, 0, 0, 24], v6.to_vec(), Ok((4, 0x86dd, LOOPBACK))),
            ("null, IPX", 0, vec![23, 0, 0, 0], v4.to_vec(), Err(Opened::Other)),
            ("null, cut", 0, vec![2, 0, 0], vec![], Err(Opened::Unseen)),
            ("loop", 108, vec![0, 0, 0, 24], v6.to_vec(), Ok((4, 0x86dd, LOOPBACK))),
            ("loop is never little", 108, vec![2, 0, 0, 0], v4.to_vec(), Err(Opened::Other)),
            ("raw 12", 12, vec![], v4.to_vec(), Ok((0, 0x800, 0))),
            ("raw 14", 14, vec![], v6.to_vec(), Ok((0, 0x86dd, 0))),
            ("raw 101", 101, vec![], v6.to_vec(), Ok((0, 0x86dd, 0))),
            ("raw, neither", 101, vec![], vec![0x50], Ok((0, 0x800, 0))),
            ("raw, nothing", 101, vec![], vec![], Ok((0, 0x800, 0))),
            ("IPv4 whatever it says", 228, vec![], v6.to_vec(), Ok((0, 0x800, 0))),
            ("IPv6 whatever it says", 229, vec![], v4.to_vec(), Ok((0, 0x86dd, 0))),
            ("cooked", 113, cooked(0, 1, 0x800), v4.to_vec(), Ok((16, 0x800, 0))),
            ("cooked, loopback", 113, cooked(4, 772, 0x86dd), v6.to_vec(), Ok((16, 0x86dd, LOOPBACK))),
            ("cooked, LLC", 113, cooked(0, 1, 4), vec![0x42; 9], Ok((16, 4, 0))),
            ("cooked, tagged", 113, [cooked(0, 1, 0x8100), vec![0, 5, 8, 0]].concat(), v4.to_vec(), Ok((20, 0x800, 0))),
            ("cooked, cut", 113, cooked(0, 1, 0x800)[..15].to_vec(), vec![], Err(Opened::Unseen)),
            ("cooked, tag cut", 113, [cooked(0, 1, 0x8100), vec![0, 5, 8]].concat(), vec![], Err(Opened::Unseen)),
            ("cooked 2", 276, cooked2(0, 1, 0x806), vec![0; 28], Ok((20, 0x806, 0))),
            ("cooked 2, loopback", 276, cooked2(0, 772, 0x800), v4.to_vec(), Ok((20, 0x800, LOOPBACK))),
            ("wireless", 127, vec![], vec![0; 60], Err(Opened::Skipped)),
        ] {
            let bytes = [head, frame].concat();
            assert_eq!(seen(link_type, &bytes), expected, "{name}");
        }
    }

    #[test]
    fn what_link_headers_tell_besides() {
        let bytes =
            [&[0x88, 0xa8, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6][..], &[0; 8], &[0, 5, 0x81, 0, 0xe0, 6, 8, 0], &[0x45; 20]]
                .concat();
        let Opened::Frame(frame) = open(&record(276, &bytes)) else { panic!("no frame") };
        assert_eq!((frame.link_bytes, frame.meta.first_protocol, frame.encapsulation), (28, 0x800, 5 << 16 | 6));
        assert_eq!((frame.point, frame.sent), (3 | 1 << 31, Some(true)));
        let cut = Record { frame_bytes: 1500, ..record(228, &bytes) };
        let Opened::Frame(frame) = open(&cut) else { panic!("no frame") };
        assert_eq!((frame.meta.frame_bytes, frame.point, frame.sent), (1500, 7, None));
    }
}
