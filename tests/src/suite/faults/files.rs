//! A state folder that is full, read-only, or has something else in it.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::{Agent, lossprobe},
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::{super::counts::SOON, Folder, counts, start_behind, unwritten};

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
        eventually(SOON, "the log names it", || {
            ensure!(agent.log().contains(name), "nothing is said of {name}: {}", agent.log());
            Ok(())
        })?;
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

/// What an agent of another version has left: keys that are new do no harm; what is of a schema that this version does not know is set
/// aside whole, so that the newer version has it again; and what was being written when it was killed is taken away.
pub(super) fn left_by_another_version() -> Result<()> {
    const READABLE: &str = r#"{"schema":1,"id":"20260101T000000Z","state":"closed","onset":"2026-01-01T00:00:00Z",
        "detected":"2026-01-01T00:00:05Z","last_seen":"2026-01-01T00:01:00Z","closed":"2026-01-01T00:01:00Z","new":{"a":[1]}}"#;
    let pair = Pair::new()?;
    let _sink = pair.right.udp((RIGHT, 5000))?;
    let folder = Folder::new("version")?;
    let path = |name: &str| folder.0.join(name);
    for folder in ["journal", "bundles/.20260101T000000Z.new", "bundles/20260101T000000Z"] {
        fs::create_dir_all(path(folder))?;
    }
    let newer = READABLE.replace("\"schema\":1", "\"schema\":2").replace("20260101", "20260102");
    for (name, content) in [
        ("journal/20260101T000000Z.json", READABLE),
        ("journal/20260102T000000Z.json", &newer),
        ("journal/20260103T000000Z.json.tmp", "{"),
        ("learned.json", r#"{"schema":2,"units":[]}"#),
        ("month.json.tmp", "{"),
        ("bundles/.20260101T000000Z.new/incident.json", "{"),
        ("bundles/20260101T000000Z/incident.json", "{"),
    ] {
        fs::write(path(name), content)?;
    }
    let agent = Agent::start(&pair.right, &["--interface", "b", "--state-dir", folder.text()?])?;
    for (name, schema) in [("20260102T000000Z.json", "its schema is 2"), ("learned.json", "set aside")] {
        ensure!(
            agent.log().contains(name) && agent.log().contains(schema),
            "nothing is said of {name}: {}",
            agent.log()
        );
        ensure!(path("broken").join(name).is_file(), "{name} is not set aside");
    }
    ensure!(fs::read_to_string(path("broken/20260102T000000Z.json"))? == newer, "it is not whole");
    for name in ["journal/20260103T000000Z.json.tmp", "month.json.tmp", "bundles/.20260101T000000Z.new"] {
        ensure!(!path(name).exists(), "{name} is still there");
    }
    let socket = agent.socket().to_str().context("a file name in UTF-8")?;
    let output = lossprobe(&pair.right, &["incidents", "--socket", socket, "--output", "json"])?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && shown.contains("20260101T000000Z"), "{}: {shown}", output.status);
    ensure!(!shown.contains("20260102T000000Z"), "{shown}");
    counts(&pair, &agent, 100)?;
    ensure!(unwritten(&agent)? == 0.0, "{} were not written", unwritten(&agent)?);
    agent.stop()
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
