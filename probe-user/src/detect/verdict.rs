//! Whose fault it is. What is lost beyond the usual is divided among the parts that can have lost it; somebody outside this host
//! is named only if nearly all of it is theirs, for certain, and if nothing that this host could have lost is unseen. A wrong
//! accusation is worse than none.

mod affected;
mod name;
mod window;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

pub(super) use self::affected::LEAST_PEERS;
pub use self::{
    affected::{Affected, Damaged, Peers},
    name::Name,
    window::Window,
};
use super::{
    alarm::{Detector, Kind, Missed, UNITS, lost_of},
    second::{Counts, Unit},
    sentence,
    source::{Sources, UnitSources},
};
use crate::{classes::Class, conservation::OwnLosses, derive, snapshot::Share};

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;
/// Milliseconds that a verdict looks back. What is lost has ripened for two seconds before it counts
/// ([`derive`](mod@derive)), so what it tells of happened in the five seconds that ended two seconds ago.
pub const WINDOW_MS: u64 = 5_000;
/// And where that holds too little to be certain of anything.
pub const LONG_MS: u64 = 20_000;
/// Of what is lost beyond the usual, the share that somebody outside must have for certain, and below which nobody leads.
const LEADS: f64 = 0.8;
/// The share that this host must have for certain: to look at home first costs little.
const LEADS_AT_HOME: f64 = 0.5;
/// Of the segments that were sent again, the share that receivers had not needed from which on they were late, not lost.
const LATE: f64 = 0.5;
/// Frames of an interface over the longer time, from which on it can be said that nothing is wrong with it.
const LEAST_FRAMES: u64 = 100;
/// Connections that must have lost something, where they are known.
const LEAST_FLOWS: u64 = 3;
/// Connections and networks whose frames come malformed, before it is no sender's fault.
const LEAST_NETWORKS: u64 = 3;

/// What there is to say at one instant (`GET /api/v1/verdict`). Keys are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// Version of the JSON form.
    pub schema: u32,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// Whose fault.
    pub verdict: Name,
    /// One sentence for a tired human.
    pub sentence: String,
    /// What it rests on, the most telling first.
    pub evidence: Vec<String>,
    /// What to do next.
    pub next_steps: Vec<String>,
    /// Track group or interface that it is about, `""` if nothing is wrong.
    pub unit: String,
    /// Interfaces that are affected.
    pub affected: Vec<String>,
    /// Uplinks and track points that are not.
    pub unaffected: Vec<String>,
    /// Of all that is lost beyond what is usual, the share of each part, by verdict.
    pub shares: BTreeMap<String, Share>,
    /// Segments lost in the last 5 s beyond what is usual, and all of them.
    pub lost_segments: u64,
    /// Segments that were followed in that time.
    pub segments: u64,
    /// Share of all frames whose connections were followed: how much of the traffic this verdict can see.
    pub judged_ratio: Option<f64>,
    /// Sources without which no outside party may be named and that are missing.
    pub missing: Vec<String>,
    /// What cannot be seen from here and changes nothing in the verdict.
    pub blind_spots: Vec<String>,
    /// `network` (most peers), `one_remote`, or `""` where it is not known.
    pub scope: String,
}

impl Verdict {
    /// Where nothing was looked at.
    pub(super) fn blind(time: &str) -> Self {
        let sentence = sentence::BLIND.to_owned();
        Self { schema: SCHEMA, time: time.to_owned(), verdict: Name::Unknown, sentence, ..Self::default() }
    }

    /// Whether nothing was looked at.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.verdict == Name::Unknown && self.unit.is_empty()
    }
}

/// The ways of losing among which what is lost is divided.
const WAYS: [(Kind, Name); 9] = [
    (Kind::Link, Name::Link),
    (Kind::NetworkIn, Name::NetworkIn),
    (Kind::NetworkOut, Name::NetworkOut),
    (Kind::Inside, Name::Inside),
    (Kind::LocalRx, Name::LocalRx),
    (Kind::LocalTx, Name::LocalTx),
    (Kind::LocalPolicy, Name::LocalPolicy),
    (Kind::LocalConfig, Name::LocalConfig),
    // What this host has dropped, and its kernel does not say why, is its own loss and nobody's fault.
    (Kind::LocalUnknown, Name::Unknown),
];

