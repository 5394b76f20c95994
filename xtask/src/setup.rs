//! Whatever is missing, installed: each step looks, says what it will do, does it, and looks again. Where it cannot,
//! the error names the command to type. With nothing missing it costs a few process starts.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive::{Archive, Suite};
use crate::ui;
use crate::workspace::{Workspace, cache, find_program, output};
use crate::{tools, workspace};

/// The release series of rustc, from the workspace's `rust-version`.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// bpf-linker reads the bitcode that rustc writes, so both must be of one LLVM.
const LLVM_MAJOR: &str = "22";
const BPF_LINKER: &str = "0.10.3";
const BPF_LINKER_SERIES: &str = "0.10.";
const TYPOS: &str = "1.52.0";
/// Its number is that of the latest Kubernetes whose schemas it has.
const KUBERNETES_VALIDATE: &str = "1.37.0";
/// Suites of Debian that keep several versions of rust-src side by side.
const RUST_SRC_SUITES: [Suite; 1] = [Suite::Main("trixie-backports")];

/// What a verb needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Build,
    Demo,
    Test,
    Check,
    Vm,
    Bench,
    /// Not part of everything: only whoever fuzzes needs a C++ compiler and cargo-fuzz.
    Fuzz,
    /// Nor this: only whoever packages needs buildah.
    Package,
    Everything,
}

/// Makes sure that everything in `scope` is there.
pub(crate) fn ensure(workspace: &Workspace, scope: Scope) -> Result<()> {
    let logs = workspace.target("setup");
    let rustc = rustc()?;
    rust_src(workspace, &rustc, &logs)?;
    bpf_linker(workspace, &logs)?;
    tools::ensure(scope, &logs.join("packages.log"))?;
    if matches!(scope, Scope::Check | Scope::Everything) {
        typos(&logs)?;
    }
    if matches!(scope, Scope::Test | Scope::Everything) {
        kubernetes_validate(&logs)?;
    }
    if scope == Scope::Fuzz {
        cargo_fuzz(workspace, &logs)?;
    }
    Ok(())
}

/// The compiler's exact release.
struct Rustc {
    release: String,
    sysroot: PathBuf,
}

fn rustc() -> Result<Rustc> {
    let verbose = output(Command::new("rustc").arg("-vV"))?;
    let field = |name: &str| {
        let line = verbose.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("`rustc -vV` says nothing of `{name}`"))
    };
    let release = field("release:")?.to_owned();
    if !format!("{release}.").starts_with(&format!("{RUST}.")) {
        bail!(
            "rustc is {release}, this workspace is built with {RUST}; run: rustup toolchain install {RUST} && \
             rustup override set {RUST}"
        );
    }
    let llvm = field("LLVM version:")?;
    if llvm.split('.').next() != Some(LLVM_MAJOR) {
        bail!(
            "rustc {release} is built on LLVM {llvm}, bpf-linker {BPF_LINKER} reads the bitcode of LLVM {LLVM_MAJOR}; \
             use the rustc that rustup installs: rustup toolchain install {RUST}"
        );
    }
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Rustc { release, sysroot: PathBuf::from(sysroot.trim()) })
}

/// `-Z build-std=core` compiles core for the eBPF target from the compiler's own sources.
fn rust_src(workspace: &Workspace, rustc: &Rustc, logs: &Path) -> Result<()> {
    let place = rustc.sysroot.join("lib/rustlib/src/rust");
    let present = || place.join("library/core/Cargo.toml").exists();
    if present() {
        return Ok(());
    }
    if find_program("rustup").is_some() {
        ui::say("rust-src is missing; installing it by: rustup component add rust-src");
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src"]).current_dir(workspace.path(""));
        match ui::watch("rustup component add rust-src", &logs.join("rust-src.log"), &mut rustup) {
            Ok(()) if present() => return Ok(()),
            Ok(()) => ui::say("rustup reports success, yet the sources are not there"),
            Err(error) => ui::say(&format!("rustup cannot: {}", first_error(&logs.join("rust-src.log"), &error))),
        }
    }
    if find_program("apt-get").is_none() {
        bail!(
            "rust-src {} is missing and rustup could not fetch it; run: rustup component add rust-src",
            rustc.release
        );
    }
    let sources = rust_src_from_archive(&rustc.release)
        .with_context(|| format!("rust-src {} by rustup, then from Debian's archive", rustc.release))?;
    if place.is_symlink() {
        fs::remove_file(&place).with_context(|| format!("remove the dangling link {}", place.display()))?;
    }
    if let Some(parent) = place.parent() {
        workspace::create_folder(parent)?;
    }
    let by_hand = format!("ln -s {} {}", sources.display(), place.display());
    symlink(&sources, &place)
        .with_context(|| format!("link rust-src into the sysroot; as its owner, run: {by_hand}"))?;
    ui::say(&format!("linked into the toolchain: {by_hand}"));
    ui::say(&format!("to undo it: rm {} && rm -r {}", place.display(), sources.display()));
    anyhow::ensure!(present(), "{} does not look like Rust's sources", sources.display());
    Ok(())
}

