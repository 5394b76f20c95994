//! `lossprobe stats`: from a running agent, else by attaching for a while.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    net::lookup_host,
    time::{Instant, interval, sleep_until},
};

use crate::{
    agent,
    cli::Output,
    collect::links::Watcher,
    config::{Config, DEFAULT_LISTEN, DEFAULT_SOCKET, Origin, Selection, StatsConfig},
    inspect::{
        client::{self, FetchError},
        losses::Losses,
        print, stats,
    },
    kernel::{load::own_netns, preflight},
    probe::Probe,
    snapshot::Snapshot,
};

/// Shows what was asked for.
///
/// # Errors
/// If there is no agent where one was named, or attaching is not possible.
pub fn run(config: StatsConfig) -> Result<()> {
    agent::runtime()?.block_on(show(config))
}

/// Where snapshots come from.
enum Feed {
    Agent(Origin),
    Own(Box<Probe>, Watcher),
}

impl Feed {
    async fn open(config: &StatsConfig) -> Result<Self> {
        match ask(&config.origin).await {
            Err(error) if matches!(config.origin, Origin::Any) && is_absent(&error) => {
                preflight::check()?;
                let own = Arc::new(Config::for_stats(&config.selection));
                let (probe, watcher) = agent::start(own).await?;
                Ok(Self::Own(Box::new(probe), watcher))
            }
            answer => {
                say_where(&config.origin, &answer?);
                Ok(Self::Agent(config.origin.clone()))
            }
        }
    }

    async fn read(&mut self) -> Result<Snapshot> {
        match self {
            Self::Agent(origin) => ask(origin).await,
            Self::Own(probe, _) => {
                probe.verify();
                probe.snapshot()
            }
        }
    }

    /// Follows interfaces until `deadline`, and shows the programs that somebody is there.
    async fn wait_until(&mut self, deadline: Instant) -> Result<()> {
        let Self::Own(probe, watcher) = self else {
            sleep_until(deadline).await;
            return Ok(());
        };
        let mut beats = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = sleep_until(deadline) => return Ok(()),
                _ = beats.tick() => {
                    probe.beat()?;
                    probe.look_around()?;
                }
                event = watcher.next() => probe.apply(event.context("follow the interfaces")?),
            }
        }
    }
}

/// The snapshot of a running agent.
async fn ask(origin: &Origin) -> Result<Snapshot> {
    match origin {
        Origin::Any => Ok(client::fetch(Some(Path::new(DEFAULT_SOCKET)), None).await?),
        Origin::Socket(path) => Ok(client::fetch(Some(path), None).await?),
        Origin::Url(url) => {
            let authority = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(DEFAULT_LISTEN.port()));
            let mut addresses = lookup_host(authority).await.with_context(|| format!("look up {url}"))?;
            Ok(client::fetch(None, Some(addresses.next().with_context(|| format!("{url} has no address"))?)).await?)
        }
    }
}

/// A path leads to an agent of any namespace of this machine. One that answers at a URL may be on another machine.
fn say_where(origin: &Origin, snapshot: &Snapshot) {
    let own = own_netns().unwrap_or_default();
    if !matches!(origin, Origin::Url(_)) && ![0, own].contains(&snapshot.netns) {
        eprintln!(
            "the agent runs in another network namespace (net:[{}], here net:[{own}]): what follows are its interfaces, \
             not those here",
            snapshot.netns
        );
    }
}

/// Whether nobody listens, so that attaching without an agent is what is left.
fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(FetchError::NoAgent { .. }))
}

async fn show(config: StatsConfig) -> Result<()> {
    let mut ending = agent::Ending::of_command()?;
    let mut feed = Feed::open(&config).await?;
    let shown = async {
        match config.interval {
            Some(interval) => repeat(&config, &mut feed, interval).await,
            None => once(&config, &mut feed).await,
        }
    };
    tokio::select! {
        outcome = shown => outcome,
        () = ending.wait() => Ok(()),
    }
}

async fn once(config: &StatsConfig, feed: &mut Feed) -> Result<()> {
    if matches!(feed, Feed::Own(..)) {
        eprintln!("no agent answers at {DEFAULT_SOCKET}; watching for {:?} (--for)", config.watch);
        feed.wait_until(Instant::now() + config.watch).await?;
    }
    let snapshot = select(feed.read().await?, &config.selection)?;
    print(config, &snapshot, None).map(|_| ())
}

async fn repeat(config: &StatsConfig, feed: &mut Feed, interval: Duration) -> Result<()> {
    let mut previous = select(feed.read().await?, &config.selection)?;
    let mut next = Instant::now();
    loop {
        next += interval;
        feed.wait_until(next).await?;
        let snapshot = select(feed.read().await?, &config.selection)?;
        if !print(config, &snapshot, Some(&previous))? {
            return Ok(());
        }
        previous = snapshot;
    }
}

/// Leaves out what was not asked for.
fn select(mut snapshot: Snapshot, selection: &Selection) -> Result<Snapshot> {
    let names: Vec<String> = snapshot.interfaces.iter().map(|interface| interface.name.clone()).collect();
    selection.check_against(&names)?;
    snapshot.interfaces.retain(|interface| selection.selects(&interface.name, interface.kind == "loopback"));
    Ok(snapshot)
}

/// `false`: the reader, `head` perhaps, has seen enough.
fn print(config: &StatsConfig, snapshot: &Snapshot, previous: Option<&Snapshot>) -> Result<bool> {
    print::print(|page| {
        Ok(match config.output {
            Output::Json if config.losses => Losses::of(snapshot).json(),
            Output::Json => stats::render_json(snapshot, previous),
            Output::Table if config.losses => Losses::of(snapshot).table(page.width, page.colour),
            Output::Table => stats::render_table(snapshot, previous, page.width, page.colour),
        })
    })
}
