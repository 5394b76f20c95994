//! The HTTP server: `/metrics`, health, the snapshot as JSON. By TCP it only answers questions: no method but GET and
//! HEAD, of whom [`Web`] lets in. Who may open the unix socket may also give [`Order`]s, by POST, and watch packets. No request
//! bodies, no state between requests.
//!
//! One thread serves everything, so a request does nothing that waits; what clients can hold is bounded by
//! [`Limits`].

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Extension, Json, Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    task::yield_now,
    time::sleep,
};
use tracing::{debug, warn};

pub use super::connections::Limits;
use super::{
    connections::Connections,
    format::Format,
    listen::Listeners,
    metrics::Exporter,
    room,
    watch::{Endless, Lines},
    web::{Answer, Web},
};
use crate::{
    control::Order,
    detect::verdict::Verdict,
    event,
    record::{
        evidence::{self, Evidence},
        incidents::{self, Incidents, hide_addresses},
    },
    snapshot::{Flows, Snapshot, State as AgentState},
};

/// Where the worst connections are.
pub const FLOWS: &str = "/api/v1/flows";
/// Where the verdict is.
pub const VERDICT: &str = "/api/v1/verdict";
/// Where everything lies that is for programs and no scraper.
const API: &str = "/api/";
/// Pause after an accept that failed for want of descriptors or memory; trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the answers come from. The methods are called on the server's thread and must not wait.
pub trait Source: Send + Sync + 'static {
    /// The snapshot of the last tick.
    fn latest(&self) -> Arc<Snapshot>;

    /// A snapshot as of now.
    fn read(&self) -> Arc<Snapshot>;

    /// Whether every selected interface is attached or refused.
    ///
    /// # Errors
    /// With what is missing, one line for a human.
    fn readiness(&self) -> Result<(), String>;

    /// Does as told. Returns the state that this leads to.
    ///
    /// # Errors
    /// With why it could not, one line for a human; then nothing has changed.
    fn obey(&self, order: Order) -> Result<AgentState, String>;

    /// The connections that have lost most, at most 100.
    ///
    /// # Errors
    /// With why there are none, one line for a human.
    fn flows(&self) -> Result<Flows, String> {
        Err("no connections are followed here".to_owned())
    }

    /// Malformed frames that were kept, and who has sent them last.
    ///
    /// # Errors
    /// With why there are none, one line for a human.
    fn evidence(&self) -> Result<Evidence, String> {
        Err("no evidence is kept here".to_owned())
    }

    /// Whose fault it is, if anything is wrong.
    ///
    /// # Errors
    /// With why that is not known, one line for a human.
    fn verdict(&self) -> Result<Verdict, String> {
        Err("nothing is judged here".to_owned())
    }

    /// What has gone wrong.
    ///
    /// # Errors
    /// With why that is not known, one line for a human.
    fn incidents(&self) -> Result<Incidents, String> {
        Err("nothing is judged here".to_owned())
    }

    /// What happens from now on, as lines of JSON.
    ///
    /// # Errors
    /// With why there is none, one line for a human.
    fn watch(&self) -> Result<Lines, String> {
        Err("no events are shown here".to_owned())
    }
}

