//! SCTP packets and their chunks (RFC 9260). The checksum is no sum, and is looked at elsewhere.

use crate::{
    classify::{Cursor, Layer, Step, Stop, Transport},
    frame::{Frame, be16, be32},
    reason::Malformed,
};

/// Bytes of the common header.
pub const HEADER_BYTES: usize = 12;
/// Where it has the verification tag.
const TAG_AT: usize = 4;
const CHUNK_HEADER_BYTES: usize = 4;
/// Chunks that are followed.
const MAX_CHUNKS: usize = 8;
/// Type of the chunk that asks for an association.
const INIT: u8 = 1;

/// Judges the header and the chunks.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let _header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::SctpShort)?;
    cursor.packet.transport = Transport::Sctp;
    cursor.packet.transport_at = at as u16;
    cursor.understood(at + HEADER_BYTES);
    // Merged ones are a list of packets, of which only the first has its chunks here.
    if cursor.meta.gso_size != 0 {
        return Ok(Layer::End);
    }
    for _ in 0..MAX_CHUNKS {
        frame.settle(cursor);
        if cursor.at >= cursor.end {
            return Ok(Layer::End);
        }
        chunk_step(frame, cursor)?;
    }
    Ok(if cursor.at >= cursor.end { Layer::End } else { Layer::Unseen })
}

/// Judges one chunk and moves the cursor behind it and its padding, the headers staying what they are.
#[inline(always)]
fn chunk_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<(), Stop> {
    let at = cursor.at as usize;
    let header: [u8; CHUNK_HEADER_BYTES] = cursor.need(frame, at, Malformed::SctpChunkLen)?;
    let chunk_bytes = usize::from(be16(&header, 2));
    if chunk_bytes < CHUNK_HEADER_BYTES || at + chunk_bytes > cursor.end as usize {
        return Err(cursor.fail(Malformed::SctpChunkLen, at + 2));
    }
    let next = at + chunk_bytes.next_multiple_of(4);
    if header[0] == INIT {
        let packet_at = usize::from(cursor.packet.transport_at);
        let tag = frame.read::<4>(packet_at + TAG_AT).ok_or(Stop::Unseen)?;
        if at != packet_at + HEADER_BYTES || next < cursor.end as usize {
            cursor.note(Malformed::SctpInit, at);
        } else if be32(&tag, 0) != 0 {
            cursor.note(Malformed::SctpInit, packet_at + TAG_AT);
        }
    }
    cursor.at = next as u32;
    Ok(())
}
