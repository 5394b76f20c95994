//! Where events come from: a running agent's stream, or programs of our own until there is one.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use crate::{
    agent,
    collect::links::Watcher,
    config::{Config, DEFAULT_SOCKET, Origin, Selection, UnknownInterface},
    event::{Message, Notice, SCHEMA, Suppressor},
    inspect::{
        client::{self, FetchError, Stream},
        stats::printable,
    },
    kernel::preflight,
    probe::Probe,
    snapshot::State,
};

/// Where events come from.
pub(super) enum Feed {
    Agent { stream: Stream, socket: String },
    Own(Box<Own>),
}

impl Feed {
    pub(super) async fn open(origin: &Origin, selection: &Selection) -> Result<Self> {
        let socket = origin.socket();
        match client::watch(&socket).await {
            Err(FetchError::NoAgent { .. }) if *origin == Origin::Any => {
                Ok(Self::Own(Box::new(Own::start(selection).await?)))
            }
            stream => {
                let stream = stream?;
                warn_of_silence(selection, &socket).await?;
                Ok(Self::Agent { stream, socket: socket.display().to_string() })
            }
        }
    }

    /// The next message. Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Message> {
        loop {
            match self {
                Self::Agent { stream, socket } => {
                    let message = stream.next().await.with_context(|| format!("watch the agent on {socket}"))?;
                    return message.with_context(|| format!("the agent on {socket} has ended"));
                }
                Self::Own(own) => {
                    if let Some(message) = own.next().await? {
                        return Ok(message);
                    }
                    // It may be of another network namespace, and sees what we do not.
                    if let Ok(stream) = client::watch(Path::new(DEFAULT_SOCKET)).await {
                        *self = Self::Agent { stream, socket: DEFAULT_SOCKET.to_owned() };
                    }
                }
            }
        }
    }

    /// What is said when events begin to come: `doing` it, and how.
    pub(super) fn describe(&self, doing: &str) -> String {
        match self {
            Self::Agent { socket, .. } => format!("{doing} by the agent on {socket}; Ctrl-C ends"),
            Self::Own(_) => format!("no agent answers at {DEFAULT_SOCKET}; attached, {doing}; Ctrl-C ends"),
        }
    }
}

/// Says why nothing may be shown for ever: an agent that counts nothing, a name that no interface has. The one may count
/// again and the other appear, so neither is an error.
async fn warn_of_silence(selection: &Selection, socket: &Path) -> Result<()> {
    let snapshot = client::fetch(Some(socket), None).await?;
    if snapshot.state != State::Running {
        warn!("the agent is {}: nothing is shown until `lossprobe resume`", snapshot.state.id());
    }
    let names: Vec<String> = snapshot.interfaces.into_iter().map(|interface| interface.name).collect();
    match selection.check_against(&names) {
        Ok(unmatched) => {
            unmatched.iter().for_each(|glob| warn!("the agent counts no interface that matches {glob} yet"));
        }
        Err(UnknownInterface { interface, .. }) => {
            let counted = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            warn!(
                "the agent has no hooks on interface `{}`: malformed frames of it are never shown, only drops and \
                 retransmits; start the agent with `--interface` for it too (it counts: {})",
                printable(&interface),
                printable(&counted)
            );
        }
    }
    Ok(())
}

/// Programs of our own.
pub(super) struct Own {
    probe: Probe,
    links: Watcher,
    beats: Interval,
    reads: Interval,
    waiting: VecDeque<Message>,
    not_shown: u64,
}

impl Own {
    async fn start(selection: &Selection) -> Result<Self> {
        preflight::check()?;
        let (mut probe, links) = agent::start(Arc::new(Config::for_stats(selection))).await?;
        let not_shown = probe.events_not_shown()?;
        probe.watch(true)?;
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        Ok(Self {
            probe,
            links,
            beats: every(Duration::from_secs(1)),
            reads: every(agent::examples::EVERY),
            waiting: [Notice::Start { schema: SCHEMA }.into()].into(),
            not_shown,
        })
    }

    /// `None` once a second.
    async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(Some(message));
            }
            tokio::select! {
                _ = self.beats.tick() => {
                    self.probe.beat()?;
                    return Ok(None);
                }
                event = self.links.next() => self.probe.apply(event.context("follow the interfaces")?),
                _ = self.reads.tick() => self.read()?,
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let events = self.probe.examples(agent::examples::BATCH)?;
        self.waiting.extend(events.into_iter().map(|event| Message::Event(Box::new(event))));
        let before = std::mem::replace(&mut self.not_shown, self.probe.events_not_shown()?);
        if self.not_shown > before {
            let notice = Notice::Suppressed { by: Suppressor::Kernel, events: self.not_shown - before };
            self.waiting.push_back(notice.into());
        }
        Ok(())
    }
}
