//! What leaves the agent: metrics, the HTTP API, the unix socket. Everything shown is a [`Snapshot`](crate::snapshot).

mod connections;
mod format;
pub mod http;
mod listen;
pub mod metrics;
pub mod push;
mod room;
pub(crate) mod samples;
pub mod watch;
pub mod web;

pub use format::Format;
pub use http::{FLOWS, Limits, Source, VERDICT, serve};
pub use listen::{Listeners, Place};
pub use web::Web;
