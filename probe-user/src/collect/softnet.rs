//! What the CPUs' input queues had no room or no time for, from `/proc/net/softnet_stat`: machine-wide, whoever asks.
//!
//! One line for each CPU that is online, columns in hexadecimal (net/core/net-procfs.c). The CPU's number is the 13th
//! column since Linux 5.10 with it and before that unknown: then the line's number stands for it.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::counter::Counter;
use crate::snapshot::Softnet;

const PATH: &str = "/proc/thread-self/net/softnet_stat";
/// Positions of columns.
const DROPPED: usize = 1;
const SQUEEZED: usize = 2;
const FLOW_LIMITED: usize = 10;
const BACKLOG: usize = 11;
const CPU: usize = 12;

/// One CPU's counters; they wrap at 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    cpu: u32,
    dropped: u32,
    squeezed: u32,
    flow_limited: u32,
    /// Packets that wait now, `None` where the kernel does not say.
    backlog: Option<u32>,
}

/// Sums over the CPUs that have ever been seen: one that goes offline keeps its part.
#[derive(Debug, Default)]
pub struct SoftnetSums {
    cpus: BTreeMap<u32, [Counter; 3]>,
    backlog: Option<u64>,
    seen: bool,
}

impl SoftnetSums {
    /// Reads them; `counts` is whether what happened since the last time counts.
    ///
    /// # Errors
    /// procfs is not mounted.
    pub fn read(&mut self, counts: bool) -> Result<()> {
        let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
        self.add(&text, counts);
        Ok(())
    }

    fn add(&mut self, text: &str, counts: bool) {
        let lines: Vec<Line> = text.lines().enumerate().filter_map(|(at, line)| parse(at, line)).collect();
        for line in &lines {
            let readings = [line.dropped, line.squeezed, line.flow_limited];
            // A CPU that comes online later has kept its counters.
            let known =
                self.cpus.entry(line.cpu).or_insert_with(|| readings.map(|reading| Counter::after(reading.into())));
            for (counter, reading) in known.iter_mut().zip(readings) {
                if counts {
                    counter.add_u32(reading);
                } else {
                    counter.skip(reading.into());
                }
            }
        }
        self.backlog = lines.iter().map(|line| line.backlog.map(u64::from)).sum();
        self.seen = true;
    }

    /// What was counted; `None` before the first reading.
    #[must_use]
    pub fn shown(&self) -> Option<Softnet> {
        let sum = |at: usize| self.cpus.values().map(|counters| counters[at].total()).sum();
        self.seen.then(|| Softnet {
            dropped_packets: sum(0),
            squeezed: sum(1),
            flow_limited_packets: sum(2),
            backlog_packets: self.backlog,
        })
    }
}

fn parse(at: usize, line: &str) -> Option<Line> {
    let columns: Vec<u32> =
        line.split_whitespace().map(|column| u32::from_str_radix(column, 16)).collect::<Result<_, _>>().ok()?;
    Some(Line {
        cpu: columns.get(CPU).copied().map_or_else(|| u32::try_from(at).ok(), Some)?,
        dropped: *columns.get(DROPPED)?,
        squeezed: *columns.get(SQUEEZED)?,
        flow_limited: columns.get(FLOW_LIMITED).copied().unwrap_or(0),
        backlog: columns.get(BACKLOG).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux 6.18 with CPU 1 offline.
    const NOW: &str = "\
00000983 00000002 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000004 00000005 00000000 00000005 00000000
060f7ce2 fffffffe 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000002 00000000 00000001
";

    #[test]
    fn lines() {
        let first = Line { cpu: 0, dropped: 2, squeezed: 3, flow_limited: 4, backlog: Some(5) };
        for (name, at, line, expected) in [
            ("6.18", 0, NOW.lines().next().unwrap(), Some(first)),
            ("5.9: no CPU, no backlog", 1, "1 2 3 0 0 0 0 0 0 0 4", Some(Line { cpu: 1, backlog: None, ..first })),
            ("two columns", 0, "1 2", None),
            ("no numbers", 0, "a line of text", None),
            ("empty", 0, "", None),
        ] {
            assert_eq!(parse(at, line), expected, "{name}");
        }
    }

    #[test]
    fn sums_never_fall() {
        let mut sums = SoftnetSums::default();
        assert_eq!(sums.shown(), None);
        sums.add(NOW, true);
        let shown = |sums: &SoftnetSums| sums.shown().map(|shown| (shown.dropped_packets, shown.backlog_packets));
        assert_eq!(shown(&sums), Some((0, Some(6))), "what was before is not counted");
        sums.add(&NOW.replace("fffffffe", "00000003"), true);
        assert_eq!(shown(&sums), Some((5, Some(6))), "wrapped");
        sums.add(NOW.lines().next().unwrap(), true);
        assert_eq!(shown(&sums), Some((5, Some(5))), "a CPU went offline");
        sums.add(&NOW.replace("fffffffe", "00000004"), true);
        assert_eq!(shown(&sums), Some((6, Some(6))), "and came back");
        sums.add(&NOW.replace("fffffffe", "00000009"), false);
        assert_eq!(shown(&sums), Some((6, Some(6))), "the agent stood still");
    }

    #[test]
    fn the_running_kernel() {
        let mut sums = SoftnetSums::default();
        sums.read(true).unwrap();
        assert!(!sums.cpus.is_empty());
    }
}
