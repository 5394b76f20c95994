//! The kernel's numbers become a [`Snapshot`]: names for indices, reasons and classes; sums where names are equal.

use std::collections::BTreeMap;

use anyhow::Result;
use probe_ebpf::{
    abi::{Direction, MalformedKey, Retransmit, Tally},
    classify::LinkKind,
    reason::{self, Severity},
};

use super::{Baseline, Counted, Probe, sent_segments};
use crate::{
    collect::{links::Link, snmp},
    kernel::{
        read::{Counters, missed_runs},
        slots::Place,
    },
    snapshot::{self, Snapshot, Traffic},
};

impl Probe {
    /// Reads everything.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let counters = self.maps.counters()?;
        let sent_segments = match snmp::read() {
            Ok(snmp) => sent_segments(&snmp).zip(self.sent_before).and_then(|(now, before)| now.checked_sub(before)),
            Err(_) => {
                self.collect_error("snmp");
                None
            }
        };
        self.describe_anew();
        let mut interfaces: Vec<_> = self
            .counted
            .iter()
            .filter_map(|(ifindex, counted)| Some((self.links.get(ifindex)?, counted)))
            .map(|(link, counted)| self.interface(link, counted, &counters))
            .collect::<Result<_>>()?;
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Snapshot {
            schema: snapshot::SCHEMA,
            time: jiff::Timestamp::now().to_string(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            interfaces,
            drops: self.drops(&counters),
            tcp: snapshot::Tcp { sent_segments, retransmitted: self.retransmitted(&counters) },
            probe: self.self_report(&counters),
        })
    }

    fn interface(&self, link: &Link, counted: &Counted, counters: &Counters) -> Result<snapshot::Interface> {
        let name_of = |ifindex: Option<u32>| {
            ifindex.and_then(|ifindex| self.links.get(&ifindex)).map_or_else(String::new, |link| link.name.clone())
        };
        let traffic = |direction: Direction| -> Result<Traffic> {
            match counted.place {
                Some(place) => {
                    Ok(less(self.traffic(place.slot, direction)?, counted.baseline.traffic[direction as usize]))
                }
                None => Ok(Traffic::default()),
            }
        };
        let master = link.master.and_then(|ifindex| self.links.get(&ifindex));
        Ok(snapshot::Interface {
            name: link.name.clone(),
            ifindex: link.ifindex,
            kind: link.kind.clone(),
            role: link.role(master).to_owned(),
            master: name_of(link.master),
            lower: name_of(link.lower),
            driver: link.driver.clone(),
            alias: link.alias.clone(),
            up: link.up,
            link: link_kind_id(link.link_kind()).to_owned(),
            attached: counted.described.clone(),
            refused: counted.refused.clone(),
            ingress: traffic(Direction::Ingress)?,
            egress: traffic(Direction::Egress)?,
            malformed: counted.place.map_or_else(Vec::new, |place| malformed(place, &counted.baseline, counters)),
        })
    }

    fn drops(&self, counters: &Counters) -> Vec<snapshot::Drop> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, packets) in &counters.drops {
            let own = key.netns == self.loaded.netns;
            let Some(interface) = self.name_at(key.ifindex) else { continue };
            *sums.entry((own, interface, self.loaded.types.drop_reason(key.reason), key.family)).or_default() +=
                packets;
        }
        let drop = |((own, interface, reason, family), packets): ((bool, &str, String, u8), u64)| snapshot::Drop {
            netns: if own { "own" } else { "other" }.to_owned(),
            interface: interface.to_owned(),
            class: self.config.classes.of(&reason).id().to_owned(),
            reason,
            family: family_id(family).to_owned(),
            packets,
        };
        sums.into_iter().map(drop).collect()
    }

    /// The interface's name, `""` where the kernel knows no interface, `None` where its name has not been announced
    /// yet: such counts are shown with the name, so that no series falls.
    fn name_at(&self, ifindex: u32) -> Option<&str> {
        match ifindex {
            0 => Some(""),
            _ => match self.links.get(&ifindex) {
                Some(link) => Some(&link.name),
                None => self.former.get(&ifindex).map(|(name, _)| name.as_str()),
            },
        }
    }

    fn retransmitted(&self, counters: &Counters) -> Vec<snapshot::Retransmitted> {
        let mut sums = BTreeMap::<_, u64>::new();
        for (key, segments) in &counters.retransmits {
            if let (Some(kind), Some(interface)) =
                (Retransmit::ALL.get(usize::from(key.kind)), self.name_at(key.ifindex))
            {
                *sums.entry((interface, kind.id())).or_default() += segments;
            }
        }
        let entry = |((interface, kind), segments)| snapshot::Retransmitted {
            interface: String::from(interface),
            kind: String::from(kind),
            segments,
        };
        sums.into_iter().map(entry).collect()
    }

    fn self_report(&self, counters: &Counters) -> snapshot::Probe {
        let tally = |tally: Tally| counters.tallies.get(tally as usize).copied().unwrap_or(0);
        let capacity = self.loaded.capacity;
        let map = |name: &str, entries: usize, capacity: u32| snapshot::Map {
            name: name.to_owned(),
            entries: entries as u64,
            capacity: u64::from(capacity),
        };
        let failed = |(which, map, cause): &(Tally, &str, &str)| snapshot::MapUpdateFailed {
            map: (*map).to_owned(),
            cause: (*cause).to_owned(),
            count: tally(*which),
        };
        snapshot::Probe {
            features: self.loaded.features.clone(),
            maps: vec![
                map("interfaces", self.slots.len(), capacity.interfaces),
                map("malformed", counters.malformed.len(), capacity.malformed),
                map("drops", counters.drops.len(), capacity.drops),
                map("retransmits", counters.retransmits.len(), capacity.retransmits),
            ],
            map_update_failed: Tally::FAILURES.iter().map(failed).collect(),
            program_missed: missed_runs(&self.loaded.ebpf, &self.loaded.programs),
            drop_members: tally(Tally::DropMembers),
            collect_errors: self.collect_errors.clone(),
            privileges: self.privileges.clone(),
            memory: self.memory.clone(),
        }
    }
}

