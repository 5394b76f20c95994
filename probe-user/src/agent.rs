//! The daemon: one thread that follows interfaces, takes a snapshot every second and answers requests.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use crate::{
    collect::links::{LinkEvent, Watcher},
    config::Config,
    export::{Listeners, Source, serve},
    inspect::stats,
    kernel::preflight,
    probe::Probe,
    snapshot::Snapshot,
};

const TICK: Duration = Duration::from_secs(1);
/// In ticks.
const SUMMARY_EVERY: u32 = 5;
/// In ticks.
const RETRY_REFUSED_EVERY: u32 = 10;
/// Pause before the interfaces are listed anew after the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// The probe, shared by the follower and the server on the agent's one thread.
struct Shared {
    probe: Mutex<Probe>,
    latest: Mutex<Arc<Snapshot>>,
}

impl Shared {
    fn probe(&self) -> MutexGuard<'_, Probe> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Shared {
    fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest())
    }

    fn read(&self) -> Arc<Snapshot> {
        let mut probe = self.probe();
        match probe.snapshot() {
            Ok(snapshot) => Arc::new(snapshot),
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
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// If the machine does not give what the main job needs, or an address cannot be listened on.
pub fn run(config: Config) -> Result<()> {
    preflight::check()?;
    runtime()?.block_on(serve_and_follow(config))
}

/// A runtime of one thread: the one that holds the privileges, and memory for no other.
///
/// # Errors
/// If the kernel refuses.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the asynchronous runtime")
}

async fn serve_and_follow(config: Config) -> Result<()> {
    let listeners = listen(&config)?;
    let address = listeners.address()?;
    let (probe, watcher) = start(Arc::new(config.clone())).await?;
    let shared = Arc::new(Shared { probe: Mutex::new(probe), latest: Mutex::default() });
    *shared.latest() = Source::read(&*shared);
    let (stop, stopped) = watch::channel(());
    let server = tokio::spawn(serve(listeners, Arc::clone(&shared) as Arc<dyn Source>, closed(stopped.clone())));
    let follower = tokio::spawn(follow(Arc::clone(&shared), watcher));
    let ticker = tokio::spawn(tick(Arc::clone(&shared), config.summary));
    info!(%address, interfaces = shared.latest().interfaces.len(), "metrics at http://{address}/metrics");

    ended().await?;
    info!("ending");
    drop((stop, stopped));
    for task in [follower, ticker] {
        task.abort();
    }
    server.await.context("the server ended abnormally")?
}

fn listen(config: &Config) -> Result<Listeners> {
    if let (true, Some(folder)) = (config.socket_is_default, config.socket.as_deref().and_then(Path::parent)) {
        // What goes wrong here shows when the socket is bound.
        let _ = std::fs::create_dir(folder);
    }
    match Listeners::bind(config.listen, config.socket.as_deref()) {
        Err(error) if config.socket_is_default => {
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
    for glob in config.selection.check_against(&names)? {
        warn!("no interface matches {glob} yet");
    }
    let mut probe = Probe::start(config, links.len())?;
    probe.apply(LinkEvent::Resync(links));
    Ok((probe, watcher))
}

async fn closed(mut stopped: watch::Receiver<()>) {
    // An error says that the sender is gone, which is the signal.
    let _ = stopped.changed().await;
}

async fn ended() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
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

async fn tick(shared: Arc<Shared>, summary: bool) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut shown = Source::latest(&*shared);
    // What the programs log is what happens once; reading it with the tick is soon enough.
    let mut log = aya_log::EbpfLogger::init(shared.probe().ebpf_mut())
        .inspect_err(|error| warn!("the log of the eBPF programs is not read: {error}"))
        .ok();
    for count in 0_u32.. {
        ticks.tick().await;
        if let Some(log) = &mut log {
            log.flush();
        }
        if count % RETRY_REFUSED_EVERY == 0 {
            shared.probe().retry_refused();
        }
        let snapshot = Source::read(&*shared);
        *shared.latest() = Arc::clone(&snapshot);
        if summary && count % SUMMARY_EVERY == 0 && count > 0 {
            print!("{}", stats::render_table(&snapshot, Some(&shown), None, false));
            shown = snapshot;
        }
    }
}
