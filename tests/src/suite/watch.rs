//! `lossprobe watch`: what happened is shown with its right fields, what is not shown is said, and nobody who watches
//! holds the agent up.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, ChildStdout, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    agent::{Agent, binary},
    child,
    frames::{A, B, Checksum, ethernet},
    http,
    namespace::Namespace,
    run::{kernel_version, trial, trial_alone},
    topology::{LEFT, Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

use super::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("watch::drops_have_their_fields", drops_have_their_fields),
        trial("watch::malformed_frames_and_retransmits", malformed_frames_and_retransmits),
        trial("watch::by_itself", by_itself),
        trial_alone("watch::what_is_not_shown_is_said", what_is_not_shown_is_said),
        trial("watch::nobody_is_held_up", nobody_is_held_up),
        trial("watch::only_so_many_and_only_on_the_socket", only_so_many_and_only_on_the_socket),
        trial("watch::a_pause_is_said", a_pause_is_said),
        trial("watch::ends_with_its_reader_and_its_agent", ends_with_its_reader_and_its_agent),
    ]
}

/// Fewer than the kernel shows of one kind at once.
const FEW: usize = 10;
/// For what has to be tried again on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Payload of a datagram.
const BYTES: usize = 10;

/// Drops UDP and TCP to ports 5000 and 5001.
const FILTER: &str = "table ip t {
    chain c {
        type filter hook input priority 0
        meta l4proto { tcp, udp } th dport { 5000, 5001 } drop
    }
}";

/// A running `lossprobe watch`; dropping it kills it.
struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    /// Starts it and waits until it says that it watches.
    fn start(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let mut child = child::command(namespace, binary())?
            .arg("watch")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start watch {arguments:?}"))?;
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
        let lines = BufReader::new(child.stdout.take().context("no standard output")?);
        let watch = Self { child, lines };
        let mut heard = String::new();
        while !heard.contains("watching") {
            ensure!(said.read_line(&mut heard)? > 0, "it does not watch: {heard}");
        }
        // What it says later must find room.
        thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Ok(watch)
    }

    /// By the agent.
    fn of(agent: &Agent<'_>, namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let socket = agent.socket().to_str().context("path")?;
        Self::start(namespace, &[&["--socket", socket], arguments].concat())
    }

    /// Everything until it ends by itself, which must be in order.
    fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        self.lines.read_to_string(&mut text)?;
        let status = self.ended()?;
        ensure!(status.success(), "watch ended with {status}: {text}");
        Ok(text)
    }

    /// Repeats what it is to show until it has ended by itself.
    fn while_it_runs(&mut self, mut act: impl FnMut() -> Result<()>) -> Result<()> {
        eventually(SOON, "watch has seen enough", || {
            act()?;
            self.child.try_wait()?.map(drop).context("it runs")
        })
    }

    fn ended(&mut self) -> Result<ExitStatus> {
        eventually(SOON, "watch has ended", || self.child.try_wait()?.context("it runs"))
    }

    fn interrupt(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail only when it has ended before.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn objects(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{line:?}"))).collect()
}

/// Without what is said about what was left out: the kernel may be busy with other namespaces of this machine.
fn events(text: &str) -> Result<Vec<Value>> {
    Ok(objects(text)?.into_iter().filter(|object| object["type"] != "suppressed").collect())
}

/// Each field of `expected` in `object`.
fn has(object: &Value, expected: &[(&str, Value)]) -> Result<()> {
    for (pointer, value) in expected {
        ensure!(object.pointer(pointer) == Some(value), "{pointer} is not {value} in {object}");
    }
    Ok(())
}

fn drops_have_their_fields() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(FILTER)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let count = FEW.to_string();
    let filters = ["--interface", "b", "--class", "policy", "--protocol", "udp", "--address", "10.0.0.0/24"];
    // Before 5.18 a drop has no name of its own.
    let named: &[&str] = if kernel_version()?.0 < (5, 18) { &[] } else { &filters };
    let arguments = [named, &["--type", "drop", "--port", "5000", "--count", &count, "--output", "json"]].concat();
    let mut watch = Watch::of(&agent, right, &arguments)?;
    // Several times where other namespaces use up what the kernel shows of one reason.
    watch.while_it_runs(|| {
        left.send_udp((RIGHT, 5001), FEW, BYTES)?;
        left.send_udp((RIGHT, 5000), FEW, BYTES)
    })?;
    let events = events(&watch.rest()?)?;
    ensure!(events.len() == FEW, "{} events, not {FEW}: {events:?}", events.len());
    for event in &events {
        has(
            event,
            &[
                ("/type", "drop".into()),
                ("/interface", "b".into()),
                ("/netns", "own".into()),
                ("/protocol", "udp".into()),
                ("/source/address", LEFT.to_string().into()),
                ("/destination/address", RIGHT.to_string().into()),
                ("/destination/port", 5000.into()),
                ("/packet_bytes", (20 + 8 + BYTES).into()),
                ("/segments", 1.into()),
            ],
        )?;
        if !named.is_empty() {
            has(event, &[("/reason", "netfilter_drop".into()), ("/class", "policy".into())])?;
        }
        ensure!(event["bytes"].as_str().is_some_and(|bytes| bytes.len() == 76 && bytes.starts_with("45")), "{event}");
        ensure!(event["location"].as_str().is_some_and(|location| location.contains("+0x")), "{event}");
        ensure!(event["time"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{event}");
    }
    lost_nothing(&agent)?;
    agent.stop()
}

fn malformed_frames_and_retransmits() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let mut watch = Watch::of(&agent, right, &["--type", "malformed", "--count", "1", "--output", "json"])?;
    let frame = ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1000, 2000).payload(22).bytes();
    let sender = PacketSocket::sender(left, "a")?;
    watch.while_it_runs(|| sender.send([&frame]))?;
    let found = events(&watch.rest()?)?;
    has(
        &found[0],
        &[
            ("/reason", "ip4_csum".into()),
            ("/severity", "error".into()),
            ("/direction", "ingress".into()),
            ("/interface", "b".into()),
            ("/offset", 24.into()),
            ("/packet_bytes", frame.len().into()),
        ],
    )?;
    ensure!(
        found[0]["bytes"].as_str().is_some_and(|bytes| bytes.starts_with("02000000000b02000000000a0800")),
        "{found:?}"
    );
    agent.stop()?;

    right.nft(FILTER)?;
    let agent = Agent::start(left, &["--interface", "a"])?;
    let mut watch = Watch::of(&agent, left, &["--type", "retransmit", "--count", "1", "--output", "json"])?;
    let again = thread::scope(|scope| {
        // Nobody answers: it asks again after a second.
        scope.spawn(|| {
            left.run(|| {
                let refused = std::net::TcpStream::connect_timeout(&(RIGHT, 5000).into(), Duration::from_secs(4));
                ensure!(refused.is_err(), "somebody answers");
                Ok(())
            })
        });
        events(&watch.rest()?)
    })?;
    has(
        &again[0],
        &[
            ("/reason", "syn".into()),
            ("/interface", "a".into()),
            ("/protocol", "tcp".into()),
            ("/source/address", LEFT.to_string().into()),
            ("/destination/address", RIGHT.to_string().into()),
            ("/destination/port", 5000.into()),
        ],
    )?;
    agent.stop()
}

