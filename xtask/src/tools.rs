//! The programs that tests and verbs call, the package that holds each on every distribution we know, and how it is
//! installed there. One list; nothing else names a package.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Scope;
use crate::ui;
use crate::workspace::{find_program, is_root, output};

/// A program of the system and who needs it.
struct Program {
    name: &'static str,
    used_by: &'static [Scope],
    /// Package names in the order of `MANAGERS`; empty where it is not to be had, and nobody asks for it.
    packages: [&'static str; MANAGERS.len()],
}

struct Manager {
    program: &'static str,
    install: &'static [&'static str],
    /// Brings the package lists up to date where the manager does not do so by itself.
    refresh: Option<&'static [&'static str]>,
}

const MANAGERS: [Manager; 5] = [
    Manager { program: "apt-get", install: &["install", "-y", "--no-install-recommends"], refresh: Some(&["update"]) },
    Manager { program: "dnf", install: &["install", "-y"], refresh: None },
    Manager { program: "pacman", install: &["-S", "--needed", "--noconfirm"], refresh: None },
    Manager { program: "zypper", install: &["--non-interactive", "install"], refresh: None },
    Manager { program: "apk", install: &["add"], refresh: None },
];

const PROGRAMS: &[Program] = &[
    Program { name: "nft", used_by: &[Scope::Demo, Scope::Test, Scope::Vm, Scope::Bench], packages: ["nftables"; 5] },
    Program {
        name: "tc",
        used_by: &[Scope::Demo, Scope::Test, Scope::Vm],
        packages: ["iproute2", "iproute-tc", "iproute2", "iproute2", "iproute2-tc"],
    },
    Program { name: "ethtool", used_by: &[Scope::Test, Scope::Vm], packages: ["ethtool"; 5] },
    Program {
        name: "prometheus",
        used_by: &[Scope::Test],
        packages: [
            "prometheus",
            "/usr/bin/prometheus",
            "prometheus",
            "golang-github-prometheus-prometheus",
            "prometheus",
        ],
    },
    Program {
        name: "promtool",
        used_by: &[Scope::Test],
        packages: [
            "prometheus",
            "/usr/bin/promtool",
            "prometheus",
            "golang-github-prometheus-prometheus",
            "prometheus",
        ],
    },
    Program {
        name: "prometheus-alertmanager",
        used_by: &[Scope::Test],
        packages: [
            "prometheus-alertmanager",
            "/usr/bin/alertmanager",
            "alertmanager",
            "golang-github-prometheus-alertmanager",
            "alertmanager",
        ],
    },
    Program {
        name: "tshark",
        used_by: &[Scope::Test, Scope::Bench],
        packages: ["tshark", "wireshark-cli", "wireshark-cli", "wireshark", "tshark"],
    },
    Program { name: "setpriv", used_by: &[Scope::Test], packages: ["util-linux"; 5] },
    Program { name: "unshare", used_by: &[Scope::Test, Scope::Bench], packages: ["util-linux"; 5] },
    Program { name: "nsenter", used_by: &[Scope::Package], packages: ["util-linux"; 5] },
    Program { name: "bpftool", used_by: &[Scope::Test], packages: ["bpftool", "bpftool", "bpf", "bpftool", "bpftool"] },
    Program { name: "bpftrace", used_by: &[Scope::Test, Scope::Bench], packages: ["bpftrace"; 5] },
    Program {
        name: "kubectl",
        used_by: &[Scope::Test],
        packages: ["kubernetes-client", "kubernetes-client", "kubectl", "kubernetes-client", "kubectl"],
    },
    Program { name: "systemd-analyze", used_by: &[Scope::Test], packages: ["systemd"; 5] },
    Program { name: "dpkg-deb", used_by: &[Scope::Package], packages: ["dpkg"; 5] },
    Program { name: "lintian", used_by: &[Scope::Package], packages: ["lintian", "", "", "", ""] },
    Program { name: "buildah", used_by: &[Scope::Package], packages: ["buildah"; 5] },
    Program { name: "runc", used_by: &[Scope::Package], packages: ["runc"; 5] },
    Program {
        name: "qemu-system-x86_64",
        used_by: &[Scope::Vm],
        packages: ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86", "qemu-x86", "qemu-system-x86_64"],
    },
    Program { name: "xz", used_by: &[Scope::Vm], packages: ["xz-utils", "xz", "xz", "xz", "xz"] },
    Program { name: "zstd", used_by: &[Scope::Vm], packages: ["zstd"; 5] },
    // libFuzzer is compiled from its C++ sources.
    Program { name: "g++", used_by: &[Scope::Fuzz], packages: ["g++", "gcc-c++", "gcc", "gcc-c++", "g++"] },
];