/// Debian's package `rust-src` of exactly this release, unpacked once into the cache folder.
fn rust_src_from_archive(release: &str) -> Result<PathBuf> {
    let sources = cache()?.join(format!("rust-src-{release}"));
    if sources.join("library/core/Cargo.toml").exists() {
        return Ok(sources);
    }
    ui::say(&format!("taking the package rust-src {release} from Debian's archive (unpacked, not installed)"));
    for suite in RUST_SRC_SUITES {
        let archive = Archive::open(suite)?;
        let versions = archive.versions("rust-src")?;
        let Some(version) = versions.iter().find(|version| version.starts_with(&format!("{release}+"))) else {
            continue;
        };
        let unpacked = cache()?.join("rust-src.partial");
        archive.unpack(&format!("rust-src={version}"), &unpacked)?;
        let inside = unpacked.join(format!("usr/src/rustc-{release}"));
        fs::rename(&inside, &sources).with_context(|| format!("move {} to {}", inside.display(), sources.display()))?;
        fs::remove_dir_all(&unpacked).with_context(|| format!("remove {}", unpacked.display()))?;
        return Ok(sources);
    }
    bail!("Debian's archive holds no rust-src {release} any more; run: rustup component add rust-src")
}

fn bpf_linker(workspace: &Workspace, logs: &Path) -> Result<()> {
    let found = || output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    let fits = |version: &str| version.split_whitespace().any(|word| word.starts_with(BPF_LINKER_SERIES));
    if fits(&found()) {
        return Ok(());
    }
    let mut cargo = workspace.cargo("install");
    cargo.args(["--locked", "--force", "--version", BPF_LINKER, "bpf-linker"]);
    let by_hand = workspace::show(&cargo);
    ui::say(&format!("bpf-linker {BPF_LINKER} is missing; installing it by: {by_hand} (a minute or two)"));
    ui::watch("install bpf-linker", &logs.join("bpf-linker.log"), &mut cargo)?;
    let version = found();
    anyhow::ensure!(
        fits(&version),
        "bpf-linker {BPF_LINKER} was installed, but `bpf-linker --version` says `{}`; put cargo's bin folder first in PATH",
        version.trim()
    );
    Ok(())
}

fn cargo_fuzz(workspace: &Workspace, logs: &Path) -> Result<()> {
    let found = || output(Command::new("cargo-fuzz").arg("--version")).is_ok();
    if found() {
        return Ok(());
    }
    let mut cargo = workspace.cargo("install");
    cargo.args(["--locked", "cargo-fuzz"]);
    let by_hand = workspace::show(&cargo);
    ui::say(&format!("cargo-fuzz is missing; installing it by: {by_hand} (a minute)"));
    ui::watch("install cargo-fuzz", &logs.join("cargo-fuzz.log"), &mut cargo)
        .with_context(|| format!("without cargo-fuzz nothing can be fuzzed; by hand: {by_hand}"))?;
    anyhow::ensure!(found(), "cargo-fuzz was installed, but is not found; put cargo's bin folder in PATH");
    Ok(())
}

/// The spelling checker: from PATH, else where `setup` puts it.
pub(crate) fn typos_program() -> Result<PathBuf> {
    let own = cache()?.join("typos").join("bin").join("typos");
    Ok(find_program("typos").unwrap_or(own))
}

fn typos(logs: &Path) -> Result<()> {
    if typos_program()?.exists() {
        return Ok(());
    }
    let wheel = format!("typos=={TYPOS}");
    wheel_into("typos", &wheel, logs)
        .with_context(|| format!("or by hand: pipx install {wheel}, or: cargo install --locked typos-cli"))?;
    let program = typos_program()?;
    anyhow::ensure!(program.exists(), "typos was installed, yet {} is not there", program.display());
    Ok(())
}

/// The folder of the Python package that has the schemas of Kubernetes' versions.
pub(crate) fn kubernetes_validate_folder() -> Result<PathBuf> {
    Ok(cache()?.join(format!("kubernetes-validate-{KUBERNETES_VALIDATE}")))
}

fn kubernetes_validate(logs: &Path) -> Result<()> {
    let folder = kubernetes_validate_folder()?;
    let present = || folder.join("kubernetes_validate").exists();
    if !present() {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        wheel_into(name, &format!("kubernetes-validate=={KUBERNETES_VALIDATE}"), logs)?;
    }
    anyhow::ensure!(present(), "kubernetes-validate was installed, yet {} has none", folder.display());
    Ok(())
}

/// Installs a Python package with what it needs into a folder of the cache, where nothing else sees it.
fn wheel_into(name: &str, wheel: &str, logs: &Path) -> Result<()> {
    let folder = cache()?.join(name);
    let by_hand = format!("python3 -m pip install --target {} {wheel}", folder.display());
    if output(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        bail!("{wheel} is missing and pip is not usable here; run: {}", tools::install_hint("python3-pip"));
    }
    ui::say(&format!("{wheel} is missing; installing it by: {by_hand} (to undo: rm -r {})", folder.display()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--upgrade", "--target"]).arg(&folder).arg(wheel);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    ui::watch(&format!("install {wheel}"), &logs.join(format!("{name}.log")), &mut pip)
        .with_context(|| format!("by hand: {by_hand}"))
}

/// The line that says why, out of a long log.
fn first_error(log: &Path, otherwise: &anyhow::Error) -> String {
    let text = ui::read_log(log);
    text.lines().find(|line| line.starts_with("error")).map_or_else(|| otherwise.to_string(), str::to_owned)
}
