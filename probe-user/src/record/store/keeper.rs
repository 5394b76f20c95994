//! A thread that writes incidents down, so that a disk that is slow, hangs or is full holds up no counting.

use std::{
    collections::BTreeMap,
    mem::take,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use super::Store;
use crate::detect::{alarm::Learned, incident::Incident, objective::Month};

/// Incidents that wait to be written; of more the oldest go.
const MOST_WAITING: usize = 64;
/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long an agent that ends waits for its disk.
const FAREWELL: Duration = Duration::from_secs(2);

/// Writes to a [`Store`], of each incident what was said last.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    waiting: Waiting,
    /// Nothing more will come.
    is_ending: bool,
    /// All is written, or was given up, and the thread is gone.
    is_over: bool,
    failed: u64,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Waiting {
    incidents: BTreeMap<String, Incident>,
    month: Option<Month>,
    learned: Option<Learned>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.incidents.is_empty() && self.month.is_none() && self.learned.is_none()
    }
}

impl Keeper {
    /// Begins to write. The thread has the privileges that this one has now.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn start(store: Store) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let started = thread::Builder::new().name("keeper".to_owned()).spawn(move || theirs.run(store));
        started.context("start the thread that writes incidents down")?;
        Ok(Self { shared })
    }

    /// Has an incident written as it is now.
    pub fn keep(&self, incident: &Incident) {
        let mut work = self.shared.lock();
        work.waiting.incidents.insert(incident.id.clone(), incident.clone());
        while work.waiting.incidents.len() > MOST_WAITING {
            work.waiting.incidents.pop_first();
            work.failed += 1;
        }
        self.shared.changed.notify_all();
    }

    /// Has written what of the objective is used.
    pub fn keep_month(&self, month: &Month) {
        self.shared.lock().waiting.month = Some(month.clone());
        self.shared.changed.notify_all();
    }

    /// Has written what is usual.
    pub fn keep_learned(&self, learned: Learned) {
        self.shared.lock().waiting.learned = Some(learned);
        self.shared.changed.notify_all();
    }

    /// How often something could not be written.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.lock().failed
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut work = self.shared.lock();
        work.is_ending = true;
        self.shared.changed.notify_all();
        // A disk that hangs keeps no agent from ending: the thread ends with the process.
        let waited = self.shared.changed.wait_timeout_while(work, FAREWELL, |work| !work.is_over);
        let (work, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !work.is_over || !work.waiting.is_empty() {
            warn!("the disk has not taken all that was to be written to the state folder: what was there before stays");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut store: Store) {
        let mut was_told = false;
        loop {
            let waiting = {
                let idle = |work: &mut Work| work.waiting.is_empty() && !work.is_ending;
                let mut work = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
                if work.waiting.is_empty() {
                    break;
                }
                take(&mut work.waiting)
            };
            let outcome = self.write(&mut store, waiting);
            match &outcome {
                Ok(()) if take(&mut was_told) => info!("incidents are written to the state folder again"),
                Err(error) if !was_told => {
                    warn!("an incident is kept in memory only, and tried again every {RETRY:?}: {error:#}");
                    was_told = true;
                }
                _ => {}
            }
            if outcome.is_err() {
                let (work, _) = self
                    .changed
                    .wait_timeout_while(self.lock(), RETRY, |work| !work.is_ending)
                    .unwrap_or_else(PoisonError::into_inner);
                if work.is_ending {
                    break;
                }
            }
        }
        drop(store);
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Writes what is there. What fails waits again, unless there is later news of it.
    fn write(&self, store: &mut Store, waiting: Waiting) -> Result<()> {
        let Waiting { incidents, month, learned } = waiting;
        let mut outcome = Ok(());
        for (id, incident) in incidents {
            if let Err(error) = store.keep(&incident) {
                let mut work = self.lock();
                work.failed += 1;
                work.waiting.incidents.entry(id).or_insert(incident);
                outcome = Err(error);
            }
        }
        if let Some(month) = month
            && let Err(error) = store.keep_month(&month)
        {
            let mut work = self.lock();
            work.failed += 1;
            work.waiting.month.get_or_insert(month);
            outcome = Err(error);
        }
        if let Some(learned) = learned
            && let Err(error) = store.keep_learned(&learned)
        {
            let mut work = self.lock();
            work.failed += 1;
            work.waiting.learned.get_or_insert(learned);
            outcome = Err(error);
        }
        outcome
    }
}
