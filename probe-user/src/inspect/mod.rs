//! The ad-hoc commands: what a [`Snapshot`](crate::snapshot::Snapshot) looks like to a human, where one comes from,
//! and what the names in it mean.

pub mod capture;
pub mod client;
pub mod doctor;
pub mod explain;
mod feed;
mod filter;
pub mod flows;
pub mod incidents;
pub mod losses;
mod pipe;
pub(crate) mod print;
mod rates;
pub mod report;
pub mod senders;
pub mod stats;
pub mod verdict;
pub mod watch;
