//! Any malformed frame as proof: what its comment says, and how it is written into a capture. The first bytes say what a hook
//! has told of it; or, after a `{`, all of it is an event as an agent's stream has it.
//!
//! Held: nothing panics, the comment names the reason, and what is written is one frame for our own reader
//! where it is of a link that hooks see.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::{abi::EVIDENCE_BYTES, classify::TunnelPorts, reason::Malformed};
use probe_user::{
    analyze::{Options, analyze},
    event::{Event, Kind},
    record::{frame::Frame, pcapng::Writer},
};

fuzz_target!(|input: &[u8]| {
    let event = if input.first() == Some(&b'{') { serde_json::from_slice(input).ok() } else { told(input) };
    let Some(event) = event else { return };
    let Ok(frame) = Frame::of(&event) else { return };
    let mut writer = Writer::begin(Vec::new(), "Linux".to_owned()).expect("memory");
    writer.write(&frame).expect("memory");
    let file = writer.get_ref().as_slice();
    let is_named =
        event.reason.is_empty() || file.windows(event.reason.len()).any(|text| text == event.reason.as_bytes());
    assert!(is_named, "{event:?}");
    if event.link_type.is_some_and(|link_type| ![1, 101].contains(&link_type)) {
        return;
    }
    let options = Options { inside: Vec::new(), tunnels: TunnelPorts::NONE, top: 1 };
    match analyze(file, &options, None, |_, _| {}) {
        Ok(summary) => assert!(
            summary.frames == 1 && summary.corrupt.is_none() && summary.truncated_at.is_none(),
            "{event:?}: {summary:?}"
        ),
        Err(error) => panic!("{event:?}: {error}"),
    }
});

/// What a hook tells of a frame: reason, where it stands, whether a header of the link is there, segments, and the frame's length.
fn told(input: &[u8]) -> Option<Event> {
    let (&[reason, at_low, at_high, link, segments, more_low, more_high], bytes) = input.split_first_chunk()?;
    let reason = Malformed::from_number(reason)?;
    let bytes = &bytes[..bytes.len().min(EVIDENCE_BYTES)];
    let more = u32::from(u16::from_le_bytes([more_low, more_high]));
    let event = Event {
        kind: Kind::Malformed,
        time: "2026-01-01T00:00:00Z".to_owned(),
        interface: "eth0".to_owned(),
        netns: "own".to_owned(),
        reason: reason.id().to_owned(),
        class: None,
        location: None,
        severity: None,
        direction: None,
        offset: Some(u16::from_le_bytes([at_low, at_high]).into()),
        scope: None,
        link_type: Some(if link & 1 == 0 { 1 } else { 101 }),
        source_mac: None,
        vlan: None,
        protocol: String::new(),
        source: None,
        destination: None,
        packet_bytes: bytes.len() as u32 + more,
        segments: segments.into(),
        bytes: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes_from: "frame".to_owned(),
    };
    Some(event)
}
