//! The tc programs by themselves: `BPF_PROG_TEST_RUN` repeats one of them on one frame; no device, no other program.
//!
//! Four programs take turns on each frame: the one that does nothing, the reference (frames and bytes per interface),
//! ours for ingress and ours for egress. After every run the counters must have moved by the number of repetitions,
//! else it was the way out at an interface without a slot that was timed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use nix::time::{ClockId, clock_gettime};
use probe_ebpf::{
    abi::{Checksum, Direction, Settings, Slot, Tally, global, map, program},
    classify::{FROM_WIRE, LinkKind},
};
use probe_user::kernel::{
    heartbeat::{Heartbeat, hertz},
    load,
    read::Maps,
};
use tests::{cpu::pinned, namespace::Namespace, statistics::median_of, wait::eventually};

use crate::{
    report::{Judged, Report, Row},
    rounds::{Bench, estimate, is_narrow},
    samples::{self, Sample, Sums, samples},
};

const PART: &str = "frames";

/// Runs that one figure is the mean of.
const REPEAT: u32 = 1_000_000;

/// The device of a test run: the loopback of the caller's namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Nanoseconds per run, of one round.
struct Round {
    empty: f64,
    reference: f64,
    /// By direction.
    ours: [f64; 2],
}

impl Round {
    fn ratio(&self, direction: Direction) -> f64 {
        self.ours[direction as usize] / self.reference
    }
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let wanted = |sample: &Sample| -> Vec<Direction> {
        // Sums are made of what comes in only.
        let all = if sample.sums.is_some() { &Direction::ALL[..1] } else { &Direction::ALL[..] };
        all.iter().copied().filter(|direction| bench.wants(PART, &name(sample, *direction))).collect()
    };
    let samples: Vec<_> = samples().into_iter().filter(|sample| !wanted(sample).is_empty()).collect();
    if samples.is_empty() {
        return Ok(());
    }
    let work = || {
        let mut kernel = Kernel::load()?;
        for sample in &samples {
            let directions = wanted(sample);
            let is_enough = |rounds: &[Round]| directions.iter().all(|it| is_narrow(rounds, |round| round.ratio(*it)));
            let rounds = bench.rounds(&format!("{PART}, {}", sample.name), is_enough, |_| kernel.round(sample))?;
            directions.iter().for_each(|direction| report.add(row(sample, &rounds, *direction)));
        }
        kernel.lost_nothing()
    };
    Namespace::new(PART)?.run(|| pinned(work))
}

fn name(sample: &Sample, direction: Direction) -> String {
    format!("{} {}", direction.id(), sample.name)
}

fn row(sample: &Sample, rounds: &[Round], direction: Direction) -> Row {
    let median = |figure: fn(&Round) -> f64| Some(median_of(rounds.iter().map(figure)));
    let ours = |round: &Round| round.ours[direction as usize];
    Row {
        part: PART,
        name: name(sample, direction),
        figures: vec![
            ("bytes", Some(sample.bytes.len() as f64), 0),
            ("empty_ns", median(|round| round.empty), 1),
            ("reference_ns", median(|round| round.reference), 1),
            ("ours_ns", Some(median_of(rounds.iter().map(ours))), 1),
            ("ours_over_empty_ns", Some(median_of(rounds.iter().map(|round| ours(round) - round.empty))), 1),
        ],
        judged: sample.target.map(|target| Judged {
            of: "ours / reference",
            ratio: estimate(rounds, |round| round.ratio(direction)),
            target,
        }),
    }
}

/// The programs, loaded and attached to nothing.
struct Kernel {
    ebpf: Ebpf,
    heartbeat: Heartbeat,
    maps: Maps,
    /// What became of transport checksums so far.
    sums: [u64; Checksum::ALL.len()],
}

/// What one direction's counters say.
#[derive(Debug, PartialEq)]
struct Counted {
    frames: u64,
    bytes: u64,
    unseen: u64,
    malformed: BTreeMap<u8, u64>,
}

impl Kernel {
    fn load() -> Result<Self> {
        let settings = Settings { hertz: hertz()?, ..Settings::UNSET };
        let mut ebpf = EbpfLoader::new()
            .override_global(global::SETTINGS, &settings, true)
            .map_max_entries(map::MALFORMED, load::Capacity::for_interfaces(1).malformed)
            .load(load::object())
            .context("create the eBPF maps")?;
        for name in [program::EMPTY, program::REFERENCE, program::INGRESS, program::EGRESS] {
            classifier(&mut ebpf, name)?.load().with_context(|| format!("load program {name}"))?;
        }
        let heartbeat = Heartbeat::start(&mut ebpf)?;
        let maps = Maps::take(&mut ebpf)?;
        let mut kernel = Self { ebpf, heartbeat, maps, sums: [0; Checksum::ALL.len()] };
        kernel.set_slot(false)?;
        Ok(kernel)
    }

    /// As a port, or as a track point, which looks at transport checksums.
    fn set_slot(&mut self, is_track_point: bool) -> Result<()> {
        let slot = Slot {
            ifindex: LOOPBACK_INDEX,
            slot: 0,
            mtu_bytes: 1500,
            link_kind: LinkKind::Ethernet as u8,
            flags: FROM_WIRE,
            track: is_track_point.into(),
            ..Slot::default()
        };
        self.maps.set_slot(LOOPBACK_INDEX, slot)
    }

