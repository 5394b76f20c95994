//! The ad-hoc commands: what a [`Snapshot`](crate::snapshot::Snapshot) looks like to a human, where one comes from,
//! and what the names in it mean.

pub mod client;
pub mod doctor;
pub mod explain;
pub mod flows;
pub mod losses;
mod rates;
pub mod stats;
pub mod watch;
