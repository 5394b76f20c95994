//! `lossprobe stats`: a snapshot as tables for a terminal or as JSON for a program.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Row, Table, presets};
use probe_ebpf::abi::Retransmit;
use serde::Serialize;

use super::rates::{Rates, float};
use crate::{
    export::samples::drops,
    snapshot::{DropSite, Interface, SCHEMA, Snapshot, State},
};

/// One line of JSON without a newline: `{"schema":1,"snapshot":…}`, and with a previous snapshot of the same agent
/// `"rates"` per second.
#[must_use]
pub fn render_json(now: &Snapshot, previous: Option<&Snapshot>) -> String {
    #[derive(Serialize)]
    struct Document<'s> {
        schema: u32,
        snapshot: &'s Snapshot,
        #[serde(skip_serializing_if = "Option::is_none")]
        rates: Option<Rates<'s>>,
    }
    let rates = previous.and_then(|previous| Rates::between(previous, now));
    let document = Document { schema: SCHEMA, snapshot: now, rates };
    // Only maps with keys that are no strings fail, and there are none.
    serde_json::to_string(&document).unwrap_or_default()
}

/// Tables of what passed and what was lost, then what the probe itself could not see. Ends with a newline. `width` is
/// the terminal's, in columns; without it no text is cut. With a previous snapshot of the same agent, per-second rates
/// are shown.
#[must_use]
pub fn render_table(now: &Snapshot, previous: Option<&Snapshot>, width: Option<u16>, colour: bool) -> String {
    let rates = previous.and_then(|previous| Rates::between(previous, now));
    let page = Page { width, colour };
    let mut text = String::new();
    if now.interfaces.is_empty() {
        text.push_str("No interface is selected.\n");
    } else {
        page.table(&mut text, interfaces(now, rates.as_ref()));
    }
    let losses = losses(now, rates.as_ref());
    text.push('\n');
    if losses.rows.is_empty() {
        text.push_str("Nothing malformed, nothing dropped, nothing retransmitted.\n");
    } else {
        page.table(&mut text, losses);
    }
    let sites = sites(now);
    if rates.is_none() && !sites.rows.is_empty() {
        text.push('\n');
        page.table(&mut text, sites);
    }
    for note in notes(now) {
        let _infallible = writeln!(text, "{}", page.styled(note.style, &note.text));
    }
    text
}

/// Kernel functions that a table shows.
const SITES_SHOWN: usize = 10;

/// How a line looks on a terminal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Style {
    Error,
    Plain,
    Dim,
    Bold,
}

struct Line {
    style: Style,
    text: String,
}

/// Columns are left-aligned and may be cut up to `texts`, then right-aligned figures that are never cut.
pub(crate) struct Listing {
    pub(crate) header: Vec<&'static str>,
    pub(crate) texts: usize,
    pub(crate) rows: Vec<(Style, Vec<String>)>,
}

pub(crate) struct Page {
    pub(crate) width: Option<u16>,
    pub(crate) colour: bool,
}

impl Page {
    pub(crate) fn table(&self, to: &mut String, listing: Listing) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        let mut styles = vec![Style::Bold, Style::Dim];
        table.set_header(one_line(listing.header));
        for (style, cells) in listing.rows {
            table.add_row(one_line(cells));
            styles.push(style);
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if at >= listing.texts {
                column.set_constraint(ColumnConstraint::ContentWidth).set_cell_alignment(CellAlignment::Right);
            }
        }
        // The table knows no colours (its crate would need a terminal library): every row is one line here.
        for (line, style) in table.lines().zip(styles) {
            let _infallible = writeln!(to, "{}", self.styled(style, line.trim_end()));
        }
    }

    pub(super) fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Error => "31",
            Style::Dim => "2",
            Style::Bold => "1",
            Style::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn one_line(cells: impl Into<Row>) -> Row {
    let mut row = cells.into();
    row.max_height(1);
    row
}

