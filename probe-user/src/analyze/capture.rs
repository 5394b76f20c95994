//! Capture files, record by record: pcap and pcapng from one stream, in bounded memory, without a copy of a record.
//!
//! Own code instead of a crate: pcap-parser (0.17) takes a captured length beyond its block for bytes that are still to
//! come, so that a corrupt file cannot be told from a short one; needs a buffer of any length a corrupt file names; and
//! allocates for the options of each packet.

mod pcap;
mod pcapng;

use std::io::{self, Read};

use super::input::Input;

pub(super) use pcapng::Interface;

/// Longest record that is believed: what libpcap lets a capture of USB or D-Bus have (MAXIMUM_SNAPLEN is far below).
const MAX_RECORD_BYTES: u32 = 128 << 20;

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'w> {
    /// Its bytes as far as they were captured, link header first; of very long ones the first.
    pub(super) bytes: &'w [u8],
    /// How long it was, in bytes.
    pub(super) frame_bytes: u32,
    /// Since 1970.
    pub(super) time_ns: u64,
    /// Number of its link type in the registry.
    pub(super) link_type: u32,
    /// Which of the file's interfaces it passed; 0 in pcap files.
    pub(super) interface: u32,
    /// Whether the capturing machine sent it, where the record says so.
    pub(super) sent: Option<bool>,
}

/// Why a capture cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It ends inside the record that begins here.
    #[error("it ends inside the record at byte {at}")]
    Truncated { at: u64 },
    /// What stands here can be no record, or cannot be read.
    #[error("{cause}, at byte {at}")]
    Corrupt { at: u64, cause: String },
}

impl Broken {
    fn corrupt(at: u64, cause: impl Into<String>) -> Self {
        Self::Corrupt { at, cause: cause.into() }
    }

    /// A read that has failed.
    fn unreadable(at: u64, error: &io::Error) -> Self {
        Self::corrupt(at, format!("it cannot be read ({error})"))
    }
}

/// An open capture.
pub(super) struct Capture<R> {
    input: Input<R>,
    format: Format,
    /// Length of the record that was shown last, and where it begins.
    shown_bytes: u64,
    shown_at: u64,
}

enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

impl<R: Read> Capture<R> {
    /// Recognises a capture by its first bytes.
    ///
    /// # Errors
    /// If it is none: what it looks like, and what to do. A capture that ends in its header has no records.
    pub(super) fn open(from: R) -> Result<Self, Broken> {
        let mut input = Input::new(from);
        let unreadable = |error: io::Error| Broken::unreadable(0, &error);
        input.bring(4).map_err(unreadable)?;
        let Some(magic) = input.seen().first_chunk().copied() else {
            let cause = if input.seen().is_empty() { "it is empty" } else { "it is no capture (fewer than 4 bytes)" };
            return Err(Broken::corrupt(0, cause));
        };
        let (format, header_bytes) = if magic == pcapng::MAGIC {
            (Format::Pcapng(pcapng::Section::default()), 0)
        } else if let Some(order) = pcap::Order::of(magic) {
            if input.bring(pcap::HEADER_BYTES).map_err(unreadable)? {
                (Format::Pcap(pcap::Header::read(order, input.seen())), pcap::HEADER_BYTES as u64)
            } else {
                return Err(Broken::Truncated { at: 0 });
            }
        } else {
            return Err(Broken::corrupt(0, foreign(magic)));
        };
        Ok(Self { input, format, shown_bytes: header_bytes, shown_at: 0 })
    }

    /// `pcap` or `pcapng`.
    pub(super) const fn format(&self) -> &'static str {
        match self.format {
            Format::Pcap(_) => "pcap",
            Format::Pcapng(_) => "pcapng",
        }
    }

    /// Bytes that were read so far.
    pub(super) const fn read_bytes(&self) -> u64 {
        self.input.read_bytes()
    }

    /// What the file says about an interface; pcap files say nothing.
    pub(super) fn interface(&self, index: u32) -> Option<&Interface> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::Pcapng(section) => section.interface(index),
        }
    }

    /// The next frame, `None` behind the last.
    ///
    /// # Errors
    /// If the file is at fault; nothing comes behind it.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, Broken> {
        loop {
            let at = self.shown_at;
            match self.input.skip(self.shown_bytes) {
                Ok(true) => {}
                Ok(false) => return Err(Broken::Truncated { at }),
                Err(error) => return Err(Broken::unreadable(at, &error)),
            }
            let at = self.input.offset();
            (self.shown_at, self.shown_bytes) = (at, 0);
            let step = match &mut self.format {
                Format::Pcap(header) => header.step(&mut self.input),
                Format::Pcapng(section) => section.step(&mut self.input),
            };
            match step? {
                Step::End => return Ok(None),
                Step::Other { bytes } => self.shown_bytes = bytes,
                Step::Frame { bytes, found } => {
                    self.shown_bytes = bytes;
                    return Ok(Some(found.record(self.input.seen())));
                }
            }
        }
    }
}

/// What stands at the input's position.
enum Step {
    /// Nothing: the capture ends.
    End,
    /// So many bytes without a frame.
    Other { bytes: u64 },
    /// A frame in so many bytes.
    Frame { bytes: u64, found: Found },
}

/// A record before it is shown: its frame by offsets from the input's position.
struct Found {
    at: usize,
    captured_bytes: usize,
    frame_bytes: u32,
    time_ns: u64,
    link_type: u32,
    interface: u32,
    sent: Option<bool>,
}

impl Found {
    #[inline]
    fn record<'w>(&self, seen: &'w [u8]) -> Record<'w> {
        let bytes = seen.get(self.at..).unwrap_or_default();
        let bytes = bytes.get(..self.captured_bytes).unwrap_or(bytes);
        Record {
            bytes,
            // Some writers leave the length out.
            frame_bytes: self.frame_bytes.max(u32::try_from(self.captured_bytes).unwrap_or(u32::MAX)),
            time_ns: self.time_ns,
            link_type: self.link_type,
            interface: self.interface,
            sent: self.sent,
        }
    }
}

/// Brings a record, or of a very long one the first bytes, into memory. `false` if the stream ends before.
#[inline]
fn bring(input: &mut Input<impl Read>, bytes: u64) -> Result<bool, Broken> {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(super::input::WHOLE_BYTES);
    let at = input.offset();
    input.bring(wanted).map_err(|error| Broken::unreadable(at, &error))
}

/// The four bytes at `at`; 0 where there are none, which callers have excluded.
#[inline]
fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default()
}

/// What a file that is no capture is instead.
fn foreign(magic: [u8; 4]) -> String {
    let packed = |by: &str, unpack: &str| {
        format!("it is compressed by {by}; `{unpack} FILE | lossprobe analyze -` reads such a capture")
    };
    match magic {
        [0x1f, 0x8b, ..] => packed("gzip", "zcat"),
        [0x28, 0xb5, 0x2f, 0xfd] => packed("zstd", "zstdcat"),
        [0xfd, b'7', b'z', b'X'] => packed("xz", "xzcat"),
        [0x04, 0x22, 0x4d, 0x18] => packed("lz4", "lz4cat"),
        [b'B', b'Z', b'h', _] => packed("bzip2", "bzcat"),
        [a, b, c, d] => format!("it is neither pcap nor pcapng (it begins with {a:02x} {b:02x} {c:02x} {d:02x})"),
    }
}

#[cfg(test)]
mod tests;
