//! Runbooks: every alert and verdict has one, every link leads somewhere, every command is one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use probe_user::{cli::Cli, detect::verdict::Name};

use super::{files, place, read};

const INDEX: &str = "runbooks/README.md";
/// Where the alerts say that these files are: as somebody's rule says, else where the Debian package has them.
const SERVED: &str = "'{{ with query \"lossprobe:runbooks:url\" }}{{ . | first | label \"url\" }}\
                      {{ else }}file:///usr/share/doc/lossprobe/runbooks{{ end }}/";

/// Names of the alerts in the order of their rules, and where each leads.
pub(super) fn alerts() -> Result<Vec<(String, String)>> {
    let text = read("prometheus/alerts.yaml")?;
    let value = |line: &str, key: &str| line.trim().strip_prefix(key).map(str::to_owned);
    let names: Vec<_> = text.lines().filter_map(|line| value(line, "- alert: ")).collect();
    let urls: Vec<_> = text.lines().filter_map(|line| value(line, "runbook_url: ")).collect();
    ensure!(names.len() == urls.len() && !names.is_empty(), "{} alerts, {} runbooks", names.len(), urls.len());
    for annotation in ["summary: ", "description: "] {
        let count = text.lines().filter(|line| line.trim().starts_with(annotation)).count();
        ensure!(count == names.len(), "{count} have {annotation}");
    }
    Ok(names.into_iter().zip(urls).collect())
}

/// Whether a file has a heading with this anchor.
fn has_heading(file: &str, anchor: &str) -> Result<bool> {
    let text = read(file)?;
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    Ok(headings.map(anchor_of).any(|known| known == anchor))
}

/// As GitHub and GitLab make them.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

pub(super) fn lead_somewhere() -> Result<()> {
    let index = read(INDEX)?;
    let row = |name: &str| {
        let row = index.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        row.with_context(|| format!("{INDEX} does not list {name}"))
    };
    for (name, url) in alerts()? {
        let there = url.strip_prefix(SERVED).and_then(|there| there.strip_suffix('\''));
        let there = there.with_context(|| format!("{name} leads to {url}"))?;
        let (file, anchor) = there.split_once('#').with_context(|| format!("{name}: no anchor in {url}"))?;
        ensure!(anchor == name.to_lowercase(), "{name} leads to another's text: {url}");
        ensure!(has_heading(&format!("runbooks/{file}"), anchor)?, "{file} has no heading {name}");
        ensure!(row(&name)?.contains(&format!("({there})")), "{INDEX} leads elsewhere for {name}");
    }
    for verdict in Name::ALL {
        let row = row(verdict.id())?;
        ensure!(row.contains(&format!("#{})", verdict.id())), "{INDEX}: {row}");
    }
    for file in documents()? {
        links_lead_somewhere(&file)?;
    }
    Ok(())
}

/// All that people read.
fn documents() -> Result<Vec<String>> {
    let others = ["README.md", "COST.md", "UPGRADE.md", "kubernetes/README.md"].map(str::to_owned);
    Ok(files("runbooks", ".md")?.into_iter().chain(others).collect())
}

fn links_lead_somewhere(file: &str) -> Result<()> {
    let text = read(file)?;
    let folder = Path::new(file).parent().context("a folder")?;
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if target.contains("://") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let there = if path.is_empty() { file.into() } else { folder.join(path) };
        let there = there.to_str().context("UTF-8")?;
        ensure!(place(there).exists(), "{file}: {target} leads nowhere");
        ensure!(anchor.is_empty() || has_heading(there, anchor)?, "{file}: {target} has no such heading");
    }
    Ok(())
}

/// What stands between fences of this language, block by block.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_in: Option<bool> = None;
    for line in text.lines() {
        match (line.trim().strip_prefix("```"), is_in) {
            (Some(_), Some(_)) => is_in = None,
            (Some(of), None) => {
                is_in = Some(of == language);
                blocks.extend((of == language).then(String::new));
            }
            (None, Some(true)) => {
                if let Some(block) = blocks.last_mut() {
                    *block += line.trim();
                    block.push('\n');
                }
            }
            (None, _) => {}
        }
    }
    blocks
}

/// What the runbooks ask Prometheus: file, number and expression.
pub(super) fn queries() -> Result<Vec<(String, usize, String)>> {
    let mut queries = Vec::new();
    for file in documents()? {
        let blocks = blocks(&read(&file)?, "promql");
        queries.extend(blocks.into_iter().enumerate().map(|(at, expression)| (file.clone(), at, expression)));
    }
    Ok(queries)
}

/// Every `lossprobe` that somebody is told to type is a command with these flags.
pub(super) fn commands_exist() -> Result<()> {
    let mut count = 0;
    for file in documents()? {
        let text = read(&file)?;
        let typed = blocks(&text, "sh");
        let typed = typed.iter().flat_map(|block| block.lines());
        // Beside them what stands in the text; every other part between back-quotes is code.
        let fences: String = text.split("```").step_by(2).collect();
        let inline = fences.split('`').skip(1).step_by(2);
        for line in typed.chain(inline) {
            // On Kubernetes it is the image's only file.
            let typed = line.split_once(" -- /").map_or(line, |(_, typed)| typed);
            let Some(command) = typed.trim().strip_prefix("lossprobe ") else { continue };
            let command = command.split(['#', '|', ';', '>']).next().unwrap_or_default();
            let words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            let words: Vec<_> = ["lossprobe"].into_iter().chain(words).collect();
            Cli::try_parse_from(&words).with_context(|| format!("{file}: {line}"))?;
            count += 1;
        }
    }
    ensure!(count > 50, "only {count} commands were found");
    Ok(())
}
