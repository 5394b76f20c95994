//! Whose fault is it? The incident that this product exists for, played again, and single causes of loss on their own, each
//! with real connections: what the agent says of them, and when.

use std::{
    net::SocketAddrV4,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{LineStyle, Table, presets};
use libtest_mimic::Trial;
use probe_user::detect::verdict::{Name, Verdict};
use tests::{
    agent::Agent,
    region::{Connection, FaultyDevice, Region, Steady},
    replay::{self, JUDGED_AFTER, NOTICED_AFTER, Scratch, UPLINKS, incidents},
    run::{is_full, trial},
    temporary::{Filter, Queue},
    wait::eventually,
};

pub(super) fn host_trials() -> Vec<Trial> {
    let causes = CAUSES.iter().map(|cause| trial(&format!("incident::{}", cause.name), || cause.check()));
    let replay = trial("incident::replay", || played(if is_full() { &replay::WHOLE } else { &replay::SHORT }));
    let quiet = trial("incident::nothing_wrong", nothing_wrong);
    let filtered = trial("incident::what_this_host_refuses_a_guest", refused_guest);
    let outage = trial("incident::outage", outage);
    causes.chain([replay, quiet, filtered, outage]).collect()
}

/// An incident is noticed, and somebody named, within this after its onset.
const NOTICED: Duration = Duration::from_secs(10);
const JUDGED: Duration = Duration::from_secs(30);
/// And the verdict then stays what it is for so long.
const STAYS: Duration = Duration::from_secs(3);

/// How long all is well before: what is usual has to be learned, and the less is lost, the better it must be known.
fn quiet() -> Duration {
    Duration::from_secs(if is_full() { 90 } else { 8 })
}

/// Segments lost of a hundred.
fn percent() -> u32 {
    if is_full() { 1 } else { 6 }
}

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
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-'))).set_header([
        "incident",
        "noticed after",
        "verdict after",
    ]);
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

/// What makes a loss, while it is there.
#[expect(dead_code, reason = "kept for what happens at its end")]
enum Made<'n> {
    Fabric,
    Filtered(Filter<'n>),
    Queued(Queue<'n>),
    Damaged(FaultyDevice),
}

/// One cause of loss at `uplink0`, alone.
struct Cause {
    name: &'static str,
    expected: Name,
    begin: for<'r> fn(&'r Region, &Steady) -> Result<Made<'r>>,
}

const CAUSES: &[Cause] = &[
    Cause {
        name: "loss_before",
        expected: Name::NetworkIn,
        begin: |region, _| by_fabric(region, [100 * percent(), 0]),
    },
    Cause {
        name: "loss_behind",
        expected: Name::NetworkOut,
        begin: |region, _| by_fabric(region, [0, 100 * percent()]),
    },
    Cause {
        name: "packet_filter",
        expected: Name::LocalPolicy,
        begin: |region, _| {
            let rule = format!(
                "chain forward {{
                    type filter hook forward priority 0
                    iifname uplink0 meta l4proto tcp numgen random mod 100 < {} drop
                }}",
                percent()
            );
            Ok(Made::Filtered(region.host.filter("ip refuses", &rule)?))
        },
    },
    Cause {
        name: "full_queue",
        expected: Name::LocalTx,
        begin: |region, _| {
            Ok(Made::Queued(region.host.queue("uplink0", "tbf rate 12mbit burst 10000 limit 20000", &[])?))
        },
    },
    // A device in the network changes a byte of what passes it, and makes a new frame check sequence.
    Cause {
        name: "damaged_on_the_way",
        expected: Name::NetworkMalformed,
        begin: |region, traffic| damaging(region, traffic.through_fabric()),
    },
    // The same frames, of connections that nobody has: anybody in the world can send them.
    Cause {
        name: "damaged_by_a_stranger",
        expected: Name::RemoteMalformed,
        begin: |region, traffic| {
            let strangers = traffic
                .through_fabric()
                .iter()
                .map(|(outside, inside)| (SocketAddrV4::new(*outside.ip(), outside.port() + 1), *inside));
            damaging(region, &strangers.collect::<Vec<_>>())
        },
    },
];

