//! Whose an incident is, and which incident takes an alarm.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::detect::{
    alarm::{Detector, Kind},
    second::Unit,
    verdict::Name,
};

/// How long an alarm waits for a verdict to say that it is of an incident that is open already, in milliseconds.
const WAITS_MS: u64 = 10_000;

/// Who is to act. Each has at most one open incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The network that this host is connected to.
    #[default]
    Network,
    /// Somebody far away who sends malformed frames.
    Remote,
    /// Cable, optics or port.
    Link,
    /// A guest, or what lies between it and the uplink.
    Inside,
    /// This host, for want of room, or for a reason that nobody knows.
    Host,
    /// Who wants packets dropped here.
    Policy,
    /// How this host is set up.
    Config,
}

impl Party {
    /// All of them: as many incidents can be open at once.
    pub const ALL: [Self; 7] =
        [Self::Network, Self::Remote, Self::Link, Self::Inside, Self::Host, Self::Policy, Self::Config];

    /// Who is suspected while there is no verdict.
    pub(super) const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::NetworkIn | Kind::NetworkOut | Kind::MalformedLocal => Self::Network,
            Kind::MalformedPath => Self::Remote,
            Kind::Link => Self::Link,
            Kind::Inside => Self::Inside,
            Kind::LocalRx | Kind::LocalTx | Kind::LocalUnknown => Self::Host,
            Kind::LocalPolicy => Self::Policy,
            Kind::LocalConfig => Self::Config,
        }
    }

    /// Whom a verdict names.
    #[must_use]
    pub const fn named_by(verdict: Name) -> Option<Self> {
        match verdict {
            Name::NetworkIn | Name::NetworkOut | Name::NetworkMalformed => Some(Self::Network),
            Name::RemoteMalformed => Some(Self::Remote),
            Name::Link => Some(Self::Link),
            Name::Inside => Some(Self::Inside),
            Name::LocalRx | Name::LocalTx => Some(Self::Host),
            Name::LocalPolicy => Some(Self::Policy),
            Name::LocalConfig => Some(Self::Config),
            Name::None | Name::Mixed | Name::Unknown => None,
        }
    }
}

/// Whether an alarm may be an echo of what somebody else does. Losses on a side are what is left when all else is
/// subtracted, and who makes malformed frames that may come from anywhere is the verdict's to say; the rest is counted.
const fn may_be_an_echo(kind: Kind) -> bool {
    matches!(kind, Kind::NetworkIn | Kind::NetworkOut | Kind::Inside | Kind::MalformedPath)
}

/// A detector's name.
pub(super) type Key = (Unit, Kind);

/// Which incident takes which alarm, and what is remembered for that.
#[derive(Clone, Debug, Default)]
pub(super) struct Takers {
    /// Echoes: alarms that another party's incident has taken.
    lent: BTreeMap<Key, Party>,
    /// For how long a party's alarms have waited, in milliseconds.
    waiting: BTreeMap<Party, u64>,
}

/// What is to be done with the alarms of a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// Alarms that belong to open incidents.
    pub(super) by: BTreeMap<Party, Vec<Detector>>,
    /// Those with which an incident begins.
    pub(super) new: BTreeMap<Party, Vec<Detector>>,
}

impl Takers {
    /// Gives each alarm to an open incident or a new one, or lets it wait. `unjudged`: an incident is open of which it is not
    /// known yet whose it is.
    pub(super) fn take(
        &mut self,
        (duration_ms, detectors): (u64, &[Detector]),
        verdict: Name,
        open: &BTreeSet<Party>,
        unjudged: bool,
    ) -> Taken {
        let named = Party::named_by(verdict);
        let mut taken = Taken::default();
        let mut waits: BTreeMap<Party, Vec<Detector>> = BTreeMap::new();
        let mut lent = BTreeMap::new();
        for detector in detectors.iter().filter(|detector| detector.alarmed) {
            let key = (detector.unit.clone(), detector.kind);
            let own = Party::of_kind(detector.kind);
            let is_own_matter = named == Some(own) || verdict == Name::Mixed || !may_be_an_echo(detector.kind);
            let other = if is_own_matter { None } else { named.or_else(|| self.lent.get(&key).copied()) };
            let other = other.filter(|other| open.contains(other));
            match (open.contains(&own), other) {
                (true, _) => taken.by.entry(own).or_default().push(detector.clone()),
                (false, Some(other)) => {
                    lent.insert(key, other);
                    taken.by.entry(other).or_default().push(detector.clone());
                }
                (false, None) => waits.entry(own).or_default().push(detector.clone()),
            }
        }
        self.lent = lent;
        let waited = |party: &Party| self.waiting.get(party).copied().unwrap_or(0).saturating_add(duration_ms);
        self.waiting = waits.keys().map(|party| (*party, waited(party))).collect();
        self.begin(waits, (named, open.is_empty()), unjudged, &mut taken);
        taken
    }

    /// Of parties that wait, those whose incident begins: one at a time where it is not known yet whose the last one is.
    fn begin(
        &mut self,
        waits: BTreeMap<Party, Vec<Detector>>,
        (named, nothing_is_open): (Option<Party>, bool),
        mut unjudged: bool,
        taken: &mut Taken,
    ) {
        let mut waits: Vec<_> = waits.into_iter().collect();
        let onset = |detectors: &[Detector]| detectors.iter().filter_map(|detector| detector.onset_ms).min();
        waits.sort_by_key(|(party, detectors)| (named != Some(*party), onset(detectors)));
        for (party, detectors) in waits {
            let is_plain = nothing_is_open
                || named == Some(party)
                || detectors.iter().any(|detector| !may_be_an_echo(detector.kind));
            let has_waited = self.waiting.get(&party).is_some_and(|waited| *waited >= WAITS_MS);
            if has_waited || (is_plain && !unjudged) {
                unjudged = true;
                self.waiting.remove(&party);
                taken.new.insert(party, detectors);
            }
        }
    }
}
