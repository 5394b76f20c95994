//! The sections of a report, but for the one that goes out of the house.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Block, Facts, clock, duration, id, seconds};
use crate::{
    detect::{
        incident::{Incident, State},
        percent,
        verdict::Name,
    },
    event::Event,
    record::{
        chart::{Chart, Line, Mark},
        history::Area,
    },
};

/// Rows of a table, and points of a list: the first ones, and how many more there are.
const MOST_ROWS: usize = 50;
/// How long before its onset a malformed frame may have come and belong to an incident.
const BEFORE_ONSET: f64 = 60.0;

/// Whose fault an incident is, in words that follow "the fault is".
pub(super) fn fault(incident: &Incident) -> &'static str {
    match incident.verdict {
        Name::None if incident.is_open() => "not judged yet",
        Name::None => "not known: it was over before there was a verdict",
        _ if is_one_remote(incident) => "on the way of one remote peer, not of the network as a whole",
        name => side(name),
    }
}

/// Whether the network loses, and only on the way of one peer.
pub(super) fn is_one_remote(incident: &Incident) -> bool {
    matches!(incident.verdict, Name::NetworkIn | Name::NetworkOut) && incident.statement.scope == "one_remote"
}

/// Who it was, in words that follow "lost" or "the fault is".
const fn side(name: Name) -> &'static str {
    match name {
        Name::None => "nobody's: nothing is wrong",
        Name::LocalRx => "this host, while receiving",
        Name::LocalTx => "this host, while sending",
        Name::LocalPolicy => "this host, by a rule that somebody has made",
        Name::LocalConfig => "this host, by the way it is set up",
        Name::Inside => "behind this host: a guest, a container or the network inside",
        Name::NetworkIn => "the network, before it came to this host",
        Name::NetworkOut => "the network, after it had left this host",
        Name::NetworkMalformed => "a device of the network segment before this host, which sends malformed frames",
        Name::RemoteMalformed => "somebody far away who sends malformed frames",
        Name::Link => "the link: cable, optics or port",
        Name::Mixed => "more than one, of which none leads",
        Name::Unknown => "not known: what would be needed to say it was not seen",
    }
}

pub(super) fn summary(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let host = if facts.host.is_empty() { String::new() } else { format!(" on {}", facts.host) };
    let mut blocks = vec![Block::Title(format!("Packet loss{host}, {} UTC", clock(&incident.onset)))];
    let sentence = &incident.statement.sentence;
    blocks.push(Block::Lead(if sentence.is_empty() {
        "No verdict names anybody yet.".to_owned()
    } else {
        sentence.clone()
    }));
    let after = |time: &str| {
        seconds(&incident.onset, time).map_or_else(String::new, |s| format!(", {} after the onset", duration(s)))
    };
    let at = |time: &str| format!("{} UTC{}", clock(time), after(time));
    let mut rows = vec![
        ("Incident", incident.id.clone()),
        ("State", id(&incident.state)),
        ("Whose fault", format!("{} ({})", fault(incident), incident.verdict.id())),
        ("Onset (estimate)", format!("{} UTC", clock(&incident.onset))),
        ("Detected", at(&incident.detected)),
        ("Verdict", incident.judged.as_deref().map_or_else(|| "none that names anybody".to_owned(), at)),
        ("Peak", format!("{} of segments lost, {}", percent(incident.peak.ratio), at(&incident.peak.time))),
        ("Affected", names(&incident.affected)),
        ("Not affected", names(&incident.unaffected)),
    ];
    match &incident.closed {
        Some(closed) => rows.push(("Over", at(closed))),
        None => rows.push(("Over", format!("no; this is what was known at {} UTC", clock(&incident.last_seen)))),
    }
    blocks.push(table(
        vec!["What", "Value"],
        rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect(),
    ));
    blocks
}

