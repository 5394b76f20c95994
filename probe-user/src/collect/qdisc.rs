//! What queueing disciplines drop, from rtnetlink: one list of all devices.
//!
//! A classful discipline repeats what its leaves have dropped, so each counts for what it has beyond the disciplines
//! below it: a leaf for all, `mq` and its like, which are only sums, for nothing. Queues that a classful one has made by
//! itself (`tbf`, an `htb` class without a leaf of its own) are not in the list, and count for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{NLM_F_DUMP, NlasIterator};
use netlink_packet_route::{RouteNetlinkMessage, tc::TcMessage};

use super::{counter::Counter, links::Link};
use crate::{netlink::request, snapshot::Qdisc};

// uapi/linux/rtnetlink.h, pkt_sched.h, gen_stats.h.
const RTM_NEWQDISC: u16 = 36;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
const TC_H_ROOT: u32 = 0xffff_ffff;
/// `struct tcmsg`.
const HEADER_BYTES: usize = 20;
/// They only add up what is below them.
const SUMS: [&str; 3] = ["mq", "mqprio", "taprio"];
/// It keeps nothing, so it drops nothing.
const NO_QUEUE: &str = "noqueue";

/// Kinds that can show drops of their own.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().filter(|kind| !SUMS.contains(kind))
}

/// What a kind is called that is none of [`KINDS`].
const OTHER: &str = "other";
/// Kinds of the kernel's own since 5.10, those that have gone meanwhile included. Since 6.16 a BPF program can be a
/// discipline, under any name that whoever loads it likes: such names are no label's values.
const KINDS: [&str; 41] = [
    "atm",
    "bfifo",
    "blackhole",
    "cake",
    "cake_mq",
    "cbq",
    "cbs",
    "choke",
    "clsact",
    "codel",
    "drr",
    "dsmark",
    "dualpi2",
    "etf",
    "ets",
    "fq",
    "fq_codel",
    "fq_pie",
    "gred",
    "hfsc",
    "hhf",
    "htb",
    "ingress",
    "mq",
    "mqprio",
    "multiq",
    "netem",
    "pfifo",
    "pfifo_fast",
    "pfifo_head_drop",
    "pie",
    "plug",
    "prio",
    "qfq",
    "red",
    "sfb",
    "sfq",
    "skbprio",
    "taprio",
    "tbf",
    "teql0",
];

/// One discipline at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Discipline {
    ifindex: u32,
    handle: u32,
    parent: u32,
    kind: String,
    drops: u32,
    overlimits: u32,
    backlog_packets: u32,
    backlog_bytes: u32,
}

/// A discipline that was seen, and what it has counted by itself.
#[derive(Debug)]
struct Seen {
    kind: String,
    drops: Counter,
    overlimits: Counter,
    /// Readings in a row without it: the kernel lists devices in pieces and may skip one while others vanish.
    absent: u8,
}

/// Readings without a discipline after which it is gone, and whatever has its handle is another one.
const GONE_AFTER: u8 = 5;

/// Sums by device and kind from the agent's start on. They stay when a discipline is replaced.
#[derive(Debug, Default)]
pub struct QdiscSums {
    /// By device, handle and parent: leaves without a handle are told apart by the class they hang on.
    seen: BTreeMap<(u32, u32, u32), Seen>,
    sums: BTreeMap<u32, BTreeMap<&'static str, Qdisc>>,
    /// What a discipline has beyond those below it is the difference of numbers that were read one after the other: what
    /// it was too little is taken off what comes next.
    debts: BTreeMap<(u32, u32, u32), u64>,
    /// Whether what a discipline has counted before it is seen for the first time is the agent's.
    running: bool,
    /// Devices that were up at the first reading, and of which no list has shown a discipline yet.
    unlisted: BTreeSet<u32>,
}

