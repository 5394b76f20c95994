//! Connections whose frames come damaged. Anybody far away can send malformed frames; that those of several connections are
//! damaged which have nothing in common but the way, and which work otherwise, is the way's fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use probe_ebpf::{abi::Direction, reason::Severity};

use crate::{
    detect::verdict::Damaged,
    event::{Endpoint, Event},
};

/// Connections that are remembered; of more those of which the last damaged frame is the oldest go.
const MOST: usize = 256;
/// For so long.
const REMEMBERED: Duration = Duration::from_secs(20);
/// Well-formed segments in each direction from which on a connection works: more than it takes to open one.
const WORKS: u64 = 8;

/// Both ends of a connection, the outer one first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Connections that malformed frames said they belonged to, and when the last one came.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<Ends, Instant>);

impl Claims {
    /// Takes note of a frame that has come, if it says which connection it belongs to. Reasons of local scope speak for
    /// themselves.
    pub(super) fn add(&mut self, event: &Event, now: Instant) {
        let has_come = event.direction.as_deref() == Some(Direction::Ingress.id());
        if !has_come || event.severity.as_deref() != Some(Severity::Error.id()) || event.protocol != "tcp" {
            return;
        }
        let end = |end: Option<Endpoint>| end.and_then(|end| Some(SocketAddr::new(end.address, end.port?)));
        let Some(ends) = end(event.source).zip(end(event.destination)) else { return };
        self.0.insert(ends, now);
        if self.0.len() > MOST {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(ends, _)| *ends);
            oldest.map(|ends| self.0.remove(&ends));
        }
    }

    /// Of these connections, and how many segments each has seen either way, those that work and come damaged.
    pub(super) fn damaged(&self, connections: impl Iterator<Item = (Ends, [u64; 2])>, now: Instant) -> Damaged {
        let is_recent = |ends: &Ends| self.0.get(ends).is_some_and(|at| now.duration_since(*at) < REMEMBERED);
        let working =
            connections.filter(|(ends, segments)| is_recent(ends) && segments.iter().all(|seen| *seen >= WORKS));
        // A connection inside a tunnel can have the ends of one outside.
        let found: BTreeSet<Ends> = working.map(|(ends, _)| ends).collect();
        let networks: BTreeSet<Network> = found.iter().map(|(outside, _)| network(outside.ip())).collect();
        Damaged { flows: found.len() as u64, networks: networks.len() as u64, is_early: false }
    }
}

/// The first bits of an address: of IPv4 16, of IPv6 32.
type Network = (bool, [u8; 4]);

fn network(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            (false, [first, second, 0, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.octets();
            (true, [a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    fn ends(outside: &str) -> Ends {
        (outside.parse().unwrap(), "192.0.2.1:443".parse().unwrap())
    }

    fn frame(outside: &str) -> Event {
        let end = |end: SocketAddr| Some(Endpoint { address: end.ip(), port: Some(end.port()) });
        let (source, destination) = ends(outside);
        Event {
            protocol: "tcp".into(),
            severity: Some("error".into()),
            direction: Some("ingress".into()),
            source: end(source),
            destination: end(destination),
            ..example()
        }
    }

    #[test]
    fn connections_that_work_and_come_damaged() {
        let (now, mut claims) = (Instant::now(), Claims::default());
        let all = ["10.1.0.1:1", "10.1.0.1:2", "10.2.0.1:1", "10.3.0.1:1", "[2001:db8::1]:1", "[2001:db8:1::1]:1"];
        all.iter().for_each(|outside| claims.add(&frame(outside), now));
        let damaged = |changed: &dyn Fn(&str) -> [u64; 2], now| {
            claims.damaged(all.iter().map(|outside| (ends(outside), changed(outside))), now)
        };
        assert_eq!(damaged(&|_| [WORKS; 2], now), Damaged { flows: 6, networks: 4, is_early: false });
        assert_eq!(damaged(&|_| [WORKS; 2], now + REMEMBERED), Damaged::default(), "what is past is past");
        let scanner = |outside: &str| if outside.starts_with("10.") { [3, 2] } else { [100, 100] };
        assert_eq!(
            damaged(&scanner, now),
            Damaged { flows: 2, networks: 1, is_early: false },
            "a handshake is no connection"
        );
        assert_eq!(damaged(&|_| [1_000, 0], now), Damaged::default(), "one way only");
        assert_eq!(claims.damaged([].into_iter(), now), Damaged::default(), "nobody knows them");
    }

    #[test]
    fn frames_that_claim_nothing() {
        type Change = fn(&mut Event);
        let changes: [(&str, Change); 5] = [
            ("going out", |event| event.direction = Some("egress".into())),
            ("only strange", |event| event.severity = Some("warning".into())),
            ("of no connection", |event| event.protocol = "udp".into()),
            ("without ports", |event| event.source = event.source.map(|end| Endpoint { port: None, ..end })),
            ("without an address", |event| event.destination = None),
        ];
        for (name, change) in changes {
            let (mut claims, mut event) = (Claims::default(), frame("10.1.0.1:1"));
            change(&mut event);
            claims.add(&event, Instant::now());
            assert!(claims.0.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_flood_is_bounded() {
        let (now, mut claims) = (Instant::now(), Claims::default());
        for port in 1..=2 * MOST as u64 {
            claims.add(&frame(&format!("10.1.0.1:{port}")), now + Duration::from_millis(port));
        }
        assert_eq!(claims.0.len(), MOST);
        assert!(claims.0.contains_key(&ends(&format!("10.1.0.1:{}", 2 * MOST))), "the latest stay");
    }
}
