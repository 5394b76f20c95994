//! The duties of PID 1, when the test binary is the init of a QEMU guest: mount, load modules, test, power off.

use std::{
    ffi::CString,
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::{Context as _, Result};
use libtest_mimic::Conclusion;
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    unistd::{getpid, sync},
};

/// Source, target and type of what a test needs to see.
const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// One path a line, in the order of loading.
const MODULES: &str = "/modules.list";

/// Whether this process is the init of a guest.
#[must_use]
pub fn is_guest() -> bool {
    getpid().as_raw() == 1
}

/// Prepares the guest, runs `suite` with the filters of the kernel's command line (`lossprobe.filter=a,b`), reports in
/// one line and powers off. Does not return; a panic is reported and powers off too.
pub fn run(suite: impl FnOnce(&[String]) -> Conclusion) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        prepare();
        println!(
            "LOSSPROBE-GUEST: Linux {}",
            fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
        );
        suite(&filters())
    }));
    match outcome {
        Ok(Conclusion { num_passed, num_failed, num_ignored, .. }) => {
            println!("LOSSPROBE-GUEST: {num_passed} passed, {num_failed} failed, {num_ignored} skipped");
        }
        Err(_) => println!("LOSSPROBE-GUEST: panicked"),
    }
    loop {
        sync();
        let Err(error) = reboot(RebootMode::RB_POWER_OFF);
        println!("cannot power off: {error}");
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// What fails here is reported and shows in the tests that need it.
fn prepare() {
    for (kind, target) in MOUNTS {
        let mounted = fs::create_dir_all(target).context("make the folder").and_then(|()| {
            match mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>) {
                // devtmpfs is mounted by some kernels themselves.
                Ok(()) | Err(Errno::EBUSY) => Ok(()),
                Err(error) => Err(error).context("mount"),
            }
        });
        report(target, mounted);
    }
    let modules = fs::read_to_string(MODULES).unwrap_or_default();
    for module in modules.lines().filter(|line| !line.is_empty()) {
        report(module, load(module));
    }
}

fn load(module: &str) -> Result<()> {
    let file = File::open(module).context("open")?;
    match finit_module(file, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error).context("load"),
    }
}

fn report(what: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        println!("guest: {what}: {error:#}");
    }
}

fn filters() -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let value = line.split_whitespace().find_map(|word| word.strip_prefix("lossprobe.filter="));
    value.unwrap_or_default().split(',').filter(|filter| !filter.is_empty()).map(str::to_owned).collect()
}
