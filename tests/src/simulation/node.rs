//! The node: two uplinks, what passes them on an ordinary day, and the snapshots of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use probe_ebpf::{abi::Direction, flow::TcpEvent};
use probe_user::{
    conservation::own_losses,
    derive::{PathLoss, PathSide, Totals},
    snapshot::{Interface, Snapshot},
};

use super::{
    loss::Loss,
    random::Random,
    shape::{DROPS_COUNT, Dropped, counter, write},
    traffic::{FOLLOWED, Traffic},
    uplink::Uplink,
};

/// What the other uplink has of the first one's traffic.
const BESIDE: f64 = 0.2;
/// Seconds over which devices are compared with hooks.
const COMPARED: usize = 10;
/// Frames that a device has counted in that time at least.
const LEAST_COMPARED: u64 = 500;
/// A device's own counters are fetched every so many seconds.
const FETCHED_EVERY: u64 = 2;

/// Events that happen on this node.
const EVENTS: [TcpEvent; 10] = [
    TcpEvent::RetransmitSeen,
    TcpEvent::HoleOpened,
    TcpEvent::HoleFilledRetransmit,
    TcpEvent::HoleFilledReorder,
    TcpEvent::Spurious,
    TcpEvent::SynRetransmit,
    TcpEvent::Dsack,
    TcpEvent::IdGap,
    TcpEvent::IdLate,
    TcpEvent::AckGap,
];

/// What is counted where no uplink is.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// In wire segments, by [`Dropped`].
    pub(super) drops: [u64; DROPS_COUNT],
    /// Drops that found no room in their map.
    pub(super) uncounted: u64,
    /// Runs of the program for drops that the kernel has skipped.
    pub(super) skipped: u64,
    /// Packets that the connection table had no room for.
    pub(super) table_full: u64,
}

impl Host {
    pub(super) fn drop(&mut self, what: Dropped, segments: u64) {
        self.drops[what as usize] += segments;
    }
}

/// The node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) host: Host,
    pub(super) uplinks: [Uplink; 2],
    /// What its paths usually lose.
    usual: Loss,
    traffic: [Traffic; 2],
    derived: [Derived; 2],
    start: Instant,
    /// Seconds since then.
    pub(super) at: u64,
}

/// What an agent keeps of an interface between two snapshots.
#[derive(Clone, Debug, Default)]
struct Derived {
    loss: PathLoss,
    /// Hooks' and device's frames of the last seconds, in and out.
    compared: VecDeque<[[u64; 2]; 2]>,
    /// What the device has shown last: no_buffer, crc, xdp_drop.
    fetched: [u64; 3],
}

impl Node {
    pub(super) fn new(mean: [f64; 2], usual: Loss) -> Self {
        Self {
            host: Host::default(),
            uplinks: [Uplink::default(), Uplink::default()],
            usual,
            traffic: [mean, mean.map(|mean| mean * BESIDE)].map(Traffic::new),
            derived: [Derived::default(), Derived::default()],
            start: Instant::now(),
            at: 0,
        }
    }

    /// An ordinary second begins. What the first uplink's connections have sent in it, in and out.
    pub(super) fn begin(&mut self, random: &mut Random) -> [u64; 2] {
        self.at += 1;
        let mut sent = [[0; 2]; 2];
        for ((uplink, traffic), sent) in self.uplinks.iter_mut().zip(&mut self.traffic).zip(&mut sent) {
            *sent = traffic.second(self.at, random);
            for (way, segments) in Direction::ALL.into_iter().zip(*sent) {
                uplink.pass(way, segments);
                let others = segments as f64 * (1.0 / FOLLOWED - 1.0);
                uplink.frames[way as usize] += random.poisson(others);
            }
            let lost = sent.map(|segments| self.usual.of(segments, random));
            uplink.miss(Direction::Ingress, lost[0], random);
            uplink.sent_again(Direction::Egress, lost[1], random);
        }
        self.host.ordinary(&mut self.uplinks[0], sent[0], random);
        sent[0]
    }

    /// The second is over.
    pub(super) fn end(&mut self) {
        self.uplinks.iter_mut().for_each(Uplink::settle);
    }

    /// Writes what was counted into a snapshot of this node's shape.
    pub(super) fn show(&mut self, snapshot: &mut Snapshot) {
        snapshot.uptime_ms = self.at * 1_000;
        for (drop, packets) in snapshot.drops.iter_mut().zip(self.host.drops) {
            drop.packets = packets;
        }
        for failed in snapshot.probe.map_update_failed.iter_mut().filter(|failed| failed.map == "drops") {
            failed.count = if failed.cause == "full" { self.host.uncounted } else { 0 };
        }
        write(&mut snapshot.probe.program_missed, "lossprobe_drop4", self.host.skipped);
        let table = snapshot.protocols.iter_mut().filter(|error| error.cause == "table_full");
        table.for_each(|error| error.count = self.host.table_full);
        let now = self.start + Duration::from_secs(self.at);
        for at in 0..self.uplinks.len() {
            let (uplink, derived) = (&self.uplinks[at], &mut self.derived[at]);
            if self.at.is_multiple_of(FETCHED_EVERY) || snapshot.interfaces[at].coverage.ingress.is_none() {
                derived.fetched = [uplink.no_buffer, uplink.crc, uplink.xdp_drop];
            }
            show_counters(&mut snapshot.interfaces[at], uplink, derived.fetched);
            derived.compare(&mut snapshot.interfaces[at], uplink, self.host.drops);
            let own = own_losses(snapshot, &snapshot.interfaces[at]).map(|classes| classes.iter().sum::<u64>());
            derived.loss.add(now, totals(uplink, own));
            show_losses(&mut snapshot.interfaces[at], &derived.loss);
        }
    }
}

