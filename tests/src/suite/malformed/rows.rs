//! One row for every reason, and for each way in which its condition can come true.
//!
//! Offsets: Ethernet 0, IPv4 and IPv6 header 14, what follows IPv4 34, what follows IPv6 54.

mod link;
mod network;
mod transport;

use tests::frames::{A, B, Frame, ethernet};

use super::Row;
pub(super) use network::jumbo;

/// Every row whose frame contradicts itself.
pub(super) fn contradictions() -> Vec<Row> {
    [link::rows(), network::rows(), transport::rows()].into_iter().flatten().collect()
}

pub(super) fn start() -> Frame {
    ethernet(B, A)
}

/// UDP over IPv4 with 100 bytes of payload: 142 bytes.
pub(super) fn datagram(ethernet: Frame) -> Frame {
    ethernet.ip4().udp(1000, 2000).payload(100)
}
