//! A network made by programs of others alone, as Cilium does it: what one pod sends is redirected to the other one's interface
//! by a program on a tcx hook, or by a filter on clsact, and no bridge or route would bring it there. Were the agent's programs
//! in front of them to end in anything but "continue", not a packet would arrive.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use probe_user::netlink::request;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
};
use tests::{
    agent::Agent,
    frames::{A, B},
    link::{End, veth},
    namespace::Namespace,
    program,
    pump::{Datagrams, Path},
    raw::{ProgramKind, TcxHook, TcxPlace, attach_tcx, instruction, load_program},
    run::{kernel_version, requires_kernel, trial},
    topology::{CLIENT, LEFT, RIGHT, Routed, SERVER},
};

use super::super::counts::{Counts, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    let kinds = [
        ("redirect", redirect as fn() -> Result<Network>),
        ("redirect_peer", redirect_peer),
        ("redirect_neigh", redirect_neigh),
    ];
    let by_tcx = kinds.map(|(name, network)| {
        trial(&format!("harm::{name}_keeps_working"), move || {
            requires_kernel(6, 6, "tcx")?;
            network()?.keeps_working([Place::Tcx(TcxPlace::Last), Place::Tcx(TcxPlace::First)])
        })
    });
    let by_filter = kinds.map(|(name, network)| {
        trial(&format!("harm::{name}_by_filter_keeps_working"), move || {
            network()?.keeps_working([Place::Filter(FAR_BACK), Place::Filter(IN_FRONT)])
        })
    });
    by_tcx.into_iter().chain(by_filter).collect()
}

/// A priority in front of which there is room, and the one in front of which there is none.
const FAR_BACK: u16 = 50;
const IN_FRONT: u16 = 1;

/// Where the others' programs are.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tcx(TcxPlace),
    Filter(u16),
}

impl Place {
    /// Whether the agent's programs are in front of them.
    fn is_behind_us(self) -> Result<bool> {
        Ok(match self {
            Self::Tcx(place) => place == TcxPlace::Last,
            // tcx comes before every filter.
            Self::Filter(preference) => preference == FAR_BACK || kernel_version()?.0 >= (6, 6),
        })
    }
}

/// Datagrams of 60-byte frames, each way.
const COUNT: usize = 500;

/// Two ends and a node between them that forwards nothing by itself.
struct Network {
    left: Namespace,
    node: Namespace,
    right: Namespace,
    /// The node's interfaces to both.
    ports: [&'static str; 2],
    addresses: [Ipv4Addr; 2],
    /// The helper that redirects, and how many arguments it has.
    helper: (i32, u8),
    /// Whether what is redirected leaves by the other port, and not past its hooks.
    leaves: bool,
}

/// Pods beside each other, each with the other one's hardware address.
fn pods(helper: (i32, u8), leaves: bool) -> Result<Network> {
    let (left, node, right) = (Namespace::new("left")?, Namespace::new("node")?, Namespace::new("right")?);
    for (pod, mac, port, (address, neighbour, other)) in
        [(&left, A, "l1", (LEFT, RIGHT, B)), (&right, B, "l2", (RIGHT, LEFT, A))]
    {
        veth(End::new(pod, "eth0").mac(mac), End::new(&node, port))?;
        pod.address("eth0", address, 24)?;
        pod.neighbour("eth0", neighbour, other)?;
    }
    Ok(Network { left, node, right, ports: ["l1", "l2"], addresses: [LEFT, RIGHT], helper, leaves })
}

fn redirect() -> Result<Network> {
    pods((23, 2), true)
}

/// Straight into the other pod's namespace (since 5.10).
fn redirect_peer() -> Result<Network> {
    pods((155, 2), false)
}

/// By the node's routes and neighbours (since 5.10).
fn redirect_neigh() -> Result<Network> {
    let Routed { client, router, server } = Routed::new()?;
    router.sysctl("net.ipv4.ip_forward", "0")?;
    let (ports, addresses) = (["r1", "r2"], [CLIENT, SERVER]);
    Ok(Network { left: client, node: router, right: server, ports, addresses, helper: (152, 4), leaves: true })
}

impl Network {
    /// Behind the agent's programs, where they are before it comes; then in front of them, where they go while it runs.
    fn keeps_working(&self, places: [Place; 2]) -> Result<()> {
        let sink = self.right.udp((self.addresses[1], 5000))?;
        self.left.send_udp((self.addresses[1], 5000), 1, 1)?;
        sink.set_nonblocking(true)?;
        ensure!(sink.recv(&mut [0; 1]).is_err(), "nobody redirects, and yet something arrives");
        drop(sink);
        if matches!(places[0], Place::Filter(_)) {
            for port in self.ports {
                program::run(&self.node, "tc", &["qdisc", "add", "dev", port, "clsact"], "")?;
            }
        }
        let mut others = self.attach(places[0])?;
        self.pass().context("before the agent")?;
        let arguments: Vec<_> = self.ports.iter().flat_map(|name| ["--interface", name, "--track", name]).collect();
        let agent = Agent::start(&self.node, &arguments)?;
        for (number, place) in places.into_iter().enumerate() {
            if number > 0 {
                // The new ones are there before the old ones go.
                others = self.attach(place)?;
            }
            for (direction, is_seen) in [("ingress", place.is_behind_us()?), ("egress", self.leaves)] {
                let frames = if is_seen { COUNT as u64 } else { 0 };
                counts_exactly(&agent, (self.ports[1], direction), Counts::new(frames, frames * 60), || self.pass())
                    .with_context(|| format!("{place:?}, while the agent runs"))?;
            }
        }
        lost_nothing(&agent)?;
        agent.stop()?;
        self.pass().context("after the agent")?;
        drop(others);
        Ok(())
    }

