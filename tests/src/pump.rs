//! Traffic by one thread that holds both ends: it sends a burst that every buffer on the way has room for and takes it
//! out again before it sends the next one.
//!
//! So nothing can be lost but by the path, no other thread's schedule is measured, and the time of a burst is that of
//! the whole path, both ends included: between namespaces the kernel does all of it on the sender's CPU. (With a thread
//! at each end the slower one hides what is added to the other.)

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
};

use crate::{
    cable::{Cable, moved},
    namespace::Namespace,
    wait::eventually,
};

/// How long the path may keep what was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams under way at most: a receive buffer of Linux' default size takes four times as many.
const BURST: usize = 64;

/// Bytes of payload of the shortest datagram: with its headers the shortest frame of Ethernet.
const DATAGRAM_BYTES: usize = 18;

/// Where the traffic goes.
pub struct Path<'n> {
    sender: &'n Namespace,
    receiver: &'n Namespace,
    to: SocketAddr,
    cable: Option<Arc<Cable>>,
}

impl<'n> Path<'n> {
    /// From one namespace to an address of another.
    #[must_use]
    pub fn new(sender: &'n Namespace, receiver: &'n Namespace, to: impl Into<SocketAddr>) -> Self {
        Self { sender, receiver, to: to.into(), cable: None }
    }

    /// Where the two are connected by nothing else.
    #[must_use]
    pub fn by(self, cable: Option<&Arc<Cable>>) -> Self {
        Self { cable: cable.cloned(), ..self }
    }
}

fn carry(cable: Option<&Arc<Cable>>) -> Result<()> {
    cable.map_or(Ok(()), |cable| cable.carry())
}

/// Numbered UDP datagrams.
pub struct Datagrams {
    from: UdpSocket,
    to: UdpSocket,
    cable: Option<Arc<Cable>>,
    longest: usize,
    next: u64,
}

impl Datagrams {
    /// Opens both ends, for frames of 60 bytes.
    ///
    /// # Errors
    /// When the address is taken or unreachable.
    pub fn new(path: &Path<'_>) -> Result<Self> {
        Self::up_to(path, DATAGRAM_BYTES)
    }

    /// Opens both ends, for datagrams of many lengths: 18 to `longest` bytes of payload.
    ///
    /// # Errors
    /// When the address is taken or unreachable.
    pub fn up_to(path: &Path<'_>, longest: usize) -> Result<Self> {
        let to = path.receiver.udp(path.to)?;
        to.set_read_timeout(Some(PATIENCE))?;
        let any: SocketAddr = if path.to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let from = path.sender.udp(any)?;
        path.sender.run(|| from.connect(path.to).with_context(|| format!("connect to {}", path.to)))?;
        Ok(Self { from, to, cable: path.cable.clone(), longest: longest.max(DATAGRAM_BYTES), next: 0 })
    }

    /// Sends `count` datagrams and receives them.
    ///
    /// # Errors
    /// When one is lost, comes twice, out of order or changed.
    pub fn pass(&mut self, count: usize) -> Result<()> {
        // A byte more, so that one too long shows.
        let (mut sent, mut came) = (vec![0; self.longest], vec![0; self.longest + 1]);
        let end = self.next + count as u64;
        while self.next < end {
            // The first one alone: few of those that wait for a neighbour's address are kept.
            let burst_size = if self.next == 0 { 1 } else { BURST as u64 };
            let burst = self.next..end.min(self.next + burst_size);
            for number in burst.clone() {
                let datagram = write_datagram(number, &mut sent);
                self.from.send(datagram).with_context(|| format!("send datagram {number}"))?;
            }
            carry(self.cable.as_ref())?;
            for number in burst.clone() {
                let length = self.to.recv(&mut came).with_context(|| format!("datagram {number} is lost"))?;
                let datagram = write_datagram(number, &mut sent);
                if came[..length] != *datagram {
                    let same = came[..length].iter().zip(datagram).take_while(|(came, sent)| came == sent).count();
                    let (sent, rest) = (datagram.len(), &came[same..length.min(same + 8)]);
                    bail!(
                        "instead of datagram {number} of {sent} bytes came {length}, from byte {same} on {rest:02x?}"
                    );
                }
            }
            self.next = burst.end;
        }
        Ok(())
    }

    /// How many have passed; nothing is left over.
    ///
    /// # Errors
    /// When another datagram has come.
    pub fn finish(&self) -> Result<u64> {
        self.to.set_nonblocking(true)?;
        match self.to.recv(&mut [0; DATAGRAM_BYTES]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(self.next),
            other => bail!("behind datagram {}: {other:?}", self.next),
        }
    }
}

/// The datagram with this number, whose length and bytes depend on it: no part of another one would do for any of it.
fn write_datagram(number: u64, room: &mut [u8]) -> &[u8] {
    let mixed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    let lengths = (room.len() - DATAGRAM_BYTES + 1) as u64;
    let length = DATAGRAM_BYTES + (mixed(number) % lengths) as usize;
    let words = std::iter::once(number).chain((1..).map(|word| mixed(number + word)));
    for (bytes, word) in room[..length].chunks_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes()[..bytes.len()]);
    }
    &room[..length]
}

/// One TCP connection.
pub struct Stream {
    from: TcpStream,
    to: TcpStream,
    cable: Option<Arc<Cable>>,
    block: Vec<u8>,
}

impl Stream {
    /// Connects both ends.
    ///
    /// # Errors
    /// When the address is taken or unreachable.
    pub fn new(path: &Path<'_>) -> Result<Self> {
        let listener =
            path.receiver.run(|| TcpListener::bind(path.to).with_context(|| format!("listen on {}", path.to)))?;
        listener.set_nonblocking(true)?;
        let from = path.sender.run(|| begin_to_connect(path.to).with_context(|| format!("connect to {}", path.to)))?;
        let (to, _) = eventually(PATIENCE, "the connection is there", || {
            carry(path.cable.as_ref())?;
            listener.accept().context("accept the connection")
        })?;
        to.set_nonblocking(true)?;
        Ok(Self { from, to, cable: path.cable.clone(), block: vec![0x5a; 128 << 10] })
    }

    /// Sends `bytes` and receives them.
    ///
    /// # Errors
    /// When the path stalls.
    pub fn pass(&mut self, bytes: usize) -> Result<()> {
        let (mut unsent, mut missing) = (bytes, bytes);
        let mut progress = Instant::now();
        while missing > 0 {
            let length = unsent.min(self.block.len());
            let sent = moved(self.from.write(&self.block[..length])).context("send")?;
            carry(self.cable.as_ref())?;
            let received = moved(self.to.read(&mut self.block)).context("receive")?;
            (unsent, missing) = (unsent - sent, missing - received);
            if sent + received > 0 {
                progress = Instant::now();
            }
            ensure!(progress.elapsed() < PATIENCE, "{missing} of {bytes} bytes have not come within {PATIENCE:?}");
        }
        Ok(())
    }
}

/// A connection whose handshake nobody waits for: the frames of both ends are moved by one thread.
fn begin_to_connect(to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None).context("open a socket")?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}
