use std::collections::BTreeMap;

use super::{party::Key, *};
use crate::{
    classes::Class,
    detect::{
        alarm::{Alarms, Detector, Kind},
        objective::Month,
        second::{Counts, Place, Second, Unit},
    },
};

mod always;
mod months;

/// 18 January 2024, 10:30 UTC: the maintenance of incident.md starts.
const START: &str = "2024-01-18T10:30:00Z";
/// Seconds for which a detector stays alarmed behind the last loss.
const QUIET: u64 = 30;

/// A host with an uplink that is hit, eth0, and one that is not, eth1; and an agent on it.
struct Host {
    incidents: Incidents,
    thresholds: Thresholds,
    wall: Timestamp,
    uptime_ms: u64,
    alarms: BTreeMap<Key, Alarm>,
    /// The detectors of the agent, in place of those of the test.
    real: Option<Alarms>,
    changes: Vec<Change>,
}

/// What a detector would do, without its arithmetic: it alarms in the third second of a loss.
#[derive(Clone, Copy)]
struct Alarm {
    onset_ms: u64,
    last_ms: u64,
    seconds: u64,
}

impl Host {
    fn new(thresholds: Thresholds) -> Self {
        let incidents = Incidents::new(thresholds, 99.9, Kept::default());
        let wall = START.parse().unwrap();
        Self { incidents, thresholds, wall, uptime_ms: 0, alarms: BTreeMap::new(), real: None, changes: Vec::new() }
    }

    /// A second in which these shares are lost, or so many malformed frames come, and the verdict on it.
    fn second(&mut self, losses: &[(Kind, f64)], verdict: Name) {
        self.uptime_ms += 1_000;
        self.wall += SignedDuration::from_secs(1);
        let now_ms = self.uptime_ms;
        for (kind, _) in losses.iter().filter(|(_, share)| *share > 0.0005) {
            let key = (unit(*kind), *kind);
            let alarm =
                self.alarms.entry(key).or_insert(Alarm { onset_ms: now_ms - 1_000, last_ms: now_ms, seconds: 0 });
            *alarm = Alarm { last_ms: now_ms, seconds: alarm.seconds + 1, ..*alarm };
        }
        self.alarms.retain(|_, alarm| now_ms - alarm.last_ms < QUIET * 1_000);
        let mut detectors: Vec<Detector> =
            self.alarms.iter().map(|((unit, kind), alarm)| alarm.of(unit, *kind)).collect();
        let counts = counts(losses);
        let well = Counts { segments: [5_000; 2], frames: [6_000; 2], ..Counts::default() };
        let units = [
            (Unit::Group("node".to_owned()), counts.clone()),
            (Unit::Interface("eth0".to_owned()), counts),
            (Unit::Interface("eth1".to_owned()), well),
        ];
        let second = Second { uptime_ms: now_ms, duration_ms: 1_000, units: units.into() };
        if let Some(real) = &mut self.real {
            detectors = real.add(&second).to_vec();
        }
        let verdict = Verdict {
            verdict,
            sentence: format!("It is {verdict:?}."),
            affected: vec!["eth0".to_owned()],
            unaffected: vec!["eth1".to_owned()],
            ..Verdict::default()
        };
        self.changes.extend(self.incidents.add(&self.wall.to_string(), &detectors, &verdict, &second));
    }

    fn seconds(&mut self, seconds: u64, losses: &[(Kind, f64)], verdict: Name) {
        for _ in 0..seconds {
            self.second(losses, verdict);
        }
    }

    /// Nobody looks.
    fn blind(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.uptime_ms += 1_000;
            self.wall += SignedDuration::from_secs(1);
            let nothing = Second { uptime_ms: self.uptime_ms, duration_ms: 1_000, ..Second::default() };
            let told = self.incidents.add(&self.wall.to_string(), &[], &Verdict::default(), &nothing);
            self.changes.extend(told);
        }
    }

    /// The agent ends, and another one begins so much later.
    fn restart(&mut self, seconds: i64) {
        let text = serde_json::to_string(&self.incidents.iter().collect::<Vec<_>>()).unwrap();
        let incidents: Vec<Incident> = serde_json::from_str(&text).unwrap();
        let ids = incidents.iter().map(|incident| incident.id.clone()).collect();
        let month: Month = serde_json::from_value(serde_json::to_value(self.incidents.month()).unwrap()).unwrap();
        self.incidents = Incidents::new(self.thresholds, 99.9, Kept { incidents, ids, month, learned: None });
        self.wall += SignedDuration::from_secs(seconds);
        (self.uptime_ms, self.alarms) = (0, BTreeMap::new());
    }

    fn all(&self) -> Vec<&Incident> {
        self.incidents.iter().collect()
    }

    fn only(&self) -> &Incident {
        let all = self.all();
        assert_eq!(
            all.len(),
            1,
            "one incident: {:?}",
            all.iter().map(|one| (&one.id, &one.states)).collect::<Vec<_>>()
        );
        all[0]
    }
}

