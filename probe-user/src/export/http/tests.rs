use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, process, sync::Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    event::Notice,
    export::{Place, watch::Watchers},
    snapshot::Interface,
};

/// How the metrics of [`Fake`] end.
const LAST_LINE: &str = "lossprobe_evidence_lost_total 0\n";

/// What nothing here should need.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Fake {
    missing: Mutex<Option<String>>,
    reads: Mutex<u64>,
    watchers: Arc<Watchers>,
    interfaces: usize,
}

impl Fake {
    /// One whose metrics are 20 MB, more than the buffers of two sockets hold.
    fn large() -> Self {
        Self { interfaces: 2_000, ..Self::default() }
    }
}

impl Source for Fake {
    fn latest(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot { schema: crate::snapshot::SCHEMA, uptime_ms: 7, ..Snapshot::default() })
    }

    fn read(&self) -> Arc<Snapshot> {
        let mut reads = self.reads.lock().unwrap();
        *reads += 1;
        let mut snapshot = Snapshot::default();
        snapshot.probe.drop_members = *reads;
        snapshot.interfaces = (0..self.interfaces)
            .map(|at| Interface { name: format!("i{at}"), alias: "a".repeat(10_000), ..Interface::default() })
            .collect();
        Arc::new(snapshot)
    }

    fn readiness(&self) -> Result<(), String> {
        self.missing.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn obey(&self, order: Order) -> Result<AgentState, String> {
        *self.missing.lock().unwrap() = Some(order.id().to_owned());
        if order == Order::Resume { Err("the kernel refused".to_owned()) } else { Ok(AgentState::Paused) }
    }

    fn watch(&self) -> Result<Lines, String> {
        self.watchers.subscribe()
    }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Server {
    fn start(source: Fake, limits: Limits, unix: Option<&std::path::Path>) -> Self {
        let unix = unix.map(|path| Place { path, group: None });
        let listeners = Listeners::bind(SocketAddr::from(([127, 0, 0, 1], 0)), unix).unwrap();
        let address = listeners.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _dropped = stopped.await;
        };
        let task = tokio::spawn(serve_within(limits, listeners, Arc::new(source), shutdown));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request as it is and reads to the end of the connection.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(stream).await
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("stops").unwrap().unwrap();
    }
}

/// Everything until the server closes, however it does.
async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _reset = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8(bytes).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn short() -> Limits {
    Limits { head: Duration::from_millis(200), grace: Duration::from_millis(200), ..Limits::default() }
}

#[track_caller]
fn has(answer: &str, status: &str, parts: &[&str]) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{status}: {answer}");
    for part in parts {
        assert!(answer.to_ascii_lowercase().contains(&part.to_ascii_lowercase()), "{part}: {answer}");
    }
}

#[test]
fn every_page_answers() {
    run(async {
        let server = Server::start(Fake::default(), Limits::default(), None);
        has(&server.get("/healthz", "").await, "200 OK", &["content-type: text/plain", "\r\n\r\nok"]);
        has(&server.get("/readyz", "").await, "200 OK", &["ready"]);
        has(&server.get("/", "").await, "200 OK", &["text/html", "href=/metrics", "nosniff"]);
        has(&server.get("/api/v1/snapshot", "").await, "200 OK", &["application/json", "\"uptime_ms\":7"]);
        has(&server.get("/nothing", "").await, "404 Not Found", &["application/json", "{\"error\":"]);
        for elsewhere in
            ["/../etc/passwd", "//etc/passwd", "/metrics/../../etc/passwd", "/%2e%2e/etc/passwd", "/metrics/"]
        {
            has(&server.get(elsewhere, "").await, "404 Not Found", &["{\"error\":\"no such page"]);
        }
        let text = server.get("/metrics", "").await;
        has(&text, "200 OK", &["text/plain; version=0.0.4", "lossprobe_drop_members_total 1\n"]);
        assert!(!text.contains("# EOF"));
        let openmetrics =
            server.get("/metrics", "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n");
        let read_again = "lossprobe_drop_members_total 2\n";
        has(&openmetrics.await, "200 OK", &["application/openmetrics-text; version=1.0.0", read_again, "# EOF\n"]);
        server.stop().await;
    });
}

