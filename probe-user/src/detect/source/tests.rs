use super::*;
use crate::snapshot::{Attachment, Coverage, Device, DeviceCounter, Explained, MapUpdateFailed, Probe, Side, Wire};

fn counter(cause: &str, source: &str) -> DeviceCounter {
    DeviceCounter {
        direction: "ingress".into(),
        cause: cause.into(),
        source: source.into(),
        ..DeviceCounter::default()
    }
}

fn attached(hooks: &[&str]) -> Vec<Attachment> {
    hooks.iter().map(|hook| Attachment { hook: (*hook).into(), ..Attachment::default() }).collect()
}

/// An uplink of which everything is seen.
pub(in crate::detect) fn uplink(name: &str, kind: &str, driver: &str) -> Interface {
    let mut uplink = Interface {
        name: name.into(),
        kind: kind.into(),
        driver: driver.into(),
        role: "uplink".into(),
        track: "uplinks".into(),
        link: "ethernet".into(),
        attached: attached(&["tc_ingress", "tc_egress"]),
        wire: Some(Wire { judged_ratio: Some(0.9), ..Wire::default() }),
        ..Interface::default()
    };
    if DeviceKind::of(&uplink) == DeviceKind::Physical {
        let counters = vec![counter("missed", "stats64"), counter("crc", "ethtool_standard")];
        uplink.device = Device { counters, ..Device::default() };
    }
    uplink
}

pub(in crate::detect) fn snapshot(interfaces: Vec<Interface>) -> Snapshot {
    let features = ["kfree_skb", "drop_reasons", "drop_functions"].map(|name| (name.to_owned(), true));
    Snapshot { interfaces, probe: Probe { features: features.into(), ..Probe::default() }, ..Snapshot::default() }
}

fn group() -> Unit {
    Unit::Group("uplinks".into())
}

#[test]
fn kinds_of_devices() {
    for (kind, driver, lower, expected) in [
        ("ethernet", "igb", "", DeviceKind::Physical),
        ("ethernet", "", "", DeviceKind::Physical),
        ("ethernet", "mlx5_core", "", DeviceKind::Physical),
        ("ethernet", "virtio_net", "", DeviceKind::Virtual),
        ("ethernet", "ena", "", DeviceKind::Virtual),
        ("ethernet", "iavf", "", DeviceKind::Virtual),
        ("ethernet", "hv_netvsc", "", DeviceKind::Virtual),
        ("veth", "veth", "", DeviceKind::Pair),
        ("tun", "tun", "", DeviceKind::Pair),
        ("macvlan", "macvlan", "", DeviceKind::Pair),
        ("macvlan", "macvlan", "eth0", DeviceKind::Stacked),
        ("vlan", "vlan", "eth0", DeviceKind::Stacked),
        ("vlan", "vlan", "", DeviceKind::Stacked),
        ("bridge", "bridge", "", DeviceKind::Stacked),
        ("vxlan", "vxlan", "", DeviceKind::Stacked),
        ("bond", "bond", "", DeviceKind::Bundle),
    ] {
        let interface =
            Interface { kind: kind.into(), driver: driver.into(), lower: lower.into(), ..Interface::default() };
        assert_eq!(DeviceKind::of(&interface), expected, "{kind} {driver} {lower}");
    }
}

#[test]
fn all_is_seen_of_a_healthy_uplink() {
    for (kind, driver, spots) in [("ethernet", "igb", 0), ("ethernet", "virtio_net", 2), ("veth", "veth", 0)] {
        let sources = Sources::of(&snapshot(vec![uplink("eth0", kind, driver)]));
        for unit in [group(), Unit::Interface("eth0".into())] {
            let seen = &sources.units[&unit];
            assert_eq!(seen.missing, BTreeMap::new(), "{driver}");
            assert_eq!(seen.blind_spots.len(), spots, "{driver}: {:?}", seen.blind_spots);
            assert_eq!((seen.is_virtual, seen.is_pair), (driver == "virtio_net", driver == "veth"));
            assert_eq!((seen.interfaces.as_slice(), seen.judged_ratio), (&["eth0".to_owned()][..], Some(0.9)));
        }
    }
}

