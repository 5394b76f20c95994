//! Who watches: each gets the agent's examples through a queue of its own. What does not fit is counted and told in the
//! stream; nobody who reads slowly, or not at all, holds the agent up.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::{
    Notify,
    mpsc::{Receiver, Sender, channel, error::TrySendError},
};

use crate::event::{Message, Notice, SCHEMA, Suppressor};

/// Most that watch at a time.
const MOST: usize = 8;
/// Lines that wait for one of them: some 100 KiB, of frames with a wrong checksum up to 600.
const QUEUE: usize = 128;

/// Everybody who watches.
#[derive(Debug, Default)]
pub struct Watchers {
    open: Mutex<Open>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Open {
    watchers: Vec<Watcher>,
    /// The agent ends: nobody comes any more.
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    lines: Sender<Bytes>,
    /// Has been told that events are shown now.
    greeted: bool,
    /// Events that found no room since the last word about it.
    lost: u64,
}

impl Watchers {
    /// One more.
    ///
    /// # Errors
    /// With the reason, one line for a human, where there are too many.
    pub fn subscribe(&self) -> Result<Lines, String> {
        let mut open = self.open();
        open.watchers.retain(|watcher| !watcher.lines.is_closed());
        if open.closed {
            return Err("the agent is ending".to_owned());
        }
        if open.watchers.len() >= MOST {
            return Err(format!("{MOST} watch already, and that is the most"));
        }
        let (lines, receiver) = channel(QUEUE);
        open.watchers.push(Watcher { lines, greeted: false, lost: 0 });
        self.arrived.notify_one();
        Ok(Lines(receiver))
    }

    /// Until somebody has come.
    pub async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Whether nobody watches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open().watchers.is_empty()
    }

    /// Tells those who have come that events are shown from now on.
    pub fn greet(&self) {
        let start = line(&Notice::Start { schema: SCHEMA }.into());
        for watcher in self.open().watchers.iter_mut().filter(|watcher| !watcher.greeted) {
            // Its queue is empty.
            let _gone = watcher.lines.try_send(start.clone());
            watcher.greeted = true;
        }
    }

    /// Shows it to everybody who has room for it.
    pub fn publish(&self, message: &Message) {
        let line = line(message);
        for watcher in self.open().watchers.iter_mut().filter(|watcher| watcher.greeted) {
            watcher.tell_lost();
            if matches!(watcher.lines.try_send(line.clone()), Err(TrySendError::Full(_))) {
                watcher.lost += 1;
            }
        }
    }

    /// Forgets who has gone, and tells the others what they have not been shown.
    pub fn tidy(&self) {
        let mut open = self.open();
        open.watchers.retain(|watcher| !watcher.lines.is_closed());
        open.watchers.iter_mut().for_each(Watcher::tell_lost);
    }

    /// Ends all streams; others may come.
    pub fn dismiss(&self) {
        self.open().watchers.clear();
    }

    /// Ends all streams.
    pub fn close(&self) {
        *self.open() = Open { watchers: Vec::new(), closed: true };
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    fn tell_lost(&mut self) {
        let notice = Notice::Suppressed { by: Suppressor::Agent, events: self.lost };
        if self.lost > 0 && self.lines.try_send(line(&notice.into())).is_ok() {
            self.lost = 0;
        }
    }
}

fn line(message: &Message) -> Bytes {
    Bytes::from(message.to_line())
}

/// One watcher's lines: the body of its answer, which ends with the agent.
#[derive(Debug)]
pub struct Lines(Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|line| Ok(Frame::data(line))))
    }
}

/// A mark on a connection whose answer has no end: its time is never up.
#[derive(Clone, Debug, Default)]
pub(super) struct Endless(Arc<AtomicBool>);

impl Endless {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &mut Lines) -> Option<String> {
        lines.0.try_recv().ok().map(|line| String::from_utf8(line.to_vec()).unwrap())
    }

    fn some_event() -> Message {
        Message::Event(Box::new(crate::event::tests::example()))
    }

    #[test]
    fn everybody_is_shown_what_happens_after_the_greeting() {
        let watchers = Watchers::default();
        assert!(watchers.is_empty());
        let mut early = watchers.subscribe().unwrap();
        watchers.greet();
        let mut late = watchers.subscribe().unwrap();
        watchers.publish(&some_event());
        watchers.greet();
        let mut two = || text(&mut early).unwrap_or_default();
        assert!(two().contains("start") && two().contains("netfilter_drop") && two().is_empty());
        assert!(text(&mut late).unwrap().contains("start"));
        assert_eq!(text(&mut late), None);
    }

    #[test]
    fn who_does_not_read_loses_and_is_told() {
        let watchers = Watchers::default();
        let (mut slow, mut quick) = (watchers.subscribe().unwrap(), watchers.subscribe().unwrap());
        watchers.greet();
        let mut read = 0;
        for _ in 0..QUEUE + 99 {
            watchers.publish(&some_event());
            while text(&mut quick).is_some() {
                read += 1;
            }
        }
        assert_eq!(read, 1 + QUEUE + 99);
        for _ in 0..QUEUE {
            assert!(!text(&mut slow).unwrap().contains("suppressed"));
        }
        assert_eq!(text(&mut slow), None);
        watchers.tidy();
        // The greeting took a place, too.
        assert_eq!(text(&mut slow).unwrap().trim_end(), r#"{"type":"suppressed","by":"agent","events":100}"#);
    }

    #[test]
    fn there_is_room_for_so_many_and_for_nobody_at_the_end() {
        let watchers = Watchers::default();
        let mut all: Vec<_> = (0..MOST).map(|_| watchers.subscribe().unwrap()).collect();
        assert!(watchers.subscribe().unwrap_err().contains("8 watch already"));
        all.pop();
        all.push(watchers.subscribe().unwrap());
        watchers.close();
        assert!(watchers.is_empty());
        assert!(all.iter_mut().all(|lines| lines.0.try_recv().is_err()));
        assert!(watchers.subscribe().unwrap_err().contains("ending"));
    }
}
