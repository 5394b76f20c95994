//! Whether what a device counts and what our hooks count agree: two laws, for drivers that count wire frames.
//!
//! Coming in, a frame is counted by the device, then by the hook: device − hook is what was lost in between, or passed
//! the hook by (hardware offload, SR-IOV, AF_XDP). Going out it is the other way round: hook − device is what the kernel
//! dropped behind the hook, and what waits there. What is known of that is the explained part, the rest the remainder.
//! In and out of one interface never balance: packets are forwarded, delivered, answered and copied.
//!
//! Drivers that count a GSO packet as one (veth, virtio, most virtual devices) have no such law: their count differs from
//! the wire's by an unknown number. No law can be proven for a veth pair either: what one end sends the other may
//! receive, merge, drop or hand to XDP, and it counts packets of any size all along.

use serde::Serialize;

use crate::{
    classes::Class,
    collect::causes::{Cause, is_repeater},
    snapshot::{DeviceCounter, Drop, Explained, Interface, Side, Snapshot},
};

/// Reasons, or what they begin with, for which the kernel drops a received packet before a tc hook.
const BEFORE_HOOK: [&str; 2] = ["cpu_backlog", "xdp"];
/// The same for one that is sent, behind a tc hook: disciplines, filters that run later, the device's own queue.
const BEHIND_HOOK: [&str; 10] =
    ["qdisc_", "fq_", "cake_", "dualpi2_", "tc_egress", "full_ring", "dev_ready", "skb_gso_seg", "skb_csum", "dev_hdr"];

/// Device causes that are one loss seen by several counters: the receive ring had no room.
const RING: [&str; 3] = ["missed", "fifo", "no_buffer"];

/// What a provider's card did not take because an allowance of this machine is used up: the machine's own want of room.
const PROVIDER_LIMIT: &str = Cause::ProviderLimit.id();

/// Where this host itself has lost a packet, as seen from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Place {
    /// Between the wire and the ingress hook: ring, XDP, input queue of a CPU.
    Before = 0,
    /// What had passed the ingress hook.
    Within = 1,
    /// Between the egress hook and the wire: queueing disciplines, the device's own queue.
    Behind = 2,
}

/// What this host has lost at each [`Place`], by [`Class`].
pub type OwnLosses = [[u64; Class::ALL.len()]; 3];

/// What became of one direction of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Law {
    /// Name.
    pub interface: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Packets by the device's count, `None` where no law holds.
    pub device_packets: Option<u64>,
    /// Packets by ours.
    pub hook_packets: Option<u64>,
    /// What is known of the difference.
    pub explained: Vec<Explained>,
    /// The rest of it, 0 if that is within what two readings may differ by: more than 0 was lost (or passed by the hook),
    /// less than 0 came from nowhere. `None` where no law holds.
    pub remainder_packets: Option<i64>,
    /// Why no law holds, `""` if one does.
    pub not_observable: String,
}

/// Both laws for every interface of a snapshot.
#[must_use]
pub fn laws(snapshot: &Snapshot) -> Vec<Law> {
    let law = |interface: &Interface, direction, side: &Option<Side>| Law {
        interface: interface.name.clone(),
        direction,
        device_packets: side.as_ref().map(|side| side.device_packets),
        hook_packets: side.as_ref().map(|side| side.hook_packets),
        explained: side.as_ref().map(|side| side.explained.clone()).unwrap_or_default(),
        remainder_packets: side.as_ref().map(|side| remainder(direction, side)),
        not_observable: if side.is_some() { String::new() } else { interface.balance.not_observable.clone() },
    };
    let both = |interface: &Interface| {
        [("ingress", &interface.balance.ingress), ("egress", &interface.balance.egress)]
            .map(|(direction, side)| law(interface, direction, side))
    };
    snapshot.interfaces.iter().flat_map(both).collect()
}

