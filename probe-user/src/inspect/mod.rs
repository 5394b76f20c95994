//! The ad-hoc commands: what a [`Snapshot`](crate::snapshot::Snapshot) looks like to a human, and where one comes from.

pub mod client;
pub mod doctor;
pub mod losses;
mod rates;
pub mod stats;
