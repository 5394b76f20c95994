//! `lossprobe capture`: what is written is what was on the wire, with its time, interface, length and comment; and it ends
//! as whoever reads it expects, whatever becomes of the file.

mod read;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Output, Stdio},
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    agent::{Agent, binary, lossprobe},
    child,
    frames::{A, B, Checksum, ethernet},
    namespace::Namespace,
    program,
    run::trial,
    topology::Pair,
    wait::eventually,
    wire::PacketSocket,
};

use self::read::Frame;
use super::counts::SOON;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("capture::frames_are_those_of_the_wire", frames_are_those_of_the_wire),
        trial("capture::only_what_was_asked_for", only_what_was_asked_for),
        trial("capture::what_was_kept", what_was_kept),
        trial("capture::by_itself", by_itself),
        trial("capture::ends_in_order", ends_in_order),
        trial("capture::a_full_disk_is_said", a_full_disk_is_said),
        trial("capture::bad_input", bad_input),
    ]
}

pub(super) fn host_trials() -> Vec<Trial> {
    vec![
        trial("capture::tshark_reads_the_pipe", tshark_reads_the_pipe),
        trial("capture::a_full_disk_leaves_whole_frames", a_full_disk_leaves_whole_frames),
    ]
}

/// Malformed frames, each with its reason, the offset of the contradiction, and what is kept of it at least.
fn malformed() -> Vec<(&'static str, usize, Vec<u8>)> {
    let group = ethernet(B, [1, 0, 0, 0, 0, 1]).ip4().udp(1, 2).payload(40);
    vec![
        ("ip4_csum", 24, ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(1400).bytes()),
        ("ip4_trunc", 16, ethernet(B, A).ipv4(|ip| ip.total_length += 100).udp(1, 2).payload(40).bytes()),
        ("tcp_doff", 46, ethernet(B, A).ip4().tcp_with(1, 2, |tcp| tcp.header_words = Some(2)).payload(40).bytes()),
        ("udp_len_gt", 38, ethernet(B, A).ip4().udp_with(1, 2, |udp| udp.length += 9).payload(40).bytes()),
        ("eth_src_group", 6, group.bytes()),
        ("vlan_4095", 14, ethernet(B, A).vlan(4095).ip4().udp(1, 2).payload(40).bytes()),
    ]
}