    fn round(&mut self, sample: &Sample) -> Result<Round> {
        self.set_slot(sample.sums.is_some())?;
        if sample.sums == Some(Sums::All) {
            self.open_budget()?;
        }
        let nothing = |kernel: &Self| kernel.counted(Direction::Ingress);
        let before = nothing(self)?;
        let empty = self.time(program::EMPTY, sample)?;
        ensure!(nothing(self)? == before, "the empty program has counted something");
        Ok(Round {
            empty,
            reference: self.time_counting(program::REFERENCE, Direction::Ingress, sample, &BTreeMap::new())?,
            ours: [
                self.time_counting(program::INGRESS, Direction::Ingress, sample, &sample.findings())?,
                self.time_counting(program::EGRESS, Direction::Egress, sample, &sample.findings())?,
            ],
        })
    }

    /// As `time`, for a program that must count every run.
    fn time_counting(
        &mut self,
        name: &str,
        direction: Direction,
        sample: &Sample,
        findings: &BTreeMap<u8, u64>,
    ) -> Result<f64> {
        let before = self.counted(direction)?;
        let nanoseconds = self.time(name, sample)?;
        let repeat = u64::from(REPEAT);
        let mut expected = Counted {
            frames: before.frames + repeat,
            bytes: before.bytes + repeat * sample.bytes.len() as u64,
            ..before
        };
        for (reason, count) in findings {
            *expected.malformed.entry(*reason).or_default() += count;
        }
        self.check_sums(name, sample)?;
        let counted = self.counted(direction)?;
        ensure!(counted == expected, "{name} on {}: counted {counted:?} instead of {expected:?}", sample.name);
        Ok(nanoseconds)
    }

    /// A wrong sum: from now on all are looked at, for longer than a run takes. What ran before may have left nothing of a
    /// tenth of a second's budget, and then it is not looked at itself.
    fn open_budget(&mut self) -> Result<()> {
        const SOON: Duration = Duration::from_secs(5);
        let wrong = |kernel: &Self| Ok::<_, anyhow::Error>(kernel.maps.checksums(1)?[Checksum::Bad as usize]);
        let before = wrong(self)?;
        eventually(SOON, "a wrong sum is looked at", || {
            self.once(program::INGRESS, &samples::wrong_sum())?;
            ensure!(wrong(self)? > before, "the budget is spent");
            Ok(())
        })
    }

    /// Runs a program on one frame.
    fn once(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.heartbeat.beat(&mut self.ebpf)?;
        let options = TestRunOptions { data_in: Some(bytes), ..TestRunOptions::new() };
        classifier(&mut self.ebpf, name)?.test_run(options).with_context(|| format!("run {name} once"))?;
        Ok(())
    }

    /// Nanoseconds per run, by the thread's own clock: time that others had the CPU is not in it. (The kernel's own
    /// figure is a whole number of nanoseconds, too coarse for programs of 30.)
    fn time(&mut self, name: &str, sample: &Sample) -> Result<f64> {
        self.heartbeat.beat(&mut self.ebpf)?;
        let program = classifier(&mut self.ebpf, name)?;
        let options = TestRunOptions { data_in: Some(&sample.bytes), repeat: REPEAT, ..TestRunOptions::new() };
        let started = cpu_time()?;
        let result = program.test_run(options).with_context(|| format!("run {name} on {}", sample.name))?;
        let taken = cpu_time()? - started;
        ensure!(result.return_value == u32::MAX, "{name} decided about a frame: {}", result.return_value);
        Ok(taken.as_secs_f64() * 1e9 / f64::from(REPEAT))
    }

    /// Every run of a frame whose sum was to be looked at was looked at, or every one was not.
    fn check_sums(&mut self, name: &str, sample: &Sample) -> Result<()> {
        let Some(sums) = sample.sums.filter(|_| name == program::INGRESS) else { return Ok(()) };
        let now = self.maps.checksums(1)?;
        let before = std::mem::replace(&mut self.sums, now);
        let looked_at = now[Checksum::Good as usize] - before[Checksum::Good as usize];
        let is_as_wanted = match sums {
            Sums::All => looked_at == u64::from(REPEAT),
            Sums::Some => looked_at < u64::from(REPEAT),
        };
        ensure!(is_as_wanted, "{}: {looked_at} sums were looked at", sample.name);
        Ok(())
    }

    fn counted(&self, direction: Direction) -> Result<Counted> {
        let traffic = self.maps.traffic(0, direction)?;
        let malformed = self.maps.counters()?.malformed;
        let of_direction = malformed.iter().filter(|(key, _)| key.direction == direction as u8);
        Ok(Counted {
            frames: traffic.frames,
            bytes: traffic.bytes,
            unseen: traffic.unseen_frames,
            malformed: of_direction.map(|(key, count)| (key.reason, *count)).collect(),
        })
    }

    fn lost_nothing(&self) -> Result<()> {
        for (tally, map, cause) in Tally::FAILURES {
            let lost = self.maps.tally(*tally)?;
            ensure!(lost == 0, "{lost} frames found no counter: {map} {cause}");
        }
        Ok(())
    }
}

impl Sample {
    fn findings(&self) -> BTreeMap<u8, u64> {
        self.finding.iter().map(|reason| (*reason as u8, u64::from(REPEAT))).collect()
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    program.try_into().with_context(|| format!("program {name} is no tc program"))
}

fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's clock")?.into())
}