#[test]
fn parameters_that_are_none_are_named() {
    run(async {
        let server = Server::start(Fake::default(), Limits::default(), None);
        for query in ["bogus=1", "bogus", "&bogus=1&other=2", "bogus&"] {
            let answer = server.get(&format!("/api/v1/snapshot?{query}"), "").await;
            has(&answer, "400 Bad Request", &["application/json", "{\"error\":\"unknown parameter `bogus`;"]);
        }
        has(&server.get("/api/v1/snapshot?", "").await, "200 OK", &["\"uptime_ms\":7"]);
        has(&server.get("/metrics?collect=all", "").await, "200 OK", &[]);
        server.stop().await;
    });
}

#[test]
fn not_ready_says_what_is_missing() {
    run(async {
        let missing = Mutex::new(Some("eth3: not attached yet".to_owned()));
        let server = Server::start(Fake { missing, ..Fake::default() }, Limits::default(), None);
        has(&server.get("/readyz", "").await, "503 Service Unavailable", &["eth3: not attached yet"]);
        server.stop().await;
    });
}

#[test]
fn only_questions_without_bodies() {
    run(async {
        let server = Server::start(Fake::default(), short(), None);
        let head = server.exchange("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        has(&head, "200 OK", &["content-length: "]);
        assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = server.exchange(&format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            has(&answer, "405 Method Not Allowed", &["allow: GET, HEAD", "connection: close", "{\"error\":"]);
        }
        let length = "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let chunked = "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for body in [length, chunked] {
            has(&server.exchange(body).await, "413 Payload Too Large", &["connection: close"]);
        }
        server.stop().await;
    });
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    run(async {
        let server = Server::start(Fake::default(), short(), None);
        for garbage in ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}", "PRI * HTTP/2.0\r\n\r\n", "\n\n\n"] {
            let answer = server.exchange(garbage).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{garbage:?}: {answer}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
        let answer = server.exchange(&long).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many = (0..200).fold(String::from("GET / HTTP/1.1\r\n"), |mut head, at| {
            write!(head, "X{at}: 1\r\n").unwrap();
            head
        });
        assert!(server.exchange(&format!("{many}\r\n")).await.starts_with("HTTP/1.1 431"));
        has(&server.get("/healthz", "").await, "200 OK", &[]);
        server.stop().await;
    });
}

