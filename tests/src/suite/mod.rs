//! All tests, one file for each subject.

mod cli;
mod counts;
mod doctor;
mod drops;
mod exact;
mod fixture;
mod harm;
mod http;
mod links;
mod malformed;
mod memory;
mod oracle;
pub(crate) mod privilege;
mod programs;
mod retransmit;

use libtest_mimic::Trial;
use tests::guest::is_guest;

/// Every trial that can run here. What needs programs that only a host has is not in the list of a guest.
pub(crate) fn trials() -> Vec<Trial> {
    let everywhere = [
        fixture::trials(),
        exact::trials(),
        malformed::trials(),
        drops::trials(),
        retransmit::trials(),
        links::trials(),
        harm::trials(),
        http::trials(),
        cli::trials(),
        programs::trials(),
        privilege::trials(),
        doctor::trials(),
        memory::trials(),
    ];
    let on_hosts = if is_guest() {
        Vec::new()
    } else {
        vec![
            fixture::host_trials(),
            oracle::trials(),
            privilege::host_trials(),
            memory::host_trials(),
            doctor::host_trials(),
        ]
    };
    everywhere.into_iter().flatten().chain(on_hosts.into_iter().flatten()).collect()
}
