//! What is kept as proof: malformed frames themselves.

pub mod comment;
pub mod evidence;
pub mod frame;
pub mod pcapng;
pub mod store;
