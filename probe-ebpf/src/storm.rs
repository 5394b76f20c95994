//! What the drop program does when drops come so fast that attributing each would take the CPU away from the packets.

use crate::abi::DropKey;

/// Drop events in a tenth of a second on one CPU above which a storm is on: 100,000 in a second.
pub const STORM_EVENTS: u64 = 10_000;
/// In a storm one event in this many, at random distances, shows the interface of those behind it.
pub const STORM_SAMPLE: u64 = 64;
/// Reasons that a storm counts apart; drops with a greater number (of subsystems) are attributed one by one.
pub const STORM_REASONS: u32 = 160;

/// How fast drops come on one CPU. While a storm is on, drops are counted by reason and function, and now and then all that wait
/// are counted as what the sample before them was: these sums stay exact, interface, namespace and family are a sample's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Storm {
    /// Jiffies at which the current tenth of a second began.
    pub since: u64,
    /// Drop events in it.
    pub events: u64,
    /// Segments in [`map::WAITING`](crate::abi::map::WAITING).
    pub waiting: u64,
    /// State of the generator of distances.
    pub random: u64,
    /// 1 while a storm is on.
    pub on: u32,
    /// 1 while this entry is being used: a program that interrupts itself must not use it.
    pub busy: u32,
}
const _: () = assert!(size_of::<Storm>() == 40);

/// Drops of one reason and function on one CPU that wait to be attributed, and the sample before them, whose they are said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Waiting {
    /// Segments.
    pub segments: u64,
    /// The sample's [`location`](DropKey::location).
    pub location: u64,
    /// The sample's interface if it is of the agent's network namespace, else its namespace.
    pub place: u32,
    /// Events until the next sample.
    pub until_sample: u16,
    /// The sample's [`Family`](crate::abi::Family).
    pub family: u8,
    /// 1 if the sample was of the agent's network namespace.
    pub is_own: u8,
}
const _: () = assert!(size_of::<Waiting>() == 24);

impl Waiting {
    /// None yet, behind a sample of this key, by an agent in namespace `own`.
    #[inline(always)]
    #[must_use]
    pub fn behind(sample: &DropKey, own: u32, distance: u16) -> Self {
        let is_own = sample.netns == own;
        Self {
            segments: 0,
            location: sample.location,
            place: if is_own { sample.ifindex } else { sample.netns },
            until_sample: distance,
            family: sample.family,
            is_own: u8::from(is_own),
        }
    }

    /// What they are counted as.
    #[inline(always)]
    #[must_use]
    pub fn key(&self, reason: u32, own: u32) -> DropKey {
        let (netns, ifindex) = if self.is_own == 0 { (self.place, 0) } else { (own, self.place) };
        DropKey { location: self.location, netns, ifindex, reason, family: self.family, pad: [0; 3] }
    }
}

impl Storm {
    /// Notes an event at `now` (jiffies). `true` if a storm is on.
    #[inline(always)]
    pub fn note(&mut self, now: u64, hertz: u64) -> bool {
        let tenth = hertz / 10;
        let elapsed = now.wrapping_sub(self.since);
        if elapsed >= tenth {
            // Not if nothing happened for a while after the last busy tenth.
            self.on = u32::from(self.events > STORM_EVENTS && elapsed < 2 * tenth);
            self.since = now;
            self.events = 0;
        }
        self.events += 1;
        if self.events > STORM_EVENTS {
            self.on = 1;
        }
        self.on != 0
    }

    /// Events until the next sample, [`STORM_SAMPLE`] on average: equal distances would miss an interface that drops in
    /// the same rhythm.
    #[inline(always)]
    pub fn distance(&mut self) -> u16 {
        const { assert!(STORM_SAMPLE == 64) };
        // Knuth's MMIX constants; the high bits are the good ones.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        33 + (self.random >> 58) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_begins_within_a_tenth_and_ends_when_it_slows_down() {
        const HERTZ: u64 = 250;
        let mut storm = Storm::default();
        let burst = |storm: &mut Storm, at: u64, events: u64| (0..events).map(|_| storm.note(at, HERTZ)).last();
        assert_eq!(burst(&mut storm, 1_000, STORM_EVENTS), Some(false));
        assert_eq!(burst(&mut storm, 1_024, 1), Some(true), "the same tenth of a second");
        assert_eq!(burst(&mut storm, 1_025, 1), Some(true), "the tenth before was busy");
        assert_eq!(burst(&mut storm, 1_050, 1), Some(false), "the tenth before was quiet");
        assert_eq!(burst(&mut storm, 1_060, STORM_EVENTS + 1), Some(true));
        assert_eq!(burst(&mut storm, 9_000, 1), Some(false), "after a long pause");
    }

    #[test]
    fn waiting_ones_are_what_the_sample_was() {
        const OWN: u32 = 4_026_531_840;
        for (netns, ifindex) in [(OWN, 7), (OWN, 0), (OWN + 1, 0), (0, 0)] {
            let sample = DropKey { location: 99, netns, ifindex, reason: 12, family: 1, pad: [0; 3] };
            assert_eq!(Waiting::behind(&sample, OWN, 64).key(12, OWN), sample);
        }
    }

    #[test]
    fn distances_are_64_on_average() {
        let mut storm = Storm::default();
        let distances: Vec<_> = (0..10_000).map(|_| storm.distance()).collect();
        assert!(distances.iter().all(|distance| (33..97).contains(distance)));
        let mean = distances.iter().map(|distance| f64::from(*distance)).sum::<f64>() / distances.len() as f64;
        assert!((mean - STORM_SAMPLE as f64).abs() < 1.0, "{mean}");
    }
}
