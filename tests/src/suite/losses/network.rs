//! What packet filter, routing and the protocols' own checks give up.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use tests::{
    frames::{Checksum, Frame, Ipv4, Mac, ethernet, plain},
    topology::{CLIENT, CLIENT_MAC, ROUTER1, ROUTER1_MAC, SERVER},
    wire::PacketSocket,
};

use super::ledger::{
    COUNT, Loss, Mechanism, Scene,
    Way::{self, Filtered, Own},
    Witness::{Dropped, Mib, Received},
    row,
};

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("packet filter, ingress", ("r1", "netfilter_drop", "policy"), Own(filter_ingress, "nft counter")),
    row("packet filter, input", ("r1", "netfilter_drop", "policy"), Filtered(INPUT, to_router)),
    row("packet filter, forward", ("r1", "netfilter_drop", "policy"), Filtered(FORWARD, to_server)),
    row("packet filter, output", ("r2", "netfilter_drop", "policy"), Own(filter_output, "nft counter")),
    row("no route", ("r1", "ip_innoroutes", "config"), Way::Frame(no_route, Mib("IpExt", "InNoRoutes"))),
    row("reverse path filter", ("r1", "ip_rpfilter", "config"), Own(reverse_path, "TcpExt IPReversePathFilter")),
    row("time to live", ("r1", "ip_inhdr", "malformed"), Way::Frame(time_to_live, Mib("Ip", "InHdrErrors"))),
    row("IP header checksum", ("r1", "ip_csum", "malformed"), Way::Frame(ip_checksum, Mib("IpExt", "InCsumErrors"))),
    row("IP version", ("r1", "ip_inhdr", "malformed"), Way::Frame(ip_version, Mib("Ip", "InHdrErrors"))),
    row("IP truncated", ("r1", "pkt_too_small", "malformed"), Way::Frame(truncated, Mib("IpExt", "InTruncatedPkts"))),
    row("TCP checksum", ("r1", "tcp_csum", "malformed"), Way::Frame(tcp_checksum, Mib("Tcp", "InCsumErrors"))),
    row("UDP checksum", ("r1", "udp_csum", "malformed"), Way::Frame(udp_checksum, Mib("Udp", "InCsumErrors"))),
    row("ICMP checksum", ("r1", "icmp_csum", "malformed"), Way::Frame(icmp_checksum, Mib("Icmp", "InCsumErrors"))),
    row("no such protocol", ("r1", "ip_noproto", "noise"), Way::Frame(no_protocol, Mib("Ip", "InUnknownProtos"))),
    row("no handler", ("r1", "unhandled_proto", "noise"), Way::Frame(no_handler, Dropped("r1"))),
    row("for another host", ("r1", "otherhost", "noise"), Way::Frame(other_host, Received("r1"))),
    row("IPv6 disabled", ("r1", "ipv6disabled", "config"), Way::Frame(ipv6, Received("r1"))),
    row("larger than the MTU", ("r1", "pkt_too_big", "malformed"), Own(too_big, "Ip FragFails")),
    row("fragment timeout", ("r1", "frag_reasm_timeout", "malformed"), Own(fragment_timeout, "Ip ReasmTimeout")),
];

/// A frame from the client to the router with an IPv4 header of the client's to `destination`.
pub(super) fn frame(destination: Ipv4Addr, change: impl Fn(&mut Ipv4) + Send + Sync + 'static) -> Frame {
    ethernet(ROUTER1_MAC, CLIENT_MAC).ipv4(move |ip| {
        (ip.source, ip.destination) = (CLIENT, destination);
        change(ip);
    })
}

/// A datagram to the router itself, port 5000.
pub(super) fn to_router() -> Frame {
    frame(ROUTER1, plain).udp(1000, 5000).payload(10)
}

/// A datagram that the router is to forward, port 5000.
pub(super) fn to_server() -> Frame {
    frame(SERVER, plain).udp(1000, 5000).payload(10)
}

/// Loses copies of a frame from the client, witnessed by a counter of `/proc/net/snmp` or `netstat`.
fn by_mib(scene: &Scene<'_>, group: &'static str, name: &'static str, frame: &Frame) -> Result<Loss> {
    scene.lose(COUNT, || scene.read(Mib(group, name)), || scene.send(frame))
}

const INPUT: &str = "counter seen {}
    chain c {
        type filter hook input priority 0
        udp dport 5000 counter name seen drop
    }";
const FORWARD: &str = "counter seen {}
    chain c {
        type filter hook forward priority 0
        udp dport 5000 counter name seen drop
    }";

