//! MPLS label stacks (RFC 3032). What a stack carries says only who has made it: it is not looked into.

use crate::{
    classify::{Cursor, Layer, Step},
    frame::Frame,
    reason::Malformed,
};

/// Bytes of a label stack entry.
pub const ENTRY_BYTES: usize = 4;
/// Entries that are followed.
pub const MAX_ENTRIES: usize = 8;
/// Third byte of an entry: it is the last.
pub const BOTTOM: u8 = 1;

/// Passes the stack.
#[inline(always)]
pub fn step<F: Frame + ?Sized>(frame: &F, cursor: &mut Cursor) -> Step {
    for _ in 0..MAX_ENTRIES {
        frame.settle(cursor);
        let at = cursor.at as usize;
        let entry: [u8; ENTRY_BYTES] = cursor.need(frame, at, Malformed::MplsShort)?;
        cursor.understood(at + ENTRY_BYTES);
        if entry[2] & BOTTOM != 0 {
            return Ok(Layer::Other);
        }
    }
    Err(cursor.fail(Malformed::MplsNoBottom, cursor.at as usize - ENTRY_BYTES))
}
