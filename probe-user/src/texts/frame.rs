//! What a malformed reason says besides its entry in [`probe_ebpf::reason`]: a finding for each, by hand.
//!
//! Names elsewhere are those of Wireshark 4.0 (display filters), Suricata 8 (decoder events, checksum keywords) and Linux
//! 6.18 (drop reasons in lower case, counters as `nstat` writes them); empty where there is no name for just that.

mod datagram;
mod ethernet;
mod ipv4;
mod ipv6;
mod segment;
mod tcp;
mod tunnel;

use probe_ebpf::reason::Malformed;

/// What can be said to somebody who has met a malformed reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub reason: Malformed,
    /// What must be known and [`Malformed::meaning`] does not say; whole sentences, or `""`.
    pub more: &'static str,
    /// What usually causes it, the likeliest first.
    pub causes: &'static [&'static str],
    /// Frames like this that are all right, each with whether it is reported.
    pub exceptions: &'static [&'static str],
    /// Commands to type, and what each shows or does.
    pub next_steps: &'static [(&'static str, &'static str)],
    /// Display filters that find it.
    pub wireshark: &'static [&'static str],
    /// Decoder events or keywords of rules.
    pub suricata: &'static [&'static str],
    /// Drop reasons, and counters of the MIB.
    pub kernel: &'static [&'static str],
}

/// The finding for a reason; a test asserts that there is one for each.
#[must_use]
pub fn of(reason: Malformed) -> Option<&'static Finding> {
    all().find(|finding| finding.reason == reason)
}

/// All findings, in the order of [`Malformed::ALL`].
pub fn all() -> impl Iterator<Item = &'static Finding> {
    let layers = [
        ethernet::FINDINGS,
        segment::FINDINGS,
        ipv4::FINDINGS,
        ipv6::FINDINGS,
        tcp::FINDINGS,
        datagram::FINDINGS,
        tunnel::FINDINGS,
    ];
    layers.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{classes::known_names, collect::mib};

    #[test]
    fn every_malformed_reason_has_one_finding_in_the_order_of_the_list() {
        let written: Vec<_> = all().map(|finding| finding.reason.id()).collect();
        let wanted: Vec<_> = Malformed::ALL.iter().map(|reason| reason.id()).collect();
        assert_eq!(written, wanted);
        assert!(Malformed::ALL.iter().all(|reason| of(*reason).is_some_and(|finding| finding.reason == *reason)));
    }

    #[test]
    fn findings_are_whole_and_none_is_another_s() {
        let mut seen = BTreeSet::new();
        for finding in all() {
            let id = finding.reason.id();
            assert!((1..=4).contains(&finding.causes.len()), "{id}: causes");
            assert!((2..=4).contains(&finding.next_steps.len()), "{id}: next steps");
            assert!(finding.more.is_empty() || finding.more.ends_with('.'), "{id}: {}", finding.more);
            for exception in finding.exceptions {
                let says_so = ["reported", "judged"].iter().any(|word| exception.contains(word));
                assert!(says_so, "{id}: is it reported? {exception}");
            }
            let steps = finding.next_steps.iter().flat_map(|(command, purpose)| [*command, *purpose]);
            let lists = [finding.causes, finding.exceptions, finding.wireshark, finding.suricata, finding.kernel];
            let parts: Vec<_> = lists.into_iter().flatten().copied().chain(steps).collect();
            for part in &parts {
                assert!(!part.is_empty() && !part.contains("  ") && part.trim() == *part, "{id}: {part:?}");
            }
            assert!(seen.insert(parts), "{id}: somebody else's text");
        }
    }

    #[test]
    fn what_others_call_it_has_the_form_of_their_names() {
        let drops: BTreeSet<_> = known_names().collect();
        let counters: BTreeSet<_> = mib::causes().map(|(_, _, counter)| counter).collect();
        for finding in all() {
            let id = finding.reason.id();
            for name in finding.kernel {
                assert!(
                    drops.contains(name) || counters.contains(*name),
                    "{id}: neither drop reason nor counter: {name}"
                );
            }
            for name in finding.suricata {
                let is_name = |part: &str| {
                    !part.is_empty() && part.chars().all(|c| "_-".contains(c) || c.is_ascii_alphanumeric())
                };
                let parts = name.split_once('.').or_else(|| name.split_once(':'));
                assert!(parts.is_some_and(|(before, behind)| is_name(before) && is_name(behind)), "{id}: {name}");
            }
            for filter in finding.wireshark {
                let is_fit = filter.contains('.') && !filter.contains('\'') && filter.is_ascii();
                assert!(is_fit, "{id}: it stands between quotes: {filter}");
            }
        }
    }
}
