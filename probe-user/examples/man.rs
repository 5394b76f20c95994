//! Writes the man pages of `lossprobe` and of each of its commands into a folder. `cargo xtask man` runs it.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use probe_user::cli::Cli;

/// What stands at the foot of each page.
const SOURCE: &str = concat!("lossprobe ", env!("CARGO_PKG_VERSION"));

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("name the folder for the pages")?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    [&command].into_iter().chain(visible).try_for_each(|command| write(command, folder.as_ref()))
}

fn write(command: &Command, folder: &Path) -> Result<()> {
    const BEHIND_OPTIONS: &str = ".SH EXTRA\n";
    let page = Man::new(command.clone()).source(SOURCE);
    let file = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8(text)?;
    ensure!(text.contains(BEHIND_OPTIONS), "no {BEHIND_OPTIONS:?} in the page {}", file.display());
    // Laid out by hand: without this, lines would be filled up and columns torn apart.
    let text = text.replace(BEHIND_OPTIONS, ".SH EXAMPLES\n.nf\n");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}
