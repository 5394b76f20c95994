//! What of a [`Snapshot`] becomes which series, for the metrics where that takes a rule.

use std::collections::BTreeMap;

use probe_ebpf::reason::{Malformed, Severity};

use super::metrics::Samples;
use crate::snapshot::{Interface, Snapshot, Traffic};

/// Label of a direction, and the hooks that count it.
const DIRECTIONS: [(&str, &[&str]); 2] = [("ingress", INGRESS_HOOKS), ("egress", &["tc_egress"])];
/// One of them counts what comes in.
const INGRESS_HOOKS: &[&str] = &["tc_ingress", "xdp"];

pub(super) fn interface_info<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in &snapshot.interfaces {
        let Interface { name, kind, role, master, lower, driver, alias, .. } = interface;
        to.add([name, kind, role, master, lower, driver, alias], 1);
    }
}

pub(super) fn frames<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    traffic(snapshot, |labels, traffic| to.add(labels, traffic.frames));
}

pub(super) fn bytes<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    traffic(snapshot, |labels, traffic| to.add(labels, traffic.bytes));
}

/// A direction that nothing has ever looked at has no counters.
fn traffic<'s>(snapshot: &'s Snapshot, mut sample: impl FnMut([&'s str; 2], &Traffic)) {
    for interface in &snapshot.interfaces {
        for ((direction, hooks), traffic) in DIRECTIONS.into_iter().zip([&interface.ingress, &interface.egress]) {
            if traffic.frames > 0 || is_attached(interface, hooks) {
                sample([&interface.name, direction], traffic);
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
    for interface in &snapshot.interfaces {
        if interface.role == "uplink" && is_attached(interface, INGRESS_HOOKS) {
            for reason in Malformed::ALL.iter().filter(|reason| is_looked_for(interface, **reason)) {
                to.add([&interface.name, "ingress", reason.id(), Severity::Error.id()], 0);
            }
        }
        for found in &interface.malformed {
            if found.severity == Severity::Error.id() || found.severity == Severity::Warning.id() {
                to.add([&interface.name, &found.direction, &found.reason, &found.severity], found.frames);
            }
        }
    }
}

/// Whether a frame with this error would be noticed, given how the interface's frames are read.
fn is_looked_for(interface: &Interface, reason: Malformed) -> bool {
    let link_layer = matches!(reason.layer(), "ethernet" | "vlan" | "arp");
    let looked_into = match interface.link.as_str() {
        "ethernet" => true,
        "network" | "network_ingress" => !link_layer,
        _opaque => false,
    };
    looked_into && reason.severity() == Severity::Error
}

pub(super) fn dropped<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (key, packets) in drops(snapshot) {
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
    let mut sums = BTreeMap::new();
    for drop in &snapshot.drops {
        let own = drop.netns == "own";
        let (netns, interface) = if own { ("own", drop.interface.as_str()) } else { ("other", "") };
        *sums.entry(DropKey { netns, interface, reason: &drop.reason, class: &drop.class }).or_default() +=
            drop.packets;
    }
    sums
}

pub(super) fn retransmitted<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for again in &snapshot.tcp.retransmitted {
        to.add([&again.interface, &again.kind], again.segments);
    }
}

pub(super) fn attached<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in &snapshot.interfaces {
        for attachment in &interface.attached {
            to.add([&interface.name, &attachment.hook, &attachment.mode, &attachment.position], 1);
        }
    }
}

pub(super) fn features<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (feature, available) in &snapshot.probe.features {
        to.add([feature], u64::from(*available));
    }
}
