//! Frame in, packet or contradiction out: the only place that composes the layers of [`crate::wire`].
//!
//! A layer is one function `step(frame, cursor) -> Step`: it judges one header, moves the [`Cursor`] behind it and
//! names the layer that follows. [`headers`] goes through all of them; in the kernel it is one global function, whose
//! state lies in a map and is settled there between steps ([`Frame::settle`]), and IPv4 options are another.
//! One frame has at most one finding: the one of highest severity, among equals the outermost. An error ends the walk.

use crate::{
    frame::Frame,
    reason::{Malformed, Severity},
    wire,
};

/// Steps of a walk at most: the headers, IPv4 options, the headers behind them, a tunnel's header, the same once more
/// inside, and one to end on.
const MAX_STEPS: usize = 2 * (2 + wire::ipv4::MAX_OPTION_STEPS) + 2;

/// How the first bytes of a device's frames are to be read. From the device type, by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkKind {
    /// Frames are counted and not looked into.
    Opaque = 0,
    /// A MAC header comes first.
    Ethernet = 1,
    /// The network header comes first; which one says `skb->protocol` (tun, WireGuard, IPIP, SIT, PPP, raw IP).
    Network = 2,
    /// Like [`LinkKind::Network`] at ingress, opaque at egress, where the device's own header is not finished (GRE).
    NetworkIngress = 3,
}

impl LinkKind {
    /// How the API names it.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Ethernet => "ethernet",
            Self::Network => "network",
            Self::NetworkIngress => "network_ingress",
        }
    }
}

/// Meta flag: the device is a loopback.
pub const LOOPBACK: u8 = 1;
/// Meta flag: the frame arrived on a device with a parent device, so a MAC has padded it to 60 bytes.
pub const FROM_WIRE: u8 = 2;

/// UDP ports of this node's tunnels on a device that carries their packets; 0: none. On every other device, and behind
/// every translation of addresses, these ports are anybody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TunnelPorts {
    /// VXLAN, VXLAN-GPE included.
    pub vxlan: [u16; 2],
    /// GENEVE.
    pub geneve: [u16; 2],
}

impl TunnelPorts {
    /// No tunnel.
    pub const NONE: Self = Self { vxlan: [0; 2], geneve: [0; 2] };

    /// Whether there is none.
    #[inline(always)]
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.vxlan[0] | self.vxlan[1] | self.geneve[0] | self.geneve[1] == 0
    }

    /// The layer behind a UDP header with that destination port, if it is a tunnel's.
    #[inline(always)]
    #[must_use]
    pub const fn layer(&self, destination_port: u16) -> Option<Layer> {
        if destination_port == 0 || self.is_none() {
            None
        } else if destination_port == self.vxlan[0] || destination_port == self.vxlan[1] {
            Some(Layer::Vxlan)
        } else if destination_port == self.geneve[0] || destination_port == self.geneve[1] {
            Some(Layer::Geneve)
        } else {
            None
        }
    }
}

/// What is known about a frame besides its bytes. All sizes in bytes, all numbers in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// Length of the whole frame as the hook sees it, stripped tags not included.
    pub frame_bytes: u32,
    /// Payload bytes of each wire segment if the frame is a GSO/GRO packet, else 0.
    pub gso_size: u32,
    /// The device's MTU, 0 if not known.
    pub mtu_bytes: u32,
    /// TPID of the tag that hardware or kernel took out of the frame, 0 if none.
    pub tag_protocol: u16,
    /// TCI of that tag.
    pub tag_control: u16,
    /// EtherType of the first header on devices without a MAC header, else 0.
    pub first_protocol: u16,
    /// [`LOOPBACK`], [`FROM_WIRE`].
    pub flags: u8,
    #[doc(hidden)]
    pub pad: u8,
    /// Tunnels whose packets the device carries.
    pub tunnels: TunnelPorts,
}

/// The network protocol of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Network {
    #[default]
    None = 0,
    Ipv4 = 1,
    Ipv6 = 2,
    Arp = 3,
}

/// The transport protocol of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Transport {
    /// None, or one that is not understood.
    #[default]
    None = 0,
    Tcp = 1,
    Udp = 2,
    Icmp = 3,
    Icmpv6 = 4,
    /// Any fragment, also the first: its transport header does not describe it.
    Fragment = 5,
    Sctp = 6,
}

/// Where a frame's headers are. Offsets and sizes in bytes from the frame's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Packet {
    /// Network protocol at `network_at`.
    pub network: Network,
    /// Transport protocol at `transport_at`.
    pub transport: Transport,
    /// Offset of the network header.
    pub network_at: u16,
    /// Offset of the transport header, 0 if there is none.
    pub transport_at: u16,
    /// Bytes of all headers that were understood: what each wire segment of a GSO packet repeats.
    pub header_bytes: u16,
    /// Bytes behind those headers up to the end of the IP datagram.
    pub payload_bytes: u32,
}

