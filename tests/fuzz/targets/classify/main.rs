//! Any bytes in any circumstances through the classifier and the fast path.
//!
//! Held: nothing panics and every walk ends; what the fast path takes the classifier calls well formed, with the same
//! description; what was captured of a frame is judged as the whole frame is, unless headers are missing from it; and
//! etherparse agrees ([`oracle`]).

#![no_main]

mod oracle;

use libfuzzer_sys::fuzz_target;
use probe_ebpf::{
    abi::WINDOW_BYTES,
    classify::{Cursor, FROM_WIRE, LOOPBACK, Layer, Meta, TunnelPorts, classify},
    fast::{self, Ordinary},
    wire::ethernet::{ARP, C_TAG, IPV4, IPV6, OLD_S_TAG, S_TAG},
};

fuzz_target!(|input: &[u8]| {
    let Some((meta, frame)) = circumstances(input) else { return };
    let (cursor, outcome) = classify(frame, meta);
    describes_what_is_there(frame, &cursor);
    let window = &frame[..frame.len().min(WINDOW_BYTES)];
    if let Some(ordinary) = fast::ordinary(frame, &meta) {
        let seen = Ordinary { packet: cursor.packet, tunnel: cursor.tunnel };
        assert_eq!((outcome, cursor.finding(), seen), (Layer::End, None, ordinary), "the fast path takes it");
        assert_eq!(fast::ordinary(window, &meta), Some(ordinary), "the fast path looks behind the window");
    }
    let (seen, seen_outcome) = classify(window, meta);
    if seen_outcome == Layer::Unseen {
        // What lies behind the window can only add to what was found in it.
        let severity = |cursor: &Cursor| cursor.finding().map(|finding| finding.reason.severity());
        assert!(severity(&seen) <= severity(&cursor), "{:?} in the window, {:?}", seen.finding(), cursor.finding());
    } else {
        assert_eq!((seen, seen_outcome), (cursor, outcome), "the window is judged otherwise");
    }
    if !cursor.is_inside() {
        oracle::compare(frame, &meta, &cursor, outcome);
    }
});

/// Tunnels' own ports.
const TUNNELS: TunnelPorts = TunnelPorts { vxlan: [4789, 8472], geneve: [6081, 0] };

/// Seven bytes become what is known about a frame besides its bytes (numbers: little endian), the rest is the frame.
fn circumstances(input: &[u8]) -> Option<(Meta, &[u8])> {
    let (&[kinds, tag_low, tag_high, gso_low, gso_high, mtu_low, mtu_high], frame) = input.split_first_chunk()?;
    let choose = |choices: [u16; 4], shift: u8| choices[usize::from(kinds >> shift & 3)];
    let meta = Meta {
        frame_bytes: u32::try_from(frame.len()).ok()?,
        gso_size: u16::from_le_bytes([gso_low, gso_high]).into(),
        mtu_bytes: u16::from_le_bytes([mtu_low, mtu_high]).into(),
        tag_protocol: choose([0, C_TAG, S_TAG, OLD_S_TAG], 4),
        tag_control: u16::from_le_bytes([tag_low, tag_high]),
        first_protocol: choose([0, IPV4, IPV6, ARP], 2),
        flags: kinds & (LOOPBACK | FROM_WIRE),
        tunnels: if kinds & 1 << 6 == 0 { TunnelPorts::NONE } else { TUNNELS },
        ..Meta::default()
    };
    Some((meta, frame))
}

fn describes_what_is_there(frame: &[u8], cursor: &Cursor) {
    let packet = cursor.packet;
    assert!(usize::from(packet.header_bytes) + packet.payload_bytes as usize <= frame.len(), "{packet:?}");
    assert!(packet.network_at <= packet.header_bytes || packet.header_bytes == 0, "{packet:?}");
    assert!(packet.transport_at <= packet.header_bytes, "{packet:?}");
    if let Some(finding) = cursor.finding() {
        assert!(usize::from(finding.at) <= frame.len(), "{finding:?}");
    }
}
