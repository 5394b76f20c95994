//! What came of a capture: one object for programs, tables for people.

use std::{collections::BTreeMap, fmt::Write as _};

use probe_ebpf::{
    flow::{self, Quality, TcpEvent},
    reason::{Malformed, Severity},
};
use serde::Serialize;

use super::{
    capture::{Broken, Record},
    flows::{Direction, Sums, Totals},
    link,
    loss::Loss,
    vantage::Heading,
};
use crate::inspect::{
    flows::seen_at,
    stats::{Listing, Page, Style, grouped, printable},
};

/// Version of the JSON form. Keys are added, never renamed.
const SCHEMA: u32 = 1;

/// What was found in a capture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// `pcap` or `pcapng`, `""` if it ends before that is known.
    pub format: &'static str,
    /// Frames that were read.
    pub frames: u64,
    /// How long they were together, link headers included.
    pub bytes: u64,
    /// Of them, those that were not captured whole.
    pub cut_frames: u64,
    /// Of them, those in which something is neither IP, ARP nor otherwise understood.
    pub other_frames: u64,
    /// Of them, those of protocols that are about the link itself: STP, LLDP, LACP and the like.
    pub control_frames: u64,
    /// Of them, those whose headers reach beyond what was captured, or beyond a bound of the classifier.
    pub unseen_frames: u64,
    /// Time of the first frame that has one; RFC 3339.
    pub first_time: Option<String>,
    /// Time of the last.
    pub last_time: Option<String>,
    /// Frames that contradict themselves by reason: the gravest finding of each, among equals the outermost.
    pub malformed: BTreeMap<&'static str, u64>,
    /// TCP segments judged.
    pub tcp_segments: u64,
    /// What they say of those before them, in segments, at each interface.
    pub tcp: BTreeMap<&'static str, u64>,
    /// Why less was seen than there was.
    pub tcp_quality: BTreeMap<&'static str, u64>,
    /// Packets that the capture has twice, in and out or at another interface: their losses count once.
    pub tcp_seen_twice: u64,
    /// What TCP has lost.
    pub loss: Losses,
    /// TCP connections.
    pub flows_seen: u64,
    /// Of them, those that were forgotten for want of room; what they had lost is counted.
    pub flows_evicted: u64,
    /// The directions of connections that have lost most.
    pub flows: Vec<Flow>,
    /// Frames that were skipped, by link type.
    pub skipped_link_types: Vec<Skipped>,
    /// Whether the file ends inside a record.
    pub truncated: bool,
    /// Where that record begins.
    pub truncated_at: Option<u64>,
    /// Whether somebody did not want to wait for its end.
    pub interrupted: bool,
    /// What is wrong with the file: nothing behind it was read.
    pub corrupt: Option<Corrupt>,
    /// By link type.
    #[serde(skip)]
    skipped_frames: BTreeMap<u32, u64>,
    #[serde(skip)]
    times_ns: Option<(u64, u64)>,
}

/// Segments that TCP has lost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Losses {
    /// Before they came to the capture point.
    pub before: Loss,
    /// Behind it.
    pub after: Loss,
    /// By side, where it is known what lies inside.
    #[serde(flatten)]
    pub sides: Option<Sides>,
}

/// Segments that were lost on each side of the capture point.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sides {
    /// Outside, on their way in.
    pub network_in: Loss,
    /// Outside, on their way out.
    pub network_out: Loss,
    /// Inside.
    pub inside: Loss,
    /// Segments of which it is not known which way they went.
    pub across_segments: u64,
}

