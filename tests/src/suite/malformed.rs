//! The classifier: a table of frames ([`mod@rows`], [`legal`]) and a generator ([`random`]), each judged on the host and
//! by the kernel's own copy of the program ([`kernel`]), with equal results.
//!
//! What cannot be given to `BPF_PROG_TEST_RUN` runs on the host only ([`Row::in_kernel`]): frames under 15 bytes
//! or with less than the IP header that their type promises, tags that were taken out of the frame, devices without
//! Ethernet header. The first two are sent over a veth here as far as Linux lets them (14 bytes), the others live in
//! `exact`.
#![expect(clippy::needless_pass_by_value, reason = "a row reads better without references")]

mod carriers;
mod kernel;
mod legal;
mod random;
mod rows;
mod thorough;
mod tshark;
mod tunnels;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use probe_ebpf::{
    abi::{Traffic, WINDOW_BYTES},
    classify::{Cursor, FROM_WIRE, Finding, LOOPBACK, Layer, Meta, Packet, classify},
    fast::{self, Ordinary},
    reason::{Malformed, Severity},
    thorough::judge,
};
use tests::{
    agent::Agent,
    frames::Frame,
    run::{is_full, trial},
    topology::Pair,
    wait::eventually,
    wire::PacketSocket,
};

use super::wire::collection;
use kernel::{Hook, Kernel, View};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("malformed::every_reason_has_a_row", every_reason_has_a_row),
        trial("malformed::rows_on_the_host", rows_on_the_host),
        trial("malformed::rows_in_the_kernel", || rows_in_the_kernel(Hook::Tc)),
        trial("malformed::rows_in_the_kernel_by_xdp", || rows_in_the_kernel(Hook::Xdp)),
        trial("malformed::checksums_in_the_kernel", checksums_in_the_kernel),
        trial("malformed::rows_on_a_wire", rows_on_a_wire),
        trial("malformed::what_is_cut_is_not_well_formed", what_is_cut_is_not_well_formed),
        trial("malformed::fast_path_takes_the_ordinary", fast_path_takes_the_ordinary),
        trial("malformed::fast_path_implies_classifier", random::fast_path_implies_classifier),
        trial("malformed::random_frames_in_the_kernel", || random::in_the_kernel(Hook::Tc)),
        trial("malformed::random_frames_in_the_kernel_by_xdp", || random::in_the_kernel(Hook::Xdp)),
    ]
}

/// With tshark, which guests do not have.
pub(super) fn host_trials() -> Vec<Trial> {
    let rows = trial("malformed::tshark_agrees_on_the_rows", tshark::agrees_on_the_rows);
    let collection = if is_full() { collection::folder() } else { None };
    let collection = collection.map(|folder| {
        trial("malformed::tshark_agrees_on_the_collection", move || tshark::agrees_on_the_collection(&folder))
    });
    [rows].into_iter().chain(collection).collect()
}

/// A frame and what is to be said of it.
struct Row {
    name: &'static str,
    frame: Vec<u8>,
    meta: Meta,
    expected: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// This contradiction at this offset.
    Malformed(Malformed, u16),
    /// No contradiction, everything understood.
    WellFormed(Packet),
    /// No contradiction in the headers, which is all that the kernel looks at in every frame; but this one in what they
    /// describe.
    Thoroughly(Malformed, u16),
    /// No contradiction, not everything understood.
    NotUnderstood,
    /// No contradiction, a protocol of the link itself.
    Control,
    /// Well formed, but the headers reach beyond the window.
    BeyondWindow(Packet),
}

impl Expected {
    /// What is to be found in a frame that is there whole.
    const fn finding(self) -> Option<Finding> {
        match self {
            Self::Malformed(reason, at) | Self::Thoroughly(reason, at) => Some(Finding { reason, at }),
            Self::WellFormed(_) | Self::NotUnderstood | Self::Control | Self::BeyondWindow(_) => None,
        }
    }
}

fn rows() -> Vec<Row> {
    [rows::contradictions(), legal::exceptions(), tunnels::rows(), carriers::rows(), thorough::rows()]
        .into_iter()
        .flatten()
        .collect()
}

