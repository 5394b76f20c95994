use super::*;
use crate::{
    cli::{AgentArgs, PlanArgs},
    config::Config,
};

/// A device in words: name, kind, then `phys`, `down`, `master=NAME`, `lower=NAME`, `port=PHYS_PORT_NAME`,
/// `udp=PORT` of a tunnel.
fn links(devices: &[&str]) -> BTreeMap<u32, Link> {
    let names: Vec<&str> = devices.iter().filter_map(|device| device.split(' ').next()).collect();
    let index = |name: &str| {
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no device {name}"));
        u32::try_from(at).unwrap() + 1
    };
    let link = |device: &&str| {
        let mut words = device.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let mut link = Link {
            ifindex: index(name),
            name: name.into(),
            kind: kind.into(),
            up: true,
            device_type: 1,
            ..Link::default()
        };
        if kind == "loopback" {
            link.device_type = 772;
        }
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("phys", _) => link.has_parent_device = true,
                ("down", _) => link.up = false,
                ("master", name) => link.master = Some(index(name)),
                ("lower", name) => link.lower = Some(index(name)),
                ("port", name) => link.port_name = name.into(),
                ("udp", port) => link.tunnel = port.parse().ok(),
                other => panic!("{other:?}"),
            }
        }
        (link.ifindex, link)
    };
    devices.iter().map(link).collect()
}

fn roles(uplink: &[&str], track: &[&str]) -> Roles {
    let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let plan = PlanArgs { uplink: strings(uplink), track: strings(track), ..PlanArgs::default() };
    let args = AgentArgs { plan, ..AgentArgs::default() };
    Config::from_args(&args).unwrap().roles
}

/// Each device's `NAME ROLE TRACK: REASON`, given what carries routes (`NAME` or `NAME default`).
fn resolved(devices: &[&str], routes: &[&str], roles: &Roles) -> Vec<String> {
    let links = links(devices);
    let carried = routes.iter().map(|route| {
        let (name, carried) = match route.split_once(' ') {
            Some((name, _)) => (name, Carried::DefaultRoute),
            None => (*route, Carried::Route),
        };
        (links.values().find(|link| link.name == name).unwrap().ifindex, carried)
    });
    let carried: BTreeMap<u32, Carried> = carried.collect();
    // What is asked for must be enough to know.
    let asked = asked_for_routes(&links, roles);
    let heard =
        carried.iter().filter(|(ifindex, _)| asked.contains(ifindex)).map(|(ifindex, carried)| (*ifindex, *carried));
    let places = resolve(&links, &heard.collect(), roles);
    assert_eq!(places, resolve(&links, &carried, roles), "asked for {asked:?} only");
    assert_no_frame_counts_twice(&links, &places, roles);
    let line = |(ifindex, place): (&u32, &Place)| {
        let track = if place.track.is_empty() { "-" } else { &place.track };
        format!("{} {} {track}: {}", links[ifindex].name, place.role.id(), place.reason)
    };
    places.iter().map(line).collect()
}

/// Below no uplink that was found is another: not its lower device, not its slave, not its port.
fn assert_no_frame_counts_twice(links: &BTreeMap<u32, Link>, places: &BTreeMap<u32, Place>, roles: &Roles) {
    let is_uplink = |ifindex: &u32| places[ifindex].role == Role::Uplink && !roles.names_uplinks();
    for uplink in places.keys().filter(|ifindex| is_uplink(ifindex)) {
        let (mut seen, mut below) = (BTreeSet::new(), vec![*uplink]);
        while let Some(at) = below.pop() {
            if seen.insert(at) {
                below.extend(links[&at].lower);
                below.extend(links.values().filter(|link| link.master == Some(at)).map(|link| link.ifindex));
                assert!(at == *uplink || !is_uplink(&at), "{} is below {}", links[&at].name, links[uplink].name);
            }
        }
    }
}

fn check(name: &str, devices: &[&str], routes: &[&str], expected: &[&str]) {
    assert_eq!(resolved(devices, routes, &Roles::default()), expected, "{name}");
}

