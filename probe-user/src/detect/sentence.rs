//! A verdict in words: one sentence for whoever has been woken by it, what it rests on, and what to do next.

use super::{
    second::{Place, Unit},
    source::Sources,
    verdict::{Finding, LEAST_PEERS, Name, Part, Why},
};
use crate::{classes::Class, texts};

/// What is said where nothing was looked at.
pub(super) const BLIND: &str = "Nothing is judged: the agent has just begun, or counting is paused, or no interface is an \
                                uplink or a track point; `lossprobe doctor` says which are, --uplink and --track name others.";
/// Nothing is wrong.
pub(super) const HEALTHY: &str = "Nothing is lost beyond what is usual.";
/// Interfaces that a sentence names.
const NAMED: usize = 2;
/// Things that are not seen, that a sentence names.
const LISTED: usize = 2;
/// Other units whose verdicts are evidence, what else has happened, and interfaces that are listed as not affected.
const MOST: usize = 8;

/// Name of the group or interface.
pub(super) fn unit(unit: &Unit) -> &str {
    match unit {
        Unit::Group(name) | Unit::Interface(name) => name,
    }
}

/// Interfaces that are affected, and those that are not and of which there is enough to say so. Of a group those that are
/// alarmed themselves, if any is.
pub(super) fn places(
    sources: &Sources,
    is_alarmed: impl Fn(&Unit) -> bool,
    carries: impl Fn(&Unit) -> bool,
) -> [Vec<String>; 2] {
    let mut affected = Vec::new();
    for (unit, own) in sources.units.iter().filter(|(unit, _)| is_alarmed(unit)) {
        let alarmed = own.interfaces.iter().filter(|name| is_alarmed(&Unit::Interface((*name).clone())));
        let alarmed: Vec<String> = alarmed.cloned().collect();
        let is_group = matches!(unit, Unit::Group(_));
        affected.extend(if is_group && !alarmed.is_empty() { alarmed } else { own.interfaces.clone() });
    }
    let mut unaffected = Vec::new();
    for (unit, own) in &sources.units {
        // By itself where it is judged by itself.
        let alone = own.interfaces.iter().map(|name| (name, Unit::Interface(name.clone())));
        let looked_at =
            alone.filter(|(_, alone)| carries(if sources.units.contains_key(alone) { alone } else { unit }));
        unaffected.extend(looked_at.map(|(name, _)| name.clone()));
    }
    unaffected.retain(|name| !affected.contains(name));
    [affected, unaffected].map(|mut names| {
        names.sort_unstable();
        names.dedup();
        names
    })
}

