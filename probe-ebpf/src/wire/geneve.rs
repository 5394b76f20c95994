//! GENEVE (RFC 8926); its options are passed over.

use crate::{
    classify::{Cursor, Layer, Step, Stop},
    frame::{Frame, be16, be32},
};

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 8;

/// Passes the header, if it is of the version that is known.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    if at + HEADER_BYTES > cursor.end as usize {
        return Ok(Layer::Other);
    }
    let header: [u8; HEADER_BYTES] = frame.read(at).ok_or(Stop::Unseen)?;
    let behind = at + HEADER_BYTES + usize::from(header[0] & 0x3f) * 4;
    let is_reserved = header[1] & 0x3f != 0 || header[7] != 0;
    if header[0] >> 6 != 0 || is_reserved || behind > cursor.end as usize {
        return Ok(Layer::Other);
    }
    Ok(cursor.enter(behind, be32(&header, 4) >> 8 | Cursor::GENEVE, be16(&header, 2)))
}
