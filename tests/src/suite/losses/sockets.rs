//! What this host's own sockets do not take.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use tests::{
    frames::{Frame, Tcp, flag, plain},
    topology::ROUTER1,
    wait::{HELD, eventually},
    wire::PacketSocket,
};

use super::{
    ledger::{
        COUNT, Loss, Mechanism, PROTOCOL, Scene,
        Way::{self, Own},
        Witness::Mib,
        row,
    },
    network::{frame, to_router},
};
use crate::suite::counts::SOON;

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("closed UDP port", ("r1", "no_socket", "noise"), Way::Frame(to_router, Mib("Udp", "NoPorts"))),
    row("closed TCP port", ("r1", "no_socket", "noise"), Way::Frame(syn, Mib("Tcp", "OutRsts"))),
    row("TCP half open", ("r1", "no_socket", "noise"), Way::Frame(half_open, Mib("Tcp", "OutRsts"))),
    row("UDP receive buffer full", ("r1", "socket_rcvbuff", "capacity"), Own(receive_buffer, "Udp RcvbufErrors")),
    row("TCP data behind close", ("r1", "tcp_abort_on_data", "noise"), Own(behind_close, "TcpExt TCPAbortOnData")),
    row("listen overflow", ("r1", "tcp_listen_overflow", "capacity"), Own(overflow, "TcpExt ListenOverflows")),
    row(
        "SYN to a full accept queue",
        ("tcp", "listen_overflow", PROTOCOL),
        Own(syn_overflow, "TcpExt ListenOverflows"),
    ),
];

/// Before 5.18 the kernel gave up segments of established connections without a word.
pub(super) const SINCE_5_18: &[Mechanism] =
    &[row("TCP reset out of order", ("r1", "tcp_reset", "noise"), Own(reset, "TcpExt TCPChallengeACK"))];

/// Before 6.11 nothing tells whose they are.
pub(super) const SINCE_6_11: &[Mechanism] =
    &[row("TCP data once more", ("r1", "tcp_old_data", "noise"), Own(old_data, "TcpExt DelayedACKLost"))];

pub(super) const CONNECTIONS: u64 = 10;
const LISTENER: u16 = 5000;

/// The first step of a connection to a port where nobody listens.
fn syn() -> Frame {
    frame(ROUTER1, plain).tcp_with(1000, 9, |tcp| tcp.flags = flag::SYN)
}

/// Data of a connection that only the other side still believes in.
fn half_open() -> Frame {
    frame(ROUTER1, plain).tcp(1000, 9).payload(10)
}

fn receive_buffer(scene: &Scene<'_>) -> Result<Loss> {
    let full = || scene.net.router.mib("Udp", "RcvbufErrors");
    let before = full()?;
    let sleeper = scene.net.router.udp((ROUTER1, 5000))?;
    setsockopt(&sleeper, sockopt::RcvBuf, &4096)?;
    let send = |count| scene.net.client.send_udp((ROUTER1, 5000), count, 500);
    eventually(SOON, "the buffer is full", || {
        send(1)?;
        ensure!(full()? > before, "it still takes datagrams");
        Ok(())
    })?;
    scene.lose(COUNT, full, || send(COUNT as usize))
}

/// An address on the client's side that nobody has, so that nobody contradicts what is said in its name.
pub(super) const GHOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 66);

/// Connections from [`GHOST`] to a listener of the router's, whose frames are made by hand.
pub(super) struct Handshakes {
    listener: TcpListener,
    pub(super) wire: PacketSocket,
}

/// One of them: the next sequence number of each side.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    port: u16,
    sequence: u32,
    pub(super) acknowledgement: u32,
}

impl Handshakes {
    /// A listener that keeps `backlog` connections, and one more, for whoever accepts them.
    pub(super) fn new(scene: &Scene<'_>, backlog: i32) -> Result<Self> {
        let listener = scene.net.router.run(|| {
            let bind = || Ok(TcpListener::bind((ROUTER1, LISTENER))?);
            let listener = eventually(HELD, "the address is free", bind)?;
            listen(&listener, Backlog::new(backlog)?)?;
            Ok(listener)
        })?;
        Ok(Self { listener, wire: PacketSocket::receiver(&scene.net.client, "c")? })
    }

    /// Asks for a connection; the answer is not answered yet.
    fn ask(&self, port: u16) -> Result<Connection> {
        let mut connection = Connection { port, sequence: 1, acknowledgement: 0 };
        self.wire.send([connection.segment(flag::SYN, 0)])?;
        let answer = self.wire.receive(|frame| connection.is_answered_by(frame))?;
        let theirs = u32::from_be_bytes(*answer[38..].first_chunk().context("a short SYN-ACK")?);
        (connection.sequence, connection.acknowledgement) = (2, theirs.wrapping_add(1));
        Ok(connection)
    }

    /// Connections on ports from this one on, as far as the router's answer.
    pub(super) fn half_way(&self, first_port: u16, count: u64) -> Result<Vec<Connection>> {
        (first_port..).zip(0..count).map(|(port, _)| self.ask(port)).collect()
    }

    /// Completes connections.
    pub(super) fn complete(&self, connections: &[Connection]) -> Result<()> {
        self.wire.send(connections.iter().map(|connection| connection.segment(flag::ACK, 0)))
    }

