//! Prometheus and Alertmanager, as programs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};
use tests::{child, namespace::Namespace, program};

/// Where `alertmanager.yml` tells pagers and tickets.
pub(super) const PAGER: u16 = 9099;
/// Where `prometheus.yml` finds Alertmanager.
pub(super) const ALERTMANAGER: u16 = 9093;

/// A server, killed when dropped.
pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(super) fn start(namespace: &Namespace, program: &str, arguments: &[String], log: PathBuf) -> Result<Self> {
        let file = File::create(&log)?;
        let mut command = child::command(namespace, program)?;
        command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { child: command.spawn().with_context(|| format!("start {program}"))?, log })
    }

    /// Alertmanager with the settings of this folder.
    pub(super) fn alertmanager(namespace: &Namespace, folder: &Path) -> Result<Self> {
        let file = |name: &str| folder.join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", file("alertmanager.yml")),
            format!("--storage.path={}", file("alerts")),
            format!("--web.listen-address=127.0.0.1:{ALERTMANAGER}"),
            // No cluster.
            "--cluster.listen-address=".to_owned(),
        ];
        Self::start(namespace, program::alertmanager()?, &arguments, folder.join("alertmanager.log"))
    }

    /// Its log.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
