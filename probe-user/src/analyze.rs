//! `lossprobe analyze`: a capture, judged frame by frame by what the kernel runs: the same classifier, the same state
//! machine of TCP; and by the rules that are too dear for every frame there ([`thorough`]). It needs no agent and no
//! privileges.
//!
//! ```text
//!  file ─ input (window) ─ capture (records) ─ link (what stands in front) ─ thorough ─┬─ lines (events)
//!                                                                              flows ──┴─ summary
//! ```
//!
//! Memory is bounded whatever the file says: a window of half a MiB, so many flows, so many rows. Deliberately absent:
//! what a capture does not tell (a device's MTU, whether it is a physical one), and so `eth_oversize` and `eth_runt`;
//! and the checksums of what the kernel may have merged, unless they are right.

mod capture;
mod flows;
mod input;
mod interrupt;
mod lines;
mod link;
mod loss;
mod summary;
mod vantage;

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, IsTerminal as _, LineWriter, Read, Stdout, Write},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use probe_ebpf::{
    classify::{Finding, LOOPBACK, Layer, Meta, TunnelPorts},
    frame::Frame as _,
    reason::{Malformed, Severity},
    thorough::{self, Judged},
};

use self::{
    capture::{Broken, Capture, Record},
    flows::{Checksum, Flows},
    interrupt::Interruptible,
    lines::Lines,
    link::Opened,
    vantage::Vantage,
};
pub use self::{
    loss::Loss,
    summary::Summary,
    vantage::{Heading, Inside},
};
use crate::{
    cli::{AnalyzeArgs, Output},
    config::tunnel_ports,
};

/// Frames between two looks at the progress and at who reads the events.
const FRAMES_PER_LOOK: u64 = 4096;
/// Longest frame of an Ethernet of 1,500 bytes, with two tags and checksum: what is longer the kernel may have merged.
const LONGEST_FRAME_BYTES: u32 = 1526;
/// What the kernel is taken to have merged where it left the length out of the IP header.
const USUAL_GSO_BYTES: u32 = 1448;

/// Analyses what was asked for and prints what came of it. Returns whether it was read to its end, `false` after Ctrl-C.
///
/// # Errors
/// If the file cannot be read, is no capture, or is corrupt: then what stands before the fault was printed.
pub fn run(args: &AnalyzeArgs) -> Result<bool> {
    let name = args.file.display().to_string();
    let is_stream = args.file == Path::new("-");
    let (file, bytes) = if is_stream {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("cannot read standard input")?;
        (File::from(stdin), None)
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot look at {name}"))?;
        if metadata.is_dir() {
            bail!("{name} is a directory; name a capture file");
        }
        (file, metadata.is_file().then_some(metadata.len()))
    };
    let mut from = Interruptible::new(file).context("wait for Ctrl-C")?;
    let stdout = std::io::stdout();
    let bar = progress_bar(bytes, args.events && stdout.is_terminal());
    let mut out = Out::new(stdout, is_stream);
    let tunnels = tunnel_ports(&args.tunnel_port)?;
    let options = Options { inside: args.vantage.clone(), tunnels, top: args.top.into() };
    let analysed = analyze(&mut from, &options, args.events.then_some(&mut out as &mut dyn Write), |bytes, frames| {
        bar.set_position(bytes);
        bar.set_message(frames.to_string());
    });
    bar.finish_and_clear();
    let mut summary = match analysed {
        Ok(summary) => summary,
        Err(Failure::Foreign(_)) if from.is_interrupted() => {
            eprintln!("lossprobe: warning: interrupted before anything of {name} was read");
            return Ok(false);
        }
        Err(Failure::Foreign(fault)) => bail!("{name}: {fault}"),
        // Whoever reads the events has seen enough.
        Err(Failure::Unwritten(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(true),
        Err(Failure::Unwritten(error)) => return Err(anyhow!(error).context("write to standard output")),
    };
    if from.is_interrupted() {
        summary.interrupt();
    }
    let shown = match args.output {
        Output::Json => summary.json(&name) + "\n",
        // Events are for programs: nothing else stands among them.
        Output::Table if args.events => String::new(),
        Output::Table => out.table(&summary, &name),
    };
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        outcome => outcome.context("write to standard output")?,
    }
    if summary.interrupted {
        let frames = summary.frames;
        eprintln!("lossprobe: warning: interrupted; what was analysed are the first {frames} frames of {name}");
    }
    if let Some(at) = summary.truncated_at {
        eprintln!("lossprobe: warning: {name} ends inside the record at byte {at}; all before it was analysed");
    }
    match summary.corrupt {
        Some(fault) => bail!("{name} is corrupt: {}, at byte {}; all before it was analysed", fault.cause, fault.at),
        None => Ok(!summary.interrupted),
    }
}

/// What the progress bar shows of a file, and of a stream.
const BARS: [&str; 2] = [
    "{bar:40} {percent:>3} %  {msg} frames  {binary_bytes_per_sec}  {eta} left",
    "{spinner} {binary_bytes}  {msg} frames  {binary_bytes_per_sec}",
];

/// Hidden where nobody would see it, and where it would be among events.
fn progress_bar(bytes: Option<u64>, is_hidden: bool) -> ProgressBar {
    let [file, stream] = BARS;
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), file),
        None => (ProgressBar::new_spinner(), stream),
    };
    let target = if is_hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    bar.set_draw_target(target);
    // A test reads the templates.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Standard output: what comes from a file in large pieces, what comes from a stream line by line, as it happens.
