//! A tiny blocking HTTP/1.1 client that speaks from inside a namespace.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;

/// How long connecting and each read may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer that is read.
const LARGEST: u64 = 64 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The decoded body.
    pub body: String,
}

/// Gets `path` from `server` as seen from inside `namespace`, with additional header fields.
///
/// # Errors
/// When nobody listens, or the answer is not HTTP.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let answer = exchange(namespace, server, request(server, path, headers).as_bytes())?;
    parse(&answer).with_context(|| format!("GET {path}: answer {:?}", String::from_utf8_lossy(&answer)))
}

/// The request for `path`, after which the server is to close.
#[must_use]
pub fn request(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> String {
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{extra}\r\n")
}

/// Sends `request` as it is and returns everything until the server closes.
///
/// # Errors
/// When nobody listens, or the server keeps the connection open for too long.
pub fn exchange(namespace: &Namespace, server: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(namespace, server)?;
    // A server that refuses early may close before it has read everything; its answer is what counts.
    let _refused = stream.write_all(request);
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).with_context(|| format!("read from {server}"))?;
    Ok(answer)
}

/// Connects from inside `namespace`.
///
/// # Errors
/// When nobody listens.
pub fn connect(namespace: &Namespace, server: SocketAddr) -> Result<TcpStream> {
    namespace.run(|| {
        let stream = TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("connect to {server}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// Reads an answer.
///
/// # Errors
/// When it is not HTTP/1.1.
pub fn parse(answer: &[u8]) -> Result<Response> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let body = match headers.get("transfer-encoding") {
        Some(encoding) if encoding == "chunked" => unchunk(body).context("chunked body")?,
        Some(_) | None => body.to_vec(),
    };
    if let Some(length) = headers.get("content-length") {
        ensure!(*length == body.len().to_string(), "content-length {length}, but {} bytes", body.len());
    }
    let body = String::from_utf8(body).context("body is not UTF-8")?;
    Ok(Response { status: status.context("no status")?, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("no chunk size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16).context("chunk size")?;
        let chunk = rest.get(end + 2..end + 2 + size).context("chunk cut")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend(chunk);
        rest = rest.get(end + 4 + size..).context("chunk not ended")?;
    }
}
