//! Connections by hand that have lost nothing, though something of them looks like it: nobody must be accused.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    frames::{A, B, Mac, ethernet, flag},
    link::{End, veth},
    run::trial,
    topology::Pair,
    wait::{eventually, settled},
    wire::PacketSocket,
};

use super::truth::{self, lost_segments};
use crate::suite::counts::{SOON, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    STORIES.iter().map(|story| trial(&format!("wire::innocent_{}", story.name), || story.judge())).collect()
}

/// Segments with data of each connection.
const SEGMENTS: u32 = 2_000;
const SEGMENT_BYTES: usize = 1_000;

/// A connection, and what must have been noticed of it.
struct Story {
    name: &'static str,
    tell: fn(&mut Talk) -> Result<()>,
    /// An event that has to be there, so that the story is known to have been understood; and how many of it.
    event: Option<(&'static str, std::ops::RangeInclusive<u32>)>,
}

const STORIES: &[Story] = &[
    Story { name: "shared_identifiers", tell: shared_identifiers, event: None },
    Story { name: "identifiers_with_gaps", tell: identifiers_with_gaps, event: Some(("id_gap", 1..=SEGMENTS)) },
    Story { name: "acknowledgement_filter", tell: acknowledgement_filter, event: Some(("ack_gap", 1..=SEGMENTS)) },
    Story { name: "other_way_unseen", tell: other_way_unseen, event: Some(("acked_unseen", 1..=REHASHES)) },
    Story { name: "other_leg", tell: other_leg, event: Some(("hole_opened", 0..=0)) },
    Story { name: "duplicates", tell: duplicates, event: Some(("duplicate", SEGMENTS / 5..=SEGMENTS / 5)) },
];

impl Story {
    fn judge(&self) -> Result<()> {
        let pair = Pair::new()?;
        let Pair { left, right } = &pair;
        veth(End::new(left, "a2"), End::new(right, "b2"))?;
        let agent = Agent::start(right, &["--interface", "b*", "--track", "b*"])?;
        let open = |namespace, device| PacketSocket::sender(namespace, device);
        let mut talk = Talk {
            west: [open(left, "a")?, open(left, "a2")?],
            east: [open(right, "b")?, open(right, "b2")?],
            leg: 0,
            sent: 0,
            client: Party { sequence: 1_000, identifier: 100 },
            server: Party { sequence: u32::MAX - 500_000, identifier: 60_000 },
        };
        talk.shake_hands()?;
        (self.tell)(&mut talk)?;
        eventually(SOON, "all segments are followed", || {
            let counted = agent.metrics()?.sum("lossprobe_wire_tcp_segments_total", &[]);
            ensure!(counted == f64::from(talk.sent), "{counted} of {}", talk.sent);
            Ok(())
        })?;
        let lost = settled(Duration::from_secs(40), truth::REST, || losses(&agent))?;
        let metrics = agent.metrics()?;
        let events: Vec<_> = metrics.select("lossprobe_wire_tcp_events_total", &[]).filter(|s| s.value > 0.0).collect();
        truth::note_innocent(self.name, lost);
        ensure!(lost == 0.0, "{lost} segments are said to be lost, and none is: {events:?}");
        if let Some((event, wanted)) = &self.event {
            let seen = metrics.sum("lossprobe_wire_tcp_events_total", &[("event", event)]);
            ensure!(wanted.contains(&(seen as u32)), "{seen} {event}, not {wanted:?}: {events:?}");
        }
        lost_nothing(&agent)?;
        agent.stop()
    }
}

fn losses(agent: &Agent<'_>) -> Result<f64> {
    let sides = ["network_in", "network_out", "inside"];
    let each = ["b", "b2"].into_iter().flat_map(|device| sides.map(|side| (device, side)));
    each.map(|(device, side)| lost_segments(agent, device, side)).sum()
}

/// Nobody's hardware address, so that both kernels leave the frames alone.
const NOBODY: Mac = [2, 0, 0, 0, 0, 0x99];

/// A connection from 10.0.0.11, behind `a`, to 10.0.0.12, behind `b`'s own side: the client's packets come in at the
/// observer and the server's leave it.
struct Talk {
    west: [PacketSocket; 2],
    east: [PacketSocket; 2],
    /// Which of the two links is taken.
    leg: usize,
    sent: u32,
    client: Party,
    server: Party,
}

/// What is next of one side.
#[derive(Clone, Copy)]
struct Party {
    sequence: u32,
    identifier: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Client,
    Server,
}

impl Talk {
    /// The next packet of a side, which is sent by [`Self::send`] or not at all.
    fn next(&mut self, who: Who, flags: u16, bytes: usize) -> (Who, Vec<u8>) {
        let (own, other) = match who {
            Who::Client => (&mut self.client, self.server),
            Who::Server => (&mut self.server, self.client),
        };
        let Party { sequence, identifier } = *own;
        own.sequence = sequence.wrapping_add(bytes as u32 + u32::from(flags & flag::SYN != 0));
        own.identifier = identifier.wrapping_add(1);
        let acknowledgement = if flags & flag::ACK == 0 { 0 } else { other.sequence };
        let (hosts, ports, mac) = match who {
            Who::Client => ([11, 12], (4000, 5000), A),
            Who::Server => ([12, 11], (5000, 4000), B),
        };
        let frame = ethernet(NOBODY, mac)
            .ipv4(move |ip| {
                ip.identification = identifier;
                (ip.source, ip.destination) = ([10, 0, 0, hosts[0]].into(), [10, 0, 0, hosts[1]].into());
            })
            .tcp_with(ports.0, ports.1, move |tcp| {
                (tcp.sequence, tcp.acknowledgement) = (sequence, acknowledgement);
                (tcp.flags, tcp.window) = (flags, 50_000);
            });
        (who, frame.payload(bytes).bytes())
    }

