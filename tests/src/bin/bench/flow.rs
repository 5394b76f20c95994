//! What following a connection costs a TCP segment: our ingress program beside an empty one on the same hook, both by the
//! kernel's own account of their run time, while data goes over a veth pair. (`BPF_PROG_TEST_RUN` repeats one frame, which
//! would be a retransmission each time.)

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType},
    sys::{Stats, enable_stats},
};
use probe_ebpf::{
    abi::{Direction, Slot, program},
    classify::LinkKind,
};
use probe_user::kernel::{
    load::{Capacity, Loaded, load_only},
    read::Maps,
};
use tests::{
    cpu::pinned,
    frames::{A, B, Checksum, Frame, ethernet},
    topology::Pair,
    wire::PacketSocket,
};

use crate::{
    empty::EmptyPrograms,
    report::{Judged, Report, Row, Target},
    rounds::{Bench, estimate, is_narrow},
};

const PART: &str = "flow";
const SLOT: u32 = 1;
/// Bytes of data of each segment.
pub(crate) const PAYLOAD: usize = 1_000;
/// NOP, NOP, timestamps.
const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
/// Places in the table, as unasked.
const PLACES: u32 = 32_768;

/// So many connections, that many nanoseconds at most (why not fewer: ARCHITECTURE, "Two ways to a place").
const CASES: [(&str, usize, f64, &str); 2] =
    [("one connection", 1, 80.0, "over empty / 80 ns"), ("32768 connections", 32_768, 400.0, "over empty / 400 ns")];
/// Segments of a round.
const SEGMENTS: usize = 131_072;

/// Nanoseconds of a run.
struct Round {
    ours: f64,
    empty: f64,
    followed: f64,
}

pub(crate) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    for (name, connections, most_ns, of) in CASES {
        if !bench.wants(PART, name) {
            continue;
        }
        let mut wire = Wire::new(connections)?;
        let ratio = |round: &Round| (round.ours - round.empty) / most_ns;
        let rounds =
            bench.rounds(&format!("{PART}, {name}"), |rounds| is_narrow(rounds, ratio), |_| pinned(|| wire.round()))?;
        let median = |figure: fn(&Round) -> f64| Some(estimate(&rounds, figure).median);
        report.add(Row {
            part: PART,
            name: name.to_owned(),
            figures: vec![
                ("empty_ns", median(|round| round.empty), 1),
                ("ours_ns", median(|round| round.ours), 1),
                ("ours_over_empty_ns", median(|round| round.ours - round.empty), 1),
                ("followed_percent", median(|round| 100.0 * round.followed), 1),
            ],
            judged: Some(Judged { of, ratio: estimate(&rounds, ratio), target: Target::AtMost(1.0) }),
        });
    }
    Ok(())
}

/// Connections between both ends of a veth pair; our programs and empty ones at the end that receives.
struct Wire {
    sender: PacketSocket,
    answers: PacketSocket,
    loaded: Loaded,
    maps: Maps,
    empty: EmptyPrograms,
    connections: Vec<Connection>,
    next: usize,
    _stats: std::os::fd::OwnedFd,
    _pair: Pair,
}

struct Connection {
    frame: Vec<u8>,
    seq: u32,
    acknowledged: u32,
    identifier: u16,
}

impl Wire {
    fn new(connections: usize) -> Result<Self> {
        let pair = Pair::new()?;
        let stats = enable_stats(Stats::RunTime).context("have the kernel measure programs")?;
        let empty = EmptyPrograms::attach(&pair.right, &["b"])?;
        let capacity = Capacity { flows: PLACES, tracks: 1, ..Capacity::for_interfaces(8) };
        let mut loaded = pair.right.run(|| load_only(capacity))?;
        let mut maps = Maps::take(&mut loaded.ebpf)?;
        let ifindex = pair.right.index("b")?;
        let slot = Slot {
            ifindex,
            slot: SLOT,
            mtu_bytes: 1500,
            link_kind: LinkKind::Ethernet as u8,
            flags: 0,
            track: 1,
            follows: 1,
            ..Slot::default()
        };
        maps.set_slot(ifindex, slot)?;
        for (name, hook) in [(program::INGRESS, TcAttachType::Ingress), (program::EGRESS, TcAttachType::Egress)] {
            let program = classifier(&mut loaded.ebpf, name)?;
            pair.right.run(|| program.attach("b", hook).context("attach to b"))?;
        }
        let sender = PacketSocket::sender(&pair.left, "a")?;
        let answers = PacketSocket::sender(&pair.right, "b")?;
        let connections: Vec<_> = (0..connections).map(Connection::new).collect();
        let mut wire = Self { sender, answers, loaded, maps, empty, connections, next: 0, _stats: stats, _pair: pair };
        // So that both directions of each are known.
        for number in 0..wire.connections.len() {
            wire.step()?;
            wire.answer(number)?;
            wire.loaded.beat()?;
        }
        (0..wire.connections.len()).try_for_each(|_| wire.step())?;
        Ok(wire)
    }

