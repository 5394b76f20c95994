//! While somebody watches: examples out of the kernel, to everybody who does. While nobody does, nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use super::Shared;
use crate::{
    event::{Event, Message, Notice, Suppressor},
    export::watch::Watchers,
};

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
        publish(&shared.watchers, || shared.probe().examples(BATCH)).await?;
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

/// Shows what has come, as far as the bound allows.
async fn publish(watchers: &Watchers, mut read: impl FnMut() -> Result<Vec<Event>>) -> Result<()> {
    for _ in 0..BATCHES {
        let batch = read()?;
        let is_last = batch.is_empty();
        batch.into_iter().for_each(|event| watchers.publish(&Message::Event(Box::new(event))));
        if is_last {
            break;
        }
        yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    /// Nobody would look whether anybody still watches, nor give way to the counters.
    #[test]
    fn what_never_ends_is_left_for_the_next_time() {
        let read = |batches_there: usize| {
            let mut reads = 0;
            let source = || {
                reads += 1;
                assert!(reads <= BATCHES, "it reads for ever");
                Ok(if reads <= batches_there { vec![example()] } else { Vec::new() })
            };
            crate::agent::runtime().unwrap().block_on(publish(&Watchers::default(), source)).unwrap();
            reads
        };
        assert_eq!((read(usize::MAX), read(2), read(0)), (BATCHES, 3, 1));
    }
}
