//! The Debian package, by `dpkg-deb`, which is on every Debian machine: what is in it is one list.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{LICENCES, MODES, Parts, VERSION, architecture, files, name, place};
use crate::workspace::{Workspace, create_folder, output};

/// Files of this repository, where they go, and their mode.
const FILES: [(&str, &str, u32); 15] = [
    ("deploy/systemd/lossprobe.service", "usr/lib/systemd/system/lossprobe.service", 0o644),
    ("deploy/systemd/lossprobe.sysusers", "usr/lib/sysusers.d/lossprobe.conf", 0o644),
    ("deploy/systemd/lossprobe.tmpfiles", "usr/lib/tmpfiles.d/lossprobe.conf", 0o644),
    ("deploy/systemd/lossprobe.default", "etc/default/lossprobe", 0o644),
    ("deploy/systemd/lossprobe.toml", "etc/lossprobe/lossprobe.toml", 0o644),
    ("deploy/debian/conffiles", "DEBIAN/conffiles", 0o644),
    ("deploy/debian/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/debian/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/debian/postrm", "DEBIAN/postrm", 0o755),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/lossprobe", 0o644),
    ("deploy/debian/copyright", "usr/share/doc/lossprobe/copyright", 0o644),
    ("README.md", "usr/share/doc/lossprobe/README.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/lossprobe/CHANGELOG.md", 0o644),
    ("deploy/UPGRADE.md", "usr/share/doc/lossprobe/UPGRADE.md", 0o644),
    ("deploy/web.yml", "usr/share/doc/lossprobe/examples/web.yml", 0o644),
];
const DOCUMENTS: &str = "usr/share/doc/lossprobe";

/// Builds it. Returns its path.
pub(super) fn build(workspace: &Workspace, parts: &Parts) -> Result<PathBuf> {
    let architecture = architecture()?;
    let root = parts.folder.join("deb");
    for (from, to, mode) in FILES {
        place(&workspace.path(from), &root.join(to), mode)?;
    }
    let documents = root.join(DOCUMENTS);
    for licence in LICENCES {
        place(&workspace.path(licence), &documents.join(licence), 0o644)?;
    }
    for runbook in files(&workspace.path("deploy/runbooks"))? {
        place(&runbook, &documents.join("runbooks").join(name(&runbook)?), 0o644)?;
    }
    place(&parts.sbom, &documents.join("lossprobe.cdx.json"), 0o644)?;
    place(&parts.agent, &root.join("usr/bin/lossprobe"), 0o755)?;
    for page in files(&parts.man)? {
        let to = root.join("usr/share/man/man1").join(name(&page)?);
        place(&page, &to, 0o644)?;
        gzip(&to)?;
    }
    changelog(parts, &documents.join("changelog"))?;
    for (shell, to) in [
        ("lossprobe.bash", "usr/share/bash-completion/completions/lossprobe"),
        ("_lossprobe", "usr/share/zsh/vendor-completions/_lossprobe"),
        ("lossprobe.fish", "usr/share/fish/vendor_completions.d/lossprobe.fish"),
    ] {
        place(&parts.completions.join(shell), &root.join(to), 0o644)?;
    }
    control(workspace, &root, architecture)?;
    let package = parts.folder.join(format!("lossprobe_{VERSION}_{architecture}.deb"));
    output(Command::new("chmod").args(["--recursive", MODES]).arg(&root))?;
    let mut dpkg = Command::new("dpkg-deb");
    // All is root's; the time of what is inside is the commit's.
    dpkg.args(["--root-owner-group", "--build"]).arg(&root).arg(&package).env("SOURCE_DATE_EPOCH", &parts.epoch);
    output(&mut dpkg)?;
    Ok(package)
}

/// Without the time and name that gzip would keep.
fn gzip(file: &Path) -> Result<()> {
    output(Command::new("gzip").arg("-9n").arg(file)).map(drop)
}

/// Debian's own form of it, which says where the other one is.
fn changelog(parts: &Parts, file: &Path) -> Result<()> {
    let time = output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{}", parts.epoch)]))?;
    let who = "the lossprobe authors <lossprobe@example.invalid>";
    let text = format!(
        "lossprobe ({VERSION}) unstable; urgency=medium\n\n  * What is new is in CHANGELOG.md.\n\n -- {who}  {time}"
    );
    fs::write(file, text).context("write the package's changelog")?;
    gzip(file)
}

fn control(workspace: &Workspace, root: &Path, architecture: &str) -> Result<()> {
    let template = workspace.path("deploy/debian/control");
    let text = fs::read_to_string(&template).with_context(|| format!("read {}", template.display()))?;
    let kib = kib(root)?.to_string();
    let text = text.replace("@VERSION@", VERSION).replace("@ARCHITECTURE@", architecture).replace("@KIB@", &kib);
    create_folder(&root.join("DEBIAN"))?;
    fs::write(root.join("DEBIAN/control"), text).context("write the package's control file")
}

/// What it takes when installed, as Debian counts it: files rounded up, and one for each folder, whatever file system this is.
fn kib(folder: &Path) -> Result<u64> {
    let mut sum = 1;
    for path in files(folder)? {
        sum += if path.is_dir() { kib(&path)? } else { bytes(&path)?.div_ceil(1024) };
    }
    Ok(sum)
}

fn bytes(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("look at {}", file.display()))?.len())
}
