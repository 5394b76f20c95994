//! The arrangements in which a probe stands in life, each with traffic through the node that is watched: what has to pass
//! there as if nobody looked.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::Result;

use crate::{
    cable::Cable,
    namespace::Namespace,
    pump::Path,
    run::requires_module,
    topology::{Bridged, CLIENT, LEFT, Pair, RIGHT, Routed, SERVER},
};

/// An arrangement: two ends, and the node to watch, which is the right end or stands between them.
pub struct Shape {
    left: Namespace,
    between: Option<Namespace>,
    right: Namespace,
    addresses: [Ipv4Addr; 2],
    cable: Option<Arc<Cable>>,
    /// The node's interfaces.
    pub interfaces: &'static [&'static str],
    /// Those of them whose connections are followed, as an uplink's are.
    pub uplinks: &'static [&'static str],
}

/// A name, and what makes it.
pub type Kind = (&'static str, fn() -> Result<Shape>);

/// All of them.
pub const SHAPES: [Kind; 6] =
    [("veth", veth), ("bridge", bridge), ("router", router), ("tap", tap), ("vxlan", vxlan), ("macvlan", macvlan)];

/// The addresses of the ends on top of something.
const UPPER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 7, 0, 2)];

impl Shape {
    /// What is watched.
    #[must_use]
    pub fn node(&self) -> &Namespace {
        self.between.as_ref().unwrap_or(&self.right)
    }

    /// The interfaces that every packet passes: a bridge's own carries nothing of what crosses its ports.
    pub fn passed(&self) -> impl Iterator<Item = &'static str> {
        self.interfaces.iter().copied().filter(|name| *name != "br")
    }

    /// From end to end.
    #[must_use]
    pub fn path(&self) -> Path<'_> {
        Path::new(&self.left, &self.right, (self.addresses[1], 5000)).by(self.cable.as_ref())
    }

    /// The same in the other direction.
    #[must_use]
    pub fn way_back(&self) -> Path<'_> {
        Path::new(&self.right, &self.left, (self.addresses[0], 5000)).by(self.cable.as_ref())
    }
}

fn veth() -> Result<Shape> {
    let Pair { left, right } = Pair::new()?;
    let interfaces = &["b"];
    Ok(Shape { left, between: None, right, addresses: [LEFT, RIGHT], cable: None, interfaces, uplinks: interfaces })
}

fn bridge() -> Result<Shape> {
    let Bridged { left, switch, right } = Bridged::new()?;
    let (between, interfaces) = (Some(switch), &["p1", "br", "p2"]);
    Ok(Shape { left, between, right, addresses: [LEFT, RIGHT], cable: None, interfaces, uplinks: interfaces })
}

fn router() -> Result<Shape> {
    let Routed { client, router, server } = Routed::new()?;
    Ok(Shape {
        left: client,
        between: Some(router),
        right: server,
        addresses: [CLIENT, SERVER],
        cable: None,
        interfaces: &["r1", "r2"],
        uplinks: &["r1", "r2"],
    })
}

/// The host's tap `t` of a guest whose card is `g`.
fn tap() -> Result<Shape> {
    let (left, right) = (Namespace::new("guest")?, Namespace::new("host")?);
    let cable = Some(Arc::new(Cable::new([(&left, "g"), (&right, "t")])?));
    left.address("g", LEFT, 24)?;
    right.address("t", RIGHT, 24)?;
    let interfaces = &["t"];
    Ok(Shape { left, between: None, right, addresses: [LEFT, RIGHT], cable, interfaces, uplinks: interfaces })
}

/// A tunnel's end `vx` above `b`.
fn vxlan() -> Result<Shape> {
    let Pair { left, right } = Pair::new()?;
    for (namespace, lower, remote, address) in [(&left, "a", RIGHT, UPPER[0]), (&right, "b", LEFT, UPPER[1])] {
        requires_module("vxlan", namespace.vxlan("vx", lower, 7, remote.into()))?;
        namespace.address("vx", address, 24)?;
    }
    let interfaces = &["vx", "b"];
    Ok(Shape { left, between: None, right, addresses: UPPER, cable: None, interfaces, uplinks: &["b"] })
}

/// A macvlan `mv` above `b`.
fn macvlan() -> Result<Shape> {
    let Pair { left, right } = Pair::new()?;
    // Else `b` answers for the address of the device above it.
    right.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    requires_module("macvlan", right.macvlan("mv", "b"))?;
    left.address("a", UPPER[0], 24)?;
    right.address("mv", UPPER[1], 24)?;
    let interfaces = &["mv", "b"];
    Ok(Shape { left, between: None, right, addresses: UPPER, cable: None, interfaces, uplinks: &["b"] })
}
