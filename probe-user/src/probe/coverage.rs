//! How much of what a device has counted our hooks have seen: hardware offload, SR-IOV and AF_XDP take frames past them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use probe_ebpf::abi::Direction;

/// How far back a ratio looks.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two readings at least; scrapes come as they like.
const READ_EVERY: Duration = Duration::from_millis(900);
/// Packets of the device in the window at least: those between the two readings are seen on one side only.
const LEAST_PACKETS: u64 = 500;

/// Counters of one device at one instant, by direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    /// Segments at our hooks.
    pub(super) hook: [u64; 2],
    /// Packets that the device has counted.
    pub(super) device: [u64; 2],
}

/// The readings of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    readings: VecDeque<Reading>,
}

impl Coverage {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.readings.back().is_none_or(|last| now.duration_since(last.at) >= READ_EVERY)
    }

    pub(super) fn add(&mut self, reading: Reading) {
        self.readings.push_back(reading);
        // One that is old enough stays as the beginning.
        while self.readings.get(1).is_some_and(|second| reading.at.duration_since(second.at) >= WINDOW) {
            self.readings.pop_front();
        }
    }

    /// Segments at the hook for each packet of the device; `None` where too little has passed to say, or a counter has
    /// been reset.
    pub(super) fn ratio(&self, direction: Direction) -> Option<f64> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let since =
            |of: fn(&Reading) -> [u64; 2]| of(last)[direction as usize].checked_sub(of(first)[direction as usize]);
        let (hook, device) = (since(|reading| reading.hook)?, since(|reading| reading.device)?);
        #[expect(clippy::cast_precision_loss, reason = "what passes in ten seconds is far below 2^53")]
        (device >= LEAST_PACKETS).then(|| hook as f64 / device as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings a second apart: (hook, device) of ingress, and nothing at egress.
    fn after(readings: &[(u64, u64)]) -> Coverage {
        let (start, mut coverage) = (Instant::now(), Coverage::default());
        for (second, (hook, device)) in (0..).zip(readings) {
            let at = start + Duration::from_secs(second);
            coverage.add(Reading { at, hook: [*hook, 0], device: [*device, 0] });
        }
        coverage
    }

    #[test]
    fn ratios() {
        for (name, readings, expected) in [
            ("nothing yet", &[][..], None),
            ("one reading", &[(5000, 5000)], None),
            ("all seen", &[(0, 70_000), (1000, 71_000), (2000, 72_000)], Some(1.0)),
            ("a quarter passes by", &[(0, 0), (750, 1000)], Some(0.75)),
            ("all passes by", &[(0, 0), (0, 1000)], Some(0.0)),
            ("too little", &[(0, 0), (499, 499)], None),
            ("just enough", &[(0, 0), (500, 500)], Some(1.0)),
            ("the driver was reset", &[(0, 9000), (1000, 10)], None),
        ] {
            assert_eq!(after(readings).ratio(Direction::Ingress), expected, "{name}");
            assert_eq!(after(readings).ratio(Direction::Egress), None, "{name}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        // A bypass in the first three seconds, then 20 s without.
        let readings: Vec<_> = (0..=23_u64).map(|second| (1000 * second.saturating_sub(3), 1000 * second)).collect();
        assert_eq!(after(&readings[..=10]).ratio(Direction::Ingress), Some(0.7));
        assert_eq!(after(&readings[..=13]).ratio(Direction::Ingress), Some(1.0));
        let coverage = after(&readings);
        assert_eq!(coverage.ratio(Direction::Ingress), Some(1.0));
        assert_eq!(coverage.readings.len(), 11, "bounded");
    }

    #[test]
    fn not_read_more_often_than_needed() {
        let coverage = after(&[(0, 0)]);
        let at = coverage.readings[0].at;
        assert!(Coverage::default().is_due(at));
        assert!(!coverage.is_due(at + Duration::from_millis(899)) && coverage.is_due(at + READ_EVERY));
    }
}
