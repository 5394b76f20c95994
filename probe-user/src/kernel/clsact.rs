//! The qdisc that carries our filters where there is no tcx: taken away again if we brought it and nobody else uses it.
//! Where somebody's `ingress` qdisc stands in its place (libvirt's QoS, Open vSwitch's policing), that one carries the
//! ingress filter and stays as it is.

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NlasIterator};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage},
};

use probe_ebpf::abi::Direction;

use super::filter::{self, Filter, Handle};
use crate::netlink::{errno, request};

// uapi/linux/pkt_sched.h: TC_H_CLSACT.
const CLSACT: u32 = 0xffff_fff1;
const QDISC: u32 = 0xffff_0000;
pub(super) const CLSACT_KIND: &str = "clsact";
pub(super) const INGRESS_KIND: &str = "ingress";
// uapi/linux/rtnetlink.h.
const RTM_NEWQDISC: u16 = 36;
const TCA_KIND: u16 = 1;
/// `struct tcmsg`.
const HEADER_BYTES: usize = 20;

/// Times that the qdisc is added or found, should somebody else's come and go meanwhile.
const ATTEMPTS: usize = 3;

/// What stands where the filters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A clsact qdisc that lossprobe brought: this process, or another one that has filters on it.
    Ours,
    /// Somebody else's clsact qdisc.
    Theirs,
    /// An `ingress` qdisc, always somebody else's. It takes a filter for the egress hook too, and shows it what arrives.
    Ingress,
}

/// The qdisc of an interface that carries filters. Dropped after them, it leaves the interface as it was found.
#[derive(Debug)]
pub(super) struct Clsact {
    ifindex: u32,
    found: Found,
}

impl Clsact {
    /// Adds the qdisc where there is none. It is added by index: a name can be another interface's meanwhile.
    ///
    /// # Errors
    /// If the kernel refuses, or something unknown stands in its place.
    pub(super) fn ensure(ifindex: u32) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            match add(ifindex) {
                Ok(()) => return Ok(Self { ifindex, found: Found::Ours }),
                Err(error) if errno(&error) == Some(nix::libc::EEXIST) => {}
                Err(error) => return Err(error).context("add the clsact qdisc"),
            }
            match present(ifindex).context("ask what qdisc stands where clsact would be")?.as_deref() {
                Some(CLSACT_KIND) => {
                    // Who brought it may end first; the last of us takes it away.
                    let found = if is_said_to_be_brought(ifindex)? { Found::Ours } else { Found::Theirs };
                    return Ok(Self { ifindex, found });
                }
                Some(INGRESS_KIND) => return Ok(Self { ifindex, found: Found::Ingress }),
                Some(other) => bail!("a qdisc of kind {other} stands where clsact would be"),
                None => {}
            }
        }
        bail!("the handle of the clsact qdisc is taken")
    }

    /// Whether filters see only what arrives, whichever hook they are for.
    pub(super) fn is_ingress_only(&self) -> bool {
        self.found == Found::Ingress
    }

    /// What the filters on it are to say.
    pub(super) fn handle(&self) -> Handle {
        if self.found == Found::Ours { Handle::Brought } else { Handle::Found }
    }

    /// Somebody has taken it away with our filters on it: what stands there now, if anything, is not ours.
    pub(super) fn forget(mut self) {
        self.found = Found::Theirs;
    }
}

/// Takes a clsact qdisc away that nobody uses. Returns whether it did.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn remove_if_unused(ifindex: u32) -> Result<bool> {
    for direction in Direction::ALL {
        if !filter::list(ifindex, direction)?.is_empty() {
            return Ok(false);
        }
    }
    // With its kind, lest an `ingress` qdisc go that has taken its place.
    request(RouteNetlinkMessage::DelQueueDiscipline(clsact(ifindex)?), NLM_F_ACK, |_, _| Ok(()))?;
    Ok(true)
}