impl Alarm {
    fn of(self, unit: &Unit, kind: Kind) -> Detector {
        let alarmed = self.seconds >= 3;
        Detector {
            unit: unit.clone(),
            kind,
            score: 0.0,
            threshold: 0.0,
            alarmed,
            since_ms: None,
            onset_ms: alarmed.then_some(self.onset_ms),
            baseline: 0.0,
            ratio: None,
            stalled: false,
        }
    }
}

fn unit(kind: Kind) -> Unit {
    if kind.counts() { Unit::Interface("eth0".to_owned()) } else { Unit::Group("node".to_owned()) }
}

fn counts(losses: &[(Kind, f64)]) -> Counts {
    let mut counts = Counts { segments: [5_000; 2], frames: [6_000; 2], ..Counts::default() };
    for (kind, share) in losses {
        let of = |whole: f64| (whole * share).round() as u64;
        match kind {
            Kind::NetworkIn => counts.lost[0] += of(5_000.0 / (1.0 - share)),
            Kind::NetworkOut => counts.lost[1] += of(5_000.0),
            Kind::Inside => counts.lost[2] += of(10_000.0),
            Kind::LocalTx => counts.own[Place::Behind as usize][Class::Capacity as usize] += of(6_000.0),
            Kind::LocalPolicy => {
                counts.own[Place::Within as usize][Class::Policy as usize] += of(10_000.0);
                counts.seen_again[0] += of(10_000.0);
            }
            Kind::MalformedLocal => counts.malformed_local += *share as u64,
            Kind::MalformedPath => counts.malformed_path += *share as u64,
            other => unreachable!("{other:?}"),
        }
    }
    counts
}

fn states(incident: &Incident) -> Vec<State> {
    incident.states.iter().map(|change| change.state).collect()
}

/// Seconds since the start.
fn since_start(text: &str) -> f64 {
    time(text).unwrap().duration_since(START.parse().unwrap()).as_secs_f64()
}

/// incident.md: the share that its network loses, and malformed frames in a second, so many minutes behind the onset.
fn course_of_the_incident(minute: f64) -> (f64, f64) {
    match minute {
        ..0.0 => (0.0, 0.0),
        0.0..15.0 => (0.01 + 0.07 * minute / 15.0, 10.0 + 2.0 * minute),
        15.0..155.0 => (0.08, 40.0),
        155.0..180.0 => (0.03, 20.0),
        // It falls and rises, three times.
        180.0..195.0 if (minute - 180.0) % 5.0 < 2.5 => (0.0002, 0.0),
        180.0..195.0 => (0.06, 40.0),
        195.0..238.0 => (0.03 - 0.02 * (minute - 195.0) / 43.0, 10.0),
        238.0..1_370.0 => (0.002, 2.0),
        _ => (0.0, 0.0),
    }
}

/// The day of incident.md, a minute of it in so many seconds.
fn day(seconds_per_minute: u64, real: Option<Alarms>) -> Host {
    let scale = seconds_per_minute * 1_000;
    let thresholds = Thresholds { eases_after_ms: scale / 2, closes_after_ms: scale * 10, ..Thresholds::default() };
    let mut host = Host { real, ..Host::new(thresholds) };
    for second in 0..1_400 * seconds_per_minute {
        let (loss, malformed) = course_of_the_incident(second as f64 / seconds_per_minute as f64 - 10.0);
        let verdict = if malformed > 0.0 { Name::NetworkMalformed } else { Name::None };
        // The verdict needs some seconds.
        let verdict = if second < 10 * seconds_per_minute + 8 { Name::None } else { verdict };
        let losses = [(Kind::NetworkIn, loss), (Kind::NetworkOut, loss / 4.0), (Kind::MalformedLocal, malformed)];
        host.second(&losses, verdict);
    }
    host
}

