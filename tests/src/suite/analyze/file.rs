//! Capture files in memory: pcap and pcapng, little-endian.

/// A frame for a pcap file of `link_type`, captured whole.
pub(super) fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const LONGEST: u32 = 1 << 18;
    let mut file = [&MAGIC.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &words([LONGEST, link_type])].concat();
    for (second, frame) in (1_700_000_000..).zip(frames) {
        let length = frame.len() as u32;
        file.extend(words([second, 0, length, length]));
        file.extend(frame);
    }
    file
}

/// A pcapng file: an interface for each link type, then the frames, each with the number of its interface.
pub(super) fn pcapng(link_types: &[u16], frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let version = [1_u16.to_le_bytes(), 0_u16.to_le_bytes()].concat();
    let mut file = block(0x0a0d_0d0a, &[&words([0x1a2b_3c4d])[..], &version, &[0xff; 8]].concat());
    for link_type in link_types {
        file.extend(block(1, &[&link_type.to_le_bytes()[..], &[0; 6]].concat()));
    }
    for (interface, frame) in frames {
        let length = frame.len() as u32;
        file.extend(block(6, &[&words([*interface, 0x0006_0000, 0, length, length])[..], frame].concat()));
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = words([body.len() as u32 + 12]);
    [&words([kind])[..], &length, &body, &length].concat()
}

fn words<const N: usize>(numbers: [u32; N]) -> Vec<u8> {
    numbers.map(u32::to_le_bytes).concat()
}
