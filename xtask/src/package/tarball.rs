//! The tarball: the agent, its man pages and completions, and everything of `deploy/`, for who uses neither Debian nor
//! containers.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{LICENCES, Parts, VERSION, archive, files, name, place};
use crate::workspace::Workspace;

const DOCUMENTS: [&str; 3] = ["README.md", "CHANGELOG.md", "SECURITY.md"];

/// Builds it. Returns its path.
pub(super) fn build(workspace: &Workspace, parts: &Parts) -> Result<PathBuf> {
    let title = format!("lossprobe-{VERSION}-{ARCH}");
    let root = parts.folder.join(&title);
    place(&parts.agent, &root.join("lossprobe"), 0o755)?;
    place(&parts.sbom, &root.join("lossprobe.cdx.json"), 0o644)?;
    for document in DOCUMENTS.into_iter().chain(LICENCES) {
        place(&workspace.path(document), &root.join(document), 0o644)?;
    }
    for (from, to) in [(&parts.man, "man"), (&parts.completions, "completions")] {
        whole(from, &root.join(to))?;
    }
    whole(&workspace.path("deploy"), &root.join("deploy"))?;
    let tarball = parts.folder.join(format!("{title}.tar.gz"));
    archive(parts, &tarball, &["--use-compress-program", "gzip -9n"], &parts.folder, &[&title])?;
    Ok(tarball)
}

/// A folder with all that is below it.
fn whole(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let to = to.join(name(&file)?);
        if file.is_dir() { whole(&file, &to)? } else { place(&file, &to, 0o644)? }
    }
    Ok(())
}
