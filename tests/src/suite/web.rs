//! What `--web-config` protects: who is let in, what a reload does, and that nobody can keep the others out.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixStream,
    },
    path::PathBuf,
    process::id,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rustls::version::TLS12;
use tests::{
    agent::{Agent, lossprobe},
    http::{self, Response, connect, exchange, parse},
    metrics::Metrics,
    namespace::Namespace,
    program,
    run::trial,
    tls::{Authority, Client, Papers},
    topology::Pair,
    wait::eventually,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("web::tls_and_users", tls_and_users),
        trial("web::users_without_tls", users_without_tls),
        trial("web::reload", reload),
        trial("web::a_reload_opens_nothing", a_reload_opens_nothing),
        trial("web::client_certificates", client_certificates),
        trial("web::versions", versions),
        trial("web::slow_handshakes", slow_handshakes),
        trial("web::guessed_passwords", guessed_passwords),
        trial("web::what_cannot_be_read_later", what_cannot_be_read_later),
        trial("web::bad_files", bad_files),
        trial("web::socket_group", socket_group),
    ]
}

/// With promtool, which guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    vec![trial("web::the_example_is_prometheus", the_example_is_prometheus)]
}

/// Loading takes seconds under emulation; files are looked at every 5 s.
const SOON: Duration = Duration::from_secs(60);
/// Of "correct horse", cheap and as usual.
const CORRECT: &str = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
const CORRECT_AND_SLOW: &str = "$2y$10$zyxwvutsrqponmlkjihgfeuaBNgECvMzIh3Z01odV4WoKJrs/zJSy";
/// Of "battery staple".
const BATTERY: &str = "$2b$04$zyxwvutsrqponmlkjihgfeEj9hZ0r426ruQozKPdS8ZvkuJvyAjnm";
/// `alice:correct horse`
const ALICE: (&str, &str) = ("Authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==");
/// `alice:battery staple`
const OTHER: (&str, &str) = ("Authorization", "Basic YWxpY2U6YmF0dGVyeSBzdGFwbGU=");
/// `bob:correct horse`
const BOB: (&str, &str) = ("Authorization", "Basic Ym9iOmNvcnJlY3QgaG9yc2U=");
const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// A folder with a web configuration and what it names, until dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(config: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("lossprobe-tests-web-{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let folder = Self(path);
        folder.write("web.yml", config)?;
        Ok(folder)
    }

    /// With the papers of a server, for which the authority vouches.
    fn with_papers(config: &str, authority: &Authority) -> Result<Self> {
        let folder = Self::new(config)?;
        folder.papers(&authority.vouch("127.0.0.1")?)?;
        Ok(folder)
    }

    /// In one step, as whoever replaces a file that is in use does it.
    fn write(&self, name: &str, content: &str) -> Result<()> {
        let new = self.path(".new");
        fs::write(&new, content)?;
        fs::rename(&new, self.path(name)).with_context(|| format!("write {name}"))
    }

    fn papers(&self, papers: &Papers) -> Result<()> {
        self.write("server.key", &papers.key)?;
        self.write("server.pem", &papers.certificate)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn config(&self) -> String {
        self.path("web.yml").display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn user(hash: &str) -> String {
    format!("basic_auth_users:\n  alice: {hash}\n")
}

fn start<'n>(namespace: &'n Namespace, folder: &Folder) -> Result<Agent<'n>> {
    let agent = Agent::spawn(namespace, &["--interface", "b", "--web-config", &folder.config()])?;
    eventually(SOON, "the agent is ready", || {
        let answer = by_socket(&agent, "/readyz")?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .with_context(|| agent.log())?;
    Ok(agent)
}

fn by_socket(agent: &Agent<'_>, path: &str) -> Result<Response> {
    let mut stream = UnixStream::connect(agent.socket())?;
    stream.set_read_timeout(Some(http::PATIENCE))?;
    stream.write_all(http::request(Agent::address(), path, &[]).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

fn is_current(agent: &Agent<'_>) -> Result<Option<f64>> {
    Ok(Metrics::parse(&by_socket(agent, "/metrics")?.body)?.get("lossprobe_web_config_current", &[]))
}

/// What is asked of one TLS port.
struct Asked<'n>(&'n Namespace, Client);

impl Asked<'_> {
    fn get(&self, headers: &[(&str, &str)]) -> Result<Response> {
        self.1.get(self.0, Agent::address(), "/metrics", headers)
    }

    fn status(&self, headers: &[(&str, &str)]) -> Result<u16> {
        Ok(self.get(headers)?.status)
    }
}

fn tls_and_users() -> Result<()> {
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let headers =
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=7\n    Content-Security-Policy: x\n";
    let folder = Folder::with_papers(&format!("{TLS}{headers}{}", user(CORRECT)), &authority)?;
    let agent = start(&pair.right, &folder)?;
    let asked = Asked(&pair.right, Client::new(&authority, None)?);

    let good = asked.get(&[ALICE])?;
    ensure!(good.status == 200 && good.body.contains("\nlossprobe_web_config_current 1\n"), "{good:?}");
    let same = asked.get(&[ALICE])?;
    for answer in [&good, &same] {
        let field = |name: &str| answer.headers.get(name).map(String::as_str);
        assert_eq!(
            (field("strict-transport-security"), field("content-security-policy")),
            (Some("max-age=7"), Some("x"))
        );
        assert_eq!(field("x-content-type-options"), Some("nosniff"));
    }
    for wrong in [
        &[][..],
        &[OTHER],
        &[BOB],
        &[("Authorization", "Basic")],
        &[("Authorization", "Basic !")],
        &[("Authorization", "Basic YWxpY2U=")],
        &[("Authorization", "Bearer YWxpY2U6Y29ycmVjdCBob3JzZQ==")],
        &[("Authorization", "Basic Og==")],
    ] {
        let answer = asked.get(wrong)?;
        let challenge = answer.headers.get("www-authenticate").map_or("", String::as_str);
        ensure!(answer.status == 401 && challenge.starts_with("Basic realm="), "{wrong:?}: {answer:?}");
        ensure!(!answer.body.contains("lossprobe_"), "{wrong:?} reads: {answer:?}");
        assert_eq!(answer.headers.get("strict-transport-security").map(String::as_str), Some("max-age=7"));
    }
    ensure!(asked.1.get(&pair.right, Agent::address(), "/nothing", &[])?.status == 401, "pages can be guessed");
    ensure!(
        Asked(&pair.right, Client::new(&Authority::new()?, None)?).get(&[ALICE]).is_err(),
        "believed by a stranger"
    );

    // Whoever speaks no TLS is answered, and not let in.
    let plain = http::get(&pair.right, Agent::address(), "/metrics", &[ALICE])?;
    ensure!(plain.status == 400 && plain.body.contains("https://"), "{plain:?}");
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\x16", b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01", b"\n"]
    {
        let answer = exchange_closing(&pair.right, garbage)?;
        ensure!(!String::from_utf8_lossy(&answer).contains("200 OK"), "{garbage:?}: {answer:?}");
    }
    ensure!(asked.status(&[ALICE])? == 200, "after garbage");
    super::privilege::confined(agent.pid())?;
    agent.stop()
}

/// Sends, has no more to say, and reads until the end, which may be a reset.
fn exchange_closing(namespace: &Namespace, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(namespace, Agent::address())?;
    let _refused = stream.write_all(request);
    let _closed = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error).context("left hanging"),
        Ok(_) | Err(_) => Ok(answer),
    }
}

