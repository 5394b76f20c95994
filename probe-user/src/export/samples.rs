//! What of a [`Snapshot`] becomes which series, for the metrics where that takes a rule.

pub(super) mod wire;
mod witnesses;

use std::collections::BTreeMap;

use probe_ebpf::reason::{Malformed, Severity};

pub(super) use self::witnesses::{
    nic_dropped, nic_errors, protocol_errors, qdisc_dropped, softnet_dropped, softnet_squeezed,
};
use super::metrics::Samples;
use crate::snapshot::{AttachedPorts, Drop, Interface, Malformed as Found, PortGroup, Snapshot, Traffic};

/// Label of a direction, and the hooks that count it.
const DIRECTIONS: [(&str, &[&str]); 2] = [("ingress", INGRESS_HOOKS), ("egress", &["tc_egress"])];
/// One of them counts what comes in.
const INGRESS_HOOKS: &[&str] = &["tc_ingress", "xdp"];
/// The role whose series can be taken together.
const PORT: &str = "port";

/// An older agent's snapshot does not say how, and shows each.
fn shows_each_port(snapshot: &Snapshot) -> bool {
    !matches!(snapshot.ports.as_str(), "aggregate" | "none")
}

/// Interfaces that have series of their own.
fn interfaces(snapshot: &Snapshot) -> impl Iterator<Item = &Interface> {
    snapshot.interfaces.iter().filter(|interface| interface.role != PORT || shows_each_port(snapshot))
}

/// Ports taken together that have series.
fn groups(snapshot: &Snapshot) -> impl Iterator<Item = &PortGroup> {
    snapshot.port_groups.iter().filter(|_| snapshot.ports == "aggregate")
}

pub(super) fn interface_info<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        let Interface { name, kind, role, master, lower, driver, alias, .. } = interface;
        to.add([name, kind, role, master, lower, driver, alias], 1);
    }
    for group in groups(snapshot) {
        to.add([&group.name, "ports", PORT, &group.master, "", "", ""], 1);
    }
}

pub(super) fn aggregated_ports<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    groups(snapshot).for_each(|group| to.add([&group.name], group.ports));
}

pub(super) fn frames<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    traffic(snapshot, |labels, traffic| to.add(labels, traffic.frames));
}

pub(super) fn bytes<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    traffic(snapshot, |labels, traffic| to.add(labels, traffic.bytes));
}

/// A direction that nothing has ever looked at has no counters.
fn traffic<'s>(snapshot: &'s Snapshot, mut sample: impl FnMut([&'s str; 2], &Traffic)) {
    for interface in interfaces(snapshot) {
        for ((direction, hooks), traffic) in DIRECTIONS.into_iter().zip([&interface.ingress, &interface.egress]) {
            if traffic.frames > 0 || is_attached(interface, hooks) {
                sample([&interface.name, direction], traffic);
            }
        }
    }
    for group in groups(snapshot) {
        for ((direction, hooks), traffic) in DIRECTIONS.into_iter().zip([&group.ingress, &group.egress]) {
            let counts = |attached: &AttachedPorts| hooks.contains(&attached.attachment.hook.as_str());
            if traffic.frames > 0 || group.attached.iter().any(counts) {
                sample([&group.name, direction], traffic);
            }
        }
    }
}

pub(super) fn coverage<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        let ratios = [interface.coverage.ingress, interface.coverage.egress];
        for ((direction, hooks), ratio) in DIRECTIONS.into_iter().zip(ratios) {
            if let (Some(ratio), true) = (ratio, is_attached(interface, hooks)) {
                to.add_ratio([&interface.name, direction], ratio);
            }
        }
    }
}

fn is_attached(interface: &Interface, hooks: &[&str]) -> bool {
    interface.attached.iter().any(|attachment| hooks.contains(&attachment.hook.as_str()))
}

/// Errors and warnings that were seen, and a zero for every error that was looked for where frames come from outside:
/// an alert on an increase must see the first one.
pub(super) fn malformed<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        if interface.role == "uplink" && is_attached(interface, INGRESS_HOOKS) {
            for reason in Malformed::ALL.iter().filter(|reason| is_looked_for(interface, **reason)) {
                to.add([&interface.name, "ingress", reason.id(), Severity::Error.id()], 0);
            }
        }
        found(&interface.name, &interface.malformed, to);
    }
    groups(snapshot).for_each(|group| found(&group.name, &group.malformed, to));
}

