//! What must be true before anything is loaded, with the next step where it is not.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::btf;

/// A capability that loading or attaching needs.
struct Capability {
    number: u32,
    name: &'static str,
    why: &'static str,
}

const NEEDED: [Capability; 3] = [
    Capability { number: 39, name: "CAP_BPF", why: "loads programs and maps" },
    Capability { number: 38, name: "CAP_PERFMON", why: "lets programs follow kernel pointers" },
    Capability { number: 12, name: "CAP_NET_ADMIN", why: "attaches programs to interfaces" },
];
const SYS_ADMIN: u32 = 21;

/// Checks capabilities, kernel version and type information.
///
/// # Errors
/// Names what is missing and how to get it.
pub fn check() -> Result<()> {
    check_capabilities(effective_capabilities()?)?;
    let uname = nix::sys::utsname::uname().context("uname")?;
    check_release(&uname.release().to_string_lossy())?;
    if !Path::new(btf::VMLINUX).exists() {
        bail!(
            "the kernel shows no type information ({} is missing): it must be built with CONFIG_DEBUG_INFO_BTF=y; \
             every distribution's kernel since 2021 is, containers must see the host's /sys",
            btf::VMLINUX
        );
    }
    Ok(())
}

fn effective_capabilities() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").context("read /proc/thread-self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("no CapEff in /proc/thread-self/status")?;
    u64::from_str_radix(mask.trim(), 16).context("parse CapEff")
}

fn check_capabilities(effective: u64) -> Result<()> {
    let holds = |number: u32| effective >> number & 1 != 0;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|capability| !holds(capability.number))
        // Kernels before 5.8 knew only CAP_SYS_ADMIN; who has it has CAP_BPF and CAP_PERFMON too.
        .filter(|capability| !(holds(SYS_ADMIN) && capability.number >= 38))
        .map(|capability| format!("{} ({})", capability.name, capability.why))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing privilege: {}. Run as root, or grant it: `sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_syslog+ep \
         /path/to/lossprobe`; in a container: `--cap-drop ALL --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --cap-add SYSLOG`",
        missing.join(", ")
    )
}

fn check_release(release: &str) -> Result<()> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return Ok(()) };
    if (major, minor) < (5, 10) {
        bail!("Linux {release} is too old: lossprobe needs 5.10 or later");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_missing_capability() {
        let all = 1 << 39 | 1 << 38 | 1 << 12;
        assert!(check_capabilities(all).is_ok());
        assert!(check_capabilities(1 << SYS_ADMIN | 1 << 12).is_ok());
        for capability in NEEDED {
            let error = check_capabilities(all & !(1 << capability.number)).unwrap_err().to_string();
            assert!(error.contains(capability.name), "{error}");
        }
    }

    #[test]
    fn knows_the_oldest_kernel() {
        assert!(check_release("5.10.0-30-cloud-amd64").is_ok());
        assert!(check_release("7.3").is_ok());
        assert!(check_release("5.9.16").is_err());
        assert!(check_release("4.19.0").is_err());
        assert!(check_release("no numbers").is_ok());
    }
}