/// What is lost over time, what came malformed, and on which side it was lost.
pub(super) fn graphs(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let begin: Option<Timestamp> = incident.onset.parse().ok();
    let mark = |name: &str, time: &str| Some(Mark { seconds: seconds(&incident.onset, time)?, name: name.to_owned() });
    let judged = incident.judged.iter().filter_map(|time| mark("verdict", time));
    let states = incident.states.iter().filter(|change| change.state > State::Active);
    let marks: Vec<Mark> = [mark("onset", &incident.onset), mark("detected", &incident.detected)]
        .into_iter()
        .flatten()
        .chain(judged)
        .chain(states.filter_map(|change| mark(&id(&change.state), &change.time)))
        .collect();
    let ratios = incident.course.iter().map(|point| (point.seconds, point.ratio.map(|ratio| 100.0 * ratio)));
    let mut charts = vec![Chart {
        title: "Share of TCP segments lost".to_owned(),
        unit: "%",
        begin,
        lines: vec![Line { name: String::new(), points: with_gaps(ratios) }],
        marks: marks.clone(),
    }];
    let malformed = with_gaps(incident.course.iter().map(|point| (point.seconds, Some(point.malformed))));
    if malformed.iter().any(|(_, frames)| *frames > 0.0) {
        charts.push(Chart {
            title: "Malformed frames in a second".to_owned(),
            begin,
            lines: vec![Line { name: String::new(), points: malformed }],
            marks: marks.clone(),
            ..Chart::default()
        });
    }
    charts.extend(sides(facts, begin, marks));
    charts.retain(|chart| !chart.is_empty());
    let mut blocks = vec![Block::Section("What was lost, and when")];
    if charts.is_empty() {
        blocks.push(Block::Text("There is no course yet.".to_owned()));
    }
    blocks.extend(charts.into_iter().map(Block::Graph));
    blocks
}

/// Points of a line, which has a gap where nothing is known and where nobody looked: there points are missing.
fn with_gaps(points: impl Iterator<Item = (f64, Option<f64>)>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.map(|(seconds, value)| (seconds, value.unwrap_or(f64::NAN))).collect();
    let distances = points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let usual = distances.filter(|distance| *distance > 0.0).fold(f64::INFINITY, f64::min);
    let mut line: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for point in points {
        if line.last().is_some_and(|before| point.0 - before.0 > 3.0 * usual) {
            line.push((point.0 - usual, f64::NAN));
        }
        line.push(point);
    }
    line
}

/// Segments lost in a second by side, all track points together, as far back as was recorded.
fn sides(facts: &Facts<'_>, begin: Option<Timestamp>, marks: Vec<Mark>) -> Option<Chart> {
    let (recording, begin) = facts.recording.zip(begin)?;
    let mut lines =
        [("lost network_in", "before this host"), ("lost network_out", "after it"), ("lost inside", "inside")]
            .map(|(counter, name)| (counter, Line { name: name.to_owned(), points: Vec::new() }));
    for step in recording.steps().filter(|step| step.duration_ms > 0) {
        let end = step.time.duration_since(begin).as_secs_f64();
        let length = step.duration_ms as f64 / 1_000.0;
        for (counter, line) in &mut lines {
            let changes = step.changes().filter(|(series, _)| series.area == Area::Path && series.name == *counter);
            let lost: u64 = changes.map(|(_, segments)| segments).sum();
            line.points.push((end - length / 2.0, lost as f64 / length));
        }
    }
    let is_lossy = lines.iter().any(|(_, line)| line.points.iter().any(|(_, lost)| *lost > 0.0));
    is_lossy.then(|| Chart {
        title: "TCP segments lost in a second, by side, as far as it was recorded".to_owned(),
        unit: "",
        begin: Some(begin),
        lines: lines.map(|(_, line)| line).to_vec(),
        marks,
    })
}

pub(super) fn timeline(incident: &Incident) -> Vec<Block> {
    let mut entries: Vec<(&str, String)> = vec![
        (&incident.onset, "onset, by estimate".to_owned()),
        (&incident.detected, "lossprobe notices".to_owned()),
        (&incident.peak.time, format!("worst moment: {} of segments lost", percent(incident.peak.ratio))),
    ];
    entries.extend(incident.verdicts.iter().map(|change| {
        let sentence = if change.sentence.is_empty() { side(change.verdict) } else { &change.sentence };
        (change.time.as_str(), format!("verdict {}: {sentence}", change.verdict.id()))
    }));
    entries.extend(incident.states.iter().map(|change| (change.time.as_str(), format!("state {}", id(&change.state)))));
    let gaps = incident.gaps.iter().map(|gap| (gap.from.as_str(), format!("nobody looks, until {}", clock(&gap.to))));
    entries.extend(gaps);
    entries.retain(|(time, _)| !time.is_empty());
    // Text sorts as time does only where all have the same number of decimals.
    entries.sort_by_key(|(time, _)| time.parse::<Timestamp>().ok());
    let row = |(time, what): (&str, String)| {
        let after =
            seconds(&incident.onset, time).map_or_else(String::new, |s| format!("+{}", duration(s)).replace("+−", "−"));
        vec![clock(time), after, what]
    };
    let rows = entries.into_iter().map(row).collect();
    let mut blocks = vec![
        Block::Section("Timeline"),
        Block::Text("Times are UTC. Add what people did: calls, changes, tickets.".to_owned()),
        table(vec!["Time", "After onset", "What"], rows),
    ];
    if incident.changes_left_out > 0 {
        blocks.push(Block::Text(format!("For {} more changes there was no room.", incident.changes_left_out)));
    }
    if incident.clock_set_seconds != 0.0 {
        let set = duration(incident.clock_set_seconds);
        blocks.push(Block::Text(format!(
            "This host's clock was set by {set} meanwhile; all times are by the clock as set."
        )));
    }
    blocks
}

