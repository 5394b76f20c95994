//! Any bytes as a capture file, with events, a vantage and tunnels.
//!
//! Held: nothing panics, a record takes bytes of the file, a frame has one finding at most, what is said of a fault lies in
//! the file, and every event is a line of JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::classify::TunnelPorts;
use probe_user::analyze::{Options, analyze};

/// Shortest record of either format: a simple packet of nothing.
const RECORD_BYTES: u64 = 16;

fuzz_target!(|input: &[u8]| {
    let inside = ["10.0.0.0/8", "02:00:00:00:00:01"].iter().filter_map(|text| text.parse().ok()).collect();
    let mut events = Vec::new();
    let tunnels = TunnelPorts { vxlan: [4789, 0], geneve: [6081, 0] };
    let options = Options { inside, tunnels, top: 3 };
    let Ok(summary) = analyze(input, &options, Some(&mut events), |_, _| {}) else { return };
    let length = input.len() as u64;
    assert!(summary.frames <= length / RECORD_BYTES, "{} frames in {length} bytes", summary.frames);
    assert!(summary.malformed.values().sum::<u64>() <= summary.frames, "{summary:?}");
    assert!(summary.flows.len() <= 3 && summary.flows_seen <= summary.frames, "{summary:?}");
    assert!(summary.truncated_at.is_none_or(|at| at <= length), "{summary:?}");
    assert!(summary.corrupt.as_ref().is_none_or(|fault| fault.at <= length), "{summary:?}");
    for line in events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(line.starts_with(b"{\"frame\":") && line.ends_with(b"}"), "{}", String::from_utf8_lossy(line));
    }
    let _text = summary.json("-") + &summary.table("-", Some(80), false);
});