fn interfaces(now: &Snapshot, rates: Option<&Rates<'_>>) -> Listing {
    let header = match rates {
        None => vec!["interface", "role", "in frames", "in bytes", "out frames", "out bytes"],
        Some(_) => {
            vec![
                "interface",
                "role",
                "in frames",
                "in frames/s",
                "in bytes/s",
                "out frames",
                "out frames/s",
                "out bytes/s",
            ]
        }
    };
    let row = |(at, interface): (usize, &Interface)| {
        let mut cells = vec![printable(&interface.name), printable(&interface.role)];
        let rates = rates.and_then(|rates| rates.interfaces.get(at));
        let directions = [
            (interface.ingress, &["tc_ingress", "xdp"][..], rates.map(|rates| rates.ingress)),
            (interface.egress, &["tc_egress"], rates.map(|rates| rates.egress)),
        ];
        for (traffic, hooks, rates) in directions {
            let seen = traffic.frames > 0
                || interface.attached.iter().any(|attachment| hooks.contains(&attachment.hook.as_str()));
            let figures = match rates {
                None => vec![grouped(traffic.frames), grouped(traffic.bytes)],
                Some(rates) => vec![grouped(traffic.frames), rate(rates.frames), rate(rates.bytes)],
            };
            cells.extend(figures.into_iter().map(|figure| if seen { figure } else { "–".to_owned() }));
        }
        (Style::Plain, cells)
    };
    Listing { header, texts: 2, rows: now.interfaces.iter().enumerate().map(row).collect() }
}

/// Malformed frames, drops, failures of XDP, retransmits and wrong checksums; errors first, noise last, the many before the few.
fn losses<'s>(now: &'s Snapshot, rates: Option<&Rates<'_>>) -> Listing {
    let mut rows: Vec<(Style, u64, Vec<String>)> = Vec::new();
    let mut add = |style, texts: [&str; 4], count: u64, per_second: Option<f64>| {
        if count > 0 {
            let mut cells: Vec<String> = texts.into_iter().map(printable).collect();
            cells.push(grouped(count));
            cells.extend(per_second.map(rate));
            rows.push((style, count, cells));
        }
    };
    for (at, interface) in now.interfaces.iter().enumerate() {
        for (row, found) in interface.malformed.iter().enumerate() {
            let per_second = rates.and_then(|rates| Some(rates.interfaces.get(at)?.malformed.get(row)?.frames));
            let style = if found.severity == "error" { Style::Error } else { Style::Plain };
            let what = if found.direction == "ingress" { "malformed in" } else { "malformed out" };
            add(style, [&interface.name, what, &found.reason, &found.severity], found.frames, per_second);
        }
    }
    for (row, (key, packets)) in drops(now).into_iter().enumerate() {
        let style = if key.class == "noise" { Style::Dim } else { Style::Plain };
        let interface = dropped_on(key.netns, key.interface);
        let per_second = rates.and_then(|rates| Some(rates.drops.get(row)?.packets));
        add(style, [interface, "dropped", key.reason, key.class], packets, per_second);
    }
    let named = |interface: &'s str| if interface.is_empty() { "(none)" } else { interface };
    for (row, failed) in now.xdp_failed.iter().enumerate() {
        let per_second = rates.and_then(|rates| Some(rates.xdp_failed.get(row)?.packets));
        let interface = if failed.interface.is_empty() { "(none or other)" } else { &failed.interface };
        add(Style::Plain, [interface, "XDP failed", &failed.cause, "–"], failed.packets, per_second);
    }
    for (row, again) in now.tcp.retransmitted.iter().enumerate() {
        let per_second = rates.and_then(|rates| Some(rates.tcp.retransmitted.get(row)?.segments));
        let texts = [named(&again.interface), "TCP retransmitted", &again.kind, "–"];
        add(Style::Plain, texts, again.segments, per_second);
    }
    for (row, bad) in now.tcp.bad_checksums.iter().enumerate() {
        let per_second = rates.and_then(|rates| Some(rates.tcp.bad_checksums.get(row)?.segments));
        add(Style::Error, [named(&bad.interface), "TCP bad checksum", "–", "malformed"], bad.segments, per_second);
    }
    rows.sort_by(|(style, count, cells), other| (style, other.1, cells).cmp(&(&other.0, *count, &other.2)));
    let mut header = vec!["interface", "what", "reason", "class", "packets"];
    header.extend(rates.map(|_| "packets/s"));
    Listing { header, texts: 4, rows: rows.into_iter().map(|(style, _, cells)| (style, cells)).collect() }
}

