//! The table of supported kernels, `deploy/KERNELS.md`: made of what the guests of the matrix have said, so that nobody keeps
//! it by hand. Each guest's outcome stays in the target folder until its kernel is booted again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kernel::MATRIX;
use crate::ui;
use crate::workspace::Workspace;

const TABLE: &str = "deploy/KERNELS.md";

const HEADER: &str = "\
# Kernels

<!-- Written by `cargo xtask vm --table` from the last runs of `cargo xtask vm --kernel all`. -->

lossprobe runs on Linux 5.10 and later with type information (`CONFIG_DEBUG_INFO_BTF`). Of the series below a kernel as a
distribution ships it is booted in a virtual machine, and the integration tests run there as on any host, but for those that need
programs which a guest does not have. What a kernel lacks is tried, not concluded from its version: `lossprobe doctor` says for any
machine what this page says for these.
";

/// Where a guest's outcome is kept.
pub(crate) fn outcome(workspace: &Workspace, series: &str) -> PathBuf {
    workspace.target("vm").join(format!("{series}.json"))
}

/// Keeps what a guest has `reported`, with what was asked of it; what is there of an earlier run goes in any case.
pub(crate) fn keep(file: &Path, reported: Option<Value>, filter: Option<&str>) -> Result<()> {
    if file.exists() {
        fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    let Some(mut outcome) = reported else { return Ok(()) };
    outcome["filter"] = filter.into();
    fs::write(file, format!("{outcome:#}\n")).with_context(|| format!("write {}", file.display()))
}

/// Writes the table.
pub(crate) fn write_table(workspace: &Workspace) -> Result<()> {
    let outcomes = MATRIX.iter().map(|series| {
        let again = || format!("to run its tests: cargo xtask vm --kernel {}", series.name);
        let text = fs::read_to_string(outcome(workspace, series.name));
        let text = text.with_context(|| format!("Linux {} has no outcome; {}", series.name, again()))?;
        let outcome: Value =
            serde_json::from_str(&text).with_context(|| format!("Linux {}; {}", series.name, again()))?;
        if let Some(filter) = outcome["filter"].as_str() {
            bail!("Linux {} has run the tests named {filter} only; {}", series.name, again());
        }
        Ok((series.name, outcome))
    });
    let table = table(&outcomes.collect::<Result<Vec<_>>>()?)?;
    let path = workspace.path(TABLE);
    fs::write(&path, table).with_context(|| format!("write {TABLE}"))?;
    ui::say(&format!("written: {TABLE}"));
    Ok(())
}

type Outcome = (&'static str, Value);

fn table(outcomes: &[Outcome]) -> Result<String> {
    let mut text = HEADER.to_owned();
    text += "\n| Linux | as tested | programs hang on | passed | failed | skipped |\n| --- | --- | --- | --- | --- | --- |\n";
    for (series, outcome) in outcomes {
        let release = outcome["doctor"]["release"].as_str().with_context(|| format!("Linux {series}: no doctor"))?;
        let [passed, failed] = ["passed", "failed"].map(|count| &outcome[count]);
        let skipped = list(&outcome["skips"]).len();
        text +=
            &format!("| {series} | {release} | {} | {passed} | {failed} | {skipped} |\n", hooks(&outcome["doctor"]));
    }
    text += "\n## What they go without\n\nNames are those of `lossprobe_feature_available{feature}`.\n";
    text += &grouped("| feature | what goes without it | because | on |", outcomes, |outcome| {
        let checks = list(&outcome["doctor"]["features"]).iter().filter(|check| check["status"] != "ok");
        checks.map(|check| ["name", "consequence", "found"].map(|key| cell(&check[key])).to_vec()).collect()
    });
    text += "\n## What else is worth knowing\n\nAbout a veth device on which nothing is attached:\n";
    text += &grouped("| `lossprobe doctor` says | on |", outcomes, |outcome| {
        let notes = list(&outcome["doctor"]["interfaces"][0]["notes"]).iter();
        notes.map(|note| vec![cell(note)]).collect()
    });
    text += "\n## Tests that were skipped\n\nEach skip is checked against the kernel's version or its package.\n";
    text += &grouped("| test | needs | on |", outcomes, |outcome| {
        let skips = list(&outcome["skips"]).iter();
        skips.map(|skip| ["test", "lack"].map(|key| cell(&skip[key])).to_vec()).collect()
    });
    Ok(text)
}

/// A table of rows, each once with the kernels that have it, in the order in which they come.
fn grouped(head: &str, outcomes: &[Outcome], rows: impl Fn(&Value) -> Vec<Vec<String>>) -> String {
    let mut found: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for (series, outcome) in outcomes {
        for row in rows(outcome) {
            match found.iter_mut().find(|(known, _)| *known == row) {
                Some((_, on)) => on.push(series),
                None => found.push((row, vec![series])),
            }
        }
    }
    if found.is_empty() {
        return "\nNothing, on none of them.\n".to_owned();
    }
    let line = format!("|{}\n", " --- |".repeat(head.matches('|').count() - 1));
    let rows = found.into_iter().map(|(row, on)| format!("| {} | {} |\n", row.join(" | "), on.join(", ")));
    format!("\n{head}\n{line}{}", rows.collect::<String>())
}

/// On what the programs of the first interface hang.
fn hooks(doctor: &Value) -> String {
    let [ingress, egress] = ["ingress", "egress"].map(|hook| cell(&doctor["interfaces"][0][hook]["plan"]));
    if ingress == egress { ingress } else { format!("{ingress} (ingress), {egress} (egress)") }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// As it may stand in a table.
fn cell(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{grouped, table};

    #[test]
    fn a_row_for_each_kernel_and_for_each_lack() -> anyhow::Result<()> {
        let outcome = |release: &str, hook: &str, tcx: &str, skips: serde_json::Value| {
            json!({
                "passed": 12, "failed": 0, "skips": skips, "filter": null,
                "doctor": {
                    "release": release,
                    "features": [
                        { "name": "tcx", "status": tcx, "consequence": "an order", "found": "not known" },
                        { "name": "seccomp", "status": "ok", "consequence": "", "found": "" },
                    ],
                    "interfaces": [{ "ingress": { "plan": hook }, "egress": { "plan": hook }, "notes": [] }],
                },
            })
        };
        let skip = json!([{ "test": "a::b", "lack": "Linux 6.6 (tcx)" }]);
        let text = table(&[
            ("5.10", outcome("5.10.0-46", "clsact", "warning", skip.clone())),
            ("6.1", outcome("6.1.0-50", "clsact", "warning", skip)),
            ("7.3", outcome("7.3.1", "tcx", "ok", json!([]))),
        ])?;
        for line in [
            "| 5.10 | 5.10.0-46 | clsact | 12 | 0 | 1 |",
            "| 7.3 | 7.3.1 | tcx | 12 | 0 | 0 |",
            "| tcx | an order | not known | 5.10, 6.1 |",
            "| a::b | Linux 6.6 (tcx) | 5.10, 6.1 |",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
        assert!(!text.contains("seccomp"), "{text}");
        assert!(table(&[("5.10", json!({ "passed": 12, "doctor": null }))]).is_err(), "nobody asked the doctor");
        Ok(())
    }

    #[test]
    fn what_breaks_a_table_is_told_apart() {
        let text = grouped("| x | on |", &[("7.3", json!(null))], |_| vec![vec![super::cell(&json!("a|b\nc"))]]);
        assert_eq!(text, "\n| x | on |\n| --- | --- |\n| a\\|b c | 7.3 |\n");
        assert!(grouped("| x | on |", &[], |_| Vec::new()).contains("Nothing"));
    }
}