/// One sentence. `affected`: interfaces of all units.
pub(super) fn sentence(finding: &Finding<'_>, affected: &[String]) -> String {
    let (at, lost) = (at(finding, affected), finding.parts.first().map(amount).unwrap_or_default());
    let (seconds, count) = (seconds(finding), number(finding.parts.first().map_or(0, |part| part.excess)));
    let sentence = match (finding.name, &finding.why) {
        (Name::None, Why::Late) => {
            format!("Nothing is lost at {at}: segments came late and were sent again without need")
        }
        (Name::None, _) => return HEALTHY.to_owned(),
        (Name::LocalRx, _) => {
            format!("This machine itself loses what comes in by {at}: it had no room for {count} packets in {seconds}")
        }
        (Name::LocalTx, _) => {
            format!(
                "This machine itself loses what goes out by {at}: its queues had no room for {count} packets in {seconds}"
            )
        }
        (Name::LocalPolicy, _) => format!(
            "This machine drops packets of {at} because it is told to, by a packet filter, XDP or BPF: {count} in {seconds}"
        ),
        (Name::LocalConfig, _) => format!(
            "This machine drops packets of {at} because of its routes, neighbours or addresses: {count} in {seconds}"
        ),
        (Name::Inside, _) => format!(
            "Packets are lost on this host's side of {at}, in a guest or on the way to it, not in the network: {lost} in {seconds}"
        ),
        (Name::NetworkIn | Name::NetworkOut, _) => format!("{}{}", network(finding, &at), below(finding)),
        (Name::NetworkMalformed, _) => format!("{}{}", malformed(finding, &at), below(finding)),
        (Name::RemoteMalformed, _) => {
            let frames = number(finding.malformed());
            if finding.window.affected.damaged.is_some() {
                format!(
                    "Somebody far away sends malformed frames to {at} ({frames} in {seconds}); neither this host nor the network is at fault"
                )
            } else {
                format!("Malformed frames that may have been made anywhere come to {at} ({frames} in {seconds})")
            }
        }
        (Name::Link, _) => {
            format!("The cable, the optics or the port of {at} is bad: {count} frames arrived damaged in {seconds}")
        }
        (Name::Mixed, _) => format!("More than one thing is wrong at {at}: {}", mixture(finding)),
        (Name::Unknown, Why::Missing(missing)) => {
            let more = missing.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let missing = missing.get(..LISTED.min(missing.len())).unwrap_or_default().join("; ");
            let what =
                if finding.malformed() > 0 && !finding.loses { "Malformed frames come" } else { "Packets are lost" };
            format!("{what}, and whose fault it is cannot be told from here, because this is not seen: {missing}{more}")
        }
        (Name::Unknown, Why::TooFewFlows(flows)) => format!(
            "Only {} lost packets at {at}: too few to say whose fault it is",
            plural(*flows, "connection has", "connections have")
        ),
        (Name::Unknown, Why::Pending) if finding.loses => {
            format!("Packets are lost at {at}: {lost} in {seconds}; which connections lose them is being looked up")
        }
        (Name::Unknown, Why::Pending) => {
            format!("Malformed frames come to {at}; whether connections come damaged is being looked up")
        }
        (Name::Unknown, Why::Stalled) => {
            let [came, went] = finding.counts.segments.map(number);
            format!(
                "Hardly anything gets through at {at} any more: {came} segments came in and {went} went out in {seconds}, too few to say \
                 whose fault it is"
            )
        }
        (Name::Unknown, Why::NoReason) => {
            format!("This machine dropped {count} packets of {at} in {seconds}, and its kernel does not say why")
        }
        (Name::Unknown, _) => format!(
            "Packets are lost at {at}, and too few of them so far ({} in {seconds}) to say whose fault it is",
            number(finding.all())
        ),
    };
    sentence + "."
}

/// Where in the network.
fn network(finding: &Finding<'_>, at: &str) -> String {
    let lost = finding.parts.first().map(amount).unwrap_or_default();
    let has_few_peers = finding.window.affected.peers.is_some_and(|peers| peers.peers < LEAST_PEERS);
    let (who, comes) = if finding.scope == "one_remote" {
        ("The way of one remote peer, not the network as a whole,", "its packets reach")
    } else if has_few_peers {
        ("The network or the only peers at its other end, not this machine,", "they reach")
    } else {
        ("The network, not this machine,", "they reach")
    };
    let whither = if finding.name == Name::NetworkIn {
        format!("before {comes} {at}")
    } else {
        format!("after they have left {at}")
    };
    let whither = if finding.both_ways { format!("both ways, most of them {whither}") } else { whither };
    format!("{who} loses packets {whither}: {lost} in {}", seconds(finding))
}

fn malformed(finding: &Finding<'_>, at: &str) -> String {
    let frames = number(finding.malformed());
    let who = if finding.malformed_local > 0 {
        format!("A device on the network segment of {at} makes malformed frames ({frames} in {})", seconds(finding))
    } else {
        format!(
            "The network damages frames of healthy connections before they reach {at} ({frames} in {})",
            seconds(finding)
        )
    };
    let lost = finding.parts.iter().find(|part| part.name.is_network());
    let lost = lost
        .filter(|_| finding.network_loses)
        .map_or_else(String::new, |part| format!(", and {} of the segments are lost on the way", percent(ratio(part))));
    who + &lost
}

