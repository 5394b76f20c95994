//! What is sent to whoever runs the network: a text that stands for itself, to be copied as it is.

use std::fmt::Write as _;

use super::{Block, Facts, clock, percent, section};
use crate::detect::{incident::Incident, verdict::Name};

/// What is asked of whom, by verdict; `None` where it is nobody else's matter.
const fn request(name: Name) -> Option<[&'static str; 3]> {
    Some(match name {
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
        Name::Mixed | Name::Unknown => [
            "Packet loss at our host",
            "TCP segments were lost. From this host alone it cannot be said where; its own part is below.",
            "Please look for drops, errors and recent changes on the devices that lead to and from this host, and tell us what you find.",
        ],
        Name::None
        | Name::LocalRx
        | Name::LocalTx
        | Name::LocalPolicy
        | Name::LocalConfig
        | Name::Inside
        | Name::RemoteMalformed => return None,
    })
}

pub(super) fn section(incident: &Incident, facts: &Facts<'_>) -> Vec<Block> {
    let mut blocks = vec![Block::Section("For the provider's support")];
    let Some(request) = request(incident.verdict) else {
        let reason = format!("Nothing to send: the fault is {}.", section::side(incident.verdict));
        blocks.push(Block::Text(reason));
        return blocks;
    };
    blocks.push(Block::Text("Ready to be copied; attach evidence.pcapng if there is one.".to_owned()));
    blocks.push(Block::Verbatim(letter(incident, facts, request)));
    blocks
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
    line("At the same time not affected", &incident.unaffected.join(", "));
    let frames = facts.evidence.iter().flat_map(|evidence| &evidence.frames);
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
