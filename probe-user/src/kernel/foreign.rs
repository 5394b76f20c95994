//! What others have put on interfaces, for a report: only questions, nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use caps::Capability;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NlaBuffer, NlasIterator};
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};
use probe_ebpf::abi::Direction;

use super::{clsact, filter, privilege};
use crate::netlink::request;

// uapi/linux/rtnetlink.h, if_link.h.
const CLSACT: &str = "clsact";
const RTM_NEWLINK: u16 = 16;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
/// `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;

/// Kind of the qdisc that stands where our clsact qdisc would: `clsact`, `ingress`, or something unknown.
///
/// # Errors
/// If the kernel does not tell.
pub fn qdisc_in_place(ifindex: u32) -> Result<Option<String>> {
    clsact::present(ifindex)
}

/// Filters on that qdisc, by kind and, where they have one, name; equal ones once.
///
/// # Errors
/// If the kernel does not tell.
pub fn filters(ifindex: u32, direction: Direction) -> Result<BTreeSet<String>> {
    // An `ingress` qdisc has no egress, and lists the same filters for it.
    if direction == Direction::Egress && qdisc_in_place(ifindex)?.as_deref() != Some(CLSACT) {
        return Ok(BTreeSet::new());
    }
    // A priority announces itself without a handle before its filters.
    Ok(filter::list(ifindex, direction)?.iter().filter(|filter| filter.handle != 0).map(ToString::to_string).collect())
}

/// Numbers of the XDP programs of every interface that has one, by interface index.
///
/// # Errors
/// If the kernel does not tell.
pub fn xdp_programs() -> Result<BTreeMap<u32, BTreeSet<u32>>> {
    ask_for_xdp(LinkMessage::default(), NLM_F_DUMP)
}

/// Whether an interface has an XDP program.
///
/// # Errors
/// If the kernel does not tell; there is no such interface.
pub fn has_xdp_program(ifindex: u32) -> Result<bool> {
    let mut ask = LinkMessage::default();
    ask.header.index = ifindex;
    ask_for_xdp(ask, NLM_F_ACK).map(|found| !found.is_empty())
}

fn ask_for_xdp(ask: LinkMessage, flags: u16) -> Result<BTreeMap<u32, BTreeSet<u32>>> {
    let mut found = BTreeMap::new();
    request(RouteNetlinkMessage::GetLink(ask), flags, |kind, payload| {
        if kind == RTM_NEWLINK {
            let index = payload.get(4..8).and_then(|bytes| bytes.first_chunk()).context("a link's header is cut")?;
            let programs = xdp(payload)?;
            if !programs.is_empty() {
                found.insert(u32::from_ne_bytes(*index), programs);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn xdp(payload: &[u8]) -> Result<BTreeSet<u32>> {
    let mut programs = BTreeSet::new();
    for attribute in NlasIterator::new(payload.get(LINK_HEADER_BYTES..).unwrap_or_default()) {
        let attribute = attribute.context("a link's attribute")?;
        if attribute.kind() == IFLA_XDP {
            for kind in [IFLA_XDP_PROG_ID, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID] {
                let number = nested(&attribute, kind)?.and_then(|value| value.first_chunk().copied());
                programs.extend(number.map(u32::from_ne_bytes).filter(|number| *number != 0));
            }
        }
    }
    Ok(programs)
}

/// Names of all programs by number; `None` where they are not to be seen, which takes `CAP_SYS_ADMIN`.
#[must_use]
pub fn program_names() -> Option<BTreeMap<u32, String>> {
    if !privilege::held().ok()?.contains(&Capability::CAP_SYS_ADMIN) {
        return None;
    }
    let mut names = BTreeMap::new();
    for (at, program) in aya::programs::loaded_programs().enumerate() {
        match program {
            Ok(program) => {
                names.insert(program.id(), String::from_utf8_lossy(program.name()).into_owned());
            }
            // A user namespace's CAP_SYS_ADMIN does not do; a later error is a program that has just gone.
            Err(_) if at == 0 => return None,
            Err(_) => {}
        }
    }
    Some(names)
}

fn nested(attribute: &NlaBuffer<&[u8]>, kind: u16) -> Result<Option<Vec<u8>>> {
    for inner in NlasIterator::new(attribute.value()) {
        let inner = inner.context("a nested attribute")?;
        if inner.kind() == kind {
            return Ok(Some(inner.value().to_vec()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_running_kernel() {
        assert!(!has_xdp_program(1).unwrap(), "the loopback");
        assert!(has_xdp_program(0x7fff_fffe).is_err(), "no such interface");
    }

    #[test]
    fn programs_of_xdp() {
        let link = |programs: &[(u16, u32)]| {
            let inner: Vec<u8> = programs.iter().flat_map(|(kind, id)| attribute(*kind, &id.to_ne_bytes())).collect();
            [vec![0; LINK_HEADER_BYTES], attribute(3, b"eth0\0"), attribute(IFLA_XDP, &inner)].concat()
        };
        for (programs, expected) in [
            (&[][..], &[][..]),
            (&[(IFLA_XDP_PROG_ID, 7), (IFLA_XDP_DRV_PROG_ID, 7)], &[7]),
            (&[(IFLA_XDP_SKB_PROG_ID, 8), (IFLA_XDP_HW_PROG_ID, 9)], &[8, 9]),
            (&[(IFLA_XDP_PROG_ID, 0)], &[]),
        ] {
            assert_eq!(xdp(&link(programs)).unwrap(), expected.iter().copied().collect(), "{programs:?}");
        }
        assert!(xdp(&[0; LINK_HEADER_BYTES]).unwrap().is_empty());
        assert!(xdp(&link(&[(IFLA_XDP_PROG_ID, 7)])[..LINK_HEADER_BYTES + 15]).is_err(), "cut");
    }
}
