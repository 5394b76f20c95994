//! The daemon: one thread that follows interfaces, takes a snapshot every second and answers requests.

pub(crate) mod examples;
mod judge;

use std::{
    future::pending,
    io::{IsTerminal as _, Write as _, stderr, stdout},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use self::judge::Judge;
use crate::{
    collect::links::{LinkEvent, Watcher},
    config::Config,
    control::Order,
    detect::verdict::{Affected, Verdict},
    export::{
        Listeners, Place, Source, Web, serve,
        watch::{Lines, Watchers},
    },
    inspect::stats,
    kernel::{heap, preflight},
    probe::{Probe, peers::Lookup},
    record::{evidence::Evidence, incidents::Incidents},
    snapshot::{Flows, Snapshot, State},
};

const TICK: Duration = Duration::from_secs(1);
/// In ticks.
const SUMMARY_EVERY: u32 = 5;
/// In ticks.
const TIDY_EVERY: u32 = 10;
/// When starting has freed all that it will, in ticks.
const STARTED_AFTER: u32 = 5;
/// What comes and goes leaves gaps between what stays, in ticks.
const GIVES_BACK_EVERY: u32 = 60;
/// Pause before the interfaces are listed anew after the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// Connections in an answer to who asks for the worst.
const FLOWS_SHOWN: usize = 100;

/// The probe, shared by the follower and the server on the agent's one thread.
struct Shared {
    probe: Mutex<Probe>,
    judge: Mutex<Judge>,
    latest: Mutex<Arc<Snapshot>>,
    watchers: Watchers,
    web: Option<Arc<Web>>,
}

impl Shared {
    fn probe(&self) -> MutexGuard<'_, Probe> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With what the probe does not know.
    fn complete(&self, mut snapshot: Snapshot) -> Snapshot {
        snapshot.judgement = Some(self.judge().shown());
        snapshot.probe.web_config_current = self.web.as_deref().map(Web::is_current);
        snapshot
    }
}

impl Source for Shared {
    fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest())
    }

    fn read(&self) -> Arc<Snapshot> {
        let mut probe = self.probe();
        match probe.snapshot() {
            Ok(snapshot) => Arc::new(self.complete(snapshot)),
            Err(error) => {
                error!("reading the counters failed: {error:#}");
                probe.collect_error("maps");
                Self::latest(self).clone()
            }
        }
    }

    fn readiness(&self) -> Result<(), String> {
        self.probe().readiness()
    }

    fn obey(&self, order: Order) -> Result<State, String> {
        let state = self.probe().obey(order).map_err(|error| format!("{error:#}"))?;
        // Whoever asks next sees it.
        let fresh = self.read();
        *self.latest() = fresh;
        Ok(state)
    }

    fn flows(&self) -> Result<Flows, String> {
        self.probe().flows(FLOWS_SHOWN).map_err(|error| format!("{error:#}"))
    }

    fn evidence(&self) -> Result<Evidence, String> {
        let mut probe = self.probe();
        if self.watchers.is_empty() {
            probe.evidence(usize::MAX).map_err(|error| format!("{error:#}"))?;
        }
        probe.kept().map_err(|error| format!("{error:#}"))
    }

    fn verdict(&self) -> Result<Verdict, String> {
        Ok(self.judge().verdict().clone())
    }

    fn incidents(&self) -> Result<Incidents, String> {
        Ok(self.judge().incidents())
    }

    fn watch(&self) -> Result<Lines, String> {
        self.watchers.subscribe()
    }
}

/// Runs until SIGINT or SIGTERM, or the terminal in which it was started goes away.
///
/// # Errors
/// If the machine does not give what the main job needs, or an address cannot be listened on.
pub fn run(config: Config) -> Result<()> {
    heap::keep_large_apart();
    // Before privileges are given up: a low port, and a socket of another group, each take one.
    let listeners = listen(&config)?;
    preflight::check()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve_and_follow(config, listeners));
    // A password that is being checked and a file that cannot be read for now are waited for by nobody.
    runtime.shutdown_background();
    outcome
}

