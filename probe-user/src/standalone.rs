//! `lossprobe stats`: from a running agent, else by attaching for a while.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal,
    time::{Instant, sleep_until},
};

use crate::{
    agent,
    cli::Output,
    collect::links::Watcher,
    config::{Config, DEFAULT_SOCKET, Origin, Selection, StatsConfig},
    inspect::{client, stats},
    kernel::preflight,
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
        let default = Origin::Socket(DEFAULT_SOCKET.into());
        match &config.origin {
            Origin::Any if client::fetch(&default).await.is_ok() => Ok(Self::Agent(default)),
            Origin::Any => {
                preflight::check()?;
                let own = Arc::new(Config::for_stats(&config.selection));
                let (probe, watcher) = agent::start(&config.selection, own).await?;
                Ok(Self::Own(Box::new(probe), watcher))
            }
            named => Ok(Self::Agent(named.clone())),
        }
    }

    async fn read(&mut self) -> Result<Snapshot> {
        match self {
            Self::Agent(origin) => client::fetch(origin).await,
            Self::Own(probe, _) => probe.snapshot(),
        }
    }

    /// Follows interfaces until `deadline`.
    async fn wait_until(&mut self, deadline: Instant) -> Result<()> {
        let Self::Own(probe, watcher) = self else {
            sleep_until(deadline).await;
            return Ok(());
        };
        loop {
            tokio::select! {
                () = sleep_until(deadline) => return Ok(()),
                event = watcher.next() => probe.apply(event.context("follow the interfaces")?),
            }
        }
    }
}

async fn show(config: StatsConfig) -> Result<()> {
    let mut feed = Feed::open(&config).await?;
    let shown = async {
        match config.interval {
            Some(interval) => repeat(&config, &mut feed, interval).await,
            None => once(&config, &mut feed).await,
        }
    };
    tokio::select! {
        outcome = shown => outcome,
        interrupted = signal::ctrl_c() => interrupted.context("listen for Ctrl-C"),
    }
}

async fn once(config: &StatsConfig, feed: &mut Feed) -> Result<()> {
    if matches!(feed, Feed::Own(..)) {
        eprintln!("no agent answers at {DEFAULT_SOCKET}; watching for {:?} (--for)", config.watch);
        feed.wait_until(Instant::now() + config.watch).await?;
    }
    let snapshot = select(feed.read().await?, &config.selection)?;
    print(config, &snapshot, None)
}

async fn repeat(config: &StatsConfig, feed: &mut Feed, interval: Duration) -> Result<()> {
    let mut previous = select(feed.read().await?, &config.selection)?;
    let mut next = Instant::now();
    loop {
        next += interval;
        feed.wait_until(next).await?;
        let snapshot = select(feed.read().await?, &config.selection)?;
        print(config, &snapshot, Some(&previous))?;
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

fn print(config: &StatsConfig, snapshot: &Snapshot, previous: Option<&Snapshot>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match config.output {
        Output::Json => stats::render_json(snapshot, previous),
        Output::Table => {
            let terminal = out.is_terminal();
            let colour = terminal && std::env::var_os("NO_COLOR").is_none();
            stats::render_table(snapshot, previous, stats::terminal_width(), colour)
        }
    };
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // The reader, `head` perhaps, has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.context("write to standard output"),
    }
}
