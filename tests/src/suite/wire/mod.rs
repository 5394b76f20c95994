//! Loss on the wire: connections through five namespaces, losses of known number before and behind the observer, and three
//! judges. The packet filters and queues that lose the packets know how many there were; tshark says frame for frame what
//! a reader of a capture can know; and the same code on the host says what the kernel's should have counted.
//!
//! A scene is one row of a list. What was found is printed as tables when all is over.

mod agreement;
mod analysis;
mod innocent;
mod live;
mod scene;
mod scenes;
mod truth;
mod tshark;

use std::{env, fs, path::PathBuf, process::id};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    capture::{Capture, Record, write_pcap},
    metrics::Metrics,
    run::{is_full, trial},
    wait::settled,
};

use self::{
    agreement::Agreement,
    scene::{Losses, Offloads, Scene},
};
use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    innocent::trials()
}

/// With tshark, which guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    let wide = if is_full() { scenes::wide() } else { Vec::new() };
    let all = scenes::ORDINARY.iter().copied().chain(wide);
    all.map(|scene| trial(&format!("wire::{}", scene.name.replace(' ', "_")), move || play(&scene))).collect()
}

pub(super) fn tables() -> String {
    [agreement::TABLE.text(), truth::TABLE.text(), live::TABLE.text()].concat()
}

/// The observer's devices, towards `a` and towards `b`.
const DEVICES: [&str; 2] = ["r2a", "r2b"];

/// Both are looked at and judged.
const OBSERVER: [&str; 4] = ["--interface", "r2?", "--track", "r2?"];

/// Plays a scene and asks all judges.
fn play(scene: &Scene) -> Result<()> {
    let chain = scene.chain()?;
    let losses = Losses::new(*scene, &chain)?;
    let agent = Agent::start(&chain.r2, &OBSERVER)?;
    let captures = DEVICES.map(|device| Capture::start(&chain.r2, device));
    scene.traffic(&chain)?;
    let metrics = at_rest(&agent)?;
    let mut records = Vec::new();
    for capture in captures {
        records.push(capture?.finish()?);
    }
    let mut failures = Failures::default();
    for (device, records) in DEVICES.into_iter().zip(&records) {
        failures.note(captured(scene, device, records, &metrics));
    }
    failures.note(truth::judge(scene, &losses, &agent));
    failures.note(lost_nothing(&agent));
    failures.note(agent.stop());
    failures.finish()
}

/// When nothing comes any more.
fn at_rest(agent: &Agent<'_>) -> Result<Metrics> {
    settled(SOON, std::time::Duration::from_millis(500), || {
        let metrics = agent.metrics()?;
        Ok(DEVICES.map(|device| metrics.sum("lossprobe_frames_total", &[("interface", device)])))
    })?;
    agent.metrics()
}

/// A file that stays when what it was made for has failed.
struct Kept {
    path: PathBuf,
}

impl Kept {
    fn new(name: &str, records: &[Record]) -> Result<Self> {
        let path = env::temp_dir().join(format!("lossprobe-tests-{}-{}.pcap", id(), name.replace([' ', '%', '/'], "_")));
        write_pcap(&path, records)?;
        Ok(Self { path })
    }

    fn after<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => {
                fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
                Ok(value)
            }
            Err(error) => Err(error.context(format!("the capture is {}", self.path.display()))),
        }
    }
}

fn captured(scene: &Scene, device: &str, records: &[Record], metrics: &Metrics) -> Result<()> {
    let name = format!("{}, {device}", scene.name);
    let file = Kept::new(&name, records)?;
    let outcome = Agreement::on(&file.path).and_then(|(agreement, analysis)| {
        let mut failures = Failures::default();
        ensure!(analysis.frames == records.len() as u64, "{} of {} frames read", analysis.frames, records.len());
        ensure!(analysis.malformed.is_empty(), "{} frames called malformed", analysis.malformed.len());
        failures.note(agreement.judge(&name));
        if scene.offloads == Offloads::Off {
            failures.note(live::judge(scene, device, metrics, (records, &analysis)));
        }
        failures.finish()
    });
    file.after(outcome)
}

/// All that went wrong, so that the first failure does not hide the others.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, outcome: Result<()>) {
        self.0.extend(outcome.err().map(|error| format!("{error:#}")));
    }

    fn finish(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
}