/// A runtime of one thread: the one that holds the privileges, and memory for no other.
///
/// # Errors
/// If the kernel refuses.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the asynchronous runtime")
}

async fn serve_and_follow(config: Config, listeners: Listeners) -> Result<()> {
    // Before anything is attached: a signal from now on ends the agent in order, or not at all.
    let mut ending = Ending::listen()?;
    let mut terminal = Terminal::listen(config.web_config.is_some())?;
    let address = listeners.address()?;
    let (mut probe, watcher) = start(Arc::new(config.clone())).await?;
    let latest = Mutex::new(Arc::new(probe.snapshot()?));
    // Behind the probe, which has given up privileges: threads never had them, and files are read as they will be later.
    let judge = Mutex::new(Judge::start(&config)?);
    let web =
        config.web_config.as_deref().map(Web::start).transpose().context("protect the HTTP address (--web-config)")?;
    let web = web.map(Arc::new);
    let scheme = web.as_deref().map_or("http", Web::scheme);
    let watchers = Watchers::default();
    let shared = Arc::new(Shared { probe: Mutex::new(probe), judge, latest, watchers, web: web.clone() });
    let (stop, stopped) = watch::channel(());
    let listeners = listeners.protected_by(web.clone());
    let server = tokio::spawn(serve(listeners, Arc::clone(&shared) as Arc<dyn Source>, closed(stopped)));
    let web = web.map(|web| tokio::spawn(web.follow()));
    let mut follower = tokio::spawn(follow(Arc::clone(&shared), watcher));
    let examples = tokio::spawn(examples::show(Arc::clone(&shared)));
    let mut ticker = tokio::spawn(tick(Arc::clone(&shared), config.summary));
    info!(%address, interfaces = shared.latest().interfaces.len(), "metrics at {scheme}://{address}/metrics");

    let outcome = tokio::select! {
        () = ending.wait() => Ok(()),
        () = terminal.hung_up() => Ok(()),
        ended = &mut ticker => ended.context("the ticker ended abnormally").and_then(|outcome| outcome),
        ended = &mut follower => ended.context("following interfaces ended abnormally"),
    };
    info!("ending");
    drop(stop);
    follower.abort();
    ticker.abort();
    examples.abort();
    web.iter().for_each(tokio::task::JoinHandle::abort);
    shared.watchers.close();
    server.await.context("the server ended abnormally")??;
    shared.judge().end();
    outcome
}

/// SIGINT and SIGTERM, and of a command SIGHUP.
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Ending {
    /// Takes both signals from their default, which would end the process without detaching anything.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            hang_up: None,
        })
    }

    /// For a command, which is over when its terminal or connection is: SIGHUP ends it, too.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn of_command() -> Result<Self> {
        let hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        Ok(Self { hang_up: Some(hang_up), ..Self::listen()? })
    }

    /// Until one of them comes.
    pub async fn wait(&mut self) {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => drop(signal.recv().await),
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hung_up => {}
        }
    }
}

/// SIGHUP. Whoever runs a daemon means by it that files are to be read again: by default it would end the agent. A terminal that
/// goes away sends it, too, to what was started in it by hand, and that must not stay behind.
struct Terminal {
    hang_up: Signal,
    was_there: bool,
    /// Somebody else reads files again, and says so.
    is_heard: bool,
}

impl Terminal {
    fn listen(is_heard: bool) -> Result<Self> {
        let hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        Ok(Self { hang_up, was_there: stderr().is_terminal(), is_heard })
    }

    /// Until it has gone away.
    async fn hung_up(&mut self) {
        while self.hang_up.recv().await.is_some() {
            if self.was_there && !stderr().is_terminal() {
                return;
            }
            if !self.is_heard {
                info!("SIGHUP: nothing is read again, for no --web-config is given; other settings take a restart");
            }
        }
        pending::<()>().await;
    }
}

