//! `lossprobe analyze`, as it is called: what it finds in the frames of the malformed rows, every link type, files that are
//! broken, its exit codes and its forms. Containers and flows byte by byte are tested where they are written.

mod file;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Output, Stdio, id},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use probe_ebpf::classify::Finding;
use serde_json::{Value, json};
use tests::{
    agent::{binary, lossprobe},
    child,
    frames::{A, B, Frame, Tcp, ethernet, flag, packet},
    namespace::Namespace,
    run::trial,
    wait::eventually,
};

use super::{counts::SOON, malformed};
use file::{pcap, pcapng};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("analyze::malformed_rows", malformed_rows),
        trial("analyze::link_types", link_types),
        trial("analyze::broken_files", broken_files),
        trial("analyze::standard_input", standard_input),
        trial("analyze::interrupted", interrupted),
        trial("analyze::interrupted_while_nobody_reads", interrupted_while_nobody_reads),
        trial("analyze::forms", forms),
        trial("analyze::losses_by_side", losses_by_side),
    ]
}

/// A file that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> Result<Self> {
        let path = env::temp_dir().join(format!("lossprobe-tests-{}-{name}.pcap", id()));
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> Result<&str> {
        self.0.to_str().context("path")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

/// Runs `lossprobe analyze` on a file of this content.
fn analyze(name: &str, content: &[u8], arguments: &[&str]) -> Result<Output> {
    let namespace = Namespace::new("analyze")?;
    let file = Scratch::new(name, content)?;
    lossprobe(&namespace, &[&["analyze", file.path()?][..], arguments].concat())
}

/// The one line of JSON of a run that must have ended with `status`.
fn summary(output: &Output, status: i32) -> Result<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(status), "ended with {}, not {status}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.ends_with('\n') && text.lines().count() == 1, "not one line: {text}");
    serde_json::from_str(&text).with_context(|| text.into_owned())
}

/// Each row of the classifier's table is found in a capture as it is found by a hook, in the same order, at the same
/// offset; and nothing else is.
fn malformed_rows() -> Result<()> {
    let rows = malformed::rows_of_a_capture();
    ensure!(rows.len() > 150, "only {} rows", rows.len());
    let frames: Vec<Vec<u8>> = rows.iter().map(|(frame, _)| frame.clone()).collect();
    let mut counts = BTreeMap::<&str, u64>::new();
    let mut expected = Vec::new();
    for (number, (_, finding)) in (1..).zip(&rows) {
        if let Some(Finding { reason, at }) = finding {
            *counts.entry(reason.id()).or_default() += 1;
            let severity = reason.severity().id();
            expected.push(json!({
                "frame": number, "type": "malformed", "name": reason.id(), "severity": severity, "offset": at,
            }));
        }
    }
    let numbered: Vec<_> = frames.iter().map(|frame| (0, frame.clone())).collect();
    for (form, content) in [("pcap", pcap(1, &frames)), ("pcapng", pcapng(&[1], &numbered))] {
        let output = analyze(&format!("rows-{form}"), &content, &["--events", "--output", "json"])?;
        let text = String::from_utf8(output.stdout)?;
        let mut lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let summary = lines.pop().context("no summary")?;
        ensure!(summary["format"] == form && summary["frames"] == rows.len(), "{summary}");
        ensure!(summary["malformed"] == json!(counts), "{}\nexpected {}", summary["malformed"], json!(counts));
        lines.retain(|line| line["type"] == "malformed");
        for (line, expected) in lines.iter().zip(&expected) {
            ensure!(line == expected, "{form}: {line}, expected {expected}");
        }
        ensure!(lines.len() == expected.len(), "{} events, expected {}", lines.len(), expected.len());
    }
    Ok(())
}

