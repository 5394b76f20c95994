//! What becomes of each second: it is judged, recorded, and where an incident changes, that is told and written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use anyhow::Result;
use tracing::{error, info};

use crate::{
    config::Config,
    detect::{
        Detection,
        alarm::Detector,
        incident::{Change, Incident, Kept, What},
        verdict::{Affected, Name, Verdict},
    },
    export::push::Push,
    record::{
        bundle::{self, Bundles, Case},
        evidence::Evidence,
        history::History,
        host::Host,
        incidents::Incidents,
        scribe::Scribe,
        store::{Keeper, Store},
    },
    snapshot::{DetectorState, IncidentCount, Judgement, Snapshot},
};

/// An open incident is written down so often, in ticks.
const KEEP_EVERY: u32 = 10;
/// And its bundle: what is older than the recorder remembers would be lost.
const BUNDLE_EVERY: u32 = 300;

/// Judges, records and tells.
pub(super) struct Judge {
    detection: Detection,
    history: History,
    push: Push,
    host: Arc<Host>,
    /// `None` where incidents are kept in memory only.
    disk: Option<Disk>,
    /// What could not be written because the folder cannot be used; `None` where it can, or none is wanted.
    unwritten: Option<u64>,
    totals: BTreeMap<Name, u64>,
    ticks: u32,
}

/// The state folder.
struct Disk {
    keeper: Keeper,
    scribe: Scribe,
    /// Incidents whose bundle is to be written.
    due: BTreeSet<String>,
    /// Those whose bundle could not be written, to be tried again later.
    failed: BTreeSet<String>,
    failures: u64,
}

impl Judge {
    /// Starts threads, so the privileges must have been given up. Without its state folder an agent has no memory of what was
    /// before it, and looks as well as ever.
    ///
    /// # Errors
    /// If the thread that tells of incidents cannot be started.
    pub(super) fn start(config: &Config) -> Result<Self> {
        let settings = &config.incidents;
        let (mut disk, kept, unwritten) = match settings.state_dir.as_deref().map(|folder| Disk::open(folder, config)) {
            Some(Ok((disk, kept))) => (Some(disk), kept, None),
            Some(Err(fault)) => {
                error!("incidents are kept in memory only, because the state folder cannot be used: {fault:#}");
                (None, Kept::default(), Some(1))
            }
            None => {
                info!("incidents are kept in memory only; --state-dir keeps them, and a folder for each");
                (None, Kept::default(), None)
            }
        };
        let open = open(&kept);
        let detection = Detection::new(settings.thresholds, settings.objective_percent, kept);
        let push = Push::start(&config.push)?;
        for incident in detection.incidents().iter().filter(|incident| open.contains(&incident.id)) {
            push.tell(incident, if incident.is_open() { What::State(incident.state) } else { What::Closed });
            if let Some(disk) = disk.as_mut().filter(|_| !incident.is_open()) {
                disk.keeper.keep(incident);
                disk.due.insert(incident.id.clone());
            }
        }
        Ok(Self {
            detection,
            history: History::new(config.record.history),
            push,
            host: Arc::new(Host::read()),
            disk,
            unwritten,
            totals: BTreeMap::new(),
            ticks: 0,
        })
    }

    /// Whether anything is unusual.
    pub(super) fn is_alarmed(&self) -> bool {
        self.detection.is_alarmed()
    }

    /// Takes what a second has brought. `evidence` is asked only where a bundle is to be written.
    pub(super) fn take(
        &mut self,
        snapshot: &Arc<Snapshot>,
        affected: Affected,
        evidence: impl FnOnce() -> Option<Evidence>,
    ) {
        self.ticks = self.ticks.wrapping_add(1);
        self.history.add(snapshot);
        let changes = self.detection.add(snapshot, affected);
        for change in &changes {
            let Some(incident) = self.detection.incidents().get(&change.id) else { continue };
            let is_counted = match change.what {
                What::Judged => true,
                What::Closed => incident.judged.is_none(),
                What::Opened | What::State(_) | What::Verdict(_) => false,
            };
            if is_counted {
                *self.totals.entry(named(incident)).or_default() += 1;
            }
        }
        for change in gravest(changes) {
            let Some(incident) = self.detection.incidents().get(&change.id) else { continue };
            self.push.tell(incident, change.what);
            if let Some(unwritten) = &mut self.unwritten {
                *unwritten += 1;
            }
            if let Some(disk) = &mut self.disk {
                disk.keeper.keep(incident);
                // Before somebody is named there is nothing to show.
                if incident.judged.is_some() || change.what == What::Closed {
                    disk.due.insert(change.id);
                }
            }
        }
        if let Some(disk) = &mut self.disk {
            let open = self.detection.incidents().open();
            if self.ticks.is_multiple_of(BUNDLE_EVERY) {
                let judged = open.filter(|incident| incident.judged.is_some());
                disk.due.extend(judged.map(|incident| incident.id.clone()));
                disk.due.append(&mut disk.failed);
                disk.keeper.keep_learned(self.detection.learned());
            } else if self.ticks.is_multiple_of(KEEP_EVERY) {
                open.for_each(|incident| disk.keeper.keep(incident));
                disk.keeper.keep_month(self.detection.incidents().month());
            }
        }
        self.write_bundles(snapshot, evidence);
    }

