//! Packages out of Debian's archive without installing them and without being root: a private apt configuration in
//! the cache folder, for suites that the system itself does not use. Signatures are verified with Debian's keyring.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::install_hint;
use crate::ui;
use crate::workspace::{cache, create_folder, find_program, output};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite of the archive; updates for security live beside the main archive.
#[derive(Clone, Copy)]
pub(crate) enum Suite {
    Main(&'static str),
    Security(&'static str),
}

impl Suite {
    /// As it stands in a sources list.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main(name) | Self::Security(name) => name,
        }
    }
}

/// One suite, its package lists fetched.
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Fetches the package lists of `suite` from the mirror that this system already uses.
    pub(crate) fn open(suite: Suite) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            if find_program(program).is_none() {
                bail!(
                    "`{program}` is not here: this step takes packages from Debian's archive and needs a Debian system"
                );
            }
        }
        anyhow::ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing, so signatures cannot be verified; run: {}",
            install_hint("debian-archive-keyring")
        );
        let archive = Self { folder: cache()?.join("apt").join(suite.name()) };
        let mirror = mirror(suite)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            create_folder(&archive.folder.join(folder))?;
        }
        let line = format!("deb [signed-by={KEYRING}] {mirror} {} main\n", suite.name());
        archive.write("sources.list", &line)?;
        // No package is installed in the eyes of this configuration, or the host's own version would be preferred.
        archive.write("status", "")?;
        let log = archive.folder.join("update.log");
        ui::watch(&format!("package list of {}", suite.name()), &log, archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// The versions that the suite holds of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = output(self.apt("apt-cache").args(["madison", package]))?;
        let version = |line: &str| line.split('|').nth(1).map(|version| version.trim().to_owned());
        Ok(table.lines().filter_map(version).collect())
    }

    /// The names of all packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The names of the packages that `package` depends on without an alternative.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(self.apt("apt-cache").args(["depends", "--important", package]))?;
        Ok(text.lines().filter_map(|line| line.strip_prefix("  Depends: ")).map(str::to_owned).collect())
    }

    /// Downloads `package` (`name` or `name=version`) and unpacks it into `folder`.
    pub(crate) fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        let downloads = self.folder.join("downloads");
        if downloads.exists() {
            fs::remove_dir_all(&downloads).with_context(|| format!("empty {}", downloads.display()))?;
        }
        create_folder(&downloads)?;
        create_folder(folder)?;
        let log = self.folder.join("download.log");
        let mut download = self.apt("apt-get");
        download.args(["download", package]).current_dir(&downloads);
        ui::watch(&format!("download {package}"), &log, &mut download)?;
        let files = fs::read_dir(&downloads).with_context(|| format!("list {}", downloads.display()))?;
        for file in files {
            output(Command::new("dpkg").arg("-x").arg(file?.path()).arg(folder))?;
        }
        fs::remove_dir_all(&downloads).with_context(|| format!("remove {}", downloads.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    fn apt(&self, program: &str) -> Command {
        let option = |name: &str, file: &str| format!("{name}={}", self.folder.join(file).display());
        let mut command = Command::new(program);
        for option in [
            option("Dir::Etc::SourceList", "sources.list"),
            option("Dir::State::Lists", "lists"),
            option("Dir::State::status", "status"),
            option("Dir::Cache", "cache"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            // apt run by root drops to a user who cannot enter root's cache folder.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The mirror of this system's own apt configuration: we go nowhere that the administrator did not choose.
fn mirror(suite: Suite) -> Result<String> {
    let label = match suite {
        Suite::Main(_) => "Debian",
        Suite::Security(_) => "Debian-Security",
    };
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(LABEL) $(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
    ]))?;
    let mirror = targets.lines().filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == label);
    mirror.map(|(_, uri)| uri.to_owned()).with_context(|| {
        format!("no mirror of Debian's archive ({label}) in this system's apt lists; on Debian, run: apt-get update")
    })
}
