//! The scenes.

use super::scene::{
    Loss::{Random, Tail},
    Offloads, PLAIN, Scene, Way,
};

/// Those of every run.
pub(super) const ORDINARY: &[Scene] = &[
    Scene { name: "nothing lost", ..PLAIN },
    Scene { name: "1 % before", near: Random(1), bytes: 6 << 20, ..PLAIN },
    Scene { name: "1 % behind", far: Random(1), bytes: 6 << 20, ..PLAIN },
    Scene { name: "5 % on both sides", near: Random(5), far: Random(5), ..PLAIN },
    Scene { name: "1 % by the observer", own: Random(1), ..PLAIN },
    Scene { name: "tail drop before", near: Tail(200), ..PLAIN },
    Scene { name: "tail drop behind", far: Tail(200), ..PLAIN },
    Scene { name: "1 % on both sides of IPv6", version6: true, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % on both sides with GSO", offloads: Offloads::Gso, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % on both sides with GRO", offloads: Offloads::Gro, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % without SACK", sack: false, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % without timestamps", timestamps: false, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "reordering", way: Way::Reordering, ..PLAIN },
    Scene { name: "1 % and reordering", way: Way::Reordering, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % over a long way", way: Way::Long, near: Random(1), far: Random(1), ..PLAIN },
];

/// Those of the long run.
pub(super) fn wide() -> Vec<Scene> {
    Vec::new()
}
