//! Simulated paths, a second at a time. Figures that depend on chance come from seeds, so that each run has the same.

use std::time::Instant;

use super::*;
use crate::detect::baseline::{Baseline, Brought};

/// Numbers that only look random (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..8).for_each(|_| _ = random.next());
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Above 0 and at most 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// At least 1, `mean` on average.
    fn geometric(&mut self, mean: f64) -> u64 {
        if mean <= 1.0 { 1 } else { 1 + (self.share().ln() / (1.0 - 1.0 / mean).ln()) as u64 }
    }
}

/// A path that loses all in its bad times and nothing in its good ones (Gilbert 1960, Elliott 1963): such a share on
/// average, in trains of such a mean length; of length 1 losses are as good as independent.
struct Path {
    share: f64,
    train: f64,
    is_bad: bool,
    left: u64,
}

impl Path {
    fn new(share: f64, train: f64) -> Self {
        Self { share, train, is_bad: true, left: 0 }
    }

    /// How many of so many segments it loses.
    fn lose(&mut self, random: &mut Random, segments: u64) -> u64 {
        let (mut left, mut lost) = (if self.share > 0.0 { segments } else { 0 }, 0);
        while left > 0 {
            if self.left == 0 {
                self.is_bad = !self.is_bad;
                let good = self.train * (1.0 - self.share) / self.share;
                self.left = random.geometric(if self.is_bad { self.train } else { good });
            }
            let next = self.left.min(left);
            lost += if self.is_bad { next } else { 0 };
            left -= next;
            self.left -= next;
        }
        lost
    }
}

/// As with one group and one uplink.
fn tick(second: u64) -> Tick {
    Tick { now_ms: second * 1_000, duration_ms: 1_000, threshold: (BETWEEN_FALSE_ALARMS * 32.0).ln() }
}

/// Seconds in which `path` alarms within so many, and whether it is alarmed at the end.
fn alarms(
    share: &mut Share,
    path: &mut Path,
    random: &mut Random,
    (from, until, segments): (u64, u64, u64),
) -> Vec<u64> {
    let mut began = Vec::new();
    for second in from..until {
        let lost = path.lose(random, segments);
        if share.add(tick(second), lost, segments).times.is_some_and(|times| times.since_ms == second * 1_000) {
            began.push(second);
        }
    }
    began
}

const MEANS: [f64; 4] = [1e-6, 1e-4, 1e-3, 3e-3];
const TRAINS: [f64; 3] = [1.0, 5.0, 20.0];

/// What a path has always lost is no incident, also while the agent is new to it.
#[test]
fn false_alarms_of_ordinary_paths() {
    const WEEK: u64 = 604_800;
    let mut all = 0;
    for segments in [100, 500, 5_000] {
        for share in MEANS {
            for train in TRAINS {
                let mut random = Random::new(segments);
                let began =
                    alarms(&mut Share::default(), &mut Path::new(share, train), &mut random, (1, WEEK, segments));
                assert!(began.len() <= 1, "{segments}/s, {share} in trains of {train}: {began:?}");
                all += began.len();
            }
        }
    }
    println!("{all} false alarms in 36 weeks");
    // Six such detectors a node: less than one a week.
    assert!(all <= 3, "{all} in 36 weeks");
}

/// A percent more than usual, after ten minutes: seconds until the alarm, of so many seeds; half and 95 % of them.
fn seconds_to_alarm(segments: u64, usual: (f64, f64), wrong: (f64, f64)) -> [u64; 2] {
    const LEARNED: u64 = 600;
    let mut all: Vec<u64> = (0..100)
        .map(|seed| {
            let (mut random, mut share) = (Random::new(seed), Share::default());
            let (mut path, mut fault) = (Path::new(usual.0, usual.1), Path::new(wrong.0, wrong.1));
            alarms(&mut share, &mut path, &mut random, (1, LEARNED, segments));
            let alarmed = |second: &u64| {
                let lost = path.lose(&mut random, segments);
                let more = fault.lose(&mut random, segments - lost);
                share.add(tick(*second), lost + more, segments).times.is_some()
            };
            (LEARNED..LEARNED + 300).find(alarmed).map_or(300, |second| second - LEARNED + 1)
        })
        .collect();
    all.sort_unstable();
    [all[49], all[94]]
}

