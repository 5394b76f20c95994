//! Every way of losing packets that this kernel offers: made a known number of times, found under the kernel's name, in
//! its class and on its interface, nowhere else, and compared with a witness that knows nothing of the probe.
//!
//! A mechanism is one row of a list and one function. Mechanisms that get along share an arrangement and an agent, because
//! starting an agent is what takes long in an emulated guest. What was found is printed as a table when all is over;
//! `tests/README.md` explains its rows.

mod crowd;
mod devices;
mod ledger;
mod many;
mod network;
mod queues;
mod retransmits;
mod sockets;
mod traced;

use std::{env::temp_dir, fs};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    run::{is_full, requires_kernel, trial, trial_alone},
    topology::{CLIENT_MAC, Routed},
};

pub(crate) use self::ledger::table;
use self::ledger::{Mechanism, judge};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("losses::readme_lists_them", readme_lists_them),
        trial("losses::of_a_router", || on_a_router(network::MECHANISMS)),
        trial("losses::of_queues", || on_a_router(queues::MECHANISMS)),
        trial("losses::of_sockets", || on_a_router(sockets::MECHANISMS)),
        trial("losses::of_connections", of_connections),
        trial("losses::of_what_tcp_has_taken_in", of_what_tcp_has_taken_in),
        trial("losses::seen_by_retransmits", || on_a_router(retransmits::MECHANISMS)),
        trial("losses::of_devices", || on_a_router(devices::MECHANISMS)),
        trial("losses::an_operators_class_wins", an_operators_class_wins),
        trial_alone("losses::of_the_whole_machine", || on_a_router(queues::ALONE)),
    ]
}

/// Guests have no bpftrace. Emulated machines are not fast enough for the long one, and nobody waits for it unasked.
pub(super) fn host_trials() -> Vec<Trial> {
    let long = [trial_alone("losses::many_interfaces", many::many_interfaces)];
    let traced = trial("losses::as_bpftrace_counts_them", traced::as_bpftrace_counts_them);
    long.into_iter().filter(|_| is_full()).chain([traced]).collect()
}

fn of_connections() -> Result<()> {
    requires_kernel(5, 18, "drops of established connections")?;
    on_a_router(sockets::SINCE_5_18)
}

fn of_what_tcp_has_taken_in() -> Result<()> {
    requires_kernel(6, 11, "the receiving socket of a drop")?;
    on_a_router(sockets::SINCE_6_11)
}

/// Also over what a function tells.
fn an_operators_class_wins() -> Result<()> {
    let path = temp_dir().join(format!("lossprobe-classes-{}.toml", std::process::id()));
    fs::write(&path, "[drop_classes]\nnot_specified = 'noise'\n")?;
    let outcome =
        with_an_agent(&["--config", path.to_str().context("a path that is text")?], devices::CLASSED_OTHERWISE);
    fs::remove_file(path)?;
    outcome
}

/// Between client and server, with an agent on all of the router's interfaces.
fn on_a_router(mechanisms: &[Mechanism]) -> Result<()> {
    with_an_agent(&[], mechanisms)
}

fn with_an_agent(arguments: &[&str], mechanisms: &[Mechanism]) -> Result<()> {
    let net = Routed::new()?;
    net.router.neighbour("r1", sockets::GHOST, CLIENT_MAC)?;
    let agent = Agent::start(&net.router, &[&["--interface", "*", "--ports", "each"], arguments].concat())?;
    judge(&net, &agent, mechanisms)?;
    agent.stop()
}

/// The table for people says of each mechanism what its row says.
fn readme_lists_them() -> Result<()> {
    let readme = include_str!("../../../README.md");
    let lists = [
        network::MECHANISMS,
        queues::MECHANISMS,
        queues::ALONE,
        sockets::MECHANISMS,
        sockets::SINCE_5_18,
        sockets::SINCE_6_11,
        retransmits::MECHANISMS,
        devices::MECHANISMS,
    ];
    for mechanism in lists.into_iter().flatten() {
        let Mechanism { name, reason, class, .. } = mechanism;
        let end = format!("| {} | `{reason}` | {class} |", mechanism.witness());
        let found = readme.lines().any(|line| line.starts_with(&format!("| {name} |")) && line.ends_with(&end));
        ensure!(found, "tests/README.md has no row | {name} | … {end}");
    }
    Ok(())
}
