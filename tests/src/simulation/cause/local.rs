//! In this host, seen or not.

use probe_ebpf::{
    abi::Direction::{Egress, Ingress},
    flow::TcpEvent,
};
use probe_user::{
    detect::verdict::Name,
    snapshot::{Interface, Snapshot},
};

use super::{Cause, Scene};
use crate::simulation::{
    shape::{Card, Dropped},
    traffic::FOLLOWED,
};

const OWN: &[Card] = &[Card::Physical];

pub(super) const CAUSES: &[Cause] = &[
    Cause::new("ring", &[Name::LocalRx], ring),
    Cause::new("input queue of a CPU", &[Name::LocalRx], |scene| {
        let dropped = all_kinds(scene);
        scene.host.drop(Dropped::InputQueue, dropped.0);
        scene.miss(dropped.1);
    }),
    Cause::new("queue, merged packets", &[Name::LocalTx], queue),
    Cause::new("XDP_DROP of somebody else", &[Name::LocalPolicy], foreign_xdp).without(|snapshot| {
        uplinks(snapshot, |uplink| uplink.device.foreign_xdp = true);
    }),
    Cause::new("generic XDP_DROP", &[Name::LocalPolicy], |scene| {
        let dropped = all_kinds(scene);
        scene.host.drop(Dropped::Xdp, dropped.0);
        scene.miss(dropped.1);
    })
    .on(&[Card::Virtual, Card::Pair]),
    Cause::new("packet filter", &[Name::LocalPolicy], filter),
    Cause::new("reverse path filter", &[Name::LocalConfig], |scene| {
        let dropped = scene.lost_of(scene.sent[0]);
        scene.host.drop(Dropped::ReversePath, dropped);
        scene.sent_again(Ingress, dropped);
    }),
    Cause::new("connection table is full", &[Name::LocalPolicy, Name::LocalConfig], table_full),
    Cause::new("queue and packet filter", &[Name::Mixed], |scene| {
        queue(scene);
        filter(scene);
    })
    .tolerating(&[Name::LocalTx, Name::LocalPolicy]),
    // What is not seen.
    Cause::new("ring, and no counter of it", &[Name::Unknown], ring).on(OWN).without(|snapshot| {
        uplinks(snapshot, |uplink| lacks(uplink, &["missed", "no_buffer"]));
    }),
    Cause::new("XDP_DROP, and no counter of it", &[Name::Unknown], foreign_xdp).without(|snapshot| {
        uplinks(snapshot, |uplink| {
            uplink.device.foreign_xdp = true;
            lacks(uplink, &["xdp_drop"]);
        });
    }),
    Cause::new("packet filter, no kfree_skb", &[Name::Unknown], |scene| {
        let dropped = scene.lost_of(scene.sent[0]);
        scene.sent_again(Ingress, dropped);
    })
    .without(|snapshot| {
        snapshot.probe.features.insert("kfree_skb".into(), false);
        snapshot.drops.clear();
    }),
    Cause::new("packet filter, map of drops full", &[Name::Unknown, Name::Mixed], |scene| {
        let dropped = scene.lost_of(scene.sent[0]);
        scene.host.uncounted += dropped;
        scene.sent_again(Ingress, dropped);
    }),
    Cause::new("packet filter, program skipped", &[Name::Unknown, Name::Mixed], |scene| {
        let dropped = scene.lost_of(scene.sent[0]);
        scene.host.skipped += dropped;
        scene.sent_again(Ingress, dropped);
    }),
];

fn uplinks(snapshot: &mut Snapshot, change: fn(&mut Interface)) {
    snapshot.interfaces.iter_mut().for_each(change);
}

fn lacks(uplink: &mut Interface, causes: &[&str]) {
    uplink.device.counters.retain(|counter| !causes.contains(&counter.cause.as_str()));
    uplink.device.not_observable.extend(causes.iter().map(|cause| format!("ingress/{cause}")));
}

/// What is lost of frames of all kinds that come in, and how many of these are segments of connections.
fn all_kinds(scene: &mut Scene<'_>) -> (u64, u64) {
    let frames = (scene.sent[0] as f64 / FOLLOWED) as u64;
    let lost = scene.lost_of(frames);
    (lost, scene.random.binomial(lost, FOLLOWED))
}

/// Looks like loss before us.
pub(super) fn ring(scene: &mut Scene<'_>) {
    let (lost, followed) = all_kinds(scene);
    scene.uplink.no_buffer += lost;
    scene.miss(followed);
}

/// Looks like loss behind us. The discipline counts packets of many segments as one.
pub(super) fn queue(scene: &mut Scene<'_>) {
    const MERGED: u64 = 8;
    let lost = scene.lost_of(scene.sent[1]);
    scene.host.drop(Dropped::Queue, lost);
    scene.uplink.queued_packets += lost.div_ceil(MERGED);
    scene.sent_again(Egress, lost);
}

fn filter(scene: &mut Scene<'_>) {
    let dropped = scene.lost_of(scene.sent[0]);
    scene.host.drop(Dropped::Filter, dropped);
    scene.sent_again(Ingress, dropped);
}

fn foreign_xdp(scene: &mut Scene<'_>) {
    let (lost, followed) = all_kinds(scene);
    scene.uplink.xdp_drop += lost;
    scene.miss(followed);
}

/// New connections are turned away, and ask again after one and three seconds, in vain.
fn table_full(scene: &mut Scene<'_>) {
    let asked = scene.lost_of(scene.sent[0]);
    let again = std::mem::replace(&mut scene.effect.waiting, asked);
    scene.uplink.event(1, Ingress, TcpEvent::SynRetransmit, asked);
    scene.host.drop(Dropped::Filter, asked + again);
    scene.host.table_full += asked + again;
}
