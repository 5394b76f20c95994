//! Whose fault is it? The incident that this product exists for, played again, and single causes of loss on their own, each
//! with real connections: what the agent says of them, and when.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Table, presets};
use libtest_mimic::Trial;
use probe_user::detect::verdict::{Name, Verdict};
use tests::{
    agent::Agent,
    region::Region,
    replay::{self, JUDGED_AFTER, NOTICED_AFTER, Scratch, UPLINKS, incidents},
    run::{is_full, trial},
    temporary::Filter,
    wait::eventually,
};

pub(super) fn host_trials() -> Vec<Trial> {
    let causes = CAUSES.iter().map(|cause| trial(&format!("incident::{}", cause.name), || cause.check()));
    let replay = trial("incident::replay", || played(if is_full() { &replay::WHOLE } else { &replay::SHORT }));
    let quiet = trial("incident::nothing_wrong", nothing_wrong);
    causes.chain([replay, quiet]).collect()
}

/// An incident is noticed, and somebody named, within this after its onset.
const NOTICED: Duration = Duration::from_secs(10);
const JUDGED: Duration = Duration::from_secs(30);
/// And the verdict then stays what it is for so long.
const STAYS: Duration = Duration::from_secs(5);
/// What is usual has this long to be learned.
const QUIET: Duration = Duration::from_secs(3);

/// Name, seconds to notice, seconds to verdict.
static TIMES: Mutex<Vec<(String, f64, f64)>> = Mutex::new(Vec::new());

fn note(name: &str, noticed: f64, judged: f64) {
    TIMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name.to_owned(), noticed, judged));
}

/// How long it took.
pub(super) fn table() -> String {
    let times = TIMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if times.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["incident", "noticed after", "verdict after"]);
    let seconds = |value: &f64| format!("{value:.1} s");
    for (name, noticed, judged) in times.iter() {
        table.add_row([name.clone(), seconds(noticed), seconds(judged)]);
    }
    table.add_row(["(that day)".to_owned(), seconds(&NOTICED_AFTER), seconds(&JUDGED_AFTER)]);
    format!("{table}\n")
}

fn played(play: &replay::Play) -> Result<()> {
    let outcome = replay::run(play, &|_| ())?;
    note("replay", outcome.noticed, outcome.judged);
    Ok(())
}

/// One cause of loss, alone.
struct Cause {
    name: &'static str,
    expected: Name,
    /// Interfaces that are affected; `uplink1` never is.
    begin: fn(&Region) -> Result<Vec<Box<dyn Drop + '_>>>,
}

const CAUSES: &[Cause] = &[
    Cause { name: "loss_before", expected: Name::NetworkIn, begin: |region| nothing(region.lose([100, 0])) },
    Cause { name: "loss_behind", expected: Name::NetworkOut, begin: |region| nothing(region.lose([0, 100])) },
    Cause {
        name: "packet_filter",
        expected: Name::LocalPolicy,
        begin: |region| {
            let rule = "chain forward {
                type filter hook forward priority 0
                oifname uplink0 meta l4proto tcp numgen random mod 100 < 3 drop
            }";
            Ok(vec![Box::new(region.host.filter("ip policy", rule)?)])
        },
    },
    Cause {
        name: "full_queue",
        expected: Name::LocalTx,
        begin: |region| {
            let queue = region.host.queue("uplink0", "tbf rate 6mbit burst 5000 limit 8000", &[])?;
            Ok(vec![Box::new(queue)])
        },
    },
];

fn nothing<'n>(outcome: Result<()>) -> Result<Vec<Box<dyn Drop + 'n>>> {
    outcome.map(|()| Vec::new())
}

/// A host that forwards for others has nothing to say itself, and an agent must not either.
fn spoken(region: &Region) -> Result<Filter<'_>> {
    region.host.filter(
        "ip spoken",
        "counter spoken {}
         chain output {
            type filter hook output priority 0
            oifname != lo meta l4proto { tcp, udp } counter name spoken
         }",
    )
}

fn verdict(agent: &Agent<'_>) -> Result<Verdict> {
    serde_json::from_value(agent.json("/api/v1/verdict")?).context("read the verdict")
}

impl Cause {
    fn check(&self) -> Result<()> {
        let (region, scratch) = (Region::new()?, Scratch::new()?);
        let config = scratch.write("agent.toml", UPLINKS)?;
        let agent = Agent::start(&region.host, &["--config", &config])?;
        let spoken = spoken(&region)?;
        let traffic = region.traffic()?;
        stays(&agent, Name::None, QUIET)?;
        let onset = Instant::now();
        let cause = (self.begin)(&region)?;
        eventually(NOTICED, "it is noticed", || {
            ensure!(!incidents(&agent)?.is_empty(), "{:#?}", verdict(&agent)?);
            Ok(())
        })?;
        let noticed = onset.elapsed().as_secs_f64();
        let left = JUDGED.saturating_sub(onset.elapsed());
        eventually(left, "somebody is named", || {
            let verdict = verdict(&agent)?;
            ensure!(verdict.verdict == self.expected, "{verdict:#?}");
            Ok(())
        })?;
        note(self.name, noticed, onset.elapsed().as_secs_f64());
        stays(&agent, self.expected, STAYS)?;
        let known = incidents(&agent)?;
        let [incident] = known.as_slice() else { anyhow::bail!("{} incidents: {known:#?}", known.len()) };
        ensure!(incident.verdict == self.expected, "{:?}", incident.verdicts);
        let names = |list: &[String], name: &str| list.iter().any(|known| known == name);
        ensure!(names(&incident.affected, "uplink0"), "affected: {:?}", incident.affected);
        ensure!(names(&incident.unaffected, "uplink1"), "unaffected: {:?}", incident.unaffected);
        drop(cause);
        traffic.end()?;
        ensure!(spoken.packets("spoken")? == 0, "the agent has spoken to somebody");
        let metrics = agent.metrics()?;
        ensure!(metrics.select("lossprobe_push_total", &[]).next().is_none(), "it has told somebody");
        agent.stop()
    }
}

/// For so long the verdict is what it is.
fn stays(agent: &Agent<'_>, expected: Name, duration: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let verdict = verdict(agent)?;
        ensure!(verdict.verdict == expected, "after {:?}: {verdict:#?}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn nothing_wrong() -> Result<()> {
    let (region, scratch) = (Region::new()?, Scratch::new()?);
    let config = scratch.write("agent.toml", UPLINKS)?;
    let agent = Agent::start(&region.host, &["--config", &config])?;
    let traffic = region.traffic()?;
    stays(&agent, Name::None, Duration::from_secs(20))?;
    traffic.end()?;
    ensure!(incidents(&agent)?.is_empty(), "{:#?}", incidents(&agent)?);
    agent.stop()
}
