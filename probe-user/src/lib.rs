//! What the operator runs: the agent and the ad-hoc commands.
//!
//! Data flows one way: [`kernel`] and [`collect`] read, [`probe`] makes a [`snapshot`] of it, [`record`] keeps
//! proof, [`export`] and [`inspect`] show it. [`analyze`] reads captures and needs none of it.

pub mod agent;
pub mod analyze;
pub mod classes;
pub mod cli;
pub mod collect;
pub mod config;
pub mod conservation;
pub mod control;
pub mod derive;
pub mod detect;
pub mod event;
pub mod export;
mod genetlink;
pub mod inspect;
pub mod kernel;
pub mod netlink;
pub mod probe;
pub mod record;
pub mod snapshot;
pub mod standalone;
pub mod texts;
pub mod topology;
pub mod tunnel;