fn users_without_tls() -> Result<()> {
    let pair = Pair::new()?;
    let folder = Folder::new(&user(CORRECT))?;
    let agent = start(&pair.right, &folder)?;
    let get = |headers: &[(&str, &str)]| http::get(&pair.right, Agent::address(), "/healthz", headers);
    assert_eq!((get(&[])?.status, get(&[ALICE])?.status, get(&[OTHER])?.status), (401, 200, 401));
    let post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc";
    assert_eq!(parse(&exchange(&pair.right, Agent::address(), post)?)?.status, 401);
    ensure!(agent.log().contains("without TLS"), "the log does not warn: {}", agent.log());
    agent.stop()
}

/// Certificate, users and what is broken, each while the agent runs.
fn reload() -> Result<()> {
    let (pair, first, second) = (Pair::new()?, Authority::new()?, Authority::new()?);
    let folder = Folder::with_papers(&format!("{TLS}{}", user(CORRECT)), &first)?;
    let agent = start(&pair.right, &folder)?;
    let of_first = Asked(&pair.right, Client::new(&first, None)?);
    let of_second = Asked(&pair.right, Client::new(&second, None)?);
    ensure!(of_first.status(&[ALICE])? == 200 && of_second.get(&[ALICE]).is_err(), "as at the start");

    // By itself.
    folder.papers(&second.vouch("127.0.0.1")?)?;
    eventually(SOON, "the new certificate is shown", || of_second.get(&[ALICE]).map(drop))?;
    ensure!(of_first.get(&[ALICE]).is_err(), "the old one, too");

    // At once, by a signal.
    folder.write("web.yml", &format!("{TLS}{}", user(BATTERY)))?;
    agent.signal(Signal::SIGHUP)?;
    eventually(SOON, "the new password is taken", || {
        ensure!(of_second.status(&[OTHER])? == 200, "not yet");
        Ok(())
    })?;
    assert_eq!(of_second.status(&[ALICE])?, 401, "the old password is remembered");

    for (name, content, said) in [
        ("web.yml", "tls_server_config:\n  certfile: x\n", "web.yml:2:3: key tls_server_config.certfile: unknown key"),
        ("server.key", "nothing\n", "server.key holds no private key"),
        ("server.key", &first.vouch("127.0.0.1")?.key, "do not go together"),
        ("server.pem", "-----BEGIN CERTIFICATE-----\nMII", "server.pem is no PEM file"),
    ] {
        let good = fs::read_to_string(folder.path(name))?;
        folder.write(name, content)?;
        agent.signal(Signal::SIGHUP)?;
        eventually(SOON, "the metric says that it is broken", || {
            ensure!(is_current(&agent)? == Some(0.0), "{:?}", is_current(&agent)?);
            Ok(())
        })?;
        ensure!(agent.log().contains(said), "the log does not say {said:?}: {}", agent.log());
        assert_eq!((of_second.status(&[OTHER])?, of_second.status(&[])?), (200, 401), "{said}");
        folder.write(name, &good)?;
        agent.signal(Signal::SIGHUP)?;
        eventually(SOON, "the metric says that it is good", || {
            ensure!(is_current(&agent)? == Some(1.0), "{:?}", is_current(&agent)?);
            Ok(())
        })?;
    }
    super::privilege::confined(agent.pid())?;
    agent.stop()
}

