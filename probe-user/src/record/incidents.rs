//! What the agent answers at [`PATH`], and what of it is for everybody.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::detect::{incident::Incident, verdict::Verdict};

/// Version of the JSON form. Keys are added, never renamed.
pub const SCHEMA: u32 = 1;
/// Where the agent shows them: whole on its unix socket, by TCP [without addresses](Incidents::public).
pub const PATH: &str = "/api/v1/incidents";

/// Incidents that are known, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incidents {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The newest first.
    pub incidents: Vec<Incident>,
}

impl Incidents {
    /// These, the newest first.
    #[must_use]
    pub fn new(mut incidents: Vec<Incident>) -> Self {
        incidents.sort_by(|one, other| other.id.cmp(&one.id));
        Self { schema: SCHEMA, incidents }
    }

    /// What anybody may read: no address of any kind, and not where files are.
    #[must_use]
    pub fn public(mut self) -> Self {
        for incident in &mut self.incidents {
            incident.bundle.clear();
            hide_addresses(&mut incident.statement);
            for change in &mut incident.verdicts {
                hide(&mut change.sentence);
            }
        }
        self
    }
}

/// Takes addresses out of all sentences of a verdict.
pub fn hide_addresses(verdict: &mut Verdict) {
    let lists = [&mut verdict.evidence, &mut verdict.next_steps, &mut verdict.missing, &mut verdict.blind_spots];
    lists.into_iter().flatten().chain([&mut verdict.sentence]).for_each(hide);
}

fn hide(sentence: &mut String) {
    const HIDDEN: &str = "(address)";
    let is_edge = |character: char| character.is_ascii_punctuation() && !matches!(character, ':' | '[' | ']');
    for word in sentence.clone().split_whitespace() {
        // What stands around it, and the end of a sentence. An address can begin and end with colons.
        let bare = word.trim_matches(is_edge);
        if [bare, bare.trim_end_matches(':')].into_iter().any(is_address) {
            *sentence = sentence.replace(bare, HIDDEN);
        }
    }
}

/// A MAC, IPv4 or IPv6 address, with a port or the length of a prefix.
fn is_address(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or_default();
    let is_mac = || {
        let mut bytes = address.split([':', '-']);
        bytes.clone().count() == 6 && bytes.all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
    };
    let unbracketed = address.trim_start_matches('[').trim_end_matches(']');
    unbracketed.parse::<IpAddr>().is_ok() || address.parse::<SocketAddr>().is_ok() || is_mac()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::incident::VerdictChange;

    #[test]
    fn the_newest_first() {
        let ids = ["20260101T000000Z-1", "20260301T000000Z-1", "20260201T000000Z-1"];
        let incidents = ids.map(|id| Incident { id: id.to_owned(), ..Incident::default() });
        let listed = Incidents::new(incidents.to_vec());
        let ids: Vec<_> = listed.incidents.iter().map(|incident| &incident.id[..8]).collect();
        assert_eq!(ids, ["20260301", "20260201", "20260101"]);
    }

    #[test]
    fn nobody_reads_addresses_by_tcp() {
        for (sentence, expected) in [
            ("from 02:00:00:00:00:07, vlan 5.", "from (address), vlan 5."),
            ("Ask 192.0.2.1:443 (2001:db8::1) or fe80::1.", "Ask (address) ((address)) or (address)."),
            ("[2001:db8::1]:443 and 10.0.0.0/8: no", "(address) and (address) no"),
            ("02-00-00-00-00-07 twice 02-00-00-00-00-07", "(address) twice (address)"),
            ("eth0: 12 of 99.9 % at 10:40:20, 5:3", "eth0: 12 of 99.9 % at 10:40:20, 5:3"),
        ] {
            let statement =
                Verdict { sentence: sentence.to_owned(), evidence: vec![sentence.to_owned()], ..Verdict::default() };
            let verdicts = vec![VerdictChange { sentence: sentence.to_owned(), ..VerdictChange::default() }];
            let bundle = "/var/lib/lossprobe/x".to_owned();
            let incident = Incident { statement, verdicts, bundle, ..Incident::default() };
            let public = Incidents::new(vec![incident]).public().incidents.remove(0);
            assert_eq!(public.statement.sentence, expected);
            assert_eq!(public.statement.evidence, [expected]);
            assert_eq!(public.verdicts[0].sentence, expected);
            assert_eq!(public.bundle, "");
        }
    }
}
