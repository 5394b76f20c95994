//! All tests, one file for each subject.

mod analyze;
mod attach;
mod attach_control;
mod attach_xdp;
mod capture;
mod clean;
mod cli;
mod counts;
mod deploy;
mod devices;
mod doctor;
mod drops;
mod evidence;
mod exact;
mod faults;
mod fixture;
mod flows;
mod harm;
mod heartbeat;
mod http;
mod incident;
mod incidents;
mod links;
mod losses;
mod malformed;
mod memory;
mod oracle;
mod package;
mod physical;
pub(crate) mod privilege;
mod programs;
pub(crate) mod push;
mod retransmit;
mod retransmit_types;
mod roles;
mod roles_ports;
mod tables;
mod tunnels;
mod verdict;
mod watch;
mod web;
mod wire;
mod xdp_failed;

use libtest_mimic::Trial;
use tests::{guest::is_guest, run};

/// Every trial that can run here. What needs programs that only a host has is not in the list of a guest.
pub(crate) fn trials() -> Vec<Trial> {
    let everywhere = [
        fixture::trials(),
        exact::trials(),
        malformed::trials(),
        clean::trials(),
        evidence::trials(),
        drops::trials(),
        flows::trials(),
        tunnels::trials(),
        losses::trials(),
        retransmit::trials(),
        retransmit_types::trials(),
        xdp_failed::trials(),
        devices::trials(),
        links::trials(),
        faults::trials(),
        physical::trials(),
        roles::trials(),
        roles_ports::trials(),
        harm::trials(),
        attach::trials(),
        attach_control::trials(),
        attach_xdp::trials(),
        heartbeat::trials(),
        http::trials(),
        web::trials(),
        cli::trials(),
        programs::trials(),
        privilege::trials(),
        push::trials(),
        doctor::trials(),
        memory::trials(),
        watch::trials(),
        capture::trials(),
        wire::trials(),
        analyze::trials(),
    ];
    let on_hosts = if is_guest() {
        Vec::new()
    } else {
        vec![
            fixture::host_trials(),
            oracle::trials(),
            capture::host_trials(),
            privilege::host_trials(),
            push::host_trials(),
            drops::host_trials(),
            losses::host_trials(),
            attach::host_trials(),
            memory::host_trials(),
            doctor::host_trials(),
            devices::host_trials(),
            faults::host_trials(),
            wire::host_trials(),
            malformed::host_trials(),
            cli::host_trials(),
            web::host_trials(),
            verdict::trials(),
            incidents::host_trials(),
            incident::host_trials(),
            deploy::host_trials(),
            package::host_trials(),
        ]
    };
    everywhere.into_iter().flatten().chain(on_hosts.into_iter().flatten()).collect()
}

/// Whether a filter selects a trial: it is part of its name, or `faults`, which stands for the whole table of faults.
pub(crate) fn is_selected(filter: &str, trial: &str) -> bool {
    trial.contains(filter) || (filter == "faults" && faults::are_shown_by(trial))
}

/// Trials in the order in which several threads are soonest done with them: first those beside which no other runs, as they would
/// wait for all that have begun; then the rest, and evenly among them those that take minutes, in which they mostly wait.
pub(crate) fn in_order(trials: Vec<Trial>) -> Vec<Trial> {
    let takes_minutes = |trial: &Trial| trial.name().starts_with("incident::") || trial.name() == "deploy::fleet";
    let (mut ordered, others): (Vec<_>, Vec<_>) = trials.into_iter().partition(|trial| run::is_alone(trial.name()));
    let (long, short): (Vec<_>, Vec<_>) = others.into_iter().partition(takes_minutes);
    let share = short.len() / (long.len() + 1);
    let mut short = short.into_iter();
    for trial in long {
        ordered.push(trial);
        ordered.extend(short.by_ref().take(share));
    }
    ordered.extend(short);
    ordered
}

/// What the trials that compare have found.
pub(crate) fn tables() -> String {
    losses::table() + &wire::tables() + &verdict::tables() + &incident::table() + &deploy::table()
}
