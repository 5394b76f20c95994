//! Decides, once a second: is more lost than usual, where, and whose fault is it. Pure functions of [snapshots](crate::snapshot):
//! they need no kernel, no clock and no disk, and say of a recorded stream what they would have said of a live one.
//!
//! ```text
//! Snapshot ─ second ─┬─ alarm (cusum, baseline) ─┬─ verdict ─ incident
//!                    └─ source (what is seen) ───┘
//! ```

pub mod alarm;
pub mod baseline;
pub mod cusum;
pub mod incident;
pub mod objective;
pub mod second;
mod sentence;
pub mod source;
pub mod verdict;
