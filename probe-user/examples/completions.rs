//! Writes what bash, zsh and fish need to complete `lossprobe` into a folder. `cargo xtask package` runs it.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use probe_user::cli::Cli;

fn main() -> Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).context("name the folder for the files")?);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "lossprobe", &folder)
            .with_context(|| format!("write that of {shell}"))?;
    }
    Ok(())
}
