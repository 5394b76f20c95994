use super::*;
use crate::snapshot::{Drop, Interface, SideLoss, Wire};

/// An uplink that has seen so many frames, at a second of an agent's life.
pub(crate) fn snapshot(second: u64, frames: u64) -> Snapshot {
    let begin: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
    let wire = Wire {
        lost: [("network_in".to_owned(), SideLoss { segments: frames / 100, share: None })].into(),
        ..Wire::default()
    };
    let interface = Interface {
        name: "eth0".to_owned(),
        role: "uplink".to_owned(),
        ingress: Traffic { frames, bytes: frames * 1_000, ..Traffic::default() },
        wire: Some(wire),
        ..Interface::default()
    };
    Snapshot {
        time: (begin + jiff::SignedDuration::from_secs(second as i64)).to_string(),
        uptime_ms: second * 1_000,
        interfaces: vec![interface],
        ..Snapshot::default()
    }
}

fn total(recording: &Recording, area: Area, name: &str) -> u64 {
    let changes = recording.steps().flat_map(|step| step.changes());
    changes.filter(|(series, _)| series.area == area && series.name == name).map(|(_, more)| more).sum()
}

#[test]
fn what_has_grown_is_kept() {
    let mut history = History::new(DEFAULT_LENGTH);
    for (second, frames) in [(7, 1_000), (8, 1_500), (9, 1_500), (11, 1_800)] {
        history.add(&snapshot(second, frames));
    }
    let recording = history.recording();
    let steps: Vec<_> = recording.steps().map(|step| (step.uptime_ms, step.duration_ms)).collect();
    assert_eq!(steps, [(8_000, 1_000), (9_000, 1_000), (11_000, 2_000)]);
    assert_eq!(recording.steps().nth(1).unwrap().changes().count(), 0);
    assert_eq!(total(&recording, Area::Traffic, "in frames"), 800, "the first snapshot is not growth");
    assert_eq!(total(&recording, Area::Path, "lost network_in"), 8);
    assert_eq!(recording.steps().last().unwrap().time.to_string(), "2026-11-26T10:00:11Z");
}

#[test]
fn what_falls_or_comes_late_or_twice_is_no_growth_but_its_own() {
    let mut history = History::new(DEFAULT_LENGTH);
    let drop = |family: &str, packets| Drop {
        netns: "own".to_owned(),
        reason: "netfilter_drop".to_owned(),
        class: "policy".to_owned(),
        family: family.to_owned(),
        packets,
        ..Drop::default()
    };
    history.add(&snapshot(1, 1_000));
    history.add(&Snapshot { drops: vec![drop("ipv4", 3), drop("ipv6", 4)], ..snapshot(2, 400) });
    history.add(&Snapshot { drops: vec![drop("ipv4", 5), drop("ipv6", 4)], ..snapshot(3, 500) });
    history.add(&snapshot(3, 900));
    let recording = history.recording();
    assert_eq!(recording.steps().count(), 2, "a second that is none is passed over");
    assert_eq!(total(&recording, Area::Traffic, "in frames"), 100);
    assert_eq!(total(&recording, Area::Drops, "policy netfilter_drop"), 9);
}

#[test]
fn the_older_half_is_coarse_and_nothing_is_lost_by_it() {
    let mut history = History::new(Duration::from_secs(200));
    for second in 1..=1_000 {
        history.add(&snapshot(second, second * 7));
    }
    let recording = history.recording();
    let steps: Vec<_> = recording.steps().collect();
    let coarse = steps.iter().filter(|step| step.duration_ms == 10_000).count();
    assert!((8..=10).contains(&coarse) && steps.len() <= 10 + 112, "{coarse} of {}", steps.len());
    assert!(steps.windows(2).all(|pair| pair[1].uptime_ms - pair[1].duration_ms == pair[0].uptime_ms), "no gaps");
    let covered: u64 = steps.iter().map(|step| step.duration_ms / 1_000).sum();
    assert!((200..=210).contains(&covered), "{covered} s");
    assert_eq!(total(&recording, Area::Traffic, "in frames"), covered * 7);
}

/// A machine on which everything happens: the oldest goes, and no series is lost that is still told.
#[test]
fn it_is_bounded_in_bytes() {
    let mut history = History::new(DEFAULT_LENGTH);
    let busy = |second: u64| {
        let interfaces = (0..450).map(|number| Interface {
            name: format!("eth{number}"),
            ingress: Traffic { frames: second * 100_000, bytes: second * 100_000_000, ..Traffic::default() },
            egress: Traffic { frames: second * 90_000, bytes: second * 9_000_000, ..Traffic::default() },
            ..Interface::default()
        });
        Snapshot { interfaces: interfaces.collect(), ..snapshot(second, 0) }
    };
    for second in 1..=2_500 {
        history.add(&busy(second));
        assert!(history.bytes() <= MOST_BYTES, "{} bytes after {second} s", history.bytes());
    }
    assert!(history.bytes() > MOST_BYTES * 9 / 10, "{} bytes", history.bytes());
    let recording = history.recording();
    let reach: u64 = recording.steps().map(|step| step.duration_ms / 1_000).sum();
    assert!(reach > 600, "{reach} s of 450 busy interfaces");
    let held = recording.steps.iter().map(|step| step.changes.len() + STEP_BYTES).sum::<usize>()
        + recording.series.iter().flatten().map(|series| series.bytes()).sum::<usize>();
    assert_eq!(held, history.bytes());
}

/// Interfaces that come and go take no room for good; too many at once are counted.
#[test]
fn series_are_bounded() {
    let mut history = History::new(Duration::from_secs(20));
    let with = |second: u64, names: std::ops::Range<u64>| {
        let interfaces = names.map(|number| Interface {
            name: format!("tap{number}"),
            ingress: Traffic { frames: second, ..Traffic::default() },
            ..Interface::default()
        });
        Snapshot { interfaces: interfaces.collect(), ..snapshot(second, 0) }
    };
    let mut most_left_out = 0;
    for second in 1..=200 {
        history.add(&with(second, second * 1_000..(second + 1) * 1_000));
        most_left_out = most_left_out.max(history.left_out);
    }
    assert!(history.series.len() <= MOST_SERIES && most_left_out > 0, "20 s of a thousand others do not fit");
    for second in 300..=400 {
        history.add(&with(second, 0..3));
    }
    history.add(&with(401, 0..MOST_SERIES as u64));
    assert_eq!(history.left_out, 0, "what is gone has made room");
    history.add(&with(402, 0..MOST_SERIES as u64 + 5));
    assert_eq!(history.left_out, 5);
}

#[test]
fn numbers_survive_their_encoding() {
    let changes = [(0, 1), (1, 127), (130, 128), (16_383, u64::MAX), (u32::MAX, 300)];
    assert_eq!(decode(&encode(&changes)).collect::<Vec<_>>(), changes);
    assert_eq!(decode(&[0x80]).count() + decode(&[5]).count(), 0, "no change is made of a part");
}
