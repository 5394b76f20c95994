//! While somebody watches: examples out of the kernel, to everybody who does. While nobody does, nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use super::Shared;
use crate::event::{Message, Notice, Suppressor};

/// How often the kernel is asked: at once, to human eyes.
pub(crate) const EVERY: Duration = Duration::from_millis(50);
/// Examples that are described before others may have the thread.
pub(crate) const BATCH: usize = 64;

/// Batches between two looks at who still watches: what comes faster fills the ring, and the kernel says what it left out.
const BATCHES: usize = 8;

/// How often it is said how many examples the kernel did not show.
const SAY_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn show(shared: Arc<Shared>) {
    loop {
        shared.watchers.arrival().await;
        if let Err(error) = show_all(&shared).await {
            warn!("no events are shown: {error:#}");
            shared.watchers.dismiss();
        }
        if let Err(error) = shared.probe().watch(false) {
            warn!("{error:#}");
        }
    }
}

/// Until nobody watches any more.
async fn show_all(shared: &Shared) -> Result<()> {
    let mut not_shown = shared.probe().events_not_shown()?;
    shared.probe().watch(true)?;
    let mut said = Instant::now();
    // Who comes while it rests is told by the client.
    let mut state = shared.probe().state();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.watchers.is_empty() {
        ticks.tick().await;
        shared.watchers.greet();
        let before = std::mem::replace(&mut state, shared.probe().state());
        if state != before {
            shared.watchers.publish(&Notice::State { state }.into());
        }
        for _ in 0..BATCHES {
            let batch = shared.probe().examples(BATCH)?;
            let is_last = batch.is_empty();
            batch.into_iter().for_each(|event| shared.watchers.publish(&Message::Event(Box::new(event))));
            if is_last {
                break;
            }
            yield_now().await;
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let before = std::mem::replace(&mut not_shown, shared.probe().events_not_shown()?);
            if not_shown > before {
                let notice = Notice::Suppressed { by: Suppressor::Kernel, events: not_shown - before };
                shared.watchers.publish(&notice.into());
            }
        }
        shared.watchers.tidy();
    }
    Ok(())
}
