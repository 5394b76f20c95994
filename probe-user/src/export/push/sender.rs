//! The thread that delivers: one request at a time, and pauses between attempts that grow.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher as _, Hasher as _},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{debug, info, warn};
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{
    Patience, add,
    alerts::{self, Alerts},
    queue::Queue,
    told::Told,
};
use crate::{
    cli::PushFormat,
    config::Receiver,
    record::{host, redact::redact},
};

/// Most that is read of a file: of certificates, of header fields.
const MOST_FILE_BYTES: u64 = 1 << 20;
/// Header fields of a file.
const MOST_HEADERS: usize = 8;
/// Most that is shown of what a receiver says.
const MOST_ANSWER_BYTES: u64 = 200;

/// What is to be delivered next.
#[derive(Debug)]
enum Outbox {
    /// One change after the other.
    Events(Option<Box<Told>>),
    /// All there is.
    Alerts(Box<Alerts>),
}

/// How an attempt went.
#[derive(Debug)]
enum Outcome {
    Taken,
    /// The receiver will never take it.
    Refused(String),
    /// It may be taken later.
    Failed(String),
}

pub(super) struct Sender {
    agent: Agent,
    url: String,
    /// Shown in the log: the path may be a secret.
    name: String,
    header_file: Option<PathBuf>,
    redact: bool,
    patience: Patience,
    queue: Arc<Queue>,
    outbox: Outbox,
}

impl Sender {
    pub(super) fn new(receiver: &Receiver, redact: bool, patience: Patience, queue: Arc<Queue>) -> Result<Self> {
        // What is wrong with the file is said now, not when there is something to tell.
        receiver.header_file.as_deref().map(headers).transpose()?;
        let roots = receiver.ca_file.as_deref().map(authorities).transpose()?;
        let tls = TlsConfig::builder().root_certs(roots.map_or(RootCerts::WebPki, RootCerts::from)).build();
        let agent = Agent::config_builder()
            .timeout_global(Some(patience.attempt))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(concat!("lossprobe/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let (url, outbox) = match receiver.format {
            PushFormat::Json => (receiver.url.to_string(), Outbox::Events(None)),
            PushFormat::Alertmanager => {
                (alerts_url(&receiver.url), Outbox::Alerts(Box::new(Alerts::new(host::name(), &patience))))
            }
        };
        let name = receiver.url.authority().map_or_else(String::new, ToString::to_string);
        let header_file = receiver.header_file.clone();
        Ok(Self { agent: agent.into(), url, name, header_file, redact, patience, queue, outbox })
    }

    /// Until the end.
    pub(super) fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let is_ending = match failures {
                0 => self.queue.wait_for_change(self.due_in()),
                _ => self.queue.wait_for_end(self.pause(failures)),
            };
            self.fill();
            if let Some(outcome) = self.deliver() {
                failures = self.settle(&outcome, failures);
            }
            // At the end everything gets one more chance, and the first that fails was the last.
            if is_ending && (failures > 0 || self.queue.is_empty()) {
                return self.queue.leave(self.in_hand());
            }
        }
    }

    fn fill(&mut self) {
        match &mut self.outbox {
            Outbox::Events(Some(_)) => {}
            Outbox::Events(next) => *next = self.queue.take(1).pop().map(Box::new),
            Outbox::Alerts(alerts) => {
                let lost = self.queue.take(usize::MAX).iter().map(|told| alerts.take(told)).sum();
                add(&self.queue.results.dropped, lost);
            }
        }
    }

    /// `None` if there is nothing to deliver.
    fn deliver(&mut self) -> Option<Outcome> {
        let mut body = match &mut self.outbox {
            Outbox::Events(next) => next.as_deref().map(Told::event),
            Outbox::Alerts(alerts) => alerts.body(Timestamp::now()),
        }?;
        if self.redact {
            redact(&mut body);
        }
        Some(self.post(&body).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}"))))
    }

    fn post(&self, body: &Value) -> Result<Outcome> {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(path) = &self.header_file {
            for (name, value) in &headers(path)? {
                request = request.header(name, value);
            }
        }
        let mut answer = request.send(body.to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Outcome::Taken);
        }
        let mut said = Vec::new();
        // Where it cannot be read, the status says enough.
        let _unread = answer.body_mut().as_reader().take(MOST_ANSWER_BYTES).read_to_end(&mut said);
        let said = format!("it answers {status}: {:?}", String::from_utf8_lossy(&said));
        // 408 and 429 ask to come again.
        let is_temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        Ok(if is_temporary { Outcome::Failed(said) } else { Outcome::Refused(said) })
    }

    /// Counts, and says what is worth a line: the beginning and the end of a bad time. Returns the failures in a row.
    fn settle(&mut self, outcome: &Outcome, failures: u32) -> u32 {
        let (name, results) = (&self.name, &self.queue.results);
        let counter = match outcome {
            Outcome::Taken => &results.delivered,
            Outcome::Refused(_) => &results.rejected,
            Outcome::Failed(cause) => {
                add(&results.retried, 1);
                match failures {
                    0 => warn!("{name} cannot be told of incidents, trying again: {cause}"),
                    _ => debug!("{name} cannot be told of incidents: {cause}"),
                }
                return failures.saturating_add(1);
            }
        };
        let changes = match &mut self.outbox {
            Outbox::Events(next) => next.take().map_or(0, |_| 1),
            Outbox::Alerts(alerts) => alerts.settled(),
        };
        add(counter, changes);
        match outcome {
            Outcome::Refused(cause) => warn!("{name} does not want to be told of incidents: {cause}"),
            Outcome::Taken | Outcome::Failed(_) if failures > 0 => info!(failures, "{name} is told of incidents again"),
            Outcome::Taken | Outcome::Failed(_) => {}
        }
        0
    }

    fn in_hand(&self) -> usize {
        match &self.outbox {
            Outbox::Events(next) => usize::from(next.is_some()),
            Outbox::Alerts(alerts) => usize::try_from(alerts.changes()).unwrap_or(usize::MAX),
        }
    }

    fn due_in(&self) -> Duration {
        match &self.outbox {
            Outbox::Events(_) => Duration::MAX,
            Outbox::Alerts(alerts) => {
                alerts.due_in(Timestamp::now()).map_or(Duration::MAX, SignedDuration::unsigned_abs)
            }
        }
    }

    /// Doubled each time, and different on each host: in a bad hour all of them have something to tell.
    fn pause(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
        let pause = self.patience.first_pause.saturating_mul(factor).min(self.patience.longest_pause);
        let by_lot = RandomState::new().build_hasher().finish() % 512;
        pause.mul_f64(0.5 + by_lot as f64 / 1024.0)
    }
}

