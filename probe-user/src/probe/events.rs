//! Examples of what is counted: the kernel's numbers become names, the packet's first bytes become ends of its way.
//! Malformed frames come from [`evidence`](super::evidence).

use std::net::IpAddr;

use anyhow::Result;
use probe_ebpf::{
    abi::{self, DropKey, Retransmit, Tally},
    classify::{Cursor, Layer, Meta, Network, Packet, Transport, classify},
    reason::Malformed,
};

use super::Probe;
use crate::{
    event::{Endpoint, Event, Kind},
    kernel::events::Clock,
};

impl Probe {
    /// At most `most` examples of what was counted since the last call, the oldest first; none while nobody watches.
    ///
    /// # Errors
    /// If the kernel does not tell the time.
    pub fn examples(&mut self, most: usize) -> Result<Vec<Event>> {
        // Half of it for other events, or a flood of malformed frames would hide them.
        let mut examples = self.evidence(most.div_ceil(2))?;
        let batch = self.events.read(most - examples.len());
        if batch.is_empty() {
            return Ok(examples);
        }
        let drops = batch.iter().filter(|event| event.kind == abi::EventKind::Drop as u8);
        self.loaded.learn(drops.map(|event| (event.reason, event.location)));
        let clock = Clock::now()?;
        examples.extend(batch.iter().filter_map(|event| self.describe(event, clock)));
        // Written times have fractions of different lengths.
        examples.sort_by_cached_key(|event| event.time.parse::<jiff::Timestamp>().ok());
        Ok(examples)
    }

    /// Whether somebody wants to see examples. What nobody has read by then is of no use to whoever comes next.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn watch(&mut self, is_watched: bool) -> Result<()> {
        self.loaded.watch(is_watched)?;
        self.events.read(usize::MAX);
        self.evidence(usize::MAX).map(drop)
    }

    /// Examples that could not be shown, since the start: by the programs, or for want of a name.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn events_not_shown(&self) -> Result<u64> {
        let by_programs: u64 = Tally::NOT_SHOWN.into_iter().map(|tally| self.maps.tally(tally)).sum::<Result<_>>()?;
        Ok(by_programs + self.nameless_events)
    }

    /// What an example says; `None` where it is of no kind of this build, or its reason has no name yet.
    fn describe(&mut self, event: &abi::Event, clock: Clock) -> Option<Event> {
        let own = event.netns == self.loaded.netns;
        let interface = if own { self.name_at(event.ifindex).unwrap_or_default().to_owned() } else { String::new() };
        let seen = &event.bytes[..event.captured_bytes as usize];
        let meta = Meta { frame_bytes: event.packet_bytes, first_protocol: event.first_protocol, ..Meta::default() };
        let (protocol, source, destination) = ends(seen, meta);
        let mut described = Event {
            kind: Kind::Drop,
            time: clock.time(event.time_ns),
            interface,
            netns: match event.netns {
                _ if own => "own".to_owned(),
                0 => String::new(),
                inode => inode.to_string(),
            },
            reason: String::new(),
            class: None,
            location: None,
            severity: None,
            direction: None,
            offset: None,
            scope: None,
            link_type: None,
            source_mac: None,
            vlan: None,
            protocol: protocol.to_owned(),
            source,
            destination,
            packet_bytes: event.packet_bytes,
            segments: event.segments,
            bytes: hexadecimal(seen),
            bytes_from: "network".to_owned(),
        };
        match event.kind {
            kind if kind == abi::EventKind::Drop as u8 => {
                let location = (event.location != 0).then(|| self.location(event.location));
                let key = DropKey {
                    location: event.location,
                    netns: event.netns,
                    ifindex: event.ifindex,
                    reason: event.reason,
                    family: 0,
                    pad: [0; 3],
                };
                let Some(reason) = self.loaded.reason(&key) else {
                    self.nameless_events += 1;
                    return None;
                };
                let (reason, class) = self.shown(reason);
                described.reason = reason;
                described.class = Some(class.id().to_owned());
                described.location = location;
            }
            kind if kind == abi::EventKind::Retransmit as u8 => {
                let kind = Retransmit::ALL.get(event.reason as usize).map_or("unknown", |kind| kind.id());
                described.kind = Kind::Retransmit;
                described.bytes_from = "socket".to_owned();
                described.reason = kind.to_owned();
            }
            _of_another_build => return None,
        }
        Some(described)
    }

    /// As `function+0x12`, or the address.
    fn location(&mut self, address: u64) -> String {
        match self.loaded.symbols.resolve(address) {
            Some((function, offset)) => format!("{function}+{offset:#x}"),
            None => format!("{address:#x}"),
        }
    }
}