    fn send(&mut self, (who, frame): &(Who, Vec<u8>)) -> Result<()> {
        let sockets = if *who == Who::Client { &self.west } else { &self.east };
        sockets[self.leg].send([frame])?;
        self.sent += 1;
        Ok(())
    }

    fn say(&mut self, who: Who, flags: u16, bytes: usize) -> Result<()> {
        let packet = self.next(who, flags, bytes);
        self.send(&packet)
    }

    fn shake_hands(&mut self) -> Result<()> {
        self.say(Who::Client, flag::SYN, 0)?;
        // As Linux answers; the first number of the connection comes later.
        let identifier = std::mem::replace(&mut self.server.identifier, 0);
        self.say(Who::Server, flag::SYN | flag::ACK, 0)?;
        self.server.identifier = identifier;
        self.say(Who::Client, flag::ACK, 0)
    }

    fn data(&mut self, who: Who) -> (Who, Vec<u8>) {
        self.next(who, flag::ACK | flag::PSH, SEGMENT_BYTES)
    }

    /// Data of the client, of which the server acknowledges every second segment.
    fn stream(&mut self, mut before: impl FnMut(&mut Self, u32)) -> Result<()> {
        for number in 0..SEGMENTS {
            before(self, number);
            let data = self.data(Who::Client);
            self.send(&data)?;
            if number % 2 == 1 {
                self.say(Who::Server, flag::ACK, 0)?;
            }
        }
        Ok(())
    }
}

/// One counter for all that a host sends: most numbers are other connections'.
fn shared_identifiers(talk: &mut Talk) -> Result<()> {
    talk.stream(|talk, number| talk.client.identifier = talk.client.identifier.wrapping_add((number % 3) as u16))
}

/// One counter for each destination, where another connection sends a little: numbers mostly follow each other.
fn identifiers_with_gaps(talk: &mut Talk) -> Result<()> {
    talk.stream(|talk, number| {
        if number % 10 == 9 {
            talk.client.identifier = talk.client.identifier.wrapping_add(3);
        }
    })
}

/// A box on the way lets one acknowledgement of a few stand for all.
fn acknowledgement_filter(talk: &mut Talk) -> Result<()> {
    for number in 0..SEGMENTS {
        let data = talk.data(Who::Server);
        talk.send(&data)?;
        let acknowledgement = talk.next(Who::Client, flag::ACK, 0);
        if number % 8 != 3 {
            talk.send(&acknowledgement)?;
        }
        if number % 100 == 99 {
            // A request in between, in front of which an acknowledgement is missing.
            let _filtered = talk.next(Who::Client, flag::ACK, 0);
            let request = talk.data(Who::Client);
            talk.send(&request)?;
        }
    }
    Ok(())
}

const REHASHES: u32 = 10;

/// For a while the client's packets take a way that does not pass here, and the server's still do.
fn other_way_unseen(talk: &mut Talk) -> Result<()> {
    for _ in 0..REHASHES {
        for number in 0..SEGMENTS / REHASHES {
            let data = talk.data(Who::Client);
            if !(100..150).contains(&number) {
                talk.send(&data)?;
            }
            if number % 2 == 1 {
                talk.say(Who::Server, flag::ACK, 0)?;
            }
        }
    }
    Ok(())
}

/// The connection moves to the other link and back; both are looked at.
fn other_leg(talk: &mut Talk) -> Result<()> {
    talk.stream(|talk, number| talk.leg = (number / 100 % 2) as usize)
}

/// The network copies a packet.
fn duplicates(talk: &mut Talk) -> Result<()> {
    for number in 0..SEGMENTS {
        let data = talk.data(Who::Client);
        talk.send(&data)?;
        if number % 5 == 0 {
            talk.send(&data)?;
        }
        if number % 2 == 1 {
            talk.say(Who::Server, flag::ACK, 0)?;
        }
    }
    Ok(())
}
