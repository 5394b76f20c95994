//! What is compiled, always in the release profile, so that agent, tests and demo share their dependencies.
//! The eBPF object is not here: probe-user's build script compiles it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::ui;
use crate::workspace::{Workspace, call, output};

/// The agent, statically linked: `target/release/lossprobe`.
pub(crate) fn agent(workspace: &Workspace) -> Result<PathBuf> {
    static_binary(workspace, "probe-user", "lossprobe")
}

/// The integration tests, statically linked because they are also PID 1 of the QEMU guests.
pub(crate) fn integration(workspace: &Workspace) -> Result<PathBuf> {
    static_binary(workspace, "tests", "integration")
}

/// The demo, which runs on this machine only.
pub(crate) fn demo(workspace: &Workspace) -> Result<PathBuf> {
    dynamic_binary(workspace, "demo")
}

/// The incident, which is played on this machine only.
pub(crate) fn incident(workspace: &Workspace) -> Result<PathBuf> {
    dynamic_binary(workspace, "incident")
}

/// The measurements, which run on this machine only.
pub(crate) fn bench(workspace: &Workspace) -> Result<PathBuf> {
    dynamic_binary(workspace, "bench")
}

/// The soak, which runs on this machine only.
pub(crate) fn soak(workspace: &Workspace) -> Result<PathBuf> {
    dynamic_binary(workspace, "soak")
}

/// What is handed out: as `agent`, in the profile `dist`, and nothing in it says where it was built.
pub(crate) fn shipped(workspace: &Workspace) -> Result<PathBuf> {
    ui::say("building lossprobe as it is handed out (some minutes)");
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).context("find cargo's folder")?;
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    // Of two prefixes that fit the last one wins; a path may have blanks, so the flags are separated by what cargo asks for.
    let prefixes = [(home, "cargo"), (PathBuf::from(sysroot.trim()), "rust"), (workspace.path(""), "lossprobe")];
    let flags = prefixes.map(|(from, to)| {
        let from = from.display().to_string();
        format!("--remap-path-prefix={}={to}", from.trim_end_matches('/'))
    });
    let mut cargo = workspace.cargo("rustc");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.args(["--profile", "dist", "--locked", "-p", "probe-user", "--bin", "lossprobe", "--"]);
    call(cargo.args(["-C", "target-feature=+crt-static"]))?;
    let path = workspace.target("dist").join("lossprobe");
    path.canonicalize().with_context(|| format!("find what cargo built at {}", path.display()))
}

fn dynamic_binary(workspace: &Workspace, binary: &str) -> Result<PathBuf> {
    ui::say(&format!("building {binary}"));
    call(workspace.cargo("build").args(["--release", "--locked", "-p", "tests", "--bin", binary]))?;
    built(workspace, binary)
}

// `crt-static` goes to the last rustc call only: as RUSTFLAGS without a `--target` it would break proc-macros.
fn static_binary(workspace: &Workspace, package: &str, binary: &str) -> Result<PathBuf> {
    ui::say(&format!("building {binary}"));
    let mut cargo = workspace.cargo("rustc");
    cargo.args(["--release", "--locked", "-p", package, "--bin", binary, "--", "-C", "target-feature=+crt-static"]);
    call(&mut cargo)?;
    built(workspace, binary)
}

fn built(workspace: &Workspace, binary: &str) -> Result<PathBuf> {
    let path = workspace.target("release").join(binary);
    path.canonicalize().with_context(|| format!("find what cargo built at {}", path.display()))
}
