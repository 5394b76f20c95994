//! A host of a tenant in a provider's region, for incidents to happen to: what it loses, and who, is known here to the packet.
//!
//! ```text
//! tenant ── vm0 [host: forwards, agent] uplink0 ── in0 [fabric: loses, damages] out0 ── peer
//!                                       uplink1 ── eth0 [elsewhere]
//! ```
//!
//! Connections of eight addresses each pass both uplinks, steadily and both ways. Each address is of a network of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    frames::{Checksum, Frame, Mac, ethernet},
    link::{End, veth},
    namespace::Namespace,
    wire::PacketSocket,
};

/// The arrangement.
pub struct Region {
    /// Where the guest is, on `eth0`.
    pub tenant: Namespace,
    /// Forwards between `vm0`, `uplink0` and `uplink1`.
    pub host: Namespace,
    /// Forwards between `in0` and `out0`.
    pub fabric: Namespace,
    peer: Namespace,
    elsewhere: Namespace,
}

/// The guest's address.
pub const TENANT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The hardware address of the device that makes malformed frames.
pub const FAULTY: Mac = [2, 0, 0, 0xfa, 0x17, 1];
/// The same in words.
pub const FAULTY_TEXT: &str = "02:00:00:fa:17:01";

const UPLINK0_MAC: Mac = [2, 0, 10, 2, 0, 1];
/// Addresses at the other end of each uplink.
const REMOTES: u8 = 8;
const PORT: u16 = 5000;

/// Of a network, the third byte of its addresses' first three.
const fn address(network: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, network, 0, number)
}

/// Networks behind a network, one for each of its [`REMOTES`].
const fn beyond(network: u8) -> Ipv4Addr {
    address(16 * network, 0)
}
const BEYOND_PREFIX: u8 = 12;

const fn remote(network: u8, number: u8) -> Ipv4Addr {
    address(16 * network + number, 11)
}

impl Region {
    /// Makes it.
    ///
    /// # Errors
    /// Without the privilege, or ethtool.
    pub fn new() -> Result<Self> {
        let [tenant, host, fabric, peer, elsewhere] =
            ["tenant", "host", "fabric", "peer", "elsewhere"].map(Namespace::new);
        let region = Self { tenant: tenant?, host: host?, fabric: fabric?, peer: peer?, elsewhere: elsewhere? };
        let Self { tenant, host, fabric, peer, elsewhere } = &region;
        for (network, (near, near_name), (far, far_name)) in [
            (1, (host, "vm0"), (tenant, "eth0")),
            (2, (host, "uplink0"), (fabric, "in0")),
            (3, (fabric, "out0"), (peer, "eth0")),
            (4, (host, "uplink1"), (elsewhere, "eth0")),
        ] {
            veth(End::new(near, near_name).mac([2, 0, 10, network, 0, 1]), End::new(far, far_name))?;
            near.address(near_name, address(network, 1), 24)?;
            far.address(far_name, address(network, 2), 24)?;
            // A segment is a packet: a loss is one segment, not dozens.
            for (node, name) in [(near, near_name), (far, far_name)] {
                node.offloads(name, &[("tso", false), ("gso", false), ("gro", false)])?;
            }
        }
        for (node, network) in [(peer, 3), (elsewhere, 4)] {
            (0..REMOTES).try_for_each(|number| node.address("eth0", remote(network, number), 24))?;
        }
        let everywhere = Ipv4Addr::UNSPECIFIED.into();
        tenant.route(everywhere, 0, address(1, 1).into())?;
        host.route(beyond(3).into(), BEYOND_PREFIX, address(2, 2).into())?;
        host.route(beyond(4).into(), BEYOND_PREFIX, address(4, 2).into())?;
        fabric.route(beyond(3).into(), BEYOND_PREFIX, address(3, 2).into())?;
        fabric.route(address(1, 0).into(), 24, address(2, 1).into())?;
        peer.route(everywhere, 0, address(3, 1).into())?;
        elsewhere.route(everywhere, 0, address(4, 1).into())?;
        for forwarder in [host, fabric] {
            forwarder.sysctl("net.ipv4.ip_forward", "1")?;
        }
        Ok(region)
    }

    /// From now on the fabric loses such a share of TCP segments, in ten thousandths: of those on their way to the host, and
    /// from it.
    ///
    /// # Errors
    /// With nft's messages.
    pub fn lose(&self, [to_host, from_host]: [u32; 2]) -> Result<()> {
        let rule =
            |from: &str, share: u32| format!("iifname {from} meta l4proto tcp numgen random mod 10000 < {share} drop");
        self.fabric.nft(&format!(
            "table ip fabric
             delete table ip fabric
             table ip fabric {{
                chain forward {{
                    type filter hook forward priority 0
                    {}
                    {}
                }}
            }}",
            rule("out0", to_host),
            rule("in0", from_host)
        ))
    }