/// A contradiction and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub reason: Malformed,
    /// Offset of the field that contradicts, in bytes from the frame's first byte.
    pub at: u16,
}

/// The layer that follows. The numbers cross the boundary of the kernel's global functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Layer {
    /// Everything was judged.
    End = 0,
    /// Not understood: neither well formed nor malformed.
    Other = 1,
    /// Headers reach beyond the bytes that were captured, or beyond a bound of the parser.
    Unseen = 2,
    Ethernet = 3,
    Arp = 4,
    Ipv4 = 5,
    Ipv4Options = 6,
    Ipv6 = 7,
    Tcp = 8,
    Udp = 9,
    Icmp = 10,
    Icmpv6 = 11,
    Vxlan = 12,
    Geneve = 13,
    Mpls = 14,
    Gre = 15,
    Sctp = 16,
    /// Known, and about the link itself: STP, LLDP, LACP and the like.
    Control = 17,
}

impl Layer {
    /// The layer with this number; every number that is none is [`Layer::Unseen`].
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::End,
            1 => Self::Other,
            3 => Self::Ethernet,
            4 => Self::Arp,
            5 => Self::Ipv4,
            6 => Self::Ipv4Options,
            7 => Self::Ipv6,
            8 => Self::Tcp,
            9 => Self::Udp,
            10 => Self::Icmp,
            11 => Self::Icmpv6,
            12 => Self::Vxlan,
            13 => Self::Geneve,
            14 => Self::Mpls,
            15 => Self::Gre,
            16 => Self::Sctp,
            17 => Self::Control,
            _ => Self::Unseen,
        }
    }
}

/// Why a walk ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An error was found and noted.
    Contradiction,
    /// See [`Layer::Unseen`].
    Unseen,
}

/// What a layer's function returns.
pub type Step = Result<Layer, Stop>;

/// The state of one walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cursor {
    /// The frame's circumstances.
    pub meta: Meta,
    /// What was understood so far.
    pub packet: Packet,
    /// Offset of the next header.
    pub at: u32,
    /// Offset behind the last byte that the enclosing length field grants.
    pub end: u32,
    /// Number of the finding plus one, 0 if none.
    finding: u8,
    finding_severity: u8,
    finding_at: u16,
    /// VLAN tags inside the frame (the stripped one not counted).
    pub tags_in_frame: u8,
    /// IPv6: number of the next header.
    pub next_header: u8,
    /// IPv6: hop limit.
    pub hop_limit: u8,
    /// IPv6: extension headers seen, one bit each, see [`wire::ipv6`].
    pub extensions_seen: u8,
    /// IPv6: extension headers passed.
    pub extensions: u8,
    /// IPv6: 1 behind the header of a first fragment.
    pub first_fragment: u8,
    /// TCP: options seen, one bit each, see [`wire::tcp`].
    pub options_seen: u8,
    /// TCP: NOPs in a row before `option_at`.
    pub nops: u8,
    /// IPv4, IPv6 extension and TCP: offset of the next option.
    pub option_at: u16,
    /// TCP: bit of the option being judged.
    pub option_bit: u8,
    #[doc(hidden)]
    pub pad: [u8; 3],
    /// Offset of the innermost MAC header; behind a tunnel's header, of whatever follows it.
    pub frame_at: u16,
    /// The tunnel's network identifier (24 bits) with [`Cursor::INSIDE`] and, if it is another's than VXLAN's, a bit for that; 0
    /// outside of tunnels.
    pub tunnel: u32,
}

impl Cursor {
    /// Where the finding begins in the kernel's copy of a cursor: number plus one, severity, offset (two bytes).
    pub const FINDING_AT: usize = core::mem::offset_of!(Cursor, finding);

    /// Bit of [`Self::tunnel`]: what is judged is inside one.
    pub const INSIDE: u32 = 1 << 31;
    /// Bit of [`Self::tunnel`]: the same identifier is another network than VXLAN's.
    pub const GENEVE: u32 = 1 << 24;
    /// Bit of [`Self::tunnel`]: it is made of a GRE key.
    pub const GRE: u32 = 1 << 25;
    /// Bits of [`Self::tunnel`]: the identifier.
    pub const IDENTIFIER: u32 = Self::GENEVE - 1;

    /// At the first byte of a frame.
    #[must_use]
    #[inline(always)]
    pub fn new(meta: Meta) -> Self {
        Self { meta, end: meta.frame_bytes, ..Self::default() }
    }

