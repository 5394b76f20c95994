//! The loaded programs themselves, run by `BPF_PROG_TEST_RUN` on frames that no device has sent.
//!
//! The kernel runs it with the loopback of the caller's namespace as device; what else a frame's circumstances are
//! comes from that device's slot and, for segments, from the context.

use std::{collections::BTreeMap, mem::offset_of};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, PerCpuValues},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp},
    util::nr_cpus,
};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use probe_ebpf::{
    abi::{Direction, Scratch, Settings, Slot, Traffic, global, map, program},
    classify::{Cursor, LinkKind, Meta, Packet},
};
use probe_user::kernel::{
    heartbeat::{Heartbeat, hertz},
    load,
    read::Maps,
};
use tests::namespace::Namespace;

const LOOPBACK_INDEX: u32 = 1;
const SCRATCH_BYTES: usize = size_of::<Scratch>();
/// The kernel wants a byte behind the Ethernet header and all of the frame in one page with its bookkeeping.
const FRAME_BYTES: std::ops::RangeInclusive<usize> = 15..=3500;

type Bytes = [u8; SCRATCH_BYTES];

/// Where a frame is seen on its way in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hook {
    Tc,
    Xdp,
}

impl Hook {
    /// What leaves a frame alone: `TC_ACT_UNSPEC`, `XDP_PASS`.
    const fn pass(self) -> u32 {
        match self {
            Self::Tc => u32::MAX,
            Self::Xdp => 2,
        }
    }

    fn load(self, ebpf: &mut Ebpf) -> Result<()> {
        match self {
            Self::Tc => ingress(ebpf)?.load(),
            Self::Xdp => xdp(ebpf)?.load(),
        }
        .with_context(|| format!("load the classifier of {self:?}"))
    }

    fn test_run(self, ebpf: &mut Ebpf, options: TestRunOptions<'_>) -> Result<TestRunResult> {
        Ok(match self {
            Self::Tc => ingress(ebpf)?.test_run(options),
            Self::Xdp => xdp(ebpf)?.test_run(options),
        }?)
    }
}

/// The program, loaded, and this CPU's end of its maps.
pub(super) struct Kernel {
    hook: Hook,
    ebpf: Ebpf,
    heartbeat: Heartbeat,
    maps: Maps,
    scratch: PerCpuArray<MapData, Bytes>,
    cpu: usize,
    slot: Slot,
    counted: Traffic,
    /// Whether the device is a track point, at which transport checksums are looked at.
    pub(super) is_track_point: bool,
}

/// Whether `BPF_PROG_TEST_RUN` can be given this frame under these circumstances. The IP header that the EtherType
/// promises must be there (since 6.18).
pub(super) fn can_run(hook: Hook, frame: &[u8], meta: &Meta) -> bool {
    let promised_bytes = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 0,
    };
    let fits = FRAME_BYTES.contains(&frame.len()) && frame.len() >= 14 + promised_bytes;
    // Nothing is merged in front of XDP.
    let possible = hook == Hook::Tc || meta.gso_size == 0;
    fits && possible && meta.tag_protocol == 0 && meta.first_protocol == 0
}

impl Kernel {
    /// Loads the program and does `work` with it, in a namespace of its own and on one CPU.
    pub(super) fn run<T: Send>(hook: Hook, work: impl FnOnce(&mut Self) -> Result<T> + Send) -> Result<T> {
        Namespace::new("classifier")?.run(|| {
            let cpu = sched_getcpu().context("ask for the CPU")?;
            let mut only = CpuSet::new();
            only.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &only).context("stay on one CPU")?;
            work(&mut Self::load(hook, cpu)?)
        })
    }

    fn load(hook: Hook, cpu: usize) -> Result<Self> {
        let settings = Settings { hertz: hertz()?, ..Settings::UNSET };
        let mut ebpf = EbpfLoader::new()
            .override_global(global::SETTINGS, &settings, true)
            .map_max_entries(map::MALFORMED, load::Capacity::for_interfaces(1).malformed)
            .load(load::object())
            .context("create the eBPF maps")?;
        hook.load(&mut ebpf)?;
        let heartbeat = Heartbeat::start(&mut ebpf)?;
        let maps = Maps::take(&mut ebpf)?;
        let scratch = ebpf.take_map(map::SCRATCH).context("the object has no scratch space")?;
        let scratch = PerCpuArray::try_from(scratch)?;
        Ok(Self {
            hook,
            ebpf,
            heartbeat,
            maps,
            scratch,
            cpu,
            slot: Slot::default(),
            counted: Traffic::default(),
            is_track_point: false,
        })
    }

    /// Runs the program once. Returns what it left in the scratch space, `None` where the fast path took the frame,
    /// and what it counted.
    pub(super) fn judge(&mut self, frame: &[u8], meta: &Meta, gso_segs: u32) -> Result<(Option<View>, Traffic)> {
        ensure!(can_run(self.hook, frame, meta), "a row of the host's: {meta:?}");
        let slot = Slot {
            ifindex: LOOPBACK_INDEX,
            slot: 0,
            mtu_bytes: meta.mtu_bytes,
            link_kind: LinkKind::Ethernet as u8,
            flags: meta.flags,
            track: self.is_track_point.into(),
            group: 0,
            tunnels: meta.tunnels,
            follows: 0,
            pad: [0; 3],
        };
        if slot != self.slot {
            self.maps.set_slot(LOOPBACK_INDEX, slot)?;
            self.slot = slot;
        }
        let blank = vec![[0; SCRATCH_BYTES]; nr_cpus().map_err(|(_file, error)| error).context("count the CPUs")?];
        self.scratch.set(0, PerCpuValues::try_from(blank)?, 0).context("blank the scratch space")?;
        self.heartbeat.beat(&mut self.ebpf)?;
        let context = context(meta.gso_size, gso_segs);
        let ctx_in = (self.hook == Hook::Tc).then_some(&context[..]);
        let options = TestRunOptions { data_in: Some(frame), ctx_in, ..TestRunOptions::new() };
        let result = self.hook.test_run(&mut self.ebpf, options).with_context(|| format!("run {frame:02x?}"))?;
        ensure!(result.return_value == self.hook.pass(), "the program decided about a frame: {}", result.return_value);
        let scratch = self.scratch.get(&0, 0)?[self.cpu];
        let total = self.maps.traffic(0, Direction::Ingress)?;
        let before = std::mem::replace(&mut self.counted, total);
        let traffic = Traffic {
            frames: total.frames - before.frames,
            bytes: total.bytes - before.bytes,
            unseen_frames: total.unseen_frames - before.unseen_frames,
            other_frames: total.other_frames - before.other_frames,
            tcp_segments: 0,
            control_frames: total.control_frames - before.control_frames,
        };
        Ok((View::from_kernel(&scratch), traffic))
    }

    /// Malformed frames so far, by number of the reason.
    pub(super) fn malformed(&self) -> Result<BTreeMap<u8, u64>> {
        let mut counted = BTreeMap::new();
        for (key, count) in self.maps.counters()?.malformed {
            *counted.entry(key.reason).or_default() += count;
        }
        Ok(counted)
    }
}

