//! What each device is to its node, with real devices and routes. Namespaces have no physical devices, so what leads out
//! of them is what carries the default route, or what `--uplink` names.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::libc;
use probe_user::collect::routes::{Answer, Carried, LOOK_AT, carried};
use serde_json::Value;
use tests::{
    agent::Agent,
    link::{End, veth},
    namespace::Namespace,
    raw::{TunKind, open_tun},
    run::{requires_module, trial},
    wait::eventually,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("roles::container", container),
        trial("roles::follow_routes", follow_routes),
        trial("roles::two_legs", || legs(Namespace::default_route)),
        trial("roles::two_legs_of_nexthop_objects", || legs(Namespace::default_route_by_objects)),
        trial("roles::ipv6", ipv6),
        trial("roles::bridge_with_the_address", bridge_with_the_address),
        trial("roles::named_uplink", named_uplink),
        trial("roles::every_kind", every_kind),
        trial("roles::vlan", vlan),
        trial("roles::bond", bond),
        trial("roles::large_table", large_table),
    ]
}

/// Announcements of nexthop objects, uapi/linux/rtnetlink.h (since Linux 5.3).
const RTNLGRP_NEXTHOP: u32 = 32;
/// A route is asked for every few seconds.
const FEW_SECONDS: Duration = Duration::from_secs(15);

/// `ROLE TRACK: REASON` of every interface.
fn parts(agent: &Agent<'_>) -> Result<BTreeMap<String, String>> {
    let snapshot = agent.json("/api/v1/snapshot")?;
    let interfaces = snapshot["interfaces"].as_array().context("no interfaces")?;
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or("?").to_owned();
    let part = |interface: &Value| {
        let [name, role, track, reason] = ["name", "role", "track", "role_reason"].map(|key| text(interface, key));
        (name, format!("{role} {track}: {reason}"))
    };
    Ok(interfaces.iter().map(part).collect())
}

/// Waits until these interfaces have these parts.
fn reach(agent: &Agent<'_>, expected: &[(&str, &str)]) -> Result<()> {
    reach_within(FEW_SECONDS, agent, expected)
}

fn reach_within(deadline: Duration, agent: &Agent<'_>, expected: &[(&str, &str)]) -> Result<()> {
    eventually(deadline, &format!("parts {expected:?}"), || {
        let parts = parts(agent)?;
        for (name, part) in expected {
            ensure!(parts.get(*name).map(String::as_str) == Some(part), "{parts:#?}");
        }
        Ok(())
    })
}

const VIRTUAL: &str = "virtual, and no port of a bridge";
const DEFAULT: &str = "carries the default route";
const HERE: &str = "; there is no physical device here";

fn pairs(here: &Namespace, there: &Namespace, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| veth(End::new(here, name), End::new(there, &format!("{name}p"))))
}

fn container() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["eth0", "net1"])?;
    // A route to a network is none to everywhere.
    here.address("net1", Ipv4Addr::new(10, 9, 0, 1), 24)?;
    here.default_route(&["eth0"])?;
    let agent = Agent::start(&here, &[])?;
    // At once: what was there at the start is known with the first answer.
    let parts = parts(&agent)?;
    ensure!(parts["eth0"] == format!("uplink node: {DEFAULT}{HERE}"), "{parts:#?}");
    ensure!(parts["net1"] == format!("internal : {VIRTUAL}"), "{parts:#?}");
    agent.stop()
}

fn follow_routes() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["a", "b"])?;
    let agent = Agent::start(&here, &[])?;
    let (uplink, other) = (format!("uplink node: {DEFAULT}{HERE}"), format!("internal : {VIRTUAL}"));
    reach(&agent, &[("a", &other), ("b", &other)])?;
    here.default_route(&["a"])?;
    reach(&agent, &[("a", &uplink), ("b", &other)])?;
    // No link changes with it.
    here.delete_default_route(&["a"])?;
    here.default_route(&["b"])?;
    reach(&agent, &[("a", &other), ("b", &uplink)])?;
    // A device that is down loses its routes, and its part.
    here.down("b")?;
    reach(&agent, &[("a", &other), ("b", &other)])?;
    // A device becomes a port.
    here.bridge("br0")?;
    here.enslave("a", "br0")?;
    reach(&agent, &[("a", "port : port of br0"), ("br0", "internal : switches between its ports")])?;
    let errors = agent.metrics()?.sum("lossprobe_collect_errors_total", &[]);
    ensure!(errors == 0.0, "{errors} reads failed");
    agent.stop()
}