/// An Alertmanager is named by its address or by the very path.
fn alerts_url(url: &hyper::Uri) -> String {
    let url = url.to_string();
    let bare = url.trim_end_matches('/');
    bare.strip_suffix(alerts::PATH).unwrap_or(bare).to_owned() + alerts::PATH
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("read {what} from {}", path.display()))?;
    ensure!(bytes.len() as u64 <= MOST_FILE_BYTES, "{} has more than {MOST_FILE_BYTES} bytes", path.display());
    Ok(bytes)
}

/// The certificates of a PEM file.
fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = read(path, "certificates (--push-ca-file)")?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => bail!("{} is no PEM file of certificates: {error}", path.display()),
        }
    }
    ensure!(!found.is_empty(), "{} holds no certificate in PEM form", path.display());
    Ok(found)
}

/// The header fields of a file, one a line. Values stay out of logs and errors.
fn headers(path: &Path) -> Result<HeaderMap> {
    let text = read(path, "header fields (--push-header-file)")?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut headers = HeaderMap::new();
    for (at, line) in lines.enumerate() {
        let place = || format!("{}: field {}", path.display(), at + 1);
        ensure!(at < MOST_HEADERS, "{} holds more than {MOST_HEADERS} header fields", path.display());
        let (name, value) = line.split_once(':').with_context(|| format!("{}: write NAME: VALUE", place()))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("{}: the name", place()))?;
        let mut value: HeaderValue = value.trim().parse().with_context(|| format!("{}: the value", place()))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    ensure!(!headers.is_empty(), "{} holds no header field", path.display());
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = env::temp_dir().join(format!("lossprobe-push-{}-{name}", process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn header_fields() {
        for (name, content, expected) in [
            ("one", "Authorization: Bearer a:b\n", Ok(&[("authorization", "Bearer a:b")][..])),
            ("two", "\n X-Id :  7 \r\n\nX-Key: é\n", Ok(&[("x-id", "7"), ("x-key", "é")])),
            ("empty", "\n\n", Err("holds no header field")),
            ("token", "s3cret\n", Err("field 1: write NAME: VALUE")),
            ("name", "A: b\nA B: s3cret", Err("field 2: the name")),
            ("value", "A: s3cret\u{7}", Err("field 1: the value")),
            ("many", &"A: b\n".repeat(9), Err("more than 8 header fields")),
        ] {
            let path = file(name, content.as_bytes());
            let found = headers(&path).map_err(|error| format!("{error:#}"));
            fs::remove_file(&path).unwrap();
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
                    let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
                    assert_eq!(found, expected, "{name}");
                }
                (Err(said), Err(expected)) => assert!(said.contains(expected) && !said.contains("s3cret"), "{said}"),
                (found, expected) => unreachable!("{name}: {found:?}, not {expected:?}"),
            }
        }
        let said = format!("{:#}", headers(Path::new("/nonexistent")).unwrap_err());
        assert!(said.starts_with("read header fields (--push-header-file) from /nonexistent: No such file"), "{said}");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        for (name, content, expected) in [
            ("nothing", &b""[..], "holds no certificate in PEM form"),
            ("text", b"hello", "holds no certificate in PEM form"),
            ("cut", b"-----BEGIN CERTIFICATE-----\nMIIB", "is no PEM file of certificates"),
            ("large", &vec![b'x'; (1 << 20) + 1], "has more than 1048576 bytes"),
        ] {
            let path = file(name, content);
            let said = format!("{:#}", authorities(&path).unwrap_err());
            fs::remove_file(&path).unwrap();
            assert!(said.contains(expected), "{name}: {said}");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let receiver = Receiver {
            url: "http://localhost".parse().unwrap(),
            format: PushFormat::Json,
            ca_file: None,
            header_file: None,
        };
        let sender = Sender::new(&receiver, false, Patience::default(), Arc::default()).unwrap();
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (33, 60), (u32::MAX, 60)] {
            let pause = sender.pause(failures);
            let longest = Duration::from_secs(longest);
            assert!(pause >= longest / 2 && pause < longest, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn where_alerts_are_posted() {
        for (url, expected) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://x.example/am/", "https://x.example/am/api/v2/alerts"),
            ("https://x.example/am/api/v2/alerts", "https://x.example/am/api/v2/alerts"),
        ] {
            assert_eq!(alerts_url(&url.parse().unwrap()), expected);
        }
    }
}
