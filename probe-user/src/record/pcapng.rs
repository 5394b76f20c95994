//! Evidence as a capture file (draft-ietf-opsawg-pcapng), for Wireshark, tshark and `lossprobe analyze`.
//!
//! Own code, as the reader is: pcap-parser (0.17, feature `serialize`) writes what is needed, but wants every field of a
//! block from its caller, lengths included, so that nothing here would be shorter, and brings five crates along.

use std::io::{self, Write};

use probe_ebpf::abi::EVIDENCE_BYTES;

use super::frame::Frame;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Codes of options, each of one kind of block.
mod code {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const TIME_RESOLUTION: u16 = 9;
    pub(super) const HARDWARE: u16 = 2;
    pub(super) const SYSTEM: u16 = 3;
    pub(super) const APPLICATION: u16 = 4;
}

/// Interfaces of a section; one more begins another section, so that what is remembered of them is bounded.
const MOST_INTERFACES: usize = 4096;
/// What frames may have at most: evidence, and a tag that was put back.
const SNAP_BYTES: u32 = EVIDENCE_BYTES as u32 + 4;
/// `if_tsresol`: times are in nanoseconds.
const NANOSECONDS: u8 = 9;

/// Writes a capture. Each frame goes out at once and whole: a reader at the other end of a pipe has it when
/// [`Self::write`] returns.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    system: String,
    /// Names and link types of the section's interfaces; their numbers are their places.
    interfaces: Vec<(String, u16)>,
    /// Blocks that go out together.
    blocks: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture that was made under this operating system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(to: W, system: String) -> io::Result<Self> {
        let mut writer = Self { to, system, interfaces: Vec::new(), blocks: Vec::new() };
        writer.section();
        writer.hand_over()?;
        Ok(writer)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// If it cannot be written; a part of it may have been.
    pub fn write(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let interface = self.number(frame.interface, frame.link_type);
        let time = [(frame.time_ns >> 32) as u32, frame.time_ns as u32];
        let fields = [interface, time[0], time[1], frame.bytes.len() as u32, frame.frame_bytes].map(u32::to_le_bytes);
        let direction = frame.sent.map_or(0_u32, |sent| if sent { 2 } else { 1 }).to_le_bytes();
        let options = [(code::COMMENT, frame.comment.as_bytes()), (code::PACKET_FLAGS, &direction)];
        add(&mut self.blocks, ENHANCED_PACKET, &[fields.as_flattened(), &frame.bytes].concat(), &options);
        self.hand_over()
    }

    /// What it writes to.
    pub const fn get_ref(&self) -> &W {
        &self.to
    }

    fn section(&mut self) {
        const MAGIC: u32 = 0x1a2b_3c4d;
        const VERSION: [u16; 2] = [1, 0];
        const UNKNOWN_LENGTH: i64 = -1;
        let version = VERSION.map(u16::to_le_bytes);
        let fields = [&MAGIC.to_le_bytes()[..], version.as_flattened(), &UNKNOWN_LENGTH.to_le_bytes()].concat();
        let options = [
            (code::HARDWARE, std::env::consts::ARCH.as_bytes()),
            (code::SYSTEM, self.system.as_bytes()),
            (code::APPLICATION, concat!("lossprobe ", env!("CARGO_PKG_VERSION")).as_bytes()),
        ];
        add(&mut self.blocks, SECTION, &fields, &options);
        self.interfaces.clear();
    }

    /// The section's number of an interface, which is described before its first frame.
    fn number(&mut self, name: &str, link_type: u16) -> u32 {
        let is_it = |(known, link): &(String, u16)| known == name && *link == link_type;
        if let Some(number) = self.interfaces.iter().position(is_it) {
            return number as u32;
        }
        if self.interfaces.len() >= MOST_INTERFACES {
            self.section();
        }
        let link = u32::from(link_type).to_le_bytes();
        let options = [(code::INTERFACE_NAME, name.as_bytes()), (code::TIME_RESOLUTION, &[NANOSECONDS])];
        add(&mut self.blocks, INTERFACE, &[link, SNAP_BYTES.to_le_bytes()].concat(), &options);
        self.interfaces.push((name.to_owned(), link_type));
        self.interfaces.len() as u32 - 1
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.to.write_all(&self.blocks)?;
        self.blocks.clear();
        self.to.flush()
    }
}

