//! `cargo xtask test`: library tests on the host, then the integration binary as root on this machine's kernel.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::package;
use crate::setup::{self, Scope};
use crate::ui::{self, Phases};
use crate::workspace::{Workspace, call, is_root};

/// Runs the tests; with a filter only the integration tests that it selects.
pub(crate) fn run(workspace: &Workspace, full: bool, filter: Option<&str>) -> Result<()> {
    let mut phases = Phases::default();
    if phases.run("set-up", || setup::ensure(workspace, Scope::Test)).is_some() {
        let agent = phases.run("build the agent", || build::agent(workspace));
        if filter.is_none() {
            phases.run("tests of the libraries", || libraries(workspace));
        }
        let package = full && filter.is_none_or(wants_package);
        let package = package.then(|| phases.run("package", || package::run(workspace))).flatten();
        let integration = phases.run("build the integration tests", || build::integration(workspace));
        if let (Some(agent), Some(integration)) = (agent, integration) {
            let schemas = setup::kubernetes_validate_folder()?;
            let mut settings =
                vec![format!("LOSSPROBE_BIN={}", agent.display()), format!("LOSSPROBE_SCHEMAS={}", schemas.display())];
            settings.extend(full.then(|| "LOSSPROBE_FULL=1".to_owned()));
            settings.extend(package.map(|(folder, _)| format!("LOSSPROBE_PACKAGE={}", folder.display())));
            phases.run("integration tests", || call(elevated().args(settings).arg(integration).args(filter)));
        }
    }
    phases.finish("test")
}

fn libraries(workspace: &Workspace) -> Result<()> {
    call(workspace.cargo("test").args(["--quiet", "--release", "--locked", "--workspace", "--lib"]))?;
    // In the dev profile, in which cargo has just built xtask itself.
    call(workspace.cargo("test").args(["--quiet", "--locked", "-p", "xtask"]))
}

/// Whether a filter selects a test of `suite/package.rs` that looks at what is handed out.
fn wants_package(filter: &str) -> bool {
    filter.contains("package") || "deploy::package::".contains(filter)
}

/// `env` as root: directly, or by sudo, which then asks for a password where it must. Arguments follow as `A=B program`.
pub(crate) fn elevated() -> Command {
    if is_root() {
        return Command::new("env");
    }
    ui::say("loading eBPF programs and making network namespaces needs root: continuing by `sudo`");
    let mut command = Command::new("sudo");
    command.args(["-E", "env"]);
    command
}
