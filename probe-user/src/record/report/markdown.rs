//! The report as Markdown (CommonMark with tables).

use std::fmt::Write as _;

use super::{Block, Facts, blocks};
use crate::{detect::incident::Incident, record::chart::Chart};

/// Columns of a graph in text.
const COLUMNS: usize = 72;

/// The report of an incident.
#[must_use]
pub fn write(incident: &Incident, facts: &Facts<'_>) -> String {
    blocks(incident, facts).iter().map(block).collect::<Vec<_>>().join("\n")
}

fn block(block: &Block) -> String {
    match block {
        Block::Title(text) => format!("# {}\n", escape(text)),
        Block::Section(text) => format!("## {text}\n"),
        Block::Lead(text) => format!("**{}**\n", escape(text)),
        Block::Text(text) => escape_line(text) + "\n",
        Block::List(points) => points.iter().map(|point| format!("- {}\n", escape_line(point))).collect(),
        Block::Table(titles, rows) => table(titles, rows),
        Block::Verbatim(text) => verbatim(text),
        Block::Graph(chart) => verbatim(&graph(chart)),
    }
}

fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escape(cell)).collect();
        let _infallible = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Between fences that the text cannot close.
fn verbatim(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    let printable: String = text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    format!("{fence}text\n{}\n{fence}\n", printable.trim_end())
}

/// Highest values over time, a line of blocks for each line of the graph.
fn graph(chart: &Chart) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points =
        || chart.lines.iter().flat_map(|line| &line.points).filter(|(s, value)| s.is_finite() && value.is_finite());
    let from = points().map(|(seconds, _)| *seconds).fold(f64::INFINITY, f64::min);
    let to = points().map(|(seconds, _)| *seconds).fold(f64::NEG_INFINITY, f64::max);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut text = format!("{}\n", chart.title);
    for line in &chart.lines {
        let mut columns = [0.0_f64; COLUMNS];
        for (seconds, value) in line.points.iter().filter(|(s, value)| s.is_finite() && value.is_finite()) {
            let at = ((seconds - from) / (to - from).max(f64::MIN_POSITIVE) * (COLUMNS as f64 - 1.0)) as usize;
            columns[at.min(COLUMNS - 1)] = columns[at.min(COLUMNS - 1)].max(*value);
        }
        let block = |value: f64| BLOCKS[(value / highest.max(f64::MIN_POSITIVE) * 8.0).ceil().clamp(0.0, 8.0) as usize];
        let blocks: String = columns.into_iter().map(block).collect();
        text.push_str(format!("{blocks}| {}", line.name).trim_end());
        text.push('\n');
    }
    let decimals = if highest < 100.0 { 2 } else { 0 };
    let _infallible = writeln!(
        text,
        "0 to {highest:.decimals$}{}; from {} to {} after the onset",
        chart.unit,
        super::duration(from),
        super::duration(to)
    );
    text
}

/// Text that stays text at the begin of a line: no heading, no list.
fn escape_line(text: &str) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let begins_list = digits > 0 && text[digits..].starts_with(['.', ')']);
    let at = if begins_list { digits } else { 0 };
    let is_markup = begins_list || text.starts_with(['#', '-', '+', '=']);
    if is_markup { format!("{}\\{}", &text[..at], escape(&text[at..])) } else { escape(text) }
}

/// Text that stays text inside a line: no emphasis, no link, no end of a table's cell, no markup of HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for (at, character) in text.char_indices() {
        let rest = &text[at..];
        let is_markup = match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '@' => true,
            // Many pages make a link of what looks like one.
            '.' => text[..at].ends_with("www"),
            ':' => rest.starts_with("://"),
            '!' => rest.starts_with("!["),
            _ => false,
        };
        if is_markup {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { '\u{fffd}' } else { character });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        chart::Line,
        report::tests::{HOSTILE, facts, incident},
    };

    #[test]
    fn nothing_is_markup() {
        for (text, expected) in [
            ("plain, 5 % of 3.2 (a) - b + c = d # e! 10:40", "plain, 5 % of 3.2 (a) - b + c = d # e! 10:40"),
            ("network_in|`x`", r"network\_in\|\`x\`"),
            ("# no\nheading", "\\# no\u{fffd}heading"),
            ("12. no list", r"12\. no list"),
            ("1) no list", r"1\) no list"),
            ("![a](http://b) www.c a@b", r"!\[a\](http\://b) www\.c a\@b".replace('!', "\\!").as_str()),
            ("<b>&amp;", r"\<b\>\&amp;"),
        ] {
            assert_eq!(escape_line(text), expected);
        }
    }

    #[test]
    fn a_fence_cannot_be_closed() {
        assert_eq!(verbatim("a\n```\n# b\r\n"), "````text\na\n```\n# b\u{fffd}\n````\n");
        assert_eq!(verbatim("a"), "```text\na\n```\n");
    }

    #[test]
    fn hostile_names_stay_names() {
        let (evidence, recording) = facts();
        let report =
            write(&incident(), &Facts { evidence: Some(&evidence), recording: Some(&recording), ..Facts::default() });
        let (text, verbatim): (Vec<_>, Vec<_>) = report.split("```").enumerate().partition(|(part, _)| part % 2 == 0);
        assert!(verbatim.iter().any(|(_, part)| part.contains(HOSTILE)), "as it is in the letter");
        for (_, part) in text {
            assert!(!part.contains(HOSTILE), "{part}");
            assert!(part.lines().filter(|line| line.starts_with('|')).all(|line| line.ends_with('|')), "{part}");
        }
        assert!(report.contains(&escape(HOSTILE)));
    }

    #[test]
    fn a_graph_is_a_line_of_blocks() {
        let points = vec![(0.0, 0.0), (36.0, 4.0), (72.0, 8.0), (5.0, f64::NAN)];
        let chart =
            Chart { title: "t".to_owned(), lines: vec![Line { name: "a".to_owned(), points }], ..Chart::default() };
        let text = graph(&chart);
        let row: Vec<char> = text.lines().nth(1).unwrap().chars().collect();
        assert_eq!((row[0], row[35], row[71], row[72]), (' ', '▄', '█', '|'));
        assert_eq!(text.lines().last(), Some("0 to 8.00; from 0 s to 1 min 12 s after the onset"));
    }
}