fn row(name: &'static str, frame: &Frame, meta: Meta, expected: Expected) -> Row {
    let frame = frame.bytes();
    Row { name, meta: Meta { frame_bytes: frame.len() as u32, ..meta }, frame, expected }
}

fn bad(name: &'static str, frame: Frame, meta: Meta, reason: Malformed, at: u16) -> Row {
    row(name, &frame, meta, Expected::Malformed(reason, at))
}

fn good(name: &'static str, frame: Frame, meta: Meta, packet: Packet) -> Row {
    row(name, &frame, meta, Expected::WellFormed(packet))
}

fn other(name: &'static str, frame: Frame, meta: Meta) -> Row {
    row(name, &frame, meta, Expected::NotUnderstood)
}

fn control(name: &'static str, frame: Frame, meta: Meta) -> Row {
    row(name, &frame, meta, Expected::Control)
}

/// What only the rules of user space find.
fn thoroughly(name: &'static str, frame: Frame, meta: Meta, reason: Malformed, at: u16) -> Row {
    row(name, &frame, meta, Expected::Thoroughly(reason, at))
}

fn beyond(name: &'static str, frame: Frame, meta: Meta, packet: Packet) -> Row {
    row(name, &frame, meta, Expected::BeyondWindow(packet))
}

/// A frame on a virtual device.
fn veth() -> Meta {
    Meta { mtu_bytes: 1500, ..Meta::default() }
}

/// A frame that a network card received.
fn physical() -> Meta {
    Meta { flags: FROM_WIRE, ..veth() }
}

fn loopback() -> Meta {
    Meta { flags: LOOPBACK, mtu_bytes: 65_536, ..Meta::default() }
}

/// A packet of segments with that much payload each.
fn gso(payload_bytes: u32) -> Meta {
    Meta { gso_size: payload_bytes, ..veth() }
}

/// A frame whose tag the network card took out.
fn stripped(tag_protocol: u16, tag_control: u16) -> Meta {
    Meta { tag_protocol, tag_control, ..veth() }
}

/// A packet of a device without Ethernet header.
fn network(first_protocol: u16) -> Meta {
    Meta { first_protocol, ..veth() }
}

impl Row {
    fn check_on_host(&self) -> Result<()> {
        let Self { name, frame, meta, expected } = self;
        let (cursor, outcome) = classify(&frame[..], *meta);
        let seen = match (cursor.finding(), outcome) {
            (Some(Finding { reason, at }), _) => Expected::Malformed(reason, at),
            (None, Layer::End) => Expected::WellFormed(cursor.packet),
            (None, Layer::Other) => Expected::NotUnderstood,
            (None, Layer::Control) => Expected::Control,
            (None, end) => bail!("row {name:?} ends in {end:?}: {cursor:?}"),
        };
        let in_window = classify(window(frame), *meta);
        if let Expected::BeyondWindow(packet) = expected {
            ensure!(seen == Expected::WellFormed(*packet), "row {name:?}: expected {packet:?}, got {seen:?}");
            ensure!(in_window.1 == Layer::Unseen && in_window.0.finding().is_none(), "row {name:?}: {in_window:?}");
        } else {
            let of_the_headers = match expected {
                Expected::Thoroughly(..) => cursor.finding().is_none(),
                expected => seen == *expected,
            };
            ensure!(of_the_headers, "row {name:?}: expected {expected:?}, got {seen:?} of {frame:02x?}");
            ensure!(in_window == (cursor, outcome), "row {name:?}: from {WINDOW_BYTES} bytes {in_window:?}");
        }
        let judged = judge(frame, *meta);
        ensure!(judged.finding == expected.finding(), "row {name:?}: judged {judged:?}, {expected:?} of {frame:02x?}");
        ensure!(judged.outcome == outcome && judged.packet == cursor.packet, "row {name:?}: {judged:?}, {cursor:?}");
        // An exception may need the classifier, a contradiction always does.
        let plainly = fast::ordinary(&frame[..], meta);
        let agrees = match (plainly, expected) {
            (None, _) | (Some(_), Expected::Thoroughly(..)) => true,
            (Some(ordinary), Expected::WellFormed(expected)) => ordinary.packet == *expected,
            (Some(_), _) => false,
        };
        ensure!(agrees, "row {name:?}: the fast path says {plainly:?}");
        Ok(())
    }

