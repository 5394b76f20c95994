//! A node that is watched, without a kernel: traffic, what is lost of it and why, as the snapshots that an agent would have
//! made, one a second, and what [`probe_user::detect`] says of them. Everything is told by a seed.
//!
//! Snapshots have the shape of one that an agent has made (`recorded.json`); losses become raw events of connections,
//! kernel drops and device counters as they do on a real node, with the delays that they have there, and pass through the
//! agent's own [`PathLoss`](probe_user::derive::PathLoss). Deliberately absent: bare acknowledgements, whose loss leaves no
//! trace; shares of loss are shares of segments that carry something.

mod cause;
mod course;
mod loss;
mod node;
mod observer;
mod peers;
pub mod random;
mod score;
mod shape;
mod traffic;
mod uplink;

pub use self::{
    cause::{CAUSES, Cause},
    course::{Calm, Outcome, Setting, Warm, calm},
    loss::{BASELINES, Loss},
    score::{Cell, Score},
    shape::Card,
};