/// Where a virtual card ends what can be seen.
fn below(finding: &Finding<'_>) -> &'static str {
    if finding.sources.is_virtual {
        ", or it happens below this machine's virtual NIC, which it cannot see"
    } else if finding.sources.is_pair {
        ", or it happens at the other end of this virtual cable, which it cannot see"
    } else {
        ""
    }
}

fn mixture(finding: &Finding<'_>) -> String {
    let malformed =
        Some(format!("{} malformed frames", number(finding.malformed()))).filter(|_| finding.malformed() > 0);
    let parts = finding.parts.iter().take(3).map(|part| {
        let share = finding.share(part).map_or_else(String::new, |share| percent(share.ratio));
        format!("{share} is lost {}", place(part.name))
    });
    let elsewhere = Some(finding.dropped_inside).filter(|dropped| *dropped > 0 && finding.lost_inside());
    let elsewhere = elsewhere
        .map(|dropped| format!("this host itself has dropped {} packets on other interfaces", number(dropped)));
    malformed.into_iter().chain(parts).chain(elsewhere).collect::<Vec<_>>().join(", ")
}

/// Where a part was lost, behind "lost".
const fn place(name: Name) -> &'static str {
    match name {
        Name::NetworkIn => "in the network, before it came here",
        Name::NetworkOut => "in the network, after it had left",
        Name::Inside => "on this host's side, in a guest or on the way to it",
        Name::LocalRx => "by this host for want of room, receiving",
        Name::LocalTx => "by this host for want of room, sending",
        Name::LocalPolicy => "by this host because it is told to",
        Name::LocalConfig => "by this host because of how it is set up",
        Name::Link => "on the cable",
        _ => "by this host, for reasons that its kernel does not say",
    }
}

/// What the verdict rests on, the most telling first.
pub(super) fn evidence(finding: &Finding<'_>, others: &[Finding<'_>], unaffected: &[String]) -> Vec<String> {
    let at = unit(finding.unit);
    let mut lines = Vec::new();
    if finding.malformed() > 0 {
        lines.push(format!(
            "{at}: {} malformed frames that only a neighbour on this segment can have made, {} that may come from anywhere",
            number(finding.malformed_local),
            number(finding.malformed_path)
        ));
    }
    for part in &finding.parts {
        let share = finding.share(part).map_or_else(String::new, |share| {
            format!("; {} of all that is lost, at least {}", percent(share.ratio), percent(share.lower))
        });
        let usual =
            if part.name == Name::Link { format!("{:.2} in a second", part.usual) } else { percent(part.usual) };
        lines.push(format!("{at}: {} lost {}, usually {usual}{share}", amount(part), place(part.name)));
    }
    if finding.name.accuses() {
        lines.push(own(finding));
    }
    for way in 0..2 {
        let (again, needless) = (finding.counts.seen_again[way], finding.counts.not_needed[way]);
        if needless > 0 {
            let way = ["in", "out"][way];
            lines.push(format!(
                "{at}: of {} segments sent again on the way {way}, {} had not been needed",
                number(again),
                number(needless)
            ));
        }
    }
    if finding.uncounted_drops > 0 {
        lines.push(format!(
            "{} drops of this host could not be counted, and count as if they explained losses",
            number(finding.uncounted_drops)
        ));
    }
    if finding.dropped_inside > 0 && finding.lost_inside() {
        lines.push(format!(
            "{} packets dropped by this host on other interfaces (`lossprobe stats --losses`), which would look like a loss inside",
            number(finding.dropped_inside)
        ));
    }
    if let Some(peers) = finding.window.affected.peers.filter(|_| finding.loses) {
        lines.push(format!(
            "{} of {} peers affected, in {}; the worst has {} of the losses on {} of the traffic",
            peers.affected,
            peers.peers,
            plural(peers.lossy_flows, "connection", "connections"),
            percent(peers.worst_losses),
            percent(peers.worst_traffic)
        ));
    }
    if let Some(damaged) =
        finding.window.affected.damaged.filter(|damaged| finding.malformed_path > 0 && damaged.flows > 0)
    {
        lines.push(format!(
            "damaged frames in {} that otherwise {}, with peers in {}",
            plural(damaged.flows, "connection", "connections"),
            if damaged.flows == 1 { "works" } else { "work" },
            plural(damaged.networks, "network", "networks")
        ));
    }
    for other in others.iter().filter(|other| other.name != Name::None && !is_part_of(other, finding)).take(MOST) {
        lines.push(format!("at the same time at {}: {}", unit(other.unit), other.name.id()));
    }
    if finding.name != Name::None {
        lines.extend(finding.sources.hints.iter().take(MOST).cloned());
    }
    if !unaffected.is_empty() && finding.name != Name::None {
        lines.push(format!("not affected: {}", list(unaffected, MOST)));
    }
    lines
}