/// Two seconds of the ten are for what may explain a loss.
#[test]
fn time_to_detect() {
    for (segments, usual, wrong, half, most) in [
        (500, (1e-6, 1.0), (0.01, 1.0), 4, 6),
        (500, (1e-4, 1.0), (0.01, 1.0), 4, 6),
        (500, (1e-4, 20.0), (0.01, 1.0), 6, 8),
        (500, (1e-3, 1.0), (0.01, 1.0), 6, 8),
        (500, (3e-3, 1.0), (0.01, 1.0), 7, 9),
        (500, (1e-3, 1.0), (0.05, 1.0), 3, 3),
        (500, (1e-4, 1.0), (0.2, 20.0), 4, 6),
        (2_000, (1e-4, 1.0), (0.01, 1.0), 3, 3),
        (2_000, (1e-4, 5.0), (0.01, 5.0), 6, 8),
        (5_000, (1e-3, 5.0), (0.01, 1.0), 5, 6),
        // Ten fat flows, of which each loses something in every second.
        (20_000, (5e-4, 1.0), (0.003, 1.0), 4, 6),
        (20_000, (5e-4, 1.0), (0.01, 1.0), 3, 3),
        (20_000, (5e-4, 1.0), (0.2, 1.0), 3, 3),
        (20_000, (1e-3, 20.0), (0.01, 1.0), 6, 7),
        // Little traffic, and bursts in which a percent hides: later, and not never.
        (100, (1e-4, 1.0), (0.01, 1.0), 10, 20),
        (500, (1e-3, 5.0), (0.01, 1.0), 13, 25),
        (500, (3e-3, 20.0), (0.01, 1.0), 25, 50),
        (500, (3e-3, 20.0), (0.05, 1.0), 8, 11),
    ] {
        let found = seconds_to_alarm(segments, usual, wrong);
        println!("{segments:6}/s, usually {usual:?}, then {wrong:?} more: {found:?}");
        assert!(found[0] <= half && found[1] <= most, "{segments}/s, {usual:?}, {wrong:?}: {found:?}");
    }
}

/// Eight bad seconds every two minutes: whoever takes each for news hears eight pieces of news.
#[test]
fn runs_of_bad_seconds_are_learned() {
    let mut share = Share::default();
    for second in 1..86_400 {
        let lost = if second % 120 < 8 { 10 } else { 0 };
        assert_eq!(share.add(tick(second), lost, 500).times, None, "second {second}");
    }
}

/// What makes the mean of e^evidence of a second 1, as it is where segments are lost one by one (Wald 1947).
#[test]
fn evidence_of_trains() {
    for (train, times) in [(1.0_f64, 3.0_f64), (1.0, 1_000.0), (5.0, 3.0), (20.0, 3.0), (20.0, 10.0), (20.0, 1_000.0)] {
        // With trains of geometric length, which come at random: of a lost segment on average.
        let is_enough = |divisor: f64| {
            let grown = (times.ln() / divisor).exp();
            let left = train - (train - 1.0) * grown;
            left > 0.0 && (grown - 1.0) / left <= (times - 1.0) / divisor * (1.0 + 1e-9)
        };
        let exact = (100..100_000).map(|hundredths| f64::from(hundredths) / 100.0).find(|divisor| is_enough(*divisor));
        let found = share::trains(2.0 * train - 1.0, times) / exact.unwrap();
        assert!((0.9..1.1).contains(&found), "trains of {train}, {times} times: {found} of {exact:?}");
    }
}

