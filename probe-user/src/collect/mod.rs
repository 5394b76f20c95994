//! Sources besides the probe's own maps, one file each.

pub mod causes;
pub mod conntrack;
pub mod counter;
pub mod cpu;
pub mod device;
pub mod devlink;
pub mod ethtool;
pub mod links;
pub mod mib;
pub mod neighbour;
pub mod openvswitch;
mod per_cpu;
pub mod qdisc;
pub mod routes;
pub mod snmp;
pub mod softnet;
pub mod stats64;
