//! Asks a running agent for a snapshot, over its unix socket or by TCP; over the socket also gives it an order, or watches.

use std::{future::poll_fn, io::ErrorKind, net::SocketAddr, path::Path, pin::Pin, time::Duration};

use anyhow::Context as _;
use axum::{
    body::{self, Body, Bytes, HttpBody as _},
    http::{Method, Request, Response, StatusCode, header},
};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};

use crate::{
    control::Order,
    detect::verdict::Verdict,
    event::{self, Message},
    export::{FLOWS, VERDICT},
    record::{
        evidence::{self, Evidence},
        incidents::{self, Incidents},
    },
    snapshot::{Flows, SCHEMA, Snapshot, State},
};

/// For one agent to answer, connecting included. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// For it to carry out an order: to a thousand interfaces it attaches within half a minute. Less than the grace period of a pod, whose
/// end begins with one.
const ORDER_PATIENCE: Duration = Duration::from_secs(45);

/// Largest answer that is read; 1,000 interfaces take about 2 MiB.
const LARGEST_BYTES: usize = 64 << 20;

/// Longest line of a stream of events; they have under a kilobyte.
const LONGEST_LINE_BYTES: usize = 64 << 10;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Nobody listens anywhere; the caller may attach by itself.
    #[error("no agent answers ({tried}); start one with `lossprobe agent`, or say where it listens")]
    NoAgent {
        /// Each place with what happened there.
        tried: String,
    },
    /// An agent seems to listen, but this user may not talk to it.
    #[error(
        "may not talk to the agent on {place}: permission denied; run as root, or as a member of the socket's group"
    )]
    Denied {
        /// The socket.
        place: String,
    },
    /// The agent could not do as told.
    #[error("the agent on {place} could not: {cause}; its log may say more")]
    Refused {
        /// The socket.
        place: String,
        /// What it said.
        cause: String,
    },
    /// Somebody listens and does not answer as an agent of this version does.
    #[error("{place} does not answer like an agent of lossprobe {}: {cause}", env!("CARGO_PKG_VERSION"))]
    NotAnAgent {
        /// The socket or address.
        place: String,
        /// What is wrong with the answer.
        cause: String,
    },
}

/// The last tick's snapshot of the agent on `socket`, or where nobody listens there, of the one on `address`.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens at either of them.
pub async fn fetch(socket: Option<&Path>, address: Option<SocketAddr>) -> Result<Snapshot, FetchError> {
    let (mut tried, mut denied) = (Vec::new(), None);
    if let Some(socket) = socket {
        let place = socket.display().to_string();
        match within(&place, UnixStream::connect(socket)).await? {
            Ok(stream) => return snapshot_of(place, stream).await,
            // The address may answer all the same.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => denied = Some(place),
            Err(error) if is_vacant(&error) => tried.push(format!("{place}: {}", describe(&error))),
            Err(error) => return Err(FetchError::NotAnAgent { place, cause: describe(&error) }),
        }
    }
    if let Some(address) = address {
        let place = address.to_string();
        match within(&place, TcpStream::connect(address)).await? {
            Ok(stream) => return snapshot_of(place, stream).await,
            Err(error) => tried.push(format!("{place}: {}", describe(&error))),
        }
    }
    if let Some(place) = denied {
        return Err(FetchError::Denied { place });
    }
    if tried.is_empty() {
        tried.push("no socket and no address to ask".to_owned());
    }
    Err(FetchError::NoAgent { tried: tried.join("; ") })
}

async fn within<T>(place: &str, future: impl Future<Output = T>) -> Result<T, FetchError> {
    within_time(PATIENCE, place, future).await
}

async fn within_time<T>(time: Duration, place: &str, future: impl Future<Output = T>) -> Result<T, FetchError> {
    let late = |_elapsed| FetchError::NotAnAgent {
        place: place.to_owned(),
        cause: format!("no answer within {} s", time.as_secs()),
    };
    timeout(time, future).await.map_err(late)
}

