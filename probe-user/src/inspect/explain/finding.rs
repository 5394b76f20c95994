//! A malformed reason: what its entry in `probe_ebpf::reason` says, and what stands in `texts::frame`.

use probe_ebpf::reason::{Malformed, Scope, Severity};

use super::{Advice, Elsewhere, Explanation, NextStep};
use crate::texts::frame::{self, Finding};

/// Where rules apply that only user space knows.
const IN_CAPTURES: &str =
    " It is looked for in captured frames (`lossprobe analyze`, evidence), not in every one that passes.";

/// Everything that is known of a malformed reason.
pub(super) fn of(reason: Malformed) -> Option<Explanation> {
    let (id, layer, finding) = (reason.id(), reason.layer(), frame::of(reason)?);
    let gravity = match reason.severity() {
        Severity::Error => "It must never happen on a healthy wire.",
        Severity::Warning => "It is suspicious; scanners and old equipment make such frames, too.",
        Severity::Info => "It is worth knowing and no metric.",
    };
    let maker = match reason.scope() {
        Scope::Local => {
            "No router forwards it: its maker is on this segment. (Inside a tunnel its scope is path: its maker is where the \
             tunnel begins.)"
        }
        Scope::Path => "It may come from anywhere.",
    };
    let looked_for = if finding.reason.is_judged_at_hooks() { "" } else { IN_CAPTURES };
    let meaning = format!("A frame contradicts the rules of {layer}: {}. {gravity} {maker}", reason.meaning());
    Some(Explanation::MalformedReason {
        name: id,
        severity: reason.severity().id(),
        layer,
        scope: reason.scope().id(),
        standard: reason.standard(),
        advice: Advice {
            meaning: format!("{meaning} {}{looked_for}", finding.more).trim_end().to_owned(),
            causes: finding.causes.to_vec(),
            next_steps: frame_steps(finding),
        },
        exceptions: finding.exceptions,
        elsewhere: Elsewhere { wireshark: finding.wireshark, suricata: finding.suricata, kernel: finding.kernel },
    })
}

/// Those by which everybody begins, then the finding's own.
fn frame_steps(finding: &Finding) -> Vec<NextStep> {
    let id = finding.reason.id();
    let mut steps = Vec::new();
    if finding.reason.is_judged_at_hooks() {
        steps.extend([
            NextStep::new(
                format!("lossprobe watch --type malformed --reason {id} --output json"),
                "the frames as they come, with sender, offset and first bytes",
            ),
            NextStep::new(
                format!("lossprobe capture --reason {id} --count 20 -w {id}.pcapng"),
                "some of them as evidence; each has as its comment what is wrong with it, and where",
            ),
        ]);
        if !finding.wireshark.is_empty() {
            let filter = finding.wireshark.join(" or ");
            steps.push(NextStep::new(
                format!("tshark -r {id}.pcapng{} -Y '{filter}'", checksum_option(&filter)),
                "which of them Wireshark finds wrong, too",
            ));
        }
    }
    steps.extend(finding.next_steps.iter().map(|(command, purpose)| NextStep::new(*command, *purpose)));
    steps
}

/// Wireshark 4.0 verifies these three only if it is told to.
fn checksum_option(filter: &str) -> String {
    let protocol = filter.split_once(".checksum.status").map_or("", |(protocol, _)| protocol);
    match protocol {
        "ip" | "tcp" | "udp" => format!(" -o {protocol}.check_checksum:TRUE"),
        _ => String::new(),
    }
}