/// A file that is being written is short for a moment.
fn a_reload_opens_nothing() -> Result<()> {
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let mutual = format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n");
    let folder = Folder::with_papers(&format!("{mutual}{}", user(CORRECT)), &authority)?;
    folder.write("ca.pem", &authority.pem())?;
    let agent = start(&pair.right, &folder)?;
    let papers = authority.vouch("client")?;
    let known = Asked(&pair.right, Client::new(&authority, Some(&papers))?);
    let unknown = Asked(&pair.right, Client::new(&authority, None)?);
    for (content, said) in [
        (String::new(), "TLS begins or ends"),
        (user(CORRECT), "TLS begins or ends"),
        (mutual.clone(), "passwords are no longer asked for"),
        (format!("{TLS}{}", user(CORRECT)), "clients' certificates are no longer asked for"),
    ] {
        folder.write("web.yml", &content)?;
        agent.signal(Signal::SIGHUP)?;
        eventually(SOON, said, || {
            ensure!(agent.log().contains(said), "{}", agent.log());
            Ok(())
        })?;
        assert_eq!((known.status(&[ALICE])?, known.status(&[])?), (200, 401), "{said}");
        ensure!(unknown.get(&[ALICE]).is_err(), "{said}: let in without a certificate");
    }
    agent.stop()
}

fn client_certificates() -> Result<()> {
    let (pair, servers, clients) = (Pair::new()?, Authority::new()?, Authority::new()?);
    let (papers, others) = (clients.vouch("client")?, servers.vouch("client")?);
    for (kind, without) in [("RequireAndVerifyClientCert", false), ("VerifyClientCertIfGiven", true)] {
        let config = format!("{TLS}  client_auth_type: {kind}\n  client_ca_file: ca.pem\n");
        let folder = Folder::with_papers(&config, &servers)?;
        folder.write("ca.pem", &clients.pem())?;
        let agent = start(&pair.right, &folder)?;
        for (name, papers, is_let_in) in
            [("good", Some(&papers), true), ("another's", Some(&others), false), ("none", None, without)]
        {
            let answer = Asked(&pair.right, Client::new(&servers, papers)?).status(&[]);
            ensure!(answer.as_ref().is_ok_and(|status| *status == 200) == is_let_in, "{kind}, {name}: {answer:?}");
        }
        agent.stop()?;
    }
    Ok(())
}

