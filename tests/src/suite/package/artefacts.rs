//! What `cargo xtask package` has made.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{namespace::Namespace, program};

use super::{Scratch, VERSION, artefact, packages, source};

/// Installed into a root of its own, used, removed, purged. `dpkg` runs the package's scripts from outside of that root, which has
/// no shell; they know it by `DPKG_ROOT`.
pub(super) fn debian_comes_and_goes() -> Result<()> {
    let namespace = Namespace::new("debian")?;
    let root = Scratch::new("debian")?;
    for file in ["info", "updates"] {
        fs::create_dir_all(root.path.join("var/lib/dpkg").join(file))?;
    }
    fs::write(root.path.join("var/lib/dpkg/status"), "").context("write an empty list of packages")?;
    let at = format!("--root={}", root.path.display());
    // It depends on systemd, which is outside of this root.
    let forced = ["--force-script-chrootless", "--force-depends", "--force-not-root"];
    let dpkg = |verb: &[&str]| program::run(&namespace, "dpkg", &[&[at.as_str()][..], &forced, verb].concat(), "");
    dpkg(&["--install", &artefact(".deb")?.display().to_string()])?;

    let lossprobe = root.path.join("usr/bin/lossprobe").display().to_string();
    let version = program::run(&namespace, &lossprobe, &["--version"], "")?;
    assert_eq!(version.trim(), format!("lossprobe {VERSION}"));
    let enabled = root.path.join("etc/systemd/system/multi-user.target.wants/lossprobe.service");
    ensure!(enabled.is_symlink(), "the unit is not enabled: {:?}", left(&root.path)?);
    let user = fs::read_to_string(root.path.join("etc/passwd"))?;
    ensure!(user.lines().any(|line| line.starts_with("lossprobe:")), "no user: {user}");
    for file in [
        "etc/default/lossprobe",
        "etc/lossprobe/lossprobe.toml",
        "usr/lib/systemd/system/lossprobe.service",
        "usr/share/man/man1/lossprobe-agent.1.gz",
        "usr/share/bash-completion/completions/lossprobe",
        "usr/share/doc/lossprobe/runbooks/malformed-frames.md",
        "usr/share/doc/lossprobe/examples/web.yml",
        "var/lib/lossprobe",
    ] {
        ensure!(root.path.join(file).exists(), "no {file}: {:?}", left(&root.path)?);
    }
    dpkg(&["--remove", "lossprobe"])?;
    let after = left(&root.path)?;
    ensure!(after.iter().all(|path| !path.starts_with("usr")), "removed, and yet there: {after:?}");
    ensure!(after.contains(&PathBuf::from("etc/lossprobe/lossprobe.toml")), "settings are kept: {after:?}");
    dpkg(&["--purge", "lossprobe"])?;
    let after = left(&root.path)?;
    ensure!(after.is_empty(), "purged, and yet there: {after:?}");
    Ok(())
}

/// Debian's own checker finds nothing; what it is told to pass over is in `deploy/debian/lintian-overrides`.
pub(super) fn debian_is_as_debian_wants() -> Result<()> {
    let namespace = Namespace::new("lintian")?;
    let package = artefact(".deb")?.display().to_string();
    let output = program::output(&namespace, "lintian", &["--allow-root", "--fail-on=error,warning", &package], "")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// What has the package's name, below a root.
fn left(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains("lossprobe")) {
                found.insert(path.strip_prefix(root)?.to_owned());
            }
            if path.is_dir() && !path.is_symlink() && !path.ends_with("var/lib/dpkg") {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// Checksums hold, the bill of materials names what is inside, and nothing says where it was built.
pub(super) fn are_whole() -> Result<()> {
    let namespace = Namespace::new("artefacts")?;
    let folder = packages().context("nothing was packaged")?;
    let at = folder.display().to_string();
    let check = "cd \"$0\" && sha256sum --check --strict SHA256SUMS";
    let sums = program::run(&namespace, "sh", &["-c", check, &at], "")?;
    ensure!(sums.lines().count() == 4, "{sums}");

    let bill: Value =
        serde_json::from_slice(&fs::read(artefact(".cdx.json")?)?).context("read the bill of materials")?;
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().context("components")?;
    let names: BTreeSet<_> = components.iter().filter_map(|component| component["name"].as_str()).collect();
    for (name, inside) in
        [("aya", true), ("aya-ebpf", true), ("probe-user", true), ("proptest", false), ("xtask", false)]
    {
        ensure!(names.contains(name) == inside, "{name} in the bill of materials: {}", !inside);
    }
    for component in components {
        ensure!(component["licenses"][0]["expression"].is_string(), "no licence: {component}");
    }

    let list = program::run(&namespace, "tar", &["--list", "--file", &artefact(".tar.gz")?.display().to_string()], "")?;
    for file in
        ["lossprobe", "man/lossprobe.1", "deploy/systemd/lossprobe.service", "deploy/kubernetes/base/daemonset.yaml"]
    {
        ensure!(list.lines().any(|line| line.ends_with(&format!("/{file}"))), "no {file} in the tarball");
    }
    let agent = fs::read(folder.join("image/lossprobe")).context("read the agent of the image")?;
    let here = source("").canonicalize()?.display().to_string();
    let home = std::env::var("HOME").unwrap_or_default() + "/.";
    for place in [here, home].iter().filter(|place| place.len() > 3) {
        let found = agent.windows(place.len()).any(|window| window == place.as_bytes());
        ensure!(!found, "the agent says that it was built below {place}");
    }
    Ok(())
}
