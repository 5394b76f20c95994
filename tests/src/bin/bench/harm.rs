//! What the traffic itself notices: bytes and packets per second over a veth pair, through a bridge and through a
//! router, with and without an agent on every interface of the path.
//!
//! One thread is both ends ([`tests::pump`]), and not iperf3 with its two processes: on an idle machine the two would
//! share out the path to two CPUs and hide what is added to the faster one, on a busy one they would measure who runs
//! when.

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    namespace::Namespace,
    pump::{Datagrams, Path, Stream},
    statistics::median_of,
    topology::{Bridged, Pair, RIGHT, Routed, SERVER},
};

use crate::{
    report::{Judged, Report, Row, Target},
    rounds::{Bench, estimate, is_narrow, pinned, seconds_per_step},
};

const PART: &str = "harm";
const TARGET: Target = Target::AtLeast(0.97);

/// Steps are short against a scheduler's slice; all of them together take a fraction of a second.
const STEP_DATAGRAMS: usize = 64;
const DATAGRAM_STEPS: usize = 2400;
const STEP_BYTES: usize = 256 << 10;
const STREAM_STEPS: usize = 2400;

/// A path, and the namespaces that it crosses with their interfaces.
struct Scene<'n> {
    name: &'static str,
    path: Path<'n>,
    places: Vec<(&'n Namespace, &'n [&'n str])>,
}

/// What was reached in one round.
struct Speed {
    kilo_datagrams: f64,
    gigabits: f64,
}

struct Round {
    without: Speed,
    with: Speed,
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let (pair, bridged, routed) = (Pair::new()?, Bridged::new()?, Routed::new()?);
    let path = |sender, receiver, to: std::net::Ipv4Addr| Path { sender, receiver, to: (to, 5000).into() };
    let scenes = [
        Scene {
            name: "veth",
            path: path(&pair.left, &pair.right, RIGHT),
            places: vec![(&pair.left, &["a"]), (&pair.right, &["b"])],
        },
        Scene {
            name: "bridge",
            path: path(&bridged.left, &bridged.right, RIGHT),
            places: vec![(&bridged.left, &["a"]), (&bridged.switch, &["p1", "br", "p2"]), (&bridged.right, &["b"])],
        },
        Scene {
            name: "router",
            path: path(&routed.client, &routed.server, SERVER),
            places: vec![(&routed.client, &["c"]), (&routed.router, &["r1", "r2"]), (&routed.server, &["s"])],
        },
    ];
    scenes.iter().try_for_each(|scene| scene.measure(bench, report))
}

/// What is measured on every path.
struct Kind {
    name: &'static str,
    of: &'static str,
    figure: fn(&Speed) -> f64,
}

const KINDS: [Kind; 2] = [
    Kind { name: "udp kpps", of: "rate, with / without", figure: |speed| speed.kilo_datagrams },
    Kind { name: "tcp Gbit/s", of: "throughput, with / without", figure: |speed| speed.gigabits },
];

impl Kind {
    fn ratio(&self, round: &Round) -> f64 {
        (self.figure)(&round.with) / (self.figure)(&round.without)
    }
}

impl Scene<'_> {
    fn measure(&self, bench: &Bench, report: &mut Report) -> Result<()> {
        let name = |kind: &Kind| format!("{} {}", self.name, kind.name);
        let wanted: Vec<_> = KINDS.iter().filter(|kind| bench.wants(PART, &name(kind))).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let what = format!("{PART}, {}", self.name);
        let is_enough = |rounds: &[Round]| wanted.iter().all(|kind| is_narrow(rounds, |round| kind.ratio(round)));
        let rounds = bench.rounds(&what, is_enough, |number| self.round(number))?;
        for kind in wanted {
            let median =
                |side: fn(&Round) -> &Speed| Some(median_of(rounds.iter().map(|round| (kind.figure)(side(round)))));
            report.add(Row {
                part: PART,
                name: name(kind),
                figures: vec![("without", median(|round| &round.without), 1), ("with", median(|round| &round.with), 1)],
                judged: Some(Judged {
                    of: kind.of,
                    ratio: estimate(&rounds, |round| kind.ratio(round)),
                    target: TARGET,
                }),
            });
        }
        Ok(())
    }

    /// Both ways, in turns first.
    fn round(&self, number: usize) -> Result<Round> {
        if number.is_multiple_of(2) {
            let without = self.speed()?;
            Ok(Round { without, with: self.speed_with_agents()? })
        } else {
            let with = self.speed_with_agents()?;
            Ok(Round { without: self.speed()?, with })
        }
    }

    fn speed_with_agents(&self) -> Result<Speed> {
        let mut agents = Vec::new();
        for (namespace, interfaces) in &self.places {
            let interfaces = interfaces.iter().flat_map(|name| ["--interface", name]);
            // A bridge's ports, too, under names of their own.
            let arguments: Vec<_> = interfaces.chain(["--ports", "each"]).collect();
            agents.push(Agent::start(namespace, &arguments)?);
        }
        let frames = |agent: &Agent<'_>, name: &str| {
            Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_frames_total", &[("interface", name)]))
        };
        let speed = self.speed()?;
        for (agent, (_, interfaces)) in agents.iter().zip(&self.places) {
            // A bridge's own device carries nothing of what crosses its ports.
            for name in interfaces.iter().filter(|name| **name != "br") {
                let counted = frames(agent, name)?;
                ensure!(counted >= (DATAGRAM_STEPS * STEP_DATAGRAMS) as f64, "{name}: only {counted} frames counted");
            }
        }
        agents.into_iter().try_for_each(Agent::stop)?;
        Ok(speed)
    }

    fn speed(&self) -> Result<Speed> {
        pinned(|| {
            let mut datagrams = Datagrams::new(&self.path)?;
            let step = || datagrams.pass(STEP_DATAGRAMS);
            let datagram_seconds = seconds_per_step(DATAGRAM_STEPS, step).context("send datagrams")?;
            datagrams.finish()?;
            let mut stream = Stream::new(&self.path)?;
            let step = || stream.pass(STEP_BYTES);
            let stream_seconds = seconds_per_step(STREAM_STEPS, step).context("send a stream")?;
            Ok(Speed {
                kilo_datagrams: STEP_DATAGRAMS as f64 / datagram_seconds / 1e3,
                gigabits: STEP_BYTES as f64 * 8.0 / stream_seconds / 1e9,
            })
        })
    }
}
