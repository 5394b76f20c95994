//! What a capture has seen, as one line while it runs and as a table at its end.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use crate::{
    event::{Event, Suppressor},
    inspect::stats::{Listing, Page, Style, printable},
};

/// Rows that are kept apart: interfaces come and go.
const MOST_ROWS: usize = 1024;
/// Reasons that the line names.
const REASONS_SHOWN: usize = 4;

/// Frames by reason and interface.
#[derive(Debug, Default)]
pub(super) struct Summary {
    rows: BTreeMap<(String, String), Row>,
    pub(super) frames: u64,
    /// Of events of any kind, by the kernel and by the agent.
    not_shown: [u64; 2],
}

#[derive(Debug)]
struct Row {
    frames: u64,
    first: String,
    last: String,
    /// MAC address and VLAN, where the frame has them.
    sender: String,
}

impl Summary {
    pub(super) fn add(&mut self, event: &Event) {
        self.frames += 1;
        let mut key = (event.reason.clone(), event.interface.clone());
        if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&key) {
            key = ("(others)".to_owned(), String::new());
        }
        let vlan = event.vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
        let sender = event.source_mac.as_ref().map_or_else(String::new, |source_mac| format!("{source_mac}{vlan}"));
        let row = self.rows.entry(key).or_insert_with(|| Row {
            frames: 0,
            first: event.time.clone(),
            last: String::new(),
            sender: String::new(),
        });
        row.frames += 1;
        row.last.clone_from(&event.time);
        row.sender = sender;
    }

    pub(super) fn leave_out(&mut self, by: Suppressor, events: u64) {
        match by {
            Suppressor::Kernel => self.not_shown[0] += events,
            Suppressor::Agent => self.not_shown[1] += events,
            // Nothing is limited here.
            Suppressor::Rate => {}
        }
    }

    /// `12 frames: ip4_csum 7, tcp_doff 3, 2 others`.
    pub(super) fn line(&self) -> String {
        let mut text = frames(self.frames);
        let mut reasons = BTreeMap::<&str, u64>::new();
        for ((reason, _), row) in &self.rows {
            *reasons.entry(reason).or_default() += row.frames;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, frames)| Reverse(*frames));
        let shown =
            reasons.iter().take(REASONS_SHOWN).map(|(reason, frames)| format!("{} {frames}", printable(reason)));
        let others: u64 = reasons.iter().skip(REASONS_SHOWN).map(|(_, frames)| frames).sum();
        let others = (others > 0).then(|| format!("{others} others"));
        let parts: Vec<_> = shown.chain(others).collect();
        if !parts.is_empty() {
            let _infallible = write!(text, ": {}", parts.join(", "));
        }
        let not_shown: u64 = self.not_shown.iter().sum();
        if not_shown > 0 {
            let _infallible = write!(text, "; {not_shown} events not shown");
        }
        text
    }

    /// The table, then what there is to say: that `written` has it all, and what was left out. Ends with a newline.
    pub(super) fn table(&self, page: &Page, written: Option<&str>) -> String {
        let mut text = String::new();
        if !self.rows.is_empty() {
            page.table(&mut text, self.listing());
        }
        let written = written.map_or_else(String::new, |name| format!(", written to {name}"));
        let _infallible = writeln!(text, "{} captured{written}.", frames(self.frames));
        let whose = [
            "by the kernel: too many of a kind at once, or nobody fetched them",
            "by the agent: they came faster than they were taken",
        ];
        for (events, whose) in self.not_shown.iter().zip(whose).filter(|(events, _)| **events > 0) {
            let line = format!(
                "{events} events of any kind were not shown {whose}; `lossprobe stats` counts all malformed frames."
            );
            let _infallible = writeln!(text, "{}", page.styled(Style::Dim, &line));
        }
        text
    }

    fn listing(&self) -> Listing {
        let row = |((reason, interface), row): (&(String, String), &Row)| {
            let texts = [reason, interface, &to_milliseconds(&row.first), &to_milliseconds(&row.last), &row.sender];
            let cells = texts.map(|text| printable(text)).into_iter().chain([row.frames.to_string()]);
            (Style::Plain, cells.collect())
        };
        Listing {
            header: vec!["reason", "interface", "first", "last", "last sender", "frames"],
            texts: 5,
            rows: self.rows.iter().map(row).collect(),
        }
    }
}

fn frames(number: u64) -> String {
    format!("{number} {}", if number == 1 { "frame" } else { "frames" })
}

/// An RFC 3339 time as people read it, UTC.
fn to_milliseconds(time: &str) -> String {
    time.parse().map_or_else(|_| time.to_owned(), |time: Timestamp| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::malformed;

    const PAGE: Page = Page { width: None, colour: false };

    fn frame(reason: &str, interface: &str, second: u32) -> Event {
        let time = format!("2026-11-25T21:00:{second:02}.123456789Z");
        Event { reason: reason.to_owned(), interface: interface.to_owned(), time, ..malformed() }
    }

    #[test]
    fn a_row_for_each_reason_and_interface() {
        let mut summary = Summary::default();
        for (reason, interface, second) in [("ip4_csum", "b", 1), ("tcp_doff", "a", 2), ("ip4_csum", "b", 3)] {
            summary.add(&frame(reason, interface, second));
        }
        summary.add(&Event { vlan: None, source_mac: None, ..frame("ip4_csum", "b", 4) });
        let text = summary.table(&PAGE, Some("x.pcapng"));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[2], ["ip4_csum", "b", "2026-11-25T21:00:01.123Z", "2026-11-25T21:00:04.123Z", "3"]);
        let sender = ["02:00:00:00:00:07", "vlan", "5"];
        assert_eq!(rows[3][..4], ["tcp_doff", "a", "2026-11-25T21:00:02.123Z", "2026-11-25T21:00:02.123Z"]);
        assert_eq!((&rows[3][4..7], rows[3][7]), (&sender[..], "1"));
        assert_eq!(text.lines().last(), Some("4 frames captured, written to x.pcapng."));
        assert_eq!(Summary::default().table(&PAGE, None), "0 frames captured.\n");
    }

    #[test]
    fn the_line_names_the_most_frequent() {
        let mut summary = Summary::default();
        assert_eq!(summary.line(), "0 frames");
        for (reason, count) in [("a", 1), ("b", 9), ("c", 3), ("d", 4), ("e", 5), ("f", 1)] {
            for second in 0..count {
                summary.add(&frame(reason, if second % 2 == 0 { "x" } else { "y" }, second));
            }
        }
        summary.leave_out(Suppressor::Kernel, 7);
        summary.leave_out(Suppressor::Agent, 2);
        assert_eq!(summary.line(), "23 frames: b 9, e 5, d 4, c 3, 2 others; 9 events not shown");
        let told = summary.table(&PAGE, None);
        assert!(told.contains("\n7 events of any kind were not shown by the kernel: "), "{told}");
        assert!(told.contains("\n2 events of any kind were not shown by the agent: "), "{told}");
    }

    #[test]
    fn names_that_come_for_ever_are_one_row() {
        let mut summary = Summary::default();
        for number in 0..MOST_ROWS + 9 {
            summary.add(&frame("ip4_csum", &number.to_string(), 1));
        }
        assert_eq!(summary.rows.len(), MOST_ROWS + 1);
        assert_eq!(summary.rows[&("(others)".to_owned(), String::new())].frames, 9);
    }
}
