//! Comparing devices with hooks from a moment on, for the laws of [`conservation`](crate::conservation).

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use probe_ebpf::abi::Direction;

use super::Probe;
use crate::{
    collect::device::counts_wire_frames,
    conservation::{BACKLOG, between},
    snapshot::{self, Explained, Interface, Side, Snapshot, State},
};

/// Drivers fetch what their hardware has counted this often at least (two seconds in e1000e and igb): a figure may be as
/// old.
const OLDEST_FIGURE: Duration = Duration::from_secs(2);

/// One device.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// Segments at the hooks, by direction, of the last seconds.
    recent: VecDeque<(Instant, [u64; 2])>,
    base: Option<Base>,
    /// What the last comparison has shown.
    sides: [Option<Side>; 2],
}

/// Where the comparison begins.
#[derive(Clone, Debug)]
struct Base {
    device: [u64; 2],
    hook: [u64; 2],
    slack: [u64; 2],
    explained: [BTreeMap<String, u64>; 2],
}

impl Balance {
    /// What the figures of one moment have shown last. `read` are those of this moment, if they are of one.
    fn look(&mut self, now: Instant, read: Option<[[u64; 2]; 2]>, parts: &[Vec<Explained>; 2]) -> [Option<Side>; 2] {
        if let Some(figures) = read {
            self.sides = self.add(now, figures, parts);
        }
        self.sides.clone()
    }

    /// Takes figures read just now; what has passed since the comparison began, once it has.
    fn add(&mut self, now: Instant, [device, hook]: [[u64; 2]; 2], parts: &[Vec<Explained>; 2]) -> [Option<Side>; 2] {
        self.recent.push_back((now, hook));
        // One that is old enough stays as the beginning.
        while self.recent.get(1).is_some_and(|(second, _)| now.duration_since(*second) >= OLDEST_FIGURE) {
            self.recent.pop_front();
        }
        let Some((_, before)) = self.recent.front().filter(|(first, _)| now.duration_since(*first) >= OLDEST_FIGURE)
        else {
            return [None, None];
        };
        let slack = [0, 1].map(|at: usize| hook[at].saturating_sub(before[at]));
        let totals = |parts: &Vec<Explained>| {
            let totals = parts.iter().filter(|part| part.what != BACKLOG);
            totals.map(|part| (part.what.clone(), part.packets)).collect()
        };
        let begin = || Base { device, hook, slack, explained: parts.each_ref().map(totals) };
        // A driver's reset ends the comparison.
        let is_reset = |base: &Base| (0..2).any(|at| device[at] < base.device[at] || hook[at] < base.hook[at]);
        let base = match &mut self.base {
            Some(base) if !is_reset(base) => base,
            none => none.insert(begin()),
        };
        [0, 1].map(|at| {
            let since = |part: &Explained| Explained {
                what: part.what.clone(),
                packets: part.packets.saturating_sub(base.explained[at].get(&part.what).copied().unwrap_or(0)),
            };
            Some(Side {
                device_packets: device[at] - base.device[at],
                hook_packets: hook[at] - base.hook[at],
                slack_packets: slack[at] + base.slack[at],
                explained: parts[at].iter().map(since).collect(),
            })
        })
    }
}

impl Probe {
    /// Compares the devices of a snapshot that count wire frames with their hooks.
    pub(super) fn compare(&mut self, snapshot: &mut Snapshot) {
        let witnesses = &self.witnesses;
        let is_fresh = |ifindex| witnesses.is_fresh(ifindex);
        compare(&mut self.balances, (self.state, Instant::now()), is_fresh, snapshot);
    }
}

/// `is_fresh`: the device's figures are of this moment.
fn compare(
    balances: &mut BTreeMap<u32, Balance>,
    (state, now): (State, Instant),
    is_fresh: impl Fn(u32) -> bool,
    snapshot: &mut Snapshot,
) {
    if state != State::Running {
        balances.clear();
    }
    let mut compared = BTreeMap::new();
    for interface in &snapshot.interfaces {
        let counts = Direction::ALL.map(|direction| counts_wire_frames(&interface.driver, direction));
        let is_attached = |hooks: &[&str]| interface.attached.iter().any(|at| hooks.contains(&at.hook.as_str()));
        let attached = [is_attached(&["tc_ingress", "xdp"]), is_attached(&["tc_egress"])];
        let mut balance =
            snapshot::Balance { not_observable: why_not(interface, counts, attached), ..Default::default() };
        if (0..2).any(|at| counts[at] && !attached[at]) {
            // What passes while no hook looks is no loss.
            balances.remove(&interface.ifindex);
        } else if let (Some(passed), State::Running, true) = (interface.device.packets, state, counts != [false; 2]) {
            let (device, hook) = ([passed.ingress, passed.egress], [interface.ingress.frames, interface.egress.frames]);
            let known = balances.entry(interface.ifindex).or_default();
            let read = Some([device, hook]).filter(|_| is_fresh(interface.ifindex));
            let [ingress, egress] = known.look(now, read, &between(snapshot, interface));
            balance.ingress = ingress.filter(|_| counts[0] && attached[0]);
            balance.egress = egress.filter(|_| counts[1] && attached[1]);
        }
        if balance.ingress.is_some() && balance.egress.is_some() {
            balance.not_observable.clear();
        }
        compared.insert(interface.ifindex, balance);
    }
    balances.retain(|ifindex, _| compared.contains_key(ifindex));
    for interface in &mut snapshot.interfaces {
        interface.balance = compared.remove(&interface.ifindex).unwrap_or_default();
    }
}

