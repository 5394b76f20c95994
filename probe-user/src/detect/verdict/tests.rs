use proptest::prelude::*;

use super::{
    super::{
        second::{Place, Second},
        source::tests::{snapshot, uplink},
    },
    *,
};
use crate::snapshot::State;

/// Segments in five seconds, each way.
const PASSED: u64 = 25_000;

fn group() -> Unit {
    Unit::Group("uplinks".into())
}

/// A quiet window.
fn quiet() -> Counts {
    Counts { segments: [PASSED; 2], frames: [2 * PASSED; 2], ..Counts::default() }
}

fn window(counts: Counts) -> Window {
    Window {
        time: "2024-01-18T10:41:00Z".into(),
        duration_ms: WINDOW_MS,
        units: [(group(), counts)].into(),
        ..Window::default()
    }
}

/// All detectors of a unit: those that are alarmed, and what is usual.
fn detectors(unit: &Unit, alarmed: &[Kind], usual: &[(Kind, f64)]) -> Vec<Detector> {
    let of = |kind: Kind| Detector {
        unit: unit.clone(),
        kind,
        score: 0.0,
        threshold: 30.0,
        alarmed: alarmed.contains(&kind),
        since_ms: None,
        onset_ms: None,
        baseline: usual.iter().find(|(of, _)| *of == kind).map_or(0.0, |(_, usual)| *usual),
        ratio: None,
        stalled: false,
    };
    Kind::ALL.into_iter().map(of).collect()
}

fn seen(driver: &str) -> Sources {
    let kind = if driver == "veth" { "veth" } else { "ethernet" };
    Sources::of(&snapshot(vec![uplink("eth0", kind, driver)]))
}

fn judged(counts: Counts, alarmed: &[Kind]) -> Verdict {
    judge(&window(counts), &detectors(&group(), alarmed, &[]), &seen("igb"))
}

fn own(counts: &mut Counts, place: Place, class: Class, packets: u64) {
    counts.own[place as usize][class as usize] += packets;
}