#[test]
fn the_day_is_one_incident() {
    for seconds_per_minute in [12, 60] {
        let host = day(seconds_per_minute, None);
        let incident = host.only();
        let minutes = |text: &str| since_start(text) / seconds_per_minute as f64 - 10.0;
        let course: Vec<_> = incident.states.iter().map(|change| (minutes(&change.time), change.state)).collect();
        println!("{seconds_per_minute} s a minute: {course:.2?}, {:?}", incident.objective);
        let (flap, back) = (State::Acceptable, State::Active);
        let expected = [
            (0.0, State::Opening),
            (0.0, State::Active),
            (155.0, State::Easing),
            (180.0, flap),
            (182.5, back),
            (185.0, flap),
            (187.5, back),
            (190.0, flap),
            (192.5, back),
            (195.0, State::Easing),
            (238.0, State::Acceptable),
            (1_370.0, State::Closed),
        ];
        assert_eq!(states(incident), expected.map(|(_, state)| state));
        for ((at, state), (expected, _)) in course.iter().zip(expected) {
            // Ten seconds are looked at together, and a detector is quiet for 30 s before it says so.
            let late = if *state == State::Closed { 45.0 } else { 12.0 } / seconds_per_minute as f64;
            assert!((expected..=expected + late).contains(at), "{state:?} at {at}, and not {expected}");
        }
        // It lasts for 3 s until an alarm, which says when it began.
        let [onset, detected, judged] =
            [&incident.onset, &incident.detected, incident.judged.as_ref().unwrap()].map(|text| since_start(text));
        let began = 10.0 * seconds_per_minute as f64;
        assert_eq!((onset, detected, judged), (began, began + 3.0, began + 9.0));
        assert_eq!(incident.verdict, Name::NetworkMalformed);
        assert_eq!((incident.party, incident.statement.verdict), (Party::Network, Name::NetworkMalformed));
        assert_eq!(incident.closed.as_ref(), incident.states.last().map(|change| &change.time));
        assert_eq!(incident.affected, ["eth0"], "a track group is no interface");
        assert_eq!(incident.unaffected, ["eth1"]);
        assert!((incident.peak.ratio - 0.08).abs() < 0.001, "{:?}", incident.peak);
        assert!((15.0..156.0).contains(&minutes(&incident.peak.time)), "{:?}", incident.peak);
        // All but the three dips, 238 min less 7.5; what falls does so ten seconds late.
        let beyond = incident.objective.minutes_beyond * 60.0 / seconds_per_minute as f64;
        assert!((beyond - 230.5).abs() < 40.0 / seconds_per_minute as f64, "{beyond}");
        assert!((incident.objective.minutes_used - incident.objective.minutes_beyond).abs() < 1e-6);
        assert!((incident.objective.minutes_allowed - 43.2).abs() < 1e-6);
        assert!(incident.course.len() <= COURSE_POINTS && incident.course.len() > COURSE_POINTS / 2 - 20);
        let closed = Change { id: incident.id.clone(), what: What::Closed };
        assert_eq!(host.changes.iter().filter(|change| change.what == What::Opened).count(), 1);
        assert_eq!(host.changes.iter().filter(|change| change.what == What::Judged).count(), 1);
        assert_eq!(host.changes.last(), Some(&closed));
        // The graph has the growth, the plateau and the end.
        let at = |minute: f64| {
            let point = incident.course.iter().rfind(|point| point.seconds <= minute * seconds_per_minute as f64);
            point.and_then(|point| point.ratio).unwrap()
        };
        for (minute, expected) in [(7.0, 0.0427), (100.0, 0.08), (170.0, 0.03), (800.0, 0.002)] {
            assert!((at(minute) - expected).abs() < 0.006, "minute {minute}: {}", at(minute));
        }
    }
}

#[test]
fn the_day_is_one_incident_for_the_agents_detectors() {
    let host = day(60, Some(Alarms::default()));
    let incident = host.only();
    let minutes = |text: &str| since_start(text) / 60.0 - 10.0;
    let course: Vec<_> = incident.states.iter().map(|change| (minutes(&change.time), change.state)).collect();
    println!("onset {:.2}, noticed {:.2}, {course:.2?}", minutes(&incident.onset), minutes(&incident.detected));
    assert!(minutes(&incident.onset).abs() < 0.1 && (0.0..10.0 / 60.0).contains(&minutes(&incident.detected)));
    let [(_, State::Opening), (_, State::Active), .., (acceptable, State::Acceptable), (closed, State::Closed)] =
        course[..]
    else {
        panic!("{course:?}");
    };
    assert!((238.0..239.0).contains(&acceptable) && (1_370.0..1_372.0).contains(&closed), "{course:.2?}");
    assert_eq!((incident.verdict, &incident.unaffected[..]), (Name::NetworkMalformed, &["eth1".to_owned()][..]));
}