type Change = fn(&mut Snapshot);

/// Each required source that goes missing: for which device, what is changed in the later snapshot, which of network_in,
/// network_out, inside and network_malformed it makes unreachable, and how it is called.
const REQUIRED: &[(&str, &str, Change, [bool; 4], &str)] = &[
    ("igb", "paused", |s| s.state = State::Paused, [true; 4], "paused"),
    ("igb", "stood still", |s| s.probe.uncounted_ms = 1, [true; 4], "stands still"),
    ("igb", "maps unreadable", |s| fail(s, "maps"), [true; 4], "stands still"),
    ("igb", "a port", |s| s.interfaces[0].role = "port".into(), [true; 4], "leads to a guest"),
    ("igb", "no ingress", |s| s.interfaces[0].attached = attached(&["tc_egress"]), [true; 4], "what comes in"),
    ("igb", "no egress", |s| s.interfaces[0].attached = attached(&["xdp"]), [true, true, true, false], "what goes out"),
    ("igb", "opaque", |s| s.interfaces[0].link = "opaque".into(), [true; 4], "kind of link"),
    ("igb", "not followed", |s| s.interfaces[0].wire = None, [true, true, true, false], "not followed"),
    ("igb", "no kfree_skb", |s| lack(s, &["kfree_skb"]), [true, true, true, false], "kfree_skb"),
    (
        "igb",
        "drops without a place",
        |s| lack(s, &["drop_reasons", "drop_functions"]),
        [true, true, true, false],
        "neither reasons nor functions",
    ),
    (
        "igb",
        "ingress passes by",
        |s| s.interfaces[0].coverage = Coverage { ingress: Some(0.97), egress: Some(1.0) },
        [true, true, true, false],
        "on the way in",
    ),
    (
        "igb",
        "egress passes by",
        |s| s.interfaces[0].coverage = Coverage { ingress: None, egress: Some(0.9) },
        [true, true, true, false],
        "on the way out",
    ),
    ("igb", "no ring", |s| lose(s, "missed"), [true, false, false, false], "receive ring"),
    ("igb", "ring unreadable", |s| fail(s, "device"), [true, false, false, false], "receive ring"),
    ("igb", "no damaged frames", |s| lose(s, "crc"), [true, false, false, false], "damaged"),
    ("igb", "driver unreadable", |s| fail(s, "ethtool"), [true, false, false, false], "damaged"),
    ("igb", "foreign XDP", |s| s.interfaces[0].device.foreign_xdp = true, [true, true, true, false], "XDP program"),
    ("veth", "foreign XDP", |s| s.interfaces[0].device.foreign_xdp = true, [true, true, true, false], "XDP program"),
    ("ena", "foreign XDP", |s| s.interfaces[0].device.foreign_xdp = true, [true, true, true, false], "XDP program"),
    ("igb", "stacked", |s| s.interfaces[0].lower = "eth9".into(), [true, true, true, false], "devices below"),
    ("bond", "no members", |_| {}, [true; 4], "bundles"),
];

fn fail(snapshot: &mut Snapshot, source: &str) {
    snapshot.probe.collect_errors.insert(source.into(), 1);
}

fn lack(snapshot: &mut Snapshot, features: &[&str]) {
    features.iter().for_each(|name| _ = snapshot.probe.features.insert((*name).into(), false));
}

fn lose(snapshot: &mut Snapshot, cause: &str) {
    snapshot.interfaces[0].device.counters.retain(|counter| counter.cause != cause);
}