#[test]
fn one_card() {
    check(
        "it carries the default route",
        &["lo loopback", "eth0 ethernet phys", "eth1 ethernet phys", "eth2 ethernet phys down", "dummy0 dummy"],
        &["eth0 default", "dummy0"],
        &[
            "lo internal -: the loopback",
            "eth0 uplink node: carries the default route",
            "eth1 internal -: physical, but it carries no route and is no port",
            "eth2 internal -: physical, but down",
            "dummy0 internal -: virtual, and no port of a bridge",
        ],
    );
    check(
        "two legs",
        &["eth0 ethernet phys", "eth1 ethernet phys"],
        &["eth0 default", "eth1"],
        &["eth0 uplink node: carries the default route", "eth1 uplink node: carries a route"],
    );
}

#[test]
fn bridges() {
    check(
        "with the host's address",
        &["br0 bridge", "eth0 ethernet phys master=br0", "tap0 tun master=br0", "eth1 ethernet phys down master=br0"],
        &["br0 default"],
        &[
            "br0 internal -: switches between its ports",
            "eth0 uplink node: carries the default route through br0",
            "tap0 port -: port of br0",
            "eth1 port -: port of br0",
        ],
    );
    check(
        "without any address, between machines and a card",
        &["br0 bridge", "eth0 ethernet phys master=br0", "tap0 tun master=br0", "eth1 ethernet phys"],
        &["eth1 default"],
        &[
            "br0 internal -: switches between its ports",
            "eth0 uplink node: physical port of br0",
            "tap0 port -: port of br0",
            "eth1 uplink node: carries the default route",
        ],
    );
    check(
        "of containers alone",
        &["docker0 bridge", "veth1 veth master=docker0", "eth0 ethernet phys"],
        &["docker0", "eth0 default"],
        &[
            "docker0 internal -: switches between its ports",
            "veth1 port -: port of docker0",
            "eth0 uplink node: carries the default route",
        ],
    );
    check(
        "with a VLAN of a bond and a tunnel as ports",
        &[
            "br0 bridge",
            "bond0.7 vlan lower=bond0 master=br0",
            "bond0 bond",
            "eth0 ethernet phys master=bond0",
            "eth1 ethernet phys master=bond0",
            "vx0 vxlan lower=bond0 master=br0",
        ],
        &["br0 default"],
        &[
            "br0 internal -: switches between its ports",
            "bond0.7 port -: port of br0",
            "bond0 uplink node: carries the default route through br0 -> bond0.7",
            "eth0 internal -: slave of bond0",
            "eth1 internal -: slave of bond0",
            "vx0 tunnel node: carries the default route through br0",
        ],
    );
    check(
        "a virtual machine's function of a card",
        &["br0 bridge", "eth0 ethernet phys port=p0 master=br0", "eth0_0 ethernet phys port=pf0vf0 master=br0"],
        &["br0 default"],
        &[
            "br0 internal -: switches between its ports",
            "eth0 uplink node: carries the default route through br0",
            "eth0_0 port -: port of br0",
        ],
    );
}

#[test]
fn open_vswitch() {
    check(
        "an internal port carries the route; the kernel does not tell its datapath",
        &[
            "ovs-system openvswitch down",
            "br-ex openvswitch",
            "br-int openvswitch down",
            "eth0 ethernet phys master=ovs-system",
            "tap0 tun master=ovs-system",
            "vxlan_sys_4789 vxlan master=ovs-system",
        ],
        &["br-ex default"],
        &[
            "ovs-system internal -: switches between its ports",
            "br-ex internal -: switches between its ports",
            "br-int internal -: switches between its ports",
            "eth0 uplink node: carries the default route through br-ex",
            "tap0 port -: port of ovs-system",
            "vxlan_sys_4789 tunnel node: carries the default route through br-ex",
        ],
    );
}

#[test]
fn bonds() {
    for kind in ["bond", "team"] {
        check(
            kind,
            &[&format!("b0 {kind}"), "eth0 ethernet phys master=b0", "eth1 ethernet phys down master=b0"],
            &["b0 default"],
            &[
                "b0 uplink node: carries the default route",
                "eth0 internal -: slave of b0",
                "eth1 internal -: slave of b0",
            ],
        );
        check(
            "without a route, and a slave that has one",
            &[&format!("b0 {kind}"), "eth0 ethernet phys master=b0"],
            &["eth0"],
            &["b0 uplink node: carries a route", "eth0 internal -: slave of b0"],
        );
        check(
            "without any route",
            &[&format!("b0 {kind}"), "eth0 ethernet phys master=b0"],
            &[],
            &["b0 uplink node: bundles physical devices", "eth0 internal -: slave of b0"],
        );
    }
}