    fn in_kernel(&self) -> bool {
        kernel::can_run(Hook::Tc, &self.frame, &self.meta)
    }
}

/// What the kernel's program can see of a frame.
fn window(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(WINDOW_BYTES)]
}

/// What the program must have written: the classifier's state unless the fast path took the frame, and the counters.
fn model(frame: &[u8], meta: &Meta, gso_segs: u32) -> (Option<(Cursor, Layer)>, Traffic) {
    let examined = fast::ordinary(frame, meta).map_or_else(|| Err(classify(window(frame), *meta)), Ok);
    let (packet, outcome) = match &examined {
        Ok(ordinary) => (ordinary.packet, Layer::End),
        Err((cursor, outcome)) => (cursor.packet, *outcome),
    };
    let (bytes, header_bytes) = (u64::from(meta.frame_bytes), u64::from(packet.header_bytes));
    let segments = match (meta.gso_size, gso_segs) {
        (0, _) => 1,
        (size, 0) => bytes.saturating_sub(header_bytes).div_ceil(u64::from(size)).max(1),
        (_, segments) => u64::from(segments),
    };
    let traffic = Traffic {
        frames: segments,
        bytes: bytes + (segments - 1) * header_bytes,
        unseen_frames: u64::from(outcome == Layer::Unseen),
        other_frames: u64::from(outcome == Layer::Other),
        tcp_segments: 0,
        control_frames: u64::from(outcome == Layer::Control),
    };
    (examined.err(), traffic)
}

/// Ethernet frames whose verdict needs nothing that a capture does not tell, and what has to be found in each.
pub(super) fn rows_of_a_capture() -> Vec<(Vec<u8>, Option<Finding>)> {
    let is_told = |row: &Row| {
        let Meta { frame_bytes, mtu_bytes, .. } = row.meta;
        row.meta == Meta { frame_bytes, mtu_bytes, ..Meta::default() }
            && !matches!(row.expected, Expected::Malformed(Malformed::EthOversize, _))
    };
    rows().into_iter().filter(is_told).map(|row| (row.frame, row.expected.finding())).collect()
}

/// Rules that user space alone has. (The kernel looks at transport checksums, too, but not of frames that no device has
/// brought.)
const USER_SPACE: &[Malformed] = &[
    Malformed::MplsReserved,
    Malformed::MplsImplicitNull,
    Malformed::TcpCsum,
    Malformed::UdpCsum,
    Malformed::IcmpCsum,
    Malformed::IcmpQuote,
    Malformed::Icmp6Csum,
    Malformed::NdOptLen,
];

fn every_reason_has_a_row() -> Result<()> {
    let rows = rows();
    for reason in Malformed::ALL {
        let has_row = |row: &Row| row.expected.finding().is_some_and(|finding| finding.reason == *reason);
        ensure!(rows.iter().any(has_row), "{} has no row", reason.id());
        let host_only = matches!(reason, Malformed::EthShort) || USER_SPACE.contains(reason);
        ensure!(
            host_only || rows.iter().any(|row| has_row(row) && row.in_kernel()),
            "{} has no row that the kernel runs",
            reason.id()
        );
    }
    let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "two rows of the same name: {twice:?}");
    Ok(())
}