const fn link_kind_id(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Opaque => "opaque",
        LinkKind::Ethernet => "ethernet",
        LinkKind::Network => "network",
        LinkKind::NetworkIngress => "network_ingress",
    }
}

const fn family_id(family: u8) -> &'static str {
    match family {
        1 => "ipv4",
        2 => "ipv6",
        3 => "arp",
        _ => "other",
    }
}

fn less(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        frames: now.frames - before.frames,
        bytes: now.bytes - before.bytes,
        other_frames: now.other_frames - before.other_frames,
        unseen_frames: now.unseen_frames - before.unseen_frames,
    }
}

fn malformed(place: Place, baseline: &Baseline, counters: &Counters) -> Vec<snapshot::Malformed> {
    let entry = |(key, frames): &(MalformedKey, u64)| {
        if u32::from(key.slot) != place.slot {
            return None;
        }
        let reason = reason::Malformed::from_number(key.reason)?;
        let direction = Direction::ALL.get(usize::from(key.direction))?;
        let frames = frames - baseline.malformed.get(&(key.direction, key.reason)).copied().unwrap_or(0);
        (reason.severity() > Severity::Info && frames > 0).then(|| snapshot::Malformed {
            direction: direction.id().to_owned(),
            reason: reason.id().to_owned(),
            severity: reason.severity().id().to_owned(),
            scope: reason.scope().id().to_owned(),
            frames,
        })
    };
    let mut all: Vec<_> = counters.malformed.iter().filter_map(entry).collect();
    all.sort_by(|a, b| (&a.direction, &a.reason).cmp(&(&b.direction, &b.reason)));
    all
}