#[test]
fn two_causes_on_two_sides_are_two() {
    let network = (Kind::NetworkOut, 0.03);
    let queue = (Kind::LocalTx, 0.05);
    for (name, first, both) in [
        ("the network first", &[network][..], Name::NetworkOut),
        ("the queue first", &[queue], Name::LocalTx),
        ("both at once", &[network, queue], Name::Mixed),
    ] {
        let mut host = Host::new(Thresholds::default());
        host.seconds(60, &[], Name::None);
        host.seconds(60, first, both);
        host.seconds(60, &[network, queue], Name::Mixed);
        let open: Vec<_> = host.incidents.open().map(|incident| incident.party).collect();
        assert_eq!(open.len(), 2, "{name}: {open:?}");
        assert!(open.contains(&Party::Network) && open.contains(&Party::Host), "{name}: {open:?}");
        // One ends, and the other one goes on.
        host.seconds(1_200, &[queue], Name::LocalTx);
        let over: Vec<_> = host.all().iter().map(|one| (one.party, one.is_open())).collect();
        assert_eq!(over, [(Party::Host, true), (Party::Network, false)], "{name}");
    }
}

#[test]
fn an_echo_is_no_second_incident() {
    // What a queue drops looks like the network's for a moment, before it is subtracted, or the other way round.
    for (name, first) in [("the echo alarms first", true), ("the cause alarms first", false)] {
        let mut host = Host::new(Thresholds::default());
        host.seconds(20, &[], Name::None);
        let (echo, cause) = ((Kind::NetworkOut, 0.01), (Kind::LocalTx, 0.05));
        host.seconds(4, &[if first { echo } else { cause }], Name::None);
        host.seconds(3, &[echo, cause], Name::None);
        host.seconds(300, &[echo, cause], Name::LocalTx);
        let incident = host.only();
        assert_eq!(
            (incident.party, incident.verdict, incident.state),
            (Party::Host, Name::LocalTx, State::Active),
            "{name}"
        );
        // The cause is over, and what looked like an echo is none.
        host.seconds(120, &[echo], Name::NetworkOut);
        assert_eq!(host.incidents.open().count(), 2, "{name}");
    }
}

#[test]
fn a_scanner_is_not_the_network() {
    let mut host = Host::new(Thresholds::default());
    host.seconds(40, &[(Kind::MalformedPath, 20.0)], Name::RemoteMalformed);
    assert_eq!(host.only().party, Party::Remote);
    // It pauses, and the verdict with it; the alarm stays for a while.
    host.seconds(15, &[], Name::None);
    host.seconds(60, &[(Kind::MalformedPath, 20.0)], Name::RemoteMalformed);
    assert!(host.only().objective.minutes_beyond < 1e-9);
    // Frames that may come from anywhere, and the network that makes them.
    let mut host = Host::new(Thresholds::default());
    host.seconds(8, &[(Kind::MalformedPath, 20.0)], Name::None);
    host.seconds(60, &[(Kind::MalformedPath, 20.0), (Kind::NetworkIn, 0.02)], Name::NetworkMalformed);
    let incident = host.only();
    assert_eq!((incident.party, incident.verdict), (Party::Network, Name::NetworkMalformed));
}

#[test]
fn nobody_is_named_for_want_of_sources() {
    let mut host = Host::new(Thresholds::default());
    host.seconds(20, &[(Kind::NetworkIn, 0.02)], Name::Unknown);
    assert_eq!((host.only().state, host.only().verdict), (State::Opening, Name::None));
    host.seconds(30, &[(Kind::NetworkIn, 0.02)], Name::Unknown);
    assert_eq!((host.only().state, host.only().verdict), (State::Active, Name::Unknown));
    assert_eq!(host.only().judged, None);
    // A source comes back.
    host.seconds(30, &[(Kind::NetworkIn, 0.02)], Name::NetworkIn);
    assert_eq!(host.only().verdict, Name::NetworkIn, "whoever names somebody leads");
    assert_eq!(host.only().statement.verdict, Name::NetworkIn);
    assert!(host.only().judged.is_some());
    // A second of doubt is no other verdict.
    host.seconds(1, &[(Kind::NetworkIn, 0.02)], Name::Mixed);
    host.seconds(30, &[(Kind::NetworkIn, 0.02)], Name::NetworkIn);
    let said: Vec<_> = host.only().verdicts.iter().map(|change| change.verdict).collect();
    assert_eq!(said, [Name::Unknown, Name::NetworkIn]);
}

