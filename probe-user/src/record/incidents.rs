//! What the agent answers at [`PATH`], and what of it is for everybody.

use serde::{Deserialize, Serialize};

use super::redact::redacted;
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
                change.sentence = redacted(&change.sentence);
            }
        }
        self
    }
}

/// Takes addresses out of all sentences of a verdict.
pub fn hide_addresses(verdict: &mut Verdict) {
    let lists = [&mut verdict.evidence, &mut verdict.next_steps, &mut verdict.missing, &mut verdict.blind_spots];
    lists.into_iter().flatten().chain([&mut verdict.sentence]).for_each(|text| *text = redacted(text));
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
        let sentence = "From 02:00:00:00:00:07: ask 192.0.2.1:443->[2001:db8::1]:80 or fe80::1%eth0.".to_owned();
        let expected = "From [redacted]: ask [redacted]->[[redacted]]:80 or [redacted].";
        let statement = Verdict { sentence: sentence.clone(), evidence: vec![sentence.clone()], ..Verdict::default() };
        let verdicts = vec![VerdictChange { sentence, ..VerdictChange::default() }];
        let bundle = "/var/lib/lossprobe/x".to_owned();
        let incident = Incident { statement, verdicts, bundle, ..Incident::default() };
        let public = Incidents::new(vec![incident]).public().incidents.remove(0);
        assert_eq!(public.statement.sentence, expected);
        assert_eq!(public.statement.evidence, [expected]);
        assert_eq!(public.verdicts[0].sentence, expected);
        assert_eq!(public.bundle, "");
    }
}