/// Whether another finding only repeats this one: of an interface of the same group.
fn is_part_of(other: &Finding<'_>, finding: &Finding<'_>) -> bool {
    other.name == finding.name && other.sources.interfaces.iter().any(|name| finding.sources.interfaces.contains(name))
}

/// What this host has lost at the same time. Malformed frames, which it turns away, are no loss.
fn own(finding: &Finding<'_>) -> String {
    let lost = |places: &[Place]| -> u64 {
        let classes = Class::ALL.iter().filter(|class| !matches!(class, Class::Noise | Class::Malformed));
        let all = classes
            .flat_map(|class| places.iter().map(move |place| finding.counts.own[*place as usize][*class as usize]));
        all.sum()
    };
    format!(
        "this host in the same time: {} lost receiving, {} passing on, {} sending, the usual included",
        number(lost(&[Place::Before])),
        number(lost(&[Place::Within])),
        number(lost(&[Place::Behind]))
    )
}

/// What to do, each a command and what it is for.
pub(super) fn next_steps(finding: &Finding<'_>, affected: &[String]) -> Vec<String> {
    let name = if finding.why == Why::Late { Name::None } else { finding.name };
    let names = interfaces(finding, affected);
    let device = names.first().map_or("DEV", String::as_str);
    let steps = texts::of_verdict(name).next_steps.iter();
    steps.map(|(command, purpose)| format!("{}  ({purpose})", command.replace("DEV", device))).collect()
}

fn at(finding: &Finding<'_>, affected: &[String]) -> String {
    let names = interfaces(finding, affected);
    if names.is_empty() { unit(finding.unit).to_owned() } else { list(&names, NAMED) }
}

/// Interfaces of a finding that are affected, or all of them if it is not known which.
fn interfaces(finding: &Finding<'_>, affected: &[String]) -> Vec<String> {
    let all = &finding.sources.interfaces;
    let affected: Vec<String> = all.iter().filter(|name| affected.contains(name)).cloned().collect();
    if affected.is_empty() { all.clone() } else { affected }
}

fn list(names: &[String], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(" and "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn seconds(finding: &Finding<'_>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let seconds = finding.duration_ms as f64 / 1e3;
    format!("{seconds:.0} s")
}

/// How much a part has lost, and of what.
fn amount(part: &Part) -> String {
    if part.name == Name::Link {
        return format!("{} frames", number(part.lost));
    }
    let what = if matches!(part.name, Name::LocalRx | Name::LocalTx) { "packets" } else { "segments" };
    format!("{} ({} of {} {what})", percent(ratio(part)), number(part.lost), number(part.passed))
}

#[expect(clippy::cast_precision_loss, reason = "what passes in seconds is far below 2^53")]
fn ratio(part: &Part) -> f64 {
    part.lost as f64 / part.passed.max(part.lost).max(1) as f64
}

/// With as many places as it takes to be more than nothing.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent < 0.01 => "under 0.01 %".to_owned(),
        _ if percent < 1.0 => format!("{percent:.2} %"),
        _ if percent < 10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// Digits by threes.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        for (count, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(number(count), expected);
        }
        for (share, expected) in [
            (0.0, "0 %"),
            (0.000_01, "under 0.01 %"),
            (0.0034, "0.34 %"),
            (0.0123, "1.2 %"),
            (0.5, "50 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn names_of_many() {
        let names = |count: usize| (0..count).map(|at| format!("eth{at}")).collect::<Vec<_>>();
        for (count, expected) in [(1, "eth0"), (2, "eth0 and eth1"), (4, "eth0, eth1 and 2 more")] {
            assert_eq!(list(&names(count), NAMED), expected);
        }
    }
}
