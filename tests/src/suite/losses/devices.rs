//! What devices give up, and programs at their hooks: bridge, VXLAN, veth, tc, XDP.

use std::os::fd::OwnedFd;

use anyhow::Result;
use tests::{
    frames::{A, B, Frame, Mac, ethernet, ethernet_with, plain},
    link::{End, veth},
    raw::{TcxHook, TcxPlace, XdpPlace, attach_tcx, attach_xdp, instruction, load_tc_program, load_xdp_program},
    run::kernel_version,
    topology::{ROUTER1, SERVER},
    wire::PacketSocket,
};

use super::{
    ledger::{Loss, Mechanism, Scene, row},
    network::{LAST, by_counter, frame, received, send},
};

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("tc program, ingress", ("r1", "tc_ingress", "policy"), "rx_packets of r1", tc_ingress),
    row("tc program, egress", ("r2", "tc_egress", "policy"), "nft counter", tc_egress),
    // The kernel gives no reason here, and one for a redirection that fails.
    row("generic XDP drop", ("r1", "not_specified", "unknown"), "rx_packets of r1", xdp_drop),
    row("generic XDP redirect error", ("r1", "xdp", "policy"), "rx_packets of r1", xdp_redirect_error),
    row("bridge port blocked", ("p1", "bridge_ingress_stp_state", "config"), "rx_packets of p1", port_blocked),
    row("bridge without a way out", ("p1", "no_tx_target", "config"), "rx_packets of p1", no_target),
    row("bridge, no such sender", ("p1", "mac_invalid_source", "malformed"), "rx_packets of p1", invalid_source),
    row("VXLAN, no such network", ("r1", "vxlan_vni_not_found", "config"), "nft counter", unknown_vni),
    row("VXLAN header", ("r1", "vxlan_invalid_hdr", "malformed"), "nft counter", vxlan_header),
    row("larger than the peer's MTU", ("r2", "not_specified", "unknown"), "rx_dropped of s", too_big_for_peer),
];

const COUNT: u64 = 100;

/// A program that ends in this number.
const fn ending_in(action: i32) -> [u64; 2] {
    [instruction(0xb7, 0, 0, action), instruction(0x95, 0, 0, 0)]
}

/// Something that drops every frame at one hook of an interface, until dropped.
enum Wall<'a> {
    Tcx(#[expect(dead_code, reason = "the link stands as long as it is open")] OwnedFd),
    Filter(&'a Scene<'a>, String),
}

impl<'a> Wall<'a> {
    fn new(scene: &'a Scene<'_>, interface: &str, hook: TcxHook) -> Result<Self> {
        const DROP: i32 = 2;
        let router = &scene.net.router;
        if kernel_version()?.0 >= (6, 6) {
            let program = load_tc_program(&ending_in(DROP))?;
            let index = router.index(interface)?;
            return Ok(Self::Tcx(router.run(|| attach_tcx(program, index, hook, TcxPlace::Last))?));
        }
        // The agent's clsact qdisc is there.
        let hook = if hook == TcxHook::Ingress { "ingress" } else { "egress" };
        let place = format!("dev {interface} {hook} pref 500");
        router.tc(&format!("filter add {place} matchall action drop"))?;
        Ok(Self::Filter(scene, place))
    }
}

impl Drop for Wall<'_> {
    fn drop(&mut self) {
        if let Self::Filter(scene, place) = self {
            let _gone = scene.net.router.tc(&format!("filter del {place}"));
        }
    }
}

fn tc_ingress(scene: &Scene<'_>) -> Result<Loss> {
    let _wall = Wall::new(scene, "r1", TcxHook::Ingress)?;
    let frame = frame(SERVER, plain).udp(1000, 5000).payload(10);
    scene.lose(COUNT, || received(scene, "r1"), || send(scene, &frame))
}

fn tc_egress(scene: &Scene<'_>) -> Result<Loss> {
    let _wall = Wall::new(scene, "r2", TcxHook::Egress)?;
    by_counter(scene, LAST, &frame(SERVER, plain).udp(1000, 5000).payload(10))
}

/// Loses frames to a generic XDP program on `r1`.
fn generic_xdp(scene: &Scene<'_>, program: &[u64]) -> Result<Loss> {
    let router = &scene.net.router;
    let program = load_xdp_program(program)?;
    let index = router.index("r1")?;
    let _link = router.run(|| attach_xdp(program, index, XdpPlace::Generic))?;
    let frame = frame(SERVER, plain).udp(1000, 5000).payload(10);
    scene.lose(COUNT, || received(scene, "r1"), || send(scene, &frame))
}