/// What is left of the difference when the explained part is taken off, and the slack of the readings.
fn remainder(direction: &str, side: &Side) -> i64 {
    let (device, hook) = (i128::from(side.device_packets), i128::from(side.hook_packets));
    let missing = if direction == "ingress" { device - hook } else { hook - device };
    let explained: i128 = side.explained.iter().map(|part| i128::from(part.packets)).sum();
    let (rest, slack) = (missing - explained, i128::from(side.slack_packets));
    let beyond = if rest > slack {
        rest
    } else if rest < -slack {
        // What is said to be lost may have been lost in front of the other count: it explains at most what is missing.
        missing.min(0)
    } else {
        0
    };
    i64::try_from(beyond).unwrap_or(i64::MAX)
}

/// What lies between a device's count and the hook's, in and out, as totals: an agent takes off what was there before it
/// began to compare.
#[must_use]
pub fn between(snapshot: &Snapshot, interface: &Interface) -> [Vec<Explained>; 2] {
    let dropped = |reasons: &[&str]| -> u64 {
        drops(snapshot, interface).filter(|drop| is_one_of(reasons, &drop.reason)).map(|drop| drop.packets).sum()
    };
    let part = |what: &str, packets| Explained { what: what.to_owned(), packets };
    let ingress = if is_first(interface) {
        Vec::new()
    } else {
        let xdp = dropped_by_xdp(snapshot, interface);
        vec![part("xdp_drop", xdp), part("kernel_drops_before_hook", dropped(&BEFORE_HOOK))]
    };
    let waits = interface.qdiscs.iter().map(|qdisc| qdisc.backlog_packets).sum();
    let egress = vec![
        part("kernel_drops_behind_hook", dropped(&BEHIND_HOOK)),
        part("device", device_losses(interface, "egress").map(|counter| counter.packets).sum()),
        part(BACKLOG, waits),
    ];
    [ingress, egress]
}

/// What the host itself has lost of an interface's packets, in wire segments, as totals. What bundles others (a bond) has lost
/// what they have.
#[must_use]
pub fn own_losses(snapshot: &Snapshot, interface: &Interface) -> OwnLosses {
    let mut lost = losses_of(snapshot, interface);
    let is_member = |member: &&Interface| is_repeater(&interface.kind) && member.master == interface.name;
    for member in snapshot.interfaces.iter().filter(is_member) {
        let more = losses_of(snapshot, member);
        lost.as_flattened_mut().iter_mut().zip(more.as_flattened()).for_each(|(sum, more)| *sum += more);
    }
    lost
}

/// Of one device alone. Where several sources count the same, the greatest. Of what has passed the ingress hook noise is no
/// loss.
fn losses_of(snapshot: &Snapshot, interface: &Interface) -> OwnLosses {
    let mut lost = OwnLosses::default();
    let mut add = |place: Place, class: Class, packets| lost[place as usize][class as usize] += packets;
    let class = |id: &str| Class::from_id(id).unwrap_or(Class::Unknown);
    let mut behind = 0;
    for drop in drops(snapshot, interface) {
        let class = class(&drop.class);
        if is_one_of(&BEHIND_HOOK, &drop.reason) {
            behind += drop.packets;
            add(Place::Behind, class, drop.packets);
        }
        if is_one_of(&BEFORE_HOOK, &drop.reason) && !is_first(interface) {
            add(Place::Before, class, drop.packets);
        }
        if class != Class::Noise && !is_beyond_hooks(drop) {
            add(Place::Within, class, drop.packets);
        }
    }
    if !is_first(interface) {
        add(Place::Before, Class::Policy, dropped_by_xdp(snapshot, interface));
    }
    let ring = device_losses(interface, "ingress").filter(|counter| RING.contains(&counter.cause.as_str()));
    add(Place::Before, Class::Capacity, ring.map(|counter| counter.packets).max().unwrap_or(0));
    let over_limit = |direction| -> u64 {
        let counters = device_losses(interface, direction).filter(|counter| counter.cause == PROVIDER_LIMIT);
        counters.map(|counter| counter.packets).sum()
    };
    // Of some nobody says which way they went. It may have been either, and the network must not answer for them.
    let either_way = over_limit("both");
    add(Place::Before, Class::Capacity, over_limit("ingress") + either_way);
    add(Place::Behind, Class::Capacity, either_way);
    for counter in device_losses(interface, "egress") {
        behind += counter.packets;
        add(Place::Behind, class(&counter.class), counter.packets);
    }
    let queues: u64 = interface.qdiscs.iter().map(|qdisc| qdisc.dropped_packets).sum();
    add(Place::Behind, Class::Capacity, queues.saturating_sub(behind));
    lost
}