fn legs(add: fn(&Namespace, &[&str]) -> Result<()>) -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["a", "b", "c"])?;
    add(&here, &["a", "b"])?;
    let agent = Agent::start(&here, &[])?;
    let uplink = format!("uplink node: {DEFAULT}{HERE}");
    reach(&agent, &[("a", &uplink), ("b", &uplink), ("c", &format!("internal : {VIRTUAL}"))])?;
    agent.stop()
}

/// The default route of IPv6 alone; what every IPv6 device has by itself (fe80::/64) is no route.
fn ipv6() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["a", "b"])?;
    for (name, address) in [("a", "fd00::1"), ("b", "fe80::1")] {
        here.enable_ipv6(name)?;
        here.address(name, address.parse::<IpAddr>()?, 64)?;
    }
    let agent = Agent::start(&here, &[])?;
    let other = format!("internal : {VIRTUAL}");
    reach(&agent, &[("a", &other), ("b", &other)])?;
    here.route(Ipv6Addr::UNSPECIFIED.into(), 0, "fd00::2".parse()?)?;
    reach(&agent, &[("a", &format!("uplink node: {DEFAULT}{HERE}")), ("b", &other)])?;
    agent.stop()
}

/// The route is the bridge's; what leads out is below it.
fn bridge_with_the_address() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["under", "guest"])?;
    here.address("under", Ipv4Addr::new(10, 9, 0, 1), 24)?;
    here.bridge("br0")?;
    here.enslave("guest", "br0")?;
    here.default_route(&["br0"])?;
    let agent = Agent::start(&here, &[])?;
    let through = format!("{DEFAULT} through br0{HERE}");
    reach(&agent, &[("br0", &format!("uplink node: {DEFAULT}{HERE}")), ("guest", "port : port of br0")])?;
    here.vxlan("vx0", "under", 7, Ipv4Addr::new(10, 9, 0, 2).into())?;
    here.enslave("vx0", "br0")?;
    let switches = "internal : switches between its ports";
    reach(&agent, &[("br0", switches), ("vx0", &format!("tunnel node: {through}")), ("guest", "port : port of br0")])?;
    agent.stop()
}

fn named_uplink() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["port", "guest", "eth0"])?;
    here.bridge("br0")?;
    here.enslave("port", "br0")?;
    here.enslave("guest", "br0")?;
    here.default_route(&["eth0"])?;
    let agent = Agent::start(&here, &["--uplink", "p*", "--track", "eth0:other", "--track", "p*"])?;
    reach(
        &agent,
        &[
            ("port", "uplink node: named by --uplink"),
            ("guest", "port : port of br0"),
            ("eth0", &format!("internal other: {VIRTUAL}")),
        ],
    )?;
    agent.stop()?;
    let refused = Agent::start(&here, &["--uplink", "prot"]).map(drop);
    let error = refused.err().context("an uplink that does not exist is accepted")?;
    ensure!(format!("{error:#}").contains("no interface `prot`; did you mean `port`?"), "{error:#}");
    Ok(())
}

/// Kind, role, master and lower of everything that this kernel can make.
fn every_kind() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["eth0", "v0"])?;
    here.address("eth0", Ipv4Addr::new(10, 9, 0, 1), 24)?;
    here.default_route(&["eth0"])?;
    here.bridge("br0")?;
    here.enslave("v0", "br0")?;
    here.vxlan("vx0", "eth0", 7, Ipv4Addr::new(10, 9, 0, 2).into())?;
    here.macvlan("m0", "eth0")?;
    let _tun = here.run(|| open_tun("tun0", TunKind::Tun))?;
    let _tap = here.run(|| open_tun("tap0", TunKind::Tap))?;
    here.enslave("tap0", "br0")?;
    here.alias("v0", "vm-1")?;
    here.up("v0")?;
    let agent = Agent::start(&here, &["--ports", "each"])?;
    let metrics = agent.metrics()?;
    for (interface, kind, role, master, lower, driver) in [
        ("eth0", "veth", "uplink", "", "", "veth"),
        ("v0", "veth", "port", "br0", "", "veth"),
        ("br0", "bridge", "internal", "", "", "bridge"),
        ("vx0", "vxlan", "tunnel", "", "eth0", "vxlan"),
        ("m0", "macvlan", "internal", "", "eth0", "macvlan"),
        ("tun0", "tun", "internal", "", "", "tun"),
        ("tap0", "tun", "port", "br0", "", "tun"),
    ] {
        let labels = [
            ("interface", interface),
            ("kind", kind),
            ("role", role),
            ("master", master),
            ("lower", lower),
            ("driver", driver),
        ];
        let this = [("interface", interface)];
        let found: Vec<_> = metrics.select("lossprobe_interface_info", &this).collect();
        ensure!(metrics.select("lossprobe_interface_info", &labels).count() == 1, "{interface}: {found:?}");
    }
    let alias = [("interface", "v0"), ("alias", "vm-1")];
    ensure!(metrics.get("lossprobe_interface_info", &alias) == Some(1.0), "the alias is missing");
    agent.stop()
}

