//! `lossprobe doctor`: what the agent would find on this machine, before it is started. It attaches nothing and changes
//! nothing; what it may not look at it calls unknown, never good.

mod checks;
mod plan;
mod roles;
mod text;

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::Output,
    collect::links::{self, Link},
    config::Config,
    kernel::preflight,
    snapshot::Memory,
};

pub use self::plan::{Hook, Plan};

/// Version of the JSON form. Keys are added, never renamed.
pub const SCHEMA: u32 = 1;

/// What came of looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but something goes without.
    Warning,
    /// Not looked, or not allowed to.
    Unknown,
    /// Frames cannot be counted because of it.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name: stable.
    pub name: String,
    /// What came of it.
    pub status: Status,
    /// What was found, for people.
    pub found: String,
    /// What goes without it, `""` where nothing does.
    pub consequence: String,
    /// What to do about it, `""` where nothing is to be done.
    pub next_step: String,
}

impl Check {
    fn new(name: &str, status: Status, found: impl Into<String>) -> Self {
        let nothing = String::new;
        Self { name: name.to_owned(), status, found: found.into(), consequence: nothing(), next_step: nothing() }
    }

    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found)
    }

    fn without(self, consequence: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { consequence: consequence.into(), next_step: next_step.into(), ..self }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub lossprobe: String,
    /// The kernel's release.
    pub release: String,
    /// Whether frames of at least one selected interface can be counted.
    pub can_count: bool,
    /// That, and why not, in a sentence.
    pub summary: String,
    /// What the kernel is, and whether it takes the programs.
    pub kernel: Vec<Check>,
    /// Capabilities.
    pub privileges: Vec<Check>,
    /// Everything that some kernels give and some do not; names as in `lossprobe_feature_available`.
    pub features: Vec<Check>,
    /// Kernel memory of the maps, and open files, against what is allowed.
    pub memory: Vec<Check>,
    /// The same in numbers, `null` where the kernel does not tell.
    pub memory_bytes: Option<Memory>,
    /// Whether an agent runs already.
    pub agent: Vec<Check>,
    /// Where packets leave the node.
    pub roles: Vec<Check>,
    /// What would be attached where, by interface.
    pub interfaces: Vec<Plan>,
}

impl Report {
    /// The lists of checks with their titles, in the order of reading.
    fn sections(&self) -> [(&'static str, &[Check]); 6] {
        [
            ("Kernel", &self.kernel),
            ("Privileges", &self.privileges),
            ("Features", &self.features),
            ("Memory and files", &self.memory),
            ("Agent", &self.agent),
            ("Roles", &self.roles),
        ]
    }
}

/// Looks and prints. `false`: frames cannot be counted here.
///
/// # Errors
/// If an interface was named that does not exist, or the interfaces cannot be listed.
pub fn run(config: &Config, output: Output) -> Result<bool> {
    let report = examine(config)?;
    let text = match output {
        Output::Json => serde_json::to_string(&report)? + "\n",
        Output::Table => text::render(&report, std::io::stdout().is_terminal()),
    };
    // Whoever closes standard output has seen enough.
    let _seen_enough = std::io::stdout().write_all(text.as_bytes());
    Ok(report.can_count)
}

fn examine(config: &Config) -> Result<Report> {
    let links = links::list()?;
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    config.check_against(&names)?;
    let selected: Vec<&Link> =
        links.iter().filter(|link| config.selection.selects(&link.name, link.is_loopback())).collect();

    // Before the checks, of which the last gives up privileges.
    let capacity = config.capacity(links.len());
    let (places, roles) = roles::of(&links, &selected, config);
    let interfaces = plan::of(&selected, &places, config, capacity.interfaces);
    let privileges = checks::privileges();
    let (mut memory, memory_bytes) = checks::memory(capacity);
    let (kernel, features) = checks::kernel_and_features(capacity, plan::has_tcx(&interfaces), &memory);
    memory.push(checks::open_files(selected.len() as u64));
    let agent = checks::agent(config.socket.as_deref());

    let mut report = Report {
        schema: SCHEMA,
        lossprobe: env!("CARGO_PKG_VERSION").to_owned(),
        release: preflight::release().unwrap_or_else(|_| "unknown".to_owned()),
        can_count: false,
        summary: String::new(),
        kernel,
        privileges,
        features,
        memory,
        memory_bytes,
        agent,
        roles,
        interfaces,
    };
    (report.can_count, report.summary) = conclude(&report);
    Ok(report)
}

fn conclude(report: &Report) -> (bool, String) {
    let checks = report.sections().into_iter().flat_map(|(_, checks)| checks);
    let failed: Vec<_> = checks.filter(|check| check.status == Status::Failure).map(|check| &*check.name).collect();
    let counted = report.interfaces.iter().filter(|plan| plan.is_counted()).count();
    let all = report.interfaces.len();
    if !failed.is_empty() {
        return (false, format!("frames cannot be counted: see {}", failed.join(", ")));
    }
    match (counted, all) {
        (_, 0) => (false, "frames cannot be counted: no interface is selected".to_owned()),
        (0, _) => (false, format!("frames can be counted on none of {all} interfaces")),
        _ => (true, format!("frames can be counted on {counted} of {all} interfaces")),
    }
}