/// Answers until `shutdown` completes, then lets running answers end within 2 s. Must run inside a tokio runtime.
///
/// # Errors
/// When a listener cannot be handed to the runtime.
pub async fn serve(listeners: Listeners, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<()> {
    serve_within(Limits::default(), listeners, source, shutdown).await
}

/// [`serve`] within limits of the caller's choice.
///
/// # Errors
/// When a listener cannot be handed to the runtime.
pub async fn serve_within(
    limits: Limits,
    listeners: Listeners,
    source: Arc<dyn Source>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let Listeners { tcp, unix, web } = listeners;
    let tcp = TcpListener::from_std(tcp).context("hand the TCP socket to the runtime")?;
    // The guards stay until the end of this function: the file goes when nobody answers any more.
    let (unix, _file) = match unix {
        Some(socket) => {
            let (listener, file) = socket.into_parts();
            (Some(UnixListener::from_std(listener).context("hand the unix socket to the runtime")?), Some(file))
        }
        None => (None, None),
    };
    let (readers, masters) = routers(source);
    let readers = match &web {
        Some(web) => readers.layer(middleware::from_fn_with_state(Arc::clone(web), protect)),
        None => readers,
    };
    // Whoever reaches the TCP address takes no place of those who may give orders.
    let (mut scrapers, mut users) = (Connections::new(limits), Connections::new(limits));
    let mut shutdown = pin!(shutdown);
    loop {
        let admitted = tokio::select! {
            () = shutdown.as_mut() => break,
            accepted = tcp.accept() => accepted.map(|(stream, _client)| {
                // Without it an answer in two parts waits for the client's delayed acknowledgement.
                let _slower = stream.set_nodelay(true);
                let tls = web.as_ref().and_then(|web| web.acceptor());
                scrapers.admit(stream, tls, readers.clone());
            }),
            accepted = accept_unix(unix.as_ref()) => {
                accepted.map(|stream| users.admit(stream, None, masters.clone()))
            }
        };
        // Each is looked at once before the next: of many that come at once none goes unread.
        yield_now().await;
        if let Err(error) = admitted
            && !is_the_clients(&error)
        {
            warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
        }
    }
    drop((tcp, unix));
    tokio::join!(scrapers.close(), users.close());
    Ok(())
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _client)| stream),
        None => std::future::pending().await,
    }
}

/// The connection was gone before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

struct Answers {
    source: Arc<dyn Source>,
    exporter: Exporter,
}

/// What is served by TCP, and what on the unix socket.
fn routers(source: Arc<dyn Source>) -> (Router, Router) {
    let read = Arc::clone(&source);
    let answers = Arc::new(Answers { source, exporter: Exporter::new(move || read.read()) });
    let common = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/api/v1/snapshot", get(snapshot))
        .fallback(async || error(StatusCode::NOT_FOUND, "no such page; / lists what there is"));
    let pages = common.clone().route(VERDICT, get(public_verdict)).route(incidents::PATH, get(public_incidents));
    // Packets and addresses are for who may open the socket.
    let private = common.route(event::PATH, get(watch)).route(FLOWS, get(flows));
    let private = private
        .route(evidence::PATH, get(kept))
        .route(VERDICT, get(async |State(answers): State<Arc<Answers>>| answer(answers.source.verdict())))
        .route(incidents::PATH, get(async |State(answers): State<Arc<Answers>>| answer(answers.source.incidents())));
    let orders = Order::ALL.into_iter().fold(private, |router, order| {
        let obey = move |State(answers): State<Arc<Answers>>| async move {
            match answers.source.obey(order) {
                Ok(state) => Json(json!({ "state": state })).into_response(),
                Err(cause) => error(StatusCode::INTERNAL_SERVER_ERROR, &cause),
            }
        };
        router.route(order.path(), post(obey))
    });
    let guarded = |router: Router<_>, orders| {
        let held = router.layer(middleware::from_fn(room::hold));
        held.layer(middleware::from_fn_with_state(orders, guard)).with_state(Arc::clone(&answers))
    };
    (guarded(pages, &[][..]), guarded(orders, &Order::ALL))
}

/// Lets in by TCP who may come in, and sets the fields that were asked for.
async fn protect(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let answer = web.answer(request.headers().get(header::AUTHORIZATION)).await;
    let mut response = match answer {
        Answer::LetIn => next.run(request).await,
        Answer::Refused => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"lossprobe\", charset=\"UTF-8\"")];
            (challenge, error(StatusCode::UNAUTHORIZED, "a user and its password are asked for")).into_response()
        }
        Answer::Busy => {
            let refused = error(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked");
            ([(header::RETRY_AFTER, "5")], refused).into_response()
        }
    };
    if answer != Answer::LetIn {
        // It may have a body, which is not read.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        always(&mut response);
    }
    for (name, value) in web.headers() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// What holds for every request and every answer. Only `orders` may be given.
