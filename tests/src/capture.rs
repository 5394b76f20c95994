//! Frames of a device as they passed, in both directions, with the kernel's time of each; as files, too.
//!
//! What is captured is what a packet socket sees: incoming frames behind GRO and just in front of the ingress hook,
//! outgoing ones behind the queueing discipline and software GSO. A checksum that was left to the hardware is completed, so
//! that a reader who verifies it finds the frame as the next machine would.

use std::{
    borrow::Borrow,
    fs::File,
    io::{BufWriter, Write as _},
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{namespace::Namespace, wire::PacketSocket};

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it passed, since 1970.
    pub nanoseconds: u64,
    /// Whether the device sent it.
    pub outgoing: bool,
    /// From the link header on, without FCS.
    pub frame: Vec<u8>,
}

/// A capture under way.
pub struct Capture {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Record>>>,
}

impl Capture {
    /// Captures `interface` from now on.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = PacketSocket::receiver(namespace, interface)?.with_virtio_headers()?.with_times()?;
        let end = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&end);
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(move || capture(&socket, &asked))?;
        Ok(Self { end, thread })
    }

    /// All frames until now.
    ///
    /// # Errors
    /// When the kernel had no room for one.
    pub fn finish(self) -> Result<Vec<Record>> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("capture")
    }
}

fn capture(socket: &PacketSocket, end: &AtomicBool) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    loop {
        let last = end.load(Ordering::Relaxed);
        while let Some(frame) = socket.receive_waiting()? {
            ensure!(frame.missed == 0, "{} frames behind frame {} were not captured", frame.missed, records.len());
            let nanoseconds = frame.nanoseconds.context("a frame without a time")?;
            let outgoing = frame.outgoing;
            records.push(Record { nanoseconds, outgoing, frame: frame.completed()? });
        }
        if last {
            return Ok(records);
        }
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20_u8))?;
    }
}

/// Writes an Ethernet capture (draft-ietf-opsawg-pcap) with times in nanoseconds.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pcap(path: &Path, records: impl IntoIterator<Item = impl Borrow<Record>>) -> Result<()> {
    const MAGIC: u32 = 0xa1b2_3c4d;
    const VERSION: [u16; 2] = [2, 4];
    const LONGEST: u32 = 1 << 18;
    const ETHERNET: u32 = 1;
    let named = || format!("write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(named)?);
    let mut write = |bytes: &[u8]| file.write_all(bytes).with_context(named);
    write(&MAGIC.to_ne_bytes())?;
    write(&VERSION.map(u16::to_ne_bytes).concat())?;
    write(&[0, 0, LONGEST, ETHERNET].map(u32::to_ne_bytes).concat())?;
    for record in records {
        let Record { nanoseconds, frame, .. } = record.borrow();
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let length = u32::try_from(frame.len())?;
        write(&[u32::try_from(seconds)?, rest as u32, length, length].map(u32::to_ne_bytes).concat())?;
        write(frame)?;
    }
    file.flush().with_context(named)
}