fn by_itself() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(FILTER)?;
    let mut watch = Watch::start(right, &["--interface", "b", "--port", "5000", "--count", "3"])?;
    watch.while_it_runs(|| left.send_udp((RIGHT, 5000), FEW, BYTES))?;
    let text = watch.rest()?;
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('…')).collect();
    ensure!(lines.len() == 3, "not 3 lines: {text}");
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words.get(1) == Some(&"drop") && words.contains(&"b") && words.contains(&"udp"), "{line}");
        ensure!(line.contains("> 10.0.0.2:5000  38 bytes") && !line.contains('\x1b'), "{line}");
    }
    // Nothing happens, and the time is over; a signal; both are in order.
    let mut quiet = Watch::start(right, &["--interface", "b", "--for", "500ms"])?;
    ensure!(quiet.rest()?.lines().all(|line| line.starts_with('…')), "something was shown");
    let mut told = Watch::start(right, &["--interface", "b"])?;
    told.interrupt()?;
    told.rest()?;
    Ok(())
}

/// Events that were left out, by whom.
fn suppressed(events: &[Value], by: &str) -> u64 {
    let notices = events.iter().filter(|event| event["type"] == "suppressed" && event["by"] == by);
    notices.filter_map(|notice| notice["events"].as_u64()).sum()
}

/// Nothing is lost without a word: what is shown and what is said to be left out are what happened; or more, where other
/// namespaces of this machine drop packets, too.
fn what_is_not_shown_is_said() -> Result<()> {
    const MANY: usize = 2000;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(FILTER)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let filters = ["--interface", "b", "--port", "5000", "--output", "json"];
    for (count, rate) in [(FEW, "3"), (MANY, "0"), (MANY, "5")] {
        eventually(DEADLINE, "what happened was shown, or it was said that it was not", || {
            let mut watch = Watch::of(&agent, right, &[&filters[..], &["--for", "4s", "--rate", rate]].concat())?;
            left.send_udp((RIGHT, 5000), count, BYTES)?;
            let events = objects(&watch.rest()?)?;
            let shown = events.iter().filter(|event| event["type"] == "drop").count();
            let [kernel, agent, rate_limit] = ["kernel", "agent", "rate"].map(|by| suppressed(&events, by));
            ensure!(
                shown as u64 + kernel + agent + rate_limit >= count as u64,
                "{shown} shown, {kernel} not by the kernel, {agent} by the agent, {rate_limit} by --rate {rate}: not {count}"
            );
            ensure!(
                shown > 0 && (rate_limit > 0) == (rate != "0"),
                "{shown} shown, {rate_limit} left out by --rate {rate}"
            );
            ensure!(kernel > 0 || count < MANY, "none of {count} left out by the kernel");
            println!(
                "{count} drops, --rate {rate}: {shown} shown, left out: {kernel} kernel, {agent} agent, {rate_limit} rate"
            );
            Ok(())
        })?;
    }
    agent.stop()
}

