//! Outside of this host, and what only looks like it.

use probe_ebpf::{
    abi::Direction::{Egress, Ingress},
    flow::TcpEvent,
};
use probe_user::detect::verdict::Name;

use super::{Cause, Scene};
use crate::simulation::{
    loss::Loss,
    shape::{Card, Dropped},
};

pub(super) const CAUSES: &[Cause] = &[
    Cause::new("nothing", &[Name::None], |_| {}),
    Cause::new("network before us", &[Name::NetworkIn], network_in).of_scope("network"),
    Cause::new("network behind us", &[Name::NetworkOut], network_out).of_scope("network"),
    Cause::new("network, both ways", &[Name::NetworkIn, Name::NetworkOut], |scene| {
        network_in(scene);
        network_out(scene);
    })
    .of_scope("network"),
    Cause::new("network before us, in trains of 5", &[Name::NetworkIn], |scene| {
        scene.loss = Loss { burst: 5.0, ..scene.loss };
        network_in(scene);
    }),
    Cause::new("network before us, among a scanner's", &[Name::NetworkIn], |scene| {
        network_in(scene);
        scanner(scene);
    })
    .tolerating(&[Name::RemoteMalformed]),
    Cause::new("network behind us, hooks see 90 %", &[Name::Unknown], |scene| {
        network_out(scene);
        scene.uplink.bypassed += scene.sent[0] / 9;
    })
    .on(&[Card::Physical])
    .behind(30),
    Cause::new("one remote, before us", &[Name::NetworkIn], |scene| {
        scene.effect.only = Some(one_remote(scene));
        network_in(scene);
    })
    .of_scope("one_remote"),
    Cause::new("one remote, behind us", &[Name::NetworkOut], |scene| {
        scene.effect.only = Some(one_remote(scene));
        network_out(scene);
    })
    .of_scope("one_remote"),
    Cause::new("network and ring", &[Name::Mixed], |scene| {
        network_in(scene);
        super::local::ring(scene);
    })
    .tolerating(&[Name::LocalRx])
    .leaving(&[Name::NetworkIn])
    .on(&[Card::Physical, Card::Pair]),
    Cause::new("network and queue", &[Name::Mixed], |scene| {
        network_out(scene);
        super::local::queue(scene);
    })
    .tolerating(&[Name::LocalTx])
    .leaving(&[Name::NetworkOut]),
    Cause::new("network and guest", &[Name::Mixed], |scene| {
        network_in(scene);
        guest(scene);
    })
    .leaving(&[Name::NetworkIn, Name::Inside]),
    Cause::new("guest", &[Name::Inside], guest),
    Cause::new("guest's queue is full", &[Name::Inside], |scene| {
        let lost = scene.lost_of(scene.sent[0] + scene.sent[1]).min(scene.sent[0]);
        scene.host.drop(Dropped::Tap, lost);
        scene.sent_again(Ingress, lost);
    })
    .tolerating(&[Name::LocalRx]),
    Cause::new("guest pauses", &[Name::None], paused_guest).tolerating(&[Name::Inside]),
    Cause::new("path is late", &[Name::None], late),
    Cause::new("packets overtake each other", &[Name::None], |scene| {
        let overtaken = scene.lost_of(scene.sent[0]);
        scene.uplink.overtaken(Ingress, overtaken, scene.random);
    }),
    Cause::new("shared IP-IDs", &[Name::None], |scene| {
        scene.uplink.event(0, Ingress, TcpEvent::IdGap, scene.sent[0] / 2);
        scene.uplink.event(0, Ingress, TcpEvent::IdLate, scene.sent[0] / 20);
    }),
    Cause::new("ACK filter", &[Name::None], |scene| {
        scene.uplink.event(0, Ingress, TcpEvent::AckGap, scene.sent[0]);
        scene.uplink.event(0, Ingress, TcpEvent::IdGap, scene.sent[0] / 100);
    }),
    Cause::new("scanner", &[Name::None, Name::RemoteMalformed], scanner),
    // It is a policy by which somebody goes away empty, and nobody can tell a scanner by its patience.
    Cause::new("scanner that asks again", &[Name::None, Name::RemoteMalformed], |scene| {
        scanner(scene);
        scene.uplink.event(0, Ingress, TcpEvent::SynRetransmit, scene.sent[0] / 50);
    })
    .tolerating(&[Name::LocalPolicy]),
];

fn network_in(scene: &mut Scene<'_>) {
    let lost = scene.lost_of(scene.sent[0]);
    scene.miss(lost);
}

fn network_out(scene: &mut Scene<'_>) {
    let lost = scene.lost_of(scene.sent[1]);
    scene.sent_again(Egress, lost);
}

/// Its share of the traffic: enough to lose so much.
fn one_remote(scene: &Scene<'_>) -> f64 {
    (scene.loss.mean * 1.5).max(0.08)
}

/// Loses of both directions.
fn guest(scene: &mut Scene<'_>) {
    let lost = scene.sent.map(|segments| scene.lost_of(segments));
    scene.sent_again(Ingress, lost[0]);
    scene.effect.lost += lost[1];
    scene.uplink.miss(Egress, lost[1], scene.random);
}

/// Stands still for some seconds, time and again: its peers send again, and hear when it goes on that it had all.
fn paused_guest(scene: &mut Scene<'_>) {
    const EVERY: u64 = 15;
    const PAUSE: u64 = 5;
    /// How often each connection is sent again in each second of the pause, as its timers back off.
    const AGAIN: [u64; PAUSE as usize] = [2, 1, 0, 1, 0];
    let flows = (scene.sent[0] as f64 * scene.loss.mean) as u64;
    let second = scene.second % EVERY;
    if let Some(times) = AGAIN.get(second as usize) {
        scene.uplink.again(0, Ingress, flows * times);
        scene.effect.waiting += flows * times;
    } else if second == PAUSE {
        let waited = std::mem::take(&mut scene.effect.waiting);
        scene.uplink.event(0, Egress, TcpEvent::Dsack, waited);
        // Its own timers have run out, too.
        scene.uplink.needless(Egress, flows, 0, scene.random);
    }
}

/// For a second, time and again, answers take longer than senders wait.
fn late(scene: &mut Scene<'_>) {
    let late = scene.lost_of(scene.sent[1]);
    if scene.second.is_multiple_of(5) {
        scene.uplink.again(0, Egress, late);
        scene.uplink.event(1, Ingress, TcpEvent::Dsack, late);
    }
}

/// Asks a packet filter for ports that it does not let through, and not always in well-formed words.
fn scanner(scene: &mut Scene<'_>) {
    let asked = scene.random.poisson(1_500.0);
    scene.uplink.frames[0] += asked;
    scene.host.drop(Dropped::Filter, asked);
    scene.uplink.malformed[1] += scene.random.poisson(3.0);
}
