//! TCP connections of a capture, by the kernel's own state machine ([`probe_ebpf::flow`]), in bounded memory.

mod homes;
mod worst;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use probe_ebpf::{
    classify::{Packet, Transport},
    flow::{Clock, Cut, Half, Key, Ledger, Quality, Reverse, Secret, Segment, Sink, TcpEvent, encapsulation},
    wire::{ethernet, tcp},
};

pub(super) use self::worst::Direction;
use self::{homes::Homes, worst::Worst};
use super::{
    lines::Lines,
    link,
    vantage::{Heading, Vantage},
};

/// Connections that are remembered at a time: up to 250 MB if each has something to tell. What is beyond takes the place
/// of one that was silent for long.
const MAX_FLOWS: usize = 1 << 18;
/// Where a connection is so much ahead of where it was seen first, it does not pass there any more.
const MOVED_BYTES: i32 = 1 << 16;
/// More payload than any Ethernet frame carries, with an MTU of 9,216: the kernel has merged what is longer.
const LONGEST_PAYLOAD_BYTES: u32 = 9_176;
/// Largest segment where nothing was agreed on: what fits into 1,500 bytes.
const USUAL_MSS_BYTES: u16 = 1_460;

/// What is known of a packet's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Right,
    Wrong,
    /// They could not be looked at.
    Unknown,
}

/// Everything that is known of TCP.
pub(super) struct Flows {
    vantage: Vantage,
    secret: Secret,
    /// Where in `flows` the one of this tag is.
    places: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    flows: Vec<Flow>,
    homes: Homes,
    max_flows: usize,
    /// Where room is looked for next.
    hand: usize,
    now: Now,
    totals: Totals,
}

/// What does not go with its connection.
pub(super) struct Totals {
    /// Connections that were seen.
    pub(super) flows: u64,
    /// Of them, those that were forgotten for want of room.
    pub(super) evicted: u64,
    /// Packets that the capture has twice, in and out or at another interface: their losses count once.
    pub(super) seen_twice: u64,
    /// Segments judged, at whichever interface.
    pub(super) segments: u64,
    /// All events.
    pub(super) ledger: Ledger,
    /// Losses by [`Heading`]: before the capture point, behind it, and segments seen. Each direction of a connection counts at
    /// the first interface that has seen it.
    pub(super) losses: [Sums; 3],
    /// The directions that have lost most.
    pub(super) worst: Worst,
}

/// Losses of one heading, in segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) segments: u64,
    pub(super) before: u64,
    pub(super) after: u64,
}

/// One connection at one interface.
struct Flow {
    halves: [Half; 2],
    /// As the first half's packets have it.
    key: Key,
    /// What both directions have lost, once they have.
    ledgers: Option<Box<[Ledger; 2]>>,
    /// Largest segments that both ends have said they take, 0 if they have not.
    mss: [u16; 2],
    /// Whether the capturing machine sent this direction's packets.
    sent: [Option<bool>; 2],
    /// Whether packets have passed that machine, in and out.
    passes: bool,
    /// Whether this is the interface at which a direction's losses count.
    is_home: [bool; 2],
    /// Whether a packet of a direction had a right checksum: then those with a wrong one are damaged. (Others are of whoever
    /// has changed the addresses of a capture.)
    has_checksums: [bool; 2],
    /// Which way the first half's packets go, by where it lies.
    heading: Heading,
    /// Which half was seen first.
    first: u8,
    /// It was seen since room was last looked for.
    is_recent: bool,
}

/// The time of the last frame.
struct Now {
    ns: u64,
}

impl Clock for Now {
    #[inline]
    fn jiffies(&self) -> u32 {
        (self.ns / 1_000_000) as u32
    }

    #[inline]
    fn hertz(&self) -> u32 {
        1000
    }

    #[inline]
    fn microseconds(&self) -> u32 {
        (self.ns / 1000) as u32
    }
}

impl Now {
    /// Frames of several interfaces come a little out of order; whoever goes back further has another clock.
    #[inline]
    fn set(&mut self, ns: u64) {
        const OUT_OF_ORDER_NS: u64 = 1_000_000_000;
        if ns > self.ns || self.ns - ns > OUT_OF_ORDER_NS {
            self.ns = ns;
        }
    }
}