fn is_said_to_be_brought(ifindex: u32) -> Result<bool> {
    for direction in Direction::ALL {
        if filter::list(ifindex, direction)?.iter().any(Filter::says_brought) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn add(ifindex: u32) -> Result<()> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    request(RouteNetlinkMessage::NewQueueDiscipline(clsact(ifindex)?), flags, |_, _| Ok(()))
}

/// The kind of the qdisc in clsact's place, if there is one.
pub(super) fn present(ifindex: u32) -> Result<Option<String>> {
    Ok(all_in_place()?.into_iter().find_map(|(index, kind)| (index == ifindex).then_some(kind)))
}

/// Interfaces of this namespace on which a qdisc stands in clsact's place, and its kind.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn all_in_place() -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    // The kernel lists the qdiscs of all interfaces, whatever is asked for.
    request(RouteNetlinkMessage::GetQueueDiscipline(message(0, 0, 0)?), NLM_F_DUMP, |kind, payload| {
        if kind == RTM_NEWQDISC {
            found.extend(kind_in_place(payload)?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The interface and the kind that a qdisc's message names, if it is about clsact's place. Picked out by hand, since the
/// library gives up on a message with an attribute that is new to it.
fn kind_in_place(payload: &[u8]) -> Result<Option<(u32, String)>> {
    let header = TcHeader::parse(payload).context("a qdisc message's header")?;
    if u32::from(header.parent) != CLSACT {
        return Ok(None);
    }
    let ifindex = u32::try_from(header.index).context("a qdisc message's interface")?;
    for attribute in NlasIterator::new(&payload[HEADER_BYTES..]) {
        let attribute = attribute.context("a qdisc message's attribute")?;
        if attribute.kind() == TCA_KIND {
            let kind = attribute.value().split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok(Some((ifindex, String::from_utf8_lossy(kind).into_owned())));
        }
    }
    bail!("a qdisc without a kind")
}

fn message(ifindex: u32, parent: u32, handle: u32) -> Result<TcMessage> {
    let mut message = TcMessage::default();
    message.header = TcHeader {
        index: i32::try_from(ifindex).context("interface index")?,
        parent: TcHandle::from(parent),
        handle: TcHandle::from(handle),
        ..TcHeader::default()
    };
    Ok(message)
}

fn clsact(ifindex: u32) -> Result<TcMessage> {
    let mut message = message(ifindex, CLSACT, QDISC)?;
    message.attributes.push(TcAttribute::Kind(CLSACT_KIND.to_owned()));
    Ok(message)
}

impl Drop for Clsact {
    fn drop(&mut self) {
        // An interface that is gone has taken its qdisc along.
        if self.found == Found::Ours
            && let Err(error) = remove_if_unused(self.ifindex)
            && errno(&error) != Some(nix::libc::ENODEV)
        {
            tracing::warn!("an unused clsact qdisc stays on interface {}: {error:#}", self.ifindex);
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;

    fn bytes(ifindex: u32, parent: u32, attributes: Vec<TcAttribute>) -> Vec<u8> {
        let mut message = message(ifindex, parent, QDISC).expect("a small index");
        message.attributes = attributes;
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn only_what_stands_in_the_place_of_clsact() {
        let kind = |kind: &str| vec![TcAttribute::DumpInvisible(true), TcAttribute::Kind(kind.to_owned())];
        for (parent, name, expected) in [
            (CLSACT, "ingress", true),
            (CLSACT, "clsact", true),
            (u32::MAX, "htb", false),
            (0x8001_0000, "pfifo", false),
        ] {
            let found = kind_in_place(&bytes(7, parent, kind(name))).expect("well formed");
            assert_eq!(found, expected.then(|| (7, name.to_owned())), "{parent:x} {name}");
        }
    }

    #[test]
    fn broken_messages() {
        let whole = bytes(7, CLSACT, vec![TcAttribute::Kind("ingress".to_owned())]);
        for length in 0..whole.len() - 4 {
            assert!(kind_in_place(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(kind_in_place(&bytes(7, CLSACT, Vec::new())).is_err(), "no kind");
    }
}
