//! Which devices lead out of this node, as a function of what exists, which devices carry a route, and what the operator
//! said: a role for each device, and the track points, where a packet passes exactly once on its way through one NIC.
//!
//! A route names the device that the host sends through, which is often no NIC: it is followed downwards through
//! bridges, Open vSwitch datapaths, bonds and what is stacked on a lower device.

mod reason;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    collect::{links::Link, routes::Carried},
    config::Roles,
    tunnel::TunnelPort,
};

/// Kinds that carry frames inside other packets.
const TUNNELS: [&str; 18] = [
    "amt",
    "bareudp",
    "erspan",
    "fou",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
];

/// What a device is to this node: the label `role`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Where packets leave the node and come in.
    Uplink,
    /// Of a bridge or datapath, towards a virtual machine or container.
    Port,
    /// Its packets pass another device as another packet's payload.
    Tunnel,
    /// Everything else; its packets pass others of these devices too.
    #[default]
    Internal,
}

impl Role {
    /// The label.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Port => "port",
            Self::Tunnel => "tunnel",
            Self::Internal => "internal",
        }
    }
}

/// A device's part in the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What it is to the node.
    pub role: Role,
    /// Track group, `""` if it is no track point.
    pub track: String,
    /// Why it has this role, in words that follow its name and a colon.
    pub reason: String,
    /// Tunnels whose packets pass it, those that the operator has named first.
    pub tunnels: Vec<TunnelPort>,
}

/// Devices whose routes decide, those first that lead out themselves. None where `roles` name the uplinks.
#[must_use]
pub fn asked_for_routes(links: &BTreeMap<u32, Link>, roles: &Roles) -> Vec<u32> {
    if roles.names_uplinks() {
        return Vec::new();
    }
    let graph = Graph::new(links);
    let leads_out = |link: &&Link| graph.is_virtual || !graph.below(link.ifindex).is_empty();
    let up = links.values().filter(|link| link.up && !link.is_loopback());
    let mut asked: Vec<&Link> = up.filter(leads_out).collect();
    asked.sort_by_key(|link| (!link.is_physical(), link.lower.is_some(), link.ifindex));
    asked.into_iter().map(|link| link.ifindex).collect()
}

/// The part of every device, by index.
#[must_use]
pub fn resolve(links: &BTreeMap<u32, Link>, routes: &BTreeMap<u32, Carried>, roles: &Roles) -> BTreeMap<u32, Place> {
    let graph = Graph::new(links);
    let points = if roles.names_uplinks() {
        let named = links.values().filter(|link| roles.is_uplink(&link.name));
        named.map(|link| (link.ifindex, Point { found: Found::Named, via: Vec::new() })).collect()
    } else {
        graph.points(routes)
    };
    let place = |link: &Link| {
        let point = points.get(&link.ifindex);
        let named = point.is_some_and(|point| point.found == Found::Named);
        let role = if point.is_some() && (named || !is_tunnel(link)) {
            Role::Uplink
        } else if is_tunnel(link) {
            Role::Tunnel
        } else if graph.master(link).is_some_and(is_switch) {
            Role::Port
        } else {
            Role::Internal
        };
        let track = roles.track_group(&link.name, link.is_loopback(), point.is_some()).to_owned();
        let tunnels = if track.is_empty() { Vec::new() } else { roles.tunnels().to_vec() };
        Place { role, track, reason: graph.reason(link, role, point, roles.names_uplinks()), tunnels }
    };
    let mut places: BTreeMap<u32, Place> = links.iter().map(|(ifindex, link)| (*ifindex, place(link))).collect();
    graph.tell_carriers(&mut places, roles.tracks_points_only());
    places
}

/// How a track point was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The operator says so.
    Named,
    /// It, or the first of `via`, carries a route.
    Carries(Carried),
    /// The same, in a namespace without any physical device.
    CarriesVirtually,
    /// It is, or bundles, a physical port of something that carries no route.
    PhysicalPort,
}

/// A device where packets leave the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    found: Found,
    /// From the device that carries the route downwards to the one above this.
    via: Vec<u32>,
}

/// The devices and how they are stacked.
struct Graph<'a> {
    links: &'a BTreeMap<u32, Link>,
    /// By master.
    ports: BTreeMap<u32, Vec<&'a Link>>,
    /// There is no physical device: a container, a pod.
    is_virtual: bool,
}

impl<'a> Graph<'a> {
    fn new(links: &'a BTreeMap<u32, Link>) -> Self {
        let mut ports = BTreeMap::<_, Vec<_>>::new();
        for link in links.values() {
            if let Some(master) = link.master {
                ports.entry(master).or_default().push(link);
            }
        }
        Self { links, ports, is_virtual: !links.values().any(Link::is_physical) }
    }

