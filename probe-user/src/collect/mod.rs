//! Sources besides the probe's own maps, one file each.

pub mod links;
pub mod snmp;