/// Subscribes over the socket as a client does. The stream's head and greeting have been read, or the refusal.
pub(super) fn subscribe(socket: &Path) -> Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\"schema\":1}\n") && !answer.ends_with(b"the most\"}") {
        stream.read_exact(&mut byte).with_context(|| String::from_utf8_lossy(&answer).into_owned())?;
        answer.push(byte[0]);
    }
    Ok((stream, String::from_utf8(answer)?))
}

/// Clients that do not read cost nobody a packet, and the agent neither memory nor time.
fn nobody_is_held_up() -> Result<()> {
    const MANY: usize = 50_000;
    const MOST_KIB: u64 = 64 << 10;
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.nft(FILTER)?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let stuck: Vec<_> = (0..4).map(|_| subscribe(agent.socket())).collect::<Result<_>>()?;
    left.send_udp((RIGHT, 5000), MANY, BYTES)?;
    eventually(SOON, "every drop is counted", || {
        let counted = agent.metrics()?.sum("lossprobe_dropped_packets_total", &[("interface", "b")]);
        let waiting = agent.metrics()?.sum("lossprobe_drop_storm_waiting_packets", &[]);
        // Those that wait may be of other namespaces, too.
        let many = MANY as f64;
        ensure!(counted <= many && counted + waiting >= many, "{counted} counted, {waiting} wait");
        Ok(())
    })?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse()?;
    ensure!(resident < MOST_KIB, "{resident} KiB resident");
    agent.get("/metrics")?;
    agent.stop()?;
    drop(stuck);
    Ok(())
}

/// Silence is not nothing: whoever watches already is told when the agent stops counting, and when it goes on.
fn a_pause_is_said() -> Result<()> {
    let pair = Pair::new()?;
    let agent = Agent::start(&pair.right, &["--interface", "b"])?;
    let socket = agent.socket().to_str().context("path")?;
    let mut watch = Watch::start(&pair.right, &["--socket", socket, "--output", "json", "--type", "malformed"])?;
    for (order, state) in [("pause", "paused"), ("detach", "detached"), ("resume", "running")] {
        agent.order(order)?;
        // Losses of other kinds that are left out may be said, too.
        let said = loop {
            let mut line = String::new();
            watch.lines.read_line(&mut line).context("read what watch says")?;
            let object: Value = serde_json::from_str(&line).with_context(|| format!("read {line:?}"))?;
            if object["type"] != "suppressed" {
                break object;
            }
        };
        has(&said, &[("/type", "state".into()), ("/state", state.into())])?;
    }
    agent.stop()
}

fn only_so_many_and_only_on_the_socket() -> Result<()> {
    let pair = Pair::new()?;
    let right = &pair.right;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let by_tcp = http::get(right, Agent::address(), "/api/v1/watch", &[])?;
    ensure!(by_tcp.status == 404, "by TCP: {}", by_tcp.status);
    let mut watchers = Vec::new();
    for _ in 0..8 {
        let (stream, answer) = subscribe(agent.socket())?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        watchers.push(stream);
    }
    let (_stream, answer) = subscribe(agent.socket())?;
    ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("8 watch already"), "{answer}");
    // One that goes makes room.
    watchers.pop();
    eventually(SOON, "there is room again", || {
        let (_stream, answer) = subscribe(agent.socket())?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(())
    })?;
    agent.stop()
}

fn ends_with_its_reader_and_its_agent() -> Result<()> {
    let pair = Pair::new()?;
    let right = &pair.right;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let socket = agent.socket().to_str().context("path")?;
    // As in `lossprobe watch | head`: nothing comes that it could write.
    let mut unread = child::command(right, binary())?
        .args(["watch", "--interface", "b", "--socket", socket])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    drop(unread.stdout.take());
    let status = eventually(SOON, "watch has ended with its reader", || unread.try_wait()?.context("it runs"));
    let _gone = unread.kill();
    ensure!(status?.success(), "not in order");

    let mut watch = Watch::of(&agent, right, &["--interface", "b"])?;
    agent.stop()?;
    ensure!(watch.ended()?.code() == Some(1), "watch does not say that its agent has ended");
    Ok(())
}