fn why_not(interface: &Interface, counts: [bool; 2], attached: [bool; 2]) -> String {
    if counts == [false, false] {
        return match interface.driver.as_str() {
            "" => "its driver is not known".to_owned(),
            driver => format!("{driver} counts packets of any size as one, or is not known to count wire frames"),
        };
    }
    match (counts == [true, true], attached == [true, true]) {
        (false, _) => format!("{} counts wire frames in one direction only", interface.driver),
        (true, false) => "not every hook is attached".to_owned(),
        (true, true) => "compared once it has been watched for some seconds".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Attachment, Device, Passed, Traffic};

    /// What the device counts while a hook is away, nobody has seen.
    #[test]
    fn a_hook_that_was_away_begins_the_comparison_anew() {
        let start = Instant::now();
        let mut balances = BTreeMap::new();
        let mut at = |seconds: u64, device: u64, hook: u64, hooks: &[&str]| {
            let attached = |hook: &&str| Attachment { hook: (*hook).to_owned(), ..Attachment::default() };
            let interface = Interface {
                ifindex: 7,
                driver: "igb".to_owned(),
                attached: hooks.iter().map(attached).collect(),
                device: Device { packets: Some(Passed { ingress: device, egress: 0 }), ..Device::default() },
                ingress: Traffic { frames: hook, ..Traffic::default() },
                ..Interface::default()
            };
            let mut snapshot = Snapshot { interfaces: vec![interface], ..Snapshot::default() };
            compare(&mut balances, (State::Running, start + Duration::from_secs(seconds)), |_| true, &mut snapshot);
            let side = snapshot.interfaces.remove(0).balance.ingress;
            side.map(|side| (side.device_packets, side.hook_packets))
        };
        let both = &["tc_ingress", "tc_egress"];
        assert_eq!(at(0, 100, 100, both), None);
        assert_eq!(at(2, 100, 100, both), Some((0, 0)));
        assert_eq!(at(3, 150, 150, both), Some((50, 50)));
        assert_eq!(at(4, 1150, 150, &["tc_egress"]), None, "a thousand pass unseen");
        assert_eq!(at(5, 1150, 150, both), None, "nothing is known of before");
        assert_eq!(at(7, 1150, 150, both), Some((0, 0)), "and they are no loss");
        assert_eq!(at(8, 1160, 160, both), Some((10, 10)));
    }

    #[test]
    fn since_the_comparison_began() {
        let start = Instant::now();
        let mut balance = Balance::default();
        let mut at = |ms: u64, device: u64, hook: u64, dropped: u64, waits: u64| {
            let part = |what: &str, packets| Explained { what: what.to_owned(), packets };
            let parts = [vec![part("xdp_drop", dropped)], vec![part(BACKLOG, waits)]];
            // A device's figure of 0 here: it was not read at that moment.
            let read = (device > 0).then_some([[device, 0], [hook, 0]]);
            let [ingress, egress] = balance.look(start + Duration::from_millis(ms), read, &parts);
            ingress.map(|side| {
                let waits = egress.map(|side| side.explained[0].packets);
                (side.device_packets, side.hook_packets, side.slack_packets, side.explained[0].packets, waits)
            })
        };
        // The device was there long before, and something had been dropped.
        assert_eq!(
            at(0, 5000, 10, 7, 0),
            None,
            "nothing is known of what the hook saw when the device's figure was made"
        );
        assert_eq!(at(1000, 5010, 20, 7, 0), None);
        assert_eq!(at(2000, 5020, 30, 7, 3), Some((0, 0, 20 + 20, 0, Some(3))), "begins");
        assert_eq!(at(3000, 5130, 130, 17, 0), Some((110, 100, 110 + 20, 10, Some(0))));
        assert_eq!(at(3500, 0, 180, 47, 0), Some((110, 100, 110 + 20, 10, Some(0))), "the hook alone says nothing");
        assert_eq!(at(5000, 5130, 130, 17, 0), Some((110, 100, 20, 10, Some(0))), "at rest: slack is the beginning's");
        assert_eq!(at(6000, 9, 140, 17, 0), Some((0, 0, 10 + 10, 0, Some(0))), "the driver was reset");
    }
}