fn xdp_drop(scene: &Scene<'_>) -> Result<Loss> {
    const DROP: i32 = 1;
    generic_xdp(scene, &ending_in(DROP))
}

/// To an interface that does not exist.
fn xdp_redirect_error(scene: &Scene<'_>) -> Result<Loss> {
    const BPF_REDIRECT: i32 = 23;
    let set = |register, value| instruction(0xb7, register, 0, value);
    let exit = instruction(0x95, 0, 0, 0);
    generic_xdp(scene, &[set(1, 9999), set(2, 0), instruction(0x85, 0, 0, BPF_REDIRECT), exit])
}

/// A bridge in the router's namespace with one port, `p1`, whose other end `q1` is with the client.
struct Bridge<'a>(&'a Scene<'a>);

impl<'a> Bridge<'a> {
    fn new(scene: &'a Scene<'_>) -> Result<Self> {
        let router = &scene.net.router;
        veth(End::new(&scene.net.client, "q1").mac(A), End::new(router, "p1"))?;
        let bridge = Self(scene);
        router.bridge("br")?;
        router.up("br")?;
        router.enslave("p1", "br")?;
        Ok(bridge)
    }

    fn lose(&self, frame: &Frame) -> Result<Loss> {
        let (scene, bytes) = (self.0, frame.bytes());
        let sender = PacketSocket::sender(&scene.net.client, "q1")?;
        scene.lose(COUNT, || received(scene, "p1"), || sender.send_copies(&bytes, COUNT as usize))
    }
}

impl Drop for Bridge<'_> {
    fn drop(&mut self) {
        for link in ["br", "p1"] {
            let _gone = self.0.net.router.delete(link);
        }
    }
}

fn port_blocked(scene: &Scene<'_>) -> Result<Loss> {
    let bridge = Bridge::new(scene)?;
    scene.net.router.block_port("p1")?;
    bridge.lose(&ethernet(B, A).ip4().udp(1000, 5000).payload(10))
}

/// The frame's destination is not known, and its only port is the one it came from.
fn no_target(scene: &Scene<'_>) -> Result<Loss> {
    Bridge::new(scene)?.lose(&ethernet(B, A).ip4().udp(1000, 5000).payload(10))
}

fn invalid_source(scene: &Scene<'_>) -> Result<Loss> {
    const GROUP: Mac = [3, 0, 0, 0, 0, 0x0a];
    Bridge::new(scene)?.lose(&ethernet_with(B, A, |frame| frame.source = GROUP).ip4().udp(1000, 5000).payload(10))
}

/// A VXLAN device of network 7 on `r1`, and frames with this header.
fn vxlan(scene: &Scene<'_>, header: [u8; 8]) -> Result<Loss> {
    const INPUT: &str = "counter seen {}
        chain c {
            type filter hook input priority 0
            udp dport 4789 counter name seen
        }";
    let router = &scene.net.router;
    router.vxlan("vx", "r1", 7, tests::topology::CLIENT.into())?;
    let inner = ethernet(B, A).ip4().udp(1000, 5000).payload(10);
    let loss = by_counter(scene, INPUT, &frame(ROUTER1, plain).udp(1000, 4789).data(header).nested(inner));
    router.delete("vx")?;
    loss
}

fn unknown_vni(scene: &Scene<'_>) -> Result<Loss> {
    vxlan(scene, [8, 0, 0, 0, 0, 0, 9, 0])
}

fn vxlan_header(scene: &Scene<'_>) -> Result<Loss> {
    vxlan(scene, [0, 0, 0, 0, 0, 0, 7, 0])
}

/// The receiving end of a veth pair takes no frame above its MTU; the sending one answers for it.
fn too_big_for_peer(scene: &Scene<'_>) -> Result<Loss> {
    let router = &scene.net.router;
    router.mtu("r2", 9000)?;
    let dropped = || Ok(scene.net.server.device_counters("s")?.receive_drops);
    let loss = scene.lose(COUNT, dropped, || router.send_udp((SERVER, 5000), COUNT as usize, 2000));
    router.mtu("r2", 1500)?;
    loss
}