pub(super) fn verdict(incident: &Incident) -> Vec<Block> {
    let statement = &incident.statement;
    let mut blocks =
        vec![Block::Section("Verdict and evidence"), Block::Text(format!("The fault: {}.", fault(incident)))];
    if !statement.evidence.is_empty() {
        blocks.push(list(&statement.evidence));
    }
    if !statement.shares.is_empty() {
        let mut shares: Vec<_> = statement.shares.iter().collect();
        shares.sort_by(|one, other| other.1.ratio.total_cmp(&one.1.ratio));
        let row = |(part, share): (&String, &crate::snapshot::Share)| {
            vec![part.clone(), percent(share.ratio), format!("{} to {}", percent(share.lower), percent(share.upper))]
        };
        let rows = shares.into_iter().map(row).collect();
        blocks.push(table(vec!["Lost where", "Share of what is lost beyond the usual", "95 % interval"], rows));
    }
    let scope = match statement.scope.as_str() {
        "network" => "Most peers were affected: it is the network, not one of them.",
        "one_remote" => "Nearly all losses were those of one peer.",
        _ => "",
    };
    let seen = statement.judged_ratio.map(|ratio| {
        format!("The verdict could see {} of all frames (TCP connections that are followed).", percent(ratio))
    });
    blocks.extend(Some(scope).filter(|text| !text.is_empty()).map(|text| Block::Text(text.to_owned())));
    blocks.extend(seen.map(Block::Text));
    for (title, names) in [
        ("Missing, so that nobody outside could be named:", &statement.missing),
        ("Not seen from here, without weight in the verdict:", &statement.blind_spots),
    ] {
        if !names.is_empty() {
            blocks.extend([Block::Text(title.to_owned()), list(names)]);
        }
    }
    blocks
}

/// Which frames came malformed, and from whom.
pub(super) fn malformed(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let Some(evidence) = facts.evidence else { return Vec::new() };
    let mut kinds: BTreeMap<[&str; 3], Vec<&Event>> = BTreeMap::new();
    for event in evidence.frames.iter().filter(|event| belongs(incident, event)) {
        let direction = event.direction.as_deref().unwrap_or_default();
        kinds.entry([&event.interface, direction, &event.reason]).or_default().push(event);
    }
    if kinds.is_empty() {
        return vec![
            Block::Section("Malformed frames"),
            Block::Text("None were kept of what is affected, from the time of this incident.".to_owned()),
        ];
    }
    let row = |([interface, direction, reason], events): (&[&str; 3], &Vec<&Event>)| {
        let times: Vec<&str> = events.iter().map(|event| event.time.as_str()).collect();
        let macs: BTreeSet<String> = events.iter().filter_map(|event| sender(event)).collect();
        let senders = if macs.is_empty() { "–".to_owned() } else { macs.into_iter().collect::<Vec<_>>().join(", ") };
        let scope = events.iter().find_map(|event| event.scope.clone()).unwrap_or_default();
        let time = |time: Option<&&str>| time.map_or_else(String::new, |time| clock(time));
        let texts = [interface, direction, reason].map(ToString::to_string);
        texts.into_iter().chain([scope, senders, time(times.first()), time(times.last())]).collect()
    };
    let mut blocks = vec![
        Block::Section("Malformed frames"),
        Block::Text(
            "The sender is the last one on this segment, which need not be the device that damaged the frame."
                .to_owned(),
        ),
        table(
            vec!["Interface", "Direction", "Reason", "Scope", "Source MAC", "First kept", "Latest kept"],
            kinds.iter().map(row).collect(),
        ),
    ];
    let of_these = |interface: &str, reason: &str| kinds.keys().any(|kind| kind[0] == interface && kind[2] == reason);
    let senders = evidence.senders.iter().flat_map(|senders| {
        let known = senders.senders.iter().filter(|sender| of_these(&senders.interface, &sender.reason));
        known.map(|sender| {
            let vlan = sender.vlan.map_or_else(String::new, |vlan| vlan.to_string());
            let texts = [senders.interface.clone(), sender.source_mac.clone(), vlan, sender.reason.clone()];
            (sender.frames, texts.into_iter().chain([sender.frames.to_string()]).collect::<Vec<_>>())
        })
    });
    let mut senders: Vec<_> = senders.collect();
    senders.sort_by(|one, other| other.cmp(one));
    if !senders.is_empty() {
        blocks.push(Block::Text("Frames by source MAC, counted since the agent began:".to_owned()));
        let rows = senders.into_iter().map(|(_, row)| row).collect();
        blocks.push(table(vec!["Interface", "Source MAC", "VLAN", "Reason", "Frames"], rows));
    }
    blocks
}