fn damaging<'r>(region: &'r Region, connections: &[Connection]) -> Result<Made<'r>> {
    let device = region.damaging_device(connections)?;
    device.makes(20);
    Ok(Made::Damaged(device))
}

fn by_fabric(region: &Region, shares: [u32; 2]) -> Result<Made<'_>> {
    region.lose(shares).map(|()| Made::Fabric)
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
        well(&agent, quiet())?;
        let onset = Instant::now();
        let cause = (self.begin)(&region, &traffic)?;
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

/// From the first second that is judged on nothing is wrong, for so long.
fn well(agent: &Agent<'_>, duration: Duration) -> Result<()> {
    eventually(NOTICED, "something is judged", || {
        let verdict = verdict(agent)?;
        ensure!(verdict.verdict != Name::Unknown, "{verdict:#?}");
        Ok(())
    })?;
    stays(agent, Name::None, duration)
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
    well(&agent, Duration::from_secs(20))?;
    traffic.end()?;
    ensure!(incidents(&agent)?.is_empty(), "{:#?}", incidents(&agent)?);
    agent.stop()
}

/// A packet filter of this host stops some of what a guest sends. At the uplink it looks as if the guest lost it: that is
/// noticed, and neither the guest nor the network is accused.
fn refused_guest() -> Result<()> {
    let (region, scratch) = (Region::new()?, Scratch::new()?);
    let config = scratch.write("agent.toml", UPLINKS)?;
    let agent = Agent::start(&region.host, &["--config", &config])?;
    let traffic = region.traffic()?;
    well(&agent, quiet())?;
    let rule = format!(
        "chain forward {{
            type filter hook forward priority 0
            iifname vm0 oifname uplink0 meta l4proto tcp numgen random mod 100 < {} drop
        }}",
        percent()
    );
    let filter = region.host.filter("ip refuses", &rule)?;
    let (begin, mut noticed) = (Instant::now(), false);
    while begin.elapsed() < NOTICED + STAYS {
        let verdict = verdict(&agent)?;
        ensure!(!verdict.verdict.accuses(), "after {:?}: {verdict:#?}", begin.elapsed());
        noticed |= verdict.verdict != Name::None;
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(noticed, "nothing was noticed");
    drop(filter);
    traffic.end()?;
    agent.stop()
}

/// Nothing gets through any more: what little is sent again is lost, and an incident is not over because there is less of it.
fn outage() -> Result<()> {
    let lasts = Duration::from_secs(if is_full() { 90 } else { 24 });
    let (region, scratch) = (Region::new()?, Scratch::new()?);
    let config = scratch.write("agent.toml", UPLINKS)?;
    let agent = Agent::start(&region.host, &["--config", &config])?;
    let traffic = region.traffic()?;
    well(&agent, quiet())?;
    let onset = Instant::now();
    region.lose([9_999; 2])?;
    // Eight connections send something again four times in the first six seconds, and there is nothing else to go by.
    eventually(2 * NOTICED, "it is noticed", || {
        ensure!(!incidents(&agent)?.is_empty(), "{:#?}", verdict(&agent)?);
        Ok(())
    })?;
    let noticed = onset.elapsed().as_secs_f64();
    let mut judged = None;
    while onset.elapsed() < lasts {
        let verdict = verdict(&agent)?;
        ensure!(verdict.verdict != Name::None, "after {:?}: {verdict:#?}", onset.elapsed());
        if verdict.verdict.is_network() {
            judged.get_or_insert(onset.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    note("outage", noticed, judged.context("the network was not named")?);
    let known = incidents(&agent)?;
    let [incident] = known.as_slice() else { anyhow::bail!("{} incidents: {known:#?}", known.len()) };
    ensure!(incident.peak.ratio > 0.9, "the most that was lost: {:?}", incident.peak);
    let beyond = incident.objective.minutes_beyond * 60.0;
    ensure!(beyond > lasts.as_secs_f64() - 10.0, "{beyond} of {lasts:?} were beyond the objective");
    drop(traffic);
    agent.stop()
}
