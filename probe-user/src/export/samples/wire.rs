//! What TCP connections that pass a track point tell.

use super::{DIRECTIONS, Samples, interfaces, is_attached};
use crate::snapshot::{Interface, Snapshot, Wire};

/// Interfaces whose connections are, or were, followed.
fn followed(snapshot: &Snapshot) -> impl Iterator<Item = (&Interface, &Wire)> {
    interfaces(snapshot).filter_map(|interface| Some((interface, interface.wire.as_ref()?)))
}

/// A direction that nothing has ever looked at has no series.
fn directions<'s>(interface: &'s Interface, wire: &'s Wire) -> impl Iterator<Item = (&'static str, usize)> {
    DIRECTIONS.into_iter().zip(0..).filter_map(|((direction, hooks), at)| {
        let segments = [&interface.ingress, &interface.egress][at].tcp_segments;
        let events = [&wire.ingress, &wire.egress][at];
        (segments > 0 || is_attached(interface, hooks) || events.values().any(|count| *count > 0))
            .then_some((direction, at))
    })
}

pub(in super::super) fn segments<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (interface, wire) in followed(snapshot) {
        for (direction, at) in directions(interface, wire) {
            to.add([&interface.name, direction], [&interface.ingress, &interface.egress][at].tcp_segments);
        }
    }
}

pub(in super::super) fn events<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (interface, wire) in followed(snapshot) {
        for (direction, at) in directions(interface, wire) {
            for (event, segments) in [&wire.ingress, &wire.egress][at] {
                to.add([&interface.name, direction, event], *segments);
            }
        }
    }
}

pub(in super::super) fn lost<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (interface, wire) in followed(snapshot) {
        wire.lost.iter().for_each(|(side, lost)| to.add([&interface.name, side], lost.segments));
    }
}

pub(in super::super) fn loss_ratio<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (interface, wire) in followed(snapshot) {
        for (side, lost) in &wire.lost {
            if let Some(share) = lost.share {
                to.add_ratio([&interface.name, side], share.ratio);
            }
        }
    }
}

pub(in super::super) fn judged<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for (interface, wire) in followed(snapshot) {
        if let Some(ratio) = wire.judged_ratio {
            to.add_ratio([&interface.name], ratio);
        }
    }
}
