//! Sources besides the probe's own maps, one file each.

pub mod device;
pub mod links;
pub mod routes;
pub mod snmp;