/// What one way of losing has lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) name: Name,
    /// All that was lost so.
    pub(super) lost: u64,
    /// Of so much.
    pub(super) passed: u64,
    /// The usual share of it, or frames in a second.
    pub(super) usual: f64,
    /// What is beyond the usual.
    pub(super) excess: u64,
    alarmed: bool,
}

/// Why nobody is named, where that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Named,
    /// Nobody lost it: it was late.
    Late,
    /// These are not seen.
    Missing(Vec<String>),
    /// Too little is lost to be certain.
    TooFew,
    /// Which connections it is about is being looked up.
    Pending,
    /// Too few connections have lost something.
    TooFewFlows(u64),
    /// This host has dropped it, and its kernel does not say why.
    NoReason,
    /// Nothing gets through any more, and so little is left that nothing can be said of it.
    Stalled,
}

/// What is said of one unit.
#[derive(Clone, Debug)]
pub(super) struct Finding<'w> {
    pub(super) unit: &'w Unit,
    pub(super) sources: &'w UnitSources,
    pub(super) window: &'w Window,
    pub(super) counts: &'w Counts,
    pub(super) duration_ms: u64,
    pub(super) name: Name,
    pub(super) why: Why,
    /// The network loses both ways, and no way alone leads.
    pub(super) both_ways: bool,
    pub(super) scope: &'static str,
    /// Those with a loss beyond the usual, the most first.
    pub(super) parts: Vec<Part>,
    /// Drops that the probe has missed.
    pub(super) uncounted_drops: u64,
    /// Drops of this host that would look like a loss inside.
    pub(super) dropped_inside: u64,
    /// Loss detectors that are alarmed.
    pub(super) loses: bool,
    /// And of these, some whose traffic has come to a stop.
    stalled: bool,
    /// Malformed frames that only a neighbour on this segment can have made, if they are alarmed.
    pub(super) malformed_local: u64,
    /// The same, of those that may come from anywhere.
    pub(super) malformed_path: u64,
    /// Beside malformed frames: what is lost would have been the network's, too.
    pub(super) network_loses: bool,
}

/// Judges what is lost in a window. `alarms` are all detectors; `sources` are those of the same time, the longer one.
#[must_use]
pub fn judge(window: &Window, alarms: &[Detector], sources: &Sources) -> Verdict {
    let of_unit = |unit: &Unit| alarms.iter().filter(|alarm| alarm.unit == *unit).collect::<Vec<_>>();
    let nothing = UnitSources::nothing();
    let mut findings: Vec<Finding<'_>> = window
        .units
        .iter()
        .map(|(unit, counts)| {
            let own = (sources.units.get(unit).unwrap_or(&nothing), sources);
            let (detectors, of) = (of_unit(unit), |counts, duration_ms| (window, unit, counts, duration_ms));
            let short = Finding::of(of(counts, window.duration_ms), &detectors, own);
            let longer = window.long.1.get(unit).filter(|_| matches!(short.why, Why::TooFew | Why::Stalled));
            let longer = longer.map(|counts| Finding::of(of(counts, window.long.0), &detectors, own));
            longer.filter(|longer| short.may_agree(longer)).unwrap_or(short)
        })
        .collect();
    // Groups stand in front of interfaces, and a sort keeps the order of equals.
    let passed = |counts: &Counts| counts.segments.iter().sum::<u64>();
    findings.sort_by_key(|finding| Reverse((finding.name.weight(), finding.lost(), passed(finding.counts))));
    let is_watched = |unit: &Unit| alarms.iter().any(|alarm| alarm.unit == *unit);
    let unwatched = window.units.keys().filter(|unit| !is_watched(unit)).count();
    let carries = |unit: &Unit| {
        let counts = window.long.1.get(unit).or_else(|| window.units.get(unit));
        is_watched(unit) && counts.is_some_and(|counts| counts.frames.iter().sum::<u64>() >= LEAST_FRAMES)
    };
    let is_alarmed = |unit: &Unit| alarms.iter().any(|alarm| alarm.unit == *unit && alarm.alarmed);
    let blank = || Verdict { schema: SCHEMA, time: window.time.clone(), ..Verdict::default() };
    let Some((leading, others)) = findings.split_first() else {
        return Verdict::blind(&window.time);
    };
    let is_quiet = leading.name == Name::None && leading.why != Why::Late;
    let [affected, unaffected] = sentence::places(sources, |unit| !is_quiet && is_alarmed(unit), carries);
    let mut verdict = leading.verdict(others, Verdict { affected, unaffected, ..blank() });
    if unwatched > 0 {
        verdict.blind_spots.push(format!("{unwatched} of its groups and interfaces: no more than {UNITS} are judged"));
    }
    if is_quiet { Verdict { unit: String::new(), ..verdict } } else { verdict }
}

