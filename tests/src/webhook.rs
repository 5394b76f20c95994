//! A receiver of webhooks, by HTTP or HTTPS, that behaves as well or as badly as it is told to.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::{namespace::Namespace, tls::Authority};

/// How long a client may take, and a connection that is held may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for a client.
const POLL: Duration = Duration::from_millis(5);
/// Largest request that is read.
const LARGEST: usize = 4 << 20;

/// What is done with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It is read and taken.
    Take,
    /// It is read and answered by this status, with a place to go to and a body.
    Answer(u16),
    /// It is read and never answered.
    Hang,
    /// Its answer goes on for ever, byte by byte.
    Trickle,
    /// The connection is closed at once.
    Close,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// What follows it.
    pub path: String,
    /// Header fields by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Value,
    /// When it was read.
    pub time: Timestamp,
    /// What was done with it.
    pub manner: Manner,
}

/// The receiver; it ends with this value.
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    manners: Mutex<VecDeque<Manner>>,
    requests: Mutex<Vec<Request>>,
    ended: AtomicBool,
}

/// Who a receiver says that it is, and the certificate (PEM) of who vouches for it.
pub struct Identity {
    config: Arc<ServerConfig>,
    /// Of the authority.
    pub authority: String,
}

impl Identity {
    /// Makes an authority and has it vouch for `name`, a host's or an address.
    ///
    /// # Errors
    /// When that cannot be a name.
    pub fn new(name: &str) -> Result<Self> {
        let authority = Authority::new()?;
        let (certificate, secret) = authority.vouch(name)?.parts()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], secret)?;
        Ok(Self { config: Arc::new(config), authority: authority.pem() })
    }
}

impl Webhook {
    /// Listens at `address` (port 0: any) inside `namespace`. The first requests are treated by `manners`, further ones taken.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn listen(
        namespace: &Namespace,
        address: (IpAddr, u16),
        identity: Option<&Identity>,
        manners: &[Manner],
    ) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(address).with_context(|| format!("bind {address:?}")))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { manners: Mutex::new(manners.iter().copied().collect()), ..Shared::default() });
        let config = identity.map(|identity| Arc::clone(&identity.config));
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, config.as_ref(), &accepting));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was read until now, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    /// Those that were taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.manner == Manner::Take).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, config: Option<&Arc<ServerConfig>>, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (config, shared) = (config.cloned(), Arc::clone(shared));
                // What goes wrong is the client's to tell.
                thread::spawn(move || serve_one(stream, config, &shared));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
            Err(_) => return,
        }
    }
}

fn serve_one(stream: TcpStream, config: Option<Arc<ServerConfig>>, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match config {
        None => serve(stream, shared),
        Some(config) => {
            let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
            // Who does not believe the certificate has made no request.
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            serve(stream, shared)
        }
    }
}

fn serve(mut stream: impl Read + Write, shared: &Shared) -> Result<()> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let manner = locked(&shared.manners).pop_front().unwrap_or(Manner::Take);
    if manner == Manner::Close {
        return Ok(());
    }
    let request = read_request(first[0], &mut stream, manner)?;
    locked(&shared.requests).push(request);
    match manner {
        Manner::Close => {}
        Manner::Take => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
        Manner::Answer(status) => {
            let answer = format!("HTTP/1.1 {status} So\r\nLocation: /elsewhere\r\nContent-Length: 6\r\n\r\nwhy\x1b!\n");
            stream.write_all(answer.as_bytes())?;
        }
        Manner::Hang => {
            // Until the client has had enough.
            let _ended = stream.read(&mut [0]);
        }
        Manner::Trickle => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
            while !shared.ended.load(Ordering::Relaxed) {
                stream.write_all(b"x")?;
                stream.flush()?;
                thread::sleep(POLL * 4);
            }
        }
    }
    stream.flush()?;
    Ok(())
}

fn read_request(first: u8, stream: &mut impl Read, manner: Manner) -> Result<Request> {
    let (mut bytes, mut piece) = (vec![first], [0; 4096]);
    let mut more = |bytes: &mut Vec<u8>| {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0 && bytes.len() < LARGEST, "the request is cut off after {} bytes", bytes.len());
        bytes.extend_from_slice(&piece[..read]);
        Ok(())
    };
    let end = loop {
        match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(&mut bytes)?,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body_bytes: usize = headers.get("content-length").context("no length")?.parse()?;
    while bytes.len() < end + 4 + body_bytes {
        more(&mut bytes)?;
    }
    let body = serde_json::from_slice(&bytes[end + 4..]).context("the body")?;
    Ok(Request { method, path, headers, body, time: Timestamp::now(), manner })
}
