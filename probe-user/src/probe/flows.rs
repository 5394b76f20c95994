//! Which connections have lost most: read out of the kernel's table when somebody asks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use probe_ebpf::{
    abi::{FlowName, HAIRPIN},
    flow::{self, Half, Key},
};

use super::Probe;
use crate::snapshot::{Flow, FlowDirection, Flows};

impl Probe {
    /// The connections that have lost most, at most `top`, the worst first.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn flows(&self, top: usize) -> Result<Flows> {
        let mut names = self.maps.flow_names()?;
        let known = names.len() as u64;
        names.sort_by_key(|name| (std::cmp::Reverse(lost(name)), name.key));
        names.truncate(top);
        let now = self.loaded.jiffies()?;
        let flows = names.iter().map(|name| self.flow(name, now)).collect::<Result<_>>()?;
        Ok(Flows { known, capacity: u64::from(self.loaded.capacity.flows), flows })
    }

    fn flow(&self, name: &FlowName, now: u32) -> Result<Flow> {
        let halves = self.maps.halves(name.tag)?;
        let direction = |at: usize| {
            let half = halves[at].unwrap_or_default();
            FlowDirection {
                interface: self.name_at(name.ifindex[at] & !HAIRPIN).unwrap_or("").to_owned(),
                segments: u64::from(half.segments),
                lost_before: u64::from(name.lost_before[at]),
                seen_again: u64::from(name.seen_again[at]),
                not_needed: u64::from(not_needed(name, at)),
                silent_ms: halves[at]
                    .map(|half| u64::from(half.silent_jiffies(now)) * 1000 / u64::from(self.loaded.hertz).max(1)),
            }
        };
        let Key { outside, inside, outside_port, inside_port, encapsulation, group, .. } = name.key;
        Ok(Flow {
            group: self.tracks.name(group).to_owned(),
            outside: end(outside, outside_port).to_string(),
            inside: end(inside, inside_port).to_string(),
            vlans: flow::vlans(encapsulation).into_iter().filter(|vlan| *vlan != 0).collect(),
            tunnel: flow::tunnel(encapsulation),
            ingress: direction(0),
            egress: direction(1),
            round_trip_us: halves.iter().flatten().find_map(Half::round_trip_us),
        })
    }
}

/// Segments that a connection has lost, on whichever side.
pub(super) fn lost(name: &FlowName) -> u64 {
    let of = |at: usize| {
        u64::from(name.lost_before[at]) + u64::from(name.seen_again[at].saturating_sub(not_needed(name, at)))
    };
    of(0) + of(1)
}

/// Segments that passed again and that the receiver had not needed, of which only it knew.
fn not_needed(name: &FlowName, at: usize) -> u32 {
    u32::try_from(name.not_needed[at]).unwrap_or(0)
}

/// One end of a connection, from its address as the key has it.
pub(super) fn end(address: [u64; 2], port: u16) -> SocketAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&address[1].to_ne_bytes());
    let address = Ipv6Addr::from(bytes);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(end(Key::mapped(u32::from_ne_bytes([10, 0, 0, 1])), 443).to_string(), "10.0.0.1:443");
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let halves = v6.octets();
        let word = |at: usize| u64::from_ne_bytes(halves[at..at + 8].try_into().unwrap());
        assert_eq!(end([word(0), word(8)], 80).to_string(), "[2001:db8::1]:80");
    }

    #[test]
    fn what_was_not_needed_is_no_loss() {
        let name = FlowName { lost_before: [1, 0], seen_again: [3, 5], not_needed: [9, 2], ..FlowName::default() };
        assert_eq!(lost(&name), 1 + 3);
        let name = FlowName { seen_again: [3, 5], not_needed: [-2, 1], ..FlowName::default() };
        assert_eq!(lost(&name), 3 + 4, "what was known before pays for nothing else");
    }
}
