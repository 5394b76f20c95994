//! What is compiled, always in the release profile, so that agent, tests and demo share their dependencies.
//! The eBPF object is not here: probe-user's build script compiles it.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::ui;
use crate::workspace::{Workspace, call};

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
