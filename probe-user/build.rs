//! Compiles the eBPF object, so that no agent is ever built with another one than this tree's.
//!
//! A cargo of its own in a folder of its own (`target/bpf`): core for eBPF is compiled once, whatever profile or
//! feature set the agent is built with. Flags: probe-ebpf/.cargo/config.toml.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const TARGET: &str = "bpfel-unknown-none";

fn main() -> ExitCode {
    match build() {
        Ok(object) => {
            println!("cargo::rustc-env=LOSSPROBE_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        Err(cause) => {
            println!("cargo::error={cause}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let root = here.parent().ok_or("the crate has no parent folder")?;
    let sources = root.join("probe-ebpf");
    for input in ["src", "Cargo.toml", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={}", sources.join(input).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.toml").display());

    let target_dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("bpf");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(&sources)
        .args(["build", "--profile", "bpf", "--bin", "probe", "-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        // Added to the flags of the configuration file.
        .args(["--config", &format!("target.{TARGET}.rustflags={:?}", without_places(root)?)])
        .env("RUSTC_BOOTSTRAP", "1")
        // Set for build scripts with the host's flags; they would replace those of the configuration file.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .map_err(|error| format!("cannot start cargo for the eBPF object: {error}"))?;
    let object = target_dir.join(TARGET).join("bpf").join("probe");
    if output.status.success() && Path::new(&object).exists() {
        return Ok(object);
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        println!("cargo::warning={line}");
    }
    Err("the eBPF object does not compile (see above); if rust-src or bpf-linker is missing: `cargo xtask setup`"
        .into())
}

/// Flags with which the object's debug information names no folder of this machine, so that all machines make the same.
fn without_places(root: &Path) -> Result<[String; 3], String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let rustc = env::var_os("RUSTC").ok_or("RUSTC is not set")?;
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map_err(|error| format!("cannot ask rustc for its folder: {error}"))?.stdout;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    // Of two that fit, the last one wins.
    let places = [(&*home, "cargo"), (&*sysroot, "rust"), (root, "lossprobe")];
    Ok(places.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())))
}
