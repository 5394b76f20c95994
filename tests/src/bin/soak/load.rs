//! What an agent on a router has to bear in every second.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::id,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::{Agent, lossprobe},
    frames::{Checksum, Frame, ethernet},
    http,
    link::{End, veth},
    metrics::Metrics,
    namespace::Namespace,
    pump::{Datagrams, Path, Stream},
    topology::{CLIENT_MAC, ROUTER1_MAC, Routed, SERVER},
    wire::PacketSocket,
};

const DATAGRAMS: usize = 2000;
const STREAM_BYTES: usize = 2 << 20;
const BROKEN_FRAMES: usize = 50;
/// Links that come and go again.
const LINKS: usize = 3;
const SCRAPES: usize = 4;

/// Client – router – server, and where the router's coming and going links lead to.
pub(crate) struct Network {
    routed: Routed,
    elsewhere: Namespace,
}

pub(crate) fn network() -> Result<Network> {
    let routed = Routed::new()?;
    routed.router.nft(
        "table ip t {
            chain f {
                type filter hook forward priority 0
                udp dport 6000 drop
                tcp dport 5001 meta length > 1000 numgen random mod 200 == 0 drop
            }
        }",
    )?;
    Ok(Network { routed, elsewhere: Namespace::new("elsewhere")? })
}

/// An agent, and what it has to bear.
pub(crate) struct Load<'n> {
    network: &'n Network,
    agent: Agent<'n>,
    datagrams: Datagrams,
    sender: PacketSocket,
    state: StateFolder,
    rounds: u64,
    metrics: Metrics,
}

impl<'n> Load<'n> {
    pub(crate) fn start(network: &'n Network) -> Result<Self> {
        let Routed { client, router, server } = &network.routed;
        let state = StateFolder(env::temp_dir().join(format!("lossprobe-soak-{}", id())));
        let folder = state.0.to_str().context("a file name in UTF-8")?;
        let settings = ["--history", "1", "--max-interfaces", "128", "--track", "r*", "--state-dir", folder];
        let agent = Agent::start(router, &settings)?;
        let datagrams = Datagrams::new(&Path::new(client, server, (SERVER, 5000)))?;
        let sender = PacketSocket::sender(client, "c")?;
        let metrics = agent.metrics()?;
        Ok(Self { network, agent, datagrams, sender, state, rounds: 0, metrics })
    }

    /// A second's worth.
    pub(crate) fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        self.traffic().context("traffic")?;
        self.links().context("links")?;
        self.readers().context("readers")?;
        self.metrics = self.agent.metrics()?;
        Ok(())
    }

    fn traffic(&mut self) -> Result<()> {
        let Routed { client, server, .. } = &self.network.routed;
        self.datagrams.pass(DATAGRAMS)?;
        // A connection of its own each time, some of whose segments are lost.
        Stream::new(&Path::new(client, server, (SERVER, 5001)))?.pass(STREAM_BYTES)?;
        client.send_udp((SERVER, 6000), 20, 18)?;
        let to_router = || ethernet(ROUTER1_MAC, CLIENT_MAC);
        let broken: [Frame; 3] = [
            to_router().ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(100),
            to_router().ip4().tcp_with(1, 2, |tcp| tcp.checksum = Checksum::Wrong).payload(500),
            to_router().ip4().tcp_with(1, 2, |tcp| tcp.flags = 0).payload(6),
        ];
        broken.iter().try_for_each(|frame| self.sender.send_copies(&frame.bytes(), BROKEN_FRAMES))
    }

    fn links(&self) -> Result<()> {
        let (here, there) = (&self.network.routed.router, &self.network.elsewhere);
        let names = |link: usize| (format!("x{link}"), format!("p{link}"));
        for (name, peer) in (0..LINKS).map(names) {
            veth(End::new(here, &name), End::new(there, &peer))?;
            // Something that is counted, and something that is dropped.
            let ours = ethernet([0xff; 6], CLIENT_MAC);
            PacketSocket::sender(there, &peer)?.send_copies(&ours.payload(50).bytes(), 5)?;
        }
        (0..LINKS).map(names).try_for_each(|(name, _)| here.delete(&name))
    }

    fn readers(&self) -> Result<()> {
        (0..SCRAPES).try_for_each(|_| self.agent.metrics().map(drop))?;
        for page in ["/api/v1/snapshot", "/api/v1/verdict", "/api/v1/incidents"] {
            self.agent.json(page)?;
        }
        let router = &self.network.routed.router;
        let socket = self.agent.socket().to_str().context("a file name in UTF-8")?;
        for command in [&["stats", "--senders"][..], &["flows"]] {
            let output = lossprobe(router, &[command, &["--socket", socket]].concat())?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
        }
        // Who never finishes a request, who asks for what is not there, and who watches and goes.
        http::connect(router, Agent::address())?.write_all(b"GET /metrics HTTP/1.1\r\nHost: ")?;
        http::exchange(router, Agent::address(), b"GET /\xff\xff HTTP/1.1\r\n\r\n")?;
        let mut watcher = UnixStream::connect(self.agent.socket())?;
        watcher.set_read_timeout(Some(Duration::from_secs(10)))?;
        watcher.write_all(b"GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")?;
        watcher.read_exact(&mut [0; 16]).context("watch")
    }

    pub(crate) fn agent(&self) -> &Agent<'n> {
        &self.agent
    }

    /// The last scrape of the last round.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// For people.
    pub(crate) fn account(&self) -> String {
        let frames = self.metrics.sum("lossprobe_frames_total", &[("interface", "r1")]);
        let dropped = self.metrics.sum("lossprobe_dropped_packets_total", &[]);
        let links = self.rounds * LINKS as u64;
        format!("{} rounds, {frames} frames on r1, {dropped} drops, {links} links have come and gone", self.rounds)
    }

    /// Ends the agent, which must do so in order. Returns what it had to bear.
    pub(crate) fn end(self) -> Result<String> {
        let account = self.account();
        self.agent.stop()?;
        drop(self.state);
        Ok(account)
    }
}

/// Goes with the program.
struct StateFolder(PathBuf);

impl Drop for StateFolder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
