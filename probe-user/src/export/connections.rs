//! Bounds on what clients can hold: the number of open connections, how long each may live, and who goes first when
//! there are too many.

use std::{
    collections::HashMap,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    http::{StatusCode, header},
    response::IntoResponse,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    sync::watch,
    task::{AbortHandle, Id, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    room::{Room, Share},
    watch::Endless,
};

/// Largest head of a request, and how much of a connection's bytes is buffered.
const BUFFER_BYTES: usize = 16 << 10;

/// The first byte of what begins TLS: a record of the handshake (RFC 8446 5.1). No method begins with it.
const HANDSHAKE: u8 = 22;

/// What clients may take up. The defaults are the agent's; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections. One more closes the one that has moved no byte for the longest time, so that idle and slow
    /// clients, however many, never keep a scrape out.
    pub connections: usize,
    /// Bytes of answers that wait to be read.
    pub answer_bytes: usize,
    /// A reader that has taken no byte for so long keeps others' answers waiting.
    pub stalled: Duration,
    /// From the opening of a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// From the opening of a connection, or its last answer, to the end of the next request's head.
    pub head: Duration,
    /// Life of a connection, after which a running answer may take [`Self::grace`] more. A client that reads slowly is
    /// cut off by this.
    pub connection: Duration,
    /// For running answers when a connection's or the agent's time is up.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            answer_bytes: 24 << 20,
            stalled: Duration::from_secs(1),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            connection: Duration::from_secs(60),
            grace: Duration::from_secs(2),
        }
    }
}

/// All open connections of a listener.
pub(super) struct Connections {
    limits: Limits,
    room: Room,
    began: Instant,
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    /// `true` asks every connection to end after its running answer.
    closing: watch::Sender<bool>,
}

struct Open {
    task: AbortHandle,
    /// It goes for no other: there are few of them.
    endless: Endless,
    last_move: LastMove,
    share: Share,
}

/// Nanoseconds after [`Connections::began`] at which a connection has last moved a byte, either way.
type LastMove = Arc<AtomicU64>;

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        let (closing, _) = watch::channel(false);
        let room = Room::new(limits.answer_bytes);
        Self { limits, room, began: Instant::now(), tasks: JoinSet::new(), open: HashMap::new(), closing }
    }

    /// Serves `stream` what `router` has, behind TLS if there is an acceptor, in the place of the stalest connection where there are
    /// too many, and closes those that do not read where what waits for them takes too much.
    pub(super) fn admit<S>(&mut self, stream: S, tls: Option<TlsAcceptor>, router: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.forget_ended();
        while self.open.len() >= self.limits.connections && self.close_stalest(|_| true).is_some() {}
        // What is closed here gives its room back a little later.
        let mut excess_bytes = self.room.excess_bytes();
        let stalled = nanoseconds(self.began.elapsed().saturating_sub(self.limits.stalled));
        while excess_bytes > 0 {
            let stalls = |open: &Open| open.share.taken_bytes() > 0 && open.last_move.load(Ordering::Relaxed) < stalled;
            let Some(closed) = self.close_stalest(stalls) else { break };
            excess_bytes = excess_bytes.saturating_sub(closed.share.taken_bytes());
        }
        let last_move = LastMove::default();
        let watched = Watched { stream, first: None, began: self.began, last_move: Arc::clone(&last_move) };
        watched.moved();
        let endless = Endless::default();
        let share = self.room.share();
        let router = router.layer(Extension(endless.clone())).layer(Extension(share.clone()));
        let life = Life { limits: self.limits, closing: self.closing.subscribe(), endless: endless.clone() };
        let task = self.tasks.spawn(serve_as_told(watched, tls, router, life));
        self.open.insert(task.id(), Open { task, last_move, endless, share });
    }

    /// Closes the one of these that has moved no byte for the longest time.
    fn close_stalest(&mut self, which: impl Fn(&Open) -> bool) -> Option<Open> {
        let finite = self.open.iter().filter(|(_, open)| !open.endless.is_marked() && which(open));
        let id = *finite.min_by_key(|(_, open)| open.last_move.load(Ordering::Relaxed))?.0;
        let closed = self.open.remove(&id)?;
        debug!("too many connections, or too much for them to read: closed the one that was idle for the longest time");
        closed.task.abort();
        Some(closed)
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let id = match ended {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            };
            self.open.remove(&id);
        }
    }

    /// Lets running answers end within the grace, then closes what is left.
    pub(super) async fn close(mut self) {
        self.closing.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.limits.grace, all_ended).await.is_err() {
            debug!("closed connections whose answers did not end in time");
        }
    }
}

/// How long a connection may live.
struct Life {
    limits: Limits,
    closing: watch::Receiver<bool>,
    endless: Endless,
}

async fn serve_as_told<S>(mut stream: Watched<S>, tls: Option<TlsAcceptor>, router: Router, life: Life)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = tls else { return serve_connection(stream, router, life).await };
    let limit = life.limits.handshake;
    let handshake = async {
        let first = stream.read_u8().await?;
        stream.first = Some(first);
        Ok::<_, io::Error>(if first == HANDSHAKE { Ok(tls.accept(stream).await?) } else { Err(stream) })
    };
    match timeout(limit, handshake).await {
        Ok(Ok(Ok(stream))) => serve_connection(stream, router, life).await,
        // Whoever speaks HTTP here is told so, within the limits of all.
        Ok(Ok(Err(stream))) => serve_connection(stream, Router::new().fallback(only_tls), life).await,
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_elapsed) => debug!("closed a connection whose TLS handshake took too long"),
    }
}

async fn only_tls() -> impl IntoResponse {
    (
        StatusCode::BAD_REQUEST,
        [(header::CONNECTION, "close")],
        "this port speaks TLS only: write https:// in the address\n",
    )
}

async fn serve_connection<S>(stream: S, router: Router, life: Life)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Life { limits, mut closing, endless } = life;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let time_is_up = async {
        // The sender lives as long as the server: an error is the same order.
        let is_over = timeout(limits.connection, closing.wait_for(|closing| *closing)).await.is_err();
        if is_over && endless.is_marked() {
            let _closing = closing.wait_for(|closing| *closing).await;
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = time_is_up => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.grace, connection.as_mut()).await {
                Ok(result) => result,
                Err(_elapsed) => return debug!("closed a connection whose time was up"),
            }
        }
    };
    if let Err(error) = result {
        // The client's doing: it left, was too slow, or did not speak HTTP.
        debug!(%error, "a connection failed");
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A stream that notes when it last moved bytes.
struct Watched<S> {
    stream: S,
    /// A byte that was looked at, and is read again.
    first: Option<u8>,
    began: Instant,
    last_move: LastMove,
}

impl<S> Watched<S> {
    fn moved(&self) {
        self.last_move.store(nanoseconds(self.began.elapsed()), Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.take_if(|_| to.remaining() > 0) {
            to.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, to));
        self.moved();
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.moved();
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.moved();
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