/// Tags are random numbers whose lowest bit is set: another bit should choose among neighbours.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_right(17)
    }

    #[inline]
    fn write_u64(&mut self, tag: u64) {
        self.0 = tag;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

impl Flows {
    pub(super) fn new(vantage: Vantage, top: usize) -> Self {
        let seed = RandomState::new();
        let totals = Totals {
            flows: 0,
            evicted: 0,
            seen_twice: 0,
            segments: 0,
            ledger: Ledger::default(),
            losses: [Sums::default(); 3],
            worst: Worst::new(top),
        };
        Self {
            vantage,
            secret: Secret { seed: seed.hash_one(1), factor: seed.hash_one(2) | 1 },
            places: HashMap::default(),
            flows: Vec::new(),
            homes: Homes::default(),
            max_flows: MAX_FLOWS,
            hand: 0,
            now: Now { ns: 0 },
            totals,
        }
    }

    /// Takes in a packet with well-formed headers; what is no TCP is let pass.
    #[inline]
    pub(super) fn observe(
        &mut self,
        frame: &link::Frame<'_>,
        (packet, checksum): (&Packet, Checksum),
        time_ns: u64,
        lines: &mut Lines<'_>,
    ) {
        if packet.transport != Transport::Tcp {
            return;
        }
        let Some(key) = key(frame, packet) else { return };
        let is_second = (key.outside, key.outside_port) > (key.inside, key.inside_port);
        let key = if is_second { key.reversed() } else { key };
        let side = usize::from(is_second);
        let Some(mut segment) = Segment::of(frame.bytes, packet, Cut::default()) else { return };
        self.now.set(time_ns);
        let tag = key.tag(&self.secret);
        let known = self.places.get(&tag).copied();
        let place = match known {
            Some(place) => place as usize,
            None if !segment.may_begin(&Reverse::UNSEEN) => return,
            None => self.admit(tag, Flow::new(key, tag, side, self.heading(&key, side, frame))),
        };
        let Some(flow) = self.flows.get_mut(place) else { return };
        flow.is_recent = known.is_some();
        match (flow.sent[side], frame.sent) {
            (Some(before), Some(now)) if before != now => {
                flow.passes = true;
                self.totals.seen_twice += 1;
                return;
            }
            (None, now) => flow.sent[side] = now,
            _ => {}
        }
        if checksum == Checksum::Wrong && flow.has_checksums[side] {
            return;
        }
        flow.has_checksums[side] |= checksum == Checksum::Right;
        if !flow.is_home[side] {
            let name = flow.name(&self.secret);
            let is_home = self.is_home(name, side, (tag, frame), &segment);
            self.totals.seen_twice += u64::from(!is_home);
            let Some(flow) = self.flows.get_mut(place) else { return };
            flow.is_home[side] = is_home;
        }
        let Some(flow) = self.flows.get_mut(place) else { return };
        if segment.flags & SYN != 0 {
            flow.mss[side] = announced_mss(frame.bytes, packet);
        }
        if packet.payload_bytes > 0 {
            segment.size(packet.payload_bytes, flow.cut(packet));
        }
        let heading = flow.heading_of(side, &self.vantage);
        let mut told = Told {
            ledgers: &mut flow.ledgers,
            side,
            total: &mut self.totals.ledger,
            lines,
            direction: direction(heading, side, flow.first),
        };
        let reverse = Reverse::of(&flow.halves[1 - side]);
        flow.halves[side].observe(&reverse, &segment, (&self.now, 0), &mut told);
    }

    /// Whether what a direction of this connection loses counts here: where it was seen first, or has moved to since.
    fn is_home(&mut self, name: u64, side: usize, (tag, frame): (u64, &link::Frame<'_>), segment: &Segment) -> bool {
        let home = self.homes.of(name, side, (tag, frame));
        let half = self.places.get(&home).and_then(|place| Some(&self.flows.get(*place as usize)?.halves[side]));
        home == tag || half.is_none_or(|half| (MOVED_BYTES..=i32::MAX).contains(&half.bytes_to(segment)))
    }

    /// Which way the packets go that `key` describes, when this one is of its direction `side`.
    fn heading(&self, key: &Key, side: usize, frame: &link::Frame<'_>) -> Heading {
        let (first, second) = (address(key.outside), address(key.inside));
        if side == 0 {
            self.vantage.heading(first, second, frame)
        } else {
            self.vantage.heading(second, first, frame).reversed()
        }
    }

    /// Makes room and returns where.
    fn admit(&mut self, tag: u64, flow: Flow) -> usize {
        self.totals.flows += 1;
        let place = if self.flows.len() < self.max_flows {
            self.flows.push(flow);
            self.flows.len() - 1
        } else {
            let place = self.room();
            if let Some(old) = self.flows.get_mut(place) {
                self.places.remove(&old.halves[0].tag);
                let old = std::mem::replace(old, flow);
                let name = old.name(&self.secret);
                self.totals.settle(&old, self.homes.passes(name), &self.vantage);
                self.homes.forget(name, old.halves[0].tag);
                self.totals.evicted += 1;
            }
            place
        };
        self.places.insert(tag, u32::try_from(place).unwrap_or(u32::MAX));
        place
    }

    /// The next one that was not seen since the last time around; new ones that had one packet go first.
    fn room(&mut self) -> usize {
        loop {
            let place = self.hand % self.flows.len().max(1);
            self.hand = place + 1;
            match self.flows.get_mut(place) {
                Some(flow) if flow.is_recent => flow.is_recent = false,
                _ => return place,
            }
        }
    }

    /// What came of it.
    pub(super) fn finish(mut self) -> Totals {
        for flow in &self.flows {
            self.totals.settle(flow, self.homes.passes(flow.name(&self.secret)), &self.vantage);
        }
        self.totals
    }
}

impl Totals {
    /// Adds what a connection has lost that will not be seen again. If it passes the capturing machine, that cannot tell which
    /// way is in.
    fn settle(&mut self, flow: &Flow, passes: bool, vantage: &Vantage) {
        for side in 0..2 {
            let half = &flow.halves[side];
            self.segments += u64::from(half.segments);
            if !flow.is_home[side] {
                continue;
            }
            let is_unknown = passes && vantage.inside.is_empty();
            let heading = if is_unknown { Heading::Across } else { flow.heading_of(side, vantage) };
            let sums = &mut self.losses[heading as usize];
            sums.segments += u64::from(half.segments);
            let Some(ledgers) = &flow.ledgers else { continue };
            let before = ledgers[side].lost_before.saturating_sub(ledgers[side].came_late);
            // What the receiver says that it had was sent again in vain; of some that was known before.
            let again = ledgers[side].of(TcpEvent::RetransmitSeen);
            let known = ledgers[side].of(TcpEvent::Spurious) + ledgers[side].of(TcpEvent::Duplicate);
            let needless = ledgers[1 - side].of(TcpEvent::Dsack).saturating_sub(known);
            let after = again.saturating_sub(needless);
            sums.before += before;
            sums.after += after;
            if before + after > 0 {
                let ends = [
                    SocketAddr::new(address(flow.key.outside), flow.key.outside_port),
                    SocketAddr::new(address(flow.key.inside), flow.key.inside_port),
                ];
                self.worst.offer(Direction {
                    source: ends[side],
                    destination: ends[1 - side],
                    heading,
                    point: flow.key.group,
                    encapsulation: flow.key.encapsulation,
                    segments: half.segments.into(),
                    before,
                    after,
                    round_trip_us: half.round_trip_us().or(flow.halves[1 - side].round_trip_us()),
                    is_identified: half.is_identified(),
                });
            }
        }
    }
}

impl Flow {
    fn new(key: Key, tag: u64, side: usize, heading: Heading) -> Self {
        Self {
            halves: [Half::new(tag); 2],
            key,
            ledgers: None,
            mss: [0; 2],
            sent: [None; 2],
            passes: false,
            is_home: [false; 2],
            has_checksums: [false; 2],
            heading,
            first: u8::from(side == 1),
            is_recent: false,
        }
    }

    /// Its name wherever it is seen, in whichever VLAN or tunnel.
    fn name(&self, secret: &Secret) -> u64 {
        Key { group: 0, encapsulation: 0, ..self.key }.tag(secret)
    }

    /// Which way the packets of a direction go.
    fn heading_of(&self, side: usize, vantage: &Vantage) -> Heading {
        match self.sent[side] {
            _ if self.passes && vantage.inside.is_empty() => Heading::Across,
            Some(true) if vantage.inside.is_empty() => Heading::Out,
            Some(false) if vantage.inside.is_empty() => Heading::In,
            _ if side == 0 => self.heading,
            _ => self.heading.reversed(),
        }
    }

    /// How many wire segments a packet was, by what both ends have agreed on: a capture does not say what the kernel has
    /// merged.
    #[inline]
    fn cut(&self, packet: &Packet) -> Cut {
        let [one, other] = self.mss;
        let agreed = match (one, other) {
            (0, mss) | (mss, 0) => mss,
            _ => one.min(other),
        };
        let limit = if agreed == 0 { LONGEST_PAYLOAD_BYTES } else { agreed.into() };
        if packet.payload_bytes <= limit {
            return Cut::default();
        }
        let mss = if agreed == 0 { USUAL_MSS_BYTES } else { agreed };
        let options_bytes = packet.header_bytes.saturating_sub(packet.transport_at + tcp::HEADER_BYTES as u16);
        let gso_size = u32::from(mss.saturating_sub(options_bytes)).max(1);
        Cut { segments: packet.payload_bytes.div_ceil(gso_size), gso_size }
    }
}

const SYN: u8 = 0x02;

/// The connection that a packet belongs to: outside is where it comes from.
#[inline]
fn key(frame: &link::Frame<'_>, packet: &Packet) -> Option<Key> {
    let key = Key::of(frame.bytes, packet, probe_ebpf::abi::Direction::Ingress)?;
    let tag_bytes = usize::from(packet.network_at).saturating_sub(ethernet::HEADER_BYTES);
    let encapsulation = if frame.tunnel != 0 {
        frame.tunnel
    } else if frame.meta.first_protocol == 0 {
        encapsulation(frame.bytes, &frame.meta, (tag_bytes / ethernet::TAG_BYTES) as u32)
    } else {
        frame.encapsulation
    };
    Some(Key { encapsulation, group: frame.point, ..key })
}

/// As it is written.
fn address(words: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let address = Ipv6Addr::from(bytes);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), |address: Ipv4Addr| IpAddr::V4(address))
}

