use super::*;
use crate::{
    detect::{
        incident::{Gap, Peak, Point, State, StateChange, VerdictChange},
        verdict::{Name, Verdict},
    },
    event::{Event, tests::malformed},
    record::history::{self, History},
    snapshot::{Sender, Senders, Share},
};

/// What whoever may name an interface can write into a report.
pub(crate) const HOSTILE: &str = "<b>x|`y`_*#";

/// The incident of `incident.md`, shortened, at an interface with a hostile name.
pub(crate) fn incident() -> Incident {
    let text = str::to_owned;
    let change = |time: &str, state| StateChange { time: text(time), state };
    let course = (0..=240).map(|minute| {
        let ratio = if minute < 40 { f64::from(minute) * 0.004 } else { 0.16 * (240.0 - f64::from(minute)) / 200.0 };
        Point { seconds: f64::from(minute) * 60.0, ratio: Some(ratio), malformed: f64::from(minute % 50) }
    });
    let mut incident = Incident {
        schema: 1,
        id: text("20240118T104000Z-network"),
        state: State::Closed,
        onset: text("2024-01-18T10:40:00Z"),
        detected: text("2024-01-18T10:40:06.5Z"),
        judged: Some(text("2024-01-18T10:40:12Z")),
        closed: Some(text("2024-01-18T14:40:00Z")),
        last_seen: text("2024-01-18T14:40:00Z"),
        verdict: Name::NetworkMalformed,
        statement: Verdict {
            sentence: format!("The network loses up to 16 % of what comes to {HOSTILE}, and sends malformed frames."),
            evidence: vec![
                text("5,210 frames with a wrong header checksum in 5 s"),
                format!("{HOSTILE}: no drop of its own"),
            ],
            next_steps: vec![text("Send the report to the provider.")],
            shares: [
                ("network_in".to_owned(), Share { ratio: 0.97, lower: 0.95, upper: 0.98 }),
                ("inside".to_owned(), Share { ratio: 0.03, lower: 0.02, upper: 0.05 }),
            ]
            .into(),
            blind_spots: vec![text("hardware offload on eth1")],
            judged_ratio: Some(0.93),
            scope: text("network"),
            ..Verdict::default()
        },
        states: vec![
            change("2024-01-18T10:40:06.5Z", State::Opening),
            change("2024-01-18T10:40:12Z", State::Active),
            change("2024-01-18T13:15:00Z", State::Easing),
            change("2024-01-18T14:08:00Z", State::Acceptable),
            change("2024-01-18T14:40:00Z", State::Closed),
        ],
        verdicts: vec![VerdictChange {
            time: text("2024-01-18T10:40:12Z"),
            verdict: Name::NetworkMalformed,
            sentence: text("A device before this host sends malformed frames."),
        }],
        peak: Peak { time: text("2024-01-18T11:20:00Z"), ratio: 0.16 },
        course: course.collect(),
        affected: vec![text(HOSTILE)],
        unaffected: vec![text("eth1")],
        ..Incident::default()
    };
    incident.gaps = vec![Gap { from: text("2024-01-18T12:00:00Z"), to: text("2024-01-18T12:03:00Z") }];
    incident.objective.percent = 99.9;
    incident.objective.minutes_beyond = 208.0;
    incident.objective.minutes_allowed = 43.2;
    incident
}

/// A malformed frame of an interface, at a time.
fn frame(interface: &str, time: &str) -> Event {
    Event { interface: interface.to_owned(), time: time.to_owned(), scope: Some("local".to_owned()), ..malformed() }
}

/// Evidence and a recording of the first minute of it.
pub(crate) fn facts() -> (Evidence, Recording) {
    let frames =
        ["2024-01-18T09:00:00Z", "2024-01-18T10:41:00Z", "2024-01-18T11:00:00Z"].map(|time| frame(HOSTILE, time));
    let sender = |reason: &str, frames| Sender {
        reason: reason.to_owned(),
        source_mac: "02:00:00:00:00:07".to_owned(),
        vlan: Some(5),
        frames,
    };
    let senders = Senders {
        interface: HOSTILE.to_owned(),
        senders: vec![sender("ip4_csum", 5_210), sender("eth_src_group", 1)],
        other_frames: 0,
    };
    let evidence = Evidence { frames: frames.to_vec(), senders: vec![senders], ..Evidence::default() };
    let mut history = History::new(history::DEFAULT_LENGTH);
    for second in 0..60 {
        let mut snapshot = history::tests::snapshot(second, 50_000 * second);
        snapshot.time = format!("2024-01-18T10:40:{second:02}Z");
        history.add(&snapshot);
    }
    (evidence, history.recording())
}

