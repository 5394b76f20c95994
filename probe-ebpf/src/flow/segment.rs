//! What of a packet concerns its connection.

use super::Reverse;
use crate::{
    classify::{Network, Packet, Transport},
    frame::{Frame, be16, be32},
    wire::{ipv4, tcp},
};

/// Options that are looked through at most, NOPs too; what stands behind them is not seen.
const MAX_OPTIONS: usize = 16;

/// How a packet is cut up on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Wire segments, at least 1.
    pub segments: u32,
    /// Payload bytes of each but the last if there are several, else 0.
    pub gso_size: u32,
}

/// A TCP packet: one wire segment or, merged by the kernel, several. Numbers in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Bytes of data.
    pub payload_bytes: u32,
    /// Bytes of data in each wire segment, at least 1.
    pub segment_bytes: u32,
    /// Wire segments, at least 1.
    pub segments: u32,
    /// TSval, where [`Self::TIMESTAMP`] says so (RFC 7323).
    pub timestamp: u32,
    /// Edges of the first SACK block, where [`Self::BLOCKS`] says so (RFC 2018).
    pub first_block: [u32; 2],
    /// Edges of the second one.
    pub second_block: [u32; 2],
    /// The window as it stands in the header.
    pub window: u16,
    /// IPv4 identification, where [`Self::IDENTIFIED`] says so.
    pub identifier: u16,
    /// TCP flags.
    pub flags: u8,
    /// Which of the fields above are there.
    pub has: u8,
    /// Where the next option is: the kernel's walk keeps its state in memory.
    pub(super) option_at: u16,
}
const _: () = assert!(size_of::<Segment>() == 48);

impl Segment {
    /// `has`: a timestamp.
    pub const TIMESTAMP: u8 = 1;
    /// `has`: an IPv4 header.
    pub const IDENTIFIED: u8 = 2;
    /// `has`: one SACK block.
    pub const ONE_BLOCK: u8 = 4;
    /// `has`: two or more.
    pub const TWO_BLOCKS: u8 = 8;
    /// `has`: SACK blocks.
    pub const BLOCKS: u8 = Self::ONE_BLOCK | Self::TWO_BLOCKS;

    /// Of a well-formed packet. `None` if it is no TCP, or its header cannot be seen.
    #[inline(always)]
    #[must_use]
    pub fn of<F: Frame + ?Sized>(frame: &F, packet: &Packet, cut: Cut) -> Option<Self> {
        let mut segment = Self::default();
        segment.read(frame, packet, cut)?;
        Some(segment)
    }

