//! What devices give up, and programs at their hooks: bridge, VXLAN, veth, tc, XDP.

use std::os::fd::OwnedFd;

use anyhow::Result;
use tests::{
    frames::{A, B, Frame, Mac, ethernet, ethernet_with, plain},
    link::{End, veth},
    namespace::Namespace,
    raw::{ProgramKind, TcxHook, TcxPlace, XdpPlace, attach_tcx, attach_xdp, instruction, load_program},
    run::kernel_version,
    topology::{CLIENT, ROUTER1, SERVER},
    wire::PacketSocket,
};

use super::{
    ledger::{COUNT, Loss, Mechanism, Scene, Way::Own, Witness::Received, XDP, row},
    network::{frame, to_server},
    queues::LAST,
};

pub(super) const MECHANISMS: &[Mechanism] = &[
    row("tc program, ingress", ("r1", "tc_ingress", "policy"), Own(tc_ingress, "rx_packets of r1")),
    row("tc program, egress", ("r2", "tc_egress", "policy"), Own(tc_egress, "nft counter")),
    // The kernel gives no reason here, and one for a redirection that fails; the class is told by the function.
    row("generic XDP drop", ("r1", "not_specified", "policy"), Own(xdp_drop, "rx_packets of r1")),
    row("native XDP drop", ("r1", "not_specified", "policy"), Own(native_xdp_drop, "tx_packets of c")),
    row("generic XDP redirect error", ("r1", "xdp", "policy"), Own(xdp_redirect_error, "rx_packets of r1")),
    row("XDP aborted", ("r1", "exception_aborted", XDP), Own(xdp_aborted, "tx_packets of c")),
    row("XDP redirect error", ("r1", "redirect", XDP), Own(native_redirect_error, "tx_packets of c")),
    row("bridge port blocked", ("p1", "bridge_ingress_stp_state", "config"), Own(port_blocked, "rx_packets of p1")),
    row("bridge without a way out", ("p1", "no_tx_target", "config"), Own(no_target, "rx_packets of p1")).since(6, 14),
    row("bridge, no such sender", ("p1", "mac_invalid_source", "malformed"), Own(invalid_source, "rx_packets of p1"))
        .since(6, 14),
    row("VXLAN, no such network", ("r1", "vxlan_vni_not_found", "config"), Own(unknown_vni, "nft counter")),
    row("VXLAN header", ("r1", "vxlan_invalid_hdr", "malformed"), Own(vxlan_header, "nft counter")),
    row("larger than the peer's MTU", ("r2", "not_specified", "unknown"), Own(too_big_for_peer, "rx_dropped of s")),
];

/// With `not_specified` in another class, by the configuration.
pub(super) const CLASSED_OTHERWISE: &[Mechanism] =
    &[row("generic XDP drop, as noise", ("r1", "not_specified", "noise"), Own(xdp_drop, "rx_packets of r1"))];

/// A program that ends in this number.
pub(super) const fn ending_in(action: i32) -> [u64; 2] {
    [instruction(0xb7, 0, 0, action), instruction(0x95, 0, 0, 0)]
}

/// Something that drops every frame at one hook of an interface, until dropped.
pub(super) enum Wall<'n> {
    Tcx(#[expect(dead_code, reason = "the link stands as long as it is open")] OwnedFd),
    Filter(&'n Namespace, String),
}

impl<'n> Wall<'n> {
    pub(super) fn new(router: &'n Namespace, interface: &str, hook: TcxHook) -> Result<Self> {
        const DROP: i32 = 2;
        if kernel_version()?.0 >= (6, 6) {
            let program = load_program(ProgramKind::Tc, &ending_in(DROP))?;
            let index = router.index(interface)?;
            return Ok(Self::Tcx(router.run(|| attach_tcx(program, index, hook, TcxPlace::Last))?));
        }
        // The agent's clsact qdisc is there.
        let hook = if hook == TcxHook::Ingress { "ingress" } else { "egress" };
        let place = format!("dev {interface} {hook} pref 500");
        router.tc(&format!("filter add {place} matchall action drop"))?;
        Ok(Self::Filter(router, place))
    }
}

impl Drop for Wall<'_> {
    fn drop(&mut self) {
        if let Self::Filter(router, place) = self {
            let _gone = router.tc(&format!("filter del {place}"));
        }
    }
}

fn tc_ingress(scene: &Scene<'_>) -> Result<Loss> {
    let _wall = Wall::new(&scene.net.router, "r1", TcxHook::Ingress)?;
    scene.lose(COUNT, || scene.read(Received("r1")), || scene.send(&to_server()))
}

fn tc_egress(scene: &Scene<'_>) -> Result<Loss> {
    let _wall = Wall::new(&scene.net.router, "r2", TcxHook::Egress)?;
    let filter = scene.net.router.filter("ip t", LAST)?;
    scene.lose(COUNT, || filter.packets("seen"), || scene.send(&to_server()))
}

/// Loses frames to a generic XDP program on `r1`.
fn generic_xdp(scene: &Scene<'_>, program: &[u64]) -> Result<Loss> {
    let router = &scene.net.router;
    let program = load_program(ProgramKind::Xdp, program)?;
    let index = router.index("r1")?;
    let _link = router.run(|| attach_xdp(program, index, XdpPlace::Generic))?;
    scene.lose(COUNT, || scene.read(Received("r1")), || scene.send(&to_server()))
}

pub(super) const XDP_DROP: i32 = 1;