fn ingress(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program = ebpf.program_mut(program::INGRESS).context("the object has no ingress program")?;
    Ok(program.try_into()?)
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut(program::XDP).context("the object has no XDP program")?.try_into()?)
}

/// `struct __sk_buff` of `linux/bpf.h` with only these two fields set.
fn context(gso_size: u32, gso_segs: u32) -> [u8; 192] {
    const GSO_SEGS_AT: usize = 164;
    const GSO_SIZE_AT: usize = 176;
    let mut context = [0; 192];
    context[GSO_SEGS_AT..GSO_SEGS_AT + 4].copy_from_slice(&gso_segs.to_ne_bytes());
    context[GSO_SIZE_AT..GSO_SIZE_AT + 4].copy_from_slice(&gso_size.to_ne_bytes());
    context
}

/// A walk's state as plain numbers: the host's from its fields, the kernel's from the bytes of its scratch space.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// `frame_bytes`, `gso_size`, `mtu_bytes`.
    meta: [u32; 3],
    flags: u8,
    network: u8,
    transport: u8,
    /// `network_at`, `transport_at`, `header_bytes`.
    packet: [u16; 3],
    payload_bytes: u32,
    /// `at`, `end`.
    cursor: [u32; 2],
    /// Number of the reason, and the offset.
    pub(super) finding: Option<(u8, u16)>,
    tunnel: u32,
}

impl From<&Cursor> for View {
    fn from(cursor: &Cursor) -> Self {
        let Cursor { meta, packet, .. } = cursor;
        Self {
            meta: [meta.frame_bytes, meta.gso_size, meta.mtu_bytes],
            flags: meta.flags,
            network: packet.network as u8,
            transport: packet.transport as u8,
            packet: [packet.network_at, packet.transport_at, packet.header_bytes],
            payload_bytes: packet.payload_bytes,
            cursor: [cursor.at, cursor.end],
            finding: cursor.finding().map(|finding| (finding.reason as u8, finding.at)),
            tunnel: cursor.tunnel,
        }
    }
}

impl View {
    fn from_kernel(scratch: &Bytes) -> Option<Self> {
        const CURSOR: usize = offset_of!(Scratch, cursor);
        const META: usize = CURSOR + offset_of!(Cursor, meta);
        const PACKET: usize = CURSOR + offset_of!(Cursor, packet);
        const FINDING: usize = CURSOR + Cursor::FINDING_AT;
        let two = |at: usize| u16::from_ne_bytes([scratch[at], scratch[at + 1]]);
        let four = |at: usize| u32::from_ne_bytes([scratch[at], scratch[at + 1], scratch[at + 2], scratch[at + 3]]);
        if scratch.iter().all(|byte| *byte == 0) {
            return None;
        }
        let meta = [offset_of!(Meta, frame_bytes), offset_of!(Meta, gso_size), offset_of!(Meta, mtu_bytes)];
        let packet =
            [offset_of!(Packet, network_at), offset_of!(Packet, transport_at), offset_of!(Packet, header_bytes)];
        Some(Self {
            meta: meta.map(|at| four(META + at)),
            flags: scratch[META + offset_of!(Meta, flags)],
            network: scratch[PACKET + offset_of!(Packet, network)],
            transport: scratch[PACKET + offset_of!(Packet, transport)],
            packet: packet.map(|at| two(PACKET + at)),
            payload_bytes: four(PACKET + offset_of!(Packet, payload_bytes)),
            cursor: [offset_of!(Cursor, at), offset_of!(Cursor, end)].map(|at| four(CURSOR + at)),
            finding: scratch[FINDING].checked_sub(1).map(|number| (number, two(FINDING + 2))),
            tunnel: four(CURSOR + offset_of!(Cursor, tunnel)),
        })
    }
}