    /// As [`Self::of`], in place.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(&mut self, frame: &F, packet: &Packet, cut: Cut) -> Option<()> {
        if packet.transport != Transport::Tcp {
            return None;
        }
        let at = usize::from(packet.transport_at);
        let (numbers, rest): ([u8; 8], [u8; 4]) = (frame.read(at + 4)?, frame.read(at + 12)?);
        self.has = 0;
        self.seq = be32(&numbers, 0);
        self.ack = be32(&numbers, 4);
        self.flags = rest[1];
        self.window = be16(&rest, 2);
        self.size(packet.payload_bytes, cut);
        if packet.network == Network::Ipv4 {
            self.identifier = u16::from_be_bytes(frame.read(usize::from(packet.network_at) + 4)?);
            self.has = Self::IDENTIFIED;
        }
        self.option_at = (at + tcp::HEADER_BYTES) as u16;
        let end = at + usize::from(rest[0] >> 4) * 4;
        for _ in 0..MAX_OPTIONS {
            frame.settle(self);
            if self.option(frame, end).is_none() {
                break;
            }
        }
        Some(())
    }

    /// As [`Self::of`], of an ordinary packet whose options are none, or timestamps alone. Sizes are not set yet.
    #[inline(always)]
    pub fn plain<F: Frame + ?Sized>(frame: &F, network: Network, (network_at, at): (usize, usize)) -> Option<Self> {
        let header: &[u8; tcp::HEADER_BYTES] = frame.at(at)?;
        let (has, timestamp) = match header[12] >> 4 {
            5 => (0, 0),
            8 => {
                let options: &[u8; 8] = frame.at(at + tcp::HEADER_BYTES)?;
                if be32(options, 0) != tcp::NOP_NOP_TIMESTAMPS {
                    return None;
                }
                (Self::TIMESTAMP, be32(options, 4))
            }
            _ => return None,
        };
        let (has, identifier) = match network {
            Network::Ipv4 => {
                let header: &[u8; ipv4::HEADER_BYTES] = frame.at(network_at)?;
                (has | Self::IDENTIFIED, be16(header, 4))
            }
            _ => (has, 0),
        };
        Some(Self {
            seq: be32(header, 4),
            ack: be32(header, 8),
            timestamp,
            window: be16(header, 14),
            identifier,
            flags: header[13],
            has,
            ..Self::default()
        })
    }

    /// Sets how much data there is, and how it is cut up.
    #[inline(always)]
    pub fn size(&mut self, payload_bytes: u32, cut: Cut) {
        self.payload_bytes = payload_bytes;
        self.segments = cut.segments.max(1);
        self.segment_bytes = if cut.gso_size == 0 { payload_bytes.max(1) } else { cut.gso_size };
    }

    /// Reads one option. `None` behind the last.
    #[inline(always)]
    fn option<F: Frame + ?Sized>(&mut self, frame: &F, end: usize) -> Option<()> {
        let at = usize::from(self.option_at);
        if at >= end {
            return None;
        }
        let [kind] = frame.read(at)?;
        match kind {
            tcp::END => return None,
            tcp::NOP => {
                self.option_at += 1;
                return Some(());
            }
            _ => {}
        }
        let [bytes] = frame.read(at + 1)?;
        if bytes < 2 || at + usize::from(bytes) > end {
            return None;
        }
        match (kind, bytes) {
            (tcp::TIMESTAMPS, 10) => {
                self.timestamp = u32::from_be_bytes(frame.read(at + 2)?);
                self.has |= Self::TIMESTAMP;
            }
            (tcp::SACK, 10..) => {
                let block: [u8; 8] = frame.read(at + 2)?;
                self.first_block = [be32(&block, 0), be32(&block, 4)];
                self.has |= Self::ONE_BLOCK;
                if bytes >= 18 {
                    let block: [u8; 8] = frame.read(at + 10)?;
                    self.second_block = [be32(&block, 0), be32(&block, 4)];
                    self.has |= Self::TWO_BLOCKS;
                }
            }
            _ => {}
        }
        self.option_at += u16::from(bytes);
        Some(())
    }

    #[inline(always)]
    pub(super) const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline(always)]
    pub(super) const fn has(&self, bits: u8) -> bool {
        self.has & bits != 0
    }

    /// A SYN that opens a connection, not one that answers.
    #[inline(always)]
    #[must_use]
    pub const fn is_opening(&self) -> bool {
        self.flags & tcp::SYN_ACK == tcp::SYN
    }

    /// Whether a connection that is new here may begin with it: with data or a SYN, or with anything if the other direction
    /// is there already. Else every stray acknowledgement would take a place.
    #[inline(always)]
    #[must_use]
    pub const fn may_begin(&self, reverse: &Reverse) -> bool {
        self.payload_bytes != 0 || self.is(tcp::SYN) || reverse.is_seen()
    }

    /// Sequence numbers that it takes: bytes, SYN and FIN.
    #[inline(always)]
    pub(super) const fn span(&self) -> u32 {
        self.payload_bytes.wrapping_add(self.is(tcp::SYN) as u32).wrapping_add(self.is(tcp::FIN) as u32)
    }

    /// The sequence number behind it.
    #[inline(always)]
    pub(super) const fn end(&self) -> u32 {
        self.seq.wrapping_add(self.span())
    }

    /// Wire segments in so many of its sequence numbers: a FIN comes with the last of them, and is none by itself.
    #[inline(always)]
    pub(super) const fn segments_in(&self, numbers: u32) -> u32 {
        let bytes = if numbers > self.payload_bytes { self.payload_bytes } else { numbers };
        // The numerator does not overflow: both are less than 2^31. A reachable division by 0 is no program.
        match bytes.wrapping_add(self.segment_bytes.wrapping_sub(1)).checked_div(self.segment_bytes) {
            None | Some(0) => 1,
            Some(segments) => segments,
        }
    }

    /// What tells a copy of this packet from a retransmission: sequence number, timestamp, length and identifier in one
    /// number. Packets that differ in one of them always differ in it; for those that differ in more it is a sum, so that
    /// it does not matter where sequence numbers begin.
    #[inline(always)]
    pub(super) const fn print(&self) -> u32 {
        let what = (self.payload_bytes << 16) ^ (self.identifier as u32);
        let when = self.seq.wrapping_mul(0x9e37_79b1).wrapping_add(self.timestamp.wrapping_mul(0xc2b2_ae35));
        when.wrapping_add(what.wrapping_mul(0x85eb_ca6b))
    }
}