    /// The acknowledgement of all that a connection has sent.
    fn answer(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        connection.acknowledged = connection.seq;
        self.answers.send([answer(number, connection.seq)])
    }

    /// The next segment of the next connection.
    fn step(&mut self) -> Result<()> {
        let at = self.next;
        self.next = (self.next + 1) % self.connections.len();
        self.sender.send([self.connections[at].segment()])
    }

    fn round(&mut self) -> Result<Round> {
        let look = |wire: &mut Self| -> Result<_> {
            let traffic = wire.maps.traffic(SLOT, Direction::Ingress)?;
            let ours = run_time(classifier(&mut wire.loaded.ebpf, program::INGRESS)?)?;
            Ok((traffic, ours, run_time(wire.empty.classifier()?)?))
        };
        self.loaded.beat()?;
        // Before numbers have gone halfway around behind what was acknowledged.
        for number in 0..self.connections.len() {
            if self.connections[number].seq.wrapping_sub(self.connections[number].acknowledged) > 1 << 30 {
                self.answer(number)?;
            }
        }
        let before = look(self)?;
        (0..SEGMENTS).try_for_each(|_| self.step())?;
        let after = look(self)?;
        let frames = after.0.frames - before.0.frames;
        ensure!(frames == SEGMENTS as u64, "{frames} frames were counted of {SEGMENTS}");
        let events = self.maps.ledgers(1)?[0].events;
        ensure!(events.iter().all(|count| *count == 0), "an ordinary segment is something: {events:?}");
        Ok(Round {
            ours: per_run(before.1, after.1),
            empty: per_run(before.2, after.2),
            followed: (after.0.tcp_segments - before.0.tcp_segments) as f64 / frames as f64,
        })
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
}

/// Nanoseconds and runs so far. The empty program runs at both hooks: its time is a mean of them.
fn run_time(program: &SchedClassifier) -> Result<(f64, f64)> {
    let info = program.info().context("ask for a program's run time")?;
    Ok((info.run_time().as_secs_f64() * 1e9, info.run_count() as f64))
}

fn per_run(before: (f64, f64), after: (f64, f64)) -> f64 {
    (after.0 - before.0) / (after.1 - before.1)
}

fn ends(number: usize) -> (u16, [u8; 4]) {
    (1_024 + (number % 16_384) as u16, [10, 0, (number / 16_384) as u8, 1])
}

/// A connection's first segment of data.
pub(crate) fn data(number: usize) -> Vec<u8> {
    let (port, address) = ends(number);
    let packet = ethernet(B, A).ipv4(move |ip| {
        ip.source = address.into();
        ip.destination = [10, 1, 0, 2].into();
    });
    let segment = packet.tcp_with(port, 443, |tcp| {
        (tcp.sequence, tcp.acknowledgement) = (1, 5_000);
        // Whatever numbers are written into it later.
        tcp.checksum = Checksum::Unfinished;
        tcp.options = TIMESTAMP.to_vec();
    });
    segment.payload(PAYLOAD).bytes()
}

/// An acknowledgement of its bytes.
pub(crate) fn answer(number: usize, acknowledged: u32) -> Vec<u8> {
    let (port, address) = ends(number);
    let link: Frame = ethernet(A, B);
    let packet = link.ipv4(move |ip| {
        ip.source = [10, 1, 0, 2].into();
        ip.destination = address.into();
    });
    let segment = packet.tcp_with(443, port, move |tcp| {
        (tcp.sequence, tcp.acknowledgement) = (5_000, acknowledged);
        tcp.checksum = Checksum::Unfinished;
        tcp.options = TIMESTAMP.to_vec();
    });
    segment.payload(0).bytes()
}

/// Writes sequence number, identifier and the right header checksum into a frame of [`data`] or [`answer`].
pub(crate) fn stamp(frame: &mut [u8], seq: u32, identifier: u16) {
    const IP: usize = 14;
    const TCP: usize = IP + 20;
    frame[TCP + 4..TCP + 8].copy_from_slice(&seq.to_be_bytes());
    frame[IP + 4..IP + 6].copy_from_slice(&identifier.to_be_bytes());
    frame[IP + 10..IP + 12].fill(0);
    let words = frame[IP..IP + 20].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

impl Connection {
    fn new(number: usize) -> Self {
        Self { frame: data(number), seq: 1, acknowledged: 1, identifier: 1 }
    }

    fn segment(&mut self) -> &[u8] {
        stamp(&mut self.frame, self.seq, self.identifier);
        self.seq = self.seq.wrapping_add(PAYLOAD as u32);
        self.identifier = self.identifier.wrapping_add(1);
        &self.frame
    }
}
