//! The container image as an OCI archive, by buildah, which needs no daemon. Any tool that knows images can push it.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{LICENCES, MODES, Parts, VERSION, architecture, archive, place};
use crate::ui;
use crate::workspace::{Workspace, output};

/// Builds it. Returns its path.
pub(super) fn build(workspace: &Workspace, parts: &Parts) -> Result<PathBuf> {
    let context = parts.folder.join("image");
    place(&parts.agent, &context.join("lossprobe"), 0o755)?;
    for licence in LICENCES {
        place(&workspace.path(licence), &context.join("licenses").join(licence), 0o644)?;
    }
    output(Command::new("chmod").args(["--recursive", MODES]).arg(&context))?;
    let tag = format!("lossprobe:{VERSION}");
    let mut build = buildah(parts);
    build.args(["build", "--isolation", "chroot", "--format", "oci", "--timestamp", &parts.epoch, "--tag", &tag]);
    build.args(["--arch", architecture()?]);
    build.args(["--build-arg", &format!("VERSION={VERSION}")]);
    build.args(["--build-arg", &format!("REVISION={}", parts.revision)]);
    build.arg("--file").arg(workspace.path("deploy/container/Containerfile")).arg(&context);
    ui::watch("buildah", &workspace.target("setup").join("buildah.log"), &mut build)?;
    // By our own tar: buildah's `oci-archive` is the same layout with the time at which it was written.
    let layout = store(parts).join("layout");
    output(buildah(parts).args(["push", "--quiet", &tag]).arg(format!("oci:{}:{tag}", layout.display())))?;
    let image = parts.folder.join(format!("lossprobe-{VERSION}-{ARCH}.oci.tar"));
    archive(parts, &image, &[], &layout, &["blobs", "index.json", "oci-layout"])?;
    // Its own store, which nobody else's images are in.
    let store = store(parts);
    fs::remove_dir_all(&store).with_context(|| format!("remove {}", store.display()))?;
    Ok(image)
}

fn store(parts: &Parts) -> PathBuf {
    parts.folder.join("buildah")
}

fn buildah(parts: &Parts) -> Command {
    let mut buildah = Command::new("buildah");
    // The simplest of drivers: it works on every file system and in every container.
    buildah.args(["--storage-driver", "vfs", "--root"]).arg(store(parts).join("store"));
    buildah.arg("--runroot").arg(store(parts).join("run"));
    buildah
}
