//! lossprobe against real kernels. On a host: `integration [FILTER]`, as any Rust test binary. In a QEMU guest it is
//! PID 1 and takes its filters from the kernel's command line ([`tests::guest`]).

mod suite;

use std::process::ExitCode;

use libtest_mimic::{Arguments, ColorSetting, Conclusion};
use tests::{child, guest, run};

/// Each test has its own namespaces, so they run side by side; three, because the machines have two cores, and most tests wait
/// for something half of their time.
const THREADS: usize = 3;

fn main() -> ExitCode {
    child::init();
    if let Some(outcome) = suite::privilege::become_confined().or_else(suite::push::become_teller) {
        return outcome.inspect_err(|error| eprintln!("{error:#}")).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    // One line each: what failed is said by the trial, and a backtrace would end in the test's function anyway.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    if guest::is_guest() {
        guest::run(run_in_guest);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let mut trials = suite::trials();
    if let Some(filter) = arguments.filter.take_if(|_| !arguments.exact) {
        trials.retain(|trial| suite::is_selected(&filter, trial.name()));
    }
    let conclusion = libtest_mimic::run(&arguments, suite::in_order(trials));
    print!("{}{}", suite::tables(), run::slowest());
    conclusion.exit_code()
}

fn run_in_guest(filters: &[String]) -> Conclusion {
    // One at a time: an emulated machine is slow enough.
    let arguments = Arguments { test_threads: Some(1), color: Some(ColorSetting::Never), ..Arguments::default() };
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| suite::is_selected(filter, name));
    let trials = suite::trials().into_iter().filter(|trial| wanted(trial.name())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    print!("{}", suite::tables());
    conclusion
}
