//! `cargo xtask demo`, `incident`, `run`, `bench` and `soak`: build, then become the program, so that Ctrl-C reaches it and nobody else.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build;
use crate::setup::{self, Scope};
use crate::test::elevated;
use crate::workspace::{Workspace, show};

/// The demo on a throw-away network of its own.
pub(crate) fn demo(workspace: &Workspace, keep: bool) -> Result<()> {
    setup::ensure(workspace, Scope::Demo)?;
    let agent = build::agent(workspace)?;
    let demo = build::demo(workspace)?;
    let mut command = elevated();
    command.arg(format!("LOSSPROBE_BIN={}", agent.display())).arg(demo);
    if keep {
        command.arg("--keep");
    }
    become_program(command)
}

/// The incident that the probe exists for, on a throw-away network of its own.
pub(crate) fn incident(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, Scope::Demo)?;
    let agent = build::agent(workspace)?;
    let incident = build::incident(workspace)?;
    let mut command = elevated();
    command.arg(format!("LOSSPROBE_BIN={}", agent.display())).arg(incident);
    become_program(command)
}

/// The agent on this machine's interfaces.
pub(crate) fn agent(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::ensure(workspace, Scope::Build)?;
    let agent = build::agent(workspace)?;
    let mut command = elevated();
    command.arg(agent).args(["agent", "--summary"]).args(arguments);
    become_program(command)
}

/// The measurements, in network namespaces of their own.
pub(crate) fn bench(workspace: &Workspace, output: &str, filters: &[String]) -> Result<()> {
    setup::ensure(workspace, Scope::Bench)?;
    let agent = build::agent(workspace)?;
    let bench = build::bench(workspace)?;
    let mut command = elevated();
    command.arg(format!("LOSSPROBE_BIN={}", agent.display())).arg(bench).args(["--output", output]).args(filters);
    become_program(command)
}

/// An agent under load for so many minutes, in network namespaces of its own.
pub(crate) fn soak(workspace: &Workspace, minutes: u64, output: &str) -> Result<()> {
    setup::ensure(workspace, Scope::Demo)?;
    let agent = build::agent(workspace)?;
    let soak = build::soak(workspace)?;
    let mut command = elevated();
    command.arg(format!("LOSSPROBE_BIN={}", agent.display())).arg(soak);
    command.args(["--minutes", &minutes.to_string(), "--output", output]);
    become_program(command)
}

fn become_program(mut command: Command) -> Result<()> {
    Err(command.exec()).with_context(|| format!("start `{}`", show(&command)))
}
