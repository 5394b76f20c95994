//! GENEVE (RFC 8926); its options are passed over.

use crate::{
    classify::{Cursor, Layer, Step},
    frame::{Frame, be16, be32},
};

/// Passes the header, if it is of the version that is known.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let Some(header) = cursor.tunnel_header(frame)? else { return Ok(Layer::Other) };
    let behind = cursor.at as usize + header.len() + usize::from(header[0] & 0x3f) * 4;
    let is_reserved = header[1] & 0x3f != 0 || header[7] != 0;
    if header[0] >> 6 != 0 || is_reserved || behind > cursor.end as usize {
        return Ok(Layer::Other);
    }
    Ok(cursor.enter(behind, be32(&header, 4) >> 8 | Cursor::GENEVE, be16(&header, 2)))
}
