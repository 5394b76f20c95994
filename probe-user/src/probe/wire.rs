//! Track points: which interfaces are followed, by which ledgers, and what their events and checksums come to.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use probe_ebpf::{
    abi::{Checksum, Direction, Slot},
    flow::{Ledger, Quality, TcpEvent},
};
use tracing::warn;

use super::{Counted, Probe};
use crate::{
    collect::links::Link,
    conservation::own_losses,
    derive::{PathLoss, PathSide, Totals},
    kernel::slots::Pool,
    snapshot::{self, Snapshot, State},
    tunnel,
};

/// Ledgers and the names of track groups.
#[derive(Debug)]
pub(super) struct Tracks {
    ledgers: Pool,
    groups: Vec<String>,
    /// It was said that there are too few.
    warned: bool,
}

/// One interface that is, or was, a track point.
#[derive(Debug)]
pub(super) struct Track {
    ledger: u8,
    /// Its group's number now; `None` while it is none.
    group: Option<u8>,
    /// What the ledgers showed before.
    baseline: [Ledger; 2],
    /// What the checksums showed before.
    checksums: [u64; Checksum::ALL.len()],
    loss: PathLoss,
}

impl Tracks {
    pub(super) const fn new(capacity: u32) -> Self {
        Self { ledgers: Pool::new(capacity), groups: Vec::new(), warned: false }
    }

    /// The number of a group; those beyond the last number share it.
    fn group(&mut self, name: &str) -> u8 {
        let known = self.groups.iter().position(|known| known == name);
        let at = known.unwrap_or_else(|| {
            self.groups.push(name.to_owned());
            self.groups.len() - 1
        });
        u8::try_from(at).unwrap_or(u8::MAX)
    }

    /// The group of this number.
    pub(super) fn name(&self, group: u32) -> &str {
        self.groups.get(group as usize).map_or("", String::as_str)
    }
}

impl Track {
    /// Writes into a slot that it is a track point, and whether its connections are followed.
    pub(super) fn mark(&self, slot: &mut Slot, follows: bool) {
        if let Some(group) = self.group {
            (slot.track, slot.group, slot.follows) = (self.ledger, group, follows.into());
        }
    }
}

impl Probe {
    /// The line of an interface in the kernel's table.
    pub(super) fn line(&self, counted: &Counted, link: &Link, slot: u32) -> Slot {
        let tunnels = self.places.get(&link.ifindex).into_iter().flat_map(|place| place.tunnels.iter().copied());
        let mut line = Slot {
            ifindex: link.ifindex,
            slot,
            mtu_bytes: link.mtu_bytes,
            link_kind: link.link_kind() as u8,
            flags: link.flags(),
            track: 0,
            group: 0,
            tunnels: tunnel::ports(tunnels).0,
            follows: 0,
            pad: [0; 3],
        };
        if let Some(track) = &counted.track {
            track.mark(&mut line, self.loaded.capacity.flows > 0);
        }
        line
    }

    /// Tells the kernel what it must know of the interfaces, where that has changed.
    pub(super) fn write_lines(&mut self) -> Result<()> {
        let changed = self.counted.iter().filter_map(|(ifindex, counted)| {
            let (place, link) = (counted.place?, self.links.get(ifindex)?);
            let line = self.line(counted, link, place.slot);
            (line != counted.line).then_some((*ifindex, place.line, line))
        });
        for (ifindex, at, line) in changed.collect::<Vec<_>>() {
            self.maps.set_slot(at, line)?;
            if let (Some(place), Some(link)) = (self.places.get(&ifindex), self.links.get(&ifindex)) {
                for tunnel in tunnel::ports(place.tunnels.iter().copied()).1 {
                    warn!(
                        interface = link.name,
                        "it carries more than two tunnels of {tunnel}'s kind: one of them is not looked into"
                    );
                }
            }
            if let Some(counted) = self.counted.get_mut(&ifindex) {
                counted.line = line;
            }
        }
        Ok(())
    }

    /// Follows the connections of what is a track point now, and of nothing else.
    pub(super) fn follow_connections(&mut self) -> Result<()> {
        for (ifindex, counted) in &mut self.counted {
            let name = self.places.get(ifindex).map_or("", |place| place.track.as_str());
            let wanted = (!name.is_empty()).then(|| self.tracks.group(name));
            if counted.place.is_none() {
                continue;
            }
            match (&mut counted.track, wanted) {
                (None, None) => {}
                (Some(track), wanted) if track.group == wanted => {}
                (Some(track), wanted) => {
                    track.group = wanted;
                    track.loss.restart();
                }
                (none, Some(group)) => {
                    let Some((ledger, reused)) = self.tracks.ledgers.take(Instant::now()) else {
                        if !std::mem::replace(&mut self.tracks.warned, true) {
                            warn!(
                                "connections and checksums of further interfaces are not looked at: all ledgers are taken"
                            );
                        }
                        continue;
                    };
                    let ledger = u8::try_from(ledger).context("a ledger's number")?;
                    let (baseline, checksums) = if reused {
                        (self.maps.ledgers(ledger)?, self.maps.checksums(ledger)?)
                    } else {
                        Default::default()
                    };
                    *none = Some(Track { ledger, group: Some(group), baseline, checksums, loss: PathLoss::default() });
                }
            }
        }
        self.write_lines()
    }

