//! Faults of the agent's machine, files and neighbours: each ends with exact counters or a clear error, and what was not
//! counted has a name. Those that belong to one subject are with it; `tests/README.md` lists all of them.

mod agents;
mod bounds;
mod clock;
mod files;
mod kernel;

use std::{fs, path::PathBuf, process::id};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    guest::is_guest,
    namespace::Namespace,
    run::{trial, trial_alone},
    topology::{Pair, RIGHT},
};

use super::counts::{Counts, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("faults::killed_at_any_time", agents::killed_at_any_time),
        trial("faults::stopped_and_continued", agents::stopped_and_continued),
        trial("faults::hang_up", agents::hang_up),
        trial("faults::two_agents_on_one_interface", agents::two_on_one_interface),
        trial("faults::two_agents_on_one_state_folder", agents::two_on_one_state_folder),
        trial("faults::a_storm_of_scrapes", agents::a_storm_of_scrapes),
        trial("faults::more_interfaces_than_counters", bounds::more_interfaces_than_counters),
        trial("faults::numbers_beyond_the_table", bounds::numbers_beyond_the_table),
        trial_alone("faults::full_map_of_drops", bounds::full_map_of_drops),
        trial("faults::overrun_ring", bounds::overrun_ring),
        trial("faults::broken_state_folder", files::broken_state_folder),
        trial("faults::left_by_another_version", files::left_by_another_version),
        trial("faults::state_folder_that_is_none", files::state_folder_that_is_none),
    ];
    if is_guest() {
        // A clock is the whole machine's: nobody else's is set.
        trials.push(trial("faults::clock_is_set", clock::clock_is_set));
    }
    trials
}

/// These need a shell, `mount` and `unshare`.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("faults::terminal_goes_away", agents::terminal_goes_away),
        trial("faults::too_few_open_files", bounds::too_few_open_files),
        trial("faults::full_disk", files::full_disk),
        trial("faults::read_only_state_folder", files::read_only_state_folder),
        trial("faults::broken_type_information", kernel::broken_type_information),
        trial("faults::kernel_without_a_tracepoint", kernel::without_a_tracepoint),
        trial("faults::the_table_names_trials", the_table_names_trials),
    ]
}

/// The table of faults, with those that belong to other subjects.
fn table() -> &'static str {
    let chapters = include_str!("../../README.md").split("\n## ");
    chapters.into_iter().find(|chapter| chapter.starts_with("Faults\n")).unwrap_or_default()
}

/// Whether the table names a trial, or it is one of this file: what the filter `faults` selects.
pub(super) fn are_shown_by(trial: &str) -> bool {
    trial.starts_with("faults::") || table().contains(&format!("`{trial}`"))
}

fn the_table_names_trials() -> Result<()> {
    let trials = super::trials();
    let mut known: Vec<_> = trials.iter().map(Trial::name).collect();
    // In guests only.
    known.push("faults::clock_is_set");
    let named: Vec<_> = table().split('`').filter(|word| word.contains("::")).collect();
    let gone: Vec<_> = named.iter().filter(|name| !known.contains(name)).collect();
    ensure!(gone.is_empty(), "the table names trials that are not there: {gone:?}");
    let of_this_file = |name: &&&str| name.starts_with("faults::") && **name != "faults::the_table_names_trials";
    let missing: Vec<_> = known.iter().filter(of_this_file).filter(|name| !named.contains(name)).collect();
    ensure!(missing.is_empty(), "the table does not name {missing:?}");
    Ok(())
}

const FRAME: u64 = 14 + 20 + 8 + 10;

fn send(pair: &Pair, frames: usize) -> Result<()> {
    pair.left.send_udp((RIGHT, 5000), frames, 10)
}

/// The main job: exactly so many frames into `b` are counted, and nothing was lost.
fn counts(pair: &Pair, agent: &Agent<'_>, frames: usize) -> Result<()> {
    let expected = Counts::new(frames as u64, frames as u64 * FRAME);
    counts_exactly(agent, ("b", "ingress"), expected, || send(pair, frames))?;
    lost_nothing(agent)
}

/// How often something was not written to the state folder.
fn unwritten(agent: &Agent<'_>) -> Result<f64> {
    agent.metrics()?.get("lossprobe_incident_write_failed_total", &[]).context("there is no state folder")
}

/// Starts an agent for `b` by a shell, in a mount namespace of its own that `script` has prepared.
fn start_behind<'n>(namespace: &'n Namespace, script: &str, arguments: &[&str]) -> Result<Agent<'n>> {
    let script = format!("{script} && exec \"$0\" \"$@\"");
    let arguments = [&["--interface", "b"], arguments].concat();
    Agent::start_by(namespace, &["unshare", "--mount", "sh", "-c", &script], &arguments)
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let folder = Self(std::env::temp_dir().join(format!("lossprobe-faults-{}-{name}", id())));
        fs::create_dir_all(&folder.0).with_context(|| format!("make {}", folder.0.display()))?;
        Ok(folder)
    }

    fn text(&self) -> Result<&str> {
        self.0.to_str().context("a file name in UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
