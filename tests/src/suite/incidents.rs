//! Folders of incidents as others read them: the capture by tshark, the rest by `lossprobe incidents` and `lossprobe report`.

use std::{collections::BTreeSet, env, fs, path::PathBuf, process, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use probe_user::{
    detect::{
        incident::{Incident, State},
        verdict::Name,
    },
    record::{
        bundle::{Bundles, Case, FOLDER, Keep},
        evidence::Evidence,
        history::Recording,
        host::Host,
    },
    snapshot::Snapshot,
};
use serde_json::{Value, json};
use tests::{
    agent::{Agent, lossprobe},
    namespace::Namespace,
    program,
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::counts::SOON;

pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("incidents::a_folder_is_read", a_folder_is_read),
        trial("incidents::without_a_folder_they_are_in_memory", without_a_folder),
    ]
}

/// A state folder that goes with the test.
struct StateFolder(PathBuf);

impl Drop for StateFolder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// A frame with a wrong header checksum that came in at a time.
fn evidence(time: &str) -> Result<Evidence> {
    let frame = json!({
        "type": "malformed", "time": time, "interface": "eth0", "netns": "own", "reason": "ip4_csum", "severity": "error",
        "direction": "ingress", "offset": 24, "link_type": 1, "source_mac": "02:00:00:00:00:0a", "protocol": "ipv4",
        "packet_bytes": 60, "segments": 1,
        "bytes": "02000000000b02000000000a08004500001d00014000401112340a0000010a000002",
    });
    Ok(serde_json::from_value(json!({ "schema": 1, "frames": [frame], "lost": 0 }))?)
}

fn a_folder_is_read() -> Result<()> {
    let folder = StateFolder(env::temp_dir().join(format!("lossprobe-incidents-{}", process::id())));
    let mut bundles = Bundles::open(folder.0.join(FOLDER), Keep::default(), BTreeSet::new())?;
    let incident = Incident {
        schema: 1,
        id: "20240118T104000Z-1".to_owned(),
        state: State::Closed,
        onset: "2024-01-18T10:40:00Z".to_owned(),
        detected: "2024-01-18T10:40:06Z".to_owned(),
        last_seen: "2024-01-18T11:40:00Z".to_owned(),
        closed: Some("2024-01-18T11:40:00Z".to_owned()),
        verdict: Name::NetworkMalformed,
        affected: vec!["eth0".to_owned()],
        ..Incident::default()
    };
    // Written twice: what comes later in a capture is a section of its own.
    for time in ["2024-01-18T10:41:00Z", "2024-01-18T10:50:00Z"] {
        bundles.write(&Case {
            incident: incident.clone(),
            recording: Recording::default(),
            evidence: Some(evidence(time)?),
            host: Arc::new(Host::read()),
            snapshot: Arc::new(Snapshot::default()),
        })?;
    }
    let here = Namespace::of_this_process()?;
    let capture = bundles.place(&incident.id).join("evidence.pcapng");
    let capture = capture.to_str().context("a file name in UTF-8")?;
    let fields =
        ["-n", "-r", capture, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "ip.src"];
    let frames = program::run(&here, "tshark", &[&fields[..], &["-e", "frame.comment"]].concat(), "")?;
    let rows: Vec<Vec<&str>> = frames.lines().map(|line| line.split('\t').collect()).collect();
    let times: Vec<&str> = rows.iter().filter_map(|row| row.first()?.split('.').next()).collect();
    ensure!(times == ["1705574460", "1705575000"], "{frames}");
    ensure!(rows.iter().all(|row| row.get(1..3) == Some(&["eth0", "10.0.0.1"])), "{frames}");
    ensure!(frames.matches("computed 0x26cd at byte 24").count() == 2, "{frames}");

    let state = folder.0.to_str().context("a file name in UTF-8")?;
    let ask = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = lossprobe(&here, &[arguments, &["--state-dir", state]].concat())?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    };
    let (code, listed) = ask(&["incidents", "--output", "json"])?;
    let listed: Value = serde_json::from_str(&listed).context("read what is listed")?;
    ensure!(code == Some(0) && listed["incidents"][0]["id"] == incident.id.as_str(), "{listed}");
    for (arguments, code, expected) in [
        (&["incidents"][..], 0, "20240118T104000Z-1"),
        (&["incidents", "2024"], 0, "Detected"),
        (&["incidents", "2025"], 1, "no incident is called \"2025\""),
        (&["report"], 0, "# Packet loss"),
        (&["report", "2024", "--format", "html"], 0, "<!doctype html>"),
        (&["report", "-o", "/dev/full"], 1, "No space left on device"),
    ] {
        let (ended, said) = ask(arguments)?;
        ensure!(ended == Some(code) && said.contains(expected), "{arguments:?} ended with {ended:?}: {said}");
    }
    Ok(())
}

/// An agent whose folder cannot be used counts all the same, and says that it forgets.
fn without_a_folder() -> Result<()> {
    let file = env::temp_dir().join(format!("lossprobe-no-folder-{}", process::id()));
    fs::write(&file, "not a folder")?;
    let pair = Pair::new()?;
    let agent = Agent::start(&pair.right, &["--interface", "b", "--state-dir", file.to_str().context("a name")?])?;
    pair.left.send_udp((RIGHT, 5000), 10, 10)?;
    let outcome = eventually(SOON, "it counts, and says what it cannot", || {
        let metrics = agent.metrics()?;
        let unwritten = metrics.sum("lossprobe_incident_write_failed_total", &[]);
        ensure!(unwritten == 1.0, "{unwritten} were not written");
        let frames = metrics.sum("lossprobe_frames_total", &[("interface", "b"), ("direction", "ingress")]);
        ensure!(frames >= 10.0, "{frames} frames");
        Ok(())
    });
    fs::remove_file(&file)?;
    outcome?;
    agent.stop()
}
