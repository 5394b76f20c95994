//! Faults of the agent's machine, files and neighbours: each ends with exact counters or a clear error, and what was not
//! counted has a name. Those that belong to one subject are with it; `tests/README.md` lists all of them.

mod agents;
mod bounds;
mod clock;
mod files;
mod kernel;

use std::{fs, path::PathBuf, process::id};

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    guest::is_guest,
    namespace::Namespace,
    run::trial,
    topology::{Pair, RIGHT},
};

use super::counts::{Counts, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("faults::killed_at_any_time", agents::killed_at_any_time),
        trial("faults::stopped_and_continued", agents::stopped_and_continued),
        trial("faults::two_agents_on_one_interface", agents::two_on_one_interface),
        trial("faults::two_agents_on_one_state_folder", agents::two_on_one_state_folder),
        trial("faults::a_storm_of_scrapes", agents::a_storm_of_scrapes),
        trial("faults::more_interfaces_than_counters", bounds::more_interfaces_than_counters),
        trial("faults::numbers_beyond_the_table", bounds::numbers_beyond_the_table),
        trial("faults::full_map_of_drops", bounds::full_map_of_drops),
        trial("faults::overrun_ring", bounds::overrun_ring),
        trial("faults::broken_state_folder", files::broken_state_folder),
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
        trial("faults::full_disk", files::full_disk),
        trial("faults::read_only_state_folder", files::read_only_state_folder),
        trial("faults::broken_type_information", kernel::broken_type_information),
        trial("faults::kernel_without_a_tracepoint", kernel::without_a_tracepoint),
    ]
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
