//! `lossprobe analyze` on a capture.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{agent::lossprobe, namespace::Namespace};

use super::agreement::Marks;

/// Bytes that are not new, or came when they had been acknowledged: what tshark calls a retransmission or out of order.
const AGAIN: &[&str] = &[
    "retransmit_seen",
    "hole_filled_retransmit",
    "hole_filled_reorder",
    "spurious",
    "acked_before_seen",
    "duplicate",
    "syn_retransmit",
    "synack_retransmit",
    "fin_retransmit",
];

/// What was said of the frames of a capture.
#[derive(Debug, Default)]
pub(super) struct Analysis {
    /// Frames read.
    pub(super) frames: u64,
    /// By frame, counted from 1, the events' names, and of how many wire segments each was.
    pub(super) events: BTreeMap<u64, Vec<(String, u64)>>,
    /// Frames that contradict themselves.
    pub(super) malformed: BTreeSet<u64>,
}

impl Analysis {
    /// Runs it.
    ///
    /// # Errors
    /// When it fails, or says something else in its summary than in its events.
    pub(super) fn of(file: &Path) -> Result<Self> {
        let here = Namespace::of_this_process()?;
        let file = file.to_str().context("a file name in UTF-8")?;
        let output = lossprobe(&here, &["analyze", file, "--events", "--output", "json"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lossprobe analyze {file} ended with {}: {said}", output.status);
        let text = String::from_utf8(output.stdout).context("the output of analyze")?;
        let mut analysis = Self::default();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).with_context(|| format!("read {line:?}"))?;
            analysis.take(&value).with_context(|| format!("in {line}"))?;
        }
        Ok(analysis)
    }

    fn take(&mut self, value: &Value) -> Result<()> {
        match value["type"].as_str() {
            Some(kind) => {
                let frame = value["frame"].as_u64().context("no frame")?;
                let name = value["name"].as_str().context("no name")?.to_owned();
                match kind {
                    "tcp" => {
                        let segments = value["segments"].as_u64().context("no number of segments")?;
                        self.events.entry(frame).or_default().push((name, segments));
                    }
                    "malformed" => drop(self.malformed.insert(frame)),
                    other => anyhow::bail!("an event of the unknown type {other}"),
                }
            }
            None => {
                self.frames = value["frames"].as_u64().context("neither an event nor a summary")?;
                let counts = value["tcp"].as_object().context("no counts of TCP events")?;
                let mut told: BTreeMap<&str, u64> = BTreeMap::new();
                for (name, segments) in self.events.values().flatten() {
                    *told.entry(name).or_default() += segments;
                }
                for (name, count) in counts {
                    let told = told.get(name.as_str()).copied().unwrap_or_default();
                    ensure!(count.as_u64() == Some(told), "{count} {name} in the summary, {told} in the events");
                }
            }
        }
        Ok(())
    }

    /// Frames of any of these events.
    pub(super) fn frames_of(&self, names: &[&str]) -> BTreeSet<u64> {
        let any = |events: &[(String, u64)]| events.iter().any(|(event, _)| names.contains(&event.as_str()));
        self.events.iter().filter(|(_, events)| any(events)).map(|(frame, _)| *frame).collect()
    }

    /// In tshark's words.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            again: self.frames_of(AGAIN),
            missing: self.frames_of(&["hole_opened"]),
            keepalive: self.frames_of(&["keepalive"]),
            probe: self.frames_of(&["zero_window_probe"]),
        }
    }
}
