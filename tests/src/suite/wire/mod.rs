//! Loss on the wire: connections through five namespaces, losses of known number before and behind the observer, and three
//! judges. The packet filters and queues that lose the packets know how many there were; tshark says frame for frame what
//! a reader of a capture can know; and the same code on the host says what the kernel's should have counted.
//!
//! A scene is one row of a list. What was found is printed as tables when all is over.

mod agreement;
mod analysis;
pub(super) mod collection;
mod innocent;
mod live;
mod scene;
mod scenes;
mod truth;
mod tshark;

use std::{env, fs, path::PathBuf, process::id, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    capture::{Capture, Record, write_pcap},
    guest::is_guest,
    metrics::Metrics,
    run::{is_full, trial},
    wait::settled,
};

use self::{
    agreement::Agreement,
    analysis::Analysis,
    scene::{Loss, Losses, Offloads, Scene},
};
use super::{
    counts::{SOON, lost_nothing},
    devices::input_queue_drops,
};

pub(super) fn trials() -> Vec<Trial> {
    let played = scenes::EVERYWHERE.iter().map(|scene| played(*scene));
    innocent::trials().into_iter().chain(played).collect()
}

/// With tshark, which guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    let wide = if is_full() { scenes::wide() } else { Vec::new() };
    let is_wanted = |scene: &Scene| is_full() || scenes::EVERY_RUN.contains(&scene.name);
    let all = scenes::ORDINARY.iter().copied().filter(is_wanted).chain(wide);
    all.map(played).chain(collection::trials()).collect()
}

fn played(scene: Scene) -> Trial {
    trial(&format!("wire::{}", scene.name.replace(' ', "_")), move || play(&scene))
}

pub(super) fn tables() -> String {
    [agreement::TABLE.text(), truth::TABLE.text(), live::TABLE.text()].concat()
}

/// The observer's devices, towards `a` and towards `b`.
const DEVICES: [&str; 2] = ["r2a", "r2b"];

/// Both are looked at and judged.
const OBSERVER: [&str; 4] = ["--interface", "r2?", "--track", "r2?"];

/// How often a scene is played again in which nobody in the middle can know the truth.
const PLAYS: u32 = 4;

/// Plays a scene and asks all judges.
fn play(scene: &Scene) -> Result<()> {
    for play in 1..=PLAYS {
        if play_once(scene, play == PLAYS)? {
            break;
        }
    }
    Ok(())
}

/// `false`, if something untrue is all that is wrong, and the truth could not be known: an input queue of a CPU was full
/// (no router knows how many of this connection's packets found no room there, nor on which side), or much was sent again
/// of which nobody ever said that it was not needed. In the last play that is wrong, too.
fn play_once(scene: &Scene, is_last: bool) -> Result<bool> {
    let drops_before = input_queue_drops()?;
    let cpus = scene.cpus()?;
    let chain = scene.chain(&cpus)?;
    let losses = Losses::new(*scene, &chain)?;
    if scene.own != Loss::None {
        chain.until_silent()?;
    }
    let agent = Agent::start(&chain.r2, &OBSERVER)?;
    let mut captures = Vec::new();
    for device in DEVICES {
        captures.push((device, Capture::start(&chain.r2, device)?));
    }
    scene.traffic(&chain, &cpus)?;
    let metrics = at_rest(&agent)?;
    let mut failures = Failures::default();
    let mut files = Vec::new();
    for (device, capture) in captures {
        let records = capture.finish()?;
        let file = Kept::new(&format!("{}, {device}", scene.name), &records)?;
        failures.note(judge_capture(scene, device, (&file, &records), &metrics));
        files.push(file);
    }
    // Always in the table; judged in the long run only, since a machine that is busy loses packets of its own.
    let untrue = truth::judge(scene, &losses, &agent).err().filter(|_| is_full());
    let is_knowable = losses.are_told(&chain)? && input_queue_drops()? == drops_before;
    failures.note(lost_nothing(&agent));
    failures.note(agent.stop());
    let is_judged = is_knowable || is_last || untrue.is_none();
    failures.note(untrue.filter(|_| is_judged).map_or(Ok(()), Err));
    if failures.are_none() {
        files.into_iter().try_for_each(Kept::remove)?;
        return Ok(is_judged);
    }
    failures.0.extend(files.iter().map(|file| format!("{} is kept", file.path.display())));
    failures.finish()?;
    Ok(true)
}

/// When nothing comes any more.
fn at_rest(agent: &Agent<'_>) -> Result<Metrics> {
    settled(SOON, Duration::from_millis(500), || {
        let metrics = agent.metrics()?;
        Ok(DEVICES.map(|device| metrics.sum("lossprobe_frames_total", &[("interface", device)])))
    })?;
    agent.metrics()
}

/// A capture's file, which stays unless all is well.
struct Kept {
    name: String,
    path: PathBuf,
}

impl Kept {
    fn new(name: &str, records: &[Record]) -> Result<Self> {
        let word: String =
            name.chars().filter(|c| *c != ',').map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let path = env::temp_dir().join(format!("lossprobe-tests-{}-{word}.pcap", id()));
        write_pcap(&path, records)?;
        Ok(Self { name: name.to_owned(), path })
    }

    fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

/// Asks tshark (where there is one), and compares with what the kernel has counted.
fn judge_capture(scene: &Scene, device: &str, (file, records): (&Kept, &[Record]), metrics: &Metrics) -> Result<()> {
    let analysis = Analysis::of(&file.path)?;
    ensure!(analysis.frames == records.len() as u64, "{} of {} frames read", analysis.frames, records.len());
    ensure!(analysis.malformed.is_empty(), "{} frames called malformed", analysis.malformed.len());
    let mut failures = Failures::default();
    if !is_guest() {
        failures.note(Agreement::of(&analysis, &file.path).and_then(|agreement| agreement.judge(&file.name)));
    }
    if scene.offloads == Offloads::Off {
        failures.note(live::judge(scene, device, metrics, (records, &analysis)));
    }
    failures.finish()
}

/// All that went wrong, so that the first failure does not hide the others.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, outcome: Result<()>) {
        self.0.extend(outcome.err().map(|error| format!("{error:#}")));
    }

    fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    fn finish(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
}