/// Bursts before an incident are no part of it.
#[test]
fn onset_where_bursts_are_usual() {
    for (segments, usual, wrong) in [(100, (1e-3, 20.0), 0.05), (500, (3e-3, 20.0), 0.05), (5_000, (1e-4, 20.0), 0.01)]
    {
        let mut errors: Vec<u64> = (0..50)
            .map(|seed| {
                let (mut random, mut share) = (Random::new(seed), Share::default());
                let (mut path, mut fault) = (Path::new(usual.0, usual.1), Path::new(wrong, 1.0));
                alarms(&mut share, &mut path, &mut random, (1, 2_000, segments));
                let onset = |second: u64| {
                    let lost = path.lose(&mut random, segments);
                    let more = fault.lose(&mut random, segments - lost);
                    share.add(tick(second), lost + more, segments).times.map(|times| times.onset_ms)
                };
                (2_000..2_100).find_map(onset).unwrap().abs_diff(1_999_000)
            })
            .collect();
        errors.sort_unstable();
        println!(
            "{segments}/s, usually {usual:?}, then {wrong} more: onset within {} ms, {} ms",
            errors[24], errors[44]
        );
        assert!(errors[24] <= 1_000 && errors[44] <= 10_000, "{errors:?}");
    }
}

/// An agent that begins while something is wrong knows nothing of what is usual.
#[test]
fn begun_in_the_midst() {
    for (segments, wrong, within) in [(500, 0.05, 10), (500, 0.2, 10), (5_000, 0.02, 10), (20_000, 0.05, 6)] {
        let mut all: Vec<u64> = (0..50)
            .map(|seed| {
                let (mut random, mut path, mut share) = (Random::new(seed), Path::new(wrong, 1.0), Share::default());
                let alarmed = |second: &u64| {
                    let lost = path.lose(&mut random, segments);
                    share.add(tick(*second), lost, segments).times.is_some()
                };
                (1..100).find(alarmed).unwrap_or(100)
            })
            .collect();
        all.sort_unstable();
        println!("{segments}/s, {wrong} from the start: {} s, {} s", all[24], all[47]);
        assert!(all[47] <= within, "{segments}/s, {wrong}: {all:?}");
    }
}

#[test]
fn names() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.id());
        assert_eq!(Kind::ALL[kind as usize], kind);
    }
}

/// The paths on which a detector that caps the baseline, or starts from nothing, alarms for ever.
#[test]
fn an_ordinary_loss_never_alarms() {
    for (segments, share) in [(20_000, 5e-4), (500, 5e-4), (20, 5e-4), (20_000, 2e-3), (500, 3e-3)] {
        let mut detector = Share::default();
        let began = alarms(&mut detector, &mut Path::new(share, 1.0), &mut Random::new(1), (1, 86_400, segments));
        assert_eq!(began, Vec::<u64>::new(), "{segments}/s, {share}");
    }
}

/// What was lost is told two seconds later, when ten thousand times as much, or nothing, may pass.
#[test]
fn traffic_that_varies() {
    for (name, pattern) in [
        ("at random", None),
        ("one second in ten", Some([20_000, 2, 2, 2, 2, 2, 2, 2, 2, 2])),
        ("minutes", Some([20_000; 10])),
        ("on and off", Some([20_000, 0, 20_000, 0, 20_000, 0, 0, 0, 0, 20_000])),
    ] {
        let (mut random, mut share, mut path) = (Random::new(2), Share::default(), Path::new(5e-4, 5.0));
        let mut late = [0, 0];
        for second in 1..86_400_u64 {
            let segments = match pattern {
                None => 2 * 10_u64.pow((random.next() % 5) as u32),
                Some([20_000, 20_000, ..]) => {
                    if second / 120 % 2 == 0 {
                        20_000
                    } else {
                        2
                    }
                }
                Some(pattern) => pattern[second as usize % pattern.len()],
            };
            let lost = std::mem::replace(&mut late[second as usize % 2], path.lose(&mut random, segments));
            let state = share.add(tick(second), lost, segments);
            assert_eq!(state.times, None, "{name}, second {second}: {state:?}");
        }
        let learned = share.add(tick(86_400), 0, 1).baseline;
        assert!((2e-4..1e-3).contains(&learned), "{name}: {learned}");
    }
}