/// Whether nobody listens. A full queue of connections, for one, says that somebody does.
fn is_vacant(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory)
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        _other => error.to_string(),
    }
}

/// Gives an order to the agent on `socket`. Returns what state it is in then.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn order(socket: &Path, order: Order) -> Result<State, FetchError> {
    /// The agent's answer.
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Answer {
        State(State),
        Error(String),
    }
    let place = socket.display().to_string();
    let stream = connect(socket, &place).await?;
    let exchange = async {
        let (status, bytes) = exchange(stream, (Method::POST, order.path())).await?;
        match (status, serde_json::from_slice(&bytes)) {
            (StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR, Ok(answer)) => Ok(answer),
            (status, _) => Err(format!("HTTP status {status}")),
        }
    };
    let uncertain = |cause| format!("{cause}; the order may still be carried out, `lossprobe stats` tells");
    let answer = within_time(ORDER_PATIENCE, &place, exchange).await.map_err(|error| match error {
        FetchError::NotAnAgent { place, cause } => FetchError::NotAnAgent { place, cause: uncertain(cause) },
        other => other,
    })?;
    match answer {
        Ok(Answer::State(state)) => Ok(state),
        Ok(Answer::Error(cause)) => Err(FetchError::Refused { place, cause }),
        Err(cause) => Err(FetchError::NotAnAgent { place, cause: uncertain(cause) }),
    }
}

async fn connect(socket: &Path, place: &str) -> Result<UnixStream, FetchError> {
    let place = place.to_owned();
    match within(&place, UnixStream::connect(socket)).await? {
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(FetchError::Denied { place }),
        Err(error) if is_vacant(&error) => Err(FetchError::NoAgent { tried: format!("{place}: {}", describe(&error)) }),
        Err(error) => Err(FetchError::NotAnAgent { place, cause: describe(&error) }),
    }
}

async fn snapshot_of<S>(place: String, stream: S) -> Result<Snapshot, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let (status, bytes) = exchange(stream, (Method::GET, "/api/v1/snapshot")).await?;
        if status != StatusCode::OK {
            return Err(format!("HTTP status {status}"));
        }
        let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| format!("not a snapshot: {error}"))?;
        if snapshot.schema == SCHEMA {
            Ok(snapshot)
        } else {
            Err(format!("its snapshot has version {}, not {SCHEMA}; use the agent's own `lossprobe`", snapshot.schema))
        }
    };
    let answer = within(&place, exchange).await?;
    answer.map_err(|cause| FetchError::NotAnAgent { place, cause })
}

/// The worst connections of the agent on `socket`.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn flows(socket: &Path) -> Result<Flows, FetchError> {
    document(socket, FLOWS, "it follows no connections").await
}

/// What the agent on `socket` has kept of malformed frames.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn evidence(socket: &Path) -> Result<Evidence, FetchError> {
    document(socket, evidence::PATH, "it keeps no evidence").await
}

/// What the agent on `socket` has to say of whose fault it is.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn verdict(socket: &Path) -> Result<Verdict, FetchError> {
    document(socket, VERDICT, "it judges nothing").await
}

/// The incidents that the agent on `socket` knows.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn incidents(socket: &Path) -> Result<Incidents, FetchError> {
    document(socket, incidents::PATH, "it knows no incidents").await
}

/// What the agent on `socket` answers at `path`; where it has no such page, `absent` is why.
async fn document<T: DeserializeOwned>(socket: &Path, path: &str, absent: &str) -> Result<T, FetchError> {
    let place = socket.display().to_string();
    let stream = connect(socket, &place).await?;
    let exchange = async {
        match exchange(stream, (Method::GET, path)).await? {
            (StatusCode::OK, bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}")),
            (StatusCode::NOT_FOUND, _) => Err(format!("{absent}; is it of an older version?")),
            (status, _) => Err(format!("HTTP status {status}")),
        }
    };
    let answer = within(&place, exchange).await?;
    answer.map_err(|cause| FetchError::NotAnAgent { place, cause })
}

