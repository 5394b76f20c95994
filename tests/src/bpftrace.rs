//! bpftrace, which counts drops by reason: a yardstick for what that costs, and a witness that has nothing of the probe.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    child,
    namespace::Namespace,
    program::{installed, run},
    wait::eventually,
};

/// The one line that an operator would type: all drops of this machine, by the kernel's own number of the reason.
pub const BY_REASON: &str = "tracepoint:skb:kfree_skb { @[args->reason] = count(); }";

/// Finds tracepoints in tracefs, which need not be mounted; here it is, for one process alone.
const MOUNT: &str = "mount -t tracefs none /sys/kernel/tracing";

/// It compiles its program with LLVM first.
const START: Duration = Duration::from_secs(60);
/// How long it may take to print, or to end.
const ANSWER: Duration = Duration::from_secs(2);
const INTERRUPTS: usize = 5;

/// A running bpftrace.
pub struct Bpftrace {
    child: Child,
    /// Its output, line by line.
    lines: Receiver<String>,
    /// Drops by key, as it has printed them last.
    counts: BTreeMap<String, f64>,
}

impl Bpftrace {
    /// Starts it with `program`, which counts into its one map, and waits until it counts a drop, which `drop_one` makes.
    ///
    /// # Errors
    /// When it is not installed, or does not count.
    pub fn start(namespace: &Namespace, program: &str, drop_one: impl Fn() -> Result<()>) -> Result<Self> {
        installed("bpftrace")?;
        let script = format!("{MOUNT} && exec bpftrace -e '{program}'");
        let mut child = child::command(namespace, "unshare")?
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start bpftrace")?;
        let output = BufReader::new(child.stdout.take().context("bpftrace has no output")?);
        let (sender, lines) = channel();
        // Ends with its output, or when nobody listens any more.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut bpftrace = Self { child, lines, counts: BTreeMap::new() };
        match bpftrace.lines.recv_timeout(START) {
            Ok(line) if line.contains("Attaching") => {}
            other => anyhow::bail!("bpftrace says {other:?}: {}", bpftrace.complaints()),
        }
        // It says so before it attaches. On this signal it prints what it has counted; but a program that is being
        // loaded starts over at every signal, so there must be time in between.
        let counts = eventually(START, "bpftrace counts drops", || {
            drop_one()?;
            bpftrace.signal(Signal::SIGUSR1)?;
            while bpftrace.counts.is_empty() {
                let line = bpftrace.lines.recv_timeout(ANSWER).context("it has counted nothing")?;
                bpftrace.read(&line);
            }
            Ok(())
        });
        counts.with_context(|| bpftrace.complaints())?;
        Ok(bpftrace)
    }

    /// Ends it and returns how many drops it has counted, by key.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub fn stop(mut self) -> Result<BTreeMap<String, f64>> {
        // A signal that comes just before it goes to sleep does not wake it (seen with 0.17): the next one does.
        let interrupt = |bpftrace: &mut Self| {
            bpftrace.signal(Signal::SIGINT)?;
            eventually(ANSWER, "bpftrace has ended", || bpftrace.child.try_wait()?.context("it runs"))
        };
        let status = (0..INTERRUPTS).find_map(|_| interrupt(&mut self).ok());
        let status = status.with_context(|| format!("bpftrace does not end on {INTERRUPTS} SIGINT"))?;
        ensure!(status.success(), "bpftrace ended with {status}: {}", self.complaints());
        while let Ok(line) = self.lines.recv_timeout(ANSWER) {
            self.read(&line);
        }
        Ok(std::mem::take(&mut self.counts))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal).with_context(|| format!("send {signal}"))
    }

    /// `@[KEY]: COUNT`
    fn read(&mut self, line: &str) {
        let entry = line.strip_prefix("@[").and_then(|rest| rest.split_once("]: "));
        if let Some((key, count)) = entry
            && let Ok(count) = count.parse()
        {
            self.counts.insert(key.to_owned(), count);
        }
    }

    fn complaints(&mut self) -> String {
        // A pipe that a living process holds has no end.
        let _gone = self.child.kill();
        let mut text = String::new();
        // What cannot be read cannot be shown either.
        let _unread = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        text
    }
}

/// A program for [`Bpftrace::start`]: the drops of a network namespace, by `REASON, DEVICE`, where there is a device.
///
/// # Errors
/// When the kernel does not tell the namespace's number.
pub fn by_reason_and_device(namespace: &Namespace) -> Result<String> {
    Ok(format!(
        "tracepoint:skb:kfree_skb {{
            $device = ((struct sk_buff *)args->skbaddr)->dev;
            if ($device != 0 && $device->nd_net.net->ns.inum == {}) {{
                @[args->reason, $device->name] = count();
            }}
        }}",
        namespace.inode()?
    ))
}

/// Numbers and names of drop reasons as the kernel prints them: by the format of its tracepoint (`{ 3, "NO_SOCKET" }`).
///
/// # Errors
/// When it has none (before Linux 5.17).
pub fn reason_names(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    let script = format!("{MOUNT} && cat /sys/kernel/tracing/events/skb/kfree_skb/format");
    let format = run(namespace, "unshare", &["--mount", "sh", "-c", &script], "")?;
    let entry = |text: &str| {
        let (number, name) = text.split_once('}')?.0.split_once(", ")?;
        Some((number.trim().to_owned(), name.trim().trim_matches('"').to_owned()))
    };
    let names: BTreeMap<_, _> = format.split('{').skip(1).filter_map(entry).collect();
    ensure!(!names.is_empty(), "no reasons in {format}");
    Ok(names)
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