impl Host {
    /// What an ordinary second has besides: scanners, senders that guess wrong, packets that overtake each other, a queue
    /// that was full for a moment.
    fn ordinary(&mut self, uplink: &mut Uplink, [came, went]: [u64; 2], random: &mut Random) {
        let few = |segments: u64, share: f64| segments as f64 * share;
        let guessed = random.poisson(few(went, 1e-5));
        uplink.needless(Direction::Egress, guessed, 1, random);
        let overtaken = random.poisson(few(came, 1e-4));
        uplink.overtaken(Direction::Ingress, overtaken, random);
        self.drop(Dropped::Filter, random.poisson(2.0));
        self.drop(Dropped::NoSocket, random.poisson(0.5));
        self.drop(Dropped::Unspecified, random.poisson(0.2));
        uplink.malformed[1] += random.poisson(1e-3);
        uplink.event(0, Direction::Ingress, TcpEvent::SynRetransmit, random.poisson(0.05));
        if random.happens(few(went, 1e-6).min(1e-3)) {
            let dropped = random.trains(1, 8.0);
            uplink.queued_packets += 1;
            self.drop(Dropped::Queue, dropped);
            uplink.sent_again(Direction::Egress, dropped, random);
        }
        if random.happens(1e-4) {
            let dropped = random.trains(1, 20.0);
            uplink.no_buffer += dropped;
            let followed = random.binomial(dropped, FOLLOWED);
            uplink.miss(Direction::Ingress, followed, random);
        }
    }
}

impl Derived {
    /// As the agent compares a device that counts wire frames with its hooks.
    fn compare(&mut self, interface: &mut Interface, uplink: &Uplink, drops: [u64; DROPS_COUNT]) {
        let (Some(ingress), Some(egress)) = (&mut interface.balance.ingress, &mut interface.balance.egress) else {
            return;
        };
        let of_this = |what: Dropped| if interface.name == super::shape::UPLINKS[0] { drops[what as usize] } else { 0 };
        let (before, behind) = (of_this(Dropped::InputQueue), of_this(Dropped::Queue));
        let device =
            [uplink.frames[0] + uplink.xdp_drop + before + uplink.bypassed, uplink.frames[1].saturating_sub(behind)];
        for (side, at) in [(&mut *ingress, 0), (&mut *egress, 1)] {
            (side.device_packets, side.hook_packets) = (device[at], uplink.frames[at]);
        }
        ingress.explained[0].packets = self.fetched[2];
        ingress.explained[1].packets = before;
        egress.explained[0].packets = behind;
        self.compared.push_back([uplink.frames, device]);
        if self.compared.len() > COMPARED {
            self.compared.pop_front();
        }
        let first = self.compared[0];
        let ratio = |at: usize| {
            let [hook, device] = [uplink.frames[at] - first[0][at], device[at].saturating_sub(first[1][at])];
            (device >= LEAST_COMPARED).then(|| hook as f64 / device as f64)
        };
        (interface.coverage.ingress, interface.coverage.egress) = (ratio(0), ratio(1));
    }
}

fn show_counters(interface: &mut Interface, uplink: &Uplink, fetched: [u64; 3]) {
    let traffic = [&mut interface.ingress, &mut interface.egress];
    for ((traffic, frames), segments) in traffic.into_iter().zip(uplink.frames).zip(uplink.segments) {
        (traffic.frames, traffic.tcp_segments) = (frames, segments);
    }
    for (kind, frames) in interface.malformed.iter_mut().zip(uplink.malformed) {
        kind.frames = frames;
    }
    interface.qdiscs[0].dropped_packets = uplink.queued_packets;
    for (cause, packets) in ["no_buffer", "crc", "xdp_drop"].into_iter().zip(fetched) {
        if let Some(counter) = counter(interface, cause) {
            *counter = packets;
        }
    }
    let Some(wire) = &mut interface.wire else { return };
    for (events, ledger) in [&mut wire.ingress, &mut wire.egress].into_iter().zip(&uplink.ledgers) {
        EVENTS.iter().for_each(|event| write(events, event.id(), ledger.of(*event)));
    }
}

/// As `probe::wire` reads them.
fn totals(uplink: &Uplink, [host_before, host_within, host_behind]: [u64; 3]) -> Totals {
    let of = |event: TcpEvent| uplink.ledgers.map(|ledger| ledger.of(event));
    let both = |one, other| uplink.ledgers.map(|ledger| ledger.of(one) + ledger.of(other));
    Totals {
        followed: uplink.segments,
        frames: uplink.frames,
        lost_before: uplink.ledgers.map(|ledger| ledger.lost_before),
        came_late: uplink.ledgers.map(|ledger| ledger.came_late),
        seen_again: of(TcpEvent::RetransmitSeen),
        known_needless: both(TcpEvent::Spurious, TcpEvent::Duplicate),
        not_needed: of(TcpEvent::Dsack),
        one_of: 1,
        host_before,
        host_behind,
        host_within,
    }
}

fn show_losses(interface: &mut Interface, loss: &PathLoss) {
    let Some(wire) = &mut interface.wire else { return };
    for side in PathSide::ALL {
        if let Some(lost) = wire.lost.get_mut(side.id()) {
            lost.segments = loss.lost(side);
        }
    }
    wire.judged_ratio = loss.judged();
}
