//! The kernels of the test matrix: which package of Debian's archive each is, fetched and unpacked once per user.
//!
//! Nothing is installed. A cached kernel is used for ever; remove its folder to fetch the newest of its series.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::archive::{Archive, Suite};
use crate::ui;
use crate::workspace::{cache, create_folder};

/// A series that the probe supports and the suites that carry it, the preferred first.
pub(crate) struct Series {
    /// As `uname -r` begins: `5.10`.
    pub(crate) name: &'static str,
    suites: &'static [Suite],
}

impl Series {
    /// Major and minor.
    pub(crate) fn version(&self) -> Option<(u32, u32)> {
        version(self.name)
    }
}

/// `5.10` of the text of a version.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Oldest first: the floor, then every long-term series, then the newest.
pub(crate) const MATRIX: [Series; 5] = [
    Series { name: "5.10", suites: &[Suite::Security("bullseye-security"), Suite::Main("bullseye")] },
    Series { name: "6.1", suites: &[Suite::Main("bookworm")] },
    Series { name: "6.12", suites: &[Suite::Main("trixie"), Suite::Main("bookworm-backports")] },
    Series { name: "6.18", suites: &[Suite::Main("trixie-backports")] },
    Series { name: "7.3", suites: &[Suite::Main("trixie-backports")] },
];

/// A kernel, unpacked.
pub(crate) struct Kernel {
    /// What QEMU boots.
    pub(crate) image: PathBuf,
    /// `lib/modules/VERSION` of the package.
    pub(crate) modules: PathBuf,
}

/// The newest kernel of a series, from the cache or the archive.
pub(crate) fn fetch(series: &Series) -> Result<Kernel> {
    let kernels = cache()?.join("kernels");
    create_folder(&kernels)?;
    let folder = kernels.join(series.name);
    // One run at a time: all of them unpack in the same places. The lock goes with the file.
    let lock = kernels.join("lock");
    let file = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
    file.lock().with_context(|| format!("lock {}", lock.display()))?;
    if !folder.exists() {
        download(series, &folder).with_context(|| format!("fetch the kernel {}", series.name))?;
    }
    open(&folder)
        .with_context(|| format!("use the kernel in {}; to fetch it again, remove that folder", folder.display()))
}

fn download(series: &Series, folder: &Path) -> Result<()> {
    let mut last = None;
    for suite in series.suites {
        match download_from(*suite, series, folder) {
            Ok(()) => return Ok(()),
            Err(error) => {
                ui::say(&format!("{error:#}"));
                last = Some(error);
            }
        }
    }
    last.map_or(Ok(()), Err)
}

fn download_from(suite: Suite, series: &Series, folder: &Path) -> Result<()> {
    let archive = Archive::open(suite)?;
    let image = newest(archive.names("linux-image-")?, series.name)
        .with_context(|| format!("the suite {} holds no cloud kernel {}", suite.name(), series.name))?;
    // From 7.x on the image package is empty and depends on its two halves.
    let halves = archive.depends(&image)?;
    let halves = halves.iter().filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    for package in std::iter::once(&image).chain(halves) {
        archive.unpack(package, &partial)?;
    }
    fs::rename(&partial, folder).with_context(|| format!("move {} to {}", partial.display(), folder.display()))
}

/// Of `linux-image-6.1.0-50-cloud-amd64` and its like, the highest of the series by its numbers.
fn newest(names: Vec<String>, series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    let fits = |name: &String| name.starts_with(&prefix) && name.ends_with("-cloud-amd64");
    // `6.1.0-0.deb11.52` is a rebuild for an older suite, not the series' own package.
    let rebuilt = |name: &String| name.contains(".deb");
    names.into_iter().filter(|name| fits(name) && !rebuilt(name)).max_by_key(|name| numbers(name))
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn open(folder: &Path) -> Result<Kernel> {
    // Merged /usr came to Debian's kernels with 7.x; the two layouts never occur together.
    let libraries = ["lib/modules", "usr/lib/modules"].map(|inside| folder.join(inside));
    let library = libraries.iter().find(|path| path.is_dir()).context("find lib/modules")?;
    let versions = fs::read_dir(library).with_context(|| format!("list {}", library.display()))?;
    let modules =
        versions.flatten().map(|entry| entry.path()).find(|path| path.is_dir()).context("find the modules")?;
    let version = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let images = [folder.join(format!("boot/vmlinuz-{version}")), modules.join("vmlinuz")];
    let image = images.into_iter().find(|path| path.is_file()).context("find vmlinuz")?;
    Ok(Kernel { image, modules })
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn newest_of_a_series() {
        let rows = [
            ("5.10", "linux-image-5.10.0-46-cloud-amd64"),
            ("6.1", "linux-image-6.1.0-50-cloud-amd64"),
            ("6.12", "linux-image-6.12.107+deb13-cloud-amd64"),
        ];
        let names = [
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64",
            "linux-image-5.10.0-47-cloud-amd64-unsigned",
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.108+deb13-amd64",
        ];
        for (series, expected) in rows {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(newest(names, series).as_deref(), Some(expected));
        }
        assert_eq!(newest(Vec::new(), "5.10"), None);
    }
}
