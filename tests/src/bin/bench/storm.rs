//! A packet filter that refuses everything, and a sender that does not stop: what each dropped packet costs when nobody
//! looks, when the agent does, when empty programs stand in its places (the agent is judged by what it adds to those, as in
//! [`harm`](crate::harm)), and when the one line of bpftrace does that an operator would type.
//!
//! Between namespaces the kernel receives and drops a packet on the sender's CPU, before the sender's next one: the
//! sender's rate is that of the whole path.

use anyhow::{Context as _, Result, ensure};
use tests::{
    agent::Agent,
    bpftrace::{BY_REASON, Bpftrace},
    cpu::pinned,
    frames::{A, B, ethernet},
    topology::Pair,
    wire::PacketSocket,
};

use crate::{
    empty::EmptyPrograms,
    report::{Judged, Report, Row, Target},
    rounds::{Bench, estimate, is_narrow, seconds_per_step},
};

const PART: &str = "drops";
/// The agent with everything it does.
const AGENT: &str = "agent";
/// Its drop program alone, against bpftrace's.
const DROPS: &str = "drop program";

/// Packets of one step: short against a scheduler's slice.
const STEP_PACKETS: usize = 128;
const STEPS: usize = 2400;

/// In front of nearly everything else that could happen to a packet, so that little hides what is added.
const REFUSE_ALL: &str = "table ip storm {
        counter gone {}
        chain first {
            type filter hook prerouting priority raw
            iifname b counter name gone drop
        }
    }";

/// Nanoseconds per packet, of one round.
struct Round {
    alone: f64,
    /// With the agent on the receiving interface.
    agent: f64,
    /// With the agent elsewhere, so that only its drop program sees the packets.
    drops: f64,
    bpftrace: f64,
    /// With empty programs in the places of the agent's.
    empty: f64,
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let wanted = [AGENT, DROPS].map(|name| bench.wants(PART, name));
    if !wanted.contains(&true) {
        return Ok(());
    }
    let storm = Storm::new()?;
    let ratios: [fn(&Round) -> f64; 2] = [|round| round.empty / round.agent, |round| round.drops / round.bpftrace];
    let is_enough = |rounds: &[Round]| ratios.iter().all(|ratio| is_narrow(rounds, ratio));
    let rounds = bench.rounds(PART, is_enough, |number| storm.round(number))?;
    let row = |name: &str, ours: fn(&Round) -> f64, judged| {
        let median = |figure: &dyn Fn(&Round) -> f64| Some(estimate(&rounds, figure).median);
        Row {
            part: PART,
            name: name.to_owned(),
            figures: vec![
                ("nobody_kpps", median(&|round| 1e6 / round.alone), 0),
                ("ours_kpps", median(&|round| 1e6 / ours(round)), 0),
                ("empty_kpps", median(&|round| 1e6 / round.empty), 0),
                ("bpftrace_kpps", median(&|round| 1e6 / round.bpftrace), 0),
                ("ours_ns_per_drop", median(&|round| ours(round) - round.alone), 0),
                ("bpftrace_ns_per_drop", median(&|round| round.bpftrace - round.alone), 0),
            ],
            judged: Some(judged),
        }
    };
    let [rate, cost] = ratios.map(|ratio| estimate(&rounds, ratio));
    let rate = Judged { of: "rate, ours / empty", ratio: rate, target: Target::AtLeast(0.9) };
    let cost = Judged { of: "time, ours / bpftrace", ratio: cost, target: Target::AtMost(1.0) };
    let rows = [row(AGENT, |round| round.agent, rate), row(DROPS, |round| round.drops, cost)];
    rows.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).for_each(|(row, _)| report.add(row));
    Ok(())
}

/// Who looks while packets are dropped.
#[derive(Clone, Copy, Debug)]
enum Watcher {
    Nobody,
    /// The agent on this interface.
    Agent(&'static str),
    Bpftrace,
    /// Nobody, with empty programs where the agent's would be.
    Empty,
}

struct Storm {
    pair: Pair,
    sender: PacketSocket,
    frame: Vec<u8>,
}

impl Storm {
    fn new() -> Result<Self> {
        let pair = Pair::new()?;
        pair.right.nft(REFUSE_ALL)?;
        let sender = PacketSocket::sender(&pair.left, "a")?;
        let frame = ethernet(B, A).ip4().udp(1000, 2000).payload(18).bytes();
        Ok(Self { pair, sender, frame })
    }

    /// Everybody once, in another order each time.
    fn round(&self, number: usize) -> Result<Round> {
        let mut times = [0.0; 5];
        let watchers = [Watcher::Nobody, Watcher::Agent("b"), Watcher::Agent("lo"), Watcher::Bpftrace, Watcher::Empty];
        for turn in 0..watchers.len() {
            let which = (number + turn) % watchers.len();
            times[which] =
                self.watched(watchers[which]).with_context(|| format!("watched by {:?}", watchers[which]))?;
        }
        let [alone, agent, drops, bpftrace, empty] = times;
        Ok(Round { alone, agent, drops, bpftrace, empty })
    }

    /// Nanoseconds per packet; whoever watches must have seen them.
    fn watched(&self, watcher: Watcher) -> Result<f64> {
        match watcher {
            Watcher::Nobody => self.flood(),
            Watcher::Agent(interface) => {
                let agent = Agent::start(&self.pair.right, &["--interface", interface])?;
                let seen = || Ok::<_, anyhow::Error>(agent.metrics()?.sum("lossprobe_dropped_packets_total", &[]));
                let before = seen()?;
                let time = self.flood()?;
                check_seen(seen()? - before)?;
                agent.stop()?;
                Ok(time)
            }
            Watcher::Empty => {
                let _attached = EmptyPrograms::attach(&self.pair.right, &["b"])?.and_drops()?;
                self.flood()
            }
            Watcher::Bpftrace => {
                let bpftrace = Bpftrace::start(&self.pair.right, BY_REASON, || self.sender.flood(&self.frame, 1))?;
                let time = self.flood()?;
                check_seen(bpftrace.stop()?.values().sum())?;
                Ok(time)
            }
        }
    }

    fn flood(&self) -> Result<f64> {
        let gone = || Ok::<_, anyhow::Error>(self.pair.right.nft_counter("ip storm", "gone")?.0);
        let before = gone()?;
        let step = || self.sender.flood(&self.frame, STEP_PACKETS);
        let seconds = pinned(|| seconds_per_step(STEPS, step))?;
        let refused = gone()? - before;
        ensure!(refused == (STEPS * STEP_PACKETS) as u64, "{refused} packets were refused of {STEPS} × {STEP_PACKETS}");
        Ok(seconds * 1e9 / STEP_PACKETS as f64)
    }
}

/// Others drop packets too, so there may be more; a watcher that samples in a storm may be off by a little.
fn check_seen(drops: f64) -> Result<()> {
    let sent = (STEPS * STEP_PACKETS) as f64;
    ensure!(drops >= 0.98 * sent, "{drops} drops were seen of {sent}");
    Ok(())
}
