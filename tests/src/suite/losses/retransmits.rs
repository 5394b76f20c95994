//! What the router's own sockets send again, by occasion, against a peer that is made by hand and so does exactly what it
//! is told. A segment sent again is no drop here, but the sign of one elsewhere.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{frames::flag, topology::CLIENT};

use super::{
    ledger::{Loss, Mechanism, RETRANSMIT, Scene, Way::Own, row},
    sockets::{CONNECTIONS, Connection, Handshakes},
};

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("SYN sent again", ("r1", "syn", RETRANSMIT), Own(syn, "nft counter")),
    row("SYN-ACK sent again", ("", "synack", RETRANSMIT), Own(synack, "Tcp RetransSegs")),
    row("sent again by timeout", ("r1", "timeout", RETRANSMIT), Own(timeout, "TcpExt TCPTimeouts")),
    row("sent again as probe", ("r1", "tail_probe", RETRANSMIT), Own(tail_probe, "TcpExt TCPLossProbes")),
    row("sent again at once", ("r1", "fast", RETRANSMIT), Own(fast, "TcpExt TCPFastRetrans")),
];

/// Without an option for another one.
const SEGMENT: u32 = 536;

/// The client's packet filter loses each connection's first SYN.
fn syn(scene: &Scene<'_>) -> Result<Loss> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let chain = format!(
        "counter seen {{}}
        chain c {{
            type filter hook input priority 0
            tcp dport 5001 tcp flags & (syn | ack) == syn numgen inc mod 1000000 < {CONNECTIONS} counter name seen drop
        }}"
    );
    let (router, client) = (&scene.net.router, &scene.net.client);
    let to = SocketAddr::from((CLIENT, 5001));
    let _listener = client.run(|| Ok(TcpListener::bind(to)?))?;
    let filter = client.filter("ip t", &chain)?;
    let connect = || router.run(|| TcpStream::connect_timeout(&to, PATIENCE).context("connect"));
    scene.lose(
        CONNECTIONS,
        || filter.packets("seen"),
        || {
            thread::scope(|scope| {
                let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(connect)).collect();
                let connected = all.into_iter().filter_map(|one| one.join().ok()?.ok()).count();
                ensure!(connected as u64 == CONNECTIONS, "{connected} of {CONNECTIONS} connections");
                Ok(())
            })
        },
    )
}

/// The peer does not answer, and the kernel asks once more.
fn synack(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    let _once = router.sysctl_for_now("net.ipv4.tcp_synack_retries", "1")?;
    let handshakes = Handshakes::new(scene, 128)?;
    scene.lose(CONNECTIONS, || router.mib("Tcp", "RetransSegs"), || handshakes.half_way(6000, CONNECTIONS).map(drop))
}

/// Without a probe before it.
fn timeout(scene: &Scene<'_>) -> Result<Loss> {
    let _no_probes = scene.net.router.sysctl_for_now("net.ipv4.tcp_early_retrans", "0")?;
    in_each(scene, 6100, "TCPTimeouts", |handshakes, connection, stream| {
        stream.write_all(&[0; 100])?;
        handshakes.hear(connection, 2)?;
        handshakes.acknowledge(connection, 100, None)
    })
}

/// The last of two segments, long before its timeout.
fn tail_probe(scene: &Scene<'_>) -> Result<Loss> {
    in_each(scene, 6200, "TCPLossProbes", |handshakes, connection, stream| {
        stream.write_all(&[0; 100])?;
        stream.write_all(&[0; 100])?;
        handshakes.hear(connection, 3)?;
        handshakes.acknowledge(connection, 200, None)
    })
}

/// The peer has the four segments behind the first one, and says so.
fn fast(scene: &Scene<'_>) -> Result<Loss> {
    const WHOLE: u32 = 5 * SEGMENT;
    let _no_probes = scene.net.router.sysctl_for_now("net.ipv4.tcp_early_retrans", "0")?;
    in_each(scene, 6300, "TCPFastRetrans", |handshakes, connection, stream| {
        stream.write_all(&[0; WHOLE as usize])?;
        handshakes.hear(connection, 1)?;
        handshakes.acknowledge(connection, 0, Some((SEGMENT, WHOLE)))?;
        handshakes.hear(connection, 1)?;
        handshakes.acknowledge(connection, WHOLE, None)
    })
}

/// Lets the router's end of each of [`CONNECTIONS`] connections send one segment again; the witness is a counter of
/// `TcpExt`.
fn in_each(
    scene: &Scene<'_>,
    first_port: u16,
    witness: &str,
    send: fn(&Handshakes, Connection, &mut TcpStream) -> Result<()>,
) -> Result<Loss> {
    let handshakes = Handshakes::new(scene, 16)?;
    let mut connections = established(&handshakes, first_port)?;
    let send = || connections.iter_mut().try_for_each(|(connection, stream)| send(&handshakes, *connection, stream));
    let loss = scene.lose(CONNECTIONS, || scene.net.router.mib("TcpExt", witness), send);
    // So that nothing says goodbye to nobody, again and again.
    connections.iter().try_for_each(|(connection, _)| handshakes.reset(*connection))?;
    loss
}

/// Connections that the router has accepted, whose segments leave as they are written.
fn established(handshakes: &Handshakes, first_port: u16) -> Result<Vec<(Connection, TcpStream)>> {
    let connections = handshakes.half_way(first_port, CONNECTIONS)?;
    connections
        .into_iter()
        .map(|connection| {
            handshakes.complete(&[connection])?;
            let stream = handshakes.accept(1)?.pop().context("no connection")?;
            stream.set_nodelay(true)?;
            Ok((connection, stream))
        })
        .collect()
}

impl Handshakes {
    /// Waits for so many frames with data of a connection.
    fn hear(&self, connection: Connection, frames: usize) -> Result<()> {
        let total_bytes = |frame: &[u8]| u16::from_be_bytes([frame[16], frame[17]]);
        let is_data = |frame: &[u8]| connection.is_answered_by(frame) && total_bytes(frame) > 40;
        (0..frames).try_for_each(|number| {
            self.wire.receive(is_data).map(drop).with_context(|| format!("{number} of {frames} frames with data"))
        })
    }

    /// Ends a connection whose data has all been acknowledged.
    fn reset(&self, connection: Connection) -> Result<()> {
        self.wire.send([connection.segment_with(flag::RST, Vec::new(), 0)])
    }

    /// Acknowledges so many bytes of the router's data, and selectively those from and up to.
    fn acknowledge(&self, mut connection: Connection, bytes: u32, selected: Option<(u32, u32)>) -> Result<()> {
        let start = connection.acknowledgement;
        connection.acknowledgement = start.wrapping_add(bytes);
        let block = selected.map(|(from, to)| [start.wrapping_add(from), start.wrapping_add(to)]);
        // RFC 2018: kind 5, two bytes and one block.
        let options =
            block.map_or(Vec::new(), |edges| [&[1, 1, 5, 10][..], &edges.map(u32::to_be_bytes).concat()].concat());
        self.wire.send([connection.segment_with(flag::ACK, options, 0)])
    }
}
