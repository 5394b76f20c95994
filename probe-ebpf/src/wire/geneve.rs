//! GENEVE (RFC 8926) and the lengths of its options.

use crate::{
    classify::{Cursor, Layer, Step, Stop},
    frame::{Frame, be16, be32},
    reason::Malformed,
};

/// Bytes of a header without options.
const HEADER_BYTES: usize = 8;
/// Bytes of an option's header.
pub(crate) const OPTION_HEADER_BYTES: usize = 4;
/// Options that are followed.
const MAX_OPTIONS: usize = 8;

/// Judges the header and its options.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::GeneveShort)?;
    if header[0] >> 6 != 0 {
        return Err(cursor.fail(Malformed::GeneveVer, at));
    }
    let behind = at + HEADER_BYTES + usize::from(header[0] & 0x3f) * 4;
    if behind > cursor.end as usize {
        return Err(cursor.fail(Malformed::GeneveShort, at));
    }
    // Behind the options what the tunnel carries begins.
    cursor.at = behind as u32;
    cursor.option_at = (at + HEADER_BYTES) as u16;
    for _ in 0..=MAX_OPTIONS {
        frame.settle(cursor);
        if usize::from(cursor.option_at) >= cursor.at as usize {
            return enter(frame, cursor, at);
        }
        option_step(frame, cursor)?;
    }
    Ok(Layer::Unseen)
}

#[inline(always)]
fn option_step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Result<(), Stop> {
    let at = usize::from(cursor.option_at);
    // All of them are multiples of four bytes.
    let header: [u8; OPTION_HEADER_BYTES] = frame.read(at).ok_or(Stop::Unseen)?;
    let next = at + OPTION_HEADER_BYTES + usize::from(header[3] & 0x1f) * 4;
    if next > cursor.at as usize {
        return Err(cursor.fail(Malformed::GeneveOptLen, at + 3));
    }
    cursor.option_at = next as u16;
    Ok(())
}

#[inline(always)]
fn enter<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor, at: usize) -> Step {
    let header: [u8; HEADER_BYTES] = frame.read(at).ok_or(Stop::Unseen)?;
    Ok(cursor.enter(cursor.at as usize, be32(&header, 4) >> 8 | Cursor::GENEVE, be16(&header, 2)))
}