/// One direction of a connection.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// Address and port of the sender.
    pub source: String,
    /// And of the receiver.
    pub destination: String,
    /// Where it was seen, `""` if the capture does not say.
    pub interface: String,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// Network identifier of the tunnel that it is in, if it is.
    pub tunnel: Option<u32>,
    /// Which way it goes.
    pub heading: Heading,
    /// Segments seen.
    pub segments: u64,
    /// Segments lost before the capture point.
    pub lost_before: u64,
    /// Segments lost behind it.
    pub lost_after: u64,
    /// Both together.
    pub loss: Loss,
    /// Round trip of the handshake, where it was seen.
    pub round_trip_us: Option<u32>,
    /// Whether IP identifiers tell what was lost before; else only holes do, of which a lost tail leaves none.
    pub identified: bool,
}

/// Frames of a link type that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its number in the registry.
    pub link_type: u32,
    /// Its name there, or `unknown`.
    pub name: &'static str,
    /// How many.
    pub frames: u64,
}

/// Where a file is at fault, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Corrupt {
    /// Offset of the record.
    pub at: u64,
    /// What is wrong with it.
    pub cause: String,
}

impl Summary {
    /// Notes what a record says of its frame.
    #[inline]
    pub(super) fn note(&mut self, record: &Record<'_>) {
        self.bytes += u64::from(record.frame_bytes);
        self.cut_frames += u64::from(record.bytes.len() < record.frame_bytes as usize);
        if record.time_ns != 0 {
            let (first, last) = self.times_ns.unwrap_or((record.time_ns, record.time_ns));
            self.times_ns = Some((first.min(record.time_ns), last.max(record.time_ns)));
        }
    }

    /// Notes a frame that is not read.
    #[cold]
    pub(super) fn skip(&mut self, link_type: u32) {
        *self.skipped_frames.entry(link_type).or_default() += 1;
    }

    pub(super) fn add_flows(&mut self, totals: Totals, interface: &dyn Fn(u32) -> String) {
        let [inward, outward, across] = totals.losses;
        let sum = |field: fn(&Sums) -> u64| totals.losses.iter().map(field).sum::<u64>();
        let (segments, before, after) = (sum(|of| of.segments), sum(|of| of.before), sum(|of| of.after));
        self.tcp_segments = totals.segments;
        self.tcp = TcpEvent::ALL.iter().map(|event| (event.id(), totals.ledger.of(*event))).collect();
        let quality = Quality::ALL.iter().map(|cause| (cause.id(), totals.ledger.quality[*cause as usize]));
        // What only a kernel's table can say.
        self.tcp_quality = quality.filter(|(id, _)| !matches!(*id, "cpu_move" | "table_full")).collect();
        self.tcp_seen_twice = totals.seen_twice;
        self.loss = Losses {
            before: Loss::new(before, segments + before),
            after: Loss::new(after, segments),
            sides: (inward.segments + outward.segments > 0).then(|| Sides {
                network_in: Loss::new(inward.before, inward.segments + inward.before),
                network_out: Loss::new(outward.after, outward.segments),
                inside: Loss::new(inward.after + outward.before, inward.segments + outward.segments + outward.before),
                across_segments: across.segments,
            }),
        };
        self.flows_seen = totals.flows;
        self.flows_evicted = totals.evicted;
        self.flows = totals.worst.into_sorted().into_iter().map(|of| Flow::new(&of, interface(of.point))).collect();
    }

    pub(super) fn end(&mut self, broken: Option<Broken>) {
        let skipped = std::mem::take(&mut self.skipped_frames).into_iter();
        self.skipped_link_types =
            skipped.map(|(link_type, frames)| Skipped { link_type, name: link::name(link_type), frames }).collect();
        let time =
            |ns: u64| jiff::Timestamp::from_nanosecond(ns.into()).map_or_else(|_| String::new(), |at| at.to_string());
        if let Some((first, last)) = self.times_ns {
            (self.first_time, self.last_time) = (Some(time(first)), Some(time(last)));
        }
        match broken {
            Some(Broken::Truncated { at }) => (self.truncated, self.truncated_at) = (true, Some(at)),
            Some(Broken::Corrupt { at, cause }) => self.corrupt = Some(Corrupt { at, cause }),
            None => {}
        }
    }

