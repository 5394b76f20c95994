//! What is kept as proof: malformed frames themselves.

pub mod comment;
pub mod evidence;
