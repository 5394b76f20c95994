//! `lossprobe agent` as a child process inside a namespace.

use std::{
    cell::RefCell,
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ExitStatus, Stdio, id},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use probe_user::snapshot::Snapshot;
use serde_json::Value;

use crate::{child, http, metrics::Metrics, namespace::Namespace, wait::eventually};

/// Loading and attaching takes well under a second on hardware; under emulation it is the verifier's time.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);

/// Lines of the agent's log that are kept.
const LOG_LINES: usize = 200;

thread_local! {
    /// Logs of the agents that this thread's test has started, for the message of its failure.
    static LOGS: RefCell<Vec<Log>> = const { RefCell::new(Vec::new()) };
}

type Log = Arc<Mutex<VecDeque<String>>>;

/// A running agent; dropping it kills it.
pub struct Agent<'n> {
    namespace: &'n Namespace,
    child: Child,
    log: Log,
    socket: PathBuf,
    address: SocketAddr,
}

/// The binary under test: `$LOSSPROBE_BIN`, the neighbour of this program, or `/bin/lossprobe` in a guest.
#[must_use]
pub fn binary() -> PathBuf {
    let neighbour = || Some(env::current_exe().ok()?.with_file_name("lossprobe")).filter(|path| path.is_file());
    env::var_os("LOSSPROBE_BIN")
        .map(PathBuf::from)
        .or_else(neighbour)
        .unwrap_or_else(|| PathBuf::from("/bin/lossprobe"))
}

/// Runs `lossprobe` with these arguments inside `namespace` until it ends.
///
/// # Errors
/// When it cannot be started.
pub fn lossprobe(namespace: &Namespace, arguments: &[&str]) -> Result<std::process::Output> {
    let binary = binary();
    child::command(namespace, &binary)?
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", binary.display()))
}

impl<'n> Agent<'n> {
    /// Where it listens, inside its namespace, unless told otherwise by `--listen`.
    #[must_use]
    pub fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9976))
    }

    /// Starts it and waits until it is ready. Every agent gets a unix socket of its own, unless the arguments say.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with its log.
    pub fn start(namespace: &'n Namespace, arguments: &[&str]) -> Result<Self> {
        Self::spawn(namespace, arguments)?.ready()
    }

    /// As [`Self::start`], by a program that becomes the agent, such as `setpriv`: its name and arguments.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with its log.
    pub fn start_by(namespace: &'n Namespace, program: &[&str], arguments: &[&str]) -> Result<Self> {
        Self::spawn_by(namespace, program, arguments)?.ready()
    }

    fn ready(mut self) -> Result<Self> {
        let ready = eventually(START, "the agent is ready", || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Err(status));
            }
            let response = http::get(self.namespace, self.address, "/readyz", &[])?;
            ensure!(response.status == 200, "/readyz says {}: {}", response.status, response.body);
            Ok(Ok(()))
        });
        match ready.with_context(|| self.log())? {
            Ok(()) => Ok(self),
            Err(status) => {
                // Its last words are on their way through the pipe.
                thread::sleep(Duration::from_millis(50));
                bail!("the agent ended with {status}:\n{}", self.log())
            }
        }
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(namespace: &'n Namespace, arguments: &[&str]) -> Result<Self> {
        Self::spawn_by(namespace, &[], arguments)
    }

    fn spawn_by(namespace: &'n Namespace, program: &[&str], arguments: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let socket = env::temp_dir().join(format!("lossprobe-tests-{}-{number}.sock", id()));
        let listen = arguments.iter().skip_while(|argument| **argument != "--listen").nth(1);
        let address = listen.map_or(Ok(Self::address()), |address| address.parse()).context("--listen")?;
        let binary = binary();
        let words: Vec<_> = program.iter().map(OsStr::new).chain([binary.as_os_str()]).collect();
        let mut child = child::command(namespace, words[0])?
            .args(&words[1..])
            .arg("agent")
            .args(arguments)
            .args(["--socket".as_ref(), socket.as_os_str()].into_iter().filter(|_| !arguments.contains(&"--socket")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || keep_lines(stderr, &log));
        }
        LOGS.with_borrow_mut(|logs| logs.push(Arc::clone(&log)));
        Ok(Self { namespace, child, log, socket, address })
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The namespace that it is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.namespace
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Gets a page, which must be there.
    ///
    /// # Errors
    /// When the status is not 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let response = http::get(self.namespace, self.address, path, &[])?;
        ensure!(response.status == 200, "{path} says {}: {}", response.status, response.body);
        Ok(response.body)
    }

    /// Scrapes it.
    ///
    /// # Errors
    /// When the answer is not the text format.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics")?)
    }

    /// The agent's latest snapshot, at most a second old.
    ///
    /// # Errors
    /// When the agent does not answer, or not in the form of this build.
    pub fn snapshot(&self) -> Result<Snapshot> {
        serde_json::from_value(self.json("/api/v1/snapshot")?).context("read the snapshot")
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self, path: &str) -> Result<Value> {
        let text = self.get(path)?;
        serde_json::from_str(&text).with_context(|| format!("{path}: {text:?}"))
    }

    /// Has it carry out `lossprobe pause`, `resume` or `detach`. Returns what the command says.
    ///
    /// # Errors
    /// When it does not.
    pub fn order(&self, order: &str) -> Result<String> {
        let socket = self.socket().to_str().context("path")?;
        let output = lossprobe(self.namespace, &[order, "--socket", socket])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{order}: {}: {said}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Asks it to end and expects it to do so in time and without an error.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.ended(STOP)?;
        ensure!(status.success(), "the agent ended with {status} after SIGTERM:\n{}", self.log());
        Ok(())
    }

    /// Kills it as a crash or the OOM killer would.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn kill_9(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.ended(STOP)?;
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal).with_context(|| format!("send {signal}"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        eventually(deadline, "the agent has ended", || self.child.try_wait()?.context("it runs"))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = std::fs::remove_file(&self.socket);
    }
}

/// Takes the logs of all agents that this thread has started, for a failure's message.
#[must_use]
pub fn take_logs() -> String {
    let logs = LOGS.with_borrow_mut(std::mem::take);
    let numbered = logs.iter().enumerate().map(|(at, log)| format!("--- log of agent {at} ---\n{}", text(log)));
    numbered.collect()
}

fn text(log: &Log) -> String {
    let lines = log.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn keep_lines(stderr: impl Read, log: &Log) {
    for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
        let mut lines = log.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}
