//! `cargo xtask`: everything that is done to this repository, by one verb each.
//!
//! For whoever has just cloned it: every verb first sets up what it needs (`setup`), says what it installs before it
//! does, and ends with a message that names the next step. Publishing is deliberately absent: a tag is pushed by hand.

mod archive;
mod build;
mod check;
mod console;
mod fuzz;
mod initramfs;
mod kernel;
mod kernels;
mod man;
mod modules;
mod package;
mod parallel;
mod release;
mod rules;
mod run;
mod setup;
mod test;
mod tools;
mod ui;
mod vm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use setup::Scope;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, build, run, test and check lossprobe", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install whatever is missing for all the other verbs
    Setup,
    /// Build the static release binary target/release/lossprobe
    Build,
    /// Show the probe at work: throw-away network, traffic, losses, and what the agent made of them
    Demo {
        /// Leave the network and the agent up until Ctrl-C, with broken frames every second
        #[arg(long)]
        keep: bool,
    },
    /// Play the incident again that the probe exists for, in three minutes: how soon is it noticed, and whose fault is it said to be
    Incident,
    /// Run the agent on this machine until Ctrl-C
    Run {
        /// Handed to `lossprobe agent`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run all tests: the libraries on the host, then everything else on this machine's kernel
    Test {
        /// Also run the tests that take long
        #[arg(long)]
        full: bool,
        /// Run only the integration tests whose name contains this, and no library test
        filter: Option<String>,
    },
    /// Formatting, lints for host and eBPF, documentation, spelling, licences, README
    Check {
        /// Rewrite what can be rewritten (formatting, README's metric table, the PrometheusRule)
        #[arg(long)]
        fix: bool,
    },
    /// Write man pages of lossprobe and of each of its commands
    Man {
        /// Into this folder [default: target/man]
        folder: Option<PathBuf>,
    },
    /// Measure what the probe costs on this kernel, against its targets; fails when one is missed
    Bench {
        /// `table` for people, `json` for programs
        #[arg(long, value_parser = ["table", "json"], default_value = "table")]
        output: String,
        /// Measure only what has one of these in its name, such as `frames`, `drops`, `harm/bridge` or `analyze`
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
    },
    /// Keep an agent under traffic, changing interfaces and scrapes; fails when what it takes has grown
    Soak {
        /// For so long; the first two and a half are not judged
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(4..=10_000))]
        minutes: u64,
        /// `table` for people, `json` for programs
        #[arg(long, value_parser = ["table", "json"], default_value = "table")]
        output: String,
    },
    /// Run the integration tests on other kernels, in QEMU
    Vm(vm::Arguments),
    /// Make what is handed out: Debian package, tarball, container image, bill of materials, checksums, in target/package
    Package,
    /// See whether this commit can be a release, make its artefacts and set its tag
    Release {
        /// All but the tag
        #[arg(long)]
        dry_run: bool,
    },
    /// Feed the parsers with bytes that nobody thought of, and compare with another parser
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Setup => {
            setup::ensure(&workspace, Scope::Everything)?;
            ui::say("everything is in place; try: cargo xtask demo");
            Ok(())
        }
        Verb::Build => {
            setup::ensure(&workspace, Scope::Build)?;
            let binary = build::agent(&workspace)?;
            ui::say(&format!("built {}", binary.display()));
            Ok(())
        }
        Verb::Demo { keep } => run::demo(&workspace, keep),
        Verb::Incident => run::incident(&workspace),
        Verb::Run { arguments } => run::agent(&workspace, &arguments),
        Verb::Test { full, filter } => test::run(&workspace, full, filter.as_deref()),
        Verb::Check { fix } => check::run(&workspace, fix),
        Verb::Man { folder } => man::run(&workspace, folder.as_deref()),
        Verb::Bench { output, filters } => run::bench(&workspace, &output, &filters),
        Verb::Soak { minutes, output } => run::soak(&workspace, minutes, &output),
        Verb::Vm(arguments) => vm::run(&workspace, &arguments),
        Verb::Package => package::run(&workspace).map(drop),
        Verb::Release { dry_run } => release::run(&workspace, dry_run),
        Verb::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
    }
}
