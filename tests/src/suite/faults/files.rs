//! A state folder that is full, read-only, or has something else in it.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::{Folder, counts, start_behind, unwritten};

/// What is used of the objective is written every 10 s, and after a failure again after as long.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

/// What cannot be read is set aside and said, what is usable is used; and the next start finds nothing wrong.
pub(super) fn broken_state_folder() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("broken")?;
    fs::create_dir_all(folder.0.join("journal"))?;
    let broken: [(&str, &str, &[u8]); 4] = [
        ("journal", "20260101T000000Z-1.json", b"{\"schema\":1,\"id\":\"20260101T000000Z-1\""),
        ("journal", "20260102T000000Z-1.json", &[0xff; 5000]),
        ("", "month.json", b""),
        ("", "learned.json", b"[[[[[[[["),
    ];
    for (within, name, content) in broken {
        fs::write(folder.0.join(within).join(name), content)?;
    }
    // A newer version's is not read, but nobody may lose it.
    fs::write(folder.0.join("of-a-newer-version.json"), "{}")?;
    let arguments = ["--interface", "b", "--state-dir", folder.text()?];
    let agent = Agent::start(&pair.right, &arguments)?;
    for (_, name, _) in broken {
        ensure!(agent.log().contains(name), "nothing is said of {name}: {}", agent.log());
        ensure!(folder.0.join("broken").join(name).is_file(), "{name} is not set aside");
    }
    ensure!(folder.0.join("of-a-newer-version.json").is_file(), "a foreign file is gone");
    counts(&pair, &agent, 100)?;
    let is_written = || {
        let text = fs::read(folder.0.join("month.json")).context("there is no month")?;
        serde_json::from_slice::<serde_json::Value>(&text).context("it is broken")
    };
    eventually(WRITTEN_WITHIN, "the month is written anew", is_written)?;
    ensure!(unwritten(&agent)? == 0.0, "{} were not written", unwritten(&agent)?);
    agent.stop()?;
    let next = Agent::start(&pair.right, &arguments)?;
    ensure!(!next.log().contains("set aside"), "{}", next.log());
    next.stop()
}

/// Whatever stands in the place of what the agent needs there: it counts, says what it does not keep, and why.
pub(super) fn state_folder_that_is_none() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    for case in ["journal", "broken", "bundles", "lock"] {
        let folder = Folder::new("none")?;
        if case == "lock" {
            fs::create_dir(folder.0.join(case))?;
        } else {
            fs::write(folder.0.join(case), "no folder")?;
        }
        let check = || -> Result<()> {
            let agent = Agent::start(&pair.right, &["--interface", "b", "--state-dir", folder.text()?])?;
            ensure!(unwritten(&agent)? == 1.0, "{} were not written", unwritten(&agent)?);
            for word in ["in memory only", folder.text()?, case] {
                ensure!(agent.log().contains(word), "no {word:?} in the log: {}", agent.log());
            }
            counts(&pair, &agent, 100)?;
            agent.stop()
        };
        check().with_context(|| format!("{case} is in the way"))?;
    }
    Ok(())
}

/// What cannot be written is said and counted, and is written once there is room.
pub(super) fn full_disk() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("full")?;
    let path = folder.text()?;
    let script = format!("mount -t tmpfs -o size=64k none {path} && ! head -c 1000000 /dev/zero 2>&- > {path}/ballast");
    let agent = start_behind(&pair.right, &script, &["--state-dir", path])?;
    counts(&pair, &agent, 100)?;
    eventually(WRITTEN_WITHIN, "it is counted that nothing can be written", || {
        let failures = unwritten(&agent)?;
        ensure!(failures >= 1.0, "{failures} failures");
        Ok(())
    })?;
    for word in ["No space left on device", "tried again"] {
        ensure!(agent.log().contains(word), "no {word:?} in the log: {}", agent.log());
    }
    counts(&pair, &agent, 100)?;
    // As the agent sees it.
    let within = |name: &str| format!("/proc/{}/root{path}/{name}", agent.pid());
    ensure!(fs::metadata(within("month.json")).is_err(), "a file was written on a full disk");
    fs::remove_file(within("ballast")).context("make room")?;
    eventually(WRITTEN_WITHIN, "it is written after all", || {
        let text = fs::read(within("month.json")).context("there is no month")?;
        serde_json::from_slice::<serde_json::Value>(&text).context("it is broken")
    })?;
    ensure!(agent.log().contains("written to the state folder again"), "{}", agent.log());
    agent.stop()
}

pub(super) fn read_only_state_folder() -> Result<()> {
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("read-only")?;
    let path = folder.text()?;
    let script = format!("mount -t tmpfs -o ro none {path}");
    let agent = start_behind(&pair.right, &script, &["--state-dir", path])?;
    ensure!(unwritten(&agent)? == 1.0, "{} were not written", unwritten(&agent)?);
    for word in ["in memory only", "Read-only file system", path] {
        ensure!(agent.log().contains(word), "no {word:?} in the log: {}", agent.log());
    }
    counts(&pair, &agent, 100)?;
    agent.stop()
}
