//! What one observer in the path can tell of a TCP connection: which bytes were lost before it, and which behind it.
//!
//! One direction of a connection is a [`Half`], which only that direction's packets write; of the other one it reads a
//! [`Reverse`]. Each packet is a [`Segment`], each thing noticed a [`TcpEvent`]. The cost is constant: no list of
//! segments, six holes, one counter of IP identifiers. Bytes seen twice were lost behind this point, bytes never seen
//! and filled by a retransmission before it (Benko and Veres, GLOBECOM 2002).
//!
//! Never to be given: malformed frames, fragments, packets quoted by ICMP.

mod event;
mod half;
mod holes;
mod identifier;
mod key;
mod segment;
mod sequence;
mod table;
#[cfg(test)]
mod tests;

pub use event::{Ledger, Quality, Sink, TcpEvent};
pub use half::{Clock, Half, Reverse};
pub use key::{Key, Passing, Secret, encapsulation, tag_of, tunnel, vlans};
pub use segment::{Cut, Segment};
pub use table::{FLOW_WAYS, Place, first_way, place, set_of};
