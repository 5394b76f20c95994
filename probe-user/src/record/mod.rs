//! What is kept: malformed frames themselves as proof, the last half hour, and of each incident a bundle.
//!
//! ```text
//! Snapshot ─ history ─┐
//! Event ── evidence ──┼─ bundle (on the thread of scribe) ─ report, chart, pcapng
//! Incident ───────────┘
//! ```

pub mod bundle;
pub mod chart;
pub mod comment;
pub mod evidence;
pub mod frame;
pub mod history;
pub mod host;
pub mod incidents;
pub mod pcapng;
pub(crate) mod redact;
pub mod report;
pub mod scribe;
pub mod store;