/// All that differ, so that the first does not hide the others.
fn rows_on_the_host() -> Result<()> {
    let failures: Vec<_> = rows().iter().filter_map(|row| Some(format!("{:#}", row.check_on_host().err()?))).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn rows_in_the_kernel(hook: Hook) -> Result<()> {
    let rows = rows();
    Kernel::run(hook, |kernel| {
        let mut before = kernel.malformed()?;
        for row in rows.iter().filter(|row| kernel::can_run(hook, &row.frame, &row.meta)) {
            let gso_segs = row.meta.gso_size.min(3);
            check_in_kernel(kernel, row.name, &row.frame, &row.meta, gso_segs)?;
            let now = kernel.malformed()?;
            let counted: Vec<_> = now.iter().filter(|(reason, count)| before.get(reason) != Some(count)).collect();
            let expected = match row.expected {
                Expected::Malformed(reason, _) if reason.severity() >= Severity::Warning => {
                    vec![(reason as u8, before.get(&(reason as u8)).unwrap_or(&0) + 1)]
                }
                _ => Vec::new(),
            };
            ensure!(
                counted.iter().map(|(reason, count)| (**reason, **count)).eq(expected.iter().copied()),
                "row {:?}: counted {counted:?}, expected {expected:?}",
                row.name
            );
            before = now;
        }
        Ok(())
    })
}

/// What a card brings to a track point: the kernel finds what user space finds in the whole frame, of frames of which any
/// bit of transport header and payload is changed.
fn checksums_in_the_kernel() -> Result<()> {
    use rows::start;
    const FRAMES: usize = 600;
    Kernel::run(Hook::Tc, |kernel| {
        kernel.is_track_point = true;
        let (mut wrong, mut right) = (0, 0);
        for number in 0..FRAMES {
            // Longer than the shortest frame of a wire; of all lengths, one or several pieces.
            let payload_bytes = 46 + number * 7 % 1400;
            let (frame, transport_at) = match number % 6 {
                0 => (start().ip4().tcp(1000, 2000), 34),
                1 => (start().ip6().tcp(1000, 2000), 54),
                2 => (start().ip4().udp(1000, 2000), 34),
                3 => (start().ip6().udp(1000, 2000), 54),
                4 => (start().ip4().icmp(8, 0), 34),
                _ => (start().ip6().icmpv6(128, 0), 54),
            };
            let mut frame = frame.payload(payload_bytes).bytes();
            let is_changed = number / 6 % 3 != 0;
            if is_changed {
                let at = transport_at + number * 31 % (frame.len() - transport_at);
                frame[at] ^= 1 << (number % 8);
            }
            let meta = Meta { frame_bytes: frame.len() as u32, ..physical() };
            let expected = probe_ebpf::thorough::judge(&frame, meta).finding;
            let expected = expected.filter(|finding| finding.reason.severity() >= Severity::Warning);
            let (seen, _) = kernel.judge(&frame, &meta, 0)?;
            let seen = seen.and_then(|view| view.finding);
            let seen = seen.filter(|(reason, _)| {
                Malformed::from_number(*reason).is_some_and(|reason| reason.severity() >= Severity::Warning)
            });
            let expected = expected.map(|finding| (finding.reason as u8, finding.at));
            ensure!(seen == expected, "the kernel finds {seen:?}, user space {expected:?} in {frame:02x?}");
            let is_sum = |(reason, _): (u8, u16)| {
                Malformed::from_number(reason).is_some_and(|reason| reason.id().ends_with("_csum"))
            };
            wrong += usize::from(seen.is_some_and(is_sum));
            right += usize::from(!is_changed);
        }
        ensure!(wrong > FRAMES / 3 && right >= FRAMES / 3, "{wrong} are wrong, {right} are right");
        Ok(())
    })
}

/// Runs one frame in the kernel and compares everything that it left behind with the host.
fn check_in_kernel(
    kernel: &mut Kernel,
    name: &str,
    frame: &[u8],
    meta: &Meta,
    gso_segs: u32,
) -> Result<Option<Finding>> {
    let (expected, expected_traffic) = model(frame, meta, gso_segs);
    let (seen, traffic) = kernel.judge(frame, meta, gso_segs)?;
    let expected_view = expected.as_ref().map(|(cursor, _)| View::from(cursor));
    let about = || format!("{name}: {meta:?} {frame:02x?}");
    ensure!(seen == expected_view, "the kernel says {seen:?}, the host {expected_view:?} of {}", about());
    ensure!(traffic == expected_traffic, "the kernel counts {traffic:?}, the host {expected_traffic:?} of {}", about());
    Ok(expected.and_then(|(cursor, _)| cursor.finding()))
}

/// Through a real device and a whole agent: each row counts under its reason's label and nothing else does. Rows of
/// other circumstances (segments, loopback, physical cards) and tagged frames, whose outer tag Linux takes out before
/// the hook, are not sent.
fn rows_on_a_wire() -> Result<()> {
    const COPIES: u32 = 3;
    let first_14 = |name, ether_type, reason| {
        let header = move |header: &mut tests::frames::Ethernet| header.ether_type = ether_type;
        let frame = tests::frames::ethernet_with(tests::frames::B, tests::frames::A, header);
        bad(name, frame, veth(), reason, 0)
    };
    let short = vec![
        first_14("an Ethernet header and no IPv4", 0x0800, Malformed::Ip4Short),
        first_14("an Ethernet header and no IPv6", 0x86dd, Malformed::Ip6Short),
        first_14("an Ethernet header and no ARP", 0x0806, Malformed::ArpShort),
        first_14("an Ethernet header and no LLC", 0, Malformed::LlcShort),
        first_14("an Ethernet header of length 1", 1, Malformed::EthLenGt),
    ];
    let sendable = |row: &Row| {
        (14..=1514).contains(&row.frame.len()) && row.meta == Meta { frame_bytes: row.meta.frame_bytes, ..veth() }
    };
    let untagged = |row: &Row| !matches!(row.frame[12..14], [0x81, 0] | [0x88, 0xa8]);
    let Pair { left, right } = Pair::new()?;
    let agent = Agent::start(&right, &["--interface", "b"])?;
    let socket = PacketSocket::sender(&left, "a")?;
    let mut expected = BTreeMap::<&str, f64>::new();
    let mut sent = 0;
    for row in rows().into_iter().chain(short).filter(|row| sendable(row) && untagged(row)) {
        socket.send_copies(&row.frame, COPIES as usize)?;
        sent += COPIES;
        if let Expected::Malformed(reason, _) = row.expected
            && reason.severity() >= Severity::Warning
        {
            *expected.entry(reason.id()).or_default() += f64::from(COPIES);
        }
    }
    let labels = [("interface", "b"), ("direction", "ingress")];
    let metrics = eventually(Duration::from_secs(10), "all rows are counted", || {
        let metrics = agent.metrics()?;
        let frames = metrics.sum("lossprobe_frames_total", &labels);
        ensure!(frames == f64::from(sent), "{frames} of {sent} frames");
        Ok(metrics)
    })?;
    let counted: BTreeMap<&str, f64> = metrics
        .select("lossprobe_malformed_frames_total", &labels)
        .filter(|sample| sample.value != 0.0)
        .map(|sample| (sample.labels.get("reason").map_or("", String::as_str), sample.value))
        .collect();
    ensure!(counted == expected, "counted {counted:?}\nexpected {expected:?}");
    ensure!(counted.len() > 50, "only {} reasons were sent", counted.len());
    agent.stop()
}

/// A fast path that takes nothing would be right, and slow.
fn fast_path_takes_the_ordinary() -> Result<()> {
    for (frame, meta) in legal::ordinary() {
        let ordinary = fast::ordinary(&frame[..], &meta);
        let (cursor, outcome) = classify(&frame[..], meta);
        let seen = Ordinary { packet: cursor.packet, tunnel: cursor.tunnel };
        ensure!(
            ordinary == Some(seen) && outcome == Layer::End && cursor.finding().is_none(),
            "{ordinary:?}, {cursor:?} of {meta:?} {frame:02x?}"
        );
    }
    Ok(())
}

/// Whatever is left of a well-formed frame is well formed only if no header and no byte of the datagram is missing.
fn what_is_cut_is_not_well_formed() -> Result<()> {
    let mut cuts = 0;
    for row in rows() {
        let (Expected::WellFormed(whole) | Expected::BeyondWindow(whole)) = row.expected else { continue };
        for length in 0..row.frame.len() {
            let meta = Meta { frame_bytes: length as u32, ..row.meta };
            let (cursor, outcome) = classify(&row.frame[..length], meta);
            cuts += 1;
            if outcome != Layer::End || cursor.finding().is_some() {
                continue;
            }
            // A GSO packet without length ends where the frame ends; behind ARP everything is padding.
            let needs_payload = meta.gso_size == 0 && whole.network != probe_ebpf::classify::Network::Arp;
            let needed = u32::from(whole.header_bytes) + if needs_payload { whole.payload_bytes } else { 0 };
            ensure!(
                cursor.packet.header_bytes == whole.header_bytes && meta.frame_bytes >= needed,
                "row {:?} cut to {length} bytes: {cursor:?}",
                row.name
            );
        }
    }
    ensure!(cuts > 5000, "only {cuts} cuts");
    Ok(())
}