/// What the kernel dropped in an interface's name.
fn drops<'a>(snapshot: &'a Snapshot, interface: &'a Interface) -> impl Iterator<Item = &'a Drop> {
    snapshot.drops.iter().filter(|drop| drop.netns == "own" && drop.interface == interface.name)
}

fn device_losses<'a>(interface: &'a Interface, direction: &'a str) -> impl Iterator<Item = &'a DeviceCounter> {
    interface.device.counters.iter().filter(move |counter| counter.direction == direction)
}

/// Whether our hook stands in front of everything but the device: native XDP.
fn is_first(interface: &Interface) -> bool {
    interface.attached.iter().any(|attachment| attachment.hook == "xdp")
}

/// A driver that counts them and a kernel that frees them see the same.
fn dropped_by_xdp(snapshot: &Snapshot, interface: &Interface) -> u64 {
    let by_device = device_losses(interface, "ingress").filter(|counter| counter.cause == "xdp_drop");
    let by_kernel = drops(snapshot, interface).filter(|drop| drop.xdp);
    let by_device: u64 = by_device.map(|counter| counter.packets).sum();
    by_device.max(by_kernel.map(|drop| drop.packets).sum())
}

fn is_one_of(reasons: &[&str], reason: &str) -> bool {
    reasons.iter().any(|known| if known.ends_with('_') { reason.starts_with(known) } else { reason == *known })
}

/// Whether it was dropped between a device and our hooks, on the way in or out.
#[must_use]
pub fn is_beyond_hooks(drop: &Drop) -> bool {
    drop.xdp || is_one_of(&BEFORE_HOOK, &drop.reason) || is_one_of(&BEHIND_HOOK, &drop.reason)
}

