//! GRE (RFC 2784, RFC 2890) and its enhanced version, which carries PPP (RFC 2637).

use crate::{
    classify::{Cursor, Layer, Step, Stop},
    frame::{Frame, be16, be32},
    reason::Malformed,
};

/// Bytes of a header without optional fields.
const HEADER_BYTES: usize = 4;
/// Bytes of each optional field.
const FIELD_BYTES: usize = 4;

const CHECKSUM: u16 = 0x8000;
/// Source routes of RFC 1701, of which nobody can tell the length without following them.
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// Version 1 only.
const ACKNOWLEDGEMENT: u16 = 0x0080;
const VERSION: u16 = 0x0007;

/// Passes the header. What version 0 carries is judged as well, unless it is in a tunnel already.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    let at = cursor.at as usize;
    let header: [u8; HEADER_BYTES] = cursor.need(frame, at, Malformed::GreShort)?;
    let flags = be16(&header, 0);
    let (fields, used) = match flags & VERSION {
        0 => (CHECKSUM | KEY | SEQUENCE, CHECKSUM | KEY | SEQUENCE),
        1 => (KEY | SEQUENCE | ACKNOWLEDGEMENT, KEY | SEQUENCE | ACKNOWLEDGEMENT | VERSION),
        _ => return Err(cursor.fail(Malformed::GreVer, at + 1)),
    };
    let is_enhanced = flags & VERSION != 0;
    let key_at = at + HEADER_BYTES + if flags & fields & CHECKSUM == 0 { 0 } else { FIELD_BYTES };
    let present = |field: u16| usize::from(flags & fields & field != 0);
    let behind = key_at + FIELD_BYTES * (present(KEY) + present(SEQUENCE) + present(ACKNOWLEDGEMENT));
    if behind > cursor.end as usize {
        return Err(cursor.fail(Malformed::GreShort, at));
    }
    if flags & !used != 0 || (is_enhanced && flags & KEY == 0) {
        cursor.note(Malformed::GreResv, at);
    }
    if is_enhanced || flags & ROUTING != 0 || cursor.is_inside() {
        cursor.understood(behind);
        return Ok(Layer::Other);
    }
    let key = if flags & KEY == 0 { 0 } else { be32(&frame.read::<FIELD_BYTES>(key_at).ok_or(Stop::Unseen)?, 0) };
    // One bit more than other tunnels' identifiers have room for: two keys that differ there only are told apart by nothing.
    let identifier = (key ^ key >> 24) & Cursor::IDENTIFIER;
    Ok(cursor.enter(behind, identifier | Cursor::GRE, be16(&header, 2)))
}
