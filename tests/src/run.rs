//! From functions to trials: failures with the agents' logs, skips with their proof.

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, PoisonError, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use libtest_mimic::{Completion, Failed, Trial};
use nix::errno::Errno;

use crate::{agent, frames::Mac};

/// Why a test does not run here: something that kernel or machine lack. Anything else missing is a failure. Only the
/// functions of this file make one, each after it has looked; `cargo xtask vm` checks a guest's claim again, by the
/// words of its message.
#[derive(Debug)]
pub struct Skip(Lack);

#[derive(Debug)]
enum Lack {
    /// Of the kernel's age: major and minor version, what came with it, and what runs.
    Linux { since: (u32, u32), feature: String, running: String },
    /// Of what newer kernels no longer need: the version that brought the better way, and what runs.
    OlderLinux { before: (u32, u32), feature: String, running: String },
    /// Of a module, neither loaded nor built in.
    Module(String),
    /// Of network cards for tests, see [`crate::cards`].
    Cards,
    /// Of programs that replace a part of another one.
    Replacing,
}

impl std::fmt::Display for Skip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Lack::Linux { since: (major, minor), feature, running } => {
                write!(formatter, "needs Linux {major}.{minor} ({feature}), this is {running}")
            }
            Lack::OlderLinux { before: (major, minor), feature, running } => {
                write!(formatter, "needs Linux before {major}.{minor} ({feature}), this is {running}")
            }
            Lack::Module(name) => write!(formatter, "needs module {name}"),
            Lack::Replacing => write!(formatter, "needs a kernel that lets programs be replaced (freplace)"),
            Lack::Cards => write!(formatter, "needs cards (two, wired back to back, as in the guests of `xtask vm`)"),
        }
    }
}

impl std::error::Error for Skip {}

/// Whether the long tests are wanted (`cargo xtask test --full`).
#[must_use]
pub fn is_full() -> bool {
    env::var_os("LOSSPROBE_FULL").is_some_and(|full| full == "1")
}

/// Held by every running trial; for writing by one that changes what all CPUs do.
static MACHINE: RwLock<()> = RwLock::new(());

/// A trial of `test`, which may end with a [`Skip`] as its error.
pub fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let timed = timed(name, test);
    judged(name, || {
        let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        timed()
    })
}

/// A trial beside which no other runs.
pub fn trial_alone(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    let timed = timed(name, test);
    judged(name, || {
        let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        timed()
    })
}

/// Names of the trials beside which no other runs.
static ALONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether no other trial runs beside this one.
#[must_use]
pub fn is_alone(name: &str) -> bool {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
}

fn judged(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let title = name.to_owned();
    Trial::ignorable_test(name, move || {
        let _watched = Watchdog::over(&title);
        let _earlier = agent::take_logs();
        let outcome = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|panic| {
            eprintln!("{title} panicked\n{}", agent::take_logs());
            resume_unwind(panic)
        });
        match outcome {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(skip) => {
                    eprintln!("SKIP {title}: {skip}");
                    Ok(Completion::ignored_with(skip))
                }
                None => Err(Failed::from(format!("{error:#}\n{}", agent::take_logs()))),
            },
        }
    })
}

/// What each trial took.
static TOOK: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

fn timed<T, F: FnOnce() -> T>(name: &str, test: F) -> impl FnOnce() -> T + use<T, F> {
    let name = name.to_owned();
    move || {
        let since = Instant::now();
        let outcome = test();
        TOOK.lock().unwrap_or_else(PoisonError::into_inner).push((since.elapsed(), name));
        outcome
    }
}

/// The trials that took longest, for whoever wants them to be faster.
#[must_use]
pub fn slowest() -> String {
    const SHOWN: usize = 12;
    let mut took = std::mem::take(&mut *TOOK.lock().unwrap_or_else(PoisonError::into_inner));
    if took.len() <= SHOWN {
        return String::new();
    }
    took.sort_by(|one, other| other.cmp(one));
    let all: Duration = took.iter().map(|(took, _)| *took).sum();
    let rows: String =
        took.iter().take(SHOWN).map(|(took, title)| format!("{:>6.1} s  {title}\n", took.as_secs_f64())).collect();
    format!("\nslowest of {} ({:.0} s, one after the other):\n{rows}", took.len(), all.as_secs_f64())
}

/// How long a test may take, under emulation too; longer ones of `--full` four times as long.
const LONGEST: Duration = Duration::from_mins(8);

