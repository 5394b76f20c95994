//! What else has happened meanwhile: no loss by itself and no reason to accuse anybody, but where a tired human would look next.

use std::collections::BTreeMap;

use super::sentence::number;
use crate::{
    collect::causes::Cause,
    snapshot::{Interface, Snapshot, Wire},
};

/// Something that has grown by at least `least` between two snapshots, and what that says: `DEV` is the interface, `N` how much.
struct Hint<T> {
    total: fn(&T) -> u64,
    least: u64,
    says: &'static str,
}

const OF_INTERFACE: [Hint<Interface>; 5] = [
    Hint {
        total: |interface| {
            let counters =
                interface.device.counters.iter().filter(|counter| counter.cause == Cause::ProviderLimit.id());
            counters.map(|counter| counter.packets).sum()
        },
        least: 1,
        says: "DEV: an allowance of this machine is used up, its provider's card delayed or did not take N packets (provider_limit)",
    },
    Hint {
        total: |interface| interface.device.evidence.get("pfc_pause_received").copied().unwrap_or(0),
        least: 1,
        says: "DEV: N pause frames came (PFC): whoever it is wired to had no room and has stopped it",
    },
    Hint {
        total: |interface| interface.device.evidence.get("pfc_pause_sent").copied().unwrap_or(0),
        least: 1,
        says: "DEV: the card has sent N pause frames (PFC): this machine does not take fast enough what comes in",
    },
    Hint {
        total: |interface| interface.device.carrier_changes.unwrap_or(0),
        least: 1,
        says: "DEV: the carrier came or went N times",
    },
    Hint {
        total: |interface| {
            let of = |events: fn(&Wire) -> &BTreeMap<String, u64>| {
                interface.wire.as_ref().and_then(|wire| events(wire).get("pmtu_suspect")).copied().unwrap_or(0)
            };
            of(|wire| &wire.ingress) + of(|wire| &wire.egress)
        },
        least: 1,
        says: "DEV: N segments of full size were sent again and again while smaller ones passed: something on the way may not \
               take packets of that size (MTU)",
    },
];

const OF_HOST: [Hint<Snapshot>; 4] = [
    Hint {
        // A twentieth of one CPU over the longest time that is looked at.
        total: |snapshot| snapshot.host.cpu_steal_ms.unwrap_or(0),
        least: 1_000,
        says: "the hypervisor has taken N ms of this machine's CPU time (steal): what comes in meanwhile waits, or is lost",
    },
    Hint {
        total: |snapshot| snapshot.host.congestion_marked_packets.unwrap_or(0),
        least: 1,
        says: "N packets came with a mark of congestion (ECN CE): a queue on their way is full",
    },
    Hint {
        total: |snapshot| {
            let lost = snapshot.protocols.iter().filter(|error| error.protocol == "openvswitch");
            lost.map(|error| error.count).sum()
        },
        least: 1,
        says: "Open vSwitch has lost N packets on their way to its daemon",
    },
    Hint {
        total: |snapshot| {
            let conntrack = snapshot.protocols.iter().filter(|error| error.protocol == "conntrack");
            conntrack.filter(|error| error.cause == "table_full").map(|error| error.count).sum()
        },
        least: 1,
        says: "the table of tracked connections was full for N packets",
    },
];

/// Everything of the kind, of these interfaces and of the host.
pub(super) fn hints(earlier: &Snapshot, later: &Snapshot, interfaces: &[&Interface]) -> Vec<String> {
    let mut hints = Vec::new();
    for now in interfaces {
        let Some(before) = earlier.interfaces.iter().find(|before| before.name == now.name) else { continue };
        hints.extend(OF_INTERFACE.iter().filter_map(|hint| Some(hint.between(before, now)?.replace("DEV", &now.name))));
    }
    hints.extend(OF_HOST.iter().filter_map(|hint| hint.between(earlier, later)));
    hints
}

impl<T> Hint<T> {
    fn between(&self, earlier: &T, later: &T) -> Option<String> {
        let grown = (self.total)(later).saturating_sub((self.total)(earlier));
        (grown >= self.least).then(|| self.says.replacen('N', &number(grown), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Device, DeviceCounter, Host, ProtocolError};

    fn at(times: u64) -> Snapshot {
        let counter =
            |cause: &str| DeviceCounter { cause: cause.into(), packets: 100 * times, ..DeviceCounter::default() };
        let events = |count| [("pmtu_suspect".to_owned(), count * times)].into();
        let error = |protocol: &str, cause: &str| ProtocolError {
            protocol: protocol.into(),
            cause: cause.into(),
            count: 9 * times,
        };
        let interface = Interface {
            name: "eth0".into(),
            device: Device {
                counters: vec![counter("provider_limit"), counter("missed")],
                evidence: [("pfc_pause_received".to_owned(), 2_000 * times), ("pfc_pause_sent".to_owned(), 3 * times)]
                    .into(),
                carrier_changes: Some(2 * times),
                ..Device::default()
            },
            wire: Some(Wire { ingress: events(1), egress: events(4), ..Wire::default() }),
            ..Interface::default()
        };
        Snapshot {
            interfaces: vec![interface.clone(), Interface { name: "eth1".into(), ..interface }],
            protocols: vec![error("openvswitch", "lost"), error("conntrack", "table_full"), error("tcp", "csum")],
            host: Host {
                cpu_steal_ms: Some(1_500 * times),
                congestion_marked_packets: Some(7 * times),
                ..Host::default()
            },
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_has_grown_is_said() {
        let (earlier, later) = (at(1), at(2));
        let said = hints(&earlier, &later, &[&later.interfaces[0]]);
        for (line, expected) in said.iter().zip([
            "eth0: an allowance of this machine is used up, its provider's card delayed or did not take 100 packets",
            "eth0: 2,000 pause frames came",
            "eth0: the card has sent 3 pause frames",
            "eth0: the carrier came or went 2 times",
            "eth0: 5 segments of full size",
            "the hypervisor has taken 1,500 ms",
            "7 packets came with a mark of congestion (ECN CE)",
            "Open vSwitch has lost 9 packets",
            "the table of tracked connections was full for 9 packets",
        ]) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert_eq!(said.len(), OF_INTERFACE.len() + OF_HOST.len());
        assert_eq!(hints(&later, &later, &[&later.interfaces[0]]), [""; 0], "what is past");
        assert_eq!(hints(&later, &earlier, &[&later.interfaces[0]]), [""; 0], "what has begun anew");
    }
}