async fn guard(State(orders): State<&'static [Order]>, request: Request, next: Next) -> Response {
    let is_order = request.method() == Method::POST && orders.iter().any(|order| order.path() == request.uri().path());
    let mut response = if !is_order && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let refused = error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
        ([(header::ALLOW, "GET, HEAD"), (header::CONNECTION, "close")], refused).into_response()
    } else if !request.body().is_end_stream() {
        let refused = error(StatusCode::PAYLOAD_TOO_LARGE, "requests have no body here");
        ([(header::CONNECTION, "close")], refused).into_response()
    } else if let Some(parameter) = parameter(request.uri()) {
        let message = format!("unknown parameter `{parameter}`; the API has none");
        error(StatusCode::BAD_REQUEST, &message)
    } else {
        debug!(method = %request.method(), uri = %request.uri(), "request");
        next.run(request).await
    };
    always(&mut response);
    response
}

fn always(response: &mut Response) {
    for (name, value) in ALWAYS {
        response.headers_mut().insert(name, value);
    }
}

/// The name of the first parameter, as it was written: the API has none, and one that is passed over in silence would be
/// taken for a filter. Scrapers may be told to send what they like to `/metrics`.
fn parameter(uri: &Uri) -> Option<&str> {
    let query = uri.query().filter(|_| uri.path().starts_with(API))?;
    query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name)).find(|name| !name.is_empty())
}

/// Answers are of this moment, and what they say they are: labels and names in them are hostile input.
const ALWAYS: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
];

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

async fn metrics(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> Response {
    let accepts: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::from_accept(&accepts.join(","));
    match answers.exporter.expose(format) {
        Ok(exposition) => {
            ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], exposition).into_response()
        }
        Err(std::fmt::Error) => error(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written"),
    }
}

async fn readyz(State(answers): State<Arc<Answers>>) -> Response {
    match answers.source.readiness() {
        Ok(()) => "ready".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing).into_response(),
    }
}

async fn snapshot(State(answers): State<Arc<Answers>>) -> Response {
    Json(&*answers.source.latest()).into_response()
}

async fn watch(State(answers): State<Arc<Answers>>, Extension(endless): Extension<Endless>) -> Response {
    match answers.source.watch() {
        Ok(lines) => {
            endless.mark();
            ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(lines)).into_response()
        }
        Err(cause) => error(StatusCode::SERVICE_UNAVAILABLE, &cause),
    }
}

async fn flows(State(answers): State<Arc<Answers>>) -> Response {
    answer(answers.source.flows())
}

async fn kept(State(answers): State<Arc<Answers>>) -> Response {
    answer(answers.source.evidence())
}

/// What everybody may read: no addresses.
async fn public_verdict(State(answers): State<Arc<Answers>>) -> Response {
    answer(answers.source.verdict().map(|mut verdict| {
        hide_addresses(&mut verdict);
        verdict
    }))
}

async fn public_incidents(State(answers): State<Arc<Answers>>) -> Response {
    answer(answers.source.incidents().map(Incidents::public))
}

fn answer(document: Result<impl Serialize, String>) -> Response {
    match document {
        Ok(document) => Json(document).into_response(),
        Err(cause) => error(StatusCode::INTERNAL_SERVER_ERROR, &cause),
    }
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><meta charset=utf-8><title>lossprobe</title><h1>lossprobe ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul><li><a href=/metrics>/metrics</a> for Prometheus\
         <li><a href=/api/v1/snapshot>/api/v1/snapshot</a> the same as JSON, once a second\
         <li><a href=/api/v1/verdict>/api/v1/verdict</a> whose fault it is, if anything is wrong\
         <li><a href=/api/v1/incidents>/api/v1/incidents</a> what has gone wrong\
         <li><a href=/healthz>/healthz</a> the agent runs\
         <li><a href=/readyz>/readyz</a> every selected interface is attached or refused</ul>\n"
    ))
}

#[cfg(test)]
mod tests;