/// What happens from now on at the agent on `socket`.
///
/// # Errors
/// [`FetchError::NoAgent`] only if nobody listens there.
pub async fn watch(socket: &Path) -> Result<Stream, FetchError> {
    let place = socket.display().to_string();
    let stream = connect(socket, &place).await?;
    let answer = within(&place, async {
        let (driver, response) = send(stream, (Method::GET, event::PATH)).await?;
        let (status, body) = (response.status(), Body::new(response.into_body()));
        match status {
            StatusCode::OK => Ok(Ok(Stream { body, _driver: driver, read: Vec::new(), at: 0 })),
            StatusCode::SERVICE_UNAVAILABLE => {
                let bytes = body::to_bytes(body, LARGEST_BYTES).await.map_err(|error| error.to_string())?;
                let said: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
                Ok(Err(said["error"].as_str().unwrap_or_default().to_owned()))
            }
            StatusCode::NOT_FOUND => Err("it has nothing to watch; is it of an older version?".to_owned()),
            status => Err(format!("HTTP status {status}")),
        }
    });
    match answer.await? {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) => Err(FetchError::Refused { place, cause }),
        Err(cause) => Err(FetchError::NotAnAgent { place, cause }),
    }
}

/// An agent's events.
pub struct Stream {
    body: Body,
    /// Moves the bytes; ends with this.
    _driver: JoinSet<Result<(), hyper::Error>>,
    /// Bytes that have come, of which those before `at` have been read.
    read: Vec<u8>,
    at: usize,
}

impl Stream {
    /// The next message, `None` when the agent has ended. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// If the agent says what this version does not understand.
    pub async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        loop {
            if let Some(length) = self.read[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.read[self.at..self.at + length];
                let message = serde_json::from_slice(line).context("read what the agent says")?;
                self.at += length + 1;
                return Ok(Some(message));
            }
            self.read.drain(..std::mem::take(&mut self.at));
            anyhow::ensure!(self.read.len() < LONGEST_LINE_BYTES, "a line of the agent's has no end");
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                // A connection that breaks is an agent that was killed.
                None | Some(Err(_)) => return Ok(None),
                Some(Ok(frame)) => self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}

/// Status and body of the answer to a request without a body.
async fn exchange<S>(stream: S, (method, path): (Method, &str)) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (_driver, response) = send(stream, (method, path)).await?;
    let status = response.status();
    let bytes = body::to_bytes(Body::new(response.into_body()), LARGEST_BYTES).await;
    Ok((status, bytes.map_err(|error| error.to_string())?))
}

/// The answer to a request without a body, and what moves its bytes.
async fn send<S>(
    stream: S,
    (method, path): (Method, &str),
) -> Result<(JoinSet<hyper::Result<()>>, Response<Incoming>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: &dyn std::error::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    // Ends with whoever has it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "lossprobe")
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(|error| text(&error))?;
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    Ok((driver, response))
}

