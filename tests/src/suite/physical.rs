//! The agent on network cards: what only a device with a bus and a driver shows.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use tests::{
    agent::Agent,
    cards::Physical,
    frames::ethernet,
    run::trial,
    topology::{LEFT, RIGHT},
    wire::PacketSocket,
};

use super::counts::{Counts, counts_exactly, lost_nothing};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("physical::counted_and_described", counted_and_described),
        trial("physical::cards_come_back", cards_come_back),
    ]
}

/// Nobody's address: the receiver counts the frame and answers nothing.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// Frames from one card are counted on the other, as those of an uplink with its driver's name.
fn counted_and_described() -> Result<()> {
    const COUNT: usize = 1000;
    let pair = Physical::pair()?;
    let Physical { left, right, .. } = &pair;
    for (namespace, name, address) in [(left, "p", LEFT), (right, "q", RIGHT)] {
        namespace.address(name, address, 24)?;
    }
    let (here, there) = (Agent::start(left, &["--interface", "p"])?, Agent::start(right, &["--interface", "q"])?);
    for (agent, name) in [(&here, "p"), (&there, "q")] {
        let metrics = agent.metrics()?;
        let labels = [("interface", name)];
        let info = metrics.select("lossprobe_interface_info", &labels).next().context("no info")?;
        for (label, expected) in [("role", "uplink"), ("driver", "virtio_net"), ("kind", "ethernet")] {
            let told = info.labels.get(label);
            ensure!(told.is_some_and(|told| told == expected), "{label} of {name} is not {expected}: {info:?}");
        }
    }
    let [source, destination] = pair.addresses();
    let frame = ethernet(destination, source).ipv4(|ip| ip.destination = ELSEWHERE).udp(1, 2).payload(100).bytes();
    let expected = Counts::new(COUNT as u64, (COUNT * frame.len()) as u64);
    let socket = PacketSocket::sender(left, "p")?;
    counts_exactly(&there, ("q", "ingress"), expected, || socket.send_copies(&frame, COUNT))?;
    counts_exactly(&here, ("p", "egress"), expected, || socket.send_copies(&frame, COUNT))?;
    lost_nothing(&there)?;
    lost_nothing(&here)
}

/// The next test finds them again, whatever the last one called them and wherever it left them.
fn cards_come_back() -> Result<()> {
    for name in ["q", "other"] {
        let pair = Physical::pair()?;
        pair.right.down("q")?;
        if name != "q" {
            pair.right.rename("q", name)?;
        }
    }
    Physical::pair().map(drop)
}