enum Out {
    Pieces(BufWriter<Stdout>),
    Lines(LineWriter<Stdout>),
}

impl Out {
    fn new(stdout: Stdout, is_stream: bool) -> Self {
        if is_stream {
            Self::Lines(LineWriter::new(stdout))
        } else {
            Self::Pieces(BufWriter::with_capacity(1 << 16, stdout))
        }
    }

    fn table(&self, summary: &Summary, name: &str) -> String {
        let stdout = match self {
            Self::Pieces(out) => out.get_ref(),
            Self::Lines(out) => out.get_ref(),
        };
        let width = terminal_size::terminal_size_of(stdout).map(|(width, _)| width.0);
        summary.table(name, width, stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Pieces(out) => out.write(bytes),
            Self::Lines(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Pieces(out) => out.flush(),
            Self::Lines(out) => out.flush(),
        }
    }
}

/// How to analyse.
#[derive(Clone, Debug)]
pub struct Options {
    /// What lies inside, behind the capture point as seen from the network; empty if nobody said.
    pub inside: Vec<Inside>,
    /// Ports of tunnels.
    pub tunnels: TunnelPorts,
    /// Flows to list.
    pub top: usize,
}

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It is no capture.
    #[error("{0}")]
    Foreign(String),
    /// Events could not be written.
    #[error("events cannot be written: {0}")]
    Unwritten(std::io::Error),
}

/// Analyses a capture up to its end, or up to where it is broken. Events go to `events` as JSON Lines; `look` is told
/// from time to time how many bytes and frames were read.
///
/// # Errors
/// If it is no capture, or events cannot be written.
pub fn analyze(
    from: impl Read,
    options: &Options,
    events: Option<&mut dyn Write>,
    mut look: impl FnMut(u64, u64),
) -> Result<Summary, Failure> {
    let mut analysis = Analysis {
        summary: Summary::default(),
        tunnels: options.tunnels,
        malformed: [0; Malformed::ALL.len()],
        flows: Flows::new(Vantage { inside: options.inside.clone() }, options.top),
        lines: Lines::new(events),
    };
    let mut capture = match Capture::open(from) {
        Ok(capture) => capture,
        Err(Broken::Corrupt { cause, .. }) => return Err(Failure::Foreign(cause)),
        Err(broken) => return Ok(analysis.finish(&|_| String::new(), Some(broken))),
    };
    analysis.summary.format = capture.format();
    let broken = loop {
        match capture.next() {
            Ok(Some(record)) => analysis.take(&record),
            Ok(None) => break None,
            Err(broken) => break Some(broken),
        }
        if analysis.lines.frame.is_multiple_of(FRAMES_PER_LOOK) {
            analysis.lines.take_outcome().map_err(Failure::Unwritten)?;
            look(capture.read_bytes(), analysis.lines.frame);
        }
    };
    analysis.lines.take_outcome().map_err(Failure::Unwritten)?;
    let name = |point: u32| match point.checked_sub(1 << 31) {
        Some(index) => format!("#{index}"),
        None => capture.interface(point).map_or_else(String::new, |interface| interface.name.clone()),
    };
    Ok(analysis.finish(&name, broken))
}

