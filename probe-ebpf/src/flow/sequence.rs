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

/// More than is under way at once: a quarter of the widest window that can be announced (RFC 7323 2.3).
const WIDEST_WINDOW: u32 = 1 << 28;

/// `a` and `b` are farther apart than one connection's numbers can be.
#[inline(always)]
pub(super) const fn far_apart(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32).unsigned_abs() >= WIDEST_WINDOW
}

/// `b` comes behind `a`, or has nothing to do with it.
#[inline(always)]
pub(super) const fn supersedes(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).wrapping_sub(1) <= u32::MAX - WIDEST_WINDOW
}

/// `b` is `a`, or comes behind it as far as one connection's numbers can.
#[inline(always)]
pub(super) const fn reaches(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < WIDEST_WINDOW
}
