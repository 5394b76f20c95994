//! The report as one page that needs nothing else: no script, no font, no picture from anywhere. Light or dark as the reader's
//! system is, and on paper.

use super::{Block, Facts, blocks};
use crate::{detect::incident::Incident, record::chart::escape};

/// Nothing is loaded, nothing runs: whatever stands in a name, and whoever opens it.
const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
:root { --text: #1a1d21; --paper: #ffffff; --quiet: #5c6570; --grid: #dfe3e8; --raised: #f4f6f8; --accent: #b3261e;
  --line-1: #b3261e; --line-2: #1f5fbf; --line-3: #2e7d32; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --paper: #15181c; --quiet: #9aa4af; --grid: #30363d; --raised: #1e2329; --accent: #ff8a80;
    --line-1: #ff8a80; --line-2: #82b1ff; --line-3: #81c784; }
}
body { margin: 0 auto; padding: 1.5rem; max-width: 58rem; color: var(--text); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--grid); }
.lead { font-size: 1.15rem; font-weight: 600; border-left: 4px solid var(--accent); padding-left: 0.8rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem 0.3rem 0; border-bottom: 1px solid var(--grid); }
thead th { color: var(--quiet); font-weight: 600; }
tbody th { font-weight: 600; white-space: nowrap; }
td:not(:last-child) { min-width: 7rem; }
td:last-child { overflow-wrap: anywhere; }
pre { background: var(--raised); padding: 1rem; white-space: pre-wrap; font-size: 0.9rem; }
svg { display: block; width: 100%; height: auto; margin: 0.6rem 0; }
.title { fill: var(--text); font: 600 13px system-ui, sans-serif; }
.figure { fill: var(--quiet); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--grid); fill: none; }
.mark { stroke: var(--quiet); stroke-dasharray: 3 3; fill: none; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.l1 { stroke: var(--line-1); } .l2 { stroke: var(--line-2); } .l3 { stroke: var(--line-3); }
@media print { body { max-width: none; padding: 0; } h2, svg { break-after: avoid; } tr { break-inside: avoid; } }
</style>
"#;

/// The report of an incident.
#[must_use]
pub fn write(incident: &Incident, facts: &Facts<'_>) -> String {
    let blocks = blocks(incident, facts);
    let title =
        blocks.iter().find_map(|block| if let Block::Title(title) = block { Some(title.as_str()) } else { None });
    let head = format!("{HEAD}<title>{}</title>\n</head>\n<body>\n", escape(title.unwrap_or("lossprobe")));
    let foot = format!("<p class=\"figure\">lossprobe {}</p>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION"));
    [head, blocks.iter().map(block).collect(), foot].concat()
}

fn block(block: &Block) -> String {
    match block {
        Block::Title(text) => format!("<h1>{}</h1>\n", escape(text)),
        Block::Section(text) => format!("<h2>{}</h2>\n", escape(text)),
        Block::Lead(text) => format!("<p class=\"lead\">{}</p>\n", escape(text)),
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::List(points) => {
            let points: String = points.iter().map(|point| format!("<li>{}</li>\n", escape(point))).collect();
            format!("<ul>\n{points}</ul>\n")
        }
        Block::Table(titles, rows) => table(titles, rows),
        Block::Verbatim(text) => format!("<pre>{}</pre>\n", escape(text)),
        Block::Graph(chart) => chart.svg(),
    }
}

fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles: String = titles.iter().map(|title| format!("<th scope=\"col\">{}</th>", escape(title))).collect();
    let row = |cells: &Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        let rest: String = cells.iter().skip(1).map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{}</th>{rest}</tr>\n", cells.first().map_or("", String::as_str))
    };
    let rows: String = rows.iter().map(row).collect();
    format!("<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::report::tests::{HOSTILE, facts, incident};

    fn page() -> String {
        let (evidence, recording) = facts();
        write(&incident(), &Facts { host: "node7", evidence: Some(&evidence), recording: Some(&recording), files: &[] })
    }

    #[test]
    fn nothing_is_loaded() {
        let page = page();
        for outside in ["src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let addresses: Vec<&str> = page.split("http").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(addresses.iter().all(|rest| *rest == "-equiv=" || *rest == "://www.w3.org/2000/svg"), "{addresses:?}");
        assert_eq!(page.matches("<svg ").count(), 3, "losses, malformed frames, sides");
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn every_element_is_closed_and_names_stay_names() {
        let page = page();
        assert!(!page.contains(HOSTILE) && page.contains(&escape(HOSTILE)));
        for name in [
            "html", "head", "body", "style", "title", "h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr",
            "th", "td", "pre", "svg", "text",
        ] {
            let opened = page.matches(&format!("<{name}>")).count() + page.matches(&format!("<{name} ")).count();
            assert_eq!(opened, page.matches(&format!("</{name}>")).count(), "{name}");
        }
    }
}
