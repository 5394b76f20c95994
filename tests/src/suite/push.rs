//! Incidents are told to a receiver: by this very program once more, confined as the agent is, inside a namespace.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _, stdin},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use probe_user::{
    config::Config,
    detect::{
        incident::{Incident, Party, State, What},
        verdict::{Name, Verdict},
    },
    export::push::{Patience, Push},
    kernel::privilege,
};
use serde_json::{Value, json};
use tests::{
    child,
    namespace::Namespace,
    run::trial,
    topology::{LEFT, Pair},
    wait::eventually,
    webhook::{Identity, Manner, Request, Webhook},
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("push::in_order_and_whole", in_order_and_whole),
        trial("push::bad_receivers", bad_receivers),
        trial("push::a_receiver_that_is_away", a_receiver_that_is_away),
        trial("push::alerts", alerts),
        trial("push::https", https),
        trial("push::nobody_who_cannot_be_trusted", nobody_who_cannot_be_trusted),
        trial("push::farewell", farewell),
        trial("push::wrong_files", wrong_files),
    ]
}

/// A guest has no names.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("push::https_by_name", https_by_name)]
}

const MARK: &str = "__lossprobe-tests-teller";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Within this everything must have happened.
const SOON: Duration = Duration::from_secs(20);
/// As the agent's, but for a test's time.
const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(2),
    first_pause: Duration::from_millis(40),
    longest_pause: Duration::from_millis(200),
    repeat: Duration::from_millis(300),
    unjudged: Duration::from_millis(300),
    farewell: Duration::from_secs(1),
};

/// Runs the child's part where this process is the child: `Some` says how it went.
pub(crate) fn become_teller() -> Option<Result<()>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mark, settings] = arguments.as_slice() else { return None };
    (mark == MARK).then(|| teller(settings))
}

/// Reads `WHAT INCIDENT` by the line, and says after each what became of all.
fn teller(settings: &str) -> Result<()> {
    let config = Config::from_toml(Path::new("settings"), settings)?;
    privilege::start()?;
    let mut features = BTreeMap::new();
    privilege::confine(&mut features)?;
    ensure!(features.values().all(|available| *available), "{features:?}");
    let push = Push::start_within(PATIENCE, &config.push)?;
    println!("ready");
    for line in stdin().lines() {
        let line = line?;
        if let Some((what, incident)) = line.split_once(' ') {
            push.tell(&serde_json::from_str(incident)?, change(what)?);
        }
        println!("{}", json!(push.counts().map(BTreeMap::from)));
    }
    push.close();
    Ok(())
}

/// The changes that are told here.
fn change(word: &str) -> Result<What> {
    match word {
        "opened" => Ok(What::Opened),
        "judged" => Ok(What::Judged),
        "state" => Ok(What::State(State::Active)),
        "closed" => Ok(What::Closed),
        _ => bail!("no change is called {word}"),
    }
}

/// The child, as its parent sees it.
struct Teller {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

type Counts = BTreeMap<String, u64>;

impl Teller {
    fn start(namespace: &Namespace, settings: &str) -> Result<Self> {
        let mut command = child::command(namespace, "/proc/self/exe")?;
        let command = command.args([MARK, settings]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start itself")?;
        let (input, output) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        let mut teller = Self { child, input, output: BufReader::new(output) };
        ensure!(teller.line()? == "ready", "it is not ready");
        Ok(teller)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "it has ended: {:?}", self.child.wait()?);
        Ok(line.trim_end().to_owned())
    }

    fn tell(&mut self, what: &str, incident: &Incident) -> Result<Counts> {
        self.order(&format!("{what} {}", serde_json::to_string(incident)?))
    }

    fn counts(&mut self) -> Result<Counts> {
        self.order("")
    }

    fn order(&mut self, line: &str) -> Result<Counts> {
        writeln!(self.input, "{line}")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("read {line:?}"))
    }

    /// Waits until one counter has reached a number, and returns all.
    fn reaches(&mut self, result: &str, least: u64) -> Result<Counts> {
        eventually(SOON, "changes are told", || {
            let counts = self.counts()?;
            ensure!(counts[result] >= least, "{counts:?}");
            Ok(counts)
        })
    }

    /// How long its end takes.
    fn end(self) -> Result<Duration> {
        let Self { mut child, input, output: _output } = self;
        let since = Instant::now();
        drop(input);
        let status = child.wait()?;
        ensure!(status.success(), "it has ended with {status}");
        Ok(since.elapsed())
    }
}