#[test]
fn stacked() {
    check(
        "VLANs and macvlans",
        &[
            "eth0 ethernet phys",
            "eth0.5 vlan lower=eth0",
            "m0 macvlan lower=eth0.5",
            "i0 ipvlan lower=eth1",
            "eth1 ethernet phys",
        ],
        &["m0 default", "eth0.5", "i0"],
        &[
            "eth0 uplink node: carries the default route through m0 -> eth0.5",
            "eth0.5 internal -: above eth0",
            "m0 internal -: above eth0.5",
            "i0 internal -: above eth1",
            "eth1 uplink node: carries a route through i0",
        ],
    );
    check(
        "a tunnel that carries a route leaves as another's payload",
        &["eth0 ethernet phys", "wg0 wireguard", "flannel.1 vxlan lower=eth0"],
        &["eth0 default", "wg0", "flannel.1"],
        &[
            "eth0 uplink node: carries the default route",
            "wg0 tunnel -: a tunnel (wireguard)",
            "flannel.1 tunnel -: a tunnel (vxlan)",
        ],
    );
    check(
        "ports of a switch chip on their conduit, both with routes",
        &["eth0 ethernet phys", "lan1 dsa phys lower=eth0", "lan2 dsa phys lower=eth0"],
        &["lan1 default", "eth0"],
        &["eth0 uplink node: carries a route", "lan1 internal -: above eth0", "lan2 internal -: above eth0"],
    );
}

#[test]
fn loops_end() {
    let devices = [
        "eth0 ethernet phys",
        "a vlan lower=b",
        "b vlan lower=a",
        "x bridge master=y",
        "y bridge master=x",
        "z macvlan lower=z",
    ];
    let lines = resolved(&devices, &["a default", "x", "z"], &Roles::default());
    assert!(lines.iter().all(|line| !line.contains("uplink")), "{lines:?}");
    let bonds = ["eth0 ethernet phys", "p bond master=q", "q bond master=p"];
    assert!(!resolved(&bonds, &["p"], &Roles::default()).join(" ").contains("uplink"));
}

#[test]
fn containers() {
    check(
        "a pod",
        &["lo loopback", "eth0 veth", "net1 macvlan"],
        &["eth0 default", "net1"],
        &[
            "lo internal -: the loopback",
            "eth0 uplink node: carries the default route; there is no physical device here",
            "net1 internal -: virtual, and no port of a bridge",
        ],
    );
    check(
        "a VLAN of it",
        &["eth0 veth", "eth0.5 vlan lower=eth0"],
        &["eth0.5 default", "eth0"],
        &[
            "eth0 uplink node: carries the default route through eth0.5; there is no physical device here",
            "eth0.5 internal -: above eth0",
        ],
    );
    check(
        "a bridge leads out itself, unless something below it does",
        &["br0 bridge", "v0 veth master=br0"],
        &["br0 default"],
        &["br0 uplink node: carries the default route; there is no physical device here", "v0 port -: port of br0"],
    );
    check("no default route", &["eth0 veth"], &["eth0"], &["eth0 internal -: virtual, and no port of a bridge"]);
}