impl QdiscSums {
    /// Reads those of all devices, which `links` are, and keeps the sums of the `selected`; `counts` is whether what
    /// happened since the last time counts.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&mut self, links: &BTreeMap<u32, Link>, selected: &BTreeSet<u32>, counts: bool) -> Result<()> {
        self.take(list()?, links, counts);
        self.retain(selected);
        Ok(())
    }

    /// A device that is up has a discipline. Where the first list shows none it has skipped the device, which the kernel
    /// does without a word (`tc_dump_qdisc` goes by position, and never says `NLM_F_DUMP_INTR`; 6.18).
    fn take(&mut self, mut disciplines: Vec<Discipline>, links: &BTreeMap<u32, Link>, counts: bool) {
        let listed: BTreeSet<u32> = disciplines.iter().map(|discipline| discipline.ifindex).collect();
        if !self.running {
            self.unlisted = links.values().filter(|link| link.up).map(|link| link.ifindex).collect();
            self.unlisted.retain(|ifindex| !listed.contains(ifindex));
        }
        disciplines.retain(|discipline| discipline.kind != NO_QUEUE);
        self.add(&disciplines, counts);
        self.unlisted.retain(|ifindex| links.contains_key(ifindex) && !listed.contains(ifindex));
    }

    fn add(&mut self, disciplines: &[Discipline], counts: bool) {
        let counts_new = self.running && counts;
        self.running = true;
        let mut grown = BTreeMap::new();
        let (mut seen, mut debts) = (BTreeMap::new(), BTreeMap::new());
        self.sums.values_mut().flat_map(BTreeMap::values_mut).for_each(|sum| {
            (sum.backlog_packets, sum.backlog_bytes) = (0, 0);
        });
        for now in disciplines {
            let key = (now.ifindex, now.handle, now.parent);
            if seen.contains_key(&key) {
                // Listed twice: the kernel's list has changed while it was read.
                continue;
            }
            let before = self.seen.remove(&key).filter(|before| before.kind == now.kind);
            let counted_before =
                |reading: u32| if counts_new && !self.unlisted.contains(&now.ifindex) { 0 } else { reading.into() };
            let mut before = before.unwrap_or_else(|| Seen {
                kind: now.kind.clone(),
                drops: Counter::after(counted_before(now.drops)),
                overlimits: Counter::after(counted_before(now.overlimits)),
                absent: 0,
            });
            before.absent = 0;
            let more = |counter: &mut Counter, reading: u32| {
                let total = counter.total();
                if counts {
                    counter.add_u32_or_reset(reading);
                } else {
                    counter.skip(reading.into());
                }
                counter.total() - total
            };
            grown.insert(key, (more(&mut before.drops, now.drops), more(&mut before.overlimits, now.overlimits)));
            seen.insert(key, before);
        }
        for (key, mut before) in std::mem::take(&mut self.seen) {
            before.absent += 1;
            if before.absent < GONE_AFTER {
                seen.insert(key, before);
            }
        }
        let sums = &mut self.sums;
        // Those of one device follow each other.
        let devices = disciplines.chunk_by(|one, next| one.ifindex == next.ifindex);
        let with_device = devices.flat_map(|device| device.iter().map(move |now| (now, device)));
        let mut done = BTreeSet::new();
        for (now, device) in with_device.filter(|(now, _)| !SUMS.contains(&now.kind.as_str())) {
            let key = (now.ifindex, now.handle, now.parent);
            if !done.insert(key) {
                continue;
            }
            let (drops, overlimits) = grown.get(&key).copied().unwrap_or_default();
            let below = device.iter().filter(|child| child.is_below(now));
            let below: Vec<_> = below.map(|child| (child.ifindex, child.handle, child.parent)).collect();
            let repeated: u64 = below.iter().filter_map(|child| Some(grown.get(child)?.0)).sum();
            let owed = repeated + self.debts.get(&key).copied().unwrap_or(0);
            if owed > drops {
                debts.insert(key, owed - drops);
            }
            let kind = shown_kind(&now.kind);
            let sum = sums
                .entry(now.ifindex)
                .or_default()
                .entry(kind)
                .or_insert_with(|| Qdisc { kind: kind.to_owned(), ..Qdisc::default() });
            sum.dropped_packets += drops.saturating_sub(owed);
            sum.overlimits += overlimits;
            if below.is_empty() {
                sum.backlog_packets += u64::from(now.backlog_packets);
                sum.backlog_bytes += u64::from(now.backlog_bytes);
            }
        }
        (self.seen, self.debts) = (seen, debts);
    }

    /// Of one device, by kind.
    #[must_use]
    pub fn shown(&self, ifindex: u32) -> Vec<Qdisc> {
        self.sums.get(&ifindex).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// After each reading: what others drop is not kept for the day when they are selected.
    fn retain(&mut self, selected: &BTreeSet<u32>) {
        self.sums.retain(|ifindex, _| selected.contains(ifindex));
    }
}

/// The label: one of [`KINDS`], or [`OTHER`].
fn shown_kind(kind: &str) -> &'static str {
    KINDS.into_iter().find(|known| *known == kind).unwrap_or(OTHER)
}

impl Discipline {
    /// Below `other`: hung on one of its classes. A root that the kernel has made by itself has no handle, and its leaves
    /// have none either.
    fn is_below(&self, other: &Self) -> bool {
        self.parent >> 16 == other.handle >> 16
            && self.parent != TC_H_ROOT
            && (other.handle != 0 || other.parent == TC_H_ROOT)
            && (self.handle, self.parent) != (other.handle, other.parent)
    }
}

