//! `cargo xtask package`: what is handed out, in `target/package`. All of it is made of one build of the agent, and the same
//! commit gives the same bytes with the same compiler and tools: times are the commit's, owners are root, modes are set, nothing says
//! where it was built. (Compared: all four artefacts of two checkouts in different folders, each built from nothing.)

mod deb;
mod image;
mod sbom;
mod tarball;

use std::env::consts::ARCH;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::man;
use crate::setup::{self, Scope};
use crate::ui::{self, Phases};
use crate::workspace::{Workspace, create_folder, output};

/// The version of everything in this repository.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What lies beside the artefacts and lists them.
const SUMS: &str = "SHA256SUMS";
/// Whatever this machine's umask: read by everybody, written by the owner, executed where it is a program or a folder.
const MODES: &str = "u=rwX,go=rX";
const LICENCES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL-2.0"];

/// What all artefacts are made of.
struct Parts {
    /// Where they go.
    folder: PathBuf,
    agent: PathBuf,
    /// Man pages, section 1.
    man: PathBuf,
    /// `lossprobe.bash`, `_lossprobe`, `lossprobe.fish`.
    completions: PathBuf,
    sbom: PathBuf,
    /// Seconds since 1970, for everything that has a time.
    epoch: String,
    revision: String,
}

/// Makes all artefacts and their checksums. Returns the folder and the names.
pub(crate) fn run(workspace: &Workspace) -> Result<(PathBuf, Vec<String>)> {
    let mut phases = Phases::default();
    let mut artefacts = Vec::new();
    let parts = phases
        .run("set-up", || setup::ensure(workspace, Scope::Package))
        .and_then(|()| phases.run("the agent and what belongs to it", || parts(workspace)));
    if let Some(parts) = &parts {
        artefacts.extend(phases.run("Debian package", || deb::build(workspace, parts)));
        artefacts.extend(phases.run("tarball", || tarball::build(workspace, parts)));
        artefacts.extend(phases.run("container image", || image::build(workspace, parts)));
        artefacts.push(parts.sbom.clone());
        phases.run("checksums", || checksums(&parts.folder, &artefacts));
    }
    phases.finish("package")?;
    let folder = parts.context("nothing was made")?.folder;
    let names = artefacts.iter().map(|path| name(path)).collect::<Result<Vec<_>>>()?;
    for name in &names {
        let bytes = fs::metadata(folder.join(name)).with_context(|| format!("look at {name}"))?.len();
        ui::say(&format!("{:>7.1} MiB  {}", bytes as f64 / f64::from(1 << 20), folder.join(name).display()));
    }
    Ok((folder, names))
}

fn parts(workspace: &Workspace) -> Result<Parts> {
    let folder = workspace.target("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    let agent = build::shipped(workspace)?;
    man::pages(workspace, &man)?;
    man::completions(workspace, &completions)?;
    let git = |arguments: &[&str]| {
        let text = output(Command::new("git").args(arguments).current_dir(workspace.path("")))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let epoch = git(&["log", "-1", "--format=%ct"])?;
    let revision = git(&["rev-parse", "HEAD"])?;
    let sbom = folder.join(format!("lossprobe-{VERSION}.cdx.json"));
    fs::write(&sbom, sbom::build(workspace)?).with_context(|| format!("write {}", sbom.display()))?;
    Ok(Parts { folder, agent, man, completions, sbom, epoch, revision })
}

/// In the format of `sha256sum`, with which anybody can check them.
fn checksums(folder: &Path, artefacts: &[PathBuf]) -> Result<()> {
    let names = artefacts.iter().map(|path| name(path)).collect::<Result<Vec<_>>>()?;
    let sums = output(Command::new("sha256sum").args(names).current_dir(folder))?;
    fs::write(folder.join(SUMS), &sums).context("write the checksums")?;
    ui::say(sums.trim_end());
    Ok(())
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} has no name", path.display()))
}

/// What Debian and container registries call this machine's architecture.
fn architecture() -> Result<&'static str> {
    match ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("nothing is packaged for {other}: build on x86_64 or aarch64"),
    }
}

/// Copies a file and says who may do what with it, whatever this checkout's modes are.
fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = to.parent() {
        create_folder(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| format!("chmod {}", to.display()))
}

/// `names` below `folder` as a tar archive: sorted, root's, of the commit's time, so that the same content gives the same bytes.
fn archive(parts: &Parts, file: &Path, compressed: &[&str], folder: &Path, names: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.args(["--mode", MODES]).arg(format!("--mtime=@{}", parts.epoch)).args(compressed);
    tar.arg("--file").arg(file).arg("--directory").arg(folder).args(names);
    output(&mut tar).map(drop)
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