fn versions() -> Result<()> {
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let old = Asked(&pair.right, Client::of_versions(&[&TLS12], &authority, None)?);
    for (more, is_let_in) in [
        ("", true),
        ("  min_version: TLS13\n", false),
        ("  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n", true),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", false),
    ] {
        let folder = Folder::with_papers(&format!("{TLS}{more}"), &authority)?;
        let agent = start(&pair.right, &folder)?;
        ensure!(old.get(&[]).is_ok() == is_let_in, "TLS 1.2, {more:?}: {:?}", old.get(&[]));
        ensure!(Asked(&pair.right, Client::new(&authority, None)?).status(&[])? == 200, "TLS 1.3, {more:?}");
        agent.stop()?;
    }
    Ok(())
}

/// 200 that never finish their handshake, each in another place of it, neither stop a scrape nor stay.
fn slow_handshakes() -> Result<()> {
    const CLIENTS: usize = 200;
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let folder = Folder::with_papers(&format!("{TLS}{}", user(CORRECT)), &authority)?;
    let agent = start(&pair.right, &folder)?;
    let asked = Asked(&pair.right, Client::new(&authority, None)?);
    let in_time = |when: &str| -> Result<()> {
        let started = Instant::now();
        let answer = asked.get(&[ALICE]).with_context(|| when.to_owned())?;
        ensure!(answer.status == 200 && started.elapsed() < Duration::from_secs(5), "{when}: {:?}", started.elapsed());
        Ok(())
    };
    let beginnings: [&[u8]; 4] = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET /metrics HT"];
    let slow: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut stream = connect(&pair.right, Agent::address())?;
            stream.write_all(beginnings[number % beginnings.len()])?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .collect::<Result<_>>()?;
    in_time("with 200 slow clients")?;
    let mut waiting: Vec<_> = slow.iter().collect();
    eventually(SOON, "the slow clients have been sent away", || {
        waiting.retain(|stream| {
            let mut stream = *stream;
            match stream.read(&mut [0; 256]) {
                Ok(0) => false,
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        ensure!(waiting.is_empty(), "{} are still connected", waiting.len());
        Ok(())
    })?;
    in_time("after them")?;
    agent.stop()
}

/// Who guesses takes no time from the thread that counts, and none from who was let in before.
fn guessed_passwords() -> Result<()> {
    const GUESSERS: usize = 8;
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let folder = Folder::with_papers(&format!("{TLS}{}", user(CORRECT_AND_SLOW)), &authority)?;
    let agent = start(&pair.right, &folder)?;
    let asked = Asked(&pair.right, Client::new(&authority, None)?);
    ensure!(asked.status(&[ALICE])? == 200, "before");
    let (ended, refused, busy) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..GUESSERS {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    match asked.status(&[OTHER]) {
                        Ok(401) => refused.fetch_add(1, Ordering::Relaxed),
                        Ok(503) => busy.fetch_add(1, Ordering::Relaxed),
                        // A connection that waited for longest makes room.
                        Ok(_) | Err(_) => 0,
                    };
                }
            });
        }
        let scrapes = (0..20).try_for_each(|_| -> Result<()> {
            let started = Instant::now();
            ensure!(asked.status(&[ALICE])? == 200, "while others guess");
            ensure!(started.elapsed() < Duration::from_secs(3), "a scrape took {:?}", started.elapsed());
            Ok(())
        });
        let uptime = || -> Result<u64> {
            let answer = by_socket(&agent, "/api/v1/snapshot")?;
            serde_json::from_str::<serde_json::Value>(&answer.body)?["uptime_ms"].as_u64().context("no uptime")
        };
        let ticks = uptime().and_then(|before| {
            eventually(Duration::from_secs(10), "it ticks", || {
                ensure!(uptime()? >= before + 2_000, "no tick");
                Ok(())
            })
        });
        let guessed = eventually(SOON, "some guesses were looked at", || {
            ensure!(refused.load(Ordering::Relaxed) >= 3, "{refused:?}");
            Ok(())
        });
        ended.store(true, Ordering::Relaxed);
        scrapes.and(ticks).and(guessed)
    })?;
    println!("{refused:?} guesses refused, {busy:?} sent away");
    agent.stop()
}

