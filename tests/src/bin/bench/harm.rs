//! What the traffic itself notices: bytes and packets per second in each [shape](tests::shape), with and without an agent on
//! the node in question, and with an empty program in the places of the agent's.
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
    cpu::pinned,
    pump::{Datagrams, Stream},
    shape::{SHAPES, Shape},
    statistics::median_of,
};

use crate::{
    empty::EmptyPrograms,
    report::{Judged, Report, Row, Target},
    rounds::{Bench, estimate, is_narrow, seconds_per_step},
};

const PART: &str = "harm";
const TARGET: Target = Target::AtLeast(0.97);

/// Steps are short against a scheduler's slice; all of them together take a fraction of a second.
const STEP_DATAGRAMS: usize = 64;
const DATAGRAM_STEPS: usize = 2400;
const STEP_BYTES: usize = 256 << 10;
const STREAM_STEPS: usize = 2400;

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
    for (name, make) in SHAPES {
        let wanted: Vec<_> = KINDS.iter().filter(|kind| bench.wants(PART, &kind.row(name))).collect();
        if !wanted.is_empty() {
            let shape = make().with_context(|| format!("make the {name}"))?;
            Scene { name, shape }.measure(&wanted, bench, report)?;
        }
    }
    Ok(())
}

/// What is measured in every shape.
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
    fn row(&self, shape: &str) -> String {
        format!("{shape} {}", self.name)
    }

    fn ratio(&self, round: &Round) -> f64 {
        (self.figure)(&round.with) / (self.figure)(&round.with_empty)
    }
}

struct Scene {
    name: &'static str,
    shape: Shape,
}

impl Scene {
    fn measure(&self, wanted: &[&Kind], bench: &Bench, report: &mut Report) -> Result<()> {
        let what = format!("{PART}, {}", self.name);
        let is_enough = |rounds: &[Round]| wanted.iter().all(|kind| is_narrow(rounds, |round| kind.ratio(round)));
        let rounds = bench.rounds(&what, is_enough, |number| self.round(number))?;
        for kind in wanted {
            let median =
                |side: fn(&Round) -> &Speed| Some(median_of(rounds.iter().map(|round| (kind.figure)(side(round)))));
            report.add(Row {
                part: PART,
                name: kind.row(self.name),
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
        let Shape { interfaces, uplinks, .. } = &self.shape;
        let interfaces = interfaces.iter().flat_map(|name| ["--interface", name]);
        let uplinks = uplinks.iter().flat_map(|name| ["--track", name]);
        // A bridge's ports, too, under names of their own.
        let arguments: Vec<_> = interfaces.chain(uplinks).chain(["--ports", "each"]).collect();
        let agent = Agent::start(self.shape.node(), &arguments)?;
        let speed = self.speed()?;
        for name in self.shape.passed() {
            let counted = agent.metrics()?.sum("lossprobe_frames_total", &[("interface", name)]);
            ensure!(counted >= (DATAGRAM_STEPS * STEP_DATAGRAMS) as f64, "{name}: only {counted} frames counted");
        }
        agent.stop()?;
        Ok(speed)
    }

    fn speed_with_empty_programs(&self) -> Result<Speed> {
        let _attached = EmptyPrograms::attach(self.shape.node(), self.shape.interfaces)?;
        self.speed()
    }

    fn speed(&self) -> Result<Speed> {
        pinned(|| {
            let mut datagrams = Datagrams::new(&self.shape.path())?;
            let step = || datagrams.pass(STEP_DATAGRAMS);
            let datagram_seconds = seconds_per_step(DATAGRAM_STEPS, step).context("send datagrams")?;
            datagrams.finish()?;
            let mut stream = Stream::new(&self.shape.path())?;
            let step = || stream.pass(STEP_BYTES);
            let stream_seconds = seconds_per_step(STREAM_STEPS, step).context("send a stream")?;
            Ok(Speed {
                kilo_datagrams: STEP_DATAGRAMS as f64 / datagram_seconds / 1e3,
                gigabits: STEP_BYTES as f64 * 8.0 / stream_seconds / 1e9,
            })
        })
    }
}
