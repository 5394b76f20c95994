//! `lossprobe pause`, `resume` and `detach`: orders to the running agent. They go to its unix socket, since only who may
//! open that may give any; without an agent, `detach` removes what a killed one has left.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::{
    agent,
    inspect::client::{self, FetchError},
    kernel::leftovers,
    snapshot::State,
};

/// What an agent can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Count nothing; what is attached stays, and returns at once.
    Pause,
    /// Count again; attach again what was detached.
    Resume,
    /// Count nothing and take all programs off the interfaces.
    Detach,
}

impl Order {
    /// All.
    pub const ALL: [Self; 3] = [Self::Pause, Self::Resume, Self::Detach];

    /// The command's name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Detach => "detach",
        }
    }

    /// Where the agent takes it, by POST.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Pause => "/api/v1/pause",
            Self::Resume => "/api/v1/resume",
            Self::Detach => "/api/v1/detach",
        }
    }
}

/// Gives the order to the agent on `socket` and says on standard output what has come of it.
///
/// # Errors
/// If no agent answers, but for `detach`; if it may not be talked to; if leftovers cannot be removed.
pub fn run(order: Order, socket: &Path) -> Result<()> {
    match agent::runtime()?.block_on(client::order(socket, order)) {
        Ok(state) => {
            println!("{}", outcome(state));
            Ok(())
        }
        Err(error @ FetchError::NoAgent { .. }) if order == Order::Detach => {
            eprintln!("{error}");
            remove_leftovers()
        }
        Err(error) => Err(error.into()),
    }
}

const fn outcome(state: State) -> &'static str {
    match state {
        State::Running => "The agent counts.",
        State::Paused => "The agent is paused: its programs stay attached and do nothing until `lossprobe resume`.",
        State::Detached => {
            "The agent has taken its programs off all interfaces and still runs; `lossprobe resume` attaches them again."
        }
    }
}

fn remove_leftovers() -> Result<()> {
    let removed = leftovers::remove().map_err(|error| {
        anyhow!("leftovers could not be removed: {error:#}; it needs CAP_NET_ADMIN, as root has it")
    })?;
    if removed.is_empty() {
        println!("Nothing of a lossprobe that is gone is left on the interfaces of this network namespace.");
    }
    removed.iter().for_each(|removed| println!("Removed from {removed}."));
    Ok(())
}
