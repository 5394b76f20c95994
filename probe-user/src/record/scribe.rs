//! Writes bundles on a thread of its own: a disk that is slow, full or gone holds up no counting. Where a bundle is being written
//! and others wait, a further one is refused, to be offered again a second later; memory is bounded by what waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use super::bundle::{Bundles, Case};

/// Bundles that wait to be written. A case holds its incident, evidence of a megabyte or two, and the recorder's steps.
const WAITING: usize = 2;
/// How long an agent that ends waits for what is being written.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the thread has to say and nobody has heard yet.
const UNHEARD: usize = 256;

/// The thread.
#[derive(Debug)]
pub struct Scribe {
    /// `None` when it is to end.
    cases: Option<SyncSender<Box<Case>>>,
    /// How many are in there.
    waiting: Arc<AtomicUsize>,
    written: Receiver<Written>,
    thread: JoinHandle<()>,
}

/// What became of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The incident's.
    pub id: String,
    /// Its folder, or why there is none, in words.
    pub outcome: Result<String, String>,
}

impl Scribe {
    /// Starts it. May be called before or after privileges are dropped: it needs none, and inherits those of its caller.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn start(mut bundles: Bundles) -> Result<Self> {
        let (cases, to_write) = sync_channel::<Box<Case>>(WAITING);
        let (tell, written) = sync_channel(UNHEARD);
        let waiting = Arc::new(AtomicUsize::new(0));
        let still_waiting = Arc::clone(&waiting);
        let write = move || {
            let mut is_failing = false;
            for case in to_write {
                still_waiting.fetch_sub(1, Ordering::Relaxed);
                let id = case.incident.id.clone();
                let outcome = bundles.write(&case).map(|folder| folder.display().to_string());
                let outcome = outcome.map_err(|error| format!("{error:#}"));
                // A disk that stays full is said once.
                match &outcome {
                    Ok(folder) if is_failing => info!(incident = id, "bundles are written again: {folder}"),
                    Err(cause) if !is_failing => {
                        warn!(incident = id, "no bundle is written: {cause}; counting goes on");
                    }
                    Ok(_) | Err(_) => {}
                }
                is_failing = outcome.is_err();
                // Whoever does not listen does not want to know.
                let _unheard = tell.try_send(Written { id, outcome });
            }
        };
        let thread =
            thread::Builder::new().name("bundles".to_owned()).spawn(write).context("start a thread for bundles")?;
        Ok(Self { cases: Some(cases), waiting, written, thread })
    }

    /// Whether a case would be taken now: one is a copy of all that is recorded, not to be made in vain.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < WAITING
    }

    /// Hands a case over, without waiting. Returns whether it is taken; else others are waiting, and it may be offered again.
    #[must_use]
    pub fn offer(&self, case: Case) -> bool {
        let Some(cases) = &self.cases else { return false };
        // Before it can be taken out.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_taken = match cases.try_send(Box::new(case)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        if !is_taken {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// What was written, or was not, since this was asked last.
    pub fn written(&self) -> impl Iterator<Item = Written> {
        self.written.try_iter()
    }
}

impl Drop for Scribe {
    /// What was taken is written before the agent ends, if the disk takes it: half a bundle is none, and does no harm.
    fn drop(&mut self) {
        self.cases = None;
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        if !self.thread.is_finished() {
            warn!("the disk has not taken a bundle within {PATIENCE:?}: what was written of it before stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::bundle::tests::{Scratch, case};

    #[test]
    fn what_is_taken_is_written() {
        let scratch = Scratch::new("scribe");
        let scribe = Scribe::start(scratch.bundles()).unwrap();
        assert!(scribe.offer(case("1")) && scribe.offer(case("2")));
        drop(scribe);
        assert_eq!(scratch.names(), ["1", "2"]);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let scratch = Scratch::new("scribe-room");
        let scribe = Scribe::start(scratch.bundles()).unwrap();
        assert!(scribe.has_room());
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let has_room = scribe.has_room();
            let is_taken = scribe.offer(case("1"));
            assert!(is_taken || !has_room, "one was made in vain");
            if !is_taken {
                break;
            }
            assert!(Instant::now() < end, "the disk is faster than cases are made");
        }
    }

    #[test]
    fn a_disk_that_takes_nothing_holds_nobody_up() {
        let scratch = Scratch::new("scribe-full");
        let bundles = scratch.bundles();
        std::fs::remove_dir_all(&scratch.path).unwrap();
        std::fs::write(&scratch.path, "no folder").unwrap();
        let scribe = Scribe::start(bundles).unwrap();
        let (mut failed, end) = (0, Instant::now() + Duration::from_secs(10));
        let mut taken = u32::from(scribe.offer(case("1")));
        while failed < 3 && Instant::now() < end {
            failed += scribe.written().filter(|written| written.outcome.is_err()).count();
            taken += u32::from(failed as u32 == taken && scribe.offer(case("1")));
            thread::yield_now();
        }
        assert_eq!((failed, taken >= 3), (3, true));
    }
}