    /// Datagrams there and back.
    fn pass(&self) -> Result<()> {
        for (from, to, address) in
            [(&self.left, &self.right, self.addresses[1]), (&self.right, &self.left, self.addresses[0])]
        {
            let mut datagrams = Datagrams::new(&Path::new(from, to, (address, 5000)))?;
            datagrams.pass(COUNT)?;
            datagrams.finish()?;
        }
        Ok(())
    }

    /// Redirects from each port to the other one, until what is returned is closed (filters stay).
    fn attach(&self, place: Place) -> Result<Vec<OwnedFd>> {
        let ends = [(self.ports[0], self.ports[1]), (self.ports[1], self.ports[0])];
        let redirects = |(from, to): (&str, &str)| -> Result<OwnedFd> {
            let (helper, arguments) = self.helper;
            let set = |register, value| instruction(0xb7, register, 0, value);
            let call = |helper| instruction(0x85, 0, 0, helper);
            // What has another's hardware address is for the other, who would not take it below 6.1: bpf_skb_change_type to
            // PACKET_HOST, as Cilium does.
            let mut instructions = vec![set(2, 0), call(32), set(1, i32::try_from(self.node.index(to)?)?)];
            instructions.extend((2..=arguments).map(|register| set(register, 0)));
            instructions.extend([call(helper), instruction(0x95, 0, 0, 0)]);
            let program = load_program(ProgramKind::Tc, &instructions)?;
            let index = self.node.index(from)?;
            match place {
                Place::Tcx(place) => self.node.run(|| attach_tcx(&program, index, TcxHook::Ingress, place)),
                Place::Filter(preference) => {
                    self.node.run(|| add_filter(&program, index, preference))?;
                    Ok(program)
                }
            }
        };
        ends.into_iter().map(redirects).collect()
    }
}

/// Puts a program on the ingress of a clsact qdisc, for all protocols: `tc filter add … bpf direct-action`.
fn add_filter(program: &OwnedFd, ifindex: u32, preference: u16) -> Result<()> {
    const ALL_PROTOCOLS: u16 = 3;
    let mut message = TcMessage::with_index(i32::try_from(ifindex)?);
    message.header.parent = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
    message.header.info = u32::from(preference) << 16 | u32::from(ALL_PROTOCOLS.to_be());
    let options = [
        TcFilterBpfOption::ProgFd(u32::try_from(program.as_raw_fd())?),
        TcFilterBpfOption::ProgName("redirecting".to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
        TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()),
    ];
    let message = RouteNetlinkMessage::NewTrafficFilter(message);
    request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, |_, _| Ok(())).context("add a filter")
}
