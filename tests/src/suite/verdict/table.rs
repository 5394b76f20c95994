//! The tables: how soon and how right, what was said, false alarms.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use probe_user::detect::verdict::Name;
use tests::simulation::{BASELINES, Calm, Cell, Score, Setting};

use super::{FLOOR, LOSSES, TRAFFIC, causes, is_above_floor};
use crate::suite::tables::Ledger;

static CAUSES: Ledger<10> = Ledger::new(
    [
        "cause (at the floor or above)",
        "runs",
        "right",
        "abstained",
        "wrong",
        "alarm p50",
        "p95",
        "right p50",
        "p95",
        "held",
    ],
    &[1, 2, 3, 4, 5, 6, 7, 8, 9],
);
static CELLS: Ledger<9> = Ledger::new(
    ["lost", "segments/s", "runs", "right", "abstained", "wrong", "alarm p50", "p95", "right p95"],
    &[0, 1, 2, 3, 4, 5, 6, 7, 8],
);
static USUAL: Ledger<11> = Ledger::new(
    [
        "usually lost (at the floor or above)",
        "runs",
        "right",
        "abstained",
        "wrong",
        "alarm p50",
        "p95",
        "right p95",
        "at the floor: right",
        "alarm p95",
        "right p95",
    ],
    &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
);
static SAID: Ledger<2> = Ledger::new(["cause (everywhere)", "said for the longest time, runs"], &[]);
static WEEKS: Ledger<7> = Ledger::new(
    ["usually lost", "segments/s", "weeks", "false alarms", "a week", "accusations", "the first"],
    &[1, 2, 3, 4, 5],
);
static NOTES: Mutex<String> = Mutex::new(String::new());

pub(crate) fn tables() -> String {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    [CAUSES.text(), CELLS.text(), USUAL.text(), SAID.text(), WEEKS.text(), notes.clone()].concat()
}

fn say(line: &str) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    // A string takes everything.
    let _written = writeln!(notes, "{line}");
}

fn percent(part: u64, cell: &Cell) -> String {
    format!("{:.1} %", 100.0 * part as f64 / cell.runs.max(1) as f64)
}

fn seconds(value: Option<u64>) -> String {
    value.map_or("–".to_owned(), |seconds| format!("{seconds} s"))
}

pub(super) fn note_scenarios(score: &Score, took: Duration) {
    let row = |name: &str, cell: &Cell| {
        let (right, abstained) = (percent(cell.right, cell), percent(cell.abstained(), cell));
        let times = [cell.detected_s(0.5), cell.detected_s(0.95), cell.right_s(0.5), cell.right_s(0.95)].map(seconds);
        let [alarm, alarm95, judged, judged95] = times;
        let held = format!("{:.2}", cell.held());
        [name.to_owned(), cell.runs.to_string(), right, abstained, cell.wrong.to_string()]
            .into_iter()
            .chain([alarm, alarm95, judged, judged95, held])
            .collect::<Vec<_>>()
    };
    CAUSES.note(causes().filter_map(|cause| {
        let cell = score.of(|name, loss, segments| name == cause.name && is_above_floor(loss, segments));
        row(cause.name, &cell).try_into().ok()
    }));
    let guilty = |name: &str| causes().any(|cause| cause.name == name && !cause.is_innocent());
    CELLS.note(LOSSES.into_iter().flat_map(|lost| TRAFFIC.map(|passed| (lost, passed))).map(|(lost, passed)| {
        let cell = score.of(|name, loss, segments| guilty(name) && (loss, segments) == (lost, passed));
        [
            format!("{:.1} %", lost as f64 / 10.0),
            passed.to_string(),
            cell.runs.to_string(),
            percent(cell.right, &cell),
            percent(cell.abstained(), &cell),
            cell.wrong.to_string(),
            seconds(cell.detected_s(0.5)),
            seconds(cell.detected_s(0.95)),
            seconds(cell.right_s(0.95)),
        ]
    }));
    USUAL.note(BASELINES.into_iter().map(|usual| usual.to_string()).map(|usual| {
        let (cell, floor) =
            (score.on(&usual, |_, _| true), score.on(&usual, |loss, segments| (loss, segments) == FLOOR));
        [
            usual,
            cell.runs.to_string(),
            percent(cell.right, &cell),
            percent(cell.abstained(), &cell),
            cell.wrong.to_string(),
            seconds(cell.detected_s(0.5)),
            seconds(cell.detected_s(0.95)),
            seconds(cell.right_s(0.95)),
            percent(floor.right, &floor),
            seconds(floor.detected_s(0.95)),
            seconds(floor.right_s(0.95)),
        ]
    }));
    let said = |names: &BTreeMap<Name, u64>| -> String {
        let mut names: Vec<_> = names.iter().collect();
        names.sort_by_key(|(_, runs)| std::cmp::Reverse(**runs));
        names.iter().map(|(name, runs)| format!("{} {runs}", name.id())).collect::<Vec<_>>().join(", ")
    };
    SAID.note(causes().filter_map(|cause| Some([cause.name.to_owned(), said(score.said.get(cause.name)?)])));
    let all = score.of(|_, _, _| true);
    say(&format!(
        "{} runs, {} wrong; {} simulated seconds in {took:.1?}: {:.1} µs each (of one CPU)",
        all.runs,
        all.wrong,
        score.seconds,
        took.as_secs_f64() * 1e6 / score.seconds.max(1) as f64
    ));
    score.wrong.iter().for_each(|wrong| say(&format!("WRONG {wrong}")));
}

pub(super) fn note_calm(rows: &[(Setting, Calm)], took: Duration) {
    WEEKS.note(rows.iter().map(|(setting, calm)| {
        [
            setting.usual.to_string(),
            setting.segments.to_string(),
            format!("{:.2}", calm.seconds as f64 / 604_800.0),
            calm.alarms.to_string(),
            format!("{:.2}", calm.weekly()),
            calm.accusations.to_string(),
            calm.first.map(|(second, kind)| format!("{} after {second} s", kind.id())).unwrap_or_default(),
        ]
    }));
    let mut all = Calm::default();
    rows.iter().for_each(|(_, calm)| all.add(*calm));
    say(&format!(
        "calm: {} false alarms, {} accusations in {:.1} weeks: {:.2} a week; {:.1} µs a simulated second",
        all.alarms,
        all.accusations,
        all.seconds as f64 / 604_800.0,
        all.weekly(),
        took.as_secs_f64() * 1e6 / all.seconds.max(1) as f64
    ));
}
