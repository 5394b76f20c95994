//! The network of the demonstration, and what is done to it.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use tests::{
    frames::{Checksum, Frame, Ipv4, Mac, ethernet},
    link::{End, veth},
    namespace::Namespace,
    wait::settled,
    wire::PacketSocket,
};

use crate::account::{Account, SOON};

/// `guest` (10.1.0.2) - `host` (10.1.0.1, 10.2.0.1) - `router` (10.2.0.2, 10.3.0.1) - `peer` (10.3.0.2).
pub(crate) struct Network {
    guest: Namespace,
    pub(crate) host: Namespace,
    router: Namespace,
    peer: Namespace,
}

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const HOST_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);

/// A locally administered hardware address for each of the addresses above.
const fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [2, 0, a, b, c, d]
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        let make = Namespace::new;
        let network = Self { guest: make("guest")?, host: make("host")?, router: make("router")?, peer: make("peer")? };
        let Self { guest, host, router, peer } = &network;
        for ((left, left_name, left_ip), (right, right_name, right_ip)) in [
            ((guest, "eth0", GUEST), (host, "guest0", HOST_INSIDE)),
            ((host, "uplink0", HOST), (router, "inside0", ROUTER)),
            ((router, "outside0", ROUTER_OUTSIDE), (peer, "eth0", PEER)),
        ] {
            veth(End::new(left, left_name).mac(mac(left_ip)), End::new(right, right_name).mac(mac(right_ip)))?;
            for (namespace, name, address, neighbour) in
                [(left, left_name, left_ip, right_ip), (right, right_name, right_ip, left_ip)]
            {
                namespace.address(name, address, 24)?;
                namespace.neighbour(name, neighbour, mac(neighbour))?;
            }
        }
        let route = |from: &Namespace, to: [u8; 4], prefix, via: Ipv4Addr| from.route(to.into(), prefix, via.into());
        route(guest, [0; 4], 0, HOST_INSIDE)?;
        route(host, [10, 3, 0, 0], 24, ROUTER)?;
        route(router, [10, 1, 0, 0], 24, HOST)?;
        route(peer, [0; 4], 0, ROUTER_OUTSIDE)?;
        for forwarder in [host, router] {
            forwarder.sysctl("net.ipv4.ip_forward", "1")?;
        }
        host.nft(&filter("udp dport 7000 drop"))?;
        router.nft(&filter("meta l4proto tcp numgen random mod 100 < 1 counter name lost drop"))?;
        // Single segments, so that a loss is one segment and not a packet of 64 KiB.
        for (namespace, name) in [(host, "uplink0"), (peer, "eth0")] {
            namespace.offloads(name, &[("tso", false), ("gso", false)])?;
        }
        Ok(network)
    }

    /// Frames that only pass.
    pub(crate) fn forwarded(&self, account: &mut Account<'_>) -> Result<()> {
        const COUNT: usize = 10_000;
        const WIRE_BYTES: usize = 14 + 20 + 8 + 200;
        let sink = self.peer.udp((PEER, 5000))?;
        // Room for all of them: ten thousand drops at once would be a drop storm, in which the next scene's are counted late.
        setsockopt(&sink, RcvBufForce, &(32 << 20)).context("give the receiver room")?;
        let labels = |interface, direction| vec![("interface", interface), ("direction", direction)];
        let expected = [
            ("frames arriving from the guest", COUNT, "lossprobe_frames_total", labels("guest0", "ingress")),
            ("… leaving on the uplink", COUNT, "lossprobe_frames_total", labels("uplink0", "egress")),
            ("… their bytes on the wire", COUNT * WIRE_BYTES, "lossprobe_bytes_total", labels("uplink0", "egress")),
        ];
        account.expect(&expected, || self.guest.send_udp((PEER, 5000), COUNT, 200))
    }

    /// Drops by the host's own decision.
    pub(crate) fn refused(&self, account: &mut Account<'_>) -> Result<()> {
        let name = "lossprobe_dropped_packets_total";
        let policy = vec![("interface", "guest0"), ("reason", "netfilter_drop"), ("class", "policy")];
        let noise = vec![("interface", "uplink0"), ("reason", "no_socket"), ("class", "noise")];
        let expected = [
            ("datagrams refused by the packet filter", 500, name, policy),
            ("datagrams for a closed port", 300, name, noise),
        ];
        account.expect(&expected, || {
            self.guest.send_udp((PEER, 7000), 500, 50)?;
            self.peer.send_udp((HOST, 9), 300, 50)
        })
    }

    /// TCP that repairs what the router loses; the host's kernel keeps its own count of the repairs.
    pub(crate) fn retransmitted(&self, account: &mut Account<'_>) -> Result<()> {
        const NAME: &str = "lossprobe_tcp_retransmitted_segments_total";
        const LABELS: [(&str, &str); 1] = [("interface", "uplink0")];
        let kernel = || Ok(self.host.mib("Tcp", "RetransSegs")? - self.host.mib("TcpExt", "TCPRetransFail")?);
        let (before, kernel_before) = (account.agent.metrics()?.sum(NAME, &LABELS), kernel()?);
        self.host.tcp_transfer(&self.peer, (PEER, 5001).into(), 16 << 20, Duration::from_secs(15))?;
        let sent_again = settled(SOON, Duration::from_millis(300), kernel)? - kernel_before;
        let (lost, _) = self.router.nft_counter("ip demo", "lost")?;
        ensure!(sent_again > 0, "the router has lost {lost} packets, but nothing was sent again");
        let done = format!("TCP segments sent again (router lost {lost})");
        account.compare(&done, sent_again as usize, NAME, &LABELS, before)
    }

    /// Frames that contradict themselves, each kind in its own number.
    pub(crate) fn broken(&self, account: &mut Account<'_>) -> Result<()> {
        let kinds = broken_frames();
        let rows = kinds.each_ref().map(|(done, reason, count, _)| {
            let labels = vec![("interface", "uplink0"), ("direction", "ingress"), ("reason", *reason)];
            (*done, *count, "lossprobe_malformed_frames_total", labels)
        });
        let socket = PacketSocket::sender(&self.router, "inside0")?;
        account.expect(&rows, || {
            kinds.iter().try_for_each(|(_, _, count, frame)| socket.send_copies(&frame.bytes(), *count))
        })
    }

    /// One of each of them.
    pub(crate) fn one_of_each_broken(&self) -> Result<()> {
        PacketSocket::sender(&self.router, "inside0")?.send(broken_frames().map(|(_, _, _, frame)| frame.bytes()))
    }
}

