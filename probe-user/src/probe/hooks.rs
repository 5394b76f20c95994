//! What hangs on interfaces after the start: whether it is still there, what is done where it is not, and the orders to
//! be still or to let go.

use tracing::{info, warn};

use super::{Counted, Probe};
use crate::{
    collect::links::Link,
    control::Order,
    kernel::{
        attach::{Attached, Target},
        descriptors, leftovers,
    },
    snapshot::State,
};

/// Verifications at a time, of few interfaces; of many, a share of them, so that all are verified within
/// [`VERIFY_ROUND`] times.
const VERIFY_AT_LEAST: usize = 32;
const VERIFY_ROUND: usize = 8;

/// How often programs that somebody else has taken off an interface are put back: who takes them off for a fourth time
/// means it.
const PUT_BACK: u32 = 3;

/// Removes what a killed lossprobe has left on the interfaces of this namespace.
pub(super) fn remove_leftovers() {
    match leftovers::remove() {
        Ok(removed) => removed.iter().for_each(|removed| info!("left by a lossprobe that is gone, removed: {removed}")),
        Err(error) => warn!("leftovers of a lossprobe that is gone could not be removed: {error:#}"),
    }
}

impl Probe {
    /// Attaches what is not attached yet.
    pub(super) fn hang(&mut self, link: &Link, counted: &mut Counted) -> anyhow::Result<()> {
        // With a thousand of them it takes longer than the programs wait for a sign of life.
        self.beat()?;
        if self.loaded.features.get("tcx") == Some(&true) {
            let held = self.counted.values().filter(|other| other.attached.is_some()).count();
            descriptors::check(held as u64 + 1, self.open_files)?;
        }
        // What passed while nothing hung there is no gap in what the hooks see.
        self.coverage.remove(&link.ifindex);
        self.balances.remove(&link.ifindex);
        let ebpf = &mut self.loaded.ebpf;
        let (ifindex, xdp) = (link.ifindex, !counted.no_xdp && self.config.wants_xdp(&link.name));
        let target = Target { name: &link.name, ifindex, kind: &link.kind, link_kind: link.link_kind(), xdp };
        let attached = match &mut counted.attached {
            Some(attached) => {
                attached.complete(ebpf, target)?;
                attached
            }
            none => none.insert(Attached::new(ebpf, target)?),
        };
        let mut verified = attached.verify();
        if verified.taken_back {
            counted.no_xdp = true;
            attached.complete(ebpf, Target { xdp: false, ..target })?;
            verified = attached.verify();
        }
        counted.described = verified.attachments;
        counted.lost = !verified.lost.is_empty();
        counted.refused = attached.missing();
        *self.loaded.features.entry("tcx".to_owned()).or_default() |= attached.is_tcx();
        Ok(())
    }

    /// Asks the kernel whether our programs are still where they were put, and where among others: a share of the
    /// interfaces each time.
    pub fn verify(&mut self) {
        let share = (self.counted.len() / VERIFY_ROUND).max(VERIFY_AT_LEAST);
        let (before, after) = (self.counted.range(..self.verify_from), self.counted.range(self.verify_from..));
        let due: Vec<u32> = after.chain(before).map(|(ifindex, _)| *ifindex).take(share).collect();
        let is_on_probation = |counted: &Counted| counted.attached.as_ref().is_some_and(Attached::is_on_probation);
        let early = self.counted.iter().filter(|(_, counted)| is_on_probation(counted)).map(|(ifindex, _)| *ifindex);
        let early: Vec<u32> = early.filter(|ifindex| !due.contains(ifindex)).collect();
        self.verify_from = due.last().map_or(0, |last| last + 1);
        due.into_iter().chain(early).for_each(|ifindex| self.verify_one(ifindex));
    }

    fn verify_one(&mut self, ifindex: u32) {
        let (Some(counted), Some(link)) = (self.counted.get_mut(&ifindex), self.links.get(&ifindex)) else { return };
        let Some(attached) = &mut counted.attached else { return };
        let verified = attached.verify();
        counted.described = verified.attachments;
        if verified.taken_back {
            counted.no_xdp = true;
            // What takes its place is tried again until it hangs there.
            counted.lost = true;
            warn!(interface = link.name, "{}", attached.missing());
            self.hang_where(|at, _| at == ifindex);
            return;
        }
        if verified.lost.is_empty() {
            return;
        }
        let times = self.taken_off.entry(ifindex).or_default();
        *times += 1;
        counted.lost = *times <= PUT_BACK;
        let next =
            if counted.lost { format!("put back soon ({times} of {PUT_BACK})") } else { "left alone".to_owned() };
        counted.refused = format!("{} was taken off by somebody else; {next}", verified.lost.join(" and "));
        warn!(interface = link.name, "{}", counted.refused);
    }

    /// Puts back what somebody else has taken off, some times, and what could not be attached when it was asked for.
    pub fn put_back(&mut self) {
        if self.state != State::Detached {
            self.hang_where(|_, counted| counted.lost || counted.attached.is_none());
        }
    }

    fn hang_where(&mut self, wanted: impl Fn(u32, &Counted) -> bool) {
        let wanted = |ifindex: u32, counted: &Counted| counted.place.is_some() && wanted(ifindex, counted);
        let due = self.counted.iter().filter(|(ifindex, counted)| wanted(**ifindex, counted));
        let due: Vec<u32> = due.map(|(ifindex, _)| *ifindex).collect();
        for ifindex in due {
            let (Some(link), Some(mut counted)) = (self.links.get(&ifindex).cloned(), self.counted.remove(&ifindex))
            else {
                continue;
            };
            match self.hang(&link, &mut counted) {
                Ok(()) => {
                    info!(interface = link.name, missing = counted.refused, "attached again");
                }
                Err(error) => {
                    let refused = format!("{error:#}");
                    if counted.refused != refused {
                        warn!(interface = link.name, "not attached: {refused}");
                    }
                    counted.refused = refused;
                }
            }
            self.counted.insert(ifindex, counted);
        }
    }

    /// Does as told. Counters stay as they are.
    ///
    /// # Errors
    /// If the programs cannot be told; then nothing has changed.
    pub fn obey(&mut self, order: Order) -> anyhow::Result<State> {
        // What came until now belongs to the state until now.
        self.witnesses.hurry();
        self.read_witnesses();
        let before = self.state;
        match (order, before) {
            (Order::Resume, _) => {
                self.loaded.beat()?;
                self.state = State::Running;
                self.hang_where(|_, counted| counted.attached.is_none());
            }
            // What is detached is more than paused.
            (Order::Pause, State::Detached) => {}
            (Order::Pause, State::Running | State::Paused) => {
                self.loaded.pause()?;
                self.state = State::Paused;
            }
            (Order::Detach, _) => {
                self.loaded.pause()?;
                self.state = State::Detached;
                for counted in self.counted.values_mut() {
                    counted.attached = None;
                    counted.described.clear();
                    counted.refused.clear();
                    counted.lost = false;
                }
                remove_leftovers();
            }
        }
        self.sent.stand_still(self.state != State::Running);
        if before != self.state {
            info!("{} by `lossprobe {}`", self.state.id(), order.id());
        }
        Ok(self.state)
    }
}
