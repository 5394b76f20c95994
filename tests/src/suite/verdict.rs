//! What detectors and judge say of a node on which something goes wrong, over many causes, losses and amounts of traffic: how
//! soon, whether it is right, and how often they are alarmed for nothing.
//!
//! Three things can come of a run: right, wrong, or nobody is named (`abstained`). None of a thousand may be wrong; right they
//! must be only above a floor.

mod table;

use std::{panic::resume_unwind, thread, time::Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use probe_user::derive;
use tests::{
    run::{is_full, trial},
    simulation::{BASELINES, CAUSES, Calm, Card, Cause, Loss, Score, Setting, Warm, calm},
};

pub(crate) use self::table::tables;

/// Losses, in thousandths.
const LOSSES: [u64; 5] = [3, 10, 30, 100, 200];
/// Segments a second, each way.
const TRAFFIC: [u64; 4] = [100, 500, 2_000, 20_000];
/// From here on it must be found and judged.
const FLOOR: (u64, u64) = (10, 500);

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("verdict::scenarios", scenarios), trial("verdict::calm", calm_weeks)]
}

fn causes() -> impl Iterator<Item = &'static Cause> {
    CAUSES.iter().flat_map(|causes| causes.iter())
}

fn is_above_floor(loss: u64, segments: u64) -> bool {
    loss >= FLOOR.0 && segments >= FLOOR.1
}

/// Every cause, loss and traffic, on every baseline; one kind of card after the other.
fn scenarios() -> Result<()> {
    let seeds = if is_full() { 12 } else { 1 };
    let settings: Vec<(u64, Setting)> = (0..seeds)
        .flat_map(|seed| TRAFFIC.into_iter().zip(0..).map(move |(segments, at)| (seed, segments, at)))
        .flat_map(|(seed, segments, at)| {
            BASELINES.into_iter().zip(0..).map(move |(usual, number)| {
                let card = Card::ALL[(seed as usize + at + number) % Card::ALL.len()];
                let own = (seed * 100 + at as u64) * 100 + number as u64;
                (segments, Setting { card, usual, segments: segments as f64, seed: own })
            })
        })
        .collect();
    let (started, mut score) = (Instant::now(), Score::default());
    let parts = if is_full() { 2 } else { 1 };
    thread::scope(|scope| {
        let settings = &settings;
        let one = move |part: usize| play(settings.iter().skip(part).step_by(parts));
        let running: Vec<_> = (0..parts).map(|part| scope.spawn(move || one(part))).collect();
        for thread in running {
            score.join(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    table::note_scenarios(&score, started.elapsed());
    judge(&score)
}

fn play<'s>(settings: impl Iterator<Item = &'s (u64, Setting)>) -> Score {
    let mut score = Score::default();
    for (segments, setting) in settings {
        let warm = Warm::new(*setting);
        for (cause, number) in causes().zip(0_u64..).filter(|(cause, _)| cause.cards.contains(&setting.card)) {
            for loss in LOSSES {
                let seed = (setting.seed * 100 + number) * 1_000 + loss;
                let outcome = warm.play(cause, Loss::single(loss as f64 / 1e3), seed);
                if !cause.is_innocent() && is_above_floor(loss, *segments) {
                    let kind = (setting.usual.to_string(), loss, *segments);
                    score.usual.entry(kind).or_default().add(cause, &outcome);
                }
                score.add(cause, (loss, *segments), &outcome, || {
                    format!("{} ‰ of {segments}/s, {:?}, usual {}, seed {seed}", loss, setting.card, setting.usual)
                });
            }
        }
    }
    score
}

fn judge(score: &Score) -> Result<()> {
    let all = score.of(|_, _, _| true);
    // None of a thousand; of a hundred thousand, that few.
    let few = is_full() && derive::Share::of(all.wrong, all.runs).is_some_and(|wrong| wrong.upper < 1e-3);
    ensure!(all.wrong == 0 || few, "{} of {} runs are wrong:\n{}", all.wrong, all.runs, score.wrong.join("\n"));
    let guilty = |name: &str| causes().any(|cause| cause.name == name && !cause.is_innocent());
    let floor = score.of(|name, loss, segments| guilty(name) && is_above_floor(loss, segments));
    let right = floor.right as f64 / floor.runs as f64;
    ensure!(right >= 0.97, "above the floor only {right:.3} are right");
    let late = floor.detected_s(0.95);
    ensure!(late.is_some_and(|seconds| seconds <= 10), "above the floor 95 % are alarmed within {late:?} s");
    Ok(())
}

/// Ordinary weeks on every baseline.
fn calm_weeks() -> Result<()> {
    const WEEK_S: u64 = 604_800;
    let seconds = if is_full() { 2 * WEEK_S } else { WEEK_S / 200 };
    let (started, mut rows) = (Instant::now(), Vec::new());
    let parts = if is_full() { 2 } else { 1 };
    let settings: Vec<Setting> = TRAFFIC
        .into_iter()
        .flat_map(|segments| BASELINES.map(|usual| (segments, usual)))
        .zip(0_u64..)
        .map(|((segments, usual), seed)| Setting { card: Card::Physical, usual, segments: segments as f64, seed })
        .collect();
    thread::scope(|scope| {
        let settings = &settings;
        let one = move |part: usize| -> Vec<(Setting, Calm)> {
            settings.iter().skip(part).step_by(parts).map(|setting| (*setting, calm(*setting, seconds))).collect()
        };
        let running: Vec<_> = (0..parts).map(|part| scope.spawn(move || one(part))).collect();
        for thread in running {
            rows.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    table::note_calm(&rows, started.elapsed());
    let mut all = Calm::default();
    rows.iter().for_each(|(_, calm)| all.add(*calm));
    ensure!(all.weekly() < 1.0, "{} false alarms in {} s", all.alarms, all.seconds);
    // Two weeks of one row are too few to say: one false alarm would be half of what is allowed.
    for usual in BASELINES.map(|usual| usual.to_string()) {
        let mut on_it = Calm::default();
        rows.iter().filter(|(setting, _)| setting.usual.to_string() == usual).for_each(|(_, calm)| on_it.add(*calm));
        ensure!(!is_full() || on_it.weekly() < 1.0, "{usual}: {:.1} false alarms a week", on_it.weekly());
    }
    Ok(())
}
