//! What packet filter, routing and the protocols' own checks give up.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use tests::{
    frames::{Checksum, Frame, Ipv4, Mac, ethernet, plain},
    topology::{CLIENT, CLIENT_MAC, ROUTER1, ROUTER1_MAC, SERVER},
    wire::PacketSocket,
};

use super::ledger::{Loss, Mechanism, Scene, row};

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("packet filter, ingress", ("r1", "netfilter_drop", "policy"), "nft counter", filter_ingress),
    row("packet filter, input", ("r1", "netfilter_drop", "policy"), "nft counter", filter_input),
    row("packet filter, forward", ("r1", "netfilter_drop", "policy"), "nft counter", filter_forward),
    row("packet filter, output", ("r2", "netfilter_drop", "policy"), "nft counter", filter_output),
    row("no route", ("r1", "ip_innoroutes", "config"), "IpExt InNoRoutes", no_route),
    row("reverse path filter", ("r1", "ip_rpfilter", "config"), "TcpExt IPReversePathFilter", reverse_path),
    row("time to live", ("r1", "ip_inhdr", "malformed"), "Ip InHdrErrors", time_to_live),
    row("IP header checksum", ("r1", "ip_csum", "malformed"), "IpExt InCsumErrors", ip_checksum),
    row("IP version", ("r1", "ip_inhdr", "malformed"), "Ip InHdrErrors", ip_version),
    row("IP truncated", ("r1", "pkt_too_small", "malformed"), "IpExt InTruncatedPkts", ip_truncated),
    row("TCP checksum", ("r1", "tcp_csum", "malformed"), "Tcp InCsumErrors", tcp_checksum),
    row("UDP checksum", ("r1", "udp_csum", "malformed"), "Udp InCsumErrors", udp_checksum),
    row("ICMP checksum", ("r1", "icmp_csum", "malformed"), "Icmp InCsumErrors", icmp_checksum),
    row("no such protocol", ("r1", "ip_noproto", "noise"), "Ip InUnknownProtos", no_protocol),
    row("no handler", ("r1", "unhandled_proto", "noise"), "rx_dropped of r1", no_handler),
    row("for another host", ("r1", "otherhost", "noise"), "rx_packets of r1", other_host),
    row("IPv6 disabled", ("r1", "ipv6disabled", "config"), "rx_packets of r1", ipv6_disabled),
    row("larger than the MTU", ("r1", "pkt_too_big", "malformed"), "Ip FragFails", too_big),
    row("fragment timeout", ("r1", "frag_reasm_timeout", "malformed"), "Ip ReasmTimeout", fragment_timeout),
];

const COUNT: u64 = 100;

/// An Ethernet frame from the client to the router with an IPv4 header of the client's to `destination`.
pub(super) fn frame(destination: Ipv4Addr, change: impl Fn(&mut Ipv4) + Send + Sync + 'static) -> Frame {
    ethernet(ROUTER1_MAC, CLIENT_MAC).ipv4(move |ip| {
        (ip.source, ip.destination) = (CLIENT, destination);
        change(ip);
    })
}

pub(super) fn send(scene: &Scene<'_>, frame: &Frame) -> Result<()> {
    PacketSocket::sender(&scene.net.client, "c")?.send_copies(&frame.bytes(), COUNT as usize)
}

/// Loses [`COUNT`] copies of a frame from the client, witnessed by a counter of `/proc/net/snmp` or `netstat`.
pub(super) fn by_mib(scene: &Scene<'_>, (group, name): (&str, &str), frame: &Frame) -> Result<Loss> {
    scene.lose(COUNT, || scene.net.router.mib(group, name), || send(scene, frame))
}

/// Loses [`COUNT`] copies of a frame from the client, witnessed by the counter `seen` of these chains of the router's.
pub(super) fn by_counter(scene: &Scene<'_>, chains: &str, frame: &Frame) -> Result<Loss> {
    let filter = scene.net.router.filter("ip t", chains)?;
    scene.lose(COUNT, || filter.packets("seen"), || send(scene, frame))
}

pub(super) fn received(scene: &Scene<'_>, interface: &str) -> Result<u64> {
    Ok(scene.net.router.device_counters(interface)?.received)
}

/// What has passed the packet filter's last hook on its way out.
pub(super) const LAST: &str = "counter seen {}
    chain c {
        type filter hook postrouting priority 300
        udp dport 5000 counter name seen
    }";

fn filter_ingress(scene: &Scene<'_>) -> Result<Loss> {
    let chain = "counter gone {}
        chain c {
            type filter hook ingress device r1 priority 0
            udp dport 5000 counter name gone drop
        }";
    let filter = scene.net.router.filter("netdev t", chain)?;
    scene.lose(COUNT, || filter.packets("gone"), || scene.net.client.send_udp((SERVER, 5000), COUNT as usize, 10))
}

fn hook(name: &str) -> String {
    format!(
        "counter gone {{}}
        chain c {{
            type filter hook {name} priority 0
            udp dport 5000 counter name gone drop
        }}"
    )
}

fn filter_input(scene: &Scene<'_>) -> Result<Loss> {
    let filter = scene.net.router.filter("ip t", &hook("input"))?;
    scene.lose(COUNT, || filter.packets("gone"), || scene.net.client.send_udp((ROUTER1, 5000), COUNT as usize, 10))
}