/// Each link type has a segment of TCP over IPv4 and one over IPv6 in it: both are found, and nothing is wrong with them.
fn link_types() -> Result<()> {
    let version = |inner: &[u8]| inner[0] >> 4;
    let protocol = move |inner: &[u8]| if version(inner) == 6 { [0x86, 0xdd] } else { [8, 0] };
    let tcp = |frame: Frame| frame.tcp(1000, 443).payload(10).bytes();
    let packets = [tcp(packet().ip4()), tcp(packet().ip6())];
    type Wrap<'w> = &'w dyn Fn(&[u8]) -> Vec<u8>;
    let bare: Wrap = &|_| Vec::new();
    let (four, six) = (&packets[..1], &packets[1..]);
    let rows: [(u16, Wrap, &[Vec<u8>]); 12] = [
        (0, &|inner| vec![if version(inner) == 6 { 30 } else { 2 }, 0, 0, 0], &packets),
        (0, &|inner| vec![0, 0, 0, if version(inner) == 6 { 24 } else { 2 }], &packets),
        (1, &|inner| [&B[..], &A, &protocol(inner)].concat(), &packets),
        (12, bare, &packets),
        (14, bare, &packets),
        (101, bare, &packets),
        (108, &|inner| vec![0, 0, 0, if version(inner) == 6 { 28 } else { 2 }], &packets),
        (113, &|inner| [&[0, 0, 0, 1, 0, 6][..], &A, &[0, 0], &protocol(inner)].concat(), &packets),
        (228, bare, four),
        (229, bare, six),
        (276, &|inner| [&protocol(inner)[..], &[0, 0, 0, 0, 0, 2, 0, 1, 0, 6], &A, &[0; 2]].concat(), &packets),
        (127, bare, &packets),
    ];
    let (mut numbered, mut expected) = (Vec::new(), 0);
    for (index, (link_type, wrap, packets)) in rows.iter().enumerate() {
        let frames: Vec<Vec<u8>> = packets.iter().map(|inner| [&wrap(inner)[..], inner].concat()).collect();
        let output = analyze(&format!("link-{index}"), &pcap((*link_type).into(), &frames), &["--output", "json"])?;
        let seen = summary(&output, 0)?;
        let is_read = *link_type != 127;
        let segments = if is_read { packets.len() } else { 0 };
        let skipped = json!([{"link_type": 127, "name": "IEEE802_11_RADIOTAP", "frames": 2}]);
        let about = || format!("link type {link_type}: {seen}");
        ensure!(seen["tcp_segments"] == segments && seen["flows_seen"] == segments, "{}", about());
        ensure!(
            seen["malformed"] == json!({}) && seen["other_frames"] == 0 && seen["unseen_frames"] == 0,
            "{}",
            about()
        );
        ensure!(seen["skipped_link_types"] == if is_read { json!([]) } else { skipped }, "{}", about());
        expected += segments;
        numbered.extend(frames.into_iter().map(|frame| (index as u32, frame)));
    }
    // All of them in one file.
    let types = rows.map(|(link_type, ..)| link_type);
    let seen = summary(&analyze("link-all", &pcapng(&types, &numbered), &["--output", "json"])?, 0)?;
    ensure!(seen["frames"] == numbered.len() && seen["tcp_segments"] == expected, "{seen}");
    ensure!(seen["malformed"] == json!({}) && seen["flows_seen"] == expected, "{seen}");
    Ok(())
}

/// Three segments of one connection, the second one twice.
fn segments() -> Vec<Vec<u8>> {
    let segment = |(identification, sequence)| {
        let change = move |tcp: &mut Tcp| (tcp.sequence, tcp.flags) = (sequence, flag::ACK);
        let frame = ethernet(B, A).ipv4(move |ip| ip.identification = identification);
        frame.tcp_with(1000, 443, change).payload(10).bytes()
    };
    [(1, 1), (2, 11), (3, 11), (4, 21)].map(segment).to_vec()
}