    fn master(&self, link: &Link) -> Option<&'a Link> {
        self.links.get(&link.master?)
    }

    /// Ports of a bridge; of any datapath for Open vSwitch's own devices, since the kernel does not tell which is whose.
    fn ports(&self, of: &Link) -> Vec<&'a Link> {
        let is_datapath = |master: &&u32| self.links.get(master).is_some_and(|master| master.kind == "openvswitch");
        if of.kind == "openvswitch" {
            self.ports.keys().filter(is_datapath).flat_map(|master| self.ports[master].iter().copied()).collect()
        } else {
            self.ports.get(&of.ifindex).cloned().unwrap_or_default()
        }
    }

    fn points(&self, routes: &BTreeMap<u32, Carried>) -> BTreeMap<u32, Point> {
        let mut points = BTreeMap::new();
        let mut carriers: Vec<_> = routes.iter().filter(|(ifindex, _)| self.links.contains_key(ifindex)).collect();
        // The best reason comes first and stays.
        carriers.sort_by_key(|(ifindex, carried)| (std::cmp::Reverse(**carried), **ifindex));
        for (ifindex, carried) in carriers {
            let found = match (self.is_virtual, carried) {
                (true, Carried::DefaultRoute) => Found::CarriesVirtually,
                (true, Carried::Route) => continue,
                (false, carried) => Found::Carries(*carried),
            };
            for (below, via) in self.below(*ifindex) {
                points.entry(below).or_insert(Point { found, via });
            }
        }
        let is_port = |link: &&Link| self.master(link).is_some_and(|master| is_switch(master) || is_bundle(master));
        for port in self.links.values().filter(|link| link.is_physical() && link.up).filter(is_port) {
            for (below, via) in self.below(port.ifindex) {
                points.entry(below).or_insert(Point { found: Found::PhysicalPort, via });
            }
        }
        let twice = points.keys().copied().filter(|point| self.stands_on(*point, &points)).collect::<Vec<_>>();
        points.retain(|point, _| !twice.contains(point));
        points
    }

    /// Whether what passes the device passes another point below it: the ports of a switch chip do, on its conduit.
    fn stands_on(&self, point: u32, points: &BTreeMap<u32, Point>) -> bool {
        let (mut seen, mut at) = (BTreeSet::from([point]), point);
        while let Some(lower) = self.links.get(&at).filter(|link| !is_tunnel(link)).and_then(|link| link.lower) {
            if !seen.insert(lower) {
                return false;
            }
            if points.contains_key(&lower) {
                return true;
            }
            at = lower;
        }
        false
    }

    /// Writes each tunnel's port to the devices that its packets pass: the one below it and those through which that one's
    /// leave; of a tunnel that may use any, the track points. A tunnel whose packets are looked into there is no track point
    /// of its own, if `once`: else a connection inside would be followed at both.
    fn tell_carriers(&self, places: &mut BTreeMap<u32, Place>, once: bool) {
        for link in self.links.values() {
            let Some(tunnel) = link.tunnel else { continue };
            let carriers: BTreeSet<u32> = match link.lower {
                Some(lower) => self.below(lower).into_iter().map(|(below, _)| below).chain([lower]).collect(),
                None => places.iter().filter(|(_, place)| !place.track.is_empty()).map(|(at, _)| *at).collect(),
            };
            let mut is_followed = false;
            for carrier in carriers.iter().filter(|carrier| **carrier != link.ifindex) {
                if let Some(place) = places.get_mut(carrier) {
                    if !place.tunnels.contains(&tunnel) {
                        place.tunnels.push(tunnel);
                    }
                    is_followed |= !place.track.is_empty();
                }
            }
            if let (true, Some(place)) = (once && is_followed, places.get_mut(&link.ifindex)) {
                place.track.clear();
                place.tunnels.clear();
            }
        }
    }

    /// Where packets of `top` leave the node, each with the devices that they pass before.
    fn below(&self, top: u32) -> Vec<(u32, Vec<u32>)> {
        let mut walk = Walk { graph: self, seen: BTreeSet::new(), found: Vec::new() };
        walk.visit(top, &[], false);
        // A bridge between containers leads out by itself where nothing else does.
        if walk.found.is_empty() && self.is_virtual && self.links.get(&top).is_some_and(is_switch) {
            walk.found.push((top, Vec::new()));
        }
        walk.found
    }
}

/// A walk downwards that visits no device twice.
struct Walk<'g> {
    graph: &'g Graph<'g>,
    seen: BTreeSet<u32>,
    found: Vec<(u32, Vec<u32>)>,
}

impl Walk<'_> {
    fn visit(&mut self, ifindex: u32, above: &[u32], is_port: bool) {
        let Some(link) = self.graph.links.get(&ifindex) else { return };
        if !link.up || !self.seen.insert(ifindex) {
            return;
        }
        let through: Vec<u32> = above.iter().copied().chain([ifindex]).collect();
        if let Some(bundle) = self.graph.master(link).filter(|master| is_bundle(master)) {
            // Never a slave: what it carries passes the bundle too.
            self.visit(bundle.ifindex, above, is_port);
        } else if is_bundle(link) || link.is_physical() || (is_tunnel(link) && is_port) {
            self.found.push((ifindex, above.to_vec()));
        } else if is_tunnel(link) {
            // Its packets leave as others' payload, which pass a device with a route of their own.
        } else if is_switch(link) {
            self.graph.ports(link).into_iter().for_each(|port| self.visit(port.ifindex, &through, true));
        } else if let Some(lower) = link.lower {
            self.visit(lower, &through, is_port);
        } else if self.graph.is_virtual && !is_port {
            self.found.push((ifindex, above.to_vec()));
        }
    }
}

fn is_bundle(link: &Link) -> bool {
    matches!(link.kind.as_str(), "bond" | "team")
}

fn is_switch(link: &Link) -> bool {
    matches!(link.kind.as_str(), "bridge" | "openvswitch")
}

fn is_tunnel(link: &Link) -> bool {
    TUNNELS.contains(&link.kind.as_str())
}