/// What was found so far.
struct Analysis<'o> {
    summary: Summary,
    tunnels: TunnelPorts,
    /// By the number of the reason.
    malformed: [u64; Malformed::ALL.len()],
    flows: Flows,
    lines: Lines<'o>,
}

impl Analysis<'_> {
    #[inline]
    fn take(&mut self, record: &Record<'_>) {
        self.lines.frame += 1;
        self.summary.note(record);
        let mut frame = match link::open(record) {
            Opened::Frame(frame) => frame,
            Opened::Skipped => return self.summary.skip(record.link_type),
            Opened::Unseen => {
                self.summary.unseen_frames += 1;
                return;
            }
            Opened::Other => {
                self.summary.other_frames += 1;
                return;
            }
        };
        frame.meta.tunnels = self.tunnels;
        let Judged { packet, tunnel, outcome, finding, is_sound } = judge(frame.bytes, frame.meta);
        frame.tunnel = tunnel;
        match outcome {
            Layer::Other => self.summary.other_frames += 1,
            Layer::Control => self.summary.control_frames += 1,
            Layer::Unseen => self.summary.unseen_frames += 1,
            _ => {}
        }
        if let Some(finding) = finding {
            self.malformed[finding.reason as usize] += 1;
            self.lines.malformed(finding, frame.link_bytes);
        }
        if is_sound {
            let checksum = match finding {
                Some(finding) if finding.reason.severity() >= Severity::Warning => Checksum::Wrong,
                // What was cut or merged has none that could be looked at.
                _ if frame.meta.frame_bytes > frame.bytes.len().min(LONGEST_FRAME_BYTES as usize) as u32 => {
                    Checksum::Unknown
                }
                _ => Checksum::Right,
            };
            self.flows.observe(&frame, (&packet, checksum), record.time_ns, &mut self.lines);
        }
    }

    fn finish(self, interface: &dyn Fn(u32) -> String, broken: Option<Broken>) -> Summary {
        let mut summary = self.summary;
        summary.frames = self.lines.frame;
        let found = Malformed::ALL.iter().zip(self.malformed).filter(|(_, count)| *count > 0);
        summary.malformed = found.map(|(reason, count)| (reason.id(), count)).collect();
        summary.add_flows(self.flows.finish(), interface);
        summary.end(broken);
        summary
    }
}

/// Judges a frame in circumstances that a hook knows and a capture does not tell.
#[inline]
fn judge(bytes: &[u8], meta: Meta) -> Judged {
    // Linux' loopback device, and nothing else, has no addresses.
    let is_loopback = meta.first_protocol == 0 && bytes.read(0) == Some([0_u8; 12]);
    let meta = Meta { flags: if is_loopback { meta.flags | LOOPBACK } else { meta.flags }, ..meta };
    let judged = thorough::judge(bytes, meta);
    // A merged packet may have no length, and the checksum of one of its segments.
    let may_be_merged = match judged.finding {
        Some(Finding { reason: Malformed::Ip4LenLtHdr, at }) => bytes.read(at.into()) == Some([0_u8; 2]),
        Some(Finding { reason: Malformed::Ip6Plen0 | Malformed::TcpCsum | Malformed::UdpCsum, .. }) => true,
        _ => false,
    };
    if may_be_merged && meta.frame_bytes > LONGEST_FRAME_BYTES {
        return thorough::judge(bytes, Meta { gso_size: USUAL_GSO_BYTES, ..meta });
    }
    judged
}

#[cfg(test)]
mod tests;