fn broken_files() -> Result<()> {
    let whole = pcap(1, &segments());
    let record_bytes = (whole.len() - 24) / 4;
    let at = 24 + 2 * record_bytes;
    let mut corrupt = whole.clone();
    corrupt[at + 8..at + 16].fill(0xff);
    for (name, content, status, frames, said) in [
        ("whole", &whole[..], 0, Some(4), ""),
        ("cut", &whole[..at + 20], 0, Some(2), "warning: FILE ends inside the record at byte AT"),
        ("cut in a header", &whole[..at + 1], 0, Some(2), "warning: FILE ends inside the record at byte AT"),
        (
            "corrupt",
            &corrupt,
            1,
            Some(2),
            "FILE is corrupt: a record of 4294967295 bytes is not to be believed, at byte AT",
        ),
        ("cut in the file's header", &whole[..20], 0, Some(0), "warning: FILE ends inside the record at byte 0"),
        ("nothing", &[], 1, None, "FILE: it is empty"),
        ("text", b"hello, world", 1, None, "FILE: it is neither pcap nor pcapng"),
        ("compressed", &[0x1f, 0x8b, 8, 0, 0], 1, None, "`zcat FILE | lossprobe analyze -`"),
    ] {
        let scratch = Scratch::new(&name.replace(' ', "-"), content)?;
        let namespace = Namespace::new("analyze")?;
        let output = lossprobe(&namespace, &["analyze", scratch.path()?, "--output", "json"])?;
        let heard = String::from_utf8_lossy(&output.stderr).replace(scratch.path()?, "FILE");
        ensure!(heard.contains(&said.replace("AT", &at.to_string())), "{name}: {heard}");
        ensure!(said.is_empty() == heard.is_empty() && heard.lines().count() <= 1, "{name}: {heard:?}");
        let Some(frames) = frames else {
            ensure!(output.status.code() == Some(status) && output.stdout.is_empty(), "{name}: {}", output.status);
            continue;
        };
        let seen = summary(&output, status).with_context(|| name.to_owned())?;
        let is_cut = name.starts_with("cut");
        ensure!(seen["frames"] == frames && seen["truncated"] == is_cut, "{name}: {seen}");
        ensure!(
            seen["truncated_at"].is_null() != is_cut && seen["corrupt"].is_null() == (status == 0),
            "{name}: {seen}"
        );
    }
    let namespace = Namespace::new("analyze")?;
    for (arguments, status, said) in [
        (&["analyze", "/nonexistent/x.pcap"][..], 1, "cannot open /nonexistent/x.pcap"),
        (&["analyze", "/"], 1, "/ is a directory"),
        (&["analyze"], 2, "<FILE>"),
        (&["analyze", "x.pcap", "--vantage", "eth0"], 2, "hardware address"),
    ] {
        let output = lossprobe(&namespace, arguments)?;
        let heard = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(status) && heard.contains(said),
            "{arguments:?}: {} {heard}",
            output.status
        );
    }
    Ok(())
}