type Change = fn(&mut Counts);
/// What has happened, which detectors it alarms, the verdict, and words of its sentence.
type Row = (&'static str, Change, &'static [Kind], Name, &'static str);

const IN: usize = 0;
const OUT: usize = 1;
const INSIDE: usize = 2;

const ROWS: &[Row] = &[
    ("nothing", |_| {}, &[], Name::None, "Nothing is lost"),
    ("losses without an alarm", |c| c.lost[IN] = 500, &[], Name::None, "Nothing is lost"),
    ("an alarm after which nothing is lost", |_| {}, &[Kind::NetworkIn], Name::None, "Nothing is lost"),
    (
        "lost before it came",
        |c| c.lost[IN] = 500,
        &[Kind::NetworkIn],
        Name::NetworkIn,
        "The network, not this machine, loses packets before they reach eth0: 2.0 % (500 of 25,500 segments) in 5 s.",
    ),
    (
        "lost after it had left",
        |c| c.lost[OUT] = 500,
        &[Kind::NetworkOut],
        Name::NetworkOut,
        "after they have left eth0",
    ),
    (
        "lost both ways",
        |c| (c.lost[IN], c.lost[OUT]) = (500, 400),
        &[Kind::NetworkIn, Kind::NetworkOut],
        Name::NetworkIn,
        "both ways, most of them before they reach eth0",
    ),
    ("lost by a guest", |c| c.lost[INSIDE] = 500, &[Kind::Inside], Name::Inside, "on this host's side of eth0"),
    (
        "the ring is full",
        |c| own(c, Place::Before, Class::Capacity, 500),
        &[Kind::LocalRx],
        Name::LocalRx,
        "had no room for 500 packets in 5 s",
    ),
    (
        "a socket's buffer is full",
        |c| own(c, Place::Within, Class::Capacity, 500),
        &[Kind::LocalRx],
        Name::LocalRx,
        "had no room",
    ),
    (
        "a discipline drops",
        |c| own(c, Place::Behind, Class::Capacity, 500),
        &[Kind::LocalTx],
        Name::LocalTx,
        "its queues had no room",
    ),
    (
        "a filter drops what is missed",
        |c| {
            own(c, Place::Within, Class::Policy, 500);
            c.seen_again[0] = 500;
        },
        &[Kind::LocalPolicy],
        Name::LocalPolicy,
        "because it is told to",
    ),
    (
        "somebody's XDP drops what is missed",
        |c| {
            own(c, Place::Before, Class::Policy, 500);
            c.refilled[0] = 500;
        },
        &[Kind::LocalPolicy],
        Name::LocalPolicy,
        "because it is told to",
    ),
    (
        "no route for what is missed",
        |c| {
            own(c, Place::Within, Class::Config, 500);
            c.seen_again[0] = 500;
        },
        &[Kind::LocalConfig],
        Name::LocalConfig,
        "routes, neighbours or addresses",
    ),
    (
        "dropped for no reason",
        |c| {
            own(c, Place::Within, Class::Unknown, 500);
            c.seen_again[0] = 500;
        },
        &[Kind::LocalUnknown],
        Name::Unknown,
        "its kernel does not say why",
    ),
    ("a bad cable", |c| c.link_errors = 500, &[Kind::Link], Name::Link, "cable"),
    (
        "a bad cable, whose frames are missed",
        |c| (c.link_errors, c.lost[IN]) = (500, 500),
        &[Kind::Link, Kind::NetworkIn],
        Name::Link,
        "500 frames arrived damaged",
    ),
    (
        "a neighbour makes malformed frames",
        |c| c.malformed_local = 50,
        &[Kind::MalformedLocal],
        Name::NetworkMalformed,
        "A device on the network segment of eth0 makes malformed frames (50 in 5 s)",
    ),
    (
        "and the network loses others",
        |c| (c.malformed_local, c.lost[IN]) = (50, 500),
        &[Kind::MalformedLocal, Kind::NetworkIn],
        Name::NetworkMalformed,
        "(50 in 5 s), and 2.0 % of the segments are lost on the way",
    ),
    (
        "a neighbour's malformed frames, and a full ring",
        |c| {
            c.malformed_local = 50;
            own(c, Place::Before, Class::Capacity, 500);
        },
        &[Kind::MalformedLocal, Kind::LocalRx],
        Name::Mixed,
        "50 malformed frames, 100 % is lost by this host",
    ),
    (
        "what the kernel drops because it is malformed is its maker's fault",
        |c| {
            c.malformed_local = 50;
            own(c, Place::Within, Class::Malformed, 50);
        },
        &[Kind::MalformedLocal],
        Name::NetworkMalformed,
        "makes malformed frames",
    ),
    ("malformed frames that are past", |_| {}, &[Kind::MalformedLocal], Name::None, "Nothing is lost"),
    (
        "malformed frames that are past, while the network loses",
        |c| c.lost[IN] = 500,
        &[Kind::MalformedLocal, Kind::NetworkIn],
        Name::NetworkIn,
        "The network, not this machine, loses",
    ),
    (
        "a scanner",
        |c| c.malformed_path = 50,
        &[Kind::MalformedPath],
        Name::RemoteMalformed,
        "Malformed frames that may have been made anywhere come to eth0",
    ),
    (
        "a scanner, while the network loses",
        |c| (c.malformed_path, c.lost[IN]) = (50, 500),
        &[Kind::MalformedPath, Kind::NetworkIn],
        Name::NetworkIn,
        "The network, not this machine, loses",
    ),
    (
        "network and ring at once",
        |c| {
            c.lost[IN] = 500;
            own(c, Place::Before, Class::Capacity, 500);
        },
        &[Kind::NetworkIn, Kind::LocalRx],
        Name::Mixed,
        "50 % is lost",
    ),
    (
        "network and guest at once",
        |c| (c.lost[OUT], c.lost[INSIDE]) = (500, 400),
        &[Kind::NetworkOut, Kind::Inside],
        Name::Mixed,
        "56 % is lost in the network, after it had left",
    ),
    (
        "discipline and filter at once",
        |c| {
            own(c, Place::Behind, Class::Capacity, 500);
            own(c, Place::Within, Class::Policy, 500);
            c.seen_again = [500, 500];
        },
        &[Kind::LocalTx, Kind::LocalPolicy],
        Name::Mixed,
        "because it is told to",
    ),
    (
        "a paused guest sends again what was only late",
        |c| (c.seen_again[0], c.not_needed[0], c.lost[INSIDE]) = (500, 300, 200),
        &[Kind::Inside],
        Name::None,
        "segments came late",
    ),
    (
        "a paused peer",
        |c| (c.seen_again[1], c.not_needed[1], c.lost[OUT]) = (500, 250, 250),
        &[Kind::NetworkOut],
        Name::None,
        "segments came late",
    ),
    (
        "less than half was late",
        |c| (c.seen_again[1], c.not_needed[1], c.lost[OUT]) = (500, 240, 260),
        &[Kind::NetworkOut],
        Name::NetworkOut,
        "after they have left",
    ),
    ("too few to tell", |c| c.lost[IN] = 7, &[Kind::NetworkIn], Name::Unknown, "too few of them so far (7 in 5 s)"),
    (
        "few are enough for this host",
        |c| own(c, Place::Behind, Class::Capacity, 7),
        &[Kind::LocalTx],
        Name::LocalTx,
        "queues",
    ),
    (
        "what leads is not what has alarmed",
        |c| {
            c.lost[IN] = 500;
            own(c, Place::Before, Class::Capacity, 20);
        },
        &[Kind::LocalRx],
        Name::Unknown,
        "too few",
    ),
    (
        "nearly all of it is the network's",
        |c| {
            c.lost[IN] = 500;
            own(c, Place::Before, Class::Capacity, 50);
        },
        &[Kind::NetworkIn, Kind::LocalRx],
        Name::NetworkIn,
        "The network, not this machine, loses",
    ),
];

/// Of a group's interfaces those are named that are affected, and what is turned away as malformed is not lost.
#[test]
fn names_who_is_affected() {
    let sources = Sources::of(&snapshot(vec![uplink("eth0", "ethernet", "igb"), uplink("eth1", "ethernet", "igb")]));
    let mut counts = Counts { malformed_local: 50, ..quiet() };
    own(&mut counts, Place::Within, Class::Malformed, 50);
    let eth1 = Unit::Interface("eth1".into());
    let eth0 = Unit::Interface("eth0".into());
    let mut alarmed = [&group(), &eth1].map(|unit| detectors(unit, &[Kind::MalformedLocal], &[])).concat();
    alarmed.extend(detectors(&eth0, &[], &[]));
    let units = [(group(), counts.clone()), (eth0, quiet()), (eth1, counts)];
    let verdict = judge(&Window { units: units.into(), ..window(quiet()) }, &alarmed, &sources);
    assert_eq!((verdict.affected, verdict.unaffected), (vec!["eth1".to_owned()], vec!["eth0".to_owned()]));
    assert!(verdict.sentence.contains("segment of eth1 makes"), "{}", verdict.sentence);
    assert!(verdict.next_steps[0].contains("--interface eth1 "), "{:?}", verdict.next_steps);
    let own = "this host in the same time: 0 lost receiving, 0 passing on, 0 sending, the usual included";
    assert!(verdict.evidence.iter().any(|line| line == own), "{:?}", verdict.evidence);
}

#[test]
fn verdicts() {
    for (name, change, alarmed, expected, words) in ROWS {
        let mut counts = quiet();
        change(&mut counts);
        let verdict = judged(counts, alarmed);
        assert_eq!(verdict.verdict, *expected, "{name}: {verdict:#?}");
        assert!(verdict.sentence.contains(words), "{name}: {}", verdict.sentence);
        assert!(verdict.sentence.ends_with('.') && !verdict.sentence.contains("  "), "{name}: {}", verdict.sentence);
        assert!(!verdict.next_steps.is_empty(), "{name}");
        assert!(verdict.next_steps.iter().all(|step| !step.contains("DEV")), "{name}: {:?}", verdict.next_steps);
        if *expected != Name::None {
            assert_eq!((verdict.unit.as_str(), verdict.evidence.is_empty()), ("uplinks", false), "{name}");
            assert_eq!(
                (verdict.affected.as_slice(), verdict.unaffected.len()),
                (&["eth0".to_owned()][..], 0),
                "{name}"
            );
        }
    }
    let all: BTreeSet<Name> = ROWS.iter().map(|row| row.3).collect();
    assert_eq!(all.len(), Name::ALL.len(), "each verdict has its row");
}

#[test]
fn nobody_outside_is_named_while_a_required_source_is_missing() {
    let blind = Sources::of(&{
        let mut paused = snapshot(vec![uplink("eth0", "ethernet", "igb")]);
        paused.state = State::Paused;
        paused
    });
    for (name, change, alarmed, expected, _) in ROWS {
        let mut counts = quiet();
        change(&mut counts);
        let verdict = judge(&window(counts), &detectors(&group(), alarmed, &[]), &blind);
        let outside = expected.is_network() || *expected == Name::Inside;
        assert_eq!(verdict.verdict, if outside { Name::Unknown } else { *expected }, "{name}");
        assert!(verdict.missing[0].contains("paused"), "{name}: {:?}", verdict.missing);
        assert_eq!(
            verdict.sentence.contains("not seen: eth0: anything, while"),
            outside,
            "{name}: {}",
            verdict.sentence
        );
    }
}

#[test]
fn of_a_unit_without_sources_nobody_is_accused() {
    for (side, kind) in [(IN, Kind::NetworkIn), (OUT, Kind::NetworkOut), (INSIDE, Kind::Inside)] {
        let mut counts = quiet();
        counts.lost[side] = 500;
        let verdict = judge(&window(counts), &detectors(&group(), &[kind], &[]), &Sources::default());
        assert_eq!(verdict.verdict, Name::Unknown, "{kind:?}");
    }
}

/// Only what would be needed for this very verdict.
#[test]
fn a_missing_source_is_missing_for_those_who_need_it() {
    let mut no_ring = snapshot(vec![uplink("eth0", "ethernet", "igb")]);
    no_ring.interfaces[0].device.counters.clear();
    for (side, kind, expected) in [
        (IN, Kind::NetworkIn, Name::Unknown),
        (OUT, Kind::NetworkOut, Name::NetworkOut),
        (INSIDE, Kind::Inside, Name::Inside),
    ] {
        let mut counts = quiet();
        counts.lost[side] = 500;
        let verdict = judge(&window(counts), &detectors(&group(), &[kind], &[]), &Sources::of(&no_ring));
        assert_eq!(verdict.verdict, expected, "{kind:?}");
        assert!(verdict.missing.iter().any(|text| text.contains("receive ring")));
    }
}

#[test]
fn where_a_virtual_card_ends_what_is_seen() {
    let lost = || Counts { lost: [500, 0, 0], ..quiet() };
    for (driver, end) in [
        ("igb", "(500 of 25,500 segments) in 5 s."),
        ("virtio_net", "or it happens below this machine's virtual NIC, which it cannot see."),
        ("veth", "or it happens at the other end of this virtual cable, which it cannot see."),
    ] {
        let verdict = judge(&window(lost()), &detectors(&group(), &[Kind::NetworkIn], &[]), &seen(driver));
        assert_eq!(verdict.verdict, Name::NetworkIn);
        assert!(verdict.sentence.ends_with(end), "{driver}: {}", verdict.sentence);
    }
}

#[test]
fn what_is_usual_excuses_and_hides_nobody() {
    let usual = [(Kind::LocalPolicy, 0.01), (Kind::NetworkOut, 0.01), (Kind::Link, 20.0)];
    let background = || {
        let mut counts = quiet();
        own(&mut counts, Place::Within, Class::Policy, 500);
        (counts.seen_again[0], counts.lost[OUT], counts.link_errors) = (500, 250, 100);
        counts
    };
    let judged = |counts, alarmed: &[Kind]| judge(&window(counts), &detectors(&group(), alarmed, &usual), &seen("igb"));
    let verdict = judged(background(), &[Kind::NetworkOut]);
    assert_eq!((verdict.verdict, verdict.lost_segments), (Name::None, 0), "{verdict:?}");
    let mut counts = background();
    counts.lost[IN] = 600;
    let verdict = judged(counts, &[Kind::NetworkIn]);
    assert_eq!(verdict.verdict, Name::NetworkIn, "{verdict:?}");
    assert_eq!(verdict.shares.keys().collect::<Vec<_>>(), ["network_in"]);
    // A packet filter that turns scanners away, and whom nobody misses.
    let mut counts = Counts { lost: [0, 500, 0], seen_again: [0, 500], ..quiet() };
    own(&mut counts, Place::Within, Class::Policy, 100_000);
    assert_eq!(judged(counts, &[Kind::NetworkOut]).verdict, Name::NetworkOut);
}

#[test]
fn peers() {
    let network = Peers { peers: 10, affected: 9, lossy_flows: 30, lost: 500, worst_losses: 0.2, worst_traffic: 0.1 };
    let one = Peers { affected: 2, worst_losses: 0.9, worst_traffic: 0.3, ..network };
    for (name, peers, expected, scope, words) in [
        ("not known", None, Name::NetworkIn, "", "The network, not this machine, loses"),
        ("most of them", Some(network), Name::NetworkIn, "network", "The network, not this machine, loses"),
        (
            "one of them",
            Some(one),
            Name::NetworkIn,
            "one_remote",
            "The way of one remote peer, not the network as a whole, loses packets before its packets reach eth0",
        ),
        (
            "one of them, of a few losses",
            Some(Peers { lost: 9, worst_losses: 1.0, ..one }),
            Name::NetworkIn,
            "",
            "The network, not this machine, loses",
        ),
        (
            "one that has most of the traffic",
            Some(Peers { worst_traffic: 0.6, ..one }),
            Name::NetworkIn,
            "",
            "The network, not",
        ),
        (
            "the only two",
            Some(Peers { peers: 2, affected: 2, ..network }),
            Name::NetworkIn,
            "",
            "The network or the only peers at its other end, not this machine, loses",
        ),
        (
            "half of them",
            Some(Peers { affected: 5, ..network }),
            Name::NetworkIn,
            "",
            "The network, not this machine, loses",
        ),
        (
            "two connections",
            Some(Peers { lossy_flows: 2, ..network }),
            Name::Unknown,
            "",
            "Only 2 connections have lost packets at eth0",
        ),
    ] {
        let affected = Affected { peers, ..Affected::default() };
        let window = Window { affected, ..window(Counts { lost: [500, 0, 0], ..quiet() }) };
        let verdict = judge(&window, &detectors(&group(), &[Kind::NetworkIn], &[]), &seen("igb"));
        assert_eq!((verdict.verdict, verdict.scope.as_str()), (expected, scope), "{name}");
        assert!(verdict.sentence.contains(words), "{name}: {}", verdict.sentence);
    }
    let affected = Affected { is_pending: true, ..Affected::default() };
    for (kind, expected) in [(Kind::NetworkIn, Name::Unknown), (Kind::LocalTx, Name::LocalTx)] {
        let mut counts = quiet();
        match kind {
            Kind::NetworkIn => counts.lost[IN] = 500,
            _ => own(&mut counts, Place::Behind, Class::Capacity, 500),
        }
        let verdict = judge(&Window { affected, ..window(counts) }, &detectors(&group(), &[kind], &[]), &seen("igb"));
        assert_eq!(verdict.verdict, expected, "who is affected is being looked up");
    }
    for (damaged, expected) in [
        (None, Name::Unknown),
        (Some(Damaged { flows: 1, networks: 1, is_early: true }), Name::Unknown),
        (Some(Damaged { flows: 3, networks: 3, is_early: true }), Name::NetworkMalformed),
    ] {
        let affected = Affected { damaged, ..affected };
        let scanned = Window { affected, ..window(Counts { malformed_path: 50, ..quiet() }) };
        let verdict = judge(&scanned, &detectors(&group(), &[Kind::MalformedPath], &[]), &seen("igb"));
        assert_eq!(verdict.verdict, expected, "a first look finds {damaged:?}: {}", verdict.sentence);
    }
    let affected = Affected { peers: Some(Peers { lossy_flows: 1, ..one }), ..Affected::default() };
    let few = Window { affected, ..window(quiet()) };
    let mut counts = quiet();
    own(&mut counts, Place::Behind, Class::Capacity, 500);
    let few = Window { units: [(group(), counts)].into(), ..few };
    let verdict = judge(&few, &detectors(&group(), &[Kind::LocalTx], &[]), &seen("igb"));
    assert_eq!((verdict.verdict, verdict.scope.as_str()), (Name::LocalTx, ""), "this host needs no second connection");
}

#[test]
fn damaged_frames_of_healthy_connections_from_everywhere_are_the_networks() {
    for (flows, networks, is_early, expected) in [
        (3, 3, false, Name::NetworkMalformed),
        (3, 3, true, Name::NetworkMalformed),
        (3, 2, false, Name::RemoteMalformed),
        (2, 2, false, Name::RemoteMalformed),
        (2, 2, true, Name::Unknown),
        (0, 0, false, Name::RemoteMalformed),
        (0, 0, true, Name::RemoteMalformed),
    ] {
        let affected = Affected { damaged: Some(Damaged { flows, networks, is_early }), ..Affected::default() };
        let window = Window { affected, ..window(Counts { malformed_path: 50, ..quiet() }) };
        let verdict = judge(&window, &detectors(&group(), &[Kind::MalformedPath], &[]), &seen("igb"));
        assert_eq!(verdict.verdict, expected, "{flows} {networks} {is_early}");
        let acquitted = verdict.sentence.contains("neither this host nor the network is at fault");
        assert_eq!(acquitted, expected == Name::RemoteMalformed, "{}", verdict.sentence);
        let accused = verdict.sentence.contains("The network damages frames of healthy connections");
        assert_eq!(accused, expected == Name::NetworkMalformed, "{}", verdict.sentence);
    }
}

#[test]
fn drops_that_nobody_counted_may_be_this_hosts() {
    let lost = || window(Counts { lost: [500, 0, 0], ..quiet() });
    for (missed, expected) in [(0, Name::NetworkIn), (10, Name::NetworkIn), (120, Name::Unknown), (400, Name::Mixed)] {
        let sources = Sources { uncounted_drops: missed, ..seen("igb") };
        let verdict = judge(&lost(), &detectors(&group(), &[Kind::NetworkIn], &[]), &sources);
        assert_eq!(verdict.verdict, expected, "{missed}");
    }
}

#[test]
fn nothing_gets_through() {
    let alarms = |stalled| {
        let mut alarms = detectors(&group(), &[Kind::NetworkOut], &[]);
        alarms.iter_mut().filter(|alarm| alarm.alarmed).for_each(|alarm| alarm.stalled = stalled);
        alarms
    };
    let verdict = |lost, stalled| {
        let counts = Counts { segments: [0, lost], frames: [0, lost], lost: [0, lost, 0], ..Counts::default() };
        judge(&window(counts), &alarms(stalled), &seen("igb"))
    };
    assert_eq!(verdict(100, true).verdict, Name::NetworkOut, "enough to say");
    for lost in [0, 5] {
        let said = verdict(lost, true);
        assert_eq!(said.verdict, Name::Unknown, "{lost}");
        assert!(
            said.sentence.starts_with("Hardly anything gets through at eth0 any more: 0 segments"),
            "{}",
            said.sentence
        );
        assert!(said.unaffected.is_empty() && !said.is_blind());
    }
    assert_eq!(verdict(0, false).verdict, Name::None, "an alarm after which nothing is lost");
}

/// What carries nothing is not said to be well.
#[test]
fn an_idle_uplink_is_not_unaffected() {
    let sources = Sources::of(&snapshot(vec![uplink("eth0", "ethernet", "igb"), uplink("eth1", "ethernet", "igb")]));
    let unit = |name: &str| Unit::Interface(name.into());
    let unaffected = |frames| {
        let mut window = window(Counts { lost: [500, 0, 0], ..quiet() });
        window.units.insert(unit("eth0"), Counts { lost: [500, 0, 0], ..quiet() });
        window.units.insert(unit("eth1"), Counts { frames: [frames; 2], ..Counts::default() });
        let mut alarms = detectors(&group(), &[Kind::NetworkIn], &[]);
        alarms.extend(detectors(&unit("eth0"), &[Kind::NetworkIn], &[]));
        alarms.extend(detectors(&unit("eth1"), &[], &[]));
        judge(&window, &alarms, &sources).unaffected
    };
    assert_eq!(unaffected(LEAST_FRAMES), ["eth1"]);
    assert_eq!(unaffected(0), [""; 0]);
}

/// Who is not watched is not well, and is told of.
#[test]
fn units_beyond_those_that_are_watched() {
    let mut window = window(quiet());
    window.units.insert(Unit::Interface("eth9".into()), quiet());
    let verdict = judge(&window, &detectors(&group(), &[], &[]), &seen("igb"));
    assert_eq!(verdict.blind_spots, ["1 of its groups and interfaces: no more than 64 are judged"]);
}

/// Only a card has a cable.
#[test]
fn damaged_by_whom() {
    for (driver, expected) in [("igb", Name::Link), ("virtio_net", Name::Unknown), ("veth", Name::Unknown)] {
        let counts = Counts { link_errors: 500, ..quiet() };
        let verdict = judge(&window(counts), &detectors(&group(), &[Kind::Link], &[]), &seen(driver));
        assert_eq!(verdict.verdict, expected, "{driver}");
    }
}

#[test]
fn one_of_two_uplinks() {
    let sources = Sources::of(&snapshot(vec![uplink("eth0", "ethernet", "igb"), uplink("eth1", "ethernet", "igb")]));
    let unit = |name: &str| Unit::Interface(name.into());
    let lossy = Counts { lost: [500, 0, 0], ..quiet() };
    let mut window = window(lossy.clone());
    window.units.insert(unit("eth0"), lossy);
    window.units.insert(unit("eth1"), quiet());
    let mut alarms = detectors(&group(), &[Kind::NetworkIn], &[]);
    alarms.extend(detectors(&unit("eth0"), &[Kind::NetworkIn], &[]));
    alarms.extend(detectors(&unit("eth1"), &[], &[]));
    let verdict = judge(&window, &alarms, &sources);
    assert_eq!((verdict.verdict, verdict.unit.as_str()), (Name::NetworkIn, "uplinks"));
    assert_eq!((verdict.affected, verdict.unaffected), (vec!["eth0".to_owned()], vec!["eth1".to_owned()]));
    assert!(verdict.evidence.contains(&"not affected: eth1".to_owned()), "{:?}", verdict.evidence);
    assert!(!verdict.evidence.iter().any(|line| line.starts_with("at the same time")), "{:?}", verdict.evidence);
    // Something else at the other one.
    let counts = window.units.get_mut(&unit("eth1")).unwrap();
    own(counts, Place::Behind, Class::Capacity, 100);
    alarms.retain(|alarm| alarm.unit != unit("eth1"));
    alarms.extend(detectors(&unit("eth1"), &[Kind::LocalTx], &[]));
    let verdict = judge(&window, &alarms, &sources);
    assert_eq!(verdict.verdict, Name::NetworkIn, "what has lost most leads");
    assert!(verdict.evidence.contains(&"at the same time at eth1: local_tx".to_owned()), "{:?}", verdict.evidence);
}

#[test]
fn a_window_is_the_last_five_seconds() {
    let second = |at: u64| Second {
        uptime_ms: 1_000 * at,
        duration_ms: 1_000,
        units: [(group(), Counts { lost: [at, 0, 0], ..Counts::default() })].into(),
    };
    let seconds: Vec<Second> = (1..=9).map(second).collect();
    let window = Window::of(seconds.iter(), "now");
    assert_eq!((window.duration_ms, window.units[&group()].lost[IN]), (5_000, 5 + 6 + 7 + 8 + 9));
    assert_eq!((window.long.0, window.long.1[&group()].lost[IN]), (9_000, 45));
    for (seconds, short, long) in [(0, 0, 0), (2, 2, 0), (5, 5, 0), (6, 5, 6), (20, 5, 20), (40, 5, 20)] {
        let seconds: Vec<Second> = (0..seconds).map(second).collect();
        let window = Window::of(seconds.iter(), "now");
        assert_eq!((window.duration_ms, window.long.0), (1_000 * short, 1_000 * long), "{}", seconds.len());
    }
}

/// One percent of little traffic.
#[test]
fn where_five_seconds_hold_too_little_more_are_looked_at() {
    let lost = |lost| Counts { lost: [lost, 0, 0], ..quiet() };
    for (before, expected) in [(5, Name::Unknown), (40, Name::NetworkIn)] {
        let window = Window { long: (20_000, [(group(), lost(10 + before))].into()), ..window(lost(10)) };
        let verdict = judge(&window, &detectors(&group(), &[Kind::NetworkIn], &[]), &seen("igb"));
        assert_eq!(verdict.verdict, expected, "{before}");
        assert!(verdict.sentence.contains(" in 20 s"), "{}", verdict.sentence);
    }
}

#[test]
fn json_is_a_contract() {
    let json = serde_json::to_value(judged(Counts { lost: [500, 0, 0], ..quiet() }, &[Kind::NetworkIn])).unwrap();
    for key in
        ["schema", "time", "verdict", "sentence", "evidence", "next_steps", "unit", "affected", "unaffected", "shares"]
    {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!((&json["verdict"], &json["schema"]), (&"network_in".into(), &1.into()));
    for name in Name::ALL {
        assert_eq!(serde_json::to_value(name).unwrap(), name.id());
    }
}

/// A packet filter that drops what a guest sends on its way out.
#[test]
fn what_this_host_drops_on_its_own_side_is_no_guests_fault() {
    let lost = || {
        let mut counts = quiet();
        counts.lost[INSIDE] = 500;
        window(counts)
    };
    let detectors = detectors(&group(), &[Kind::Inside], &[]);
    for (dropped_inside, expected) in [(0, Name::Inside), (20, Name::Inside), (500, Name::Mixed), (2_500, Name::Mixed)]
    {
        let verdict = judge(&lost(), &detectors, &Sources { dropped_inside, ..seen("igb") });
        assert_eq!(verdict.verdict, expected, "{dropped_inside}: {verdict:?}");
        assert_eq!(verdict.evidence.iter().any(|line| line.contains("on other interfaces")), dropped_inside > 0);
    }
}

fn any_counts() -> impl Strategy<Value = Counts> {
    let small = || 0..2_000_u64;
    let own = prop::array::uniform3(prop::array::uniform6(prop_oneof![3 => Just(0_u64), 2 => 0..2_000_u64]));
    let wire = (prop::array::uniform3(small()), prop::array::uniform2(small()), prop::array::uniform2(small()));
    let rest = (prop::array::uniform2(small()), prop::array::uniform2(0..20_u64), 0..100_u64);
    (wire, own, rest).prop_map(|((lost, seen_again, not_needed), own, (refilled, malformed, link_errors))| Counts {
        lost,
        seen_again,
        not_needed,
        refilled,
        own,
        malformed_local: malformed[0],
        malformed_path: malformed[1],
        link_errors,
        ..quiet()
    })
}

fn any_detectors() -> impl Strategy<Value = Vec<Detector>> {
    prop::collection::vec((any::<bool>(), prop_oneof![2 => Just(0.0), 1 => 0.0..0.02]), Kind::ALL.len()).prop_map(
        |states| {
            let mut all = detectors(&group(), &[], &[]);
            for (detector, (alarmed, baseline)) in all.iter_mut().zip(states) {
                (detector.alarmed, detector.baseline) = (alarmed, baseline);
            }
            all
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What this host loses besides never makes a verdict accuse the network more. That a neighbour makes malformed frames is
    /// no matter of what is lost.
    #[test]
    fn more_local_losses_accuse_nobody_outside(
        counts in any_counts(),
        before in any_counts(),
        detectors in any_detectors(),
        more in prop::array::uniform3(prop::array::uniform6(prop_oneof![2 => Just(0_u64), 1 => 0..3_000_u64])),
        alarmed in any::<bool>(),
    ) {
        let window = |counts: &Counts, mut before: Counts| {
            before.add(counts);
            Window { long: (2 * WINDOW_MS, [(group(), before)].into()), ..window(counts.clone()) }
        };
        let earlier = before;
        let before = judge(&window(&counts, earlier.clone()), &detectors, &seen("igb"));
        let mut worse = counts;
        worse.own.as_flattened_mut().iter_mut().zip(more.as_flattened()).for_each(|(own, more)| *own += more);
        let mut later = detectors;
        let is_local = |kind: Kind| kind.id().starts_with("local_");
        later.iter_mut().filter(|detector| is_local(detector.kind)).for_each(|detector| detector.alarmed |= alarmed);
        let after = judge(&window(&worse, earlier), &later, &seen("igb"));
        if after.verdict == Name::NetworkMalformed {
            let is_seen = |detector: &Detector| detector.kind == Kind::MalformedLocal && detector.alarmed;
            prop_assert!(worse.malformed_local > 0 && later.iter().any(is_seen), "{:?}", after);
        } else if after.verdict.is_network() || after.verdict == Name::Inside {
            prop_assert_eq!(after.verdict, before.verdict, "{:?} became {:?}", before, after);
        }
    }

    /// Nobody outside is named whose share is not certain.
    #[test]
    fn whoever_is_named_outside_has_nearly_all_of_it_for_certain(
        counts in any_counts(),
        detectors in any_detectors(),
        missed in prop_oneof![Just(0_u64), 0..500_u64],
    ) {
        let sources = Sources { uncounted_drops: missed, ..seen("igb") };
        let verdict = judge(&window(counts), &detectors, &sources);
        if verdict.verdict.accuses() && verdict.verdict != Name::NetworkMalformed {
            let excess: f64 = verdict.shares.values().map(|share| share.ratio).sum();
            prop_assert!(excess <= 1.0 + 1e-9);
            let both: f64 = ["network_in", "network_out"].iter().filter_map(|name| verdict.shares.get(*name)).map(|share| share.ratio).sum();
            let alone = verdict.shares[verdict.verdict.id()];
            prop_assert!(alone.lower >= LEADS || (verdict.verdict.is_network() && both >= LEADS), "{:?}", verdict);
        }
        prop_assert!(verdict.shares.values().all(|share| (0.0..=1.0).contains(&share.lower) && share.lower <= share.upper));
    }
}
