//! Tells incidents: each change is a line of the log, and a request to the one receiver that is configured, if any.
//!
//! Requests are made by a thread of their own, which may wait; whoever tells never does. The thread must be started when
//! privileges have been given up, so that it never had them ([`confine`](crate::kernel::privilege::confine)). What cannot be
//! delivered is tried again until it is taken, refused, or the oldest of too many. Absent on purpose: redirects and the
//! environment's proxies (a token goes where it was sent, or nowhere), and files: an agent that restarts tells what
//! is still open anew.

mod alerts;
mod queue;
mod sender;
mod told;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use self::{
    queue::Queue,
    sender::Sender,
    told::{Severity, Told, change, said, word},
};
use crate::{
    config::PushConfig,
    detect::incident::{Incident, What},
    record::redact::redacted,
};

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one request, from the host's name to the answer.
    pub attempt: Duration,
    /// Before the second attempt; doubled for each further one.
    pub first_pause: Duration,
    /// Between attempts at most.
    pub longest_pause: Duration,
    /// Between alerts that hold: whoever repeats them says that they do.
    pub repeat: Duration,
    /// For an alert that has no verdict yet: by then there is one, or there will be none.
    pub unjudged: Duration,
    /// At the end, for what has not been delivered.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(10),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            repeat: Duration::from_secs(60),
            unjudged: Duration::from_secs(30),
            farewell: Duration::from_secs(2),
        }
    }
}

/// What became of what was told to the receiver, as counters.
#[derive(Debug, Default)]
struct Results {
    delivered: AtomicU64,
    rejected: AtomicU64,
    dropped: AtomicU64,
    retried: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Tells incidents.
#[derive(Debug)]
pub struct Push {
    redact: bool,
    /// `None`: to the log only.
    queue: Option<Arc<Queue>>,
    farewell: Duration,
}

impl Push {
    /// Reads the files that are named, and starts the thread where there is a receiver.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be, or the kernel has no thread to give.
    pub fn start(config: &PushConfig) -> Result<Self> {
        Self::start_within(Patience::default(), config)
    }

    /// [`Self::start`] with a patience of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_within(patience: Patience, config: &PushConfig) -> Result<Self> {
        let queue = config.receiver.as_ref().map(|receiver| {
            let queue = Arc::new(Queue::default());
            let sender = Sender::new(receiver, config.redact, patience, Arc::clone(&queue))?;
            let thread = thread::Builder::new().name("push".to_owned());
            thread.spawn(|| sender.run()).context("start the thread that tells incidents")?;
            Ok::<_, anyhow::Error>(queue)
        });
        Ok(Self { redact: config.redact, queue: queue.transpose()?, farewell: patience.farewell })
    }

    /// Says that `what` has changed of `incident`, which is as it is now. Never waits.
    pub fn tell(&self, incident: &Incident, what: What) {
        let severity = Severity::of(incident);
        log(incident, what, severity, self.redact);
        if let Some(queue) = &self.queue {
            queue.put(Told::now(incident, what, severity));
        }
    }

    /// Changes by what became of them: `delivered`, `rejected` (the receiver does not want them), `dropped` (no room for so
    /// many); and `retried`, attempts that have failed and were followed by another. `None` where nobody is told.
    #[must_use]
    pub fn counts(&self) -> Option<[(&'static str, u64); 4]> {
        let Results { delivered, rejected, dropped, retried } = &self.queue.as_ref()?.results;
        let all = [("delivered", delivered), ("rejected", rejected), ("dropped", dropped), ("retried", retried)];
        Some(all.map(|(result, counter)| (result, counter.load(Ordering::Relaxed))))
    }

    /// Gives what is waiting a last chance. Waits for it, 2 s at most.
    pub fn close(&self) {
        let left = self.queue.as_ref().map(|queue| queue.close(self.farewell));
        if let Some(left) = left.filter(|left| *left > 0) {
            warn!(changes = left, "the end has come before incidents could be told");
        }
    }
}

/// One line, for the journal or whoever reads the log. What is far away and malformed is no reason to worry.
fn log(incident: &Incident, what: What, severity: Severity, redact: bool) {
    let (verdict, sentence) = said(incident);
    let sentence = if redact { redacted(sentence) } else { sentence.to_owned() };
    let (what, state) = (change(what), word(&incident.state));
    let (party, verdict) = (word(&incident.party), verdict.id());
    let (affected, severity_id) = (incident.affected.join(","), severity.id());
    macro_rules! line {
        ($level:ident) => {
            $level!(
                event = "incident",
                change = what,
                id = incident.id,
                state,
                party,
                verdict,
                severity = severity_id,
                onset = incident.onset,
                affected,
                peak_ratio = incident.peak.ratio,
                "{sentence}"
            )
        };
    }
    match severity {
        Severity::Info => line!(info),
        Severity::Warning | Severity::Critical => line!(warn),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Mutex, PoisonError},
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::detect::{
        incident::{Party, State},
        verdict::Name,
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(push: &Push, incident: &Incident, what: What) -> Value {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || push.tell(incident, what));
        let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::from_slice(&bytes).expect("one line")
    }

    #[test]
    fn every_change_is_a_line_of_the_log() {
        let push = |redact| Push::start(&PushConfig { receiver: None, redact }).expect("no file, no thread");
        let mut incident = Incident { id: "i1".to_owned(), state: State::Active, ..Incident::default() };
        incident.affected = vec!["eth0".to_owned(), "eth1".to_owned()];
        let opened = logged(&push(false), &incident, What::Opened);
        assert_eq!(
            (&opened["level"], &opened["fields"]["message"]),
            (&json!("WARN"), &json!("More is lost than usual; there is no verdict yet."))
        );
        for (field, expected) in [
            ("event", "incident"),
            ("change", "opened"),
            ("id", "i1"),
            ("state", "active"),
            ("party", "network"),
            ("verdict", "none"),
            ("severity", "critical"),
            ("affected", "eth0,eth1"),
        ] {
            assert_eq!(opened["fields"][field], expected, "{field}");
        }
        incident.party = Party::Remote;
        incident.statement.sentence = "192.0.2.7 is broken.".to_owned();
        let judged = logged(&push(false), &incident, What::Judged);
        assert_eq!((&judged["level"], &judged["fields"]["message"]), (&json!("INFO"), &json!("192.0.2.7 is broken.")));
        assert_eq!(logged(&push(true), &incident, What::Judged)["fields"]["message"], "[redacted] is broken.");
    }

    #[test]
    fn what_is_taken_back_is_logged() {
        let push = Push::start(&PushConfig::default()).expect("no file, no thread");
        let taken_back = logged(&push, &told::tests::taken_back(), What::Verdict(Name::Unknown));
        let fields = &taken_back["fields"];
        assert_eq!((&fields["verdict"], &fields["message"]), (&json!("unknown"), &json!("It cannot be told.")));
    }

    #[test]
    fn nobody_told_is_nothing_counted() {
        let push = Push::start(&PushConfig::default()).expect("no file, no thread");
        assert_eq!(push.counts(), None);
        push.close();
    }
}
