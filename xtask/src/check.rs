//! `cargo xtask check`: everything that is judged without running the probe. All steps run even if one fails.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::build;
use crate::man;
use crate::rules;
use crate::setup::{self, Scope};
use crate::ui::{self, Phases};
use crate::workspace::{Workspace, call, find_program, output};

const TABLE_BEGIN: &str = "<!-- metrics:begin -->";
const TABLE_END: &str = "<!-- metrics:end -->";

/// Runs every check; `fix` rewrites formatting and what is made of other files instead of complaining.
pub(crate) fn run(workspace: &Workspace, fix: bool) -> Result<()> {
    let mut phases = Phases::default();
    if phases.run("set-up", || setup::ensure(workspace, Scope::Check)).is_some() {
        phases.run("rustfmt", || format(workspace, fix));
        phases.run("typos", || typos(workspace));
        phases.run("clippy (host)", || clippy(workspace));
        phases.run("clippy (eBPF)", || clippy_ebpf(workspace));
        phases.run("documentation", || documentation(workspace));
        phases.run("dependencies", || dependencies(workspace));
        phases.run("lock file of the fuzz targets", || fuzz_lock(workspace, fix));
        phases.run("README's metric table", || metric_table(workspace, fix));
        phases.run("PrometheusRule", || rules::check(workspace, fix));
        phases.run("man pages", || man::pages(workspace, &workspace.target("man")));
    }
    phases.finish("check")
}

fn format(workspace: &Workspace, fix: bool) -> Result<()> {
    // The fuzz targets are a workspace of their own.
    for manifest in ["Cargo.toml", "tests/fuzz/Cargo.toml"] {
        let mut cargo = workspace.cargo("fmt");
        cargo.args(["--all", "--manifest-path"]).arg(workspace.path(manifest));
        if !fix {
            cargo.arg("--check");
        }
        call(&mut cargo).map_err(|error| anyhow!("{error:#}; to repair: cargo xtask check --fix"))?;
    }
    Ok(())
}

fn typos(workspace: &Workspace) -> Result<()> {
    call(
        Command::new(setup::typos_program()?).arg("--config").arg(workspace.path("typos.toml")).arg(workspace.path("")),
    )
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let arguments = ["--quiet", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    call(workspace.cargo("clippy").args(arguments))
}

/// As probe-user's build script compiles it: same folder (its configuration file holds the flags), profile and target
/// folder. RUSTFLAGS would replace those flags.
fn clippy_ebpf(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo("clippy");
    cargo.current_dir(workspace.path("probe-ebpf")).env("RUSTC_BOOTSTRAP", "1");
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.args(["--quiet", "--locked", "--profile", "bpf", "-p", "probe-ebpf", "--lib", "--bin", "probe"]);
    cargo.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"]);
    cargo.arg(workspace.target("bpf")).args(["--", "-D", "warnings"]);
    call(&mut cargo)
}

fn documentation(workspace: &Workspace) -> Result<()> {
    let arguments = ["--quiet", "--release", "--locked", "--no-deps", "--workspace", "--document-private-items"];
    call(workspace.cargo("doc").args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Bans, licences and sources; the advisory database is fetched by the GitHub workflow only.
fn dependencies(workspace: &Workspace) -> Result<()> {
    if find_program("cargo-deny").is_none() {
        ui::say("skipped: cargo-deny is not here (cargo install --locked cargo-deny); the GitHub workflow runs it");
        return Ok(());
    }
    call(workspace.cargo("deny").args(["check", "bans", "licenses", "sources"]))
}

/// The fuzz targets are a workspace of their own: a dependency of the agent's that is new is missing in their lock file, and
/// nothing else would notice.
fn fuzz_lock(workspace: &Workspace, fix: bool) -> Result<()> {
    let mut cargo = workspace.cargo("metadata");
    cargo.args(["--offline", "--format-version", "1", "--manifest-path"]).arg(workspace.path("tests/fuzz/Cargo.toml"));
    if !fix {
        cargo.arg("--locked");
    }
    match output(&mut cargo).map_err(|error| format!("{error:#}")) {
        Err(error) if error.contains("cannot update the lock file") => {
            bail!("tests/fuzz/Cargo.lock is older than what it depends on; to repair: cargo xtask check --fix")
        }
        // What else these need is here once somebody has fuzzed.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The table between the markers is the output of `lossprobe internal metrics-table`.
fn metric_table(workspace: &Workspace, fix: bool) -> Result<()> {
    let agent = build::agent(workspace)?;
    let table = output(Command::new(agent).args(["internal", "metrics-table"]))?;
    let path = workspace.path("README.md");
    let readme = fs::read_to_string(&path).context("read README.md")?;
    let wanted = with_table(&readme, &table)?;
    if wanted == readme {
        return Ok(());
    }
    if !fix {
        bail!("the table in README.md differs from the code; to repair: cargo xtask check --fix");
    }
    ui::say("README.md: metric table rewritten");
    fs::write(&path, wanted).context("write README.md")
}

fn with_table(readme: &str, table: &str) -> Result<String> {
    let missing = || format!("README.md: no `{TABLE_BEGIN}` followed by `{TABLE_END}`; add the two lines");
    let (before, rest) = readme.split_once(TABLE_BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(TABLE_END).with_context(missing)?;
    Ok(format!("{before}{TABLE_BEGIN}\n{}\n{TABLE_END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::with_table;

    #[test]
    fn replaces_only_what_is_between_the_markers() -> anyhow::Result<()> {
        let readme = "a\n<!-- metrics:begin -->\nold\n<!-- metrics:end -->\nb\n";
        let once = with_table(readme, "| new |\n")?;
        assert_eq!(once, "a\n<!-- metrics:begin -->\n| new |\n<!-- metrics:end -->\nb\n");
        assert_eq!(with_table(&once, "| new |")?, once);
        assert!(with_table("no markers", "").is_err());
        Ok(())
    }
}