#[test]
fn each_required_source_that_is_missing_is_named() {
    for (driver, name, change, expected, called) in REQUIRED {
        let kind = if matches!(*driver, "veth" | "bond") { *driver } else { "ethernet" };
        let earlier = snapshot(vec![uplink("eth0", kind, driver)]);
        let mut later = earlier.clone();
        change(&mut later);
        let sources = Sources::between(&earlier, &later);
        let seen = &sources.units[&group()];
        let verdicts = [Name::NetworkIn, Name::NetworkOut, Name::Inside, Name::NetworkMalformed];
        for (verdict, expected) in verdicts.into_iter().zip(expected) {
            let missing = seen.missing_for(verdict);
            assert_eq!(!missing.is_empty(), *expected, "{name} on {driver}, {verdict:?}: {missing:?}");
            let is_named = missing.iter().any(|text| text.starts_with("eth0: ") && text.contains(called));
            assert_eq!(is_named, *expected, "{name} on {driver}, {verdict:?}: {missing:?}");
        }
        assert_eq!(seen.missing_for(Name::LocalRx), <&[String]>::default(), "{name}: nobody outside");
    }
}

#[test]
fn what_is_optional_is_a_blind_spot_and_nothing_else() {
    let changes: [(&str, &str, Change, &str); 8] = [
        ("ena", "no ring", |_| {}, "receive ring"),
        ("virtio_net", "below", |_| {}, "below this machine's virtual"),
        ("igb", "offloaded", |s| s.interfaces[0].device.offloads = vec!["hw-tc-offload".into()], "offloaded"),
        ("igb", "functions only", |s| lack(s, &["drop_reasons"]), "reasons"),
        ("igb", "queues unreadable", |s| fail(s, "qdisc"), "queueing disciplines"),
        ("igb", "a storm", |s| s.probe.drop_storm_packets = 9, "too many drops"),
        (
            "igb",
            "malformed full",
            |s| s.probe.map_update_failed = vec![lost_counts("malformed", 3)],
            "table of them is full",
        ),
        ("igb", "mostly UDP", |s| s.interfaces[0].wire.as_mut().unwrap().judged_ratio = Some(0.04), "a tenth"),
    ];
    for (driver, name, change, called) in changes {
        let earlier = snapshot(vec![uplink("eth0", "ethernet", driver)]);
        let mut later = earlier.clone();
        change(&mut later);
        let seen = &Sources::between(&earlier, &later).units[&group()];
        assert_eq!(seen.missing, BTreeMap::new(), "{name}");
        assert!(seen.blind_spots.iter().any(|text| text.contains(called)), "{name}: {:?}", seen.blind_spots);
    }
}

fn lost_counts(map: &str, count: u64) -> MapUpdateFailed {
    MapUpdateFailed { map: map.into(), cause: "full".into(), count }
}

#[test]
fn a_foreign_program_with_a_counter_hides_nothing() {
    let mut interface = uplink("eth0", "veth", "veth");
    interface.device =
        Device { foreign_xdp: true, counters: vec![counter("xdp_drop", "ethtool_driver")], ..Device::default() };
    let seen = Sources::of(&snapshot(vec![interface]));
    assert_eq!(seen.units[&group()].missing, BTreeMap::new());
}

#[test]
fn a_bundle_is_as_good_as_its_members() {
    let bond = uplink("bond0", "bond", "bond");
    let member = |name: &str, driver: &str| Interface {
        role: "internal".into(),
        track: String::new(),
        wire: None,
        attached: Vec::new(),
        master: "bond0".into(),
        ..uplink(name, "ethernet", driver)
    };
    let seen = |members: Vec<Interface>| {
        Sources::of(&snapshot([vec![bond.clone()], members].concat())).units[&group()].clone()
    };
    assert_eq!(seen(vec![member("eth0", "igb"), member("eth1", "igb")]).missing, BTreeMap::new());
    let mut blind = member("eth1", "new_net");
    blind.device.counters.clear();
    let missing = seen(vec![member("eth0", "igb"), blind]).missing;
    assert!(missing[&Name::NetworkIn].iter().all(|text| text.starts_with("eth1: ")), "{missing:?}");
    assert!(seen(vec![member("eth0", "ena")]).is_virtual);
}