/// A running `lossprobe capture`; dropping it kills it.
struct Capture {
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Capture {
    /// Starts it and waits until it says that it captures.
    fn start(namespace: &Namespace, stdout: Stdio, arguments: &[&str]) -> Result<Self> {
        let mut child = child::command(namespace, binary())?
            .arg("capture")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start capture {arguments:?}"))?;
        let mut stderr = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut capture = Self { child, said: None };
        let mut said = String::new();
        while !said.contains("capturing") {
            ensure!(stderr.read_line(&mut said)? > 0, "it does not capture: {said}");
        }
        // What it says later must find room.
        capture.said = Some(thread::spawn(move || {
            let _closed = stderr.read_to_string(&mut said);
            said
        }));
        Ok(capture)
    }

    /// By the agent.
    fn of(agent: &Agent<'_>, namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let socket = agent.socket().to_str().context("path")?;
        Self::start(namespace, Stdio::null(), &[&["--socket", socket], arguments].concat())
    }

    /// Repeats what it is to capture until it has ended by itself, with this exit code; returns what it has said.
    fn while_it_runs(&mut self, code: i32, mut act: impl FnMut() -> Result<()>) -> Result<String> {
        let status = eventually(SOON, "capture has seen enough", || {
            act()?;
            self.child.try_wait()?.context("it runs")
        })?;
        let said = self.said.take().and_then(|said| said.join().ok()).context("nothing was said")?;
        ensure!(status.code() == Some(code), "capture ended with {status}: {said}");
        Ok(said)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A file that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("lossprobe-tests-{}-{name}.pcapng", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn frames(&self) -> Result<Vec<Frame>> {
        read::frames(&fs::read(&self.0)?).with_context(|| format!("read {}", self.0.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

fn nanoseconds_now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64)
}

fn frames_are_those_of_the_wire() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    for (reason, offset, frame) in malformed() {
        let file = Scratch::new(reason);
        // What was sent last may still be on its way to whoever comes next.
        let flags = ["-w", file.path(), "--count", "2", "--reason", reason];
        let mut capture = Capture::of(&agent, right, &flags)?;
        let before = nanoseconds_now()?;
        let said = capture.while_it_runs(0, || sender.send([&frame]))?;
        let after = nanoseconds_now()?;
        let frames = file.frames()?;
        ensure!(frames.len() == 2, "{reason}: {} frames: {said}", frames.len());
        for found in &frames {
            let is_part = frame.starts_with(&found.bytes) && found.bytes.len() > offset;
            ensure!(is_part, "{reason}: {:02x?} of {frame:02x?}", found.bytes);
            ensure!(found.frame_bytes as usize == frame.len(), "{reason}: {} bytes", found.frame_bytes);
            ensure!(
                (before..after).contains(&found.nanoseconds),
                "{reason}: {} not in {before}..{after}",
                found.nanoseconds
            );
            ensure!((found.interface.as_str(), found.link_type, found.flags) == ("b", 1, 1), "{reason}: {found:?}");
            let place = format!("at byte {offset}");
            let mac = frame[6..12].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
            let vlan = if reason == "vlan_4095" { " vlan 4095" } else { "" };
            let sender = format!("; last sender on this segment {mac}{vlan}");
            ensure!(
                found.comment.starts_with(&format!("{reason}: "))
                    && found.comment.contains(&place)
                    && found.comment.ends_with(&sender),
                "{}",
                found.comment
            );
        }
        // Where the checksum is wrong all that it sums up is there, and here the whole frame.
        ensure!(reason != "ip4_csum" || frames[0].comment.contains("header checksum 0x"), "{}", frames[0].comment);
        ensure!(reason != "ip4_csum" || frames[0].bytes == frame, "{} bytes of {}", frames[0].bytes.len(), frame.len());
        ensure!(frames.windows(2).all(|two| two[0].nanoseconds < two[1].nanoseconds), "{frames:?}");
        ensure!(frames.iter().any(|frame| frame.nanoseconds % 1000 != 0), "no nanoseconds: {frames:?}");
        let row = said.lines().find(|line| line.starts_with(reason)).with_context(|| said.clone())?;
        let words: Vec<_> = row.split_whitespace().collect();
        ensure!(words[1] == "b" && words.last() == Some(&"2"), "{said}");
        ensure!(said.contains(&format!("2 frames captured, written to {}.", file.path())), "{said}");
        let mode = fs::metadata(&file.0)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "mode {mode:o}");
    }
    agent.stop()
}

fn only_what_was_asked_for() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let send_all = || sender.send(malformed().iter().map(|(_, _, frame)| frame));
    let file = Scratch::new("filter");
    // Something else was there before.
    fs::write(&file.0, vec![0xff; 10_000])?;
    let flags = ["-w", file.path(), "--count", "4", "--reason", "tcp_*", "--reason", "ip4_trunc"];
    Capture::of(&agent, right, &flags)?.while_it_runs(0, send_all)?;
    let comments: Vec<_> = file.frames()?.into_iter().map(|frame| frame.comment).collect();
    let (tcp, ip): (Vec<_>, Vec<_>) = comments.iter().partition(|comment| comment.starts_with("tcp_doff:"));
    let is_rest = ip.iter().all(|comment| comment.starts_with("ip4_trunc:"));
    ensure!(comments.len() == 4 && !tcp.is_empty() && is_rest, "{comments:?}");

    let nothing = ["-w", file.path(), "--duration", "500ms", "--exclude", "b"];
    let said = Capture::of(&agent, right, &nothing)?.while_it_runs(0, send_all)?;
    ensure!(file.frames()?.is_empty() && said.contains("0 frames captured"), "{said}");
    // Only counted.
    let said = Capture::of(&agent, right, &["--count", "12"])?.while_it_runs(0, send_all)?;
    let rows = malformed().iter().filter(|(reason, _, _)| said.lines().any(|line| line.starts_with(reason))).count();
    ensure!(rows == malformed().len() && said.contains("12 frames captured."), "{said}");
    agent.stop()
}

fn what_was_kept() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let file = Scratch::new("kept");
    let socket = agent.socket().to_str().context("path")?;
    let kept = |flags: &[&str]| -> Result<(Vec<Frame>, String)> {
        let output =
            lossprobe(right, &[&["capture", "--kept", "--socket", socket, "-w", file.path()], flags].concat())?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok((file.frames()?, said))
    };
    let (frames, said) = kept(&[])?;
    ensure!(frames.is_empty() && said.contains("0 frames captured"), "{said}");
    // The first of each is kept, and then one in a second.
    let most = 2 * malformed().len();
    let (frames, said) = eventually(SOON, "two of each are kept", || {
        sender.send(malformed().iter().map(|(_, _, frame)| frame))?;
        let (frames, said) = kept(&[])?;
        ensure!(frames.len() == most, "{} of {most} frames: {said}", frames.len());
        Ok((frames, said))
    })?;
    ensure!(frames.is_sorted_by_key(|frame| frame.nanoseconds), "not in the order of time");
    for (reason, _, frame) in malformed() {
        let of_it: Vec<_> = frames.iter().filter(|found| found.comment.starts_with(&format!("{reason}: "))).collect();
        ensure!(of_it.len() == 2 && of_it.iter().all(|found| frame.starts_with(&found.bytes)), "{reason}: {of_it:?}");
    }
    ensure!(said.contains(&format!("{most} frames captured")), "{said}");
    let (frames, _) = kept(&["--reason", "ip4_*", "--count", "3"])?;
    ensure!(frames.len() == 3 && frames.iter().all(|frame| frame.comment.starts_with("ip4_")), "{frames:?}");
    agent.stop()
}

/// Without an agent, and on their way out.
fn by_itself() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, .. } = &pair;
    let sender = PacketSocket::sender(left, "a")?;
    let file = Scratch::new("by-itself");
    let flags = ["--interface", "a", "-w", file.path(), "--count", "3"];
    let frame = &malformed()[0].2;
    Capture::start(left, Stdio::null(), &flags)?.while_it_runs(0, || sender.send([frame]))?;
    let frames = file.frames()?;
    ensure!(frames.len() == 3, "{frames:?}");
    for found in &frames {
        ensure!(found.bytes == *frame && found.interface == "a" && found.flags == 2, "{found:?}");
    }
    Ok(())
}

