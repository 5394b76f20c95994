//! Filters on the two hooks of a clsact (or `ingress`) qdisc: what the kernel lists, where ours fits in, and the removal
//! of exactly one. Below Linux 6.6 our programs are such filters.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NlasIterator};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage},
};
use nix::{errno::Errno, libc};
use probe_ebpf::abi::{Direction, program};

use crate::netlink::{errno, request};

// uapi/linux/pkt_sched.h: the classes of clsact that stand for the two hooks.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
// uapi/linux/rtnetlink.h, pkt_cls.h.
const RTM_NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// `struct tcmsg`.
const HEADER_BYTES: usize = 20;
const BPF_KIND: &str = "bpf";

/// Where ours goes on an empty hook: in front, or at the end, of what people and programs usually ask for, but not at 1,
/// which many ask for: the kernel refuses them another kind of filter where one stands.
const FIRST: u16 = 11;
const LAST: u16 = 0xff00;

/// What the number of our filter says: a dead agent's leftover must tell whether the qdisc was brought with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Handle {
    /// The qdisc was there before lossprobe.
    Found = 0x1055,
    /// lossprobe brought the qdisc.
    Brought = 0x1056,
}

/// One filter as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Priority; lower runs first.
    pub(super) preference: u16,
    /// 0 in the line that stands for the priority itself.
    pub(super) handle: u32,
    /// Only chain 0 is run; others are jumped to.
    chain: u32,
    kind: String,
    /// Of a bpf filter.
    name: String,
    /// The kernel's number of the program of a bpf filter.
    pub(super) program: u32,
}

impl fmt::Display for Filter {
    /// Its kind, and its name if it has one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(formatter, " {}", self.name) }
    }
}

impl Filter {
    /// Whether a lossprobe, this process or another, has put it there.
    pub(super) fn is_lossprobe(&self) -> bool {
        self.kind == BPF_KIND && self.program != 0 && [program::INGRESS, program::EGRESS].contains(&self.name.as_str())
    }

    pub(super) fn says_brought(&self) -> bool {
        self.is_lossprobe() && self.handle == Handle::Brought as u32
    }
}

/// The filters of one hook, in the order in which they run; several lines for a filter that has parts.
///
/// # Errors
/// If the kernel refuses. A hook without a qdisc, and an interface that is gone, have no filters.
pub(super) fn list(ifindex: u32, direction: Direction) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    let ask = RouteNetlinkMessage::GetTrafficFilter(message(ifindex, hook(direction))?);
    request(ask, NLM_F_DUMP, |kind, payload| {
        if kind == RTM_NEWTFILTER {
            filters.push(parse(payload)?);
        }
        Ok(())
    })
    .with_context(|| format!("list the {} filters of interface {ifindex}", direction.id()))?;
    Ok(filters)
}

/// A priority that nobody has on this hook: first at ingress, last at egress, or as near to it as there is room.
pub(super) fn free_preference(direction: Direction, filters: &[Filter]) -> Option<u16> {
    let in_chain = filters.iter().filter(|filter| filter.chain == 0);
    let taken: BTreeSet<u16> = in_chain.map(|filter| filter.preference).collect();
    let is_free = |preference: &u16| !taken.contains(preference);
    match direction {
        Direction::Ingress => {
            let before = taken.first().map_or(FIRST, |lowest| FIRST.min(lowest.saturating_sub(1)));
            (before.max(1)..=u16::MAX).find(is_free)
        }
        Direction::Egress => {
            let behind = taken.last().map_or(LAST, |highest| LAST.max(highest.saturating_add(1)));
            (1..=behind).rev().find(is_free)
        }
    }
}

/// A filter of this process. Dropped, it is taken off, if it is still there.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) ifindex: u32,
    pub(super) direction: Direction,
    pub(super) preference: u16,
    pub(super) handle: u32,
    /// The kernel's number of our program.
    pub(super) program: u32,
}

impl Own {
    /// Our place among the hook's filters and their number; `None` if ours is gone.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn place(&self) -> Result<Option<(usize, usize)>> {
        Ok(place(&list(self.ifindex, self.direction)?, |filter| self.is(filter)))
    }

    fn is(&self, filter: &Filter) -> bool {
        filter.is_lossprobe()
            && (filter.preference, filter.handle, filter.program) == (self.preference, self.handle, self.program)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = remove(self.ifindex, self.direction, |filter| self.is(filter)) {
            tracing::warn!("a filter stays on interface {}: {error:#}", self.ifindex);
        }
    }
}

/// Every bpf filter runs on its own; the parts of any other kind at one priority count as one.
fn place(filters: &[Filter], is_ours: impl Fn(&Filter) -> bool) -> Option<(usize, usize)> {
    let mut running: Vec<&Filter> = Vec::new();
    for filter in filters.iter().filter(|filter| filter.handle != 0 && filter.chain == 0) {
        let is_part = |last: &&Filter| last.kind != BPF_KIND && last.preference == filter.preference;
        if !running.last().is_some_and(is_part) {
            running.push(filter);
        }
    }
    Some((running.iter().position(|filter| is_ours(filter))?, running.len()))
}

/// Removes those filters of a hook that are `wanted`, asking for each again right before: at its place may be another
/// one by now. Returns them.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn remove(ifindex: u32, direction: Direction, wanted: impl Fn(&Filter) -> bool) -> Result<Vec<Filter>> {
    let mut removed = Vec::new();
    for filter in list(ifindex, direction)?.into_iter().filter(wanted) {
        if !list(ifindex, direction)?.contains(&filter) {
            continue;
        }
        let mut message = message(ifindex, hook(direction))?;
        message.header.handle = TcHandle::from(filter.handle);
        message.header.info = u32::from(filter.preference) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
        message.attributes.push(TcAttribute::Kind(BPF_KIND.to_owned()));
        match request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK, |_, _| Ok(())) {
            // Somebody else was faster.
            Err(error) if [Errno::ENOENT, Errno::ENODEV].map(|gone| Some(gone as i32)).contains(&errno(&error)) => {}
            outcome => {
                outcome.with_context(|| format!("remove filter {} of interface {ifindex}", filter.name))?;
                removed.push(filter);
            }
        }
    }
    Ok(removed)
}