    /// The interface is gone: its ledgers will be somebody else's.
    pub(super) fn give_up_track(&mut self, track: &Track) {
        self.tracks.ledgers.release(u32::from(track.ledger), Instant::now());
    }

    /// Puts into a snapshot what connections tell.
    pub(super) fn show_connections(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let mut quality = Ledger::default();
        for ledger in self.tracks.ledgers.used() {
            for read in self.maps.ledgers(u8::try_from(ledger).context("a ledger's number")?)? {
                quality.add(&read);
            }
        }
        if self.loaded.capacity.flows > 0 {
            let causes = Quality::ALL.iter().map(|cause| (cause.id().to_owned(), quality.quality[*cause as usize]));
            snapshot.probe.flow_quality = causes.collect();
        }
        let now = Instant::now();
        let explained = |interface: &snapshot::Interface| {
            own_losses(snapshot, interface).map(|by_class| by_class.into_iter().sum::<u64>())
        };
        let explained: BTreeMap<u32, [u64; 3]> =
            snapshot.interfaces.iter().map(|interface| (interface.ifindex, explained(interface))).collect();
        for interface in &mut snapshot.interfaces {
            let Some(track) = self.counted.get_mut(&interface.ifindex).and_then(|counted| counted.track.as_mut())
            else {
                continue;
            };
            let is_looked_at = interface.attached.iter().any(|attachment| attachment.hook == "tc_ingress");
            if track.group.is_some() && is_looked_at {
                let results = self.maps.checksums(track.ledger)?;
                let since = |result: Checksum| results[result as usize] - track.checksums[result as usize];
                interface.checksums =
                    Some(Checksum::ALL.iter().map(|result| (result.id().to_owned(), since(*result))).collect());
            }
            if self.loaded.capacity.flows == 0 {
                continue;
            }
            let [ingress, egress] = self.maps.ledgers(track.ledger)?;
            let ledgers = [ingress.since(&track.baseline[0]), egress.since(&track.baseline[1])];
            let of = |event: TcpEvent| [ledgers[0].of(event), ledgers[1].of(event)];
            let both = |one, other| [0, 1].map(|way| of(one)[way] + of(other)[way]);
            let [host_before, host_within, host_behind] =
                explained.get(&interface.ifindex).copied().unwrap_or_default();
            let totals = Totals {
                followed: [interface.ingress.tcp_segments, interface.egress.tcp_segments],
                frames: [interface.ingress.frames, interface.egress.frames],
                lost_before: [ledgers[0].lost_before, ledgers[1].lost_before],
                came_late: [ledgers[0].came_late, ledgers[1].came_late],
                seen_again: of(TcpEvent::RetransmitSeen),
                known_needless: both(TcpEvent::Spurious, TcpEvent::Duplicate),
                not_needed: of(TcpEvent::Dsack),
                one_of: self.loaded.capacity.flow_sample.into(),
                host_before,
                host_behind,
                host_within,
            };
            if self.state == State::Running && track.group.is_some() {
                track.loss.add(now, totals);
            } else {
                track.loss.restart();
            }
            interface.wire = Some(snapshot::Wire {
                ingress: events(&ledgers[Direction::Ingress as usize]),
                egress: events(&ledgers[Direction::Egress as usize]),
                lost: PathSide::ALL.iter().map(|side| (side.id().to_owned(), side_loss(&track.loss, *side))).collect(),
                judged_ratio: track.loss.judged(),
            });
        }
        Ok(())
    }
}

fn events(ledger: &Ledger) -> BTreeMap<String, u64> {
    TcpEvent::ALL.iter().map(|event| (event.id().to_owned(), ledger.of(*event))).collect()
}

fn side_loss(loss: &PathLoss, side: PathSide) -> snapshot::SideLoss {
    snapshot::SideLoss {
        segments: loss.lost(side),
        share: loss.share(side).map(|share| snapshot::Share {
            ratio: share.ratio,
            lower: share.lower,
            upper: share.upper,
        }),
    }
}