fn section<'r>(report: &'r str, title: &str) -> &'r str {
    let begin = report.find(&format!("## {title}\n")).unwrap_or_else(|| panic!("no {title} in {report}"));
    let rest = &report[begin + 3..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

#[test]
fn a_report_says_all_there_is() {
    let (evidence, recording) = facts();
    let files = [File { name: "evidence.pcapng".to_owned(), what: "malformed frames" }];
    let facts = Facts { host: "node7", evidence: Some(&evidence), recording: Some(&recording), files: &files };
    let report = markdown::write(&incident(), &facts);
    assert!(report.starts_with("# Packet loss on node7, 2024-01-18 10:40:00 UTC\n\n**The network loses up to 16 % of"));
    for row in [
        "| Detected | 2024-01-18 10:40:06 UTC, 6.5 s after the onset |",
        "| Verdict | 2024-01-18 10:40:12 UTC, 12 s after the onset |",
        "| Peak | 16 % of segments lost, 2024-01-18 11:20:00 UTC, 40 min 00 s after the onset |",
        "| Over | 2024-01-18 14:40:00 UTC, 4 h 00 min after the onset |",
        "| Not affected | eth1 |",
    ] {
        assert!(report.contains(row), "{row} in {report}");
    }
    let timeline = section(&report, "Timeline");
    let at = |what: &str| timeline.find(what).unwrap_or_else(|| panic!("{what} in {timeline}"));
    assert!(at("onset, by") < at("lossprobe notices") && at("lossprobe notices") < at("verdict network\\_malformed"));
    assert!(at("verdict network") < at("worst moment") && at("worst moment") < at("state easing"), "{timeline}");
    assert!(timeline.contains("| 2024-01-18 14:08:00 | +3 h 28 min | state acceptable |"), "{timeline}");

    assert!(timeline.contains("| +1 h 20 min | nobody looks, until 2024-01-18 12:03:00 |"), "{timeline}");

    let verdict = section(&report, "Verdict and evidence");
    assert!(verdict.contains("| network\\_in | 97 % | 95 % to 98 % |\n| inside | 3.0 % |"), "{verdict}");
    assert!(verdict.contains("hardware offload on eth1") && verdict.contains("see 93 % of all frames"), "{verdict}");
    let malformed = section(&report, "Malformed frames");
    let row =
        "| ingress | ip4\\_csum | local | 02:00:00:00:00:07 (VLAN 5) | 2024-01-18 10:41:00 | 2024-01-18 11:00:00 |";
    assert!(malformed.contains(row), "what came an hour before is not of it: {malformed}");
    assert!(malformed.contains("| 02:00:00:00:00:07 | 5 | ip4\\_csum | 5210 |"), "{malformed}");
    assert!(!malformed.contains("src"), "reasons of which no frame belongs to it: {malformed}");
    let objective = section(&report, "Objective");
    assert!(objective.contains("In 208.0 minutes") && objective.contains("43.2 minutes in 30 days: 481 % of it."));
    assert!(section(&report, "Files beside this report").contains("| evidence.pcapng | malformed frames |"));
}

#[test]
fn the_letter_stands_for_itself() {
    let (evidence, _) = facts();
    let facts = Facts { host: "node7", evidence: Some(&evidence), ..Facts::default() };
    let report = markdown::write(&incident(), &facts);
    let letter = section(&report, "For the provider's support");
    for line in [
        "A device in your network sends malformed frames to our host",
        "Host: node7",
        "Time: from 2024-01-18 10:40:00 UTC (estimate) until 2024-01-18 14:40:00 UTC",
        "Worst loss: 16 % of TCP segments at 2024-01-18 11:20:00 UTC",
        "Lost by this host itself: nothing beyond the usual",
        "At the same time not affected: eth1",
        &format!("Malformed: ip4_csum on {HOSTILE} from 02:00:00:00:00:07 (VLAN 5)"),
        "- 5,210 frames with a wrong header checksum in 5 s",
    ] {
        assert_eq!(letter.lines().filter(|known| *known == line).count(), 1, "{line} in {letter}");
    }
    for (verdict, is_sent) in [
        (Name::NetworkIn, true),
        (Name::NetworkOut, true),
        (Name::Link, true),
        (Name::Mixed, true),
        (Name::Unknown, true),
        (Name::LocalRx, false),
        (Name::LocalPolicy, false),
        (Name::Inside, false),
        (Name::RemoteMalformed, false),
    ] {
        let report = markdown::write(&Incident { verdict, ..incident() }, &facts);
        let letter = section(&report, "For the provider's support");
        assert_eq!(letter.contains("```text"), is_sent, "{verdict:?}: nobody is accused of what is not theirs");
        assert_eq!(letter.contains("Nothing to send"), !is_sent, "{verdict:?}");
    }
}

/// The letter, or why there is none, of an incident in which parts have lost these shares.
fn answer(verdict: Name, shares: &[(Name, f64)], scope: &str) -> String {
    let share = |(name, ratio): &(Name, f64)| (name.id().to_owned(), Share { ratio: *ratio, ..Share::default() });
    let statement =
        Verdict { shares: shares.iter().map(share).collect(), scope: scope.to_owned(), ..Verdict::default() };
    let (evidence, _) = facts();
    let facts = Facts { evidence: Some(&evidence), ..Facts::default() };
    let report = markdown::write(&Incident { verdict, statement, ..incident() }, &facts);
    section(&report, "For the provider's support").to_owned()
}

#[test]
fn only_what_may_be_the_networks_is_sent() {
    use Name::{LocalRx, LocalTx, Mixed, NetworkIn, NetworkMalformed, NetworkOut, Unknown};
    for (verdict, shares, scope, expected) in [
        (Mixed, &[(LocalRx, 0.6), (LocalTx, 0.4)][..], "", "Nothing to send: the fault is more than one"),
        (Mixed, &[(LocalRx, 0.5), (NetworkOut, 0.4), (Unknown, 0.1)], "", "Lost by this host itself: 60 % of what is"),
        (Unknown, &[], "", "no part of it is known to be the network's"),
        (Unknown, &[(NetworkIn, 1.0)], "", "Lost by this host itself: nothing beyond the usual"),
        (NetworkIn, &[(NetworkIn, 0.95), (LocalRx, 0.05)], "network", "Lost by this host itself: 5.0 % of what is"),
        (NetworkIn, &[(NetworkIn, 1.0)], "one_remote", "Nothing to send: the fault is on the way of one remote peer"),
        (NetworkOut, &[(NetworkOut, 1.0)], "one_remote", "shows which: whoever runs that way needs its address."),
        (NetworkMalformed, &[], "one_remote", "Malformed: ip4_csum on"),
    ] {
        let said = answer(verdict, shares, scope);
        assert!(said.contains(expected), "{verdict:?} {shares:?} {scope}: {said}");
        let is_of_loss = shares.iter().any(|(name, _)| name.is_network());
        assert!(is_of_loss || !said.contains("TCP segments were"), "{said}");
    }
}

#[test]
fn malformed_frames_of_others_are_none_of_the_providers_business() {
    let (mut evidence, _) = facts();
    evidence.frames.push(frame("tap7", "2024-01-18T10:42:00Z"));
    let facts = Facts { evidence: Some(&evidence), ..Facts::default() };
    for (verdict, is_of_frames) in [(Name::NetworkMalformed, true), (Name::NetworkIn, false)] {
        let report = markdown::write(&Incident { verdict, ..incident() }, &facts);
        let letter = section(&report, "For the provider's support");
        assert_eq!(letter.contains("Malformed: "), is_of_frames, "{letter}");
        assert_eq!(letter.contains("evidence.pcapng"), is_of_frames, "{letter}");
        assert!(!report.contains("tap7"), "a guest's: {report}");
    }
}

/// One that has just begun: there is no verdict, no end, no course, and nothing beside it.
#[test]
fn what_is_not_known_is_not_said() {
    let young = Incident {
        id: "1".to_owned(),
        onset: "2024-01-18T10:40:00Z".to_owned(),
        detected: "2024-01-18T10:40:05Z".to_owned(),
        peak: Peak { time: "2024-01-18T10:40:05Z".to_owned(), ratio: 0.012 },
        verdict: Name::Unknown,
        last_seen: "2024-01-18T10:40:09Z".to_owned(),
        ..Incident::default()
    };
    let report = markdown::write(&young, &Facts::default());
    for absent in ["Malformed frames", "Objective", "Files beside", "NaN", "inf"] {
        assert!(!report.contains(absent), "{absent} in {report}");
    }
    for present in [
        "**No verdict names anybody yet.**",
        "| Over | no; this is what was known at 2024-01-18 10:40:09 UTC |",
        "| Affected | none known |",
    ] {
        assert!(report.contains(present), "{present} in {report}");
    }
    for (state, expected) in [(State::Opening, "not judged yet"), (State::Closed, "not known: it was over before")] {
        let unjudged = Incident { verdict: Name::None, state, ..young.clone() };
        let report = markdown::write(&unjudged, &Facts::default());
        assert_eq!(report.matches(expected).count(), 3, "{report}");
        assert!(!report.contains("nothing is wrong"), "{report}");
    }
    let accused = Incident { verdict: Name::NetworkIn, ..young };
    assert!(markdown::write(&accused, &Facts::default()).contains("still going on"));
    let nothing = markdown::write(&Incident::default(), &Facts::default());
    assert!(nothing.contains("There is no course yet."), "{nothing}");
}

#[test]
fn lengths_are_for_people() {
    for (seconds, text) in [
        (0.0, "0 s"),
        (6.5, "6.5 s"),
        (59.4, "59 s"),
        (60.0, "1 min 00 s"),
        (-61.0, "−1 min 01 s"),
        (3_661.0, "1 h 01 min"),
        (82_200.0, "22 h 50 min"),
        (86_400.0 * 4.0 + 3_600.0, "4 d 01 h"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}
