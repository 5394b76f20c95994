//! Traffic by one thread that holds both ends: it sends a burst that every buffer on the way has room for and takes it
//! out again before it sends the next one.
//!
//! So nothing can be lost but by the path, no other thread's schedule is measured, and the time of a burst is that of
//! the whole path, both ends included: between namespaces the kernel does all of it on the sender's CPU. (With a thread
//! at each end the slower one hides what is added to the other.)

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::namespace::Namespace;

/// How long the path may keep what was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams under way at most: a receive buffer of Linux' default size takes four times as many.
const BURST: usize = 64;

/// Bytes of payload of a datagram: with its headers the shortest frame of Ethernet.
const DATAGRAM_BYTES: usize = 18;

/// Where the traffic goes.
pub struct Path<'n> {
    /// Whence.
    pub sender: &'n Namespace,
    /// Whither.
    pub receiver: &'n Namespace,
    /// An address of the receiver.
    pub to: SocketAddr,
}

/// Numbered UDP datagrams of 60-byte frames.
pub struct Datagrams {
    from: UdpSocket,
    to: UdpSocket,
    next: u64,
}

impl Datagrams {
    /// Opens both ends.
    ///
    /// # Errors
    /// When the address is taken or unreachable.
    pub fn new(path: &Path<'_>) -> Result<Self> {
        let to = path.receiver.udp(path.to)?;
        to.set_read_timeout(Some(PATIENCE))?;
        let any: SocketAddr = if path.to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let from = path.sender.udp(any)?;
        path.sender.run(|| from.connect(path.to).with_context(|| format!("connect to {}", path.to)))?;
        Ok(Self { from, to, next: 0 })
    }

    /// Sends `count` datagrams and receives them.
    ///
    /// # Errors
    /// When one is lost, comes twice, out of order or changed.
    pub fn pass(&mut self, count: usize) -> Result<()> {
        let mut buffer = [0; 2 * DATAGRAM_BYTES];
        let end = self.next + count as u64;
        while self.next < end {
            // The first one alone: few of those that wait for a neighbour's address are kept.
            let burst_size = if self.next == 0 { 1 } else { BURST as u64 };
            let burst = self.next..end.min(self.next + burst_size);
            for number in burst.clone() {
                self.from.send(&datagram(number)).with_context(|| format!("send datagram {number}"))?;
            }
            for number in burst.clone() {
                let length = self.to.recv(&mut buffer).with_context(|| format!("datagram {number} is lost"))?;
                if buffer[..length] != datagram(number) {
                    bail!("instead of datagram {number} came {:02x?}", &buffer[..length]);
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
    pub fn finish(self) -> Result<u64> {
        self.to.set_nonblocking(true)?;
        match self.to.recv(&mut [0; DATAGRAM_BYTES]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(self.next),
            other => bail!("behind datagram {}: {other:?}", self.next),
        }
    }
}

fn datagram(number: u64) -> [u8; DATAGRAM_BYTES] {
    let mut bytes = [0x55; DATAGRAM_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// One TCP connection.
pub struct Stream {
    from: TcpStream,
    to: TcpStream,
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
        let from = path.sender.run(|| {
            TcpStream::connect_timeout(&path.to, PATIENCE).with_context(|| format!("connect to {}", path.to))
        })?;
        let (to, _) = listener.accept().context("accept the connection")?;
        from.set_nonblocking(true)?;
        to.set_nonblocking(true)?;
        Ok(Self { from, to, block: vec![0x5a; 128 << 10] })
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

/// Bytes that a socket took or gave at once.
fn moved(result: std::io::Result<usize>) -> Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => Ok(other?),
    }
}
