//! `lossprobe watch`: losses while they happen, one line each; from a running agent's unix socket, else by attaching.

mod limit;
mod line;
mod reasons;

use std::{
    io::{ErrorKind, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::{limit::Limit, line::Page};
use super::{feed::Feed, pipe};
use crate::{
    agent,
    cli::Lines,
    config::WatchConfig,
    event::{Message, Notice},
};

/// How often it is looked at what is due besides events.
const TICK: std::time::Duration = std::time::Duration::from_millis(250);

/// Shows what was asked for until it is told to end.
///
/// # Errors
/// If a reason is none, if there is no agent where one was named, if it goes away, or attaching is not possible.
pub fn run(config: &WatchConfig) -> Result<()> {
    reasons::check(&config.filter)?;
    agent::runtime()?.block_on(show(config))
}

async fn show(config: &WatchConfig) -> Result<()> {
    let mut ending = agent::Ending::of_command()?;
    let mut out = Out::new(config.output);
    let mut limit = Limit::new(config.rate, std::time::Instant::now());
    let mut left = config.count;
    let end = config.duration.map(|duration| Instant::now() + duration);
    let time_is_up = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_up);
    let mut feed = tokio::select! {
        feed = Feed::open(&config.origin, &config.selection) => feed?,
        () = ending.wait() => return Ok(()),
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while out.is_read && left != Some(0) {
        let message = tokio::select! {
            message = feed.next() => message?,
            _ = ticks.tick() => {
                out.look_for_reader();
                out.notices(limit.due(std::time::Instant::now()))?;
                continue;
            }
            () = &mut time_is_up => break,
            () = ending.wait() => break,
        };
        match message {
            Message::Event(event) if !config.filter.admits(&event) => {}
            Message::Event(event) => {
                let now = std::time::Instant::now();
                out.notices(limit.due(now))?;
                if limit.allows() {
                    out.show(&Message::Event(event))?;
                    left = left.map(|left| left - 1);
                }
            }
            Message::Notice(Notice::Start { .. }) => out.say(&feed.describe("watching")),
            Message::Notice(Notice::State { .. }) => {
                out.notices(limit.due(std::time::Instant::now()))?;
                out.show(&message)?;
            }
            Message::Notice(Notice::Suppressed { by, events }) => limit.add(by, events),
        }
    }
    out.notices(limit.rest())
}

/// Standard output.
struct Out {
    form: Lines,
    page: Page,
    /// Whoever reads it has not seen enough.
    is_read: bool,
}

impl Out {
    fn new(form: Lines) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { form, page: Page { colour }, is_read: true }
    }

    fn show(&mut self, message: &Message) -> Result<()> {
        let line = match self.form {
            Lines::Json => message.to_line(),
            Lines::Text => self.page.line(message) + "\n",
        };
        let mut out = std::io::stdout().lock();
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(())
            }
            outcome => outcome.context("write to standard output"),
        }
    }

    fn notices(&mut self, notices: Vec<Notice>) -> Result<()> {
        notices.into_iter().try_for_each(|notice| self.show(&notice.into()))
    }

    /// What is not for programs.
    fn say(&self, text: &str) {
        // Whoever closed it does not want to know.
        let _unheard = writeln!(std::io::stderr(), "{text}");
    }

    fn look_for_reader(&mut self) {
        self.is_read &= pipe::has_reader(std::io::stdout().as_fd());
    }
}
