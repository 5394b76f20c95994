//! What must be true before anything is loaded, with the next step where it is not.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{btf, privilege};

/// The oldest kernel that the programs are tested on.
const OLDEST: (u32, u32) = (5, 10);

/// Gives up the privileges that are never used, and checks what is left, kernel version and type information.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn check() -> Result<()> {
    privilege::start()?;
    check_release(&release()?)?;
    check_types()
}

/// The running kernel's release, as in `uname -r`.
///
/// # Errors
/// If the kernel does not tell.
pub fn release() -> Result<String> {
    let uname = nix::sys::utsname::uname().context("uname")?;
    Ok(uname.release().to_string_lossy().into_owned())
}

/// Whether the kernel shows its type information.
///
/// # Errors
/// Why it is needed, where it does not.
pub fn check_types() -> Result<()> {
    if !Path::new(btf::VMLINUX).exists() {
        bail!(
            "the kernel shows no type information ({} is missing): it must be built with CONFIG_DEBUG_INFO_BTF=y; \
             every distribution's kernel since 2021 is, containers must see the host's /sys",
            btf::VMLINUX
        );
    }
    Ok(())
}

/// Whether the kernel is one that the programs are tested on.
///
/// # Errors
/// If it is too old.
pub fn check_release(release: &str) -> Result<()> {
    if is_below(release, OLDEST) {
        bail!("Linux {release} is too old: lossprobe needs 5.10 or later");
    }
    Ok(())
}

/// Whether the running kernel is older than `version`: for what cannot be tried out. A release that is no number is new.
#[must_use]
pub(super) fn running_below(version: (u32, u32)) -> bool {
    release().is_ok_and(|release| is_below(&release, version))
}

fn is_below(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_oldest_kernel() {
        assert!(check_release("5.10.0-30-cloud-amd64").is_ok());
        assert!(check_release("7.3").is_ok());
        assert!(check_release("5.9.16").is_err());
        assert!(check_release("4.19.0").is_err());
        assert!(check_release("no numbers").is_ok());
    }
}