fn list() -> Result<Vec<Discipline>> {
    let mut disciplines = Vec::new();
    request(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), NLM_F_DUMP, |message_type, payload| {
        if message_type == RTM_NEWQDISC {
            disciplines.push(parse(payload)?);
        }
        Ok(())
    })
    .context("list queueing disciplines by rtnetlink")?;
    Ok(disciplines)
}

fn parse(payload: &[u8]) -> Result<Discipline> {
    let word = |bytes: &[u8], at: usize| bytes.get(4 * at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let (Some(ifindex), Some(handle), Some(parent), Some(attributes)) =
        (word(payload, 1), word(payload, 2), word(payload, 3), payload.get(HEADER_BYTES..))
    else {
        bail!("a message of {} bytes about a queueing discipline", payload.len());
    };
    let mut discipline = Discipline { ifindex, handle, parent, ..Discipline::default() };
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.context("an attribute of a queueing discipline")?;
        match attribute.kind() {
            TCA_KIND => {
                let kind = String::from_utf8_lossy(attribute.value());
                kind.trim_end_matches('\0').clone_into(&mut discipline.kind);
            }
            TCA_STATS2 => {
                for statistics in NlasIterator::new(attribute.value()) {
                    let statistics = statistics.context("statistics of a queueing discipline")?;
                    if statistics.kind() == TCA_STATS_QUEUE {
                        // struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
                        let figure = |at: usize| word(statistics.value(), at).unwrap_or(0);
                        (discipline.backlog_packets, discipline.backlog_bytes) = (figure(0), figure(1));
                        (discipline.drops, discipline.overlimits) = (figure(2), figure(4));
                    }
                }
            }
            _other => {}
        }
    }
    Ok(discipline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discipline(kind: &str, handle: u32, parent: u32, drops: u32) -> Discipline {
        Discipline { ifindex: 7, handle, parent, kind: kind.into(), drops, ..Discipline::default() }
    }

    /// What is shown after these readings, by kind.
    fn after(readings: &[&[Discipline]]) -> Vec<(String, u64)> {
        let mut sums = QdiscSums::default();
        readings.iter().for_each(|reading| sums.add(reading, true));
        sums.shown(7).into_iter().map(|sum| (sum.kind, sum.dropped_packets)).collect()
    }

    const ROOT: u32 = TC_H_ROOT;

    #[test]
    fn a_root_repeats_its_leaves() {
        let tree = |htb: u32, one: u32, two: u32| {
            [
                discipline("htb", 0x1_0000, ROOT, htb),
                discipline("fq_codel", 0x10_0000, 0x1_0010, one),
                discipline("pfifo", 0x20_0000, 0x1_0020, two),
            ]
        };
        let expect = |htb: u64, fq_codel: u64, pfifo: u64| {
            [("fq_codel", fq_codel), ("htb", htb), ("pfifo", pfifo)].map(|(kind, drops)| (kind.to_owned(), drops))
        };
        let start = tree(5, 2, 3);
        assert_eq!(after(&[&start]), expect(0, 0, 0), "what was before is not counted");
        assert_eq!(after(&[&start, &tree(15, 6, 9)]), expect(0, 4, 6));
        assert_eq!(after(&[&start, &tree(25, 6, 9)]), expect(10, 4, 6), "of classes without a leaf of their own");
        // The leaf was read before the last of its drops, the root after it; then the other way round.
        assert_eq!(after(&[&start, &tree(14, 6, 9), &tree(16, 6, 9)]), expect(1, 4, 6), "a debt is paid");
    }

    #[test]
    fn the_kernels_own_tree_has_no_handles() {
        let tree = |one: u32, two: u32| {
            [
                discipline("mq", 0, ROOT, one + two),
                discipline("fq_codel", 0, 0x1, one),
                discipline("fq_codel", 0, 0x2, two),
            ]
        };
        assert_eq!(after(&[&tree(0, 0), &tree(3, 4)]), [("fq_codel".to_owned(), 7)]);
    }

    #[test]
    fn replaced_ones_start_anew_and_the_sum_stays() {
        let pfifo = |handle, drops| [discipline("pfifo", handle, ROOT, drops)];
        for (name, readings, expected) in [
            ("another handle", vec![pfifo(0x1_0000, 0), pfifo(0x1_0000, 50), pfifo(0x2_0000, 8)], 58),
            ("the same handle", vec![pfifo(0x1_0000, 10), pfifo(0x1_0000, 60), pfifo(0x1_0000, 8)], 58),
            ("wrapped", vec![pfifo(1 << 16, u32::MAX - 9), pfifo(1 << 16, 5)], 15),
        ] {
            let readings: Vec<&[Discipline]> = readings.iter().map(|reading| &reading[..]).collect();
            assert_eq!(after(&readings), [("pfifo".to_owned(), expected)], "{name}");
        }
        let other = [discipline("bfifo", 0x1_0000, ROOT, 3)];
        assert_eq!(
            after(&[&pfifo(0x1_0000, 1), &pfifo(0x1_0000, 4), &other]),
            [("bfifo".to_owned(), 3), ("pfifo".to_owned(), 3)]
        );
        let mut sums = QdiscSums::default();
        sums.add(&pfifo(0x1_0000, 1), true);
        sums.add(&pfifo(0x1_0000, 9), false);
        sums.add(&pfifo(0x1_0000, 10), true);
        assert_eq!(sums.shown(7)[0].dropped_packets, 1, "nothing counts while the agent stands still");
        sums.retain(&BTreeSet::new());
        assert!(sums.shown(7).is_empty());
        sums.add(&pfifo(0x1_0000, 12), true);
        assert_eq!(sums.shown(7)[0].dropped_packets, 2, "selected again");
    }

    /// The kernel lists in pieces: while devices vanish a list may lack one that is there, or have it twice.
    #[test]
    fn an_incomplete_list_counts_nothing_twice() {
        let one = |drops| discipline("fq_codel", 0x1_0000, ROOT, drops);
        assert_eq!(after(&[&[one(1_000_000)], &[], &[one(1_000_003)]]), [("fq_codel".to_owned(), 3)]);
        assert_eq!(after(&[&[one(10)], &[one(12), one(12)], &[one(13)]]), [("fq_codel".to_owned(), 3)]);
        let mut gone: Vec<&[Discipline]> = vec![&[]; usize::from(GONE_AFTER)];
        let (before, later) = ([one(10)], [one(4)]);
        gone.insert(0, &before);
        gone.push(&later);
        assert_eq!(after(&gone), [("fq_codel".to_owned(), 4)], "another one with its handle");
    }

    /// 100 programs by names of their own, each in the place of the one before it.
    #[test]
    fn names_of_programs_are_no_kinds() {
        let replaced: Vec<[Discipline; 1]> =
            (0..=100_u32).map(|at| [discipline(&format!("bpf_{at}"), at << 16, ROOT, at.min(1))]).collect();
        let readings: Vec<&[Discipline]> = replaced.iter().map(|reading| &reading[..]).collect();
        assert_eq!(after(&readings), [(OTHER.to_owned(), 100)]);
        let kinds: BTreeSet<&str> = KINDS.into();
        assert!(
            kinds.len() == KINDS.len() && SUMS.iter().all(|kind| kinds.contains(kind)) && !kinds.contains(NO_QUEUE)
        );
    }

    #[test]
    fn what_the_first_list_has_skipped_is_not_new() {
        for (name, up, first, expected) in [
            ("skipped", true, None, 1),
            ("down: it has none yet", false, None, 9),
            ("it had no queue", true, Some(discipline(NO_QUEUE, 0, ROOT, 0)), 9),
        ] {
            let links = BTreeMap::from([(7, Link { ifindex: 7, up, ..Link::default() })]);
            let mut sums = QdiscSums::default();
            for reading in
                [first, Some(discipline("tbf", 0x1_0000, ROOT, 8)), Some(discipline("tbf", 0x1_0000, ROOT, 9))]
            {
                sums.take(reading.into_iter().collect(), &links, true);
            }
            let shown: Vec<_> = sums.shown(7).into_iter().map(|sum| (sum.kind, sum.dropped_packets)).collect();
            assert_eq!(shown, [("tbf".to_owned(), expected)], "{name}");
            assert!(sums.unlisted.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_message_of_the_kernel() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let mut message = words(&[0, 7, 0x1_0000, ROOT, 2]);
        message.extend(attribute(TCA_KIND, b"tbf\0"));
        message.extend(attribute(TCA_STATS2, &attribute(TCA_STATS_QUEUE, &words(&[3, 4242, 5, 6, 8]))));
        let expected = Discipline {
            overlimits: 8,
            backlog_packets: 3,
            backlog_bytes: 4242,
            ..discipline("tbf", 0x1_0000, ROOT, 5)
        };
        assert_eq!(parse(&message).unwrap(), expected);
        assert!(parse(&message[..16]).is_err(), "cut");
        assert!(parse(&message[..message.len() - 2]).is_err(), "cut");
    }

    #[test]
    fn the_running_kernel() {
        QdiscSums::default().read(&BTreeMap::new(), &BTreeSet::new(), true).unwrap();
    }
}