    /// The finding, if there is one.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let reason = Malformed::from_number(self.finding.checked_sub(1)?)?;
        Some(Finding { reason, at: self.finding_at })
    }

    /// The number of the finding and whether it is worth a metric: what the kernel counts without tables.
    #[must_use]
    #[inline(always)]
    pub fn counted_finding(&self) -> Option<u8> {
        (self.finding != 0 && self.finding_severity >= Severity::Warning as u8).then(|| self.finding - 1)
    }

    /// A TCP packet, no fragment, in which nothing contradicts itself that is worth a metric: its connection can be asked.
    #[must_use]
    #[inline(always)]
    pub fn is_sound_tcp(&self) -> bool {
        self.packet.transport == Transport::Tcp && self.finding_severity < Severity::Warning as u8
    }

    /// Whether its outermost transport checksum can be looked at: no tunnel has been entered, and nothing in front makes
    /// the addresses that it covers others than the header's. (No error was found either.)
    #[must_use]
    #[inline(always)]
    pub fn has_checksum(&self) -> bool {
        // Options of IPv4 may be a source route, which changes the destination on the way.
        let has_options = self.packet.network == Network::Ipv4
            && self.packet.transport_at != self.packet.network_at + wire::ipv4::HEADER_BYTES as u16;
        !self.is_inside()
            && !has_options
            && self.finding_severity < Severity::Error as u8
            && wire::ipv6::keeps_addresses(self.extensions_seen)
    }

    /// Offset of the finding, see [`Finding::at`].
    #[must_use]
    #[inline(always)]
    pub const fn finding_at(&self) -> u16 {
        self.finding_at
    }

    /// Whether a tunnel's header was passed.
    #[must_use]
    #[inline(always)]
    pub const fn is_inside(&self) -> bool {
        self.tunnel != 0
    }

    /// Passes a tunnel's header: at `at` begins a frame of its own. Returns its first layer, by EtherType. Until a network
    /// header is found in there, the packet's is the outer one.
    #[inline(always)]
    pub fn enter(&mut self, at: usize, network_identifier: u32, ether_type: u16) -> Layer {
        self.understood(at);
        self.frame_at = at as u16;
        self.tunnel = network_identifier | Self::INSIDE;
        self.packet.transport = Transport::None;
        self.packet.transport_at = 0;
        self.tags_in_frame = 0;
        (self.extensions_seen, self.extensions, self.first_fragment) = (0, 0, 0);
        match ether_type {
            wire::ethernet::BRIDGED => Layer::Ethernet,
            // Without a frame around it, it is about the tunnel's own addresses (mGRE).
            wire::ethernet::ARP => Layer::Other,
            ether_type => wire::ethernet::network_layer(ether_type).unwrap_or(Layer::Other),
        }
    }

    /// Notes a contradiction; a graver one that was noted before stays.
    #[inline(always)]
    pub fn note(&mut self, reason: Malformed, at: usize) {
        if reason.severity() as u8 > self.finding_severity {
            self.finding = reason as u8 + 1;
            self.finding_severity = reason.severity() as u8;
            self.finding_at = at as u16;
        }
    }

    /// Notes an error, which ends the walk.
    #[inline(always)]
    pub fn fail(&mut self, reason: Malformed, at: usize) -> Stop {
        self.note(reason, at);
        Stop::Contradiction
    }

    /// `N` bytes at `at` that must lie before `self.end`, else `reason` is the verdict.
    #[inline(always)]
    pub fn need<const N: usize>(
        &mut self,
        frame: &(impl Frame + ?Sized),
        at: usize,
        reason: Malformed,
    ) -> Result<[u8; N], Stop> {
        if at + N > self.end as usize {
            return Err(self.fail(reason, at));
        }
        frame.read(at).ok_or(Stop::Unseen)
    }

    /// The layer of the frame's first byte.
    #[must_use]
    #[inline(always)]
    pub fn first_layer(&self) -> Layer {
        match self.meta.first_protocol {
            0 => Layer::Ethernet,
            protocol => wire::ethernet::network_layer(protocol).unwrap_or(Layer::Other),
        }
    }

    /// The header at `at` was understood up to `header_end`: the payload begins there.
    #[inline(always)]
    pub fn understood(&mut self, header_end: usize) {
        self.at = header_end as u32;
        self.packet.header_bytes = header_end as u16;
        self.packet.payload_bytes = self.end.saturating_sub(header_end as u32);
    }
}

/// Walks from `first` until a step ends the walk. Returns [`Layer::End`], [`Layer::Other`], [`Layer::Control`] or
/// [`Layer::Unseen`].
#[inline(always)]
pub fn walk(first: Layer, mut step: impl FnMut(Layer) -> Layer) -> Layer {
    let has_ended = |layer| matches!(layer, Layer::End | Layer::Other | Layer::Unseen | Layer::Control);
    let mut layer = first;
    for _ in 0..MAX_STEPS {
        if has_ended(layer) {
            break;
        }
        layer = step(layer);
    }
    if has_ended(layer) { layer } else { Layer::Unseen }
}