fn filter_ingress(scene: &Scene<'_>) -> Result<Loss> {
    let chain = "counter seen {}
        chain c {
            type filter hook ingress device r1 priority 0
            udp dport 5000 counter name seen drop
        }";
    let filter = scene.net.router.filter("netdev t", chain)?;
    scene.lose(COUNT, || filter.packets("seen"), || scene.send(&to_server()))
}

/// In the output hook a packet has no device yet: its route's is named.
fn filter_output(scene: &Scene<'_>) -> Result<Loss> {
    let chain = "counter seen {}
        chain c {
            type filter hook output priority 0
            udp dport 5000 counter name seen drop
        }";
    let filter = scene.net.router.filter("ip t", chain)?;
    let socket = scene.net.router.udp(([0; 4], 0))?;
    let send = || {
        (0..COUNT).try_for_each(|_| {
            let refused = socket.send_to(b"x", SocketAddr::from((SERVER, 5000)));
            ensure!(refused.is_err(), "the packet filter has let a datagram pass");
            Ok(())
        })
    };
    scene.lose(COUNT, || filter.packets("seen"), send)
}

fn no_route() -> Frame {
    frame(Ipv4Addr::new(192, 0, 2, 1), plain).udp(1000, 2000).payload(10)
}

/// From an address that is behind another interface.
fn reverse_path(scene: &Scene<'_>) -> Result<Loss> {
    let _strict = scene.net.router.sysctl_for_now("net.ipv4.conf.r1.rp_filter", "1")?;
    by_mib(scene, "TcpExt", "IPReversePathFilter", &from_behind())
}

pub(super) fn from_behind() -> Frame {
    frame(SERVER, |ip| ip.source = Ipv4Addr::new(10, 0, 2, 77)).udp(1000, 2000).payload(10)
}

fn time_to_live() -> Frame {
    frame(SERVER, |ip| ip.ttl = 1).udp(1000, 2000).payload(10)
}

fn ip_checksum() -> Frame {
    frame(SERVER, |ip| ip.checksum = Checksum::Wrong).udp(1000, 2000).payload(10)
}

fn ip_version() -> Frame {
    frame(SERVER, |ip| ip.version = 5).udp(1000, 2000).payload(10)
}

fn truncated() -> Frame {
    frame(SERVER, |ip| ip.total_length += 100).udp(1000, 2000).payload(10)
}

fn tcp_checksum() -> Frame {
    frame(ROUTER1, plain).tcp_with(1000, 2000, |tcp| tcp.checksum = Checksum::Wrong)
}

fn udp_checksum() -> Frame {
    frame(ROUTER1, plain).udp_with(1000, 2000, |udp| udp.checksum = Checksum::Wrong).payload(10)
}

fn icmp_checksum() -> Frame {
    frame(ROUTER1, plain).icmp_with(8, 0, |icmp| icmp.checksum = Checksum::Wrong).payload(10)
}

fn no_protocol() -> Frame {
    frame(ROUTER1, plain).payload(10)
}

fn no_handler() -> Frame {
    ethernet(ROUTER1_MAC, CLIENT_MAC).payload(50)
}

fn other_host() -> Frame {
    const NOBODY: Mac = [2, 0, 0, 0, 9, 9];
    ethernet(NOBODY, CLIENT_MAC).ip4().udp(1000, 2000).payload(10)
}

fn ipv6() -> Frame {
    ethernet(ROUTER1_MAC, CLIENT_MAC).ip6().udp(1000, 2000).payload(10)
}

/// It must not be fragmented, and does not fit into the device that leads on.
fn too_big(scene: &Scene<'_>) -> Result<Loss> {
    scene.net.router.mtu("r2", 1000)?;
    let loss = by_mib(scene, "Ip", "FragFails", &of_1200());
    scene.net.router.mtu("r2", 1500)?;
    loss
}

/// A datagram to forward that fills most of an MTU of 1,500 bytes.
pub(super) fn of_1200() -> Frame {
    frame(SERVER, plain).udp(1000, 2000).payload(1200)
}

/// First fragments whose rest never comes.
fn fragment_timeout(scene: &Scene<'_>) -> Result<Loss> {
    let _short = scene.net.router.sysctl_for_now("net.ipv4.ipfrag_time", "1")?;
    let sender = PacketSocket::sender(&scene.net.client, "c")?;
    let first = |number: u64| {
        let change = move |ip: &mut Ipv4| {
            ip.identification = number as u16;
            (ip.dont_fragment, ip.more_fragments) = (false, true);
        };
        frame(ROUTER1, change).udp(1000, 2000).payload(72).bytes()
    };
    scene.lose(COUNT, || scene.read(Mib("Ip", "ReasmTimeout")), || sender.send((0..COUNT).map(first)))
}