/// Protocol and both ends of a packet, as far as its first bytes tell.
pub(super) fn ends(seen: &[u8], meta: Meta) -> (&'static str, Option<Endpoint>, Option<Endpoint>) {
    let (cursor, layer) = classify(seen, meta);
    let packet = with_transport(cursor);
    let address = |at: usize| address(seen, packet, at);
    let (source, destination) = match packet.network {
        Network::Ipv4 => (address(12), address(16)),
        Network::Ipv6 => (address(8), address(24)),
        // Of the protocol, behind hardware and protocol type, four lengths and codes, and one hardware address.
        Network::Arp => (address(14), address(24)),
        Network::None => (None, None),
    };
    let port = |at: usize| {
        let has_ports = matches!(packet.transport, Transport::Tcp | Transport::Udp | Transport::Sctp);
        let bytes = seen.get(usize::from(packet.transport_at) + at..)?.first_chunk()?;
        has_ports.then(|| u16::from_be_bytes(*bytes))
    };
    let end = |address: Option<IpAddr>, at| Some(Endpoint { address: address?, port: port(at) });
    (protocol(packet, layer), end(source, 0), end(destination, 2))
}

/// A transport header that contradicts itself in its first fields is not taken for one, and its ports are its first fields.
fn with_transport(cursor: Cursor) -> Packet {
    let transport = match cursor.finding().map(|finding| finding.reason) {
        Some(Malformed::TcpShort | Malformed::TcpDoff) => Transport::Tcp,
        Some(Malformed::UdpShort) => Transport::Udp,
        _understood => cursor.packet.transport,
    };
    // Such a finding ends the walk where the header begins.
    let is_told = cursor.packet.transport == Transport::None && transport != Transport::None;
    let transport_at = if is_told { cursor.at as u16 } else { cursor.packet.transport_at };
    Packet { transport, transport_at, ..cursor.packet }
}

fn address(seen: &[u8], packet: Packet, at: usize) -> Option<IpAddr> {
    let bytes = seen.get(usize::from(packet.network_at) + at..)?;
    match packet.network {
        Network::Ipv6 => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        Network::None => None,
        Network::Ipv4 | Network::Arp => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
    }
}

