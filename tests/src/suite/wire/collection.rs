//! Captures of other people, where somebody has put some (`LOSSPROBE_CAPTURES=FOLDER`: for example the test captures in the
//! sources of tcpdump and Wireshark). Single ones hold a handful of events, so they are judged together.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::run::trial;

use super::{agreement::Agreement, analysis::Analysis};

const VARIABLE: &str = "LOSSPROBE_CAPTURES";

pub(super) fn trials() -> Vec<Trial> {
    folder().map(|folder| trial("wire::collection", move || collection(&folder))).into_iter().collect()
}

/// Where they are, if anywhere.
pub(in crate::suite) fn folder() -> Option<PathBuf> {
    env::var_os(VARIABLE).map(PathBuf::from)
}

/// All of them.
pub(in crate::suite) fn captures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "no captures below {VARIABLE}={}", folder.display());
    Ok(files)
}

fn collection(folder: &Path) -> Result<()> {
    let files = captures(folder)?;
    let mut all = Agreement::default();
    let mut unread = Vec::new();
    for file in &files {
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        match Analysis::of(file).and_then(|analysis| Agreement::of(&analysis, file)) {
            Ok(agreement) => all.add(&name, &agreement),
            // Of a link type without IP, or broken on purpose, for one of the two.
            Err(error) => unread.push(format!("{name}: {error:#}")),
        }
    }
    println!("{} captures read, {} not:\n{}", files.len() - unread.len(), unread.len(), unread.join("\n"));
    all.judge("collection")
}

/// Captures below a folder, however deep, without following links.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        let is_capture =
            path.extension().is_some_and(|end| ["pcap", "pcapng", "cap"].iter().any(|known| end == *known));
        if kind.is_dir() {
            find(&path, files)?;
        } else if kind.is_file() && is_capture {
            files.push(path);
        }
    }
    Ok(())
}
