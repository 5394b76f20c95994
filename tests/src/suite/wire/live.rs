//! What the kernel has counted at an ingress hook, against what the same code says on the host of a capture beside it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tests::{capture::Record, metrics::Metrics, run::is_full};

use super::{analysis::Analysis, scene::Scene};
use crate::suite::tables::Ledger;

pub(super) static TABLE: Ledger<6> = Ledger::new(["scene", "interface", "count", "live", "analyze", ""], &[3, 4]);

/// Which of these it was is decided by times, and a capture has its own.
const FILLS: [&str; 2] = ["hole_filled_retransmit", "hole_filled_reorder"];

/// By how much counts may differ that times decide.
const TIME_DECIDED: f64 = 0.02;

/// Compares what came in at `interface`; exactly, where nothing overtook anything between the capture and the hook.
///
/// # Errors
/// With the counts that differ.
pub(super) fn judge(
    scene: &Scene,
    interface: &str,
    metrics: &Metrics,
    (records, analysis): (&[Record], &Analysis),
) -> Result<()> {
    let labels = [("interface", interface), ("direction", "ingress")];
    // Two CPUs pass capture and hook in different orders.
    let exact = if scene.many_cpus { TIME_DECIDED } else { 0.0 };
    let scene = scene.name;
    let mut rows = vec![(
        "segments".to_owned(),
        metrics.sum("lossprobe_wire_tcp_segments_total", &labels),
        records.iter().filter(|record| !record.outgoing && is_tcp(&record.frame)).count() as f64,
        exact,
    )];
    let mut live: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in metrics.select("lossprobe_wire_tcp_events_total", &labels) {
        *live.entry(sample.labels.get("event").map_or("", String::as_str)).or_default() += sample.value;
    }
    let mut host: BTreeMap<&str, f64> = BTreeMap::new();
    let incoming = |frame: u64| records.get(frame as usize - 1).is_some_and(|record| !record.outgoing);
    for (_, events) in analysis.events.iter().filter(|(frame, _)| incoming(**frame)) {
        events.iter().for_each(|(event, segments)| *host.entry(event).or_default() += *segments as f64);
    }
    let sum =
        |counts: &BTreeMap<&str, f64>, names: &[&str]| names.iter().filter_map(|name| counts.get(name)).sum::<f64>();
    rows.push(("fills".to_owned(), sum(&live, &FILLS), sum(&host, &FILLS), exact));
    let names: std::collections::BTreeSet<&str> = live.keys().chain(host.keys()).copied().collect();
    for name in names {
        let share = if ["hole_opened", "retransmit_seen"].contains(&name) { exact } else { TIME_DECIDED };
        rows.push((name.to_owned(), sum(&live, &[name]), sum(&host, &[name]), share));
    }
    let mut wrong = String::new();
    for (name, live, host, share) in rows {
        // Of a few, some may be another kind.
        let allowed = if share == 0.0 { 0.0 } else { (share * f64::max(live, host)).max(2.0) };
        let right = (live - host).abs() <= allowed;
        if live + host > 0.0 {
            let verdict = if right { "equal" } else { "DIFFERENT" };
            let cells = [scene, interface, &name, &live.to_string(), &host.to_string(), verdict];
            TABLE.note([cells.map(str::to_owned)]);
        }
        // The rest is judged in the long run only: a machine that is busy has times, and an order of packets, of its own.
        if !right && (is_full() || ["segments", "hole_opened"].contains(&name.as_str())) {
            wrong += &format!("{interface}: {live} {name} live, {host} by analyze\n");
        }
    }
    ensure!(wrong.is_empty(), "{scene}: {wrong}");
    Ok(())
}

fn is_tcp(frame: &[u8]) -> bool {
    const TCP: u8 = 6;
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, ip @ ..] => ip.get(9) == Some(&TCP),
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ip @ ..] => ip.get(6) == Some(&TCP),
        _ => false,
    }
}
