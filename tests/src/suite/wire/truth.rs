//! What the agent in the middle says of losses on both sides of it, against what the routers there have counted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{agent::Agent, wait::settled};

use super::scene::{Loss, Losses, Offloads, Scene, Way};
use crate::suite::tables::Ledger;

/// A loss is derived from counters of a window that ended two seconds ago; nothing more comes after twice that.
pub(super) const REST: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(40);

/// Segments by which a small number may be wrong.
const SLACK: f64 = 2.0;

pub(super) static TABLE: Ledger<7> =
    Ledger::new(["scene", "interface", "side", "lost", "by the agent", "allowed", ""], &[3, 4, 5]);

/// One side of one interface.
struct Row {
    interface: &'static str,
    side: &'static str,
    /// Segments with data that the router there has lost.
    lost: f64,
    /// By how many percent the agent may be below and above it, where that can be known.
    allowed: Option<(f64, f64)>,
}

/// Reads `lossprobe_path_lost_segments_total`.
///
/// # Errors
/// When the agent does not say.
pub(super) fn lost_segments(agent: &Agent<'_>, interface: &str, side: &str) -> Result<f64> {
    let labels = [("interface", interface), ("side", side)];
    let lost = agent.metrics()?.get("lossprobe_path_lost_segments_total", &labels);
    lost.with_context(|| format!("no lossprobe_path_lost_segments_total of {interface}, {side}"))
}

/// Compares both sides of both interfaces.
///
/// # Errors
/// With those that differ by more than they may.
pub(super) fn judge(scene: &Scene, losses: &Losses<'_>, agent: &Agent<'_>) -> Result<()> {
    for router in [&losses.near, &losses.own, &losses.far] {
        router.has_lost()?;
    }
    let rows = rows(scene, losses)?;
    let said = settled(DEADLINE, REST, || {
        rows.iter().map(|row| lost_segments(agent, row.interface, row.side)).collect::<Result<Vec<_>>>()
    })?;
    let mut wrong = String::new();
    for (row, said) in rows.iter().zip(said) {
        let Row { interface, side, lost, allowed } = row;
        let slack = |percent: f64| (lost * percent / 100.0).max(SLACK);
        let right = allowed.is_none_or(|(below, above)| said >= lost - slack(below) && said <= lost + slack(above));
        let allowed = allowed.map(|(below, above)| format!("-{below} % +{above} %"));
        TABLE.note([[
            scene.name.to_owned(),
            (*interface).to_owned(),
            (*side).to_owned(),
            format!("{lost:.0}"),
            format!("{said:.0} ({:+.1} %)", if *lost == 0.0 { 0.0 } else { 100.0 * (said - lost) / lost }),
            allowed.unwrap_or_else(|| "not judged".to_owned()),
            if right { "right" } else { "WRONG" }.to_owned(),
        ]]);
        if !right {
            wrong += &format!("{interface} {side}: {lost:.0} lost, {said:.0} by the agent\n");
        }
    }
    ensure!(wrong.is_empty(), "{}: {wrong}", scene.name);
    own(scene, losses, agent)
}

/// Puts a connection into the table that has lost nothing.
pub(super) fn note_innocent(name: &str, said: f64) {
    let verdict = if said == 0.0 { "right" } else { "WRONG" };
    TABLE.note([[name, "all", "all", "0", &said.to_string(), "0", verdict].map(str::to_owned)]);
}

fn rows(scene: &Scene, losses: &Losses<'_>) -> Result<[Row; 4]> {
    // Identifiers count what is lost before us; IPv6 has none, and a lost retransmission opens no second hole.
    // Where much is sent again, much of that is lost again; and where packets overtake each other by a round trip, a gap is
    // gone before it can tell.
    let before = |loss| match (scene.version6, loss) {
        _ if scene.way == Way::Wild => Some((100.0, 3.0)),
        (true, Loss::Random(_)) if !scene.sack => Some((100.0, 3.0)),
        // Sent in the same millisecond as what has overtaken it: a few in ten thousand look like sent again.
        (true, _) if scene.way == Way::Reordering => None,
        // What a timer finds lost after more than a second has no losses around it.
        (false, Loss::Random(_)) if !scene.sack => Some((15.0, 3.0)),
        // Of a few packets, each of up to 45 segments, one is a retransmission that is lost on its second way.
        (true, Loss::Random(1)) if scene.offloads == Offloads::Gso => Some((60.0, 3.0)),
        (false, _) => Some((3.0, 3.0)),
        (true, Loss::Tail(_) | Loss::Netem) => Some((40.0, 3.0)),
        // Of many holes at once the lowest pass for as young as the others, and what fills a young one may have been late.
        (true, Loss::Random(2..)) => Some((60.0, 3.0)),
        (true, Loss::None | Loss::Random(_)) => Some((30.0, 3.0)),
    };
    // Without SACK a receiver cannot say what it had not needed, and the sender begins anew after each timeout. A report
    // that waits for others makes room for the next one: of what is sent again at once, or because packets overtake each
    // other, only a part is known not to be needed.
    let knows = scene.sack
        && match scene.way {
            Way::Long => true,
            Way::Direct | Way::Reordering | Way::Wild => scene.near == Loss::None && scene.far == Loss::None,
        };
    let behind = |loss| match loss {
        _ if !knows => None,
        Loss::None | Loss::Netem | Loss::Random(0..=1) => Some((5.0, 5.0)),
        Loss::Random(_) | Loss::Tail(_) => Some((10.0, 10.0)),
    };
    let row = |interface, side, lost, allowed| Row { interface, side, lost, allowed };
    Ok([
        row("r2a", "network_in", losses.near.lost("east")?, before(scene.near)),
        row("r2a", "network_out", losses.near.lost("west")?, behind(scene.near)),
        row("r2b", "network_in", losses.far.lost("west")?, before(scene.far)),
        row("r2b", "network_out", losses.far.lost("east")?, behind(scene.far)),
    ])
}

/// What the observer's own packet filter has dropped is its own loss, by the kernel's word.
fn own(scene: &Scene, losses: &Losses<'_>, agent: &Agent<'_>) -> Result<()> {
    if scene.own == Loss::None {
        return Ok(());
    }
    let packets = losses.own.packets()? as f64;
    let metrics = agent.metrics()?;
    let policy: Vec<_> =
        metrics.select("lossprobe_dropped_packets_total", &[("class", "policy"), ("netns", "own")]).collect();
    let dropped: f64 = policy.iter().map(|sample| sample.value).sum();
    let lost = losses.own.lost("east")? + losses.own.lost("west")?;
    let inside = lost_segments(agent, "r2a", "inside")? + lost_segments(agent, "r2b", "inside")?;
    TABLE.note([[
        scene.name.to_owned(),
        "both".to_owned(),
        "inside".to_owned(),
        format!("{lost:.0}"),
        format!("{inside:.0}"),
        "not judged".to_owned(),
        String::new(),
    ]]);
    ensure!(dropped == packets, "{packets} packets dropped by the filter of r2, {dropped} by the agent: {policy:#?}");
    Ok(())
}
