//! `cargo xtask man`: man pages out of what `--help` says, and completions for packages.

use std::path::{self, Path};

use anyhow::{Context, Result};

use crate::setup::{self, Scope};
use crate::ui;
use crate::workspace::{Workspace, call, create_folder};

/// Writes them into `folder`, `target/man` if none is named.
pub(crate) fn run(workspace: &Workspace, folder: Option<&Path>) -> Result<()> {
    setup::ensure(workspace, Scope::Build)?;
    let folder = folder.map_or_else(|| Ok(workspace.target("man")), path::absolute).context("where is this?")?;
    pages(workspace, &folder)?;
    ui::say(&format!("wrote the man pages; try: man {}", folder.join("lossprobe.1").display()));
    Ok(())
}

/// An example of probe-user writes them: it knows the command line, and nothing of it is in the agent.
pub(crate) fn pages(workspace: &Workspace, folder: &Path) -> Result<()> {
    create_folder(folder)?;
    example(workspace, "man", folder)
}

/// What shells need to complete the command line.
pub(crate) fn completions(workspace: &Workspace, folder: &Path) -> Result<()> {
    create_folder(folder)?;
    example(workspace, "completions", folder)
}

fn example(workspace: &Workspace, name: &str, folder: &Path) -> Result<()> {
    let arguments = ["--quiet", "--release", "--locked", "-p", "probe-user", "--example", name, "--"];
    call(workspace.cargo("run").args(arguments).arg(folder))
}