/// The layer behind a step.
#[inline(always)]
#[must_use]
pub fn landed(step: Step) -> Layer {
    match step {
        Ok(layer) => layer,
        Err(Stop::Contradiction) => Layer::End,
        Err(Stop::Unseen) => Layer::Unseen,
    }
}

/// Judges the headers from `layer` on. Breaks off in front of IPv4 options, which are a step of their own (they are rare,
/// and in one function with everything else more than the verifiers should be asked to look at), and before and behind
/// what is [`uncommon`].
#[inline(always)]
pub fn headers<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, layer: Layer) -> Step {
    let mut layer = layer;
    if layer == Layer::Ethernet {
        layer = wire::ethernet::step(frame, cursor)?;
        frame.settle(cursor);
    }
    layer = match layer {
        Layer::Arp => wire::arp::step(frame, cursor)?,
        Layer::Ipv4 => wire::ipv4::step(frame, cursor)?,
        Layer::Ipv6 => wire::ipv6::step(frame, cursor)?,
        _ => layer,
    };
    frame.settle(cursor);
    match layer {
        Layer::Tcp => wire::tcp::step(frame, cursor),
        Layer::Udp => wire::udp::step(frame, cursor),
        Layer::Icmp => wire::icmp::step(cursor),
        Layer::Icmpv6 => wire::icmpv6::step(frame, cursor),
        _ => Ok(layer),
    }
}

/// Whether a layer is one of [`uncommon`].
#[inline(always)]
#[must_use]
pub const fn is_uncommon(layer: Layer) -> bool {
    matches!(layer, Layer::Mpls | Layer::Sctp | Layer::Gre | Layer::Vxlan | Layer::Geneve)
}

/// Judges a header that few frames have: apart from the others for the same reason.
#[inline(always)]
pub fn uncommon<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, layer: Layer) -> Step {
    match layer {
        Layer::Mpls => wire::mpls::step(frame, cursor),
        Layer::Sctp => wire::sctp::step(frame, cursor),
        Layer::Gre => wire::gre::step(frame, cursor),
        Layer::Vxlan => wire::vxlan::step(frame, cursor),
        Layer::Geneve => wire::geneve::step(frame, cursor),
        _ => Ok(layer),
    }
}

/// Judges what stands at the cursor.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, layer: Layer) -> Step {
    match layer {
        Layer::Ipv4Options => wire::ipv4::options(frame, cursor),
        layer if is_uncommon(layer) => uncommon(frame, cursor, layer),
        _ => headers(frame, cursor, layer),
    }
}

/// Judges a whole frame. The cursor's `packet` describes what was understood and `finding()` what contradicts.
pub fn classify<F: Frame + ?Sized>(frame: &F, meta: Meta) -> (Cursor, Layer) {
    let mut cursor = Cursor::new(meta);
    let outcome = walk(cursor.first_layer(), |layer| landed(step(frame, &mut cursor, layer)));
    (cursor, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_cross_the_boundary_as_numbers() {
        let unseen = Layer::Unseen as u64;
        for number in 0..=Layer::Control as u64 {
            assert_eq!(Layer::from_number(number) as u64, number);
        }
        for number in [Layer::Control as u64 + 1, 256, u64::MAX] {
            assert_eq!(Layer::from_number(number) as u64, unseen);
        }
    }

    #[test]
    fn the_gravest_finding_stays_and_among_equals_the_first() {
        let mut cursor = Cursor::new(Meta::default());
        assert_eq!((cursor.finding(), cursor.counted_finding()), (None, None));
        cursor.note(Malformed::Vlan0, 1);
        assert_eq!((cursor.finding().map(|finding| finding.at), cursor.counted_finding()), (Some(1), None));
        cursor.note(Malformed::Ip4Src, 2);
        cursor.note(Malformed::Ip4Ttl0, 3);
        cursor.note(Malformed::UdpSurplus, 4);
        assert_eq!(cursor.finding(), Some(Finding { reason: Malformed::Ip4Src, at: 2 }));
        assert_eq!(cursor.fail(Malformed::TcpDoff, 5), Stop::Contradiction);
        assert_eq!(cursor.counted_finding(), Some(Malformed::TcpDoff as u8));
    }

    #[test]
    fn a_walk_is_bounded() {
        let mut steps = 0;
        let outcome = walk(Layer::Ipv4Options, |layer| {
            steps += 1;
            layer
        });
        assert_eq!((outcome, steps), (Layer::Unseen, MAX_STEPS));
        let outcome = walk(Layer::Ipv4Options, |layer| {
            steps -= 1;
            if steps == 0 { Layer::End } else { layer }
        });
        assert_eq!((outcome, steps), (Layer::End, 0), "the last step may end it");
    }
}