/// Debian's packages start what they install; the tests need the program only.
const PROMETHEUS_SERVICE: &str = "Debian's packages prometheus and prometheus-alertmanager also start services, which the tests do not need; \
     to switch them off: systemctl disable --now prometheus prometheus-alertmanager";

/// Installs the system's programs that `scope` needs and that are missing.
pub(crate) fn ensure(scope: Scope, log: &Path) -> Result<()> {
    let missing = missing(scope);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|program| program.name).collect::<Vec<_>>().join(", ");
    let Some((index, manager)) = MANAGERS.iter().enumerate().find(|(_, m)| find_program(m.program).is_some()) else {
        bail!("missing programs: {names}; no package manager that this tool knows was found, so install them by hand");
    };
    let mut packages: Vec<&str> = missing.iter().filter_map(|program| program.packages.get(index).copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    let by_hand = by_hand(manager, &packages);
    let Some(prefix) = become_root() else {
        bail!("missing programs: {names}; installing them needs root, so run: {by_hand}");
    };
    ui::say(&format!("missing programs: {names}; installing them by: {by_hand}"));
    if manager.program == "apt-get" && packages.iter().any(|name| name.starts_with("prometheus")) {
        ui::say(PROMETHEUS_SERVICE);
    }
    if let Some(refresh) = manager.refresh {
        ui::watch(&format!("{} update", manager.program), log, &mut manager_command(prefix, manager, refresh))?;
    }
    let mut install = manager_command(prefix, manager, manager.install);
    ui::watch(&format!("install {}", packages.join(" ")), log, install.args(&packages))
        .with_context(|| format!("install {names}; by hand: {by_hand}"))?;
    let still: Vec<&str> = self::missing(scope).iter().map(|program| program.name).collect();
    anyhow::ensure!(still.is_empty(), "installed {}, yet {} is still not found", packages.join(" "), still.join(", "));
    Ok(())
}

/// The command that installs `packages` (named as Debian names them) for a message.
pub(crate) fn install_hint(debian_package: &str) -> String {
    MANAGERS
        .iter()
        .find(|manager| find_program(manager.program).is_some())
        .map_or_else(|| format!("install {debian_package}"), |manager| by_hand(manager, &[debian_package]))
}

/// `Some(words to put before a command)` if this process is root or may become it without being asked for a password.
pub(crate) fn become_root() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    let free = find_program("sudo").is_some() && output(Command::new("sudo").args(["-n", "true"])).is_ok();
    free.then_some(&["sudo", "-n"])
}

fn missing(scope: Scope) -> Vec<&'static Program> {
    let needed = |program: &&Program| match scope {
        Scope::Everything => !matches!(program.used_by, [Scope::Fuzz] | [Scope::Package]),
        _ => program.used_by.contains(&scope),
    };
    let manager = MANAGERS.iter().position(|manager| find_program(manager.program).is_some());
    let is_to_be_had = |program: &&Program| manager.and_then(|at| program.packages.get(at)) != Some(&"");
    PROGRAMS.iter().filter(needed).filter(is_to_be_had).filter(|program| !is_there(program)).collect()
}

/// Debian alone puts the project's name before that of Alertmanager.
fn is_there(program: &Program) -> bool {
    let elsewhere = program.name.strip_prefix("prometheus-");
    [Some(program.name), elsewhere].into_iter().flatten().any(|name| find_program(name).is_some())
}

fn by_hand(manager: &Manager, packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    let refresh = manager.refresh.map(|words| format!("{sudo}{} {} && ", manager.program, words.join(" ")));
    let install = manager.install.join(" ");
    format!("{}{sudo}{} {install} {}", refresh.unwrap_or_default(), manager.program, packages.join(" "))
}

fn manager_command(prefix: &[&str], manager: &Manager, arguments: &[&str]) -> Command {
    let mut words = prefix.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", manager.program]);
    let mut command = Command::new(words.next().unwrap_or(manager.program));
    command.args(words).args(arguments);
    command
}