#[test]
fn goes_on_behind_a_restart() {
    let loss = [(Kind::NetworkIn, 0.05)];
    let mut host = Host::new(Thresholds::default());
    host.seconds(60, &loss, Name::NetworkIn);
    let before = host.only().clone();
    host.restart(40);
    host.seconds(120, &loss, Name::NetworkIn);
    let after = host.only();
    assert_eq!((&after.id, &after.onset, &after.judged), (&before.id, &before.onset, &before.judged));
    assert_eq!((states(after), after.state), (vec![State::Opening, State::Active], State::Active));
    let gap = Gap {
        from: before.last_seen.clone(),
        to: text(time(&before.last_seen).unwrap() + SignedDuration::from_secs(40)),
    };
    assert_eq!(after.gaps, [gap], "nobody looked");
    assert!(
        (after.objective.minutes_beyond - 3.0).abs() < 0.3,
        "what nobody saw is not counted: {:?}",
        after.objective
    );
    assert!((after.objective.minutes_used - after.objective.minutes_beyond).abs() < 1e-6);
    let seconds: Vec<_> = after.course.iter().map(|point| point.seconds).collect();
    assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]) && seconds.last().is_some_and(|last| *last > 210.0));
    // And ends as any other does.
    host.seconds(700, &[], Name::None);
    assert_eq!(states(host.only()), [State::Opening, State::Active, State::Acceptable, State::Closed]);
}

#[test]
fn is_over_if_nobody_looked_for_long() {
    let loss = [(Kind::NetworkIn, 0.05)];
    for (name, is_restart) in [("no agent", true), ("paused", false)] {
        let mut host = Host::new(Thresholds::default());
        host.seconds(60, &loss, Name::NetworkIn);
        let last_seen = host.only().last_seen.clone();
        if is_restart {
            host.restart(3_600);
        } else {
            host.blind(3_600);
            assert!(!host.only().is_open(), "{name}: it does not look as if somebody knew");
        }
        host.seconds(60, &loss, Name::NetworkIn);
        let [new, old] = host.all()[..] else { unreachable!("{name}: two incidents") };
        assert_eq!((old.state, old.closed.as_ref()), (State::Closed, Some(&last_seen)), "{name}");
        assert!(new.is_open() && new.onset > last_seen, "{name}");
    }
    // A short pause is a gap, and quiet does not pass in it.
    let mut host = Host::new(Thresholds::default());
    host.seconds(60, &loss, Name::NetworkIn);
    host.seconds(90, &[], Name::None);
    host.blind(590);
    host.seconds(100, &[], Name::None);
    assert_eq!((host.only().state, host.only().gaps.len()), (State::Acceptable, 1));
    host.seconds(500, &[], Name::None);
    assert_eq!(host.only().state, State::Closed);
}

#[test]
fn the_clock_is_set() {
    let loss = [(Kind::NetworkIn, 0.05)];
    for step in [-86_400, -30, 30, 86_400 * 365] {
        let mut host = Host::new(Thresholds::default());
        host.seconds(30, &[], Name::None);
        host.seconds(60, &loss, Name::NetworkIn);
        let before = host.only().clone();
        host.wall += SignedDuration::from_secs(step);
        host.seconds(60, &loss, Name::NetworkIn);
        let after = host.only();
        let moved = time(&after.onset).unwrap().duration_since(time(&before.onset).unwrap());
        assert_eq!(moved, SignedDuration::from_secs(step), "all by the clock as it is set now");
        assert_eq!(after.clock_set_seconds, step as f64);
        assert_eq!((after.gaps.len(), after.is_open()), (0, true), "{step}: the distances are right");
        assert!(after.course.last().is_some_and(|last| last.seconds < 125.0));
        // An agent that begins before its predecessor ended.
        host.restart(-7_200);
        host.seconds(60, &loss, Name::NetworkIn);
        let again = host.only();
        assert!(again.is_open() && time(&again.last_seen).unwrap() == host.wall, "{step}");
    }
}