const fn protocol(packet: Packet, layer: Layer) -> &'static str {
    match (packet.transport, packet.network) {
        (Transport::Tcp, _) => "tcp",
        (Transport::Udp, _) => "udp",
        (Transport::Icmp, _) => "icmp",
        (Transport::Icmpv6, _) => "icmpv6",
        (Transport::Sctp, _) => "sctp",
        (Transport::Fragment, _) => "fragment",
        (Transport::None, Network::Arp) => "arp",
        (Transport::None, Network::Ipv4) => "ipv4",
        (Transport::None, Network::Ipv6) => "ipv6",
        // The header is not all there, or of no protocol that is understood.
        (Transport::None, Network::None) => match layer {
            Layer::Ipv4 => "ipv4",
            Layer::Ipv6 => "ipv6",
            _ => "other",
        },
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], first_protocol: u16, packet_bytes: u32) -> String {
        let meta = Meta { frame_bytes: packet_bytes, first_protocol, ..Meta::default() };
        let (protocol, source, destination) = ends(bytes, meta);
        let end = |end: Option<Endpoint>| end.map_or_else(|| "-".to_owned(), |end| end.to_string());
        format!("{protocol} {} {}", end(source), end(destination))
    }

    fn ip4(protocol: u8, payload: &[u8], flags: u16) -> Vec<u8> {
        let length = 20 + payload.len() as u16;
        let mut bytes =
            [&[0x45, 0], &length.to_be_bytes()[..], &[0, 0], &flags.to_be_bytes(), &[64, protocol, 0, 0]].concat();
        bytes.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        let sum: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        bytes[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        [bytes, payload.to_vec()].concat()
    }

    #[test]
    fn ends_of_packets() {
        let udp = [0x0f, 0xa0, 0, 53, 0, 8, 0, 0];
        let tcp = |offset: u8| [&[0x0f, 0xa0, 0, 80][..], &[0; 8], &[offset, 0x10], &[0; 6]].concat();
        let whole = ip4(17, &udp, 0);
        let mut bad_sum = whole.clone();
        bad_sum[10] ^= 1;
        let ip6 = [&[0x60, 0, 0, 0, 0, 8, 17, 64][..], &[0x20; 16], &[0x30; 16], &udp].concat();
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &[192, 0, 2, 1], &[0; 6], &[192, 0, 2, 9]].concat();
        let framed = [&[2; 6][..], &[4; 6], &[8, 0], &whole].concat();
        for (bytes, first_protocol, packet_bytes, expected) in [
            (&whole[..], 0x0800, 28, "udp 192.0.2.1:4000 192.0.2.2:53"),
            (&framed[..], 0, 42, "udp 192.0.2.1:4000 192.0.2.2:53"),
            (
                &ip6[..],
                0x86dd,
                48,
                "udp [2020:2020:2020:2020:2020:2020:2020:2020]:4000 [3030:3030:3030:3030:3030:3030:3030:3030]:53",
            ),
            (&arp[..], 0x0806, 28, "arp 192.0.2.1 192.0.2.9"),
            (&ip4(47, &[0; 8], 0)[..], 0x0800, 28, "ipv4 192.0.2.1 192.0.2.2"),
            (&ip4(1, &[8, 0, 0, 0, 0, 0, 0, 0], 0)[..], 0x0800, 28, "icmp 192.0.2.1 192.0.2.2"),
            (&ip4(17, &udp, 0x2000)[..], 0x0800, 28, "fragment 192.0.2.1 192.0.2.2"),
            (&ip4(6, &tcp(0x10), 0)[..], 0x0800, 40, "tcp 192.0.2.1:4000 192.0.2.2:80"),
            (&ip4(6, &tcp(0xf0), 0)[..], 0x0800, 40, "tcp 192.0.2.1:4000 192.0.2.2:80"),
            (&ip4(6, &tcp(0x50)[..6], 0)[..], 0x0800, 26, "tcp 192.0.2.1:4000 192.0.2.2:80"),
            (&ip4(6, &tcp(0x50)[..3], 0)[..], 0x0800, 23, "tcp 192.0.2.1:4000 192.0.2.2"),
            (&ip4(17, &udp[..4], 0)[..], 0x0800, 24, "udp 192.0.2.1:4000 192.0.2.2:53"),
            (&ip4(17, &[&udp[..4], &[0, 3, 0, 0]].concat(), 0)[..], 0x0800, 28, "udp 192.0.2.1:4000 192.0.2.2:53"),
            (&bad_sum[..], 0x0800, 28, "ipv4 192.0.2.1 192.0.2.2"),
            (&whole[..10], 0x0800, 28, "other - -"),
            (&whole[..], 0x88cc, 28, "other - -"),
            (&[], 0x0800, 0, "other - -"),
        ] {
            assert_eq!(shown(bytes, first_protocol, packet_bytes), expected);
        }
    }

    #[test]
    fn bytes_as_text() {
        assert_eq!(hexadecimal(&[0, 0x0a, 0xff]), "000aff");
    }
}
