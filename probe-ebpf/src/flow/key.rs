//! Which connection a packet belongs to, in one number.

/// What the agent has drawn by lot, so that nobody outside can choose connections that share a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Secret {
    /// Any number.
    pub seed: u64,
    /// Any odd number.
    pub factor: u64,
}

/// A connection as seen at one track group: *outside* is where packets come from at ingress and where they go to at egress,
/// so both directions that pass one point meet, and a connection in transit has two entries. IPv4 addresses are mapped
/// into IPv6 (RFC 4291 2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Key {
    /// The address outside, as two numbers in network order.
    pub outside: [u64; 2],
    /// The address inside.
    pub inside: [u64; 2],
    /// Port outside.
    pub outside_port: u16,
    /// Port inside.
    pub inside_port: u16,
    /// VLAN identifiers, the outer one in the upper half; or a tunnel's network identifier with the highest bit set. 0: none.
    pub encapsulation: u32,
    /// The track group.
    pub group: u32,
    #[doc(hidden)]
    pub pad: u32,
}
const _: () = assert!(size_of::<Key>() == 48);

/// Upper and middle part of an IPv4 address mapped into IPv6, in network order, as the number that memory holds.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

impl Key {
    /// An IPv4 address, in the order in which memory holds it.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(address: u32) -> [u64; 2] {
        let bytes = address.to_ne_bytes();
        [0, MAPPED | u64::from_ne_bytes([0, 0, 0, 0, bytes[0], bytes[1], bytes[2], bytes[3]])]
    }

    /// The same connection seen from the other side.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            outside: self.inside,
            inside: self.outside,
            outside_port: self.inside_port,
            inside_port: self.outside_port,
            ..*self
        }
    }

    /// A number for the connection that is never 0: two connections share it as seldom as any two numbers of 64 bits.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self, secret: &Secret) -> u64 {
        let ports = (self.outside_port as u64) << 48 | (self.inside_port as u64) << 32 | self.encapsulation as u64;
        let mut state = secret.seed ^ (self.group as u64);
        state = mix(state, self.outside[0] ^ self.outside[1].rotate_left(32), secret.factor);
        state = mix(state, self.outside[1] ^ ports, secret.factor);
        state = mix(state, self.inside[0] ^ self.inside[1].rotate_left(32), secret.factor);
        state = mix(state, self.inside[1], secret.factor);
        (state ^ state >> 29) | 1
    }
}

/// Multiplication carries upwards, the shift brings it down again.
#[inline(always)]
const fn mix(state: u64, word: u64, factor: u64) -> u64 {
    let state = (state ^ word).wrapping_mul(factor);
    state ^ state >> 32
}
