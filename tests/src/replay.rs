//! The incident that this product exists for, played again in a [`Region`] in far less time: a device of the provider's network
//! starts to make malformed frames, others lose packets; the loss grows, is contained, flares up, eases and is over. A second
//! uplink has no part in it. The agent is asked what it made of that.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::id,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use probe_user::{
    detect::{
        incident::{Incident, State},
        verdict::Name,
    },
    record::incidents::Incidents,
};
use serde_json::Value;

use crate::{
    agent::{Agent, lossprobe},
    namespace::Namespace,
    region::{FAULTY_TEXT, Region, TENANT},
    wait::eventually,
    webhook::{Request, Webhook},
};

/// How long the tenant of that day took to notice, in seconds.
pub const NOTICED_AFTER: f64 = 15.0 * 60.0;
/// And to know that the fault was not his.
pub const JUDGED_AFTER: f64 = 36.0 * 60.0;
/// What is promised instead.
const NOTICES_WITHIN: f64 = 10.0;
const JUDGES_WITHIN: f64 = 30.0;
/// What the estimated onset may be off by.
const ONSET_WITHIN: f64 = 3.0;
const WEBHOOK_PORT: u16 = 9999;

/// A part of the course.
pub struct Act {
    /// What happens.
    says: &'static str,
    /// For how long.
    seconds: u64,
    /// Segments lost of ten thousand, each way.
    loses: u32,
    /// Malformed frames in a second.
    damages: u32,
}

/// A course, and how it is to be looked at.
pub struct Play {
    acts: &'static [Act],
    /// What the agent is told of its patience.
    settings: &'static str,
    /// The state that the incident must have reached at last.
    until: State,
    /// How long after the last act.
    within: Duration,
}

const fn act(says: &'static str, seconds: u64, loses: u32, damages: u32) -> Act {
    Act { says, seconds, loses, damages }
}

/// For every run of the tests: until it eases.
pub const SHORT: Play = Play {
    acts: &[
        act("all is well", 3, 0, 0),
        act("onset: a device makes malformed frames, 1 % of the segments are lost", 2, 100, 10),
        act("it grows: 4 %", 2, 400, 20),
        act("plateau: 8 %", 6, 800, 40),
        act("containment: 1 %", 2, 100, 2),
        act("it flares up: 6 %", 2, 600, 20),
        act("containment: 1 %", 0, 100, 2),
    ],
    settings: "[incident]\neases_after = \"5s\"\ncloses_after = \"8s\"\n",
    until: State::Easing,
    within: Duration::from_secs(20),
};

/// The whole of it, in three minutes instead of a day.
pub const WHOLE: Play = Play {
    acts: &[
        act("10 minutes before: all is well", 6, 0, 0),
        act("minute 0, onset: a device makes malformed frames, 1 % of the segments are lost", 10, 100, 5),
        act("minute 15, it grows: 3 %", 10, 300, 20),
        act("minute 30, plateau: 8 %", 20, 800, 40),
        act("minute 155, containment: 1 %", 8, 100, 5),
        act("minute 180, it flares up: 6 %", 6, 600, 20),
        act("containment: 1 %", 8, 100, 5),
        act("it flares up: 6 %", 6, 600, 20),
        act("minute 195, it eases: 2 %", 28, 200, 3),
        act("minute 238, below the acceptable level: 0.2 %", 30, 20, 0),
        act("minute 1370, back to baseline", 0, 0, 0),
    ],
    settings: "[incident]\neases_after = \"10s\"\ncloses_after = \"12s\"\n",
    until: State::Closed,
    within: Duration::from_secs(80),
};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Seconds from the true onset until an incident was open.
    pub noticed: f64,
    /// And until somebody was named.
    pub judged: f64,
    /// The incident.
    pub incident: Incident,
    /// Files of its folder.
    pub files: Vec<String>,
}

