//! Ordinary traffic between namespaces with standard sockets, both ends in sight and bounded in time.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;

/// How long one TCP read, write or connect may block: some lost segments with doubling timers.
const PATIENCE: Duration = Duration::from_secs(20);

impl Namespace {
    /// A UDP socket bound inside the namespace.
    ///
    /// # Errors
    /// When the address is not the namespace's or the port is taken.
    pub fn udp(&self, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
        let address = address.into();
        self.run(|| {
            let socket = UdpSocket::bind(address).with_context(|| format!("bind UDP {address}"))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })
    }

    /// Sends exactly `count` UDP datagrams of `bytes` payload from an unconnected socket, so that ICMP errors in answer
    /// do not stop it.
    ///
    /// # Errors
    /// When one is refused.
    pub fn send_udp(&self, to: impl Into<SocketAddr>, count: usize, bytes: usize) -> Result<()> {
        let to = to.into();
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = self.udp((any, 0))?;
        let payload = vec![0x55; bytes];
        for number in 0..count {
            let sent = socket.send_to(&payload, to).with_context(|| format!("send datagram {number} to {to}"))?;
            ensure!(sent == bytes, "datagram {number}: {sent} of {bytes} bytes sent");
        }
        Ok(())
    }

    /// Sends `bytes` over one TCP connection to `to` in the other namespace and waits until the receiver has them all
    /// and both sides have closed.
    ///
    /// # Errors
    /// When it stalls, or not everything arrives by the `deadline`.
    pub fn tcp_transfer(&self, receiver: &Self, to: SocketAddr, bytes: usize, deadline: Duration) -> Result<()> {
        let listener = receiver.run(|| TcpListener::bind(to).with_context(|| format!("listen on {to}")))?;
        let started = Instant::now();
        thread::scope(|scope| {
            let sink = scope.spawn(|| receive_all(&listener, started, deadline));
            let sent = self.run(|| {
                let mut stream =
                    TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let block = [0x5a; 64 << 10];
                let mut left = bytes;
                while left > 0 {
                    ensure!(started.elapsed() < deadline, "{left} of {bytes} bytes not sent within {deadline:?}");
                    let length = left.min(block.len());
                    stream.write_all(&block[..length]).with_context(|| format!("{left} of {bytes} bytes to go"))?;
                    left -= length;
                }
                stream.shutdown(Shutdown::Write)?;
                // The receiver says nothing; its end of stream shows that it has everything.
                ensure!(stream.read(&mut [0; 1]).context("wait for the receiver's end")? == 0, "unexpected answer");
                Ok(())
            });
            let received = match sink.join() {
                Ok(received) => received.context("receive"),
                Err(panic) => std::panic::resume_unwind(panic),
            };
            sent.context("send")?;
            let received = received?;
            ensure!(received == bytes, "{received} of {bytes} bytes received");
            Ok(())
        })
        .with_context(|| format!("TCP transfer to {to}"))
    }
}

fn receive_all(listener: &TcpListener, started: Instant, deadline: Duration) -> Result<usize> {
    listener.set_nonblocking(true)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                ensure!(started.elapsed() < PATIENCE.min(deadline), "nobody connected");
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error).context("accept"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 64 << 10];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).with_context(|| format!("after {received} bytes"))? {
            0 => return Ok(received),
            length => received += length,
        }
        ensure!(started.elapsed() < deadline, "{received} bytes received within {deadline:?}");
    }
}