/// A path that gets worse so slowly that it could be learned.
#[test]
fn a_slow_rise_is_noticed() {
    let (mut random, mut share) = (Random::new(3), Share::default());
    alarms(&mut share, &mut Path::new(1e-4, 1.0), &mut random, (1, 3_600, 1_000));
    // To 5 % in fifteen minutes.
    let rise = |second: u64| (second - 3_600) as f64 * 0.05 / 900.0;
    let mut noticed = None;
    for second in 3_600..4_500 {
        let lost = Path::new(1e-4 + rise(second), 1.0).lose(&mut random, 1_000);
        let state = share.add(tick(second), lost, 1_000);
        noticed = noticed.or(state.times.map(|times| (second, times.onset_ms / 1_000)));
        assert!(state.baseline < 1e-3, "learned: {state:?}");
    }
    let (second, onset) = noticed.unwrap();
    assert!(rise(second) < 0.005, "at {} lost", rise(second));
    assert!((3_590..second).contains(&onset), "{onset}");
}

/// Onset, end, silence, and what never ends.
#[test]
fn from_onset_to_end() {
    let (mut random, mut share) = (Random::new(4), Share::default());
    let mut second = 0;
    // Until `done`, at most so many seconds.
    let mut run = |lost: f64, segments: u64, most: u64, done: fn(&State) -> bool| {
        let (mut path, began) = (Path::new(lost, 1.0), second);
        loop {
            second += 1;
            let lost = path.lose(&mut random, segments);
            let state = share.add(tick(second), lost, segments);
            if done(&state) || second - began == most {
                return (second - began, state, second);
            }
        }
    };
    let alarmed: fn(&State) -> bool = |state| state.times.is_some();
    let calm: fn(&State) -> bool = |state| state.times.is_none();
    let (_, _, quiet) = run(1e-4, 1_000, 3_600, alarmed);
    let (lasted, state, _) = run(0.02, 1_000, 60, alarmed);
    let onset = state.times.unwrap().onset_ms;
    assert!(lasted <= 4 && onset.abs_diff(quiet * 1_000) <= 1_000, "{lasted} s, onset {onset}, really {quiet} s");
    assert_eq!(run(0.02, 1_000, 3_600, calm).0, 3_600, "as long as it lasts");
    assert_eq!(run(0.004, 1_000, 600, calm).0, 600, "better, and not well");
    assert!((25..60).contains(&run(1e-4, 1_000, 600, calm).0), "back to what is usual");
    assert!(run(0.02, 1_000, 60, alarmed).0 <= 4, "the incident was not learned");
    assert_eq!(run(0.0, 0, 500, calm).0, 500, "silence is no sign of health");
    assert!((100..160).contains(&run(0.0, 0, 1_000, calm).0), "and who has left cannot complain");
    let (_, state, _) = run(0.01, 1_000, 30, alarmed);
    assert!(state.times.is_some());
    let (lasted, _, _) = run(0.01, 1_000, 200_000, calm);
    assert_eq!(lasted, 172_800, "two days");
    let (_, state, _) = run(0.01, 1_000, 3_600, alarmed);
    assert_eq!(state.times, None, "then it is usual");
    assert!((0.008..0.012).contains(&state.baseline), "{}", state.baseline);
}

/// A path that loses in trains seems to lose nothing if what is suspicious is left out.
#[test]
fn trains_are_learned() {
    for (share, train) in [(1e-3, 1.0), (1e-3, 20.0), (3e-3, 5.0)] {
        let (mut random, mut path, mut baseline) = (Random::new(5), Path::new(share, train), Baseline::default());
        for second in 0..20_000_u64 {
            let lost = path.lose(&mut random, 1_000) as f64;
            let brought = Brought { duration_ms: 1_000, lost, passed: 1_000.0, bad: Some(lost >= 10.0) };
            baseline.learn(brought, second % 100 < 50 && lost > 0.0);
        }
        let (learned, dispersion) = (baseline.learned() / share, baseline.dispersion() / (2.0 * train - 1.0));
        assert!((0.8..1.25).contains(&learned), "{share} in trains of {train}: {learned} of it");
        assert!((0.7..1.4).contains(&dispersion), "{share} in trains of {train}: {dispersion} of it");
    }
}

