//! Every way of losing packets that this kernel offers: made a known number of times, found under the kernel's name, in
//! its class and on its interface, nowhere else, and compared with a witness that knows nothing of the probe.
//!
//! A mechanism is one row of a list and one function. Mechanisms that get along share an arrangement and an agent, because
//! starting an agent is what takes long in an emulated guest. What was found is printed as a table when all is over;
//! `tests/README.md` explains its rows.

mod devices;
mod ledger;
mod network;
mod queues;
mod sockets;

use anyhow::Result;
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    run::{trial, trial_alone},
    topology::{CLIENT_MAC, Routed},
};

pub(crate) use self::ledger::table;
use self::ledger::{Mechanism, Scene, judge};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("losses::of_a_router", || on_a_router(network::MECHANISMS)),
        trial("losses::of_queues", || on_a_router(queues::MECHANISMS)),
        trial("losses::of_sockets", || on_a_router(sockets::MECHANISMS)),
        trial("losses::of_devices", || on_a_router(devices::MECHANISMS)),
        trial_alone("losses::of_the_connection_table", || on_a_router(queues::ALONE)),
    ]
}

/// Between client and server, with an agent on all of the router's interfaces.
fn on_a_router(mechanisms: &[Mechanism]) -> Result<()> {
    let net = Routed::new()?;
    net.router.neighbour("r1", sockets::GHOST, CLIENT_MAC)?;
    let agent = Agent::start(&net.router, &["--interface", "*", "--ports", "each"])?;
    judge(&Scene { net: &net, agent: &agent }, mechanisms)?;
    agent.stop()
}
