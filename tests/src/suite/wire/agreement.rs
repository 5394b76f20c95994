//! Frame for frame: what `analyze` says of a capture and what tshark says.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use anyhow::{Result, ensure};

use super::{analysis::Analysis, tshark};
use crate::suite::tables::Ledger;

/// The share of one's frames that the other has to have, too.
const WANTED: f64 = 0.995;

/// Differences that are shown.
const SHOWN: usize = 12;

pub(super) static TABLE: Ledger<9> = Ledger::new(
    ["capture", "frames", "again: tshark", "analyze", "missing: tshark", "analyze", "keep-alive", "probe", ""],
    &[1, 2, 3, 4, 5, 6, 7],
);

/// Frames by what is said of them, counted from 1.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Marks {
    /// Retransmissions of all kinds, and what is out of order.
    pub(super) again: BTreeSet<u64>,
    /// Frames before which something is missing.
    pub(super) missing: BTreeSet<u64>,
    /// Keep-alives.
    pub(super) keepalive: BTreeSet<u64>,
    /// Zero-window probes.
    pub(super) probe: BTreeSet<u64>,
}

/// How two sets of frames go together.
#[derive(Clone, Copy, Default)]
pub(super) struct Overlap {
    theirs: usize,
    ours: usize,
    both: usize,
}

impl Overlap {
    fn of(theirs: &BTreeSet<u64>, ours: &BTreeSet<u64>) -> Self {
        Self { theirs: theirs.len(), ours: ours.len(), both: theirs.intersection(ours).count() }
    }

    fn share(self, of: usize) -> f64 {
        if of == 0 { 1.0 } else { self.both as f64 / of as f64 }
    }

    fn is_enough(self) -> bool {
        self.share(self.theirs) >= WANTED && self.share(self.ours) >= WANTED
    }

    /// What they say, and what we say of it.
    fn cells(self) -> [String; 2] {
        let percent = |of| format!("{:.1} %", 100.0 * self.share(of));
        [
            format!("{} ({} recalled)", self.theirs, percent(self.theirs)),
            format!("{} ({} precise)", self.ours, percent(self.ours)),
        ]
    }
}

impl std::ops::AddAssign for Overlap {
    fn add_assign(&mut self, other: Self) {
        self.theirs += other.theirs;
        self.ours += other.ours;
        self.both += other.both;
    }
}

/// What both say of one capture, or of several.
#[derive(Default)]
pub(super) struct Agreement {
    frames: u64,
    again: Overlap,
    missing: Overlap,
    keepalive: Overlap,
    probe: Overlap,
    /// The first frames of which they say different things.
    differences: String,
}

impl Agreement {
    /// Asks tshark, too. Malformed frames are left out: they touch no connection here.
    pub(super) fn of(analysis: &Analysis, file: &Path) -> Result<Self> {
        let mut theirs = tshark::marks(file)?;
        for set in [&mut theirs.again, &mut theirs.missing, &mut theirs.keepalive, &mut theirs.probe] {
            set.retain(|frame| !analysis.malformed.contains(frame));
        }
        let ours = analysis.marks();
        let mut differences = String::new();
        for (what, theirs, ours) in [
            ("again", &theirs.again, &ours.again),
            ("missing", &theirs.missing, &ours.missing),
            ("keep-alive", &theirs.keepalive, &ours.keepalive),
            ("probe", &theirs.probe, &ours.probe),
        ] {
            for frame in theirs.symmetric_difference(ours).take(SHOWN) {
                let who = if theirs.contains(frame) { "tshark" } else { "analyze" };
                let events = analysis.events.get(frame).map_or(&[][..], Vec::as_slice);
                let _infallible = writeln!(differences, "frame {frame}: {what} by {who} only (analyze: {events:?})");
            }
        }
        Ok(Self {
            frames: analysis.frames,
            again: Overlap::of(&theirs.again, &ours.again),
            missing: Overlap::of(&theirs.missing, &ours.missing),
            keepalive: Overlap::of(&theirs.keepalive, &ours.keepalive),
            probe: Overlap::of(&theirs.probe, &ours.probe),
            differences,
        })
    }

    /// Puts it into the table.
    ///
    /// # Errors
    /// When it is not enough.
    pub(super) fn judge(&self, name: &str) -> Result<()> {
        let enough = [self.again, self.missing, self.keepalive, self.probe].into_iter().all(Overlap::is_enough);
        let [again, again_ours] = self.again.cells();
        let [missing, missing_ours] = self.missing.cells();
        let pair = |overlap: Overlap| format!("{}/{}", overlap.theirs, overlap.ours);
        TABLE.note([[
            name.to_owned(),
            self.frames.to_string(),
            again,
            again_ours,
            missing,
            missing_ours,
            pair(self.keepalive),
            pair(self.probe),
            if enough { "agreed" } else { "DIFFERENT" }.to_owned(),
        ]]);
        ensure!(enough, "{name}: analyze and tshark disagree\n{}", self.differences);
        Ok(())
    }

    /// Whether there is no difference at all.
    pub(super) fn is_complete(&self) -> bool {
        self.differences.is_empty()
    }

    /// Takes another capture in.
    pub(super) fn add(&mut self, name: &str, other: &Self) {
        self.frames += other.frames;
        self.again += other.again;
        self.missing += other.missing;
        self.keepalive += other.keepalive;
        self.probe += other.probe;
        if !other.is_complete() {
            let _infallible = write!(self.differences, "{name}:\n{}", other.differences);
        }
    }
}
