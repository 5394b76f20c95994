//! What the traffic itself notices: bytes and packets per second over a veth pair, through a bridge and through a
//! router, with and without an agent on the node in question, and with an empty program in the places of the agent's.
//!
//! Judged is what the probe adds to the empty program: where returns are guarded (Safe RET) the kernel's own way to a hook
//! alone costs more than the 3 % that a probe may cost, and no program is there that could save it. The rates without
//! anything stand beside.
//!
//! One agent: the nodes of a path have their own CPUs in life, and share one here.
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
    empty::EmptyPrograms,
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

/// A path, and the node on it that is watched, with its interfaces.
struct Scene<'n> {
    name: &'static str,
    path: Path<'n>,
    node: &'n Namespace,
    interfaces: &'n [&'n str],
}

/// What was reached in one round.
struct Speed {
    kilo_datagrams: f64,
    gigabits: f64,
}

struct Round {
    without: Speed,
    with: Speed,
    with_empty: Speed,
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let (pair, bridged, routed) = (Pair::new()?, Bridged::new()?, Routed::new()?);
    let path = |sender, receiver, to: std::net::Ipv4Addr| Path { sender, receiver, to: (to, 5000).into() };
    let scenes = [
        Scene { name: "veth", path: path(&pair.left, &pair.right, RIGHT), node: &pair.right, interfaces: &["b"] },
        Scene {
            name: "bridge",
            path: path(&bridged.left, &bridged.right, RIGHT),
            node: &bridged.switch,
            interfaces: &["p1", "br", "p2"],
        },
        Scene {
            name: "router",
            path: path(&routed.client, &routed.server, SERVER),
            node: &routed.router,
            interfaces: &["r1", "r2"],
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
    Kind { name: "udp kpps", of: "rate, with / with empty", figure: |speed| speed.kilo_datagrams },
    Kind { name: "tcp Gbit/s", of: "throughput, with / with empty", figure: |speed| speed.gigabits },
];

impl Kind {
    fn ratio(&self, round: &Round) -> f64 {
        (self.figure)(&round.with) / (self.figure)(&round.with_empty)
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
                figures: vec![
                    ("without", median(|round| &round.without), 1),
                    ("with", median(|round| &round.with), 1),
                    ("with_empty", median(|round| &round.with_empty), 1),
                ],
                judged: Some(Judged {
                    of: kind.of,
                    ratio: estimate(&rounds, |round| kind.ratio(round)),
                    target: TARGET,
                }),
            });
        }
        Ok(())
    }

    /// All ways, in turns first.
    fn round(&self, number: usize) -> Result<Round> {
        let [mut without, mut with, mut with_empty] = [None, None, None];
        for turn in 0..3 {
            match (number + turn) % 3 {
                0 => without = Some(self.speed()?),
                1 => with = Some(self.speed_with_agent()?),
                _ => with_empty = Some(self.speed_with_empty_programs()?),
            }
        }
        let missing = "three turns";
        Ok(Round {
            without: without.context(missing)?,
            with: with.context(missing)?,
            with_empty: with_empty.context(missing)?,
        })
    }

    fn speed_with_agent(&self) -> Result<Speed> {
        // As uplinks are: their connections are followed.
        let interfaces = self.interfaces.iter().flat_map(|name| ["--interface", name, "--track", name]);
        // A bridge's ports, too, under names of their own.
        let arguments: Vec<_> = interfaces.chain(["--ports", "each"]).collect();
        let agent = Agent::start(self.node, &arguments)?;
        let speed = self.speed()?;
        // A bridge's own device carries nothing of what crosses its ports.
        for name in self.interfaces.iter().filter(|name| **name != "br") {
            let counted = agent.metrics()?.sum("lossprobe_frames_total", &[("interface", name)]);
            ensure!(counted >= (DATAGRAM_STEPS * STEP_DATAGRAMS) as f64, "{name}: only {counted} frames counted");
        }
        agent.stop()?;
        Ok(speed)
    }

    fn speed_with_empty_programs(&self) -> Result<Speed> {
        let _attached = EmptyPrograms::attach(self.node, self.interfaces)?;
        self.speed()
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