/// A file that goes with this value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(content: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("lossprobe-tests-push-{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _removed = fs::remove_file(&self.0);
    }
}

fn incident(id: &str, state: State, verdict: Name) -> Incident {
    let sentence = "The network has lost packets on their way from 192.0.2.7.".to_owned();
    let statement = Verdict { verdict, sentence, ..Verdict::default() };
    let party = Party::named_by(verdict).unwrap_or_default();
    let onset = "2026-01-18T10:40:00Z".to_owned();
    Incident { id: id.to_owned(), state, party, verdict, statement, onset, ..Incident::default() }
}

fn active(number: usize) -> Incident {
    incident(&format!("i{number:03}"), State::Active, Name::NetworkIn)
}

fn ids(requests: &[Request]) -> Vec<String> {
    requests.iter().filter_map(|request| Some(request.body["incident"]["id"].as_str()?.to_owned())).collect()
}

fn named(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("i{number:03}")).collect()
}

/// One receiver takes all, and the file with the token changes meanwhile; every thread is confined.
fn in_order_and_whole() -> Result<()> {
    let namespace = Namespace::new("push")?;
    let hook = Webhook::listen(&namespace, (LOOPBACK, 0), None, &[])?;
    let header = Temporary::new("Authorization: Bearer one\nX-Second: 2\n")?;
    let url = format!("http://{}/a?b=c", hook.address());
    let settings = format!("push_url = '{url}'\npush_header_file = '{}'\nredact = true\n", header.0.display());
    let mut teller = Teller::start(&namespace, &settings)?;
    for number in 0..20 {
        teller.tell("judged", &active(number))?;
    }
    let counts = teller.reaches("delivered", 20)?;
    assert_eq!((counts["rejected"], counts["dropped"], counts["retried"]), (0, 0, 0));
    super::privilege::confined(teller.child.id())?;

    fs::write(&header.0, "Authorization: Bearer two\n")?;
    teller.tell("closed", &incident("i020", State::Closed, Name::NetworkIn))?;
    teller.reaches("delivered", 21)?;
    teller.end()?;

    let requests = hook.requests();
    assert_eq!(ids(&requests), named(0..21));
    let (first, last) = (&requests[0], &requests[20]);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/a?b=c"));
    let field = |request: &Request, name: &str| request.headers.get(name).cloned().unwrap_or_default();
    assert_eq!((field(first, "authorization").as_str(), field(first, "x-second").as_str()), ("Bearer one", "2"));
    assert_eq!(field(last, "authorization"), "Bearer two");
    assert_eq!(field(first, "content-type"), "application/json");
    assert!(field(first, "user-agent").starts_with("lossprobe/"), "{first:?}");
    assert_eq!((&first.body["event"], &first.body["severity"]), (&json!("judged"), &json!("critical")));
    assert_eq!((&last.body["event"], &last.body["severity"]), (&json!("closed"), &json!("info")));
    let sentence = &first.body["incident"]["statement"]["sentence"];
    assert_eq!(sentence, "The network has lost packets on their way from [redacted].");
    Ok(())
}

/// What each manner of a receiver leads to: changes that arrive, in order, and counters.
fn bad_receivers() -> Result<()> {
    use Manner::{Answer, Close, Hang, Trickle};
    let namespace = Namespace::new("push")?;
    for (name, manners, arrive, rejected, retried) in [
        ("errors", &[Answer(500), Answer(503)][..], &[0, 1][..], 0, 2),
        ("asks to come again", &[Answer(429), Answer(408)], &[0, 1], 0, 2),
        ("closes", &[Close, Close, Close], &[0, 1], 0, 3),
        ("hangs", &[Hang], &[0, 1], 0, 1),
        ("never ends", &[Trickle], &[0, 1], 0, 1),
        ("refuses the first", &[Answer(400)], &[1], 1, 0),
        ("wants a token", &[Answer(401), Answer(403)], &[], 2, 0),
        ("sends elsewhere", &[Answer(302), Answer(307)], &[], 2, 0),
        ("all of it", &[Hang, Answer(500), Answer(404), Close, Trickle], &[1], 1, 4),
    ] {
        let hook = Webhook::listen(&namespace, (LOOPBACK, 0), None, manners)?;
        let mut teller = Teller::start(&namespace, &format!("push_url = 'http://{}'\n", hook.address()))?;
        for number in 0..2 {
            teller.tell("state", &active(number))?;
        }
        let expected: Counts =
            [("delivered", arrive.len() as u64), ("rejected", rejected), ("dropped", 0), ("retried", retried)]
                .map(|(result, count)| (result.to_owned(), count))
                .into();
        eventually(SOON, name, || {
            let counts = teller.counts()?;
            ensure!(counts == expected, "{counts:?} instead of {expected:?}");
            Ok(())
        })?;
        assert_eq!(ids(&hook.taken()), named(arrive.iter().copied()), "{name}");
        assert!(hook.requests().iter().all(|request| request.path == "/"), "{name}: a redirect was followed");
        teller.end()?;
    }
    Ok(())
}