#[test]
fn what_the_operator_says() {
    let devices = [
        "lo loopback",
        "eth0 ethernet phys",
        "eth1 ethernet phys",
        "wg0 wireguard",
        "br0 bridge",
        "tap0 tun master=br0",
    ];
    let tracks = |uplink: &[&str], track: &[&str]| {
        let lines = resolved(&devices, &["eth0 default"], &roles(uplink, track));
        lines.iter().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (uplink, track, expected) in [
        (
            &["eth1", "w*"][..],
            &[][..],
            [
                "lo internal -",
                "eth0 internal -",
                "eth1 uplink node",
                "wg0 uplink node",
                "br0 internal -",
                "tap0 port -",
            ],
        ),
        (
            &["tap0"],
            &[],
            [
                "lo internal -",
                "eth0 internal -",
                "eth1 internal -",
                "wg0 tunnel -",
                "br0 internal -",
                "tap0 uplink node",
            ],
        ),
        (
            &[],
            &["none"],
            ["lo internal -", "eth0 uplink -", "eth1 internal -", "wg0 tunnel -", "br0 internal -", "tap0 port -"],
        ),
        (
            &[],
            &["all"],
            [
                "lo internal -",
                "eth0 uplink node",
                "eth1 internal node",
                "wg0 tunnel node",
                "br0 internal node",
                "tap0 port node",
            ],
        ),
        (
            &[],
            &["tap*:guests", "{eth,tap}*"],
            [
                "lo internal -",
                "eth0 uplink node",
                "eth1 internal node",
                "wg0 tunnel -",
                "br0 internal -",
                "tap0 port guests",
            ],
        ),
    ] {
        assert_eq!(tracks(uplink, track), expected, "--uplink {uplink:?} --track {track:?}");
    }
    let lines = resolved(&devices, &["eth0 default"], &roles(&["eth1"], &[]));
    assert_eq!(
        lines[1..3],
        ["eth0 internal -: physical, not named by --uplink", "eth1 uplink node: named by --uplink"]
    );
}

#[test]
fn the_important_are_asked_first_and_ports_not_at_all() {
    let devices = [
        "lo loopback",
        "v0 veth master=br0",
        "eth0.5 vlan lower=eth0",
        "br0 bridge",
        "eth0 ethernet phys",
        "eth1 ethernet phys down",
        "dummy0 dummy",
        "br1 bridge",
        "eth2 ethernet phys master=br1",
    ];
    let links = links(&devices);
    let names = |roles: &Roles| -> Vec<String> {
        asked_for_routes(&links, roles).into_iter().map(|ifindex| links[&ifindex].name.clone()).collect()
    };
    assert_eq!(names(&Roles::default()), ["eth0", "eth2", "br1", "eth0.5"]);
    assert_eq!(names(&roles(&["eth0"], &[])), Vec::<String>::new());
}

#[test]
fn tunnels_pass_what_is_below_them() {
    let links = links(&[
        "eth0 ethernet phys",
        "eth1 ethernet phys",
        "br0 bridge",
        "eth2 ethernet phys master=br0",
        "tap0 tun master=br0",
        "vx0 vxlan lower=eth0 udp=4789",
        "vx1 vxlan lower=br0 master=br1 udp=8472",
        "br1 bridge",
        "gnv geneve udp=6081",
    ]);
    let named = |name: &str| links.values().find(|link| link.name == name).unwrap().ifindex;
    let routes = [("eth0", Carried::DefaultRoute), ("br0", Carried::Route), ("br1", Carried::Route)];
    let routes = routes.map(|(name, carried)| (named(name), carried)).into();
    let carriers = |roles: &Roles| {
        let places = resolve(&links, &routes, roles);
        let carried = places.iter().filter(|(_, place)| !place.tunnels.is_empty());
        let words = carried.map(|(ifindex, place)| {
            let ports: Vec<_> = place.tunnels.iter().map(|tunnel| tunnel.port.to_string()).collect();
            format!("{} {}", links[ifindex].name, ports.join(" "))
        });
        words.collect::<Vec<_>>()
    };
    // eth1 carries nothing; of GENEVE it is not known where it goes, so it may be at any track point.
    assert_eq!(carriers(&roles(&[], &[])), ["eth0 4789 6081", "br0 8472", "eth2 8472 6081"]);
    assert_eq!(carriers(&roles(&[], &["none"])), ["eth0 4789", "br0 8472", "eth2 8472"]);
    let is_tracked = |name: &str| !resolve(&links, &routes, &roles(&[], &[]))[&named(name)].track.is_empty();
    assert!(is_tracked("eth0") && !is_tracked("vx1"), "what passes vx1 is followed below");
    let plan = PlanArgs { tunnel_port: vec!["9999".to_owned()], ..PlanArgs::default() };
    let args = AgentArgs { plan, ..AgentArgs::default() };
    let told = Config::from_args(&args).unwrap().roles;
    assert_eq!(carriers(&told), ["eth0 9999 4789 6081", "br0 8472", "eth2 9999 8472 6081"]);
}
