//! `lossprobe capture`: malformed frames as a capture file, while they come or those that an agent has kept. They come as
//! they do for `watch`, by the agent's unix socket or by attaching.

mod output;
mod summary;

use std::{
    future::pending,
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::{
    output::{Output, Recording},
    summary::Summary,
};
use super::{client, feed::Feed, stats::Page};
use crate::{
    agent,
    config::CaptureConfig,
    event::{Event, Message, Notice},
    record::frame::Frame,
    snapshot::State,
};

/// How often it is looked at what is due besides frames.
const TICK: Duration = Duration::from_millis(250);
/// How often a reader that does not read is looked after.
const ROOM_EVERY: Duration = Duration::from_millis(20);

/// Captures what was asked for until it is told to end.
///
/// # Errors
/// If there is no agent where one was named, if it goes away, attaching is not possible, or the capture cannot be written;
/// then what was captured before is there.
pub fn run(config: &CaptureConfig) -> Result<()> {
    // Before signals are taken: Ctrl-C ends the wait for a named pipe's reader.
    let output = config.write.as_ref().map(Output::open).transpose()?;
    agent::runtime()?.block_on(capture(config, output))
}

async fn capture(config: &CaptureConfig, output: Option<Output>) -> Result<()> {
    let mut ending = agent::Ending::of_command()?;
    let mut session = Session::new(config, output.as_ref());
    let captured = async { if config.kept { session.take_kept(output).await } else { session.follow(output).await } };
    let captured = tokio::select! {
        captured = captured => captured,
        () = ending.wait() => Ok(()),
    };
    session.end();
    captured
}

/// A capture from its beginning to its end.
struct Session<'c> {
    config: &'c CaptureConfig,
    recording: Option<Recording>,
    summary: Summary,
    line: ProgressBar,
}

impl<'c> Session<'c> {
    fn new(config: &'c CaptureConfig, output: Option<&Output>) -> Self {
        let line = ProgressBar::new_spinner();
        // What a reader of standard output shows comes to the same terminal.
        if output.is_some_and(Output::is_read_by_program) || config.kept {
            line.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise}  {wide_msg}") {
            line.set_style(style);
        }
        Self { config, recording: None, summary: Summary::default(), line }
    }

    /// What comes from now on.
    async fn follow(&mut self, output: Option<Output>) -> Result<()> {
        let mut feed = Feed::open(&self.config.origin, &self.config.selection).await?;
        self.recording = output.map(Output::begin).transpose()?;
        let time_is_up = async {
            match self.config.duration {
                Some(duration) => sleep(duration).await,
                None => pending().await,
            }
        };
        tokio::pin!(time_is_up);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.goes_on() {
            let message = tokio::select! {
                message = feed.next() => message?,
                _ = ticks.tick() => {
                    self.look_around();
                    continue;
                }
                () = &mut time_is_up => break,
            };
            match message {
                Message::Event(event) => {
                    tokio::select! {
                        () = self.room() => self.take(&event)?,
                        () = &mut time_is_up => break,
                    }
                }
                Message::Notice(Notice::Start { .. }) => self.say(&feed.describe("capturing")),
                Message::Notice(Notice::State { state }) => self.say(&describe(state)),
                Message::Notice(Notice::Suppressed { by, events }) => self.summary.leave_out(by, events),
            }
        }
        Ok(())
    }

    /// What the agent has kept, the oldest first.
    async fn take_kept(&mut self, output: Option<Output>) -> Result<()> {
        let socket = self.config.origin.socket();
        let mut evidence = client::evidence(&socket).await?;
        self.recording = output.map(Output::begin).transpose()?;
        evidence.frames.sort_by_cached_key(|event| event.time.parse::<Timestamp>().ok());
        for event in &evidence.frames {
            if self.goes_on() {
                self.room().await;
                self.take(event)?;
            }
        }
        if evidence.lost > 0 {
            let lost = evidence.lost;
            self.say(&format!("the agent could not keep {lost} frames (no room, or they could not be copied)"));
        }
        Ok(())
    }

    /// Until a frame can be written without waiting for whoever reads: signals are heard meanwhile.
    async fn room(&self) {
        while self.recording.as_ref().is_some_and(|recording| !recording.has_room()) {
            sleep(ROOM_EVERY).await;
        }
    }

    fn goes_on(&self) -> bool {
        let is_read = self.recording.as_ref().is_none_or(|recording| recording.is_read);
        is_read && self.config.count.is_none_or(|count| self.summary.frames < count)
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        if !self.config.filter.admits(event) {
            return Ok(());
        }
        if let Some(recording) = &mut self.recording {
            recording.add(&Frame::of(event).context("read a malformed frame")?)?;
            if !recording.is_read {
                return Ok(());
            }
        }
        self.summary.add(event);
        Ok(())
    }

    fn look_around(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.look_for_reader();
        }
        self.line.set_message(self.summary.line());
        self.line.tick();
    }

    /// What is not for programs.
    fn say(&self, text: &str) {
        // Whoever closed it does not want to know.
        self.line.suspend(|| {
            let _unheard = writeln!(stderr(), "{text}");
        });
    }

    fn end(self) {
        self.line.finish_and_clear();
        let width = terminal_size::terminal_size_of(stderr()).map(|(width, _)| width.0);
        let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let name = self.recording.as_ref().map(|recording| recording.name.as_str());
        let _unheard = write!(stderr(), "{}", self.summary.table(&Page { width, colour }, name));
    }
}

fn describe(state: State) -> String {
    match state {
        State::Running => "the agent counts again".to_owned(),
        state => format!("the agent is {}: nothing is captured until `lossprobe resume`", state.id()),
    }
}