#[test]
fn what_counts() {
    for (name, longest_ms, stream, expected) in [
        ("five in ten seconds", LONGEST_MS, vec![1; 5], Some(5)),
        ("all at once", LONGEST_MS, vec![0, 5], Some(2)),
        ("four", LONGEST_MS, [vec![4], vec![0; 9], vec![4], vec![0; 9]].concat(), None),
        ("one in three seconds", LONGEST_MS, [0, 0, 1].repeat(100), None),
        ("for an hour, from far", LONGEST_FROM_FAR_MS, vec![1; 8_000], Some(5)),
    ] {
        let mut count = Count::default();
        let states = stream.iter().zip(1..).map(|(more, second)| count.add(tick(second), *more, longest_ms));
        let states: Vec<State> = states.collect();
        let began = states.iter().position(|state| state.times.is_some()).map(|at| at + 1);
        assert_eq!(began, expected, "{name}");
        if longest_ms == LONGEST_FROM_FAR_MS {
            let last = states[states.len() - 1];
            assert_eq!((last.times, last.baseline.round() as u64), (None, 1), "{name}: then it is usual");
        }
    }
    // Seldom, for weeks: usual; then much more.
    let (mut random, mut count) = (Random::new(6), Count::default());
    for second in 1..1_000_000 {
        let state = count.add(tick(second), u64::from(random.next() % 100 == 0), LONGEST_MS);
        assert_eq!(state.times, None, "second {second}: {state:?}");
    }
    let state = (1_000_000..1_000_010).map(|second| count.add(tick(second), 1, LONGEST_MS)).last().unwrap();
    assert!(state.times.is_some_and(|times| (999_990_000..1_000_000_000).contains(&times.onset_ms)), "{state:?}");
    let end = (1_000_010..).find(|second| count.add(tick(*second), 0, LONGEST_MS).times.is_none()).unwrap();
    assert!((1_000_030..1_000_045).contains(&end), "{end}");
}

/// A second of a unit through which 1,000 segments pass each way, with something to it.
fn second(uptime: u64, change: impl Fn(&mut Counts)) -> Second {
    let mut counts = Counts { segments: [1_000; 2], frames: [1_200; 2], ..Counts::default() };
    change(&mut counts);
    let units = [(Unit::Interface("eth0".into()), counts)].into();
    Second { uptime_ms: uptime * 1_000, duration_ms: 1_000, units }
}

/// Kinds that are alarmed in the twentieth second of it.
fn alarmed(change: impl Fn(&mut Counts)) -> Vec<Kind> {
    let mut alarms = Alarms::default();
    for uptime in 1..600 {
        let detectors = alarms.add(&second(uptime, |_| {}));
        assert!(detectors.iter().all(|detector| !detector.alarmed && detector.score < detector.threshold));
    }
    let after = (600..620).map(|uptime| {
        let detectors = alarms.add(&second(uptime, &change)).to_vec();
        assert_eq!(detectors.iter().map(|detector| detector.kind).collect::<Vec<_>>(), Kind::ALL);
        detectors.into_iter().filter(|detector| detector.alarmed).map(|detector| detector.kind).collect()
    });
    after.last().unwrap()
}