const fn hook(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    }
}

fn message(ifindex: u32, parent: u32) -> Result<TcMessage> {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(ifindex).context("interface index")?;
    message.header.parent = TcHandle::from(parent);
    Ok(message)
}

fn parse(payload: &[u8]) -> Result<Filter> {
    let header = TcHeader::parse(payload).context("a filter message's header")?;
    let (preference, handle) = ((header.info >> 16) as u16, u32::from(header.handle));
    let mut filter = Filter { preference, handle, ..Filter::default() };
    let mut options = Vec::new();
    let number = |value: &[u8]| value.first_chunk().map_or(0, |value| u32::from_ne_bytes(*value));
    for attribute in NlasIterator::new(&payload[HEADER_BYTES..]) {
        let attribute = attribute.context("a filter message's attribute")?;
        match attribute.kind() {
            TCA_KIND => filter.kind = text(attribute.value()),
            TCA_CHAIN => filter.chain = number(attribute.value()),
            TCA_OPTIONS => options = attribute.value().to_vec(),
            _other => {}
        }
    }
    if filter.kind == BPF_KIND {
        for attribute in NlasIterator::new(options.as_slice()) {
            let attribute = attribute.context("a bpf filter's attribute")?;
            match attribute.kind() {
                TCA_BPF_NAME => filter.name = text(attribute.value()),
                TCA_BPF_ID => filter.program = number(attribute.value()),
                _other => {}
            }
        }
    }
    Ok(filter)
}

/// A string with its final NUL.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable as _};

    use super::*;

    fn filter(preference: u16, kind: &str, handle: u32) -> Filter {
        Filter { preference, handle, kind: kind.to_owned(), ..Filter::default() }
    }

    #[test]
    fn a_free_priority_first_or_last() {
        let preference = |direction, taken: &[u16]| {
            free_preference(direction, &taken.iter().map(|taken| filter(*taken, "u32", 1)).collect::<Vec<_>>())
        };
        for (taken, first, last) in [
            (&[][..], FIRST, LAST),
            (&[49152], FIRST, LAST),
            (&[7], 6, LAST),
            (&[1], 2, LAST),
            (&[1, 2, 4], 3, LAST),
            (&[FIRST, LAST], FIRST - 1, LAST + 1),
            (&[0xffff], FIRST, 0xfffe),
            (&[0xfffd, 0xffff], FIRST, 0xfffe),
        ] {
            assert_eq!(preference(Direction::Ingress, taken), Some(first), "ingress {taken:?}");
            assert_eq!(preference(Direction::Egress, taken), Some(last), "egress {taken:?}");
        }
        let all: Vec<u16> = (1..=u16::MAX).collect();
        assert_eq!(preference(Direction::Ingress, &all), None);
        let elsewhere = Filter { chain: 5, ..filter(FIRST, "u32", 1) };
        assert_eq!(free_preference(Direction::Ingress, &[elsewhere]), Some(FIRST), "another chain");
    }

    #[test]
    fn parts_of_a_filter_count_as_one() {
        let hook = [
            filter(1, "u32", 0),
            filter(1, "u32", 0x8000_0000),
            filter(1, "u32", 0x8000_0800),
            filter(7, "bpf", 0),
            filter(7, "bpf", 2),
            filter(7, "bpf", 1),
            Filter { chain: 3, ..filter(8, "bpf", 1) },
            filter(9, "flower", 0),
        ];
        assert_eq!(place(&hook, |filter| filter.handle == 2), Some((1, 3)));
        assert_eq!(place(&hook, |filter| filter.handle == 1), Some((2, 3)));
        assert_eq!(place(&hook, |filter| filter.handle == 4), None);
    }

    fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        DefaultNla::new(kind, bytes)
    }

    #[test]
    fn what_a_message_says() {
        let name = DefaultNla::new(TCA_BPF_NAME, b"lossprobe_out\0".to_vec());
        let id = DefaultNla::new(TCA_BPF_ID, 77_u32.to_ne_bytes().to_vec());
        let attributes = [DefaultNla::new(TCA_KIND, b"bpf\0".to_vec()), nest(TCA_OPTIONS | 0x8000, &[name, id])];
        let mut header = message(7, EGRESS).unwrap().header;
        (header.info, header.handle) = (11 << 16 | 0x0300, TcHandle::from(Handle::Brought as u32));
        let mut bytes = vec![0; HEADER_BYTES + attributes.as_slice().buffer_len()];
        header.emit(&mut bytes);
        attributes.as_slice().emit(&mut bytes[HEADER_BYTES..]);
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.preference, parsed.program, parsed.name.as_str()), (11, 77, "lossprobe_out"));
        assert!(parsed.is_lossprobe() && parsed.says_brought());
        assert!(!Filter { name: "lossprobe_none".to_owned(), ..parsed.clone() }.is_lossprobe());
        assert!(!Filter { program: 0, ..parsed.clone() }.is_lossprobe(), "a kernel that names no program");
        assert!(!Filter { handle: 1, ..parsed }.says_brought());
        for length in (0..HEADER_BYTES).chain(HEADER_BYTES + 1..HEADER_BYTES + 4) {
            assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
