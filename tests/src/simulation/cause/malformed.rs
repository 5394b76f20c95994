//! Frames that contradict themselves, and those that the wire has damaged.

use probe_ebpf::abi::Direction::Egress;
use probe_user::detect::verdict::{Damaged, Name};

use super::{Cause, Scene};
use crate::simulation::{shape::Card, traffic::FOLLOWED};

const NETWORK: &[Name] = &[Name::NetworkIn, Name::NetworkOut];

pub(super) const CAUSES: &[Cause] = &[
    Cause::new("malformed frames and loss before us", &[Name::NetworkMalformed], |scene| {
        malformed(scene, 0);
        let lost = scene.lost_of(scene.sent[0]);
        scene.miss(lost);
    })
    .tolerating(NETWORK),
    Cause::new("malformed frames and loss behind us", &[Name::NetworkMalformed], |scene| {
        malformed(scene, 0);
        let lost = scene.lost_of(scene.sent[1]);
        scene.sent_again(Egress, lost);
    })
    .tolerating(NETWORK),
    Cause::new("malformed frames", &[Name::NetworkMalformed], |scene| malformed(scene, 0)),
    Cause::new("damaged connections of many networks", &[Name::NetworkMalformed], |scene| {
        malformed(scene, 1);
        scene.effect.damaged = Some(Damaged { flows: 9, networks: 5, is_early: false });
    })
    .tolerating(&[Name::RemoteMalformed]),
    Cause::new("one remote's malformed frames", &[Name::RemoteMalformed], |scene| {
        malformed(scene, 1);
        scene.effect.damaged = Some(Damaged { flows: 9, networks: 1, is_early: false });
    }),
    Cause::new("cable", &[Name::Link], cable).on(&[Card::Physical]),
];

/// Of local (0) or path (1) scope: a part of what is lost, and a few a second at least.
fn malformed(scene: &mut Scene<'_>, scope: usize) {
    let damaged = 2.0 + scene.sent[0] as f64 * scene.loss.mean / 4.0;
    scene.uplink.malformed[scope] += scene.random.poisson(damaged);
}

/// Damages frames of all kinds, which the card then gives up.
fn cable(scene: &mut Scene<'_>) {
    let frames = (scene.sent[0] as f64 / FOLLOWED) as u64;
    let damaged = scene.lost_of(frames);
    let followed = scene.random.binomial(damaged, FOLLOWED);
    scene.uplink.crc += damaged;
    scene.miss(followed);
}
