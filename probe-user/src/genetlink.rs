//! Questions to the kernel's generic netlink families (uapi/linux/genetlink.h), synchronously.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use netlink_packet_core::{DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::libc;

use crate::netlink::{errno, exchange};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`.
const HEADER_BYTES: usize = 4;
const NLA_F_NESTED: u16 = 1 << 15;

/// Attributes of a message, by kind.
pub(crate) type Attributes = Vec<(u16, Vec<u8>)>;

/// Number of a family, which the kernel may load a module for.
pub(crate) fn family(name: &str) -> Result<u16> {
    let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, [name.as_bytes(), &[0]].concat());
    let answer = ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &[name])?;
    number_of_family(&answer).context("it has no number")
}

/// Every family that is there, by name: to ask for one by name could load its module.
pub(crate) fn families() -> Result<BTreeMap<String, u16>> {
    let mut families = BTreeMap::new();
    list(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &[], |answer| {
        let attributes = attributes(answer)?;
        let name = attributes.iter().find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_NAME).map(|(_, name)| text(name));
        families.extend(name.zip(number_of_family(&attributes)));
        Ok(())
    })?;
    Ok(families)
}

fn number_of_family(attributes: &[(u16, Vec<u8>)]) -> Option<u16> {
    let (_, id) = attributes.iter().find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)?;
    id.first_chunk().map(|id| u16::from_ne_bytes(*id))
}

/// Asks for one thing. Returns the attributes of the answer.
pub(crate) fn ask(family: u16, command: u8, attributes_asked: &[DefaultNla]) -> Result<Attributes> {
    let mut answer = Vec::new();
    send(family, command, NLM_F_ACK, &emitted(attributes_asked), |bytes| {
        answer = attributes(bytes)?;
        Ok(())
    })?;
    Ok(answer)
}

/// Asks for all that there is; `header` is what the family wants in front of attributes. Shows `each` what is behind the
/// generic header of every answer.
pub(crate) fn list(family: u16, command: u8, header: &[u8], each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    send(family, command, NLM_F_DUMP, header, each)
}

fn send(family: u16, command: u8, flags: u16, body: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    // Version 1, then two reserved bytes.
    let payload = [&[command, 1, 0, 0][..], body].concat();
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(16 + payload.len())?.to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    exchange(NETLINK_GENERIC, &bytes, |_, payload| each(payload.get(HEADER_BYTES..).context("an answer's header")?))
}

/// Attributes as bytes.
pub(crate) fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// Attributes inside of one.
pub(crate) fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, emitted(attributes))
}

/// The attributes of a message or of a nest.
pub(crate) fn attributes(bytes: &[u8]) -> Result<Attributes> {
    let pair = |attribute: NlaBuffer<&[u8]>| (attribute.kind(), attribute.value().to_vec());
    NlasIterator::new(bytes).map(|attribute| Ok(pair(attribute.context("a netlink attribute")?))).collect()
}

/// Whether the error is not that the device asked about has vanished.
pub(crate) fn is_still_there(error: &anyhow::Error) -> bool {
    !matches!(errno(error), Some(libc::ENODEV))
}

/// A 32-bit value; 0 where it is cut.
pub(crate) fn number(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |value| u32::from_ne_bytes(*value))
}

/// A counter of 64 bits.
pub(crate) fn counter(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|value| u64::from_ne_bytes(*value))
}

/// A C string.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel() {
        let families = families().unwrap();
        assert_eq!(families.get("nlctrl"), Some(&GENL_ID_CTRL), "{families:?}");
        assert_eq!(family("nlctrl").unwrap(), GENL_ID_CTRL);
    }
}
