//! The agent's HTTP server: what it answers, and that nobody can stop it from answering.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    http::{connect, exchange, get, parse},
    namespace::Namespace,
    run::trial,
    topology::Pair,
    wait::eventually,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("http::endpoints", endpoints),
        trial("http::negotiation", negotiation),
        trial("http::garbage", garbage),
        trial("http::slow_clients", slow_clients),
    ]
}

fn endpoints() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    agent.get("/healthz")?;
    agent.get("/readyz")?;
    ensure!(agent.json("/api/v1/snapshot")?.is_object(), "the snapshot is an object");
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200),
    ] {
        let answer = exchange(right, Agent::address(), request.as_bytes())?;
        assert_eq!(parse(&answer)?.status, status, "{request:?}");
    }
    agent.stop()
}

/// One function makes both formats from the same output.
fn negotiation() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let ask = |accept: &[(&str, &str)]| get(right, Agent::address(), "/metrics", accept);
    let kind = |response: &tests::http::Response| response.headers.get("content-type").cloned().unwrap_or_default();
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for accept in [prometheus, "application/openmetrics-text", "application/openmetrics-text; version=1.0.0"] {
        let response = ask(&[("Accept", accept)])?;
        ensure!(kind(&response).starts_with("application/openmetrics-text"), "{accept}: {}", kind(&response));
        ensure!(response.body.ends_with("# EOF\n"), "OpenMetrics ends with EOF");
    }
    for accept in [&[][..], &[("Accept", "*/*")], &[("Accept", "text/plain")], &[("Accept", "text/html;q=nonsense")]] {
        let response = ask(accept)?;
        ensure!(kind(&response).starts_with("text/plain; version=0.0.4"), "{accept:?}: {}", kind(&response));
        for word in ["# EOF", "# UNIT", " info\n", "_created"] {
            ensure!(!response.body.contains(word), "the text format has no {word:?}");
        }
        // Every sample's own name has a TYPE of its own.
        let types: Vec<_> = response.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        for line in response.body.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let typed = types.iter().any(|line| line.split(' ').next() == Some(name));
            ensure!(typed, "{name} has no TYPE line");
        }
    }
    agent.stop()
}

fn answers_in_time(namespace: &Namespace) -> Result<()> {
    let started = Instant::now();
    let response = get(namespace, Agent::address(), "/metrics", &[])?;
    ensure!(response.status == 200, "/metrics says {}", response.status);
    ensure!(started.elapsed() < Duration::from_secs(5), "/metrics took {:?}", started.elapsed());
    Ok(())
}

fn garbage() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    let endless_body =
        format!("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{}", "z".repeat(1 << 16));
    let requests: [&[u8]; 9] = [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
        b"GET http://[::1/%00%ff HTTP/1.1\r\nHost: \x00\r\n\r\n",
        long_line.as_bytes(),
        many_headers.as_bytes(),
        endless_body.as_bytes(),
    ];
    for request in requests {
        let mut stream = connect(right, Agent::address())?;
        let _refused = stream.write_all(request);
        let _closed = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // Closed or refused, but not left hanging; a reset is also an end.
        let read = stream.take(1 << 20).read_to_end(&mut answer);
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        if let Err(error) = read {
            ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{shown:?}: {error}");
        }
        if let Ok(response) = parse(&answer) {
            ensure!((400..600).contains(&response.status), "{shown:?} answered with {}", response.status);
        }
        answers_in_time(right).with_context(|| format!("after {shown:?}"))?;
    }
    agent.stop()
}

/// Clients that never finish their request neither stop the others nor stay for ever.
fn slow_clients() -> Result<()> {
    const CLIENTS: usize = 200;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let slow: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut stream = connect(right, Agent::address())?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ")?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .collect::<Result<_>>()?;
    answers_in_time(right).context("with 200 slow clients")?;
    let mut waiting: Vec<_> = slow.iter().collect();
    eventually(Duration::from_secs(60), "the slow clients have been sent away", || {
        waiting.retain(|stream| {
            let mut stream = *stream;
            // A byte from time to time does not buy more time.
            let _closed = stream.write(b"x");
            match stream.read(&mut [0; 256]) {
                Ok(0) => false,
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        ensure!(waiting.is_empty(), "{} are still connected", waiting.len());
        Ok(())
    })?;
    answers_in_time(right)?;
    agent.stop()
}