fn found<'s>(name: &'s str, malformed: &'s [Found], to: &mut Samples<'s>) {
    for found in malformed {
        if found.severity == Severity::Error.id() || found.severity == Severity::Warning.id() {
            to.add([name, &found.direction, &found.reason, &found.severity], found.frames);
        }
    }
}

/// Whether a frame with this error would be noticed, given how the interface's frames are read.
fn is_looked_for(interface: &Interface, reason: Malformed) -> bool {
    let link_layer = matches!(reason.layer(), "ethernet" | "vlan" | "mpls" | "arp");
    let looked_into = match interface.link.as_str() {
        "ethernet" => true,
        "network" | "network_ingress" => !link_layer,
        _opaque => false,
    };
    let is_seen = match reason {
        // Looked at where transport checksums are.
        Malformed::TcpCsum | Malformed::UdpCsum | Malformed::IcmpCsum | Malformed::Icmp6Csum => {
            interface.checksums.is_some()
        }
        // Where the node has such a tunnel.
        _ if matches!(reason.layer(), "vxlan" | "geneve") => false,
        _ => reason.is_judged_at_hooks(),
    };
    looked_into && is_seen && reason.severity() == Severity::Error
}

/// What became of transport checksums, where they are looked at.
pub(super) fn checksums<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        let results = interface.checksums.iter().flatten();
        results.for_each(|(result, packets)| to.add([&interface.name, result], *packets));
    }
}

pub(super) fn dropped<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    let own = snapshot.drops.iter().filter(|drop| !drop.port || shows_each_port(snapshot));
    for (key, packets) in sums(own.chain(groups(snapshot).flat_map(|group| &group.drops))) {
        to.add([key.interface, key.reason, key.class, key.netns], packets);
    }
}

/// What drops are told apart by; the snapshot's further keys (family, namespace inode) are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DropKey<'s> {
    /// `own` or `other`.
    pub(crate) netns: &'s str,
    /// Interface, `""` in other namespaces and where the kernel knows none.
    pub(crate) interface: &'s str,
    /// The kernel's name.
    pub(crate) reason: &'s str,
    /// Class of the reason.
    pub(crate) class: &'s str,
}

/// Dropped packets, in wire segments. All foreign namespaces are one: their interfaces' names mean nothing here.
pub(crate) fn drops(snapshot: &Snapshot) -> BTreeMap<DropKey<'_>, u64> {
    sums(&snapshot.drops)
}

fn sums<'s>(drops: impl IntoIterator<Item = &'s Drop>) -> BTreeMap<DropKey<'s>, u64> {
    let mut sums = BTreeMap::new();
    for drop in drops {
        let own = drop.netns == "own";
        let (netns, interface) = if own { ("own", drop.interface.as_str()) } else { ("other", "") };
        *sums.entry(DropKey { netns, interface, reason: &drop.reason, class: &drop.class }).or_default() +=
            drop.packets;
    }
    sums
}

pub(super) fn retransmitted<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    let own = snapshot.tcp.retransmitted.iter().filter(|again| !again.port || shows_each_port(snapshot));
    for again in own.chain(groups(snapshot).flat_map(|group| &group.retransmitted)) {
        to.add([&again.interface, &again.kind], again.segments);
    }
}

pub(super) fn xdp_failed<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    let own = snapshot.xdp_failed.iter().filter(|failed| !failed.port || shows_each_port(snapshot));
    for failed in own.chain(groups(snapshot).flat_map(|group| &group.xdp_failed)) {
        to.add([&failed.interface, &failed.cause], failed.packets);
    }
}

pub(super) fn attached<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        for attachment in &interface.attached {
            to.add([&interface.name, &attachment.hook, &attachment.mode, &attachment.position], 1);
        }
    }
    for group in groups(snapshot) {
        for AttachedPorts { attachment, ports } in &group.attached {
            to.add([&group.name, &attachment.hook, &attachment.mode, &attachment.position], *ports);
        }
    }
}

pub(super) fn features<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (feature, available) in &snapshot.probe.features {
        to.add([feature], u64::from(*available));
    }
}