#[test]
fn kinds() {
    let own = |place: Place, class: Class, packets: u64| {
        move |counts: &mut Counts| counts.own[place as usize][class as usize] = packets
    };
    assert_eq!(alarmed(|_| {}), []);
    assert_eq!(alarmed(|counts| counts.lost = [10, 0, 0]), [Kind::NetworkIn]);
    assert_eq!(alarmed(|counts| counts.lost = [0, 10, 0]), [Kind::NetworkOut]);
    assert_eq!(alarmed(|counts| counts.lost = [0, 0, 20]), [Kind::Inside]);
    assert_eq!(alarmed(own(Place::Before, Class::Capacity, 15)), [Kind::LocalRx]);
    assert_eq!(alarmed(own(Place::Within, Class::Capacity, 15)), [Kind::LocalRx]);
    assert_eq!(alarmed(own(Place::Behind, Class::Capacity, 15)), [Kind::LocalTx]);
    assert_eq!(alarmed(own(Place::Within, Class::Malformed, 15)), []);
    for (class, kind) in MISSED {
        // A scanner's packets, which nobody sends again.
        for place in [Place::Before, Place::Within, Place::Behind] {
            assert_eq!(alarmed(own(place, class, 1_000)), [], "{class:?}");
        }
        let within = own(Place::Within, class, 30);
        let missed = |again: fn(&mut Counts)| {
            alarmed(|counts| {
                within(counts);
                again(counts);
            })
        };
        assert_eq!(missed(|counts| counts.seen_again = [30, 0]), [kind]);
        assert_eq!(missed(|counts| counts.handshakes_again = [30, 0]), [kind], "nobody gets in any more");
        assert_eq!(missed(|counts| counts.refilled = [0, 30]), [kind], "a guest's");
        assert_eq!(missed(|counts| counts.refilled = [30, 0]), [], "lost before it came here");
        assert_eq!(missed(|counts| counts.seen_again = [0, 30]), [], "lost after it had gone");
        assert_eq!(
            missed(|counts| (counts.seen_again[0], counts.own[1][0]) = (30, 30)),
            [Kind::LocalRx],
            "no room for it"
        );
    }
    assert_eq!(alarmed(|counts| counts.malformed_local = 1), [Kind::MalformedLocal]);
    assert_eq!(alarmed(|counts| counts.malformed_path = 1), [Kind::MalformedPath]);
    assert_eq!(alarmed(|counts| counts.link_errors = 1), [Kind::Link]);
}

/// What is dropped now is sent again a moment later, or much later.
#[test]
fn what_is_missed() {
    let mut missed = Missed::default();
    let mut add = |dropped: u64, again: u64| {
        let mut counts = Counts { seen_again: [again, 0], ..Counts::default() };
        counts.own[Place::Within as usize][Class::Policy as usize] = dropped;
        missed.add(&counts)[1]
    };
    assert_eq!([add(10, 4), add(0, 3), add(0, 9)], [4, 3, 0]);
    assert_eq!([add(0, 9), add(8, 0), add(0, 0), add(0, 0), add(0, 9)], [0, 0, 0, 0, 1]);
}

#[test]
fn an_alarm_as_it_is_told() {
    let mut alarms = Alarms::default();
    for uptime in 1..600 {
        alarms.add(&second(uptime, |_| {}));
    }
    // Lost from 600 on, and told two seconds later.
    for uptime in 600..610 {
        alarms.add(&second(uptime, |counts| counts.lost[1] = if uptime < 602 { 0 } else { 50 }));
    }
    let detectors = alarms.add(&second(610, |counts| counts.lost[1] = 50));
    let detector = detectors.iter().find(|detector| detector.alarmed).unwrap();
    assert_eq!((detector.kind, detector.ratio), (Kind::NetworkOut, Some(0.05)));
    assert_eq!((detector.since_ms, detector.onset_ms), (Some(604_000), Some(599_000)));
    assert!(detector.score >= detector.threshold && detector.baseline < 1e-9, "{detector:?}");
    // 8 kinds with two sums each.
    assert!((detector.threshold - (604_800.0_f64 * 16.0).ln() - 10.0_f64.ln()).abs() < 1e-9);
    let silent = alarms.add(&second(611, |counts| *counts = Counts::default()));
    assert!(silent[1].alarmed && silent[1].ratio.is_some());
    let absent = Second { uptime_ms: 612_000, duration_ms: 1_000, ..Second::default() };
    assert!(alarms.add(&absent).is_empty(), "nothing is known of it");
    assert!(alarms.add(&second(613, |_| {}))[1].alarmed, "it was away for a moment");
    let lossy = |uptime| second(uptime, |counts| counts.lost[1] = 50);
    assert!(alarms.add(&lossy(614))[1].alarmed && !alarms.add(&lossy(650))[1].alarmed, "it was away for long");
    (651..660).for_each(|uptime| assert_eq!(alarms.add(&lossy(uptime))[1].alarmed, uptime > 651));
    assert!(!alarms.add(&lossy(5))[1].alarmed, "time has begun anew");
}