/// Adds a block: its body, which is padded, then its options. An option without a value is left out.
fn add(blocks: &mut Vec<u8>, kind: u32, body: &[u8], options: &[(u16, &[u8])]) {
    let begin = blocks.len();
    let pad = |blocks: &mut Vec<u8>| blocks.resize(begin + (blocks.len() - begin).next_multiple_of(4), 0);
    blocks.extend(kind.to_le_bytes());
    blocks.extend([0; 4]);
    blocks.extend(body);
    pad(blocks);
    for (code, value) in options.iter().filter(|(_, value)| !value.is_empty()) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        blocks.extend(code.to_le_bytes());
        blocks.extend(length.to_le_bytes());
        blocks.extend(&value[..length.into()]);
        pad(blocks);
    }
    blocks.extend([code::END, 0].map(u16::to_le_bytes).as_flattened());
    let total_bytes = ((blocks.len() - begin + 4) as u32).to_le_bytes();
    blocks.extend(total_bytes);
    blocks[begin + 4..begin + 8].copy_from_slice(&total_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, tests::malformed};

    /// Type, body and total length of each block.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let length = word(&file[4..]) as usize;
            assert!(length.is_multiple_of(4) && word(&file[length - 4..]) as usize == length, "{length}");
            blocks.push((word(file), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [&code.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    #[test]
    fn blocks_are_what_the_draft_says() {
        let mut writer = Writer::begin(Vec::new(), "Linux 6.18".to_owned()).unwrap();
        let event = malformed();
        let frame = Frame::of(&event).unwrap();
        writer.write(&frame).unwrap();
        writer.write(&Frame { sent: Some(true), ..frame.clone() }).unwrap();
        let blocks = blocks(&writer.to);
        assert_eq!(blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [SECTION, INTERFACE, 6, 6]);
        let end = [0; 4];

        let application = concat!("lossprobe ", env!("CARGO_PKG_VERSION"));
        let section = [
            &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..],
            &[0xff; 8],
            &option(2, std::env::consts::ARCH.as_bytes()),
            &option(3, b"Linux 6.18"),
            &option(4, application.as_bytes()),
            &end,
        ];
        assert_eq!(blocks[0].1, section.concat());
        let interface = [&[1, 0, 0, 0, 0x04, 0x08, 0, 0][..], &option(2, b"eth0"), &option(9, &[9]), &end];
        assert_eq!(blocks[1].1, interface.concat());

        let time = frame.time_ns;
        let fields = [0, (time >> 32) as u32, time as u32, 15, 1514].map(u32::to_le_bytes);
        let bytes: Vec<u8> = (0..15).chain([0]).collect();
        for ((_, body), flags) in blocks[2..].iter().zip([1, 2]) {
            let options = [option(1, frame.comment.as_bytes()), option(2, &[flags, 0, 0, 0])];
            assert_eq!(body, &[fields.as_flattened(), &bytes, &options.concat(), &end].concat());
        }
    }

    #[test]
    fn an_interface_is_described_once_for_each_link_type() {
        let mut writer = Writer::begin(Vec::new(), String::new()).unwrap();
        for (interface, link_type) in [("a", 1), ("b", 1), ("a", 101), ("b", 1), ("", 1)] {
            let event = Event { interface: interface.to_owned(), link_type: Some(link_type), ..malformed() };
            writer.write(&Frame::of(&event).unwrap()).unwrap();
        }
        let numbers = |file: &[u8]| -> Vec<u8> {
            let packets = blocks(file).into_iter().filter(|(kind, _)| *kind == ENHANCED_PACKET);
            packets.map(|(_, body)| body[0]).collect()
        };
        assert_eq!(numbers(&writer.to), [0, 1, 2, 1, 3]);
        for number in 0..MOST_INTERFACES {
            writer.number(&number.to_string(), 1);
        }
        assert!(writer.interfaces.len() < MOST_INTERFACES, "another section has begun");
        writer.hand_over().unwrap();
        assert_eq!(blocks(&writer.to).iter().filter(|(kind, _)| *kind == SECTION).count(), 2);
    }
}
