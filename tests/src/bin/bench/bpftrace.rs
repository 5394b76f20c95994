//! bpftrace with the one line that counts drops by reason, as a yardstick.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{child, namespace::Namespace, program::installed, wait::settled};

/// The kernel's own number stands for the reason.
const LINE: &str = "tracepoint:skb:kfree_skb { @[args->reason] = count(); }";

/// It compiles its program with LLVM first.
const START: Duration = Duration::from_secs(30);

pub(crate) struct Bpftrace {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Bpftrace {
    /// Starts it and waits until it counts.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        installed("bpftrace")?;
        // It finds tracepoints in tracefs, which need not be mounted; here it is, for this process alone.
        let script = format!("mount -t tracefs none /sys/kernel/tracing && exec bpftrace -e '{LINE}'");
        let mut child = child::command(namespace, "unshare")?
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start bpftrace")?;
        let output = BufReader::new(child.stdout.take().context("bpftrace has no output")?);
        let mut bpftrace = Self { child, output };
        let mut said = String::new();
        while !said.contains("Attaching") {
            let length = bpftrace.output.read_line(&mut said).context("read what bpftrace says")?;
            ensure!(length > 0, "bpftrace ended: {said}{}", bpftrace.complaints());
        }
        // It says so before it attaches. Then it has nothing more to do than to wait.
        settled(START, Duration::from_millis(200), || bpftrace.cpu_ticks())?;
        Ok(bpftrace)
    }

    /// Ends it and returns how many drops it has counted.
    pub(crate) fn stop(mut self) -> Result<f64> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT).context("interrupt bpftrace")?;
        let mut said = String::new();
        self.output.read_to_string(&mut said).context("read what bpftrace says")?;
        let status = self.child.wait().context("wait for bpftrace")?;
        ensure!(status.success(), "bpftrace ended with {status}: {}", self.complaints());
        let counts = said.lines().filter_map(|line| line.strip_prefix("@[")?.split_once("]: ")?.1.parse::<f64>().ok());
        Ok(counts.sum())
    }

    fn cpu_ticks(&self) -> Result<(u64, u64)> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).context("read bpftrace's times")?;
        // The fields behind the name, which may hold anything, start with the third; proc(5) has times as 14 and 15.
        let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let time = |field: usize| -> Result<u64> { Ok(fields.get(field - 3).context("a short line")?.parse()?) };
        Ok((time(14)?, time(15)?))
    }

    fn complaints(&mut self) -> String {
        let mut text = String::new();
        // What cannot be read cannot be shown either.
        let _unread = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        text
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
