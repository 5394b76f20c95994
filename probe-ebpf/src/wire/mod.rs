//! One header each. A `step` judges the header at the cursor, moves the cursor behind it and names what follows.
//! Header fields are returned in host order; offsets count from the frame's first byte.

pub mod arp;
pub mod ethernet;
pub mod geneve;
pub mod gre;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mpls;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vxlan;