fn vlan() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["a"])?;
    requires_module("8021q", here.vlan("a.5", "a", 5))?;
    here.default_route(&["a.5"])?;
    let agent = Agent::start(&here, &[])?;
    reach(&agent, &[("a", &format!("uplink node: {DEFAULT} through a.5{HERE}")), ("a.5", "internal : above a")])?;
    let info = [("interface", "a.5"), ("kind", "vlan"), ("lower", "a"), ("role", "internal")];
    ensure!(agent.metrics()?.get("lossprobe_interface_info", &info) == Some(1.0));
    agent.stop()
}

/// The route is a bridge's, whose port is a bond: the bond leads out, neither a slave nor the bridge.
fn bond() -> Result<()> {
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    requires_module("bonding", here.bond("bond7"))?;
    pairs(&here, &there, &["s1", "s2", "guest"])?;
    for slave in ["s1", "s2"] {
        here.down(slave)?;
        here.enslave(slave, "bond7")?;
    }
    here.bridge("br0")?;
    here.enslave("bond7", "br0")?;
    here.enslave("guest", "br0")?;
    here.default_route(&["br0"])?;
    let agent = Agent::start(&here, &[])?;
    reach(
        &agent,
        &[
            ("bond7", &format!("uplink node: {DEFAULT} through br0{HERE}")),
            ("s1", "internal : slave of bond7"),
            ("s2", "internal : slave of bond7"),
            ("br0", "internal : switches between its ports"),
            ("guest", "port : port of br0"),
        ],
    )?;
    let info = [("interface", "bond7"), ("kind", "bond"), ("master", "br0"), ("role", "uplink")];
    ensure!(agent.metrics()?.get("lossprobe_interface_info", &info) == Some(1.0));
    agent.stop()
}

/// A router's table must cost next to nothing: of a device some of its routes are read at most, the default route alone
/// where there is one, and no announcement of any.
fn large_table() -> Result<()> {
    /// A large table may be asked for every 30 s only, and is in an emulated machine.
    const ASKED_RARELY: Duration = Duration::from_secs(60);
    let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
    pairs(&here, &there, &["a", "b"])?;
    let agent = Agent::start(&here, &[])?;
    here.many_routes("a", 2 * LOOK_AT)?;
    let read = |device: &str| here.index(device).and_then(|index| here.run(|| carried(index)));
    let answer = |carried, read| Answer { carried, read };
    ensure!(read("a")? == answer(Some(Carried::Route), LOOK_AT), "{:?}", read("a")?);
    here.default_route(&["a"])?;
    ensure!(read("a")? == answer(Some(Carried::DefaultRoute), 1), "{:?}", read("a")?);
    ensure!(read("b")? == answer(None, 0), "{:?}", read("b")?);
    let expected = [("a", &*format!("uplink node: {DEFAULT}{HERE}")), ("b", &*format!("internal : {VIRTUAL}"))];
    reach_within(ASKED_RARELY, &agent, &expected)?;
    let groups = rtnetlink_groups(&agent)?;
    let hears = |group: u32| groups & 1 << (group - 1) != 0;
    ensure!(hears(libc::RTNLGRP_LINK), "it follows links: {groups:#x}");
    let of_routes = [libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP];
    ensure!(!of_routes.into_iter().any(hears), "it follows routes: {groups:#x}");
    let errors = agent.metrics()?.sum("lossprobe_collect_errors_total", &[]);
    ensure!(errors == 0.0, "{errors} reads failed");
    agent.stop()
}

/// What the kernel announces to sockets of the agent's namespace: a bit for each group, all sockets together.
fn rtnetlink_groups(agent: &Agent<'_>) -> Result<u32> {
    let path = format!("/proc/{}/net/netlink", agent.pid());
    let table = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Address, protocol, port, groups.
    let groups = columns.filter_map(|columns| match columns[..] {
        [_, "0", _, groups, ..] => Some(u32::from_str_radix(groups, 16)),
        _ => None,
    });
    groups.map(|groups| groups.with_context(|| path.clone())).try_fold(0, |all, groups| Ok(all | groups?))
}
