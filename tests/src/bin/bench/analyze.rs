//! `lossprobe analyze` on one CPU: how many frames a second of a large capture it reads, and how long tshark takes for the
//! same file, with the statistics that an operator would ask for. Both read it from memory.
//!
//! Where there is no tshark, that is said, and the rate stands alone.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::id,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;
use tests::{
    agent::lossprobe,
    capture::{Record, write_pcap},
    cpu::pinned,
    namespace::Namespace,
    program,
};

use crate::{
    flow::{PAYLOAD, answer, data, stamp},
    report::{Judged, Report, Row, Target},
    rounds::{Bench, estimate, is_narrow},
};

const PART: &str = "analyze";
const CONNECTIONS: usize = 1_000;
/// Frames of a connection before the same things happen to it again, and how often they do.
const CYCLE: usize = 100;
const CYCLES: usize = 10;
const FRAMES: usize = CONNECTIONS * CYCLES * CYCLE;
/// Segments that are lost before the capture point, and as many behind it: one of each in a cycle.
const LOST: usize = CONNECTIONS * CYCLES;

/// Frames a second that are to be reached.
const RATE: f64 = 2e6;
/// How many times as fast as tshark it has to be.
const FASTER: f64 = 20.0;

/// Nanoseconds per frame, of one round.
struct Round {
    ours: f64,
    tshark: Option<f64>,
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    if !bench.wants(PART, "") {
        return Ok(());
    }
    let tshark = program::installed("tshark");
    if let Err(missing) = &tshark {
        bench.say(&format!("{PART}: compared with nothing, for {missing:#}"));
    }
    let capture = Capture::new()?;
    let rate = |round: &Round| 1e9 / round.ours / RATE;
    let faster = |round: &Round| round.tshark.map_or(f64::NAN, |tshark| tshark / round.ours);
    let is_enough = |rounds: &[Round]| is_narrow(rounds, rate) && (tshark.is_err() || is_narrow(rounds, faster));
    let rounds = bench.rounds(PART, is_enough, |number| pinned(|| capture.round(number, tshark.is_ok())))?;
    let row = |name: &str, judged| Row {
        part: PART,
        name: name.to_owned(),
        figures: vec![
            ("ours_kframes_per_s", Some(estimate(&rounds, |round| 1e6 / round.ours).median), 0),
            ("ours_ns_per_frame", Some(estimate(&rounds, |round| round.ours).median), 0),
            (
                "tshark_ns_per_frame",
                tshark.is_ok().then(|| estimate(&rounds, |round| round.tshark.unwrap_or(f64::NAN)).median),
                0,
            ),
        ],
        judged: Some(judged),
    };
    let judged =
        Judged { of: "rate / 2 million frames a second", ratio: estimate(&rounds, rate), target: Target::AtLeast(1.0) };
    report.add(row("rate", judged));
    if tshark.is_ok() {
        let judged =
            Judged { of: "time, tshark / ours", ratio: estimate(&rounds, faster), target: Target::AtLeast(FASTER) };
        report.add(row("beside tshark", judged));
    }
    Ok(())
}

/// A file in memory, which goes with this process.
struct Capture {
    /// It has this name as long as it is open.
    path: String,
    here: Namespace,
    _file: OwnedFd,
}

impl Capture {
    fn new() -> Result<Self> {
        let file = memfd_create("capture", MFdFlags::MFD_CLOEXEC).context("make a file in memory")?;
        let path = format!("/proc/{}/fd/{}", id(), file.as_raw_fd());
        let mut connections: Vec<_> = (0..CONNECTIONS).map(Connection::new).collect();
        let record = |number: usize| Record {
            nanoseconds: 1_700_000_000_000_000_000 + 10_000 * number as u64,
            outgoing: false,
            frame: connections[number % CONNECTIONS].frame(),
        };
        write_pcap(Path::new(&path), (0..FRAMES).map(record))?;
        Ok(Self { path, here: Namespace::of_this_process()?, _file: file })
    }

    /// Both, in turns first.
    fn round(&self, number: usize, with_tshark: bool) -> Result<Round> {
        let tshark = || with_tshark.then(|| self.tshark()).transpose();
        if number.is_multiple_of(2) {
            let ours = self.ours()?;
            Ok(Round { ours, tshark: tshark()? })
        } else {
            let tshark = tshark()?;
            Ok(Round { ours: self.ours()?, tshark })
        }
    }

    fn ours(&self) -> Result<f64> {
        let started = Instant::now();
        let output = lossprobe(&self.here, &["analyze", &self.path, "--output", "json"])?;
        let time = per_frame(started);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lossprobe analyze ended with {}: {said}", output.status);
        let summary: Value = serde_json::from_slice(&output.stdout).context("read the summary")?;
        let found = ["retransmit_seen", "hole_opened", "hole_filled_retransmit"].map(|event| &summary["tcp"][event]);
        ensure!(summary["frames"] == FRAMES && found.iter().all(|count| **count == LOST), "{summary}");
        Ok(time)
    }

    fn tshark(&self) -> Result<f64> {
        let started = Instant::now();
        let text = program::run(&self.here, "tshark", &["-n", "-q", "-r", &self.path, "-z", "conv,tcp"], "")?;
        let time = per_frame(started);
        let connections = text.lines().filter(|line| line.contains(" <-> ")).count();
        ensure!(connections == CONNECTIONS, "tshark knows {connections} connections of {CONNECTIONS}: {text}");
        Ok(time)
    }
}

fn per_frame(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / FRAMES as f64
}

/// Data one way, an acknowledgement after every second segment, and losses here and there.
struct Connection {
    number: usize,
    data: Vec<u8>,
    frames: usize,
    answers: u16,
    /// Segments of data, with those that were lost.
    segments: u32,
    /// Packets of data, with those that were lost.
    packets: u16,
    /// The segment that was lost before the capture point and has not come again.
    missing: Option<u32>,
}

impl Connection {
    /// Places in a cycle: a segment is lost before the capture point, comes again; one that has passed comes again.
    const LOST_BEFORE: usize = 30;
    const FILLED: usize = 46;
    const LOST_BEHIND: usize = 61;

    fn new(number: usize) -> Self {
        Self { number, data: data(number), frames: 0, answers: 0, segments: 0, packets: 0, missing: None }
    }

    /// What passes next.
    fn frame(&mut self) -> Vec<u8> {
        let place = self.frames % CYCLE;
        self.frames += 1;
        match place {
            Self::LOST_BEFORE => {
                self.missing = Some(self.segments);
                (self.segments, self.packets) = (self.segments + 1, self.packets + 1);
                self.next()
            }
            Self::FILLED => {
                let missing = self.missing.take();
                self.segment(missing.unwrap_or(self.segments))
            }
            Self::LOST_BEHIND => self.segment(self.segments - 1),
            _ if place % 3 == 2 => self.acknowledgement(),
            _ => self.next(),
        }
    }

    fn next(&mut self) -> Vec<u8> {
        self.segments += 1;
        self.segment(self.segments - 1)
    }

    fn segment(&mut self, number: u32) -> Vec<u8> {
        stamp(&mut self.data, offset(number), self.packets);
        self.packets += 1;
        self.data.clone()
    }

    fn acknowledgement(&mut self) -> Vec<u8> {
        let mut answer = answer(self.number, offset(self.missing.unwrap_or(self.segments)));
        stamp(&mut answer, 5_000, self.answers);
        self.answers += 1;
        answer
    }
}

/// Sequence number of the first byte of a segment.
fn offset(segment: u32) -> u32 {
    1 + segment * PAYLOAD as u32
}