fn filter_forward(scene: &Scene<'_>) -> Result<Loss> {
    let filter = scene.net.router.filter("ip t", &hook("forward"))?;
    scene.lose(COUNT, || filter.packets("gone"), || scene.net.client.send_udp((SERVER, 5000), COUNT as usize, 10))
}

fn filter_output(scene: &Scene<'_>) -> Result<Loss> {
    let filter = scene.net.router.filter("ip t", &hook("output"))?;
    let socket = scene.net.router.udp(([0; 4], 0))?;
    scene.lose(
        COUNT,
        || filter.packets("gone"),
        || {
            (0..COUNT).try_for_each(|_| {
                let refused = socket.send_to(b"x", SocketAddr::from((SERVER, 5000)));
                ensure!(refused.is_err(), "the packet filter has let a datagram pass");
                Ok(())
            })
        },
    )
}

fn no_route(scene: &Scene<'_>) -> Result<Loss> {
    let nowhere = frame(Ipv4Addr::new(192, 0, 2, 1), plain).udp(1000, 2000).payload(10);
    by_mib(scene, ("IpExt", "InNoRoutes"), &nowhere)
}

fn reverse_path(scene: &Scene<'_>) -> Result<Loss> {
    let _strict = scene.net.router.sysctl_for_now("net.ipv4.conf.r1.rp_filter", "1")?;
    let behind = frame(SERVER, |ip| ip.source = Ipv4Addr::new(10, 0, 2, 77)).udp(1000, 2000).payload(10);
    by_mib(scene, ("TcpExt", "IPReversePathFilter"), &behind)
}

fn time_to_live(scene: &Scene<'_>) -> Result<Loss> {
    by_mib(scene, ("Ip", "InHdrErrors"), &frame(SERVER, |ip| ip.ttl = 1).udp(1000, 2000).payload(10))
}

fn ip_checksum(scene: &Scene<'_>) -> Result<Loss> {
    let wrong = frame(SERVER, |ip| ip.checksum = Checksum::Wrong).udp(1000, 2000).payload(10);
    by_mib(scene, ("IpExt", "InCsumErrors"), &wrong)
}

fn ip_version(scene: &Scene<'_>) -> Result<Loss> {
    by_mib(scene, ("Ip", "InHdrErrors"), &frame(SERVER, |ip| ip.version = 5).udp(1000, 2000).payload(10))
}

fn ip_truncated(scene: &Scene<'_>) -> Result<Loss> {
    let long = frame(SERVER, |ip| ip.total_length += 100).udp(1000, 2000).payload(10);
    by_mib(scene, ("IpExt", "InTruncatedPkts"), &long)
}

fn tcp_checksum(scene: &Scene<'_>) -> Result<Loss> {
    let wrong = frame(ROUTER1, plain).tcp_with(1000, 2000, |tcp| tcp.checksum = Checksum::Wrong);
    by_mib(scene, ("Tcp", "InCsumErrors"), &wrong)
}

fn udp_checksum(scene: &Scene<'_>) -> Result<Loss> {
    let wrong = frame(ROUTER1, plain).udp_with(1000, 2000, |udp| udp.checksum = Checksum::Wrong).payload(10);
    by_mib(scene, ("Udp", "InCsumErrors"), &wrong)
}

fn icmp_checksum(scene: &Scene<'_>) -> Result<Loss> {
    let wrong = frame(ROUTER1, plain).icmp_with(8, 0, |icmp| icmp.checksum = Checksum::Wrong).payload(10);
    by_mib(scene, ("Icmp", "InCsumErrors"), &wrong)
}

fn no_protocol(scene: &Scene<'_>) -> Result<Loss> {
    by_mib(scene, ("Ip", "InUnknownProtos"), &frame(ROUTER1, plain).payload(10))
}

fn no_handler(scene: &Scene<'_>) -> Result<Loss> {
    let dropped = || Ok(scene.net.router.device_counters("r1")?.receive_drops);
    scene.lose(COUNT, dropped, || send(scene, &ethernet(ROUTER1_MAC, CLIENT_MAC).payload(50)))
}

fn other_host(scene: &Scene<'_>) -> Result<Loss> {
    const NOBODY: Mac = [2, 0, 0, 0, 9, 9];
    let frame = ethernet(NOBODY, CLIENT_MAC).ip4().udp(1000, 2000).payload(10);
    scene.lose(COUNT, || received(scene, "r1"), || send(scene, &frame))
}

fn ipv6_disabled(scene: &Scene<'_>) -> Result<Loss> {
    let frame = ethernet(ROUTER1_MAC, CLIENT_MAC).ip6().udp(1000, 2000).payload(10);
    scene.lose(COUNT, || received(scene, "r1"), || send(scene, &frame))
}

fn too_big(scene: &Scene<'_>) -> Result<Loss> {
    scene.net.router.mtu("r2", 1000)?;
    let loss = by_mib(scene, ("Ip", "FragFails"), &frame(SERVER, plain).udp(1000, 2000).payload(1200));
    scene.net.router.mtu("r2", 1500)?;
    loss
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
    scene.lose(COUNT, || scene.net.router.mib("Ip", "ReasmTimeout"), || sender.send((0..COUNT).map(first)))
}
