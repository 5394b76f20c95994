//! What the user sees: calm lines and progress on standard error; the output of long steps goes to a log file.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::workspace::{create_folder, show};

/// How often a child and its log are looked at.
const POLL: Duration = Duration::from_millis(150);
/// How many last lines of a log an error repeats.
const TAIL_LINES: usize = 60;

/// One progress bar for each long command that is running.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One line for the user.
pub(crate) fn say(line: &str) {
    BARS.suspend(|| eprintln!("{line}"));
}

/// Runs a long command with its output in `log`, showing the log's last line beside a spinner.
pub(crate) fn watch(what: &str, log: &Path, command: &mut Command) -> Result<()> {
    let status = watch_status(what, log, command)?;
    if !status.success() {
        bail!("{what}: `{}` failed ({status}); its last lines ({}):\n{}", show(command), log.display(), tail(log));
    }
    Ok(())
}

/// As `watch`, but leaves the judgement to the caller.
pub(crate) fn watch_status(what: &str, log: &Path, command: &mut Command) -> Result<ExitStatus> {
    if let Some(folder) = log.parent() {
        create_folder(folder)?;
    }
    let file = File::create(log).with_context(|| format!("create the log {}", log.display()))?;
    let both = file.try_clone().with_context(|| format!("open the log {} twice", log.display()))?;
    let shown = show(command);
    let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
    let mut child = child.with_context(|| format!("{what}: start `{shown}`"))?;

    let bar = BARS.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    if bar.is_hidden() {
        say(&format!("{what} …"));
    }
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("{what}: wait for `{shown}`"))? {
            break status;
        }
        bar.set_message(last_line(log));
        bar.tick();
        thread::sleep(POLL);
    };
    bar.finish_and_clear();
    if status.success() {
        say(&format!("{what}: {}", seconds(started.elapsed())));
    }
    Ok(status)
}

/// The last lines of a log, carriage returns and terminal control codes removed.
pub(crate) fn tail(log: &Path) -> String {
    let text = read_log(log);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines.get(first..).unwrap_or_default().iter().map(|line| format!("  {line}\n")).collect()
}

/// A log as text, whatever bytes a console wrote into it.
pub(crate) fn read_log(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).chars().filter(|&c| c == '\n' || !c.is_control()).collect()
}

fn last_line(log: &Path) -> String {
    read_log(log).lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// A duration as people read it: `7.3 s`, `2 min 05 s`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        whole @ 100.. => format!("{} min {:02} s", whole / 60, whole % 60),
        0..100 => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// The phases of a verb with their times, printed at the end whatever happened.
#[derive(Default)]
pub(crate) struct Phases {
    rows: Vec<(String, Duration, Result<(), String>)>,
}

impl Phases {
    /// Runs one phase under a heading and remembers how it went.
    pub(crate) fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> Result<T>) -> Option<T> {
        say(&format!("\n── {name}"));
        let started = Instant::now();
        let (value, outcome) = match phase() {
            Ok(value) => (Some(value), Ok(())),
            Err(error) => {
                say(&format!("{name} failed: {error:#}"));
                (None, Err(format!("{error:#}")))
            }
        };
        self.rows.push((name.to_owned(), started.elapsed(), outcome));
        value
    }

    /// Prints the table; an error if any phase failed.
    pub(crate) fn finish(self, verb: &str) -> Result<()> {
        let width = self.rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or_default();
        say(&format!("\n── {verb}"));
        for (name, time, outcome) in &self.rows {
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            say(&format!("{name:width$}  {:>12}  {word}", seconds(*time)));
        }
        let total = self.rows.iter().map(|(_, time, _)| *time).sum();
        say(&format!("{:width$}  {:>12}", "", seconds(total)));
        let failed: Vec<&str> = self.rows.iter().filter(|row| row.2.is_err()).map(|row| row.0.as_str()).collect();
        if failed.is_empty() { Ok(()) } else { bail!("{verb}: {} failed: {}", failed.len(), failed.join(", ")) }
    }
}