fn xdp_drop(scene: &Scene<'_>) -> Result<Loss> {
    generic_xdp(scene, &ending_in(XDP_DROP))
}

/// A program that redirects to an interface that does not exist.
const REDIRECTING: [u64; 4] = {
    const BPF_REDIRECT: i32 = 23;
    const NO_INTERFACE: i32 = 9999;
    [
        instruction(0xb7, 1, 0, NO_INTERFACE),
        instruction(0xb7, 2, 0, 0),
        instruction(0x85, 0, 0, BPF_REDIRECT),
        instruction(0x95, 0, 0, 0),
    ]
};

fn xdp_redirect_error(scene: &Scene<'_>) -> Result<Loss> {
    generic_xdp(scene, &REDIRECTING)
}

/// Loses frames to an XDP program in the driver of `r1`.
fn native_xdp(scene: &Scene<'_>, program: &[u64]) -> Result<Loss> {
    let router = &scene.net.router;
    let program = load_program(ProgramKind::Xdp, program)?;
    let index = router.index("r1")?;
    let _link = router.run(|| attach_xdp(program, index, XdpPlace::Native))?;
    let sent = || Ok(scene.net.client.device_counters("c")?.sent);
    scene.lose(COUNT, sent, || scene.send(&to_server()))
}

fn native_xdp_drop(scene: &Scene<'_>) -> Result<Loss> {
    native_xdp(scene, &ending_in(XDP_DROP))
}

pub(super) const XDP_ABORTED: i32 = 0;

fn xdp_aborted(scene: &Scene<'_>) -> Result<Loss> {
    native_xdp(scene, &ending_in(XDP_ABORTED))
}

fn native_redirect_error(scene: &Scene<'_>) -> Result<Loss> {
    native_xdp(scene, &REDIRECTING)
}

/// A bridge in the router's namespace with one port, `p1`, whose other end `q1` is with the client.
struct Bridge<'a>(&'a Scene<'a>);

impl<'a> Bridge<'a> {
    /// Of a bridge that this function makes, called `br`.
    fn new(scene: &'a Scene<'_>, make: fn(&Namespace, &str) -> Result<()>) -> Result<Self> {
        let router = &scene.net.router;
        veth(End::new(&scene.net.client, "q1").mac(A), End::new(router, "p1"))?;
        let bridge = Self(scene);
        make(router, "br")?;
        router.up("br")?;
        router.enslave("p1", "br")?;
        Ok(bridge)
    }

    fn lose(&self, frame: &Frame) -> Result<Loss> {
        let (scene, bytes) = (self.0, frame.bytes());
        let sender = PacketSocket::sender(&scene.net.client, "q1")?;
        scene.lose(COUNT, || scene.read(Received("p1")), || sender.send_copies(&bytes, COUNT as usize))
    }
}

impl Drop for Bridge<'_> {
    fn drop(&mut self) {
        for link in ["br", "p1"] {
            let _gone = self.0.net.router.delete(link);
        }
    }
}

/// Spanning tree has not let the port forward yet.
fn port_blocked(scene: &Scene<'_>) -> Result<Loss> {
    let bridge = Bridge::new(scene, Namespace::bridge_with_spanning_tree)?;
    bridge.lose(&between_ports())
}

/// From one port of a bridge to another.
pub(super) fn between_ports() -> Frame {
    ethernet(B, A).ip4().udp(1000, 5000).payload(10)
}

/// The frame's destination is not known, and its only port is the one it came from.
fn no_target(scene: &Scene<'_>) -> Result<Loss> {
    Bridge::new(scene, Namespace::bridge)?.lose(&between_ports())
}

fn invalid_source(scene: &Scene<'_>) -> Result<Loss> {
    Bridge::new(scene, Namespace::bridge)?.lose(&from_a_group())
}

pub(super) fn from_a_group() -> Frame {
    const GROUP: Mac = [3, 0, 0, 0, 0, 0x0a];
    ethernet_with(B, A, |frame| frame.source = GROUP).ip4().udp(1000, 5000).payload(10)
}

/// A VXLAN device of network 7 on `r1`, and frames with this header.
fn vxlan(scene: &Scene<'_>, header: [u8; 8]) -> Result<Loss> {
    const INPUT: &str = "counter seen {}
        chain c {
            type filter hook input priority 0
            udp dport 4789 counter name seen
        }";
    let router = &scene.net.router;
    router.vxlan("vx", "r1", 7, CLIENT.into())?;
    let frame = in_vxlan(header);
    let filter = router.filter("ip t", INPUT)?;
    let loss = scene.lose(COUNT, || filter.packets("seen"), || scene.send(&frame));
    router.delete("vx")?;
    loss
}

pub(super) fn in_vxlan(header: [u8; 8]) -> Frame {
    frame(ROUTER1, plain).udp(1000, 4789).data(header).nested(ethernet(B, A).ip4().udp(1000, 5000).payload(10))
}

/// Of network 9.
pub(super) const UNKNOWN_VNI: [u8; 8] = [8, 0, 0, 0, 0, 0, 9, 0];
/// Its flag does not say that there is a network.
pub(super) const WITHOUT_VNI: [u8; 8] = [0, 0, 0, 0, 0, 0, 7, 0];

fn unknown_vni(scene: &Scene<'_>) -> Result<Loss> {
    vxlan(scene, UNKNOWN_VNI)
}

fn vxlan_header(scene: &Scene<'_>) -> Result<Loss> {
    vxlan(scene, WITHOUT_VNI)
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
