//! The kernel line, user side: the only code that uses aya.
//!
//! [`types`] says what the running kernel is, [`load`] brings the programs in, [`attach`] puts them on interfaces,
//! [`read`] copies the counters out.

pub mod attach;
pub mod btf;
mod clsact;
pub mod foreign;
mod heap;
pub mod load;
pub mod memory;
pub mod preflight;
pub mod privilege;
pub mod query;
pub mod read;
pub mod slots;
pub mod types;