/// What is wrong, by which reason that is counted, how many the account wants, and the frame: from the router to the host.
fn broken_frames() -> [(&'static str, &'static str, usize, Frame); 6] {
    let from = |source| ethernet(mac(HOST), source);
    let ip4 = |change: fn(&mut Ipv4)| {
        from(mac(ROUTER)).ipv4(move |ip| {
            (ip.source, ip.destination) = (PEER, HOST);
            change(ip);
        })
    };
    let udp = |change| ip4(change).udp(1, 2).payload(40);
    [
        ("wrong IPv4 header checksum", "ip4_csum", 60, udp(|ip| ip.checksum = Checksum::Wrong)),
        ("IPv4 total length beyond the frame", "ip4_trunc", 50, udp(|ip| ip.total_length += 100)),
        ("IPv4 header length of 3 words", "ip4_ihl", 40, udp(|ip| ip.header_words = Some(3))),
        (
            "TCP data offset of 2 words",
            "tcp_doff",
            30,
            ip4(|_| ()).tcp_with(1, 2, |tcp| tcp.header_words = Some(2)).payload(40),
        ),
        (
            "UDP length beyond the packet",
            "udp_len_gt",
            20,
            ip4(|_| ()).udp_with(1, 2, |udp| udp.length += 9).payload(40),
        ),
        ("Ethernet source that is a group", "eth_src_group", 10, from([1, 0, 0, 0, 0, 1]).ip4().udp(1, 2).payload(40)),
    ]
}

fn filter(rule: &str) -> String {
    format!(
        "table ip demo {{
            counter lost {{}}
            chain forward {{
                type filter hook forward priority 0
                {rule}
            }}
        }}"
    )
}