/// Where in the kernel most was dropped.
fn sites(now: &Snapshot) -> Listing {
    let known = now.drop_sites.iter().filter(|site| !site.function.is_empty()).take(SITES_SHOWN);
    let row = |site: &DropSite| {
        let style = if site.class == "noise" { Style::Dim } else { Style::Plain };
        let interface = dropped_on(&site.netns, &site.interface);
        let cells = [&site.function, interface, &site.reason, &site.class].map(printable);
        (style, cells.into_iter().chain([grouped(site.packets)]).collect())
    };
    let header = vec!["dropped in kernel function", "interface", "reason", "class", "packets"];
    Listing { header, texts: 4, rows: known.map(row).collect() }
}

/// The interface of a drop, for people.
pub(super) fn dropped_on<'s>(netns: &str, interface: &'s str) -> &'s str {
    match (netns, interface) {
        ("own", "") => "(none)",
        ("own", name) => name,
        (_other, _) => "(other namespaces)",
    }
}

/// Lines under the tables: TCP's ratio, and everything that makes the figures above less than the truth.
fn notes(now: &Snapshot) -> Vec<Line> {
    let mut notes = Vec::new();
    let again: u64 = now.tcp.retransmitted.iter().map(|row| row.segments).sum();
    // The kernel counts a SYN-ACK as sent each time, everything else once.
    let synacks = now.tcp.retransmitted.iter().filter(|row| row.kind == Retransmit::SynAck.id());
    let once = again.saturating_sub(synacks.map(|row| row.segments).sum());
    if let Some(sent) = now.tcp.sent_segments.filter(|sent| *sent > 0) {
        let percent = 100.0 * float(again) / float(sent + once);
        let (sent, again) = (grouped(sent), grouped(again));
        let text = format!(
            "\nTCP of this namespace: {sent} segments sent, {again} retransmitted: {percent:.2} % of all, first times and \
             retransmits together."
        );
        notes.push(Line { style: Style::Plain, text });
    }
    let mut warn = |text: String| notes.push(Line { style: Style::Error, text });
    if now.state != State::Running {
        warn(format!("The agent is {}: nothing is counted until `lossprobe resume`.", now.state.id()));
    }
    for interface in now.interfaces.iter().filter(|interface| !interface.refused.is_empty()) {
        warn(format!("{} is not watched as asked: {}", printable(&interface.name), printable(&interface.refused)));
    }
    for lost in now.probe.map_update_failed.iter().filter(|lost| lost.count > 0) {
        let (count, map, cause) = (grouped(lost.count), printable(&lost.map), printable(&lost.cause));
        warn(if lost.map == "senders" {
            format!("Nobody is named as the sender of {count} malformed frames ({cause}); they are counted.")
        } else {
            format!("The probe lost {count} counts: map {map} ({cause}). Figures above are too low.")
        });
    }
    for (program, missed) in now.probe.program_missed.iter().filter(|(_, missed)| **missed > 0) {
        let (program, missed) = (printable(program), grouped(*missed));
        warn(format!("The kernel skipped {missed} runs of {program}. Figures above are too low."));
    }
    for (source, errors) in now.probe.collect_errors.iter().filter(|(_, errors)| **errors > 0) {
        warn(format!("{} reads of {} failed.", grouped(*errors), printable(source)));
    }
    notes
}

/// Names come from whoever made the interface: nothing in them may steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    };
    text.chars().fold(String::new(), |mut printable, character| {
        if harmless(character) {
            printable.push(character);
        } else {
            printable.extend(character.escape_unicode());
        }
        printable
    })
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        return format!("{per_second:.1}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the difference of two u64 at most")]
    grouped(per_second.round() as u64)
}

#[cfg(test)]
mod tests;