    /// Starts steady traffic, some 1,600 segments a second each way on each uplink, until the value is dropped.
    ///
    /// # Errors
    /// When somebody cannot be reached.
    pub fn traffic(&self) -> Result<Steady> {
        let (mut streams, mut through_fabric) = (Vec::new(), Vec::new());
        for (node, network) in [(&self.peer, 3), (&self.elsewhere, 4)] {
            for number in 0..REMOTES {
                let to = SocketAddrV4::new(remote(network, number), PORT);
                let listener = node.run(|| TcpListener::bind(to).with_context(|| format!("listen on {to}")))?;
                let near = self.tenant.run(|| TcpStream::connect(to).with_context(|| format!("connect to {to}")))?;
                if let (SocketAddr::V4(near), 3) = (near.local_addr()?, network) {
                    through_fabric.push((to, near));
                }
                streams.extend([near, listener.accept()?.0]);
            }
        }
        for stream in &streams {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        Ok(Steady { through_fabric, worker: Worker::start(move |ended| pump(&mut streams, ended)) })
    }

    /// Puts a device on the segment of `uplink0` that makes malformed frames, none for now, until the value is dropped.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn faulty_device(&self) -> Result<FaultyDevice> {
        self.device(malformed().into())
    }

    /// One that damages what these connections carry: a segment of any of them, which any router passes on.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn damaging_device(&self, connections: &[Connection]) -> Result<FaultyDevice> {
        self.device(connections.iter().map(|connection| damaged(*connection)).collect())
    }

    fn device(&self, frames: Vec<Vec<u8>>) -> Result<FaultyDevice> {
        let socket = PacketSocket::sender(&self.fabric, "in0")?;
        let per_second = Arc::new(AtomicU32::new(0));
        let rate = Arc::clone(&per_second);
        Ok(FaultyDevice { per_second, _worker: Worker::start(move |ended| damage(&socket, &frames, &rate, ended)) })
    }
}

/// Both ends of a connection, the outer one first.
pub type Connection = (SocketAddrV4, SocketAddrV4);

/// Traffic.
pub struct Steady {
    through_fabric: Vec<Connection>,
    worker: Worker,
}

impl Steady {
    /// Connections that pass `uplink0`.
    #[must_use]
    pub fn through_fabric(&self) -> &[Connection] {
        &self.through_fabric
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a connection had ended before.
    pub fn end(self) -> Result<()> {
        self.worker.end()
    }
}

/// A device that makes malformed frames.
pub struct FaultyDevice {
    per_second: Arc<AtomicU32>,
    _worker: Worker,
}

impl FaultyDevice {
    /// From now on it makes so many a second.
    pub fn makes(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }
}

/// A thread that ends with its value.
struct Worker {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Worker {
    fn start(work: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&ended);
        Self { ended, thread: Some(thread::spawn(move || work(&shared))) }
    }

    fn end(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("a thread has panicked"))?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Who wants to know has called `end`.
        let _unheard = self.join();
    }
}

/// Each end of each connection sends a segment so often.
const EVERY: Duration = Duration::from_millis(5);
const SEGMENT: [u8; 1000] = [0x5a; 1000];

fn pump(streams: &mut [TcpStream], ended: &AtomicBool) -> Result<()> {
    use std::io::{ErrorKind, Read as _, Write as _};
    let mut buffer = vec![0; 64 << 10];
    let mut next = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        for stream in &mut *streams {
            // What has no room now is not sent: what is lost is made up for slowly.
            for outcome in [stream.write(&SEGMENT), stream.read(&mut buffer)] {
                match outcome {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error).context("a connection"),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        next += EVERY;
        match next.checked_duration_since(Instant::now()) {
            Some(pause) => thread::sleep(pause),
            // Too slow: not to be made up for.
            None => next = Instant::now(),
        }
    }
    Ok(())
}

/// What the device sends: no router would have passed any of them on.
fn malformed() -> [Vec<u8>; 2] {
    let frame = |change: fn(Frame) -> Frame| change(ethernet(UPLINK0_MAC, FAULTY)).udp(1, 2).payload(40).bytes();
    [
        frame(|frame| {
            frame.ipv4(|ip| {
                (ip.source, ip.destination, ip.checksum) = (remote(3, 0), TENANT, Checksum::Wrong);
            })
        }),
        frame(|frame| frame.ipv4(|ip| (ip.source, ip.destination, ip.header_words) = (remote(3, 1), TENANT, Some(3)))),
    ]
}

/// A segment of a connection with a byte changed in a device's memory: the sum says so, and nothing else.
fn damaged((outside, inside): Connection) -> Vec<u8> {
    let frame =
        ethernet(UPLINK0_MAC, FAULTY).ipv4(move |ip| (ip.source, ip.destination) = (*outside.ip(), *inside.ip()));
    frame.tcp_with(outside.port(), inside.port(), |tcp| tcp.checksum = Checksum::Wrong).payload(40).bytes()
}

/// Numbers without a period: what keeps one frame a second would always find the same.
const fn by_chance(number: usize) -> usize {
    const ODD: usize = 0x9e37_79b9_7f4a_7c15;
    let mixed = number.wrapping_mul(ODD);
    (mixed ^ mixed >> 32).wrapping_mul(ODD) >> 32
}

fn damage(socket: &PacketSocket, frames: &[Vec<u8>], per_second: &AtomicU32, ended: &AtomicBool) -> Result<()> {
    let (mut due, mut number) = (0.0, 0);
    while !ended.load(Ordering::Relaxed) {
        due += f64::from(per_second.load(Ordering::Relaxed)) * EVERY.as_secs_f64();
        while due >= 1.0 {
            socket.send([&frames[by_chance(number) % frames.len()]])?;
            (due, number) = (due - 1.0, number + 1);
        }
        thread::sleep(EVERY);
    }
    Ok(())
}
