//! Sequence numbers, which wrap around (RFC 9293 3.4).

/// `a` comes before `b`.
#[inline(always)]
pub(super) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` comes before `b`, or is `b`.
#[inline(always)]
pub(super) const fn until(a: u32, b: u32) -> bool {
    !before(b, a)
}

#[inline(always)]
pub(super) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

#[inline(always)]
pub(super) const fn earlier(a: u32, b: u32) -> u32 {
    if before(a, b) { a } else { b }
}