/// At the start everything can be read, and later what this user may read: the difference is said at the start.
fn what_cannot_be_read_later() -> Result<()> {
    let (namespace, authority) = (Namespace::new("web")?, Authority::new()?);
    let folder = Folder::with_papers(TLS, &authority)?;
    let key = folder.path("server.key");
    chown(&key, Some(65_534), Some(65_534))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    refused(&namespace, &folder, &["server.key: permission denied", "user 0 and group 0", "let them read it"])
}

fn refused(namespace: &Namespace, folder: &Folder, expected: &[&str]) -> Result<()> {
    let output = lossprobe(namespace, &["agent", "--socket", "none", "--web-config", &folder.config()])?;
    let said = String::from_utf8_lossy(&output.stderr);
    for words in expected {
        ensure!(!output.status.success() && said.contains(words), "{}, no {words:?} in {said}", output.status);
    }
    Ok(())
}

fn bad_files() -> Result<()> {
    let (namespace, authority) = (Namespace::new("web")?, Authority::new()?);
    for (config, expected) in [
        ("tls_server_config:\n  cert: x\n", "web.yml:2:3: key tls_server_config.cert: certificates are not read from"),
        ("basic_auth_users:\n  alice: secret\n", "web.yml:2:10: key basic_auth_users.alice: this is no bcrypt hash"),
        ("tls_server_config:\n  cert_file: none.pem\n  key_file: server.key\n", "none.pem: No such file"),
        ("tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n", "holds no certificate"),
        ("tls_server_config:\n  cert_file: server.pem\n  key_file: server.pem\n", "server.pem holds no private key"),
    ] {
        refused(&namespace, &Folder::with_papers(config, &authority)?, &[expected])?;
    }
    let output = lossprobe(&namespace, &["agent", "--web-config", "/nonexistent"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("--web-config: cannot read /nonexistent"), "{said}");
    Ok(())
}

fn socket_group() -> Result<()> {
    const GROUP: u32 = 54_321;
    let pair = Pair::new()?;
    let agent = Agent::start(&pair.right, &["--interface", "b", "--socket-group", &GROUP.to_string()])?;
    let file = fs::metadata(agent.socket())?;
    assert_eq!((file.gid(), file.permissions().mode() & 0o7777), (GROUP, 0o660));
    agent.stop()?;
    for (more, expected) in [
        (&["--socket-group", "no-such-group"][..], "--socket-group: no group `no-such-group` in /etc/group; write its"),
        (&["--socket-group", "0", "--socket", "none"], "--socket-group: there is no socket"),
    ] {
        let output = lossprobe(&pair.right, &[&["agent"][..], more].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(expected), "{}: {said}", output.status);
    }
    Ok(())
}

/// The file that is shipped is good for Prometheus' own tool and for the agent.
fn the_example_is_prometheus() -> Result<()> {
    const EXAMPLE: &str = include_str!("../../../deploy/web.yml");
    /// `prometheus:change-me`
    const READER: (&str, &str) = ("Authorization", "Basic cHJvbWV0aGV1czpjaGFuZ2UtbWU=");
    let (pair, authority) = (Pair::new()?, Authority::new()?);
    let folder = Folder::with_papers(EXAMPLE, &authority)?;
    let said = program::run(&pair.right, "promtool", &["check", "web-config", &folder.config()], "")?;
    println!("{}", said.trim());
    let mutual = EXAMPLE.replace("  # client_", "  client_");
    folder.write("web.yml", &mutual)?;
    folder.write("clients.pem", &authority.pem())?;
    program::run(&pair.right, "promtool", &["check", "web-config", &folder.config()], "")?;
    let agent = start(&pair.right, &folder)?;
    let asked = Asked(&pair.right, Client::new(&authority, Some(&authority.vouch("client")?))?);
    assert_eq!((asked.status(&[READER])?, asked.status(&[])?), (200, 401));
    agent.stop()
}