/// The one part that is no total: what waits now.
pub const BACKLOG: &str = "backlog";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Attachment, Balance, Device, DeviceCounter, Qdisc};

    fn side(device: u64, hook: u64, slack: u64, explained: &[u64]) -> Side {
        let part = |packets: &u64| Explained { what: "part".into(), packets: *packets };
        Side {
            device_packets: device,
            hook_packets: hook,
            slack_packets: slack,
            explained: explained.iter().map(part).collect(),
        }
    }

    #[test]
    fn remainders() {
        for (name, direction, side, expected) in [
            ("clean", "ingress", side(1000, 1000, 0, &[]), 0),
            ("clean", "egress", side(1000, 1000, 0, &[]), 0),
            ("dropped by XDP", "ingress", side(1000, 900, 0, &[100]), 0),
            ("a quarter passes the hook by", "ingress", side(1000, 750, 5, &[]), 250),
            ("some of it is known", "ingress", side(1000, 750, 0, &[200, 20]), 30),
            ("within the slack", "ingress", side(1000, 992, 8, &[]), 0),
            ("beyond the slack", "ingress", side(1000, 991, 8, &[]), 9),
            ("read later", "ingress", side(1000, 1005, 8, &[]), 0),
            ("from nowhere", "ingress", side(1000, 1100, 8, &[]), -100),
            ("dropped behind the hook, and waiting", "egress", side(900, 1000, 0, &[90, 10]), 0),
            ("lost by the device without a word", "egress", side(900, 1000, 0, &[60]), 40),
            ("the device sends what no hook has seen", "egress", side(1100, 1000, 0, &[]), -100),
            ("drops that were in front of the hook", "egress", side(1000, 1000, 0, &[50]), 0),
        ] {
            assert_eq!(remainder(direction, &side), expected, "{name} ({direction})");
        }
    }

    #[test]
    fn no_law_no_remainder() {
        let balance = Balance {
            ingress: Some(side(10, 10, 0, &[])),
            egress: None,
            not_observable: "veth counts GSO packets".into(),
        };
        let snapshot = Snapshot {
            interfaces: vec![Interface { name: "x".into(), balance, ..Interface::default() }],
            ..Snapshot::default()
        };
        let laws = laws(&snapshot);
        assert_eq!(laws.len(), 2);
        assert_eq!((laws[0].remainder_packets, laws[0].not_observable.as_str()), (Some(0), ""));
        assert_eq!((laws[1].remainder_packets, laws[1].device_packets), (None, None));
        assert_eq!(laws[1].not_observable, "veth counts GSO packets");
    }

    #[test]
    fn a_bond_has_lost_what_its_members_have() {
        let missed = DeviceCounter {
            direction: "ingress".into(),
            cause: "missed".into(),
            class: "capacity".into(),
            packets: 7,
            ..DeviceCounter::default()
        };
        let member = |name: &str, master: &str| Interface {
            name: name.into(),
            master: master.into(),
            device: Device { counters: vec![missed.clone()], ..Device::default() },
            qdiscs: vec![Qdisc { dropped_packets: 2, ..Qdisc::default() }],
            ..Interface::default()
        };
        for (kind, expected) in [("bond", [14, 4]), ("bridge", [0, 0])] {
            let upper = Interface { name: "upper".into(), kind: kind.into(), ..Interface::default() };
            let interfaces = vec![member("eth0", "upper"), member("eth1", "upper"), member("eth2", ""), upper.clone()];
            let lost = own_losses(&Snapshot { interfaces, ..Snapshot::default() }, &upper);
            let capacity = [Place::Before, Place::Behind].map(|place| lost[place as usize][Class::Capacity as usize]);
            assert_eq!(capacity, expected, "{kind}");
        }
    }

    #[test]
    fn parts() {
        let drop = |netns: &str, interface: &str, reason: &str, packets| Drop {
            netns: netns.into(),
            interface: interface.into(),
            reason: reason.into(),
            packets,
            ..Drop::default()
        };
        let lost = |direction: &str, cause: &str, packets| DeviceCounter {
            direction: direction.into(),
            cause: cause.into(),
            packets,
            ..DeviceCounter::default()
        };
        let snapshot = Snapshot {
            drops: vec![
                drop("own", "e", "qdisc_drop", 1),
                drop("own", "e", "qdisc_overlimit", 2),
                drop("own", "e", "fq_band_limit", 4),
                drop("own", "e", "full_ring", 8),
                drop("own", "e", "netfilter_drop", 1000),
                drop("own", "f", "qdisc_drop", 1000),
                drop("other", "e", "qdisc_drop", 1000),
                drop("own", "e", "cpu_backlog", 16),
                drop("own", "e", "xdp", 32),
                // Not what begins like a reason that is no beginning.
                drop("own", "e", "xdp_something", 1000),
            ],
            ..Snapshot::default()
        };
        let counters =
            vec![lost("ingress", "xdp_drop", 5), lost("ingress", "missed", 1000), lost("egress", "carrier", 6)];
        let qdisc = Qdisc { backlog_packets: 7, ..Qdisc::default() };
        let mut interface = Interface {
            name: "e".into(),
            device: Device { counters, ..Device::default() },
            qdiscs: vec![qdisc],
            ..Interface::default()
        };
        let figures = |interface: &Interface| {
            between(&snapshot, interface).map(|parts| parts.into_iter().map(|part| part.packets).collect::<Vec<_>>())
        };
        assert_eq!(figures(&interface), [vec![5, 48], vec![15, 6, 7]]);
        // The driver's count and the kernel's are of the same frames.
        let told = Drop { xdp: true, ..drop("own", "e", "not_specified", 9) };
        let unknown = Drop { xdp: false, ..told.clone() };
        let with = |drop: &Drop| Snapshot { drops: vec![drop.clone()], ..Snapshot::default() };
        assert_eq!([&told, &unknown].map(|drop| between(&with(drop), &interface)[0][0].packets), [9, 5]);
        assert_eq!([&told, &unknown].map(is_beyond_hooks), [true, false]);
        // Missed frames never were among those that the device received.
        interface.attached = vec![Attachment { hook: "xdp".into(), ..Attachment::default() }];
        assert_eq!(figures(&interface)[0], Vec::<u64>::new(), "nothing is in front of native XDP");
    }

    /// One loss that several sources tell of is one, and each has its class.
    #[test]
    fn losses_of_our_own() {
        let drop = |reason: &str, class: Class, packets| Drop {
            netns: "own".into(),
            interface: "e".into(),
            reason: reason.into(),
            class: class.id().into(),
            packets,
            ..Drop::default()
        };
        let lost = |direction: &str, cause: &str, class: Class, packets| DeviceCounter {
            direction: direction.into(),
            cause: cause.into(),
            class: class.id().into(),
            packets,
            ..DeviceCounter::default()
        };
        let by_xdp = Drop { xdp: true, ..drop("not_specified", Class::Policy, 3) };
        let snapshot = Snapshot {
            drops: vec![
                drop("cpu_backlog", Class::Capacity, 1),
                by_xdp,
                drop("netfilter_drop", Class::Policy, 10),
                drop("ip_outnoroutes", Class::Config, 20),
                drop("not_specified", Class::Unknown, 30),
                drop("no_socket", Class::Noise, 1_000),
                drop("qdisc_drop", Class::Capacity, 4),
                drop("tc_egress", Class::Policy, 5),
                Drop { interface: "f".into(), ..drop("netfilter_drop", Class::Policy, 1_000) },
                Drop { netns: "other".into(), ..drop("netfilter_drop", Class::Policy, 1_000) },
            ],
            ..Snapshot::default()
        };
        let counters = vec![
            lost("ingress", "missed", Class::Capacity, 100),
            lost("ingress", "no_buffer", Class::Capacity, 90),
            lost("ingress", "xdp_drop", Class::Policy, 2),
            lost("ingress", "crc", Class::Malformed, 1_000),
            lost("egress", "carrier", Class::Malformed, 6),
            lost("ingress", "provider_limit", Class::Capacity, 7_000),
            lost("egress", "provider_limit", Class::Capacity, 40_000),
            lost("both", "provider_limit", Class::Capacity, 500_000),
        ];
        let queue = |dropped_packets| vec![Qdisc { dropped_packets, ..Qdisc::default() }];
        let mut interface = Interface {
            name: "e".into(),
            device: Device { counters, ..Device::default() },
            qdiscs: queue(40_015),
            ..Interface::default()
        };
        // capacity, malformed, config, policy, noise, unknown
        let within = [0, 0, 20, 10, 0, 30];
        let (before, behind) = ([507_101, 0, 0, 3, 0, 0], [540_004, 6, 0, 5, 0, 0]);
        assert_eq!(own_losses(&snapshot, &interface), [before, within, behind]);
        interface.qdiscs = queue(40_016);
        let behind = own_losses(&snapshot, &interface)[2];
        assert_eq!(behind, [540_005, 6, 0, 5, 0, 0], "the discipline knows of one more");
        interface.attached = vec![Attachment { hook: "xdp".into(), ..Attachment::default() }];
        let before = own_losses(&snapshot, &interface)[0];
        assert_eq!(before, [507_100, 0, 0, 0, 0, 0], "the hook is in front of the rest");
    }
}
