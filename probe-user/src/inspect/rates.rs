//! What happened between two snapshots, per second.

use serde::Serialize;

use crate::{
    export::samples::{DropKey, drops},
    snapshot::{BadChecksums, Interface, Retransmitted, Snapshot, Traffic, XdpFailed},
};

/// Per-second rates; the lists are in the order of the later snapshot's.
#[derive(Debug, Serialize)]
pub(super) struct Rates<'s> {
    /// Seconds between the snapshots.
    pub(super) seconds: f64,
    pub(super) interfaces: Vec<InterfaceRates<'s>>,
    /// In the order of [`drops`].
    pub(super) drops: Vec<DropRate<'s>>,
    pub(super) xdp_failed: Vec<XdpFailedRate<'s>>,
    pub(super) tcp: TcpRates<'s>,
}

#[derive(Debug, Serialize)]
pub(super) struct InterfaceRates<'s> {
    pub(super) name: &'s str,
    pub(super) ingress: TrafficRates,
    pub(super) egress: TrafficRates,
    pub(super) malformed: Vec<MalformedRate<'s>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct TrafficRates {
    pub(super) frames: f64,
    pub(super) bytes: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct MalformedRate<'s> {
    pub(super) direction: &'s str,
    pub(super) reason: &'s str,
    pub(super) frames: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct DropRate<'s> {
    pub(super) netns: &'s str,
    pub(super) interface: &'s str,
    pub(super) reason: &'s str,
    pub(super) class: &'s str,
    pub(super) packets: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct XdpFailedRate<'s> {
    pub(super) interface: &'s str,
    pub(super) cause: &'s str,
    pub(super) packets: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct TcpRates<'s> {
    pub(super) sent_segments: Option<f64>,
    pub(super) retransmitted: Vec<RetransmittedRate<'s>>,
    pub(super) bad_checksums: Vec<BadChecksumsRate<'s>>,
}

#[derive(Debug, Serialize)]
pub(super) struct BadChecksumsRate<'s> {
    pub(super) interface: &'s str,
    pub(super) segments: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct RetransmittedRate<'s> {
    pub(super) interface: &'s str,
    #[serde(rename = "type")]
    pub(super) kind: &'s str,
    pub(super) segments: f64,
}

impl<'s> Rates<'s> {
    /// `None` if no time has passed, or the agent has started anew.
    pub(super) fn between(previous: &Snapshot, now: &'s Snapshot) -> Option<Self> {
        let elapsed_ms = now.uptime_ms.checked_sub(previous.uptime_ms).filter(|elapsed_ms| *elapsed_ms > 0)?;
        let per_second = PerSecond { elapsed_ms };
        let drops_before = drops(previous);
        let drop_rate = |(key, packets): (DropKey<'s>, u64)| DropRate {
            netns: key.netns,
            interface: key.interface,
            reason: key.reason,
            class: key.class,
            packets: per_second.rate(drops_before.get(&key).copied(), packets),
        };
        Some(Self {
            seconds: per_second.seconds(),
            interfaces: now.interfaces.iter().map(|interface| per_second.interface(previous, interface)).collect(),
            drops: drops(now).into_iter().map(drop_rate).collect(),
            xdp_failed: now.xdp_failed.iter().map(|row| per_second.frames(previous, row)).collect(),
            tcp: TcpRates {
                sent_segments: previous
                    .tcp
                    .sent_segments
                    .zip(now.tcp.sent_segments)
                    .map(|(before, now)| per_second.rate(Some(before), now)),
                retransmitted: now.tcp.retransmitted.iter().map(|row| per_second.segments(previous, row)).collect(),
                bad_checksums: now.tcp.bad_checksums.iter().map(|row| per_second.bad(previous, row)).collect(),
            },
        })
    }
}

#[derive(Clone, Copy)]
struct PerSecond {
    elapsed_ms: u64,
}

impl PerSecond {
    fn seconds(self) -> f64 {
        float(self.elapsed_ms) / 1000.0
    }

    /// To the thousandth. What was not there before started at 0.
    fn rate(self, before: Option<u64>, now: u64) -> f64 {
        let difference = now.saturating_sub(before.unwrap_or(0));
        (float(difference) / self.seconds() * 1000.0).round() / 1000.0
    }

    fn interface<'s>(self, previous: &Snapshot, now: &'s Interface) -> InterfaceRates<'s> {
        // One of the same name and another index is another interface.
        let same = |before: &&Interface| before.name == now.name && before.ifindex == now.ifindex;
        let before = previous.interfaces.iter().find(same);
        let traffic = |before: Option<Traffic>, now: Traffic| TrafficRates {
            frames: self.rate(before.map(|traffic| traffic.frames), now.frames),
            bytes: self.rate(before.map(|traffic| traffic.bytes), now.bytes),
        };
        let malformed = |now: &'s crate::snapshot::Malformed| {
            let before = before.and_then(|before| {
                before.malformed.iter().find(|row| row.direction == now.direction && row.reason == now.reason)
            });
            let frames = self.rate(before.map(|row| row.frames), now.frames);
            MalformedRate { direction: &now.direction, reason: &now.reason, frames }
        };
        InterfaceRates {
            name: &now.name,
            ingress: traffic(before.map(|before| before.ingress), now.ingress),
            egress: traffic(before.map(|before| before.egress), now.egress),
            malformed: now.malformed.iter().map(malformed).collect(),
        }
    }

    fn frames<'s>(self, previous: &Snapshot, now: &'s XdpFailed) -> XdpFailedRate<'s> {
        let same = |row: &&XdpFailed| row.interface == now.interface && row.cause == now.cause;
        let before = previous.xdp_failed.iter().find(same).map(|row| row.packets);
        XdpFailedRate { interface: &now.interface, cause: &now.cause, packets: self.rate(before, now.packets) }
    }

    fn bad<'s>(self, previous: &Snapshot, now: &'s BadChecksums) -> BadChecksumsRate<'s> {
        let before = previous.tcp.bad_checksums.iter().find(|row| row.interface == now.interface);
        let segments = self.rate(before.map(|row| row.segments), now.segments);
        BadChecksumsRate { interface: &now.interface, segments }
    }

    fn segments<'s>(self, previous: &Snapshot, now: &'s Retransmitted) -> RetransmittedRate<'s> {
        let same = |row: &&Retransmitted| row.interface == now.interface && row.kind == now.kind;
        let before = previous.tcp.retransmitted.iter().find(same).map(|row| row.segments);
        RetransmittedRate { interface: &now.interface, kind: &now.kind, segments: self.rate(before, now.segments) }
    }
}

/// Exact up to 2^53, which no rate for a human needs.
#[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}