    /// It was not read to its end, which may lie inside a record.
    pub(super) fn interrupt(&mut self) {
        (self.interrupted, self.truncated, self.truncated_at) = (true, false, None);
    }

    /// One line of JSON without a newline; `file` as it was named.
    #[must_use]
    pub fn json(&self, file: &str) -> String {
        #[derive(Serialize)]
        struct Document<'s> {
            schema: u32,
            file: &'s str,
            #[serde(flatten)]
            summary: &'s Summary,
        }
        // Only maps with keys that are no strings fail, and there are none.
        serde_json::to_string(&Document { schema: SCHEMA, file, summary: self }).unwrap_or_default()
    }

    /// Tables for people; ends with a newline.
    #[must_use]
    pub fn table(&self, file: &str, width: Option<u16>, colour: bool) -> String {
        let page = Page { width, colour };
        let mut text = self.head(file);
        if self.malformed.is_empty() {
            text.push_str("\nNothing malformed.\n");
        } else {
            text.push('\n');
            page.table(&mut text, self.malformed());
        }
        let events: Vec<_> = TcpEvent::ALL.iter().filter(|event| self.events(**event) > 0).collect();
        if self.tcp_segments > 0 && events.is_empty() {
            text.push_str("\nTCP: nothing but segments in order.\n");
        } else if !events.is_empty() {
            let row = |event: &&TcpEvent| {
                let cells = vec![event.id().to_owned(), event.meaning().to_owned(), grouped(self.events(**event))];
                (Style::Plain, cells)
            };
            let rows = events.iter().map(row).collect();
            text.push('\n');
            page.table(&mut text, Listing { header: vec!["TCP", "meaning", "segments"], texts: 2, rows });
        }
        if self.tcp_segments > 0 {
            text.push('\n');
            page.table(&mut text, self.losses());
        }
        if !self.flows.is_empty() {
            text.push('\n');
            page.table(&mut text, self.worst());
        }
        self.notes(&mut text);
        text
    }

    fn head(&self, file: &str) -> String {
        let mut text =
            format!("{}: {}", printable(file), if self.format.is_empty() { "a capture" } else { self.format });
        let _infallible = write!(text, ", {} frames, {} bytes", grouped(self.frames), grouped(self.bytes));
        if let (Some(first), Some(last)) = (&self.first_time, &self.last_time) {
            let _infallible = write!(text, ", {first} to {last}");
        }
        text.push('\n');
        text
    }

    fn events(&self, event: TcpEvent) -> u64 {
        self.tcp.get(event.id()).copied().unwrap_or(0)
    }

    /// The gravest and most frequent first.
    fn malformed(&self) -> Listing {
        let count = |reason: &Malformed| self.malformed.get(reason.id()).copied().unwrap_or(0);
        let mut found: Vec<_> = Malformed::ALL.iter().map(|reason| (count(reason), reason)).collect();
        found.retain(|(count, _)| *count > 0);
        found.sort_by_key(|(count, reason)| (std::cmp::Reverse((reason.severity(), *count)), reason.id()));
        let row = |(count, reason): &(u64, &Malformed)| {
            let style = match reason.severity() {
                Severity::Error => Style::Error,
                Severity::Warning => Style::Plain,
                Severity::Info => Style::Dim,
            };
            let texts = [reason.id(), reason.severity().id(), reason.layer(), reason.meaning()];
            (style, texts.map(str::to_owned).into_iter().chain([grouped(*count)]).collect())
        };
        let header = vec!["malformed", "severity", "layer", "meaning", "frames"];
        Listing { header, texts: 4, rows: found.iter().map(row).collect() }
    }

    fn losses(&self) -> Listing {
        let Losses { before, after, sides } = self.loss;
        let mut rows = vec![("before the capture point", before), ("behind the capture point", after)];
        if let Some(Sides { network_in, network_out, inside, .. }) = sides {
            rows.push(("outside, on the way in (network_in)", network_in));
            rows.push(("outside, on the way out (network_out)", network_out));
            rows.push(("inside", inside));
        }
        let row = |(place, loss): (&str, Loss)| {
            let style = if loss.lost > 0 { Style::Error } else { Style::Plain };
            let cells = [grouped(loss.lost), grouped(loss.of), percent(loss.ratio), interval(&loss)];
            (style, [place.to_owned()].into_iter().chain(cells).collect())
        };
        let header = vec!["TCP segments lost", "lost", "of", "ratio", "95 % interval"];
        Listing { header, texts: 1, rows: rows.into_iter().map(row).collect() }
    }

    fn worst(&self) -> Listing {
        let row = |flow: &Flow| {
            let place = seen_at(&flow.interface, &flow.vlans, flow.tunnel);
            let figures = [flow.lost_before, flow.lost_after, flow.segments].map(grouped);
            let texts = [flow.source.clone(), flow.destination.clone(), place];
            let ratios = [percent(flow.loss.ratio), interval(&flow.loss)];
            (Style::Plain, texts.into_iter().chain(figures).chain(ratios).collect())
        };
        let header =
            vec!["lost most: from", "to", "at", "lost before", "behind", "segments seen", "ratio", "95 % interval"];
        Listing { header, texts: 3, rows: self.flows.iter().map(row).collect() }
    }

    /// Everything that makes the figures above less than the truth.
    fn notes(&self, text: &mut String) {
        let mut notes = Vec::new();
        for Skipped { link_type, name, frames } in &self.skipped_link_types {
            notes.push(format!("{} frames of link type {link_type} ({name}) were skipped.", grouped(*frames)));
        }
        for (frames, what) in [
            (self.unseen_frames, "have headers that were not captured, or reach beyond a bound of the classifier"),
            (self.other_frames, "hold something that is not judged (neither IP nor ARP, or another protocol in it)"),
            (self.control_frames, "are of the link itself (STP, LLDP, LACP and the like)"),
        ] {
            if frames > 0 {
                notes.push(format!("{} frames {what}.", grouped(frames)));
            }
        }
        if self.flows_evicted > 0 {
            let (evicted, seen) = (grouped(self.flows_evicted), grouped(self.flows_seen));
            notes.push(format!("{evicted} of {seen} TCP connections were forgotten for want of room."));
        }
        if self.tcp_seen_twice > 0 {
            let twice = grouped(self.tcp_seen_twice);
            notes.push(format!("{twice} TCP packets are in the capture twice, in and out or at another interface: their losses count once."));
        }
        let quality = |cause: Quality| self.tcp_quality.get(cause.id()).copied().unwrap_or(0);
        let unseen = quality(Quality::AckedUnseen);
        if unseen > 0 {
            let unseen = grouped(unseen);
            notes.push(format!(
                "{unseen} times bytes were acknowledged that are not in the capture: it has gaps, or they went another way."
            ));
        }
        if !notes.is_empty() {
            text.push('\n');
            text.push_str(&notes.join("\n"));
            text.push('\n');
        }
    }
}

impl Flow {
    fn new(of: &Direction, interface: String) -> Self {
        Self {
            source: of.source.to_string(),
            destination: of.destination.to_string(),
            interface,
            vlans: flow::vlans(of.encapsulation).into_iter().filter(|vlan| *vlan != 0).collect(),
            tunnel: flow::tunnel(of.encapsulation),
            heading: of.heading,
            segments: of.segments,
            lost_before: of.before,
            lost_after: of.after,
            loss: Loss::new(of.before + of.after, of.segments + of.before),
            round_trip_us: of.round_trip_us,
            identified: of.is_identified,
        }
    }
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{:.3} %", 100.0 * ratio))
}

fn interval(loss: &Loss) -> String {
    loss.interval.map_or_else(|| "–".to_owned(), |[low, high]| format!("{:.3} to {:.3} %", 100.0 * low, 100.0 * high))
}