/// A folder that goes with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("lossprobe-region-{}-{number}", id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Writes a file in it and returns where.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        word(&path)
    }

    /// A place in it.
    ///
    /// # Errors
    /// When its name is not UTF-8.
    pub fn place(&self, name: &str) -> Result<String> {
        word(&self.0.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn word(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a file name in UTF-8")?.to_owned())
}

/// What the agent of a [`Region`]'s host is told in every case: a veth is no uplink by itself.
pub const UPLINKS: &str = "interface = [\"vm0\", \"uplink*\"]\nuplink = [\"uplink0\", \"uplink1\"]\n";

/// All incidents that an agent knows.
///
/// # Errors
/// When it does not answer.
pub fn incidents(agent: &Agent<'_>) -> Result<Vec<Incident>> {
    let told: Incidents = serde_json::from_value(agent.json("/api/v1/incidents")?).context("read the incidents")?;
    Ok(told.incidents)
}

/// Plays it, telling what happens.
///
/// # Errors
/// With what is not as it should be.
pub fn run(play: &Play, say: &dyn Fn(&str)) -> Result<Outcome> {
    say("making a region: tenant - host - fabric - peer, and a second uplink");
    let (region, scratch) = (Region::new()?, Scratch::new()?);
    let webhook = Webhook::listen(&region.tenant, (TENANT.into(), WEBHOOK_PORT), None, &[])?;
    let push = format!("push_url = \"http://{}/incidents\"\n", webhook.address());
    let config = scratch.write("agent.toml", &format!("{UPLINKS}{push}{}", play.settings))?;
    let state = scratch.place("state")?;
    let agent = Agent::start(&region.host, &["--config", &config, "--state-dir", &state])?;
    let (traffic, device) = (region.traffic()?, region.faulty_device()?);
    let mut onset = None;
    for act in play.acts {
        say(act.says);
        if act.loses > 0 && onset.is_none() {
            ensure!(incidents(&agent)?.is_empty(), "an incident without a cause: {:#?}", incidents(&agent)?);
            onset = Some(Timestamp::now());
        }
        device.makes(act.damages);
        region.lose([act.loses; 2])?;
        watch(&agent, Duration::from_secs(act.seconds), say)?;
    }
    let incident = eventually(play.within, "the incident has come so far", || {
        let incident = the_only_one(&agent)?;
        let is_so_far = incident.states.iter().any(|change| change.state == play.until);
        ensure!(is_so_far, "{:?}, verdict {}", incident.states, agent.json("/api/v1/verdict")?["sentence"]);
        Ok(incident)
    })?;
    say(&format!("the incident is {:?}", incident.state));
    traffic.end()?;
    let onset = onset.context("nothing was lost")?;
    let (noticed, judged) = judge(&incident, onset)?;
    say("reading its folder, its report, and what the receiver was told");
    let files = folder(&region.host, Path::new(&state), (&incident, play.until))?;
    report(&agent, &state)?;
    told(&webhook.taken(), (&incident, onset), play.until)?;
    ensure!(incidents(&agent)?.len() == 1, "a second incident: {:#?}", incidents(&agent)?);
    agent.stop()?;
    Ok(Outcome { noticed, judged, incident, files })
}

/// Looks on for so long, and says what changes.
fn watch(agent: &Agent<'_>, duration: Duration, say: &dyn Fn(&str)) -> Result<()> {
    const LOOKS_EVERY: Duration = Duration::from_millis(250);
    let begin = Instant::now();
    let mut known = None;
    while begin.elapsed() < duration {
        if let Some(incident) = incidents(agent)?.first() {
            let now = (incident.state, incident.verdict);
            if known.replace(now) != Some(now) {
                say(&format!("  the agent: {:?}, {}", incident.state, incident.verdict.id()));
            }
        }
        std::thread::sleep(LOOKS_EVERY);
    }
    Ok(())
}

fn the_only_one(agent: &Agent<'_>) -> Result<Incident> {
    let mut known = incidents(agent)?;
    ensure!(known.len() == 1, "{} incidents: {known:#?}", known.len());
    known.pop().context("no incident")
}

/// Seconds until it was noticed and judged.
fn judge(incident: &Incident, onset: Timestamp) -> Result<(f64, f64)> {
    let since = |text: &str| -> Result<f64> { Ok(text.parse::<Timestamp>()?.duration_since(onset).as_secs_f64()) };
    let noticed = since(&incident.detected)?;
    let judged = since(incident.judged.as_deref().context("nobody was named")?)?;
    ensure!((0.0..=NOTICES_WITHIN).contains(&noticed), "noticed after {noticed:.1} s");
    ensure!((0.0..=JUDGES_WITHIN).contains(&judged), "judged after {judged:.1} s");
    let estimate = since(&incident.onset)?;
    ensure!(estimate.abs() <= ONSET_WITHIN, "the onset is estimated {estimate:.1} s off");
    ensure!(incident.verdict == Name::NetworkMalformed, "{:?}: {:?}", incident.verdict, incident.verdicts);
    let names = |list: &[String], name: &str| list.iter().any(|known| known == name);
    let (affected, unaffected) = (&incident.affected, &incident.unaffected);
    ensure!(names(affected, "uplink0") && !names(affected, "uplink1"), "affected: {affected:?}");
    ensure!(names(unaffected, "uplink1") && !names(unaffected, "uplink0"), "unaffected: {unaffected:?}");
    ensure!((0.02..0.12).contains(&incident.peak.ratio), "{:?}", incident.peak);
    states(incident)?;
    Ok((noticed, judged))
}

/// It opens, is active, and each state is left for good in this order; it is closed once and at last.
fn states(incident: &Incident) -> Result<()> {
    let states: Vec<State> = incident.states.iter().map(|change| change.state).collect();
    let order = [State::Opening, State::Active, State::Easing, State::Acceptable, State::Closed];
    let places = order.into_iter().filter_map(|state| states.iter().rposition(|known| *known == state));
    ensure!(places.is_sorted() && states.starts_with(&[State::Opening, State::Active]), "{states:?}");
    let closed = states.iter().position(|state| *state == State::Closed);
    ensure!(closed.is_none_or(|place| place + 1 == states.len()), "{states:?}");
    ensure!(incident.states.is_sorted_by_key(|change| &change.time), "{:?}", incident.states);
    Ok(())
}

/// The folder has all that it should have.
fn folder(host: &Namespace, state: &Path, (incident, until): (&Incident, State)) -> Result<Vec<String>> {
    const SOON: Duration = Duration::from_secs(10);
    let folder = state.join(probe_user::record::bundle::FOLDER).join(&incident.id);
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).with_context(|| format!("read {name} in {}", folder.display()))
    };
    let kept = eventually(SOON, "the folder is written", || {
        let kept: Incident = serde_json::from_str(&read("incident.json")?).context("read incident.json")?;
        ensure!(kept.states.iter().any(|change| change.state == until), "{:?}", kept.states);
        Ok(kept)
    })?;
    ensure!(kept.id == incident.id && kept.onset == incident.onset && !kept.course.is_empty(), "{kept:#?}");
    for name in ["report.md", "report.html"] {
        let text = read(name)?;
        for words in [FAULTY_TEXT, "For the provider's support", "At the same time not affected: uplink1", "ip4_csum"] {
            // A page escapes more, and a text of Markdown some.
            let plain = text.replace("&#39;", "'").replace("&#x27;", "'").replace('\\', "");
            ensure!(plain.contains(words), "{name} says nothing of {words:?}:\n{text}");
        }
    }
    let machine = read("host.txt")?;
    ensure!(machine.contains("uplink0") && machine.contains("veth"), "{machine}");
    for (name, least) in [("loss.csv", 10), ("traffic.csv", 10), ("path.csv", 10), ("malformed.csv", 4)] {
        let rows = read(name)?.lines().count();
        ensure!(rows >= least, "{name} has {rows} rows");
    }
    evidence(host, &folder.join("evidence.pcapng"))?;
    let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The capture is one, and has what is wrong.
fn evidence(host: &Namespace, capture: &Path) -> Result<()> {
    let output = lossprobe(host, &["analyze", "--output", "json", &word(capture)?])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_str(&said).with_context(|| format!("analyze {}", capture.display()))?;
    for reason in ["ip4_csum", "ip4_ihl"] {
        ensure!(found["malformed"][reason].as_u64().is_some_and(|frames| frames > 0), "no {reason} in {said}");
    }
    ensure!(found["truncated"] == false, "{said}");
    Ok(())
}

/// The commands tell it, from the agent and from the folder.
fn report(agent: &Agent<'_>, state: &str) -> Result<()> {
    let socket = word(agent.socket())?;
    let ask = |arguments: &[&str]| -> Result<String> {
        let output = lossprobe(agent.namespace(), arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for arguments in [["incidents", "--socket", &socket], ["incidents", "--state-dir", state]] {
        let said = ask(&arguments)?;
        ensure!(said.contains("network_malformed") && said.contains("uplink0"), "{arguments:?}: {said}");
    }
    for arguments in [["report", "--socket", &socket], ["report", "--state-dir", state]] {
        let said = ask(&arguments)?;
        ensure!(said.contains(FAULTY_TEXT) && said.contains("For the provider's support"), "{arguments:?}: {said}");
    }
    Ok(())
}

/// The receiver has heard of one incident, in time, in order.
fn told(requests: &[Request], (incident, onset): (&Incident, Timestamp), until: State) -> Result<()> {
    let events: Vec<&str> = requests.iter().filter_map(|request| request.body["event"].as_str()).collect();
    // In one second it is told once, by what weighs most.
    ensure!(matches!(events.as_slice(), ["opened", "judged", ..] | ["judged", ..]), "told: {events:?}");
    ensure!(!events[1..].contains(&"opened"), "told: {events:?}");
    ensure!(until != State::Closed || events.last() == Some(&"closed"), "told: {events:?}");
    let is_this = |request: &Request| request.body["incident"]["id"] == incident.id.as_str();
    ensure!(requests.iter().all(is_this), "told of another incident: {requests:#?}");
    let after = requests[0].time.duration_since(onset).as_secs_f64();
    ensure!(after <= NOTICES_WITHIN, "told after {after:.1} s");
    Ok(())
}