/// A signal, a reader that has seen enough, an agent that goes: what was captured is there.
fn ends_in_order() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let frame = &malformed()[0].2;
    let file = Scratch::new("ends");
    let some_frames = || -> Result<()> {
        eventually(SOON, "a frame is in the file", || {
            sender.send([frame])?;
            ensure!(!file.frames()?.is_empty(), "none");
            Ok(())
        })
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut capture = Capture::of(&agent, right, &["-w", file.path()])?;
        some_frames()?;
        kill(Pid::from_raw(i32::try_from(capture.child.id())?), signal)?;
        let said = capture.while_it_runs(0, || Ok(()))?;
        ensure!(said.contains("captured, written to") && !file.frames()?.is_empty(), "{said}");
    }
    let socket = agent.socket().to_str().context("path")?;
    // With frames that are written, and without.
    for reason in ["ip4_csum", "sctp_short"] {
        let mut capture = Capture::start(right, Stdio::piped(), &["--socket", socket, "-w", "-", "--reason", reason])?;
        let mut head = [0; 4];
        let mut stdout = capture.child.stdout.take().context("no standard output")?;
        stdout.read_exact(&mut head)?;
        ensure!(head == [0x0a, 0x0d, 0x0d, 0x0a], "no section header at once: {head:02x?}");
        drop(stdout);
        let said = capture.while_it_runs(0, || sender.send([frame]))?;
        ensure!(said.contains("captured") && !said.contains("error") && !said.contains("lossprobe:"), "{said}");
    }
    let mut capture = Capture::of(&agent, right, &["-w", file.path()])?;
    some_frames()?;
    agent.stop()?;
    let said = capture.while_it_runs(1, || Ok(()))?;
    ensure!(
        said.contains("has ended") && said.contains("captured, written to") && !file.frames()?.is_empty(),
        "{said}"
    );
    Ok(())
}

fn a_full_disk_is_said() -> Result<()> {
    let pair = Pair::new()?;
    let agent = Agent::start(&pair.right, &["--interface", "b"])?;
    let socket = agent.socket().to_str().context("path")?;
    let output = lossprobe(&pair.right, &["capture", "--socket", socket, "-w", "/dev/full"])?;
    refused(&output, 1, &["write /dev/full", "No space left on device"])?;
    agent.stop()
}