/// Bytes that come one by one are the same capture.
fn standard_input() -> Result<()> {
    let content = pcap(1, &segments());
    let namespace = Namespace::new("analyze")?;
    let mut command = child::command(&namespace, binary())?;
    command.args(["analyze", "-", "--events", "--output", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let writer = thread::spawn(move || content.chunks(7).try_for_each(|chunk| stdin.write_all(chunk)));
    let output = child.wait_with_output()?;
    writer.join().ok().context("the writer panicked")??;
    let text = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let [event, summary] = lines[..] else { anyhow::bail!("not two lines: {text}") };
    let expected = r#"{"frame":3,"type":"tcp","name":"retransmit_seen","direction":"forward","segments":1}"#;
    ensure!(event == expected, "{event}");
    let summary: Value = serde_json::from_str(summary)?;
    ensure!(summary["file"] == "-" && summary["frames"] == 4 && summary["tcp"]["retransmit_seen"] == 1, "{summary}");
    ensure!(summary["loss"]["after"]["lost"] == 1 && summary["flows"][0]["lost_after"] == 1, "{summary}");
    Ok(())
}

/// Ctrl-C while the next record is waited for: what came before it is shown, and it is not called a fault of the file.
fn interrupted() -> Result<()> {
    let content = pcap(1, &segments());
    let namespace = Namespace::new("analyze")?;
    let mut command = child::command(&namespace, binary())?;
    command.args(["analyze", "-", "--events", "--output", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
    // The fourth frame's bytes are there when the third one's event is.
    stdin.write_all(&content)?;
    stdin.write_all(&content[24..34])?;
    let (mut event, mut text) = (String::new(), String::new());
    stdout.read_line(&mut event)?;
    ensure!(event.starts_with(r#"{"frame":3,"#), "{event}");
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT).context("send SIGINT")?;
    stdout.read_to_string(&mut text)?;
    let output = child.wait_with_output()?;
    drop(stdin);
    let seen = summary(&Output { stdout: text.into(), ..output.clone() }, 130)?;
    ensure!(seen["frames"] == 4 && seen["interrupted"] == true && seen["truncated"] == false, "{seen}");
    ensure!(seen["tcp"]["retransmit_seen"] == 1 && seen["corrupt"] == Value::Null, "{seen}");
    let said = String::from_utf8(output.stderr)?;
    ensure!(said == "lossprobe: warning: interrupted; what was analysed are the first 4 frames of -\n", "{said:?}");
    Ok(())
}

/// The second Ctrl-C ends it also where its events find no room.
fn interrupted_while_nobody_reads() -> Result<()> {
    let broken = ethernet(B, A).ipv4(|ip| ip.total_length += 1).udp(1, 2).payload(50).bytes();
    let file = Scratch::new("unread", &pcap(1, &vec![broken; 20_000]))?;
    let namespace = Namespace::new("analyze")?;
    let mut command = child::command(&namespace, binary())?;
    command.args(["analyze", file.path()?, "--events"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
    stdout.read_line(&mut String::new())?;
    let pid = child.id();
    eventually(SOON, "it waits for room", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ensure!(stat.contains(") S "), "{stat}");
        Ok(())
    })?;
    let pid = Pid::from_raw(i32::try_from(pid)?);
    let ended = eventually(SOON, "it has ended", || {
        kill(pid, Signal::SIGINT).context("send SIGINT")?;
        child.try_wait()?.context("it has not")
    });
    child.kill()?;
    child.wait()?;
    let status = ended?;
    ensure!(status.signal() == Some(Signal::SIGINT as i32), "{status}");
    Ok(())
}

/// What is printed is for people, or for programs; off a terminal there is no bar and no colour.
fn forms() -> Result<()> {
    let broken = ethernet(B, A).ipv4(|ip| ip.total_length += 1).udp(1, 2).payload(50).bytes();
    let content = pcap(1, &[segments(), vec![broken]].concat());
    let table = analyze("table", &content, &[])?;
    let text = String::from_utf8(table.stdout)?;
    ensure!(table.status.success() && table.stderr.is_empty(), "{}", String::from_utf8_lossy(&table.stderr));
    for part in
        ["pcap, 5 frames", "ip4_trunc", "retransmit_seen", "behind the capture point", "10.0.0.1:1000", "95 % interval"]
    {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    ensure!(!text.contains('\u{1b}'), "{text:?}");
    let events = analyze("events", &content, &["--events"])?;
    let text = String::from_utf8(events.stdout)?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let kinds: Vec<_> = lines.iter().map(|line| (&line["frame"], &line["type"])).collect();
    ensure!(kinds == [(&json!(3), &json!("tcp")), (&json!(5), &json!("malformed"))], "{text}");
    let none = summary(&analyze("top", &content, &["--top", "0", "--output", "json"])?, 0)?;
    ensure!(none["flows"] == json!([]) && none["loss"]["after"]["lost"] == 1, "{none}");
    Ok(())
}

/// The same retransmission is the network's loss or one of the inside, by who is inside.
fn losses_by_side() -> Result<()> {
    let sender = "02:00:00:00:00:0a";
    for (inside, network_out, within, direction) in [
        ("10.0.0.1", 1, 0, "out"),
        ("10.0.0.2/32", 0, 1, "in"),
        (sender, 1, 0, "out"),
        ("02:00:00:00:00:0b", 0, 1, "in"),
    ] {
        let output = analyze("sides", &pcap(1, &segments()), &["--vantage", inside, "--output", "json", "--events"])?;
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let [event, summary] = &lines[..] else { anyhow::bail!("not two lines: {text}") };
        let lost = |side: &str| summary["loss"][side]["lost"].clone();
        ensure!(event["direction"] == direction, "{inside}: {event}");
        ensure!(lost("network_out") == network_out && lost("inside") == within, "{inside}: {}", summary["loss"]);
        ensure!(lost("network_in") == 0 && lost("after") == 1, "{inside}: {}", summary["loss"]);
        ensure!(summary["flows"][0]["heading"] == direction, "{inside}: {}", summary["flows"]);
    }
    Ok(())
}