#[cfg(test)]
mod tests {
    use std::{env, net::Ipv4Addr, path::PathBuf, process, sync::Arc};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        runtime,
    };

    use super::*;
    use crate::export::{Listeners, Place, Source, serve};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    struct Fake;

    impl Source for Fake {
        fn latest(&self) -> Arc<Snapshot> {
            Arc::new(Snapshot { schema: SCHEMA, uptime_ms: 42, ..Snapshot::default() })
        }

        fn read(&self) -> Arc<Snapshot> {
            self.latest()
        }

        fn readiness(&self) -> Result<(), String> {
            Ok(())
        }

        fn obey(&self, order: Order) -> Result<State, String> {
            if order == Order::Detach { Ok(State::Detached) } else { Err("no".to_owned()) }
        }
    }

    fn run(test: impl Future<Output = ()>) {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn path(name: &str) -> PathBuf {
        env::temp_dir().join(format!("lossprobe-client-{}-{name}", process::id()))
    }

    #[test]
    fn from_an_agent_by_socket_and_by_address() {
        run(async {
            let path = path("both");
            let listeners = Listeners::bind(ANY, Some(Place { path: &path, group: None })).unwrap();
            let address = listeners.address().unwrap();
            let mut agent = JoinSet::new();
            agent.spawn(serve(listeners, Arc::new(Fake), std::future::pending()));
            assert_eq!(fetch(Some(&path), None).await.unwrap().uptime_ms, 42);
            assert_eq!(fetch(None, Some(address)).await.unwrap().uptime_ms, 42);
            assert_eq!(order(&path, Order::Detach).await.unwrap(), State::Detached);
            assert!(matches!(order(&path, Order::Pause).await, Err(FetchError::Refused { .. })));
            let absent = PathBuf::from("/nonexistent/socket");
            assert_eq!(fetch(Some(&absent), Some(address)).await.unwrap().uptime_ms, 42);
            drop(agent);
        });
    }

    /// Lines come in pieces, and several at once; what has no end, or no meaning, is an error.
    #[test]
    fn a_stream_is_lines() {
        run(async {
            let suppressed = r#"{"type":"suppressed","by":"agent","events":3}"#;
            let path = path("stream");
            let listener = tokio::net::UnixListener::bind(&path).unwrap();
            let answer = async |head: &str, pieces: &[&str]| {
                let (mut stream, _client) = listener.accept().await.unwrap();
                let _request = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
                for piece in pieces {
                    // Who has read enough is gone.
                    let _gone = stream.write_all(piece.as_bytes()).await;
                    tokio::task::yield_now().await;
                }
            };
            let two = format!("{}\n{suppressed}\n{}", &suppressed[9..], &suppressed[..9]);
            let pieces = [&suppressed[..9], &two, &suppressed[9..], "\n"];
            let read = async {
                let mut stream = watch(&path).await.unwrap();
                let mut messages = Vec::new();
                while let Some(message) = stream.next().await.unwrap() {
                    messages.push(message.to_line());
                }
                messages
            };
            let (messages, ()) = tokio::join!(read, answer("200 OK", &pieces));
            assert_eq!(messages, vec![suppressed.to_owned() + "\n"; 3]);

            for wrong in ["{\"type\":\"dance\"}\n".to_owned(), "x".repeat(2 * LONGEST_LINE_BYTES)] {
                let read = async { watch(&path).await.unwrap().next().await };
                let pieces = [wrong.as_str()];
                let (message, ()) = tokio::join!(read, answer("200 OK", &pieces));
                assert!(message.is_err(), "{message:?}");
            }
            let (error, ()) = tokio::join!(watch(&path), answer("503 Unavailable", &["{\"error\":\"too many\"}"]));
            assert!(matches!(error, Err(FetchError::Refused { cause, .. }) if cause == "too many"));
            let (error, ()) = tokio::join!(watch(&path), answer("404 Not Found", &[""]));
            assert!(matches!(error, Err(FetchError::NotAnAgent { .. })));
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(watch(&path).await, Err(FetchError::NoAgent { .. })));
        });
    }

    #[test]
    fn nobody_is_told_from_somebody_else() {
        run(async {
            let path = path("dead");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let free = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
            let error = fetch(Some(&path), Some(free)).await.unwrap_err();
            assert!(matches!(order(&path, Order::Pause).await, Err(FetchError::NoAgent { .. })));
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(error, FetchError::NoAgent { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(&path.display().to_string()) && message.contains(&free.to_string()), "{message}");
            assert!(message.contains("`lossprobe agent`"), "{message}");

            for answer in [
                "SSH-2.0-x\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                "",
            ] {
                let listener = TcpListener::bind(ANY).await.unwrap();
                let address = listener.local_addr().unwrap();
                let other = async {
                    let (mut stream, _client) = listener.accept().await.unwrap();
                    let _request = stream.read(&mut [0; 1024]).await.unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                };
                let (error, ()) = tokio::join!(fetch(None, Some(address)), other);
                let error = error.unwrap_err();
                assert!(matches!(&error, FetchError::NotAnAgent { .. }), "{answer}: {error}");
                assert!(error.to_string().contains(&address.to_string()), "{error}");
            }
        });
    }
}