fn refused(output: &Output, code: i32, expected: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {}: {said}", output.status);
    ensure!(expected.iter().all(|words| said.contains(words)), "{said:?} does not say {expected:?}");
    Ok(())
}

fn bad_input() -> Result<()> {
    let namespace = Namespace::new("bad")?;
    for (flags, code, expected) in [
        (&["--reason", "ip4_csm"][..], 2, &["--reason", "did you mean `ip4_csum`?"][..]),
        (&["--reason", "netfilter_drop"], 2, &["is a reason of type drop"]),
        (&["-w", "/nonexistent/x.pcapng"], 1, &["cannot write /nonexistent/x.pcapng", "No such file"]),
        (&["-w", "/tmp"], 1, &["cannot write /tmp", "Is a directory"]),
        (&["--socket", "/nonexistent/x.sock"], 1, &["no agent answers", "/nonexistent/x.sock"]),
        (&["--kept", "--socket", "/nonexistent/x.sock"], 1, &["no agent answers", "`lossprobe agent`"]),
        (&["--interface", "nothere", "--duration", "100ms"], 1, &["no interface `nothere`"]),
    ] {
        let output = lossprobe(&namespace, &[&["capture"], flags].concat())?;
        refused(&output, code, expected).with_context(|| format!("{flags:?}"))?;
    }
    Ok(())
}

/// As an operator types it: five frames, five comments, at once.
fn tshark_reads_the_pipe() -> Result<()> {
    const FIELDS: [&str; 6] =
        ["frame.comment", "frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "eth.src"];
    program::installed("tshark")?;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let socket = agent.socket().to_str().context("path")?;
    let flags = ["--socket", socket, "-w", "-", "--count", "5", "--duration", "30s"];
    let mut capture = Capture::start(right, Stdio::piped(), &flags)?;
    let mut tshark = child::command(right, "tshark")?
        .args(["-l", "-n", "-r", "-", "-T", "fields"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .stdin(capture.child.stdout.take().context("no standard output")?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start tshark")?;
    let before = nanoseconds_now()?;
    let said = capture.while_it_runs(0, || sender.send(malformed().iter().map(|(_, _, frame)| frame)))?;
    let mut text = String::new();
    tshark.stdout.take().context("no standard output")?.read_to_string(&mut text)?;
    let status = tshark.wait()?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    ensure!(status.success() && lines.len() == 5, "tshark ended with {status}: {text}{said}");
    for line in lines {
        let (seconds, fraction) = line[2].split_once('.').with_context(|| text.clone())?;
        let nanoseconds: u64 = format!("{seconds}{fraction}").parse().with_context(|| text.clone())?;
        let sent = malformed().into_iter().find(|(reason, _, _)| line[0].starts_with(&format!("{reason}: ")));
        let (reason, _, frame) = sent.with_context(|| text.clone())?;
        ensure!(fraction.len() == 9 && (before..nanoseconds_now()?).contains(&nanoseconds), "{line:?}");
        ensure!(line[1] == "b" && line[3] == frame.len().to_string(), "{line:?}");
        ensure!(reason != "ip4_csum" || line[4] == line[3], "{line:?}");
        ensure!(line[0].contains(line[5]), "{line:?} does not name the sender");
    }
    agent.stop()
}

/// A file that may not grow is as a full disk: the frame that found no room is not there at all.
fn a_full_disk_leaves_whole_frames() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let sender = PacketSocket::sender(left, "a")?;
    let file = Scratch::new("full");
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} capture --socket {} -w {}",
        binary().display(),
        agent.socket().display(),
        file.path()
    );
    let mut limited = child::command(right, "sh")?
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let status = eventually(SOON, "the file is full", || {
        sender.send([&malformed()[0].2])?;
        limited.try_wait()?.context("it runs")
    })?;
    let mut said = String::new();
    limited.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
    ensure!(status.code() == Some(1) && said.contains(&format!("write {}", file.path())), "{status}: {said}");
    let frames = file.frames()?;
    ensure!(!frames.is_empty() && said.contains("captured, written to"), "{} frames: {said}", frames.len());
    let analysed = lossprobe(right, &["analyze", file.path(), "--output", "json"])?;
    let summary: serde_json::Value = serde_json::from_slice(&analysed.stdout)?;
    ensure!(summary["malformed"]["ip4_csum"] == frames.len() && summary["truncated"] == false, "{summary}");
    agent.stop()
}
