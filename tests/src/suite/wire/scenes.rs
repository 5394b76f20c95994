//! The scenes.

use super::scene::{
    Loss::{self, Netem, Random, Tail},
    Offloads, PLAIN, Scene, Way,
};

/// Those of [`ORDINARY`] that are played in every run; the others in the long run.
pub(super) const EVERY_RUN: [&str; 6] = [
    "nothing lost",
    "5 % on both sides",
    "tail drop before",
    "1 % on both sides of IPv6",
    "1 % with GSO",
    "reordering",
];

/// One for each kind of path. Where something is lost the way has a length: without one a sender has a
/// hundred segments on their way before it hears of the first loss, a receiver tells of three stretches that it has, and
/// much is sent again that had not been lost, of which nobody on the way can know.
pub(super) const ORDINARY: &[Scene] = &[
    Scene { name: "nothing lost", ..PLAIN },
    Scene { name: "1 % before", near: Random(1), bytes: 6 << 20, way: Way::Long, ..PLAIN },
    Scene { name: "1 % behind", far: Random(1), bytes: 6 << 20, way: Way::Long, ..PLAIN },
    Scene { name: "5 % before", near: Random(5), way: Way::Long, ..PLAIN },
    Scene { name: "5 % behind", far: Random(5), way: Way::Long, ..PLAIN },
    Scene { name: "5 % on both sides", near: Random(5), far: Random(5), way: Way::Long, ..PLAIN },
    Scene { name: "1 % by the observer", own: Random(1), ..PLAIN },
    Scene { name: "tail drop before", near: Tail(100), way: Way::Long, ..PLAIN },
    Scene { name: "tail drop behind", far: Tail(100), way: Way::Long, ..PLAIN },
    Scene {
        name: "1 % on both sides of IPv6",
        version6: true,
        near: Random(1),
        far: Random(1),
        way: Way::Long,
        ..PLAIN
    },
    Scene {
        name: "1 % with GSO",
        offloads: Offloads::Gso,
        near: Random(1),
        far: Random(1),
        bytes: 12 << 20,
        way: Way::Long,
        ..PLAIN
    },
    Scene {
        name: "1 % with GRO",
        offloads: Offloads::Gro,
        near: Random(1),
        far: Random(1),
        bytes: 16 << 20,
        way: Way::Long,
        ..PLAIN
    },
    Scene { name: "1 % without SACK", sack: false, near: Random(1), far: Random(1), way: Way::Long, ..PLAIN },
    Scene {
        name: "1 % without timestamps",
        timestamps: false,
        near: Random(1),
        far: Random(1),
        way: Way::Long,
        ..PLAIN
    },
    Scene { name: "1 % by two CPUs", many_cpus: true, near: Random(1), far: Random(1), way: Way::Long, ..PLAIN },
    Scene { name: "reordering", way: Way::Reordering, ..PLAIN },
    Scene { name: "1 % and reordering", way: Way::Reordering, near: Random(1), far: Random(1), ..PLAIN },
    Scene { name: "1 % on a wild way", way: Way::Wild, near: Random(1), ..PLAIN },
    Scene { name: "1 % over a long way", way: Way::Long, near: Random(1), far: Random(1), ..PLAIN },
];

/// Those that need a module which not every kernel has: a guest's small machine plays them, too.
pub(super) const EVERYWHERE: &[Scene] = &[Scene { name: "netem", near: Netem, bytes: 1 << 20, ..PLAIN }];

/// Those of the long run: both protocols through all offloads and losses, all options, all queues.
pub(super) fn wide() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let mut add = |scene: Scene| {
        let Scene { version6, sack, timestamps, .. } = scene;
        let words = [
            scene.name,
            if version6 { " IPv6" } else { "" },
            if sack { "" } else { " no SACK" },
            if timestamps { "" } else { " no timestamps" },
        ];
        scenes.push(Scene { name: words.concat().leak(), ..scene });
    };
    for version6 in [false, true] {
        let plain = Scene { version6, way: Way::Long, bytes: 4 << 20, ..PLAIN };
        for (offloads, words) in [(Offloads::Off, ""), (Offloads::Gso, " GSO"), (Offloads::Gro, " GRO")] {
            let bytes = if offloads == Offloads::Off { plain.bytes } else { 12 << 20 };
            for percent in [0, 1, 5] {
                let loss = if percent == 0 { Loss::None } else { Random(percent) };
                let name = format!("wide {percent} %{words}").leak();
                add(Scene { name, offloads, near: loss, far: loss, bytes, ..plain });
            }
        }
        for (sack, timestamps) in [(true, false), (false, true), (false, false)] {
            // Without SACK each loss takes a round trip, or a timer that doubles.
            let bytes = if sack { plain.bytes } else { 256 << 10 };
            add(Scene { name: "wide 5 %", sack, timestamps, near: Random(5), far: Random(5), bytes, ..plain });
        }
        add(Scene { name: "wide tail drop before", near: Tail(100), ..plain });
        add(Scene { name: "wide tail drop behind", far: Tail(100), ..plain });
        add(Scene { name: "wide reordering", way: Way::Reordering, ..plain });
    }
    scenes
}