/// Telling never waits; the oldest changes make room, and what is left arrives in order.
fn a_receiver_that_is_away() -> Result<()> {
    const TOLD: usize = 200;
    const ROOM: usize = 64;
    let namespace = Namespace::new("push")?;
    let address = Webhook::listen(&namespace, (LOOPBACK, 0), None, &[])?.address();
    eventually(SOON, "nobody listens", || {
        Webhook::listen(&namespace, (LOOPBACK, address.port()), None, &[Manner::Hang])?;
        Ok(())
    })?;
    let mut teller = Teller::start(&namespace, &format!("push_url = 'http://{address}'\n"))?;
    for number in 0..TOLD {
        teller.tell("state", &active(number))?;
    }
    let retried = teller.reaches("retried", 3)?;
    assert_eq!(retried["delivered"], 0);
    let hook = eventually(SOON, "listen again", || Webhook::listen(&namespace, (LOOPBACK, address.port()), None, &[]))?;
    let counts = teller.reaches("delivered", ROOM as u64)?;
    let counts =
        if counts["delivered"] == ROOM as u64 { teller.reaches("delivered", ROOM as u64 + 1)? } else { counts };
    // One was in hand all the time.
    assert_eq!((counts["delivered"], counts["dropped"]), (ROOM as u64 + 1, (TOLD - ROOM - 1) as u64));
    let arrived = ids(&hook.taken());
    assert_eq!(arrived[1..], named(TOLD - ROOM..TOLD));
    teller.end().map(drop)
}

/// Each alert of a request: its incident, severity and party, and whether it holds.
fn told_alerts(request: &Request) -> Result<Vec<(String, bool)>> {
    let alerts = request.body.as_array().context("no list")?;
    let one = |alert: &Value| {
        let labels = &alert["labels"];
        let words = ["incident", "severity", "party"].map(|label| labels[label].as_str().unwrap_or_default());
        ensure!(labels["alertname"] == "LossprobeIncident" && alert["startsAt"] == "2026-01-18T10:40:00Z", "{alert}");
        let ends: jiff::Timestamp = alert["endsAt"].as_str().context("no end")?.parse()?;
        Ok((words.join(" "), ends > request.time))
    };
    alerts.iter().map(one).collect()
}

/// An alert is repeated while it holds, and ends. What wakes nobody is no alert.
fn alerts() -> Result<()> {
    let namespace = Namespace::new("push")?;
    let hook = Webhook::listen(&namespace, (LOOPBACK, 0), None, &[Manner::Answer(500), Manner::Hang])?;
    let settings = format!("push_url = 'http://{}/'\npush_format = 'alertmanager'\n", hook.address());
    let mut teller = Teller::start(&namespace, &settings)?;
    teller.tell("opened", &incident("far", State::Opening, Name::None))?;
    teller.tell("judged", &incident("far", State::Active, Name::RemoteMalformed))?;
    teller.tell("opened", &active(1))?;
    let counts = teller.reaches("delivered", 1)?;
    assert_eq!((counts["delivered"], counts["retried"]), (1, 2));
    eventually(SOON, "the alert is repeated", || {
        ensure!(hook.taken().len() >= 3, "{} times", hook.taken().len());
        Ok(())
    })?;
    let repeated = hook.taken().len();
    teller.tell("state", &incident("i001", State::Acceptable, Name::NetworkIn))?;
    let counts = teller.reaches("delivered", 3)?;
    assert_eq!((counts["delivered"], counts["retried"]), (3, 2), "one has ended, and another begun");
    teller.tell("closed", &incident("i001", State::Closed, Name::NetworkIn))?;
    teller.reaches("delivered", 4)?;
    teller.end()?;

    let taken = hook.taken();
    let (critical, warning) = ("i001 critical network".to_owned(), "i001 warning network".to_owned());
    for request in &taken[..repeated] {
        assert_eq!((request.path.as_str(), told_alerts(request)?), ("/api/v2/alerts", vec![(critical.clone(), true)]));
    }
    let rest: Vec<_> = taken[repeated..].iter().map(told_alerts).collect::<Result<_>>()?;
    ensure!(rest.contains(&vec![(critical, false), (warning.clone(), true)]), "{rest:?}");
    assert_eq!(rest.last(), Some(&vec![(warning, false)]));
    Ok(())
}