#[test]
fn bounded_and_cheap() {
    let many = |names: std::ops::Range<u32>, uptime: u64| {
        let (_, counts) = second(uptime, |counts| counts.lost[0] = 1).units.pop_first().unwrap();
        let units = names.map(|number| (Unit::Interface(format!("eth{number:03}")), counts.clone())).collect();
        Second { uptime_ms: uptime * 1_000, duration_ms: 1_000, units }
    };
    let mut alarms = Alarms::default();
    assert_eq!(alarms.add(&many(0..100, 1)).len(), UNITS * Kind::ALL.len());
    assert_eq!(alarms.left_out(), 100 - UNITS);
    alarms.add(&many(64..164, 2));
    assert_eq!((alarms.watched.len(), alarms.left_out()), (UNITS, 100 - UNITS), "places of who is gone are free");
    assert!(alarms.watched.contains_key(&Unit::Interface("eth064".into())));
    assert_eq!(alarms.add(&many(64..66, 3)).len(), 2 * Kind::ALL.len());
    let (began, seconds) = (Instant::now(), (4..1_004).map(|uptime| many(64..128, uptime)).collect::<Vec<_>>());
    println!("making them: {:?}", began.elapsed());
    let began = Instant::now();
    seconds.iter().for_each(|second| _ = alarms.add(second));
    println!("64 units: {:?} a second", began.elapsed() / 1_000);
    let window_of = |watch: &Watch| watch.shares.values().map(Share::seconds).max();
    assert_eq!(alarms.watched.values().filter_map(window_of).max(), Some(30));
}

/// An outage: every connection sends its oldest segment again, ever more seldom, and nothing comes back.
#[test]
fn what_has_stopped() {
    let mut alarms = Alarms::default();
    let unit = Unit::Group("uplinks".into());
    let mut second = |uptime_s: u64, segments: [u64; 2], lost: u64| {
        let counts = Counts { segments, frames: segments, lost: [0, lost, 0], ..Counts::default() };
        let units = [(unit.clone(), counts)].into();
        let detectors = alarms.add(&Second { uptime_ms: uptime_s * 1_000, duration_ms: 1_000, units });
        detectors.iter().find(|detector| detector.kind == Kind::NetworkOut).cloned().unwrap()
    };
    (1..=60).for_each(|at| _ = second(at, [500; 2], 0));
    let (mut alarmed, mut stalled) = (None, None);
    for at in 61..=360 {
        // Eight connections, of which each doubles its time-out.
        let again = [1, 2, 4, 7, 13, 26, 52, 103, 206].contains(&(at - 60));
        let told = [3, 4, 6, 9, 15, 28, 54, 105, 208].contains(&(at - 60));
        let detector = second(at, [0, if again { 8 } else { 0 }], if told { 8 } else { 0 });
        alarmed = alarmed.or(detector.alarmed.then_some(at - 60));
        stalled = stalled.or(detector.stalled.then_some(at - 60));
        assert!(alarmed.is_none() || detector.alarmed, "second {at}");
        assert!(stalled.is_none() || detector.stalled, "second {at}");
    }
    assert!(
        alarmed.is_some_and(|after| after <= 10) && stalled.is_some_and(|after| after <= 12),
        "{alarmed:?} {stalled:?}"
    );
    let back: Vec<bool> = (361..=420).map(|at| second(at, [500; 2], 0).stalled).collect();
    assert!(!back[5..].contains(&true), "traffic is back");
}
