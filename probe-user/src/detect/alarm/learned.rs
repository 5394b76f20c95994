//! What detectors have learned, for a state folder: an agent that is started again need not begin as if it knew nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Alarms, Kind, UNITS, Watch, count, count::Count, share::Share, usual};
use crate::detect::{baseline::Baseline, second::Unit};

/// Version of the JSON form. It is read by its own version only.
const SCHEMA: u32 = 1;

/// What is usual, by unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    schema: u32,
    units: Vec<OfUnit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OfUnit {
    unit: Unit,
    shares: BTreeMap<Kind, Baseline>,
    counts: BTreeMap<Kind, count::Usual>,
    dropped: usual::Usual,
}

impl Learned {
    /// Whether an agent can have written this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_sound = |of: &OfUnit| {
            let shares = of.shares.iter().all(|(kind, baseline)| !kind.counts() && baseline.is_sound());
            shares && of.counts.iter().all(|(kind, usual)| kind.counts() && usual.is_sound()) && of.dropped.is_sound()
        };
        self.schema == SCHEMA && self.units.len() <= UNITS && self.units.iter().all(is_sound)
    }
}

impl Alarms {
    /// Detectors that know what is usual, and nothing else.
    #[must_use]
    pub fn knowing(learned: Learned) -> Self {
        let watch = |of: OfUnit| Watch {
            shares: of.shares.into_iter().map(|(kind, baseline)| (kind, Share::knowing(baseline))).collect(),
            counts: of.counts.into_iter().map(|(kind, usual)| (kind, Count::knowing(usual))).collect(),
            usual: of.dropped,
            ..Watch::default()
        };
        Self { watched: learned.units.into_iter().map(|of| (of.unit.clone(), watch(of))).collect(), ..Self::default() }
    }

    /// What there is to know.
    #[must_use]
    pub fn learned(&self) -> Learned {
        let of = |(unit, watch): (&Unit, &Watch)| OfUnit {
            unit: unit.clone(),
            shares: watch.shares.iter().map(|(kind, share)| (*kind, share.usual())).collect(),
            counts: watch.counts.iter().map(|(kind, count)| (*kind, count.usual())).collect(),
            dropped: watch.usual,
        };
        Learned { schema: SCHEMA, units: self.watched.iter().map(of).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::second::{Counts, Second};

    fn hour(alarms: &mut Alarms, lost: u64) {
        for second in 1..=3_600 {
            let counts = Counts {
                segments: [1_000; 2],
                frames: [1_000; 2],
                lost: [lost, 0, 0],
                malformed_path: u64::from(second % 20 == 0),
                ..Counts::default()
            };
            let units = [(Unit::Group("uplinks".into()), counts)].into();
            alarms.add(&Second { uptime_ms: second * 1_000, duration_ms: 1_000, units });
        }
    }

    #[test]
    fn a_successor_knows_what_is_usual() {
        let mut alarms = Alarms::default();
        hour(&mut alarms, 2);
        let learned = alarms.learned();
        assert!(learned.is_sound());
        let text = serde_json::to_string(&learned).unwrap();
        let read: Learned = serde_json::from_str(&text).unwrap();
        let mut successor = Alarms::knowing(read);
        assert_eq!(successor.learned(), learned);
        let baseline = |alarms: &mut Alarms| {
            let counts = Counts { segments: [1_000; 2], frames: [1_000; 2], lost: [2, 0, 0], ..Counts::default() };
            let units = [(Unit::Group("uplinks".into()), counts)].into();
            let detectors = alarms.add(&Second { uptime_ms: 1_000, duration_ms: 1_000, units });
            let of = |kind| detectors.iter().find(|detector| detector.kind == kind).map_or(0.0, |of| of.baseline);
            [Kind::NetworkIn, Kind::MalformedPath].map(of)
        };
        let [share, rate] = baseline(&mut successor);
        assert!((share - 0.002).abs() < 1e-4 && (rate - 0.05).abs() < 5e-3, "{share} {rate}");
        assert!(baseline(&mut Alarms::default())[1] < 1e-9, "who knows nothing");
    }

    #[test]
    fn what_no_agent_has_written() {
        let mut alarms = Alarms::default();
        hour(&mut alarms, 0);
        let text = serde_json::to_string(&alarms.learned()).unwrap();
        let is_sound = |text: &str| serde_json::from_str::<Learned>(text).is_ok_and(|learned| learned.is_sound());
        assert!(is_sound(&text));
        for (from, to) in [
            ("\"schema\":1", "\"schema\":2"),
            ("\"passed\":", "\"passed\":-"),
            ("\"count\":", "\"count\":1e999,\"x\":"),
            ("\"ms\":", "\"ms\":0.0,\"x\":"),
            ("\"network_in\"", "\"link\""),
            ("\"units\"", "\"unit\""),
        ] {
            assert!(!is_sound(&text.replacen(from, to, 1)), "{to}");
        }
    }
}
