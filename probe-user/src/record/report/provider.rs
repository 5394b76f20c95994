//! What is sent to whoever runs the network: a text that stands for itself, to be copied as it is.

use std::fmt::Write as _;

use super::{Block, Facts, clock, section};
use crate::detect::{incident::Incident, percent, verdict::Name};

/// What is asked of whom: a title, what happened, and a request; or why nobody is asked.
fn request(incident: &Incident) -> Result<[&'static str; 3], String> {
    let fault = section::fault(incident);
    if section::is_one_remote(incident) {
        return Err(format!(
            "the fault is {fault}. While it goes on `lossprobe flows` shows which: whoever runs that way needs its address"
        ));
    }
    Ok(match incident.verdict {
        Name::NetworkIn => [
            "Packet loss in your network towards our host",
            "TCP segments that were sent to this host were lost before they reached its network interface.",
            "Please look for drops, errors and recent changes (maintenance, new routes, firmware) on the devices that lead to this host, and tell us what you find.",
        ],
        Name::NetworkOut => [
            "Packet loss in your network behind our host",
            "TCP segments were lost after they had left this host's network interface.",
            "Please look for drops, errors and recent changes (maintenance, new routes, firmware) on the devices behind this host's port, and tell us what you find.",
        ],
        Name::NetworkMalformed => [
            "A device in your network sends malformed frames to our host",
            "Frames arrived that contradict themselves, of kinds that no router passes on or that came in many connections that were otherwise in order: a device on the segment before this host makes or damages them.",
            "Please find the device that sends them (its source addresses are above, samples in evidence.pcapng), and tell us what you find.",
        ],
        Name::Link => [
            "Damaged frames on the link of our host",
            "This host's network interface found frames damaged on the wire (checksum of the frame, symbols, lengths).",
            "Please look at the port that this host is connected to: its error counters, optics and cable.",
        ],
        Name::Mixed | Name::Unknown if share(incident, Name::is_network) > 0.0 => [
            "Packet loss at our host",
            "TCP segments were lost, of which a part may have been lost in your network: from this host alone that is not certain. What it has lost itself is below.",
            "Please look for drops, errors and recent changes on the devices that lead to and from this host, and tell us what you find.",
        ],
        Name::Mixed | Name::Unknown => {
            return Err(format!("the fault is {fault}; no part of it is known to be the network's"));
        }
        Name::None
        | Name::LocalRx
        | Name::LocalTx
        | Name::LocalPolicy
        | Name::LocalConfig
        | Name::Inside
        | Name::RemoteMalformed => return Err(format!("the fault is {fault}")),
    })
}

/// Of what was lost beyond the usual, the share of these parts.
fn share(incident: &Incident, is_meant: fn(Name) -> bool) -> f64 {
    let meant = Name::ALL.into_iter().filter(|name| is_meant(*name));
    meant.filter_map(|name| incident.statement.shares.get(name.id())).map(|share| share.ratio).sum()
}

pub(super) fn section(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let mut blocks = vec![Block::Section("For the provider's support")];
    match request(incident) {
        Ok(request) => {
            let attach = if is_of_frames(incident) { "; attach evidence.pcapng if there is one" } else { "" };
            blocks.push(Block::Text(format!("Ready to be copied{attach}.")));
            blocks.push(Block::Verbatim(letter(incident, facts, request)));
        }
        Err(reason) => blocks.push(Block::Text(format!("Nothing to send: {reason}."))),
    }
    blocks
}

/// Whether malformed frames are what somebody is asked about: they are of others' connections.
fn is_of_frames(incident: &Incident) -> bool {
    incident.verdict == Name::NetworkMalformed
}

fn letter(incident: &Incident, facts: &Facts<'_>, [subject, what, please]: [&str; 3]) -> String {
    let mut text = format!("{subject}\n\n{what}\n\n");
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "{name}: {value}");
        }
    };
    line("Host", facts.host);
    line("Interfaces", &incident.affected.join(", "));
    let closed = incident.closed.as_deref();
    let end = closed.map_or_else(|| ", still going on".to_owned(), |closed| format!(" until {} UTC", clock(closed)));
    line("Time", &format!("from {} UTC (estimate){end}", clock(&incident.onset)));
    if incident.peak.ratio > 0.0 {
        let peak = format!("{} of TCP segments at {} UTC", percent(incident.peak.ratio), clock(&incident.peak.time));
        line("Worst loss", &peak);
    }
    // What its kernel gives no reason for it has lost, too.
    let own = share(incident, |name| name.is_local() || name == Name::Unknown);
    let own =
        if own > 0.0 { percent(own) + " of what is beyond the usual" } else { "nothing beyond the usual".to_owned() };
    line("Lost by this host itself", &own);
    line("At the same time not affected", &incident.unaffected.join(", "));
    let frames = facts.evidence.filter(|_| is_of_frames(incident)).into_iter().flat_map(|evidence| &evidence.frames);
    let mut kinds: Vec<String> = frames
        .filter(|event| event.direction.as_deref() == Some("ingress") && section::belongs(incident, event))
        .map(|event| {
            let sender = section::sender(event).map_or_else(String::new, |sender| format!(" from {sender}"));
            format!("{} on {}{sender}", event.reason, event.interface)
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds.iter().take(20) {
        line("Malformed", kind);
    }
    if !incident.statement.evidence.is_empty() {
        text.push_str("\nHow we know:\n");
        for point in &incident.statement.evidence {
            let _infallible = writeln!(text, "- {point}");
        }
    }
    let _infallible = writeln!(text, "\n{please}");
    text
}
