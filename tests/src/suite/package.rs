//! How lossprobe is deployed: Kubernetes manifests, systemd unit, container image, Debian package. What is written down in
//! `deploy/` is compared with what the agent says of itself, and then done.

mod artefacts;
mod contained;
mod machine;
mod manifests;
mod unit;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use probe_user::kernel::privilege::{USED, Without};
use tests::run::trial;

/// These need programs that only a host has; the last ones what `cargo xtask test --full` makes before.
pub(super) fn host_trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("deploy::package::manifests_are_valid", manifests::are_valid),
        trial("deploy::package::manifests_give_what_is_declared", manifests::give_what_is_declared),
        trial("deploy::package::manifests_fit_the_agent", manifests::fit_the_agent),
        trial("deploy::package::components_add_up", manifests::components_add_up),
        trial("deploy::package::settings_are_the_agents", manifests::settings_are_the_agents),
        trial("deploy::package::monitor_finds_the_pods", manifests::monitor_finds_the_pods),
        trial("deploy::package::unit_gives_what_is_declared", unit::gives_what_is_declared),
        trial("deploy::package::unit_is_confined", unit::is_confined),
    ];
    if packages().is_some() {
        trials.extend([
            trial("deploy::package::image_runs_as_the_pod_says", contained::as_the_pod_says),
            trial("deploy::package::image_runs_as_the_unit_says", contained::as_the_unit_says),
            trial("deploy::package::debian_comes_and_goes", artefacts::debian_comes_and_goes),
            trial("deploy::package::debian_is_as_debian_wants", artefacts::debian_is_as_debian_wants),
            trial("deploy::package::packages_are_started_by_systemd", machine::are_started_by_systemd),
            trial("deploy::package::artefacts_are_whole", artefacts::are_whole),
        ]);
    }
    trials
}

/// The version of everything.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where `cargo xtask package` has put what it made, if it was asked to.
fn packages() -> Option<PathBuf> {
    env::var_os("LOSSPROBE_PACKAGE").map(PathBuf::from)
}

/// A file of this repository.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A folder for one test; with everything in it removed when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("lossprobe-tests-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    /// A folder in it.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.path);
    }
}

/// The one artefact with this end.
fn artefact(end: &str) -> Result<PathBuf> {
    let folder = packages().context("nothing was packaged")?;
    let list = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let names = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let found = names.into_iter().find(|path| path.to_string_lossy().ends_with(end));
    found.with_context(|| format!("no *{end} in {}", folder.display()))
}

/// Names of capabilities that the agent says it needs, without `CAP_`: on every kernel, or only where memory is locked.
fn declared(is_wanted: fn(Without) -> bool) -> BTreeSet<String> {
    let used = USED.iter().filter(|used| is_wanted(used.without));
    used.map(|used| used.name().trim_start_matches("CAP_").to_owned()).collect()
}

fn on_every_kernel(without: Without) -> bool {
    without != Without::LockedMemory
}