/// From `client` to an address in `server`, of which the URL says that it is `host`.
fn told_by_https(server: &Namespace, client: &Namespace, address: Ipv4Addr, host: &str) -> Result<()> {
    let identity = Identity::new(host)?;
    let hook = Webhook::listen(server, (address.into(), 0), Some(&identity), &[Manner::Answer(500)])?;
    let authority = Temporary::new(&identity.authority)?;
    let (port, file) = (hook.address().port(), authority.0.display());
    let settings = format!("push_url = 'https://{host}:{port}/x'\npush_ca_file = '{file}'\n");
    let mut teller = Teller::start(client, &settings)?;
    teller.tell("opened", &active(7))?;
    let counts = teller.reaches("delivered", 1)?;
    ensure!(counts["retried"] >= 1, "{counts:?}");
    assert_eq!(ids(&hook.taken()), named([7]));
    teller.end().map(drop)
}

/// From one namespace into another: whoever tells is in its own.
fn https() -> Result<()> {
    let pair = Pair::new()?;
    told_by_https(&pair.left, &pair.right, LEFT, &LEFT.to_string())
}

/// Names are looked up by a further thread.
fn https_by_name() -> Result<()> {
    let namespace = Namespace::new("push")?;
    told_by_https(&namespace, &namespace, Ipv4Addr::LOCALHOST, "localhost")
}

/// Of no known authority, of another one, and for another name.
fn nobody_who_cannot_be_trusted() -> Result<()> {
    let namespace = Namespace::new("push")?;
    let (own, other, misnamed) =
        (Identity::new("127.0.0.1")?, Identity::new("127.0.0.1")?, Identity::new("192.0.2.1")?);
    for (name, identity, authority) in
        [("unknown", &own, None), ("another", &own, Some(&other)), ("misnamed", &misnamed, Some(&misnamed))]
    {
        let hook = Webhook::listen(&namespace, (LOOPBACK, 0), Some(identity), &[])?;
        let file = authority.map(|authority| Temporary::new(&authority.authority)).transpose()?;
        let trust = file.as_ref().map(|file| format!("push_ca_file = '{}'\n", file.0.display())).unwrap_or_default();
        let settings = format!("push_url = 'https://{}/x'\n{trust}", hook.address());
        let mut teller = Teller::start(&namespace, &settings)?;
        teller.tell("opened", &active(7))?;
        assert_eq!(teller.reaches("retried", 2)?["delivered"], 0);
        assert_eq!(hook.requests().len(), 0, "{name}: told somebody else");
        teller.end()?;
    }
    Ok(())
}

/// The end: what waits gets one more chance, and nobody holds it up.
fn farewell() -> Result<()> {
    let namespace = Namespace::new("push")?;
    for (manners, arrive) in [(&[Manner::Answer(500)][..], 3), (&[Manner::Hang; 9], 0)] {
        let hook = Webhook::listen(&namespace, (LOOPBACK, 0), None, manners)?;
        let mut teller = Teller::start(&namespace, &format!("push_url = 'http://{}'\n", hook.address()))?;
        for number in 0..3 {
            teller.tell("state", &active(number))?;
        }
        teller.reaches("retried", 1)?;
        let took = teller.end()?;
        println!("the end took {took:?}");
        ensure!(took < PATIENCE.farewell + Duration::from_secs(2), "the end took {took:?}");
        assert_eq!(ids(&hook.taken()), named(0..arrive), "{manners:?}");
    }
    Ok(())
}

fn wrong_files() -> Result<()> {
    let namespace = Namespace::new("push")?;
    let empty = Temporary::new("")?;
    for (key, path, expected) in [
        ("push_ca_file", Path::new("/nonexistent"), "read certificates (--push-ca-file) from /nonexistent"),
        ("push_ca_file", &empty.0, "holds no certificate in PEM form"),
        ("push_header_file", &empty.0, "holds no header field"),
    ] {
        let settings = format!("push_url = 'https://127.0.0.1'\n{key} = '{}'\n", path.display());
        let output = child::command(&namespace, "/proc/self/exe")?.args([MARK, &settings]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(expected), "{}: {said}", output.status);
    }
    Ok(())
}
