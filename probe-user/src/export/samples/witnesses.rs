//! Series of what others than our programs have counted. Of an uplink every cause that is observable has one, zeros
//! included; of other interfaces those that were seen, so that a thousand of them stay few series. Devices of ports that
//! are taken together are in the JSON snapshot only.

use super::interfaces;
use crate::{
    export::metrics::Samples,
    snapshot::{Interface, Snapshot},
};

pub(in crate::export) fn nic_dropped<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    nic(snapshot, "dropped", to);
}

pub(in crate::export) fn nic_errors<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    nic(snapshot, "error", to);
}

fn nic<'s>(snapshot: &'s Snapshot, kind: &str, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        for counter in interface.device.counters.iter().filter(|counter| counter.kind == kind) {
            if counter.packets > 0 || shows_zeros(interface) {
                to.add([&interface.name, &counter.direction, &counter.cause], counter.packets);
            }
        }
    }
}

pub(in crate::export) fn qdisc_dropped<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    for interface in interfaces(snapshot) {
        for qdisc in &interface.qdiscs {
            if qdisc.dropped_packets > 0 || shows_zeros(interface) {
                to.add([&interface.name, &qdisc.kind], qdisc.dropped_packets);
            }
        }
    }
}

pub(in crate::export) fn softnet_dropped<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    snapshot.softnet.iter().for_each(|softnet| to.add([], softnet.dropped_packets));
}

pub(in crate::export) fn softnet_squeezed<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    snapshot.softnet.iter().for_each(|softnet| to.add([], softnet.squeezed));
}

pub(in crate::export) fn protocol_errors<'s>(snapshot: &'s Snapshot, to: &mut Samples<'s>) {
    snapshot.protocols.iter().for_each(|error| to.add([&error.protocol, &error.cause], error.count));
}

fn shows_zeros(interface: &Interface) -> bool {
    interface.role == "uplink"
}