/// Ends the process when a test hangs, and says which and where: else nothing would but whoever has started it.
struct Watchdog {
    /// Its end is the test's.
    _running: mpsc::Sender<()>,
}

impl Watchdog {
    fn over(title: &str) -> Self {
        let (running, ended) = mpsc::channel();
        let title = title.to_owned();
        let longest = if is_full() { 4 * LONGEST } else { LONGEST };
        std::thread::spawn(move || {
            if ended.recv_timeout(longest) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{title} hangs: it has been running for {longest:?}. Its threads wait here:\n{}", waits());
                eprintln!("{}", agent::take_logs());
                std::process::exit(1);
            }
        });
        Self { _running: running }
    }
}

/// Where the kernel keeps each thread of this process.
fn waits() -> String {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let read = |thread: &fs::DirEntry, file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
    threads.map(|thread| ["comm", "syscall", "stack"].map(|file| read(&thread, file)).concat()).collect()
}

/// Skips the calling test on kernels below `major.minor`, because `feature` came with that version.
///
/// # Errors
/// The [`Skip`].
pub fn requires_kernel(major: u32, minor: u32, feature: &str) -> Result<()> {
    let (running, text) = kernel_version()?;
    if running < (major, minor) {
        return Err(Skip(Lack::Linux { since: (major, minor), feature: feature.to_owned(), running: text }).into());
    }
    Ok(())
}

/// Skips the calling test on kernels from `major.minor` on, which have `feature` instead of what is tested.
///
/// # Errors
/// The [`Skip`].
pub fn requires_kernel_before(major: u32, minor: u32, feature: &str) -> Result<()> {
    let (running, text) = kernel_version()?;
    if running >= (major, minor) {
        let feature = feature.to_owned();
        return Err(Skip(Lack::OlderLinux { before: (major, minor), feature, running: text }).into());
    }
    Ok(())
}

/// The running kernel's version, as numbers and as its own text.
///
/// # Errors
/// When the text does not start with two numbers.
pub fn kernel_version() -> Result<((u32, u32), String)> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let text = text.trim().to_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        anyhow::bail!("kernel release {text:?}")
    };
    Ok(((major, minor), text))
}

/// Skips the calling test when `attempt`, which makes a link or a queueing discipline, fails because the kernel was built
/// without `module`.
///
/// # Errors
/// The [`Skip`] where the kernel said that it does not know the kind; the error itself otherwise, and where the module is
/// loaded.
pub fn requires_module<T>(module: &str, attempt: Result<T>) -> Result<T> {
    attempt.map_err(|error| {
        let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
        if !is_unknown_kind(&error) || loaded.lines().any(|line| line.split(' ').next() == Some(module)) {
            return error;
        }
        Skip(Lack::Module(module.to_owned())).into()
    })
}

/// Skips the calling test when `attempt`, which replaces a part of a program, is forbidden to whoever may load one.
///
/// # Errors
/// The [`Skip`] where the kernel said that it is not permitted; the error itself otherwise.
pub fn requires_replacing<T>(attempt: Result<T>) -> Result<T> {
    let is_forbidden = |error: &anyhow::Error| error.downcast_ref() == Some(&Errno::EPERM);
    attempt.map_err(|error| if is_forbidden(&error) { Skip(Lack::Replacing).into() } else { error })
}

/// The hardware addresses of the machine's cards for tests, from `LOSSPROBE_CARDS` (two, with a comma between).
///
/// # Errors
/// The [`Skip`] where the variable is not set.
pub(crate) fn requires_cards() -> Result<[Mac; 2]> {
    let text = env::var("LOSSPROBE_CARDS").map_err(|_| Skip(Lack::Cards))?;
    let mac = |text: &str| -> Option<Mac> {
        let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
        bytes.try_into().ok()
    };
    let pair = text.split_once(',').and_then(|(one, other)| Some([mac(one)?, mac(other)?]));
    pair.with_context(|| format!("LOSSPROBE_CARDS is {text:?}, not MAC,MAC"))
}

/// Whether rtnetlink said EOPNOTSUPP, its answer to a kind of link that the kernel does not know, or tc passed on what it
/// says of an unknown kind of discipline.
fn is_unknown_kind(error: &anyhow::Error) -> bool {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(rtnetlink::Error::NetlinkError(message)) => Some(message.raw_code()),
        _ => None,
    });
    refused == Some(-(Errno::EOPNOTSUPP as i32)) || format!("{error:#}").contains("qdisc kind is unknown")
}