    fn write_bundles(&mut self, snapshot: &Arc<Snapshot>, evidence: impl FnOnce() -> Option<Evidence>) {
        let Some(disk) = &mut self.disk else { return };
        for written in disk.scribe.written() {
            match written.outcome {
                Ok(folder) => {
                    self.detection.bundled(&written.id, &folder);
                    self.detection.incidents().get(&written.id).into_iter().for_each(|known| disk.keeper.keep(known));
                }
                Err(_said) => {
                    disk.failures += 1;
                    disk.failed.insert(written.id);
                }
            }
        }
        if !disk.scribe.has_room() {
            return;
        }
        let Some(id) = disk.due.pop_first() else { return };
        // It is kept for a while after it is over, so it is known but for a flood of others.
        let Some(incident) = self.detection.incidents().get(&id) else { return };
        let case = Case {
            incident: incident.clone(),
            recording: self.history.recording(),
            evidence: evidence(),
            host: Arc::clone(&self.host),
            snapshot: Arc::clone(snapshot),
        };
        if !disk.scribe.offer(case) {
            disk.due.insert(id);
        }
    }

    /// What there is to say now.
    pub(super) const fn verdict(&self) -> &Verdict {
        self.detection.verdict()
    }

    /// All incidents that are known.
    pub(super) fn incidents(&self) -> Incidents {
        Incidents::new(self.detection.incidents().iter().cloned().collect())
    }

    /// What is shown beside a snapshot.
    pub(super) fn shown(&self) -> Judgement {
        let mut incidents: BTreeMap<Name, IncidentCount> = BTreeMap::new();
        for (name, total) in &self.totals {
            incidents.entry(*name).or_default().total = *total;
        }
        for incident in self.detection.incidents().open() {
            incidents.entry(named(incident)).or_default().active += 1;
        }
        let pushed = self.push.counts();
        Judgement {
            verdict: self.verdict().verdict.id().to_owned(),
            incidents: incidents.into_iter().map(|(name, count)| (name.id().to_owned(), count)).collect(),
            detectors: self.detection.detectors().iter().map(shown).collect(),
            pushed: pushed.map(|counts| counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()),
            not_written: self.disk.as_ref().map(|disk| disk.failures + disk.keeper.failed()).or(self.unwritten),
        }
    }

    /// The end: what is open is written down as it is, and what waits to be told is told if that takes no time.
    pub(super) fn end(&self) {
        if let Some(disk) = &self.disk {
            self.detection.incidents().open().for_each(|incident| disk.keeper.keep(incident));
            disk.keeper.keep_learned(self.detection.learned());
        }
        self.push.close();
    }
}

impl Disk {
    fn open(folder: &Path, config: &Config) -> Result<(Self, Kept)> {
        let mut store = Store::open(folder)?;
        let kept = store.load()?;
        let open = open(&kept);
        info!(folder = %folder.display(), known = kept.incidents.len(), open = open.len(), "incidents are kept");
        let bundles = Bundles::open(folder.join(bundle::FOLDER), config.record.keep, open)?;
        let (keeper, scribe) = (Keeper::start(store)?, Scribe::start(bundles)?);
        Ok((Self { keeper, scribe, due: BTreeSet::new(), failed: BTreeSet::new(), failures: 0 }, kept))
    }
}

/// Incidents that an earlier agent has left open.
fn open(kept: &Kept) -> BTreeSet<String> {
    kept.incidents.iter().filter(|incident| incident.is_open()).map(|incident| incident.id.clone()).collect()
}

/// Of what has become of an incident in one second the gravest: whoever is told hears of it once.
fn gravest(changes: Vec<Change>) -> Vec<Change> {
    const fn weight(what: What) -> u8 {
        match what {
            What::State(_) => 0,
            What::Verdict(_) => 1,
            What::Opened => 2,
            What::Judged => 3,
            What::Closed => 4,
        }
    }
    let mut gravest: Vec<Change> = Vec::new();
    for change in changes {
        match gravest.iter_mut().find(|other| other.id == change.id) {
            Some(other) if weight(other.what) >= weight(change.what) => {}
            Some(other) => *other = change,
            None => gravest.push(change),
        }
    }
    gravest
}

/// What an incident counts as: `unknown` while nobody is named.
fn named(incident: &Incident) -> Name {
    if incident.verdict == Name::None { Name::Unknown } else { incident.verdict }
}

fn shown(detector: &Detector) -> DetectorState {
    DetectorState {
        unit: detector.unit.name().to_owned(),
        kind: detector.kind.id().to_owned(),
        alarmed: detector.alarmed,
        score_ratio: if detector.threshold > 0.0 { detector.score / detector.threshold } else { 0.0 },
        baseline: detector.baseline,
        ratio: detector.ratio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::incident::State;

    #[test]
    fn what_happens_in_a_second_is_told_once() {
        use What::{Closed, Judged, Opened, Verdict};
        let state = What::State(State::Active);
        let verdict = Verdict(Name::NetworkIn);
        for (whats, expected) in [
            (&[Opened, Judged, verdict, state][..], Judged),
            (&[Opened, state], Opened),
            (&[state, verdict], verdict),
            (&[verdict, Closed], Closed),
            (&[state, What::State(State::Easing)], state),
        ] {
            let change = |what: &What| ["a", "b"].map(|id| Change { id: id.to_owned(), what: *what });
            let told = gravest(whats.iter().flat_map(change).collect());
            let expected = ["a", "b"].map(|id| Change { id: id.to_owned(), what: expected });
            assert_eq!(told, expected, "{whats:?}");
        }
    }
}