impl<'w> Finding<'w> {
    fn of(
        (window, unit, counts, duration_ms): (&'w Window, &'w Unit, &'w Counts, u64),
        detectors: &[&Detector],
        (sources, all): (&'w UnitSources, &Sources),
    ) -> Self {
        let is_alarmed = |kind: Kind| detectors.iter().any(|detector| detector.kind == kind && detector.alarmed);
        let mut parts: Vec<Part> = WAYS
            .iter()
            .map(|(kind, name)| part((*kind, *name), lost(*kind, counts), duration_ms, detectors))
            .filter(|part| part.excess > 0)
            .collect();
        parts.sort_by_key(|part| Reverse(part.excess));
        let mut finding = Self {
            unit,
            sources,
            window,
            counts,
            duration_ms,
            name: Name::None,
            why: Why::Named,
            both_ways: false,
            scope: "",
            parts,
            uncounted_drops: all.uncounted_drops,
            dropped_inside: all.dropped_inside,
            loses: WAYS.iter().any(|(kind, _)| is_alarmed(*kind)),
            stalled: detectors.iter().any(|detector| detector.stalled),
            malformed_local: if is_alarmed(Kind::MalformedLocal) { counts.malformed_local } else { 0 },
            malformed_path: if is_alarmed(Kind::MalformedPath) { counts.malformed_path } else { 0 },
            network_loses: false,
        };
        (finding.name, finding.why) = match finding.by_loss() {
            (Name::None, Why::Named) | (Name::Unknown, Why::TooFew | Why::TooFewFlows(_)) if finding.stalled => {
                (Name::Unknown, Why::Stalled)
            }
            said => said,
        };
        finding.add_malformed();
        finding
    }

    /// Whether the latest seconds, in which too little was lost to say, do not contradict a longer time: whoever leads there
    /// may have most of it here. Who no longer does is not accused for what is past.
    fn may_agree(&self, longer: &Self) -> bool {
        let Some(leader) = longer.parts.first() else { return false };
        let is_its = |part: &&Part| part.name == leader.name || (longer.both_ways && part.name.is_network());
        let its = self.parts.iter().filter(is_its).map(|part| part.excess).sum();
        derive::Share::of(its, self.whole(leader.name)).is_some_and(|share| share.upper >= LEADS)
    }

    /// What somebody's share is of: for whoever is outside also what this host may have lost besides.
    fn whole(&self, name: Name) -> u64 {
        let inside = if name == Name::Inside { self.dropped_inside } else { 0 };
        self.all() + inside + if name.accuses() { doubtful(self.counts) } else { 0 }
    }

    /// What is lost beyond the usual, or malformed.
    fn lost(&self) -> u64 {
        self.parts.iter().map(|part| part.excess).sum::<u64>() + self.malformed()
    }

    /// Malformed frames of a scope that is alarmed.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed_local + self.malformed_path
    }

    /// All that could have lost it. Drops that the probe missed are somebody's, and may be this host's.
    pub(super) fn all(&self) -> u64 {
        self.parts.iter().map(|part| part.excess).sum::<u64>() + self.uncounted_drops
    }

    /// Who has lost it.
    fn by_loss(&mut self) -> (Name, Why) {
        let (Some(first), true) = (self.parts.first().copied(), self.loses) else {
            let is_late = self.loses && (0..2).any(|way| is_late(self.counts, way));
            return (Name::None, if is_late { Why::Late } else { Why::Named });
        };
        let whole = self.whole(first.name);
        let Some(mut share) = derive::Share::of(first.excess, whole) else { return (Name::None, Why::Named) };
        let ways = || self.parts.iter().filter(|part| matches!(part.name, Name::NetworkIn | Name::NetworkOut));
        let mut named = vec![first.name];
        if first.name.is_network() && share.lower < LEADS && ways().filter(|part| part.alarmed).count() == 2 {
            // Both ways are the same party.
            share = derive::Share::of(ways().map(|part| part.excess).sum(), whole).unwrap_or(share);
            named = ways().map(|part| part.name).collect();
        }
        self.both_ways = named.len() > 1;
        if share.upper < LEADS {
            return (Name::Mixed, Why::Named);
        }
        let least = if first.name.accuses() { LEADS } else { LEADS_AT_HOME };
        if share.lower < least || !first.alarmed {
            return (Name::Unknown, Why::TooFew);
        }
        if first.name == Name::Unknown {
            return (Name::Unknown, Why::NoReason);
        }
        if first.name == Name::Link && (self.sources.is_virtual || self.sources.is_pair) {
            let text = "a cable: what a virtual card calls damaged was damaged by a program, or below it".to_owned();
            return (Name::Unknown, Why::Missing(vec![text]));
        }
        let missing: Vec<String> = named.iter().flat_map(|name| self.sources.missing_for(*name)).cloned().collect();
        if !missing.is_empty() {
            return (Name::Unknown, Why::Missing(distinct(missing)));
        }
        let takes_connections = first.name.is_network() || first.name == Name::Inside;
        if takes_connections && self.window.affected.is_pending {
            return (Name::Unknown, Why::Pending);
        }
        match self.window.affected.peers.filter(|_| takes_connections) {
            Some(peers) if peers.lossy_flows < LEAST_FLOWS => (Name::Unknown, Why::TooFewFlows(peers.lossy_flows)),
            peers => {
                self.scope = peers.filter(|_| first.name.is_network()).map_or("", |peers| peers.scope());
                (first.name, Why::Named)
            }
        }
    }

    /// Whose malformed frames these are. Of local scope: of a device of this segment, whoever loses what; of path scope:
    /// anybody's, unless connections that have nothing in common but the way come damaged.
    fn add_malformed(&mut self) {
        // An alarm outlasts what it is about, and nobody is accused for what is past.
        let (local, path) = (self.malformed_local > 0, self.malformed_path > 0);
        let has_way_in_common = |damaged: Damaged| damaged.flows >= LEAST_FLOWS && damaged.networks >= LEAST_NETWORKS;
        let affected = self.window.affected;
        let accuses = local || (path && affected.damaged.is_some_and(has_way_in_common));
        // What is seen first must not acquit the way.
        let is_early = affected.is_pending || affected.damaged.is_some_and(|damaged| damaged.may_be_more());
        if !local && !path {
            return;
        }
        self.network_loses = self.name.is_network();
        let missing = self.sources.missing_for(Name::NetworkMalformed);
        (self.name, self.why) = match self.name {
            Name::None if !accuses && is_early => (Name::Unknown, Why::Pending),
            Name::None if !accuses => (Name::RemoteMalformed, Why::Named),
            _ if !accuses => return,
            Name::None | Name::NetworkIn | Name::NetworkOut | Name::Unknown if missing.is_empty() => {
                (Name::NetworkMalformed, Why::Named)
            }
            Name::None | Name::Unknown => (Name::Unknown, Why::Missing(missing.to_vec())),
            Name::NetworkIn | Name::NetworkOut => return,
            // The device that damages frames is one thing, what this host or the cable loses another.
            _ => (Name::Mixed, Why::Named),
        };
    }

    /// Whether something is lost on this host's side.
    pub(super) fn lost_inside(&self) -> bool {
        self.parts.iter().any(|part| part.name == Name::Inside)
    }

    /// Of all that is lost beyond the usual and may be lost so, the share of each part.
    pub(super) fn share(&self, part: &Part) -> Option<Share> {
        let share = derive::Share::of(part.excess, self.whole(part.name))?;
        Some(Share { ratio: share.ratio, lower: share.lower, upper: share.upper })
    }

    fn verdict(&self, others: &[Finding<'_>], blank: Verdict) -> Verdict {
        let share = |part: &Part| Some((part.name.id().to_owned(), self.share(part)?));
        let missing = self.sources.missing.values().flatten().cloned().collect();
        Verdict {
            verdict: self.name,
            sentence: sentence::sentence(self, &blank.affected),
            evidence: sentence::evidence(self, others, &blank.unaffected),
            next_steps: sentence::next_steps(self, &blank.affected),
            unit: sentence::unit(self.unit).to_owned(),
            shares: self.parts.iter().filter_map(share).collect(),
            lost_segments: self.parts.iter().map(|part| part.excess).sum(),
            segments: self.counts.segments.iter().sum(),
            judged_ratio: self.sources.judged_ratio,
            missing: distinct(missing),
            blind_spots: self.sources.blind_spots.clone(),
            scope: self.scope.to_owned(),
            ..blank
        }
    }
}

fn distinct(mut texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

/// Whether what was sent again this way had only been late, as after a pause of a virtual machine.
#[expect(clippy::cast_precision_loss, reason = "what passes in seconds is far below 2^53")]
fn is_late(counts: &Counts, way: usize) -> bool {
    let (again, needless) = (counts.seen_again[way], counts.not_needed[way]);
    needless > 0 && needless as f64 >= LATE * again as f64
}

/// What was lost in one way, beyond what is usual and one standard deviation of it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and not negative"
)]
fn part((kind, name): (Kind, Name), (lost, passed): (u64, u64), duration_ms: u64, detectors: &[&Detector]) -> Part {
    let detector = detectors.iter().find(|detector| detector.kind == kind);
    let usual = detector.map_or(0.0, |detector| detector.baseline);
    let expected = usual * if kind.counts() { duration_ms as f64 / 1e3 } else { passed as f64 };
    let excess = (lost as f64 - expected - expected.sqrt()).max(0.0).round() as u64;
    Part { name, lost, passed, usual, excess, alarmed: detector.is_some_and(|detector| detector.alarmed) }
}

/// How much was lost in this way, and of how much.
fn lost(kind: Kind, counts: &Counts) -> (u64, u64) {
    // What had only been late was sent again behind this point for nothing.
    let late = |way: usize| {
        if is_late(counts, way) { counts.seen_again[way].saturating_sub(counts.not_needed[way]) } else { 0 }
    };
    let (lost, passed) = match kind {
        Kind::Link => (counts.link_errors, counts.frames[0]),
        _ => lost_of(kind, counts, Missed::default().add(counts)),
    };
    let other = match kind {
        // A frame that the card found damaged never came in.
        Kind::NetworkIn => counts.link_errors,
        Kind::NetworkOut => late(1),
        Kind::Inside => late(0),
        _ => 0,
    };
    (lost.saturating_sub(other), passed)
}

/// What this host may have lost besides. What was sent again is explained by want of room, configuration, policy and no reason
/// in turn, and it may be any other way round.
fn doubtful(counts: &Counts) -> u64 {
    let missed = |own: OwnLosses| Missed::default().add(&Counts { own, ..counts.clone() }).iter().sum::<u64>();
    let alone = |class: Class| {
        missed(counts.own.map(|place| {
            let mut only = [0; Class::ALL.len()];
            only[class as usize] = place[class as usize];
            only
        }))
    };
    let each: u64 = [Class::Config, Class::Policy, Class::Unknown].map(alone).iter().sum();
    each.saturating_sub(missed(counts.own))
}

#[cfg(test)]
mod tests;