fn listen(config: &Config) -> Result<Listeners> {
    if let (true, Some(folder)) = (config.socket_is_default, config.socket.as_deref().and_then(Path::parent)) {
        // What goes wrong here shows when the socket is bound.
        let _ = std::fs::create_dir(folder);
    }
    let place = config.socket.as_deref().map(|path| Place { path, group: config.socket_group });
    match Listeners::bind(config.listen, place) {
        Err(error) if config.socket_is_default && config.socket_group.is_none() => {
            let without = Listeners::bind(config.listen, None)?;
            warn!("no unix socket, so `lossprobe stats` finds this agent only by --agent: {error:#}");
            Ok(without)
        }
        outcome => outcome,
    }
}

/// Loads the probe and attaches to the interfaces that exist.
///
/// # Errors
/// If that is not possible, or an interface was named that does not exist.
pub async fn start(config: Arc<Config>) -> Result<(Probe, Watcher)> {
    let (links, watcher) = Watcher::start().await?;
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    for glob in config.check_against(&names)? {
        warn!("no interface matches {glob} yet");
    }
    let mut probe = Probe::start(config, links.len())?;
    probe.apply(LinkEvent::Resync(links));
    probe.look_around()?;
    Ok((probe, watcher))
}

async fn closed(mut stopped: watch::Receiver<()>) {
    // An error says that the sender is gone, which is the signal.
    let _ = stopped.changed().await;
}

async fn follow(shared: Arc<Shared>, mut watcher: Watcher) {
    loop {
        match watcher.next().await {
            Ok(event) => shared.probe().apply(event),
            Err(error) => {
                warn!("following interfaces failed, listing them anew: {error:#}");
                shared.probe().collect_error("links");
                sleep(RETRY).await;
                if let Ok((links, fresh)) = Watcher::start().await {
                    watcher = fresh;
                    shared.probe().apply(LinkEvent::Resync(links));
                }
            }
        }
    }
}

/// Takes a snapshot every second. An agent that cannot read its counters any more ends.
async fn tick(shared: Arc<Shared>, summary: bool) -> Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // What the programs log is what happens once; reading it with the tick is soon enough.
    let mut log = aya_log::EbpfLogger::init(shared.probe().ebpf_mut())
        .inspect_err(|error| warn!("the log of the eBPF programs is not read: {error}"))
        .ok();
    let mut summary = summary.then(|| Source::latest(&*shared));
    let mut count = 0_u32;
    let mut lookup = Lookup::default();
    loop {
        ticks.tick().await;
        count = count.wrapping_add(1);
        shared.probe().beat()?;
        if let Some(log) = &mut log {
            log.flush();
        }
        if count % GIVES_BACK_EVERY == STARTED_AFTER {
            heap::give_back();
        }
        if count.is_multiple_of(TIDY_EVERY) {
            shared.probe().retry_refused();
            shared.probe().put_back();
            shared.probe().forget_vanished()?;
        }
        shared.probe().verify();
        // Whoever watches is shown it, and it is kept then, too.
        if shared.watchers.is_empty()
            && let Err(error) = shared.probe().evidence(usize::MAX)
        {
            warn!("no evidence is kept: {error:#}");
        }
        let snapshot = Arc::new(shared.probe().snapshot().context("read the counters")?);
        judge(&shared, &snapshot, &mut lookup);
        let snapshot = Arc::new(shared.complete(Arc::unwrap_or_clone(snapshot)));
        *shared.latest() = Arc::clone(&snapshot);
        if let Some(shown) = summary.take_if(|_| count.is_multiple_of(SUMMARY_EVERY)) {
            let table = stats::render_table(&snapshot, Some(&shown), None, false);
            // Whoever closes standard output has seen enough.
            summary = writeln!(stdout(), "{table}").is_ok().then_some(snapshot);
        }
    }
}

/// Has a second judged.
fn judge(shared: &Shared, snapshot: &Arc<Snapshot>, lookup: &mut Lookup) {
    let is_unusual = shared.judge().is_alarmed();
    let affected = lookup.affected(&shared.probe(), is_unusual);
    // Who cannot be looked up is waited for: nobody outside is named meanwhile.
    let affected = affected.unwrap_or_else(|error| {
        warn!("it is not known who is affected: {error:#}");
        Affected { is_pending: true, ..Affected::default() }
    });
    shared.judge().take(snapshot, affected, || Source::evidence(shared).ok());
}
