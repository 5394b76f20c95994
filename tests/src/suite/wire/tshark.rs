//! tshark 4.0 on TCP: what its sequence analysis says of each frame (epan/dissectors/packet-tcp.c,
//! `tcp_analyze_sequence_number`).

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use tests::{namespace::Namespace, program};

use super::agreement::Marks;

/// Rules changed in 4.2; Debian 12 has this one.
const VERSION: &str = "4.0.";

/// One of the sets of frames.
type Set = fn(&mut Marks) -> &mut BTreeSet<u64>;

/// A field of `tcp.analysis`, and where it goes. A retransmission that is fast or spurious is also just that; which of
/// them it is called depends on times that only tshark knows, so all of them are one set.
const FIELDS: &[(&str, Set)] = &[
    ("retransmission", |marks| &mut marks.again),
    ("fast_retransmission", |marks| &mut marks.again),
    ("spurious_retransmission", |marks| &mut marks.again),
    ("out_of_order", |marks| &mut marks.again),
    ("lost_segment", |marks| &mut marks.missing),
    ("keep_alive", |marks| &mut marks.keepalive),
    ("zero_window_probe", |marks| &mut marks.probe),
];

/// What tshark says of a capture, of TCP that is not inside of something else.
pub(super) fn marks(file: &Path) -> Result<Marks> {
    let here = Namespace::of_this_process()?;
    let version = program::run(&here, "tshark", &["--version"], "")?;
    let first = version.lines().next().unwrap_or_default();
    ensure!(first.contains(VERSION), "the rules are those of tshark {VERSION}x, this is {first}");
    let file = file.to_str().context("a file name in UTF-8")?;
    let mut arguments: Vec<String> =
        ["-n", "-r", file, "-Y", "tcp.analysis.flags", "-T", "fields"].map(str::to_owned).into();
    for protocol in ["ip", "tcp", "udp"] {
        arguments.extend(["-o".to_owned(), format!("{protocol}.check_checksum:TRUE")]);
    }
    let fields = FIELDS.iter().map(|(name, _)| format!("tcp.analysis.{name}"));
    for field in ["frame.number", "frame.protocols"].map(str::to_owned).into_iter().chain(fields) {
        arguments.extend(["-e".to_owned(), field]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = program::run(&here, "tshark", &arguments, "")?;
    let mut marks = Marks::default();
    for line in text.lines() {
        read(line, &mut marks).with_context(|| format!("read tshark's line {line:?}"))?;
    }
    Ok(marks)
}

fn read(line: &str, marks: &mut Marks) -> Result<()> {
    let mut fields = line.split('\t');
    let number = fields.next().context("no number")?.parse()?;
    let protocols = fields.next().context("no protocols")?;
    if protocols.split(':').filter(|protocol| ["ip", "ipv6", "tcp"].contains(protocol)).count() != 2 {
        return Ok(());
    }
    for ((_, set), value) in FIELDS.iter().zip(fields) {
        if !value.is_empty() {
            set(marks).insert(number);
        }
    }
    // A byte that asks whether the other side is still there has been sent before, too.
    marks.again.retain(|number| !marks.keepalive.contains(number));
    Ok(())
}