    /// Takes as many as have been completed.
    pub(super) fn accept(&self, count: u64) -> Result<Vec<TcpStream>> {
        (0..count).map(|_| Ok(self.listener.accept().context("accept")?.0)).collect()
    }
}

impl Connection {
    /// A segment with these flags and so many bytes, that does not move the sequence number.
    fn segment(self, flags: u16, bytes: usize) -> Vec<u8> {
        // Selective acknowledgements are welcome (RFC 2018), and that is said at the beginning.
        let options = if flags == flag::SYN { vec![1, 1, 4, 2] } else { Vec::new() };
        self.segment_with(flags, options, bytes)
    }

    /// The same with options.
    pub(super) fn segment_with(self, flags: u16, options: Vec<u8>, bytes: usize) -> Vec<u8> {
        let Self { port, sequence, acknowledgement } = self;
        let change = move |tcp: &mut Tcp| {
            (tcp.flags, tcp.sequence, tcp.acknowledgement) = (flags, sequence, acknowledgement);
            tcp.window = u16::MAX;
            tcp.options.clone_from(&options);
        };
        frame(ROUTER1, |ip| ip.source = GHOST).tcp_with(port, LISTENER, change).payload(bytes).bytes()
    }

    /// Whether an Ethernet frame is a segment of the router's in this connection.
    pub(super) fn is_answered_by(self, frame: &[u8]) -> bool {
        let to_ghost = frame.len() >= 54 && frame[23] == 6 && frame[30..34] == GHOST.octets();
        to_ghost && frame[36..38] == self.port.to_be_bytes()
    }
}

/// Resets that are near the mark: not believed, but answered.
fn reset(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    let _always = router.sysctl_for_now("net.ipv4.tcp_invalid_ratelimit", "0")?;
    let handshakes = Handshakes::new(scene, 1)?;
    let connections = handshakes.half_way(1000, 1)?;
    handshakes.complete(&connections)?;
    let _open = handshakes.accept(1)?;
    let near = Connection { sequence: connections[0].sequence + 10, ..connections[0] };
    let send = || handshakes.wire.send_copies(&near.segment(flag::RST, 0), COUNT as usize);
    scene.lose(COUNT, || router.mib("TcpExt", "TCPChallengeACK"), send)
}

/// The application has closed, the other side has not heard of it and goes on.
fn behind_close(scene: &Scene<'_>) -> Result<Loss> {
    let handshakes = Handshakes::new(scene, CONNECTIONS as i32)?;
    let connections = handshakes.half_way(2000, CONNECTIONS)?;
    handshakes.complete(&connections)?;
    drop(handshakes.accept(CONNECTIONS)?);
    let data = connections.iter().map(|connection| connection.segment(flag::ACK | flag::PSH, 10));
    scene.lose(CONNECTIONS, || scene.net.router.mib("TcpExt", "TCPAbortOnData"), || handshakes.wire.send(data))
}

/// What has already arrived.
fn old_data(scene: &Scene<'_>) -> Result<Loss> {
    let handshakes = Handshakes::new(scene, 1)?;
    let connections = handshakes.half_way(3000, 1)?;
    handshakes.complete(&connections)?;
    let _open = handshakes.accept(1)?;
    let data = connections[0].segment(flag::ACK | flag::PSH, 10);
    handshakes.wire.send([&data])?;
    let send = || handshakes.wire.send_copies(&data, COUNT as usize);
    scene.lose(COUNT, || scene.net.router.mib("TcpExt", "DelayedACKLost"), send)
}

/// The last step of a handshake for which the application has no room.
fn overflow(scene: &Scene<'_>) -> Result<Loss> {
    // With fewer the kernel would hand out cookies instead of keeping the half-open ones.
    let room = CONNECTIONS + 1;
    let handshakes = Handshakes::new(scene, room as i32)?;
    let late = handshakes.half_way(4000, CONNECTIONS)?;
    for port in (5000..).take(room as usize + 1) {
        handshakes.complete(&[handshakes.ask(port)?])?;
    }
    scene.lose(CONNECTIONS, || scene.net.router.mib("TcpExt", "ListenOverflows"), || handshakes.complete(&late))
}

/// A first step that finds none: the kernel counts it and calls it consumed, so it is no drop by name. (Should a kernel
/// ever give it one, only this is right.)
fn syn_overflow(scene: &Scene<'_>) -> Result<Loss> {
    let handshakes = Handshakes::new(scene, 1)?;
    for port in [6000, 6001] {
        handshakes.complete(&[handshakes.ask(port)?])?;
    }
    let late = (7000..).take(COUNT as usize).map(|port| Connection { port, sequence: 1, acknowledgement: 0 });
    let dropped_otherwise = || -> Result<f64> {
        let metrics = scene.agent.metrics()?;
        let of = |labels: &[_]| metrics.sum("lossprobe_dropped_packets_total", labels);
        Ok(of(&[("interface", "r1")]) - of(&[("interface", "r1"), ("reason", "tcp_listen_overflow")]))
    };
    let before = dropped_otherwise()?;
    let send = || handshakes.wire.send(late.map(|connection| connection.segment(flag::SYN, 0)));
    let loss = scene.lose(COUNT, || scene.net.router.mib("TcpExt", "ListenOverflows"), send)?;
    let dropped = dropped_otherwise()? - before;
    ensure!(dropped == 0.0, "{dropped} were dropped under another name");
    Ok(loss)
}