/// Whether a frame came where an incident was, while it was or shortly before its estimated onset. What others get, as guests, is
/// no matter of whoever is asked.
pub(in crate::record) fn belongs(incident: &Incident, event: &Event) -> bool {
    let after = |time: &str| seconds(time, &event.time).unwrap_or(f64::NEG_INFINITY);
    let in_time =
        after(&incident.onset) >= -BEFORE_ONSET && incident.closed.as_deref().is_none_or(|closed| after(closed) <= 0.0);
    in_time && incident.affected.contains(&event.interface)
}

/// MAC address and VLAN of the last sender.
pub(super) fn sender(event: &Event) -> Option<String> {
    let mac = event.source_mac.as_ref()?;
    Some(event.vlan.map_or_else(|| mac.clone(), |vlan| format!("{mac} (VLAN {vlan})")))
}

pub(super) fn extent(incident: &Incident) -> Vec<Block> {
    vec![
        Block::Section("Affected, and not affected"),
        Block::List(vec![
            format!("Affected: {}.", names(&incident.affected)),
            format!("Not affected, though it was looked at: {}.", names(&incident.unaffected)),
        ]),
    ]
}

pub(super) fn objective(incident: &Incident) -> Vec<Block> {
    let objective = &incident.objective;
    if objective.percent <= 0.0 {
        return Vec::new();
    }
    let allowed = objective.minutes_allowed;
    let used =
        if allowed > 0.0 { format!(": {} of it", percent(objective.minutes_beyond / allowed)) } else { String::new() };
    vec![
        Block::Section("Objective"),
        Block::Text(format!(
            "In {:.1} minutes of this incident more was lost than is acceptable. An objective of {} % allows {allowed:.1} minutes in \
             30 days{used}. All incidents of the last 30 days have used {:.1} minutes.",
            objective.minutes_beyond, objective.percent, objective.minutes_used
        )),
    ]
}

/// What is still to be done and to be written by people, and what lies beside the report.
pub(super) fn open_ends(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let mut blocks = vec![Block::Section("What to do next")];
    if incident.statement.next_steps.is_empty() {
        blocks.push(Block::Text("The verdict suggests nothing.".to_owned()));
    } else {
        blocks.push(list(&incident.statement.next_steps));
    }
    blocks.push(Block::Section("To be written by people"));
    let questions = [
        "What did users notice, how many, and for how long?",
        "What was the cause, as the one who had it says?",
        "What was done, by whom, and what of it helped?",
        "What will be different next time?",
    ];
    blocks.push(Block::List(questions.map(str::to_owned).to_vec()));
    if !facts.files.is_empty() {
        blocks.push(Block::Section("Files beside this report"));
        let row = |file: &super::File| vec![file.name.clone(), file.what.to_owned()];
        blocks.push(table(vec!["File", "What is in it"], facts.files.iter().map(row).collect()));
    }
    if let Some(left_out) = facts.recording.map(|recording| recording.left_out).filter(|left_out| *left_out > 0) {
        blocks.push(Block::Text(format!("{left_out} counters found no room in the recorder and are in no file.")));
    }
    blocks
}

fn names(names: &[String]) -> String {
    let shown = names.iter().take(MOST_ROWS).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST_ROWS) {
        _ if names.is_empty() => "none known".to_owned(),
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn list(points: &[String]) -> Block {
    let more = points.len().checked_sub(MOST_ROWS).filter(|more| *more > 0).map(|more| format!("… and {more} more"));
    Block::List(points.iter().take(MOST_ROWS).cloned().chain(more).collect())
}

fn table(titles: Vec<&'static str>, mut rows: Vec<Vec<String>>) -> Block {
    if let Some(more @ 1..) = rows.len().checked_sub(MOST_ROWS) {
        rows.truncate(MOST_ROWS);
        let columns = titles.len();
        let mut last = vec![String::new(); columns];
        last[columns - 1] = format!("… and {more} more");
        rows.push(last);
    }
    Block::Table(titles, rows)
}
