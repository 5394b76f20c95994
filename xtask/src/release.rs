//! `cargo xtask release`: whether this commit can become a release, with everything that would be handed out. The GitHub
//! workflow does the same on a tag and uploads it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::package::{self, VERSION};
use crate::ui;
use crate::workspace::{Workspace, output};

/// The section of changes that have no release yet.
const UNRELEASED: &str = "Unreleased";

/// Judges and packages; without `dry_run` it also sets the tag.
pub(crate) fn run(workspace: &Workspace, dry_run: bool) -> Result<()> {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(workspace.path("")));
    let changelog = workspace.path("CHANGELOG.md");
    let changelog = fs::read_to_string(&changelog).with_context(|| format!("read {}", changelog.display()))?;
    let tag = format!("v{VERSION}");
    let tagged = git(&["tag", "--points-at", "HEAD"])?;
    if let Some(other) = tagged.lines().find(|line| line.starts_with('v') && *line != tag) {
        bail!("this commit is tagged {other}, and Cargo.toml says {VERSION}");
    }
    let is_tagged = tagged.lines().any(|line| line == tag);
    let mut obstacles = Vec::new();
    let notes = if let Some(notes) = section(&changelog, VERSION) {
        notes
    } else {
        obstacles.push(format!("CHANGELOG.md has no section `## {VERSION}`: rename `## {UNRELEASED}`"));
        section(&changelog, UNRELEASED).context("CHANGELOG.md has no section for what is new")?
    };
    if !git(&["status", "--porcelain"])?.is_empty() {
        obstacles.push("there are changes that are not committed".to_owned());
    }
    let exists = !git(&["tag", "--list", &tag])?.is_empty();
    if exists && (!dry_run || !is_tagged) {
        obstacles.push(format!("{tag} exists: raise the version in Cargo.toml"));
    }
    // A dry run is for the time before; of a commit that is tagged it is the release itself.
    ensure!(obstacles.is_empty() || dry_run && !is_tagged, "{}", obstacles.join("; "));
    let (folder, artefacts) = package::run(workspace)?;
    let file = folder.join("release-notes.md");
    fs::write(&file, &notes).with_context(|| format!("write {}", file.display()))?;
    ui::say(&format!("\nlossprobe {VERSION}: {} artefacts, {} lines of notes", artefacts.len(), notes.lines().count()));
    if dry_run {
        ui::say("a dry run: nothing was tagged");
        for obstacle in &obstacles {
            ui::say(&format!("before it can be a release: {obstacle}"));
        }
        ui::say(&format!("to release: cargo xtask release && git push origin {tag}"));
        return Ok(());
    }
    git(&["tag", "--annotate", "--message", &format!("lossprobe {VERSION}"), &tag])?;
    ui::say(&format!("tagged {tag}; to publish it: git push origin {tag} (to undo: git tag --delete {tag})"));
    Ok(())
}

/// What stands under `## TITLE`, with or without a date behind it.
fn section(changelog: &str, title: &str) -> Option<String> {
    let is_title = |line: &str| line.strip_prefix("## ").is_some_and(|rest| rest.split(' ').next() == Some(title));
    let mut lines = changelog.lines().skip_while(|line| !is_title(line));
    lines.next()?;
    let body: Vec<_> = lines.take_while(|line| !line.starts_with("## ")).collect();
    let body = body.join("\n").trim().to_owned();
    (!body.is_empty()).then_some(body + "\n")
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn finds_a_section() {
        let changelog =
            "# Changelog\n\n## Unreleased\n\n* new\n\n## 1.2.0 - 2026-01-01\n\n### Added\n\n* old\n\n## 1.1.0\n";
        assert_eq!(section(changelog, "Unreleased").as_deref(), Some("* new\n"));
        assert_eq!(section(changelog, "1.2.0").as_deref(), Some("### Added\n\n* old\n"));
        assert_eq!(section(changelog, "1.1.0"), None, "empty");
        assert_eq!(section(changelog, "1.2"), None);
    }
}
