//! The kernel line, user side: the only code that uses aya.
//!
//! [`types`] says what the running kernel is, [`load`] brings the programs in, [`attach`] puts them on interfaces,
//! [`read`] copies the counters out.

pub mod attach;
pub mod btf;
mod clsact;
pub mod descriptors;
mod device;
pub mod events;
pub mod evidence;
mod filter;
pub mod foreign;
pub mod heap;
pub mod heartbeat;
pub mod leftovers;
pub mod load;
pub mod memory;
pub mod preflight;
pub mod privilege;
pub mod query;
pub mod read;
pub mod reasons;
pub mod slots;
pub mod symbols;
mod tcx;
pub mod types;
pub mod xdp;