#[test]
fn a_flood_stays_bounded() {
    let thresholds = Thresholds { closes_after_ms: 5_000, eases_after_ms: 1_000, ..Thresholds::default() };
    let mut host = Host::new(thresholds);
    let kinds = [Kind::NetworkIn, Kind::Inside, Kind::LocalTx, Kind::LocalPolicy, Kind::MalformedPath];
    for round in 0..120 {
        let share = |kind: &Kind| (*kind, if kind.counts() { 20.0 } else { 0.05 });
        host.seconds(15, &kinds.iter().map(share).collect::<Vec<_>>(), Name::Mixed);
        host.seconds(QUIET + 10, &[], Name::None);
        assert!(host.incidents.open().count() <= Party::ALL.len());
        assert!(host.all().len() <= MOST_FINISHED + Party::ALL.len(), "round {round}");
    }
    let mut ids: Vec<_> =
        host.changes.iter().filter(|change| change.what == What::Opened).map(|change| &change.id).collect();
    assert!(ids.len() >= 120, "{}", ids.len());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), host.changes.iter().filter(|change| change.what == What::Opened).count(), "names are unique");

    // One that falls and rises without end.
    let mut host = Host::new(Thresholds { eases_after_ms: 1_000, ..Thresholds::default() });
    for _ in 0..400 {
        host.seconds(25, &[(Kind::NetworkIn, 0.05)], Name::NetworkIn);
        host.seconds(25, &[(Kind::NetworkIn, 0.001)], Name::NetworkOut);
    }
    host.seconds(700, &[], Name::None);
    let incident = host.only();
    for changes in [incident.states.len(), incident.verdicts.len()] {
        assert!((MOST_CHANGES - 1..=MOST_CHANGES).contains(&changes), "{changes}");
    }
    assert!(incident.changes_left_out > 200, "{}", incident.changes_left_out);
    assert_eq!(
        (incident.states[0].state, incident.states.last().map(|last| last.state)),
        (State::Opening, Some(State::Closed))
    );
    assert!(incident.check().is_ok());
}

#[test]
fn little_traffic_says_nothing() {
    let mut recent = course::Recent::default();
    let units = |segments| {
        [(Unit::Group("node".to_owned()), Counts { segments: [segments; 2], lost: [1, 0, 0], ..Counts::default() })]
    };
    let watched = [(Unit::Group("node".to_owned()), Kind::NetworkIn)].into();
    recent.add(&Second { uptime_ms: 1_000, duration_ms: 1_000, units: units(9).into() });
    assert_eq!(recent.level(0, &watched, false).ratio, None, "one of ten is no share");
    recent.add(&Second { uptime_ms: 2_000, duration_ms: 1_000, units: units(389).into() });
    assert_eq!(recent.level(1, &watched, false).ratio, Some(2.0 / 400.0));
    let mut recent = course::Recent::default();
    recent.add(&Second { uptime_ms: 1_000, duration_ms: 1_000, units: units(19).into() });
    assert_eq!(recent.level(0, &watched, true).ratio, Some(1.0 / 20.0), "there will not be more");
}

#[test]
fn what_a_file_may_hold() {
    let good = || {
        let mut host = Host::new(Thresholds::default());
        host.seconds(60, &[(Kind::NetworkIn, 0.05)], Name::NetworkIn);
        host.only().clone()
    };
    assert_eq!(good().check(), Ok(()));
    let change = StateChange { time: START.to_owned(), state: State::Active };
    for (name, wrong) in [
        ("its schema is 0", Incident::default()),
        ("its schema is 2", Incident { schema: 2, ..good() }),
        ("`x` is no time", Incident { onset: "x".to_owned(), ..good() }),
        ("`` is no time", Incident { judged: Some(String::new()), ..good() }),
        ("a list has 257 entries, and 256", Incident { states: vec![change; 257], ..good() }),
        ("a list has 1441 entries, and 1440", Incident { course: vec![Point::default(); 1_441], ..good() }),
        ("a list has 65 entries, and 64", Incident { affected: vec![String::new(); 65], ..good() }),
    ] {
        let said = wrong.check().unwrap_err();
        assert!(said.starts_with(name), "{said}");
    }
}