#[test]
fn slow_heads_and_idle_connections_are_cut_off() {
    run(async {
        let server = Server::start(Fake::default(), short(), None);
        let mut slow = server.connect().await;
        slow.write_all(b"GET /metrics HT").await.unwrap();
        assert!(!rest(slow).await.contains("200 OK"));
        let mut idle = server.connect().await;
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        has(&rest(idle).await, "200 OK", &["ok"]);
        server.stop().await;
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    run(async {
        let limits = Limits { connection: Duration::from_millis(300), ..short() };
        let server = Server::start(Fake::large(), limits, None);
        let mut lazy = server.connect().await;
        lazy.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        lazy.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        // Writing is how one who does not read learns that the other end is gone.
        let cut_off = async {
            while lazy.write_all(b"G").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, cut_off).await.expect("cut off");
        let answer = rest(lazy).await;
        assert!(!answer.ends_with(LAST_LINE), "{} bytes", answer.len());
        server.stop().await;
    });
}

#[test]
fn what_is_not_read_takes_so_much_room_and_no_more() {
    run(async {
        // Room for one answer of 20 MB, not for two.
        let limits = Limits { answer_bytes: 30 << 20, stalled: Duration::ZERO, head: PATIENCE, ..Limits::default() };
        let server = Server::start(Fake::large(), limits, None);
        let ask = async |stream: &mut TcpStream| {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut begin = [0; 12];
            timeout(PATIENCE, stream.read_exact(&mut begin)).await.expect("an answer").unwrap();
            String::from_utf8(begin.to_vec()).unwrap()
        };
        let (mut slow, mut second) = (server.connect().await, server.connect().await);
        assert_eq!(ask(&mut slow).await, "HTTP/1.1 200");
        // It does not read on.
        assert_eq!(ask(&mut second).await, "HTTP/1.1 503");
        has(&server.get("/healthz", "").await, "200 OK", &["ok"]);
        // Who came then has closed the one that moves no byte.
        has(&server.get("/metrics", "").await, "200 OK", &[LAST_LINE]);
        let all = timeout(PATIENCE, rest(slow)).await.expect("closed");
        assert!(!all.ends_with(LAST_LINE), "{} bytes", all.len());
        // All that was taken is given back.
        has(&server.get("/metrics", "").await, "200 OK", &[LAST_LINE]);
        server.stop().await;
    });
}

#[test]
fn idle_connections_do_not_keep_a_scrape_out() {
    run(async {
        let server = Server::start(Fake::default(), Limits::default(), None);
        let mut idle = Vec::new();
        for _ in 0..200 {
            let mut stream = server.connect().await;
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            idle.push(stream);
        }
        let before = Instant::now();
        has(&server.get("/metrics", "").await, "200 OK", &["lossprobe_drop_members_total"]);
        let waited = before.elapsed();
        assert!(waited < Limits::default().head / 2, "did not wait for the idle ones to time out: {waited:?}");
        let mut open = 0;
        for mut stream in idle {
            open += usize::from(timeout(Duration::from_millis(1), stream.read(&mut [0; 512])).await.is_err());
        }
        assert!(open <= Limits::default().connections, "{open} are open");
        server.stop().await;
    });
}

#[test]
fn the_unix_socket_answers_and_goes_with_the_agent() {
    run(async {
        let path: PathBuf = std::env::temp_dir().join(format!("lossprobe-http-{}", process::id()));
        let server = Server::start(Fake::default(), Limits::default(), Some(&path));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /api/v1/snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        has(&rest(stream).await, "200 OK", &["\"schema\":1"]);
        server.stop().await;
        assert!(!path.exists());
    });
}

#[test]
fn stopping_lets_a_running_answer_end() {
    run(async {
        let server = Server::start(Fake::large(), Limits { grace: PATIENCE, ..Limits::default() }, None);
        let mut reader = server.connect().await;
        reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        reader.read_exact(&mut first).await.unwrap();
        let address = server.address;
        let (answer, ()) = tokio::join!(rest(reader), server.stop());
        assert!(answer.ends_with(LAST_LINE), "{} bytes", answer.len());
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    });
}

/// Whoever reaches the TCP port may only look; who may open the socket may also give orders.
#[test]
fn orders_come_by_the_unix_socket_only() {
    run(async {
        let path = std::env::temp_dir().join(format!("lossprobe-http-{}-orders", process::id()));
        let server = Server::start(Fake::default(), Limits::default(), Some(&path));
        let by_socket = async |request: String| {
            let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            rest(stream).await
        };
        let request = |method: &str, path: &str, more: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n")
        };
        for order in Order::ALL {
            let refused = server.exchange(&request("POST", order.path(), "")).await;
            has(&refused, "405 Method Not Allowed", &["allow: GET, HEAD"]);
            has(&server.get(order.path(), "").await, "404 Not Found", &[]);
            has(&by_socket(request("GET", order.path(), "")).await, "405 Method Not Allowed", &["allow: POST"]);
        }
        has(&server.get("/readyz", "").await, "200 OK", &[]);
        has(&by_socket(request("POST", "/api/v1/pause", "")).await, "200 OK", &["{\"state\":\"paused\"}"]);
        has(&server.get("/readyz", "").await, "503 Service Unavailable", &["pause"]);
        has(&by_socket(request("POST", "/api/v1/resume", "")).await, "500 Internal Server Error", &["kernel refused"]);
        has(&by_socket(request("POST", "/metrics", "")).await, "405 Method Not Allowed", &[]);
        let body = request("POST", "/api/v1/pause", "Content-Length: 2\r\n") + "{}";
        has(&by_socket(body).await, "413 Payload Too Large", &[]);
        server.stop().await;
    });
}

/// A stream lives on when the time of other connections is up, gives its place to none of them, and ends with its source.
#[test]
fn a_stream_is_only_on_the_unix_socket_and_has_no_end() {
    run(async {
        let path = std::env::temp_dir().join(format!("lossprobe-http-{}-watch", process::id()));
        let limits = Limits { connections: 2, connection: Duration::from_millis(100), ..short() };
        let watchers = Arc::new(Watchers::default());
        let source = Fake { watchers: Arc::clone(&watchers), ..Fake::default() };
        let server = Server::start(source, limits, Some(&path));
        has(&server.get("/api/v1/watch", "").await, "404 Not Found", &[]);

        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        timeout(PATIENCE, watchers.arrival()).await.unwrap();
        watchers.greet();
        for _ in 0..3 {
            let mut idle = server.connect().await;
            assert_eq!(timeout(PATIENCE, idle.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0, "time is up");
        }
        watchers.publish(&Notice::Start { schema: 99 }.into());
        watchers.close();
        let answer = rest(stream).await;
        has(&answer, "200 OK", &["application/x-ndjson", "\"schema\":1}", "\"schema\":99}"]);
        server.stop().await;
        assert!(watchers.subscribe().is_err());
    });
}
