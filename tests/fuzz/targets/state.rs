//! Any bytes as a file of the state folder: an incident, minutes of the objective, what is usual.
//!
//! Held: nothing panics, whatever is taken for a good file: it is gone on with for a minute, and shown in every form; what an
//! agent would write then it could read again; and no text in it becomes markup of a page.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use probe_user::{
    detect::{
        alarm::{Alarms, Learned},
        incident::{Incident, Incidents, Kept, Thresholds},
        objective::Month,
        second::{Counts, Second, Unit},
        verdict::Verdict,
    },
    record::report::{Facts, html, markdown},
};
use serde::{Serialize, de::DeserializeOwned};

const SECONDS: u64 = 60;

fuzz_target!(|input: &[u8]| {
    let Some((kind, file)) = input.split_first() else { return };
    match kind {
        b'i' => incident(file),
        b'm' => month(file),
        _learned => learned(file),
    }
});

fn incident(file: &[u8]) {
    let Some(incident) = read(file, |incident: &Incident| incident.check().is_ok()) else { return };
    shown(&incident);
    let kept = Kept { incidents: vec![incident], ..Kept::default() };
    let mut incidents = Incidents::new(Thresholds::default(), 99.9, kept);
    for second in 1..=SECONDS {
        let at = format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        incidents.add(&at, &[], &Verdict::default(), &self::second(second, second % 7));
    }
    for incident in incidents.iter() {
        again(incident, |incident| incident.check().is_ok());
        shown(incident);
    }
    again(incidents.month(), Month::is_sound);
}

fn month(file: &[u8]) {
    let Some(mut month) = read(file, Month::is_sound) else { return };
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    month.add(now, 1_000);
    assert!(month.minutes(now).is_finite(), "{month:?}");
}

fn learned(file: &[u8]) {
    let Some(learned) = read(file, Learned::is_sound) else { return };
    let mut alarms = Alarms::knowing(learned);
    for second in 1..=SECONDS {
        for detector in alarms.add(&self::second(second, 0)) {
            assert!(detector.baseline.is_finite(), "{detector:?}");
        }
    }
    again(&alarms.learned(), Learned::is_sound);
}

fn read<T: DeserializeOwned>(file: &[u8], is_good: impl Fn(&T) -> bool) -> Option<T> {
    serde_json::from_slice(file).ok().filter(is_good)
}

fn again<T: Serialize + DeserializeOwned>(value: &T, is_good: impl Fn(&T) -> bool) {
    let text = serde_json::to_vec(value).expect("JSON");
    assert!(read(&text, is_good).is_some(), "{}", String::from_utf8_lossy(&text));
}

fn shown(incident: &Incident) {
    let _text = markdown::write(incident, &Facts::default());
    let page = html::write(incident, &Facts::default()).to_ascii_lowercase();
    for markup in ["<script", "<img", "<iframe", "<a "] {
        assert!(!page.contains(markup), "{page}");
    }
}

/// An ordinary one, in which some segments are lost.
fn second(number: u64, lost: u64) -> Second {
    let counts = Counts { segments: [1_000; 2], frames: [1_000; 2], lost: [lost, 0, 0], ..Counts::default() };
    let units = BTreeMap::from([(Unit::Group("uplinks".to_owned()), counts)]);
    Second { uptime_ms: number * 1_000, duration_ms: 1_000, units }
}