/// Of a group that a port has part in the network cannot be named; of its uplink it can.
#[test]
fn a_port_in_the_group_of_an_uplink() {
    let port = Interface { role: "port".into(), ..uplink("tap0", "tun", "tun") };
    let sources = Sources::of(&snapshot(vec![uplink("eth0", "veth", "veth"), port]));
    assert!(!sources.units[&group()].missing_for(Name::NetworkIn).is_empty());
    assert_eq!(sources.units[&Unit::Interface("eth0".into())].missing, BTreeMap::new());
    assert!(!sources.units.contains_key(&Unit::Interface("tap0".into())), "only uplinks are judged alone");
}

/// A connection may pass any interface of its group.
#[test]
fn what_one_interface_of_a_group_does_not_see_is_missing_at_all_of_them() {
    let mut blind = uplink("eth1", "veth", "veth");
    blind.attached.clear();
    let sources = Sources::of(&snapshot(vec![uplink("eth0", "veth", "veth"), blind]));
    let missing = sources.units[&Unit::Interface("eth0".into())].missing_for(Name::NetworkIn);
    assert!(missing.iter().any(|text| text.starts_with("eth1: what comes in")), "{missing:?}");
}

#[test]
fn what_is_known_to_be_lost_before_the_hook_passes_nothing_by() {
    let at = |device, hook, dropped| {
        let mut interface = uplink("eth0", "ethernet", "igb");
        interface.coverage.ingress = Some(0.5);
        interface.balance.ingress = Some(Side {
            device_packets: device,
            hook_packets: hook,
            explained: vec![Explained { what: "xdp_drop".into(), packets: dropped }],
            ..Side::default()
        });
        snapshot(vec![interface])
    };
    for (dropped, expected) in [(500, true), (490, true), (400, false)] {
        let sources = Sources::between(&at(1000, 1000, 0), &at(2000, 1500, dropped));
        assert_eq!(sources.units[&group()].missing.is_empty(), expected, "{dropped} of 500 are known");
    }
}

#[test]
fn drops_on_this_side_are_told_apart() {
    let drop = |interface: &str, class: &str, netns: &str, packets| crate::snapshot::Drop {
        interface: interface.to_owned(),
        class: class.to_owned(),
        netns: netns.to_owned(),
        reason: "netfilter_drop".to_owned(),
        packets,
        ..Default::default()
    };
    let mut earlier = snapshot(vec![uplink("eth0", "veth", "veth")]);
    earlier.drops = vec![drop("vm0", "policy", "own", 10)];
    let mut later = earlier.clone();
    later.drops = vec![
        drop("vm0", "policy", "own", 17),
        drop("", "unknown", "own", 3),
        drop("vm0", "noise", "own", 100),
        drop("eth0", "policy", "own", 100),
        drop("", "policy", "other", 100),
    ];
    assert_eq!(Sources::between(&earlier, &later).dropped_inside, 10);
}

#[test]
fn drops_that_nobody_counted_are_remembered() {
    let earlier = snapshot(vec![uplink("eth0", "veth", "veth")]);
    let mut later = earlier.clone();
    later.probe.map_update_failed = vec![lost_counts("drops", 5), lost_counts("retransmits", 100)];
    later.probe.program_missed = [("lossprobe_drop4".to_owned(), 2), ("lossprobe_in".to_owned(), 100)].into();
    assert_eq!(Sources::between(&earlier, &later).uncounted_drops, 7);
    assert_eq!(Sources::between(&later, &later).uncounted_drops, 0, "what is past is past");
}

#[test]
fn texts_are_bounded() {
    let blind = |at: usize| Interface { attached: Vec::new(), ..uplink(&format!("eth{at}"), "ethernet", "virtio_net") };
    let sources = Sources::of(&snapshot((0..100).map(blind).collect()));
    let seen = &sources.units[&group()];
    assert_eq!((seen.missing_for(Name::Inside).len(), seen.blind_spots.len()), (MOST_TEXTS, MOST_TEXTS));
}
