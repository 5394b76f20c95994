//! What mechanisms need that bring a device, a program or a setting of their own, for a hundred interfaces at once.

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tests::{
    frames::{A, B, Frame, ethernet, plain},
    raw::{ProgramKind, TcxHook, TunKind, XdpPlace, attach_xdp, load_program, open_tun},
    topology::{CLIENT, ROUTER1},
    wait::eventually,
    wire::PacketSocket,
};

use super::{
    devices::{
        UNKNOWN_VNI, WITHOUT_VNI, Wall, XDP_ABORTED, XDP_DROP, between_ports, ending_in, from_a_group, in_vxlan,
    },
    ledger::Mechanism,
    many::Crowd,
    network::{frame, from_behind, of_1200, to_server},
    queues::{CRAWL, PAYLOAD, lost_or_not},
};
use crate::suite::counts::SOON;

type Arrange = fn(&Crowd<'_>, &Mechanism) -> Result<()>;

/// By the names of the mechanisms. A port of a bridge is a router's interface no longer, so they come last.
pub(super) const ARRANGED: &[(&str, Arrange)] = &[
    ("packet filter, ingress", filter_ingress),
    ("reverse path filter", reverse_path),
    ("larger than the MTU", too_big),
    ("UDP receive buffer full", receive_buffer),
    ("tc program, ingress", tc_ingress),
    ("generic XDP drop", |crowd, mechanism| xdp(crowd, mechanism, XdpPlace::Generic, XDP_DROP)),
    ("XDP aborted", |crowd, mechanism| xdp(crowd, mechanism, XdpPlace::Native, XDP_ABORTED)),
    ("VXLAN, no such network", |crowd, mechanism| vxlan(crowd, mechanism, UNKNOWN_VNI)),
    ("VXLAN header", |crowd, mechanism| vxlan(crowd, mechanism, WITHOUT_VNI)),
    ("TBF over its limit", queue),
    ("tap queue full", taps),
    ("bridge port blocked", |crowd, mechanism| bridge(crowd, mechanism, &between_ports())),
    ("bridge, no such sender", |crowd, mechanism| bridge(crowd, mechanism, &from_a_group())),
];

/// Copies of a frame from the client.
fn lose(crowd: &Crowd<'_>, mechanism: &Mechanism, frame: &Frame) -> Result<()> {
    let bytes = frame.bytes();
    crowd.lose(mechanism, |number| crowd.senders[number].send([&bytes]))
}

fn filter_ingress(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let devices = crowd.names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let chain = format!(
        "chain c {{
            type filter hook ingress devices = {{ {devices} }} priority 0
            udp dport 5000 drop
        }}"
    );
    let _filter = crowd.router.filter("netdev t", &chain)?;
    lose(crowd, mechanism, &to_server())
}

fn reverse_path(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let _strict = crowd.router.sysctl_for_now("net.ipv4.conf.all.rp_filter", "1")?;
    lose(crowd, mechanism, &from_behind())
}

fn too_big(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    crowd.router.mtu("r2", 1000)?;
    lose(crowd, mechanism, &of_1200())?;
    crowd.router.mtu("r2", 1500)
}

/// One socket that nobody reads, for all of them.
fn receive_buffer(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let full = || crowd.router.mib("Udp", "RcvbufErrors");
    let before = full()?;
    let sleeper = crowd.router.udp((ROUTER1, 5000))?;
    setsockopt(&sleeper, sockopt::RcvBuf, &4096)?;
    let frame = frame(ROUTER1, plain).udp(1000, 5000).payload(500);
    eventually(SOON, "the buffer is full", || {
        crowd.senders[0].send([frame.bytes()])?;
        ensure!(full()? > before, "it still takes datagrams");
        Ok(())
    })?;
    lose(crowd, mechanism, &frame)
}

fn tc_ingress(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let wall = |name: &String| Wall::new(crowd.router, name, TcxHook::Ingress);
    let _walls = crowd.names.iter().map(wall).collect::<Result<Vec<_>>>()?;
    lose(crowd, mechanism, &to_server())
}

fn xdp(crowd: &Crowd<'_>, mechanism: &Mechanism, place: XdpPlace, action: i32) -> Result<()> {
    let program = load_program(ProgramKind::Xdp, &ending_in(action))?;
    let attach = |name: &String| {
        let index = crowd.router.index(name)?;
        crowd.router.run(|| attach_xdp(&program, index, place))
    };
    let _links = crowd.names.iter().map(attach).collect::<Result<Vec<_>>>()?;
    lose(crowd, mechanism, &to_server())
}

fn vxlan(crowd: &Crowd<'_>, mechanism: &Mechanism, header: [u8; 8]) -> Result<()> {
    crowd.router.vxlan("vx", "r1", 7, CLIENT.into())?;
    lose(crowd, mechanism, &in_vxlan(header))?;
    crowd.router.delete("vx")
}

/// The other way: from the router into disciplines that are full.
fn queue(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let bytes = ethernet(B, A).ip4().udp(1000, 5000).payload(PAYLOAD).bytes();
    let root = format!("tbf {CRAWL} limit {}", 5 * bytes.len());
    let queues = crowd.names.iter().map(|name| crowd.router.queue(name, &root, &[]));
    let _queues = queues.collect::<Result<Vec<_>>>()?;
    lose_from_the_router(crowd, mechanism, &crowd.names, &bytes)
}

/// Taps that nobody reads, in place of the interfaces.
fn taps(crowd: &Crowd<'_>, mechanism: &Mechanism) -> Result<()> {
    let router = crowd.router;
    let names: Vec<String> = (1..=crowd.names.len()).map(|number| format!("tap{number}")).collect();
    let open = |name: &String| {
        let tap = router.run(|| open_tun(name, TunKind::Tap))?;
        router.tc(&format!("qdisc replace dev {name} root noqueue"))?;
        router.queue_packets(name, 5)?;
        router.up(name)?;
        Ok(tap)
    };
    let _unread = names.iter().map(open).collect::<Result<Vec<_>>>()?;
    lose_from_the_router(crowd, mechanism, &names, &between_ports().bytes())
}

/// Fills what takes five packets, and then goes on.
fn lose_from_the_router(crowd: &Crowd<'_>, mechanism: &Mechanism, names: &[String], bytes: &[u8]) -> Result<()> {
    let sender = |name: &String| PacketSocket::sender(crowd.router, name);
    let senders = names.iter().map(sender).collect::<Result<Vec<_>>>()?;
    let send = |number: usize| lost_or_not(senders[number].send([bytes]));
    for number in (0..senders.len()).flat_map(|number| [number; 10]) {
        send(number).with_context(|| format!("fill {}", names[number]))?;
    }
    crowd.lose(mechanism, send)
}

fn bridge(crowd: &Crowd<'_>, mechanism: &Mechanism, frame: &Frame) -> Result<()> {
    let router = crowd.router;
    router.bridge_with_spanning_tree("br")?;
    router.up("br")?;
    crowd.names.iter().try_for_each(|name| router.enslave(name, "br"))?;
    lose(crowd, mechanism, frame)?;
    router.delete("br")
}