/// The largest segment that the sender of a SYN takes (RFC 9293 3.7.1), 0 if it does not say.
fn announced_mss(bytes: &[u8], packet: &Packet) -> u16 {
    const NOP: u8 = 1;
    const MSS: u8 = 2;
    let options = usize::from(packet.transport_at) + tcp::HEADER_BYTES..usize::from(packet.header_bytes);
    let mut rest = bytes.get(options).unwrap_or_default();
    loop {
        rest = match *rest {
            [NOP, ..] => &rest[1..],
            [MSS, 4, high, low, ..] => return u16::from_be_bytes([high, low]),
            [kind, length, ..] if kind > MSS && length >= 2 => rest.get(length.into()..).unwrap_or_default(),
            _ => return 0,
        };
    }
}

/// How an event line names the way of the packet.
const fn direction(heading: Heading, side: usize, first: u8) -> &'static str {
    match heading {
        Heading::In => "in",
        Heading::Out => "out",
        Heading::Across if side == first as usize => "forward",
        Heading::Across => "reverse",
    }
}

/// Where a segment's events go.
struct Told<'t, 'o> {
    ledgers: &'t mut Option<Box<[Ledger; 2]>>,
    side: usize,
    total: &'t mut Ledger,
    lines: &'t mut Lines<'o>,
    direction: &'static str,
}

impl Told<'_, '_> {
    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledgers.get_or_insert_default()[self.side]
    }
}

impl Sink for Told<'_, '_> {
    fn event(&mut self, event: TcpEvent, segments: u32) {
        self.ledger().event(event, segments);
        self.total.event(event, segments);
        self.lines.tcp(event, segments, self.direction);
    }

    fn quality(&mut self, cause: Quality) {
        self.total.quality(cause);
    }

    fn lost_before(&mut self, segments: u32) {
        self.ledger().lost_before(segments);
        self.total.lost_before(segments);
    }

    fn came_late(&mut self, segments: u32) {
        self.ledger().came_late(segments);
        self.total.came_late(segments);
    }
}

#[cfg(test)]
mod tests;
