//! All maps and all map pointers. Counters only grow; what cannot be counted is tallied.
#![allow(unsafe_code)]

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, PerCpuArray, PerCpuHashMap, RingBuf, ring_buf::RingBufEntry},
};
use probe_ebpf::{
    abi::{
        About, Bucket, Checksums, Control, Direction, DropKey, EVENT_BUCKETS, EVENTS_PER_TENTH, Event, EventKind,
        Evidence, FaultKey, FlowNames, FlowSet, INERT_AFTER_SECONDS, MalformedCount, MalformedKey, NamespaceKey,
        Offsets, RetransmitKey, SLOT_LINES, SLOT_PROBES, Scratch, Settings, Slot, Sum, Tally, Traffic, ledger_index,
    },
    classify::{Cursor, Meta},
    flow::{Ledger, Secret},
    source::{self, SETS, SourceSet},
    storm::{STORM_REASONS, Storm, Waiting},
};

use crate::context::opaque;

// Sizes here are the smallest that load; the agent sets the real ones for the node, see `kernel::load`.
// As those of connections: mapped into memory only so that no entry lies in two cache lines.
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(SLOT_LINES + SLOT_PROBES - 1, BPF_F_MMAPABLE);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(2, 0);
#[map]
static MALFORMED: PerCpuHashMap<MalformedKey, MalformedCount> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static SOURCES: Array<SourceSet> = Array::with_max_entries(2 * SETS, 0);
#[map]
static CHECKSUMS: PerCpuArray<Checksums> = PerCpuArray::with_max_entries(1, 0);
#[map]
static DROPS: PerCpuHashMap<DropKey, u64> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static NAMESPACES: PerCpuHashMap<NamespaceKey, u64> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static RETRANSMITS: PerCpuHashMap<RetransmitKey, u64> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static FAULTS: PerCpuHashMap<FaultKey, u64> = PerCpuHashMap::with_max_entries(1, 0);
#[map]
static TALLIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Tally::COUNT, 0);
#[map]
static STORM: PerCpuArray<Storm> = PerCpuArray::with_max_entries(1, 0);
#[map]
static WAITING: PerCpuArray<Waiting> = PerCpuArray::with_max_entries(STORM_REASONS, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
static EVIDENCE: RingBuf = RingBuf::with_byte_size(EVIDENCE_RING_BYTES, 0);
#[map]
static SUM: PerCpuArray<Sum> = PerCpuArray::with_max_entries(1, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
static BUCKETS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(EVENT_BUCKETS, 0);

// Mapped into memory only so that each entry begins a cache line.
#[map]
static FLOWS_IN: Array<FlowSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static FLOWS_OUT: Array<FlowSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static FLOW_NAMES: Array<FlowNames> = Array::with_max_entries(1, 0);
#[map]
static LEDGERS: PerCpuArray<Ledger> = PerCpuArray::with_max_entries(2, 0);

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNKNOWN;
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::UNSET;
#[unsafe(no_mangle)]
static mut CONTROL: Control = Control { heartbeat: 0, watched: 0 };

/// Some 1,500 examples.
const EVENTS_BYTES: u32 = 256 << 10;
/// Some 400 frames' headers, or 60 frames with a wrong checksum.
const EVIDENCE_RING_BYTES: u32 = 128 << 10;

/// A field of the offsets, as the agent set it before loading. The verifier sees a constant.
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::offset_field::<{ core::mem::offset_of!(probe_ebpf::abi::Offsets, $field) }>()
    };
}
pub(crate) use offset;

#[inline(always)]
pub(crate) fn offset_field<const AT: usize>() -> u32 {
    const { assert!(AT + size_of::<u32>() <= size_of::<Offsets>() && AT.is_multiple_of(align_of::<u32>())) };
    // SAFETY: inside the static and aligned, as asserted. Volatile because the loader rewrites it after compilation.
    unsafe { (&raw const OFFSETS).byte_add(AT).cast::<u32>().read_volatile() }
}

/// What the agent told before loading, each by its name: one load, of which the verifier sees the value.
macro_rules! settings {
    ($($field:ident: $type:ty),+) => {
        $(#[inline(always)]
        pub(crate) fn $field() -> $type {
            // SAFETY: a field of the static. Volatile because the loader rewrites it after compilation.
            unsafe { (&raw const SETTINGS.$field).read_volatile() }
        })+
    };
}

settings! {
    release_data_start: u64, release_data_end: u64, netns: u32, hertz: u32, secret: Secret, flow_mask: u32, flow_share: u32,
    evidence_payload_bytes: u32, evidence_whole_bytes: u32
}

/// Whether the agent lives and wants anything to be counted.
#[inline(always)]
pub(crate) fn is_active() -> bool {
    // SAFETY: one aligned word that the agent writes at any time.
    let beat = unsafe { (&raw const CONTROL.heartbeat).read_volatile() };
    // Signed: a beat may be seen that is newer than the jiffies.
    (jiffies().wrapping_sub(beat) as i64) < (INERT_AFTER_SECONDS * u64::from(hertz())) as i64
}

/// The agent lives.
#[inline(always)]
pub(crate) fn beat() {
    // SAFETY: as above.
    unsafe { (&raw mut CONTROL.heartbeat).write_volatile(jiffies()) };
}

/// Whether somebody wants to see what happens.
#[inline(always)]
fn is_watched() -> bool {
    // SAFETY: one aligned word that the agent writes at any time.
    unsafe { (&raw const CONTROL.watched).read_volatile() != 0 }
}

/// Room for an example of an event, if somebody watches and not too many of its kind have come at once.
#[inline(always)]
pub(crate) fn room_for(kind: EventKind, reason: u32, netns: u32) -> Option<RingBufEntry<Event>> {
    const { assert!(EVENT_BUCKETS.is_power_of_two()) };
    if !is_watched() {
        return None;
    }
    // The lower half is the agent's own namespace's: a flood elsewhere hides nothing here.
    let half = EVENT_BUCKETS / 2;
    let elsewhere = if netns == self::netns() { 0 } else { half };
    let bucket = BUCKETS.get_ptr_mut(elsewhere + (reason.wrapping_add(5 * kind as u32) & (half - 1)))?;
    // SAFETY: this CPU's entry; a program that interrupts this one at worst shows one example more or less.
    let bucket = unsafe { &mut *bucket };
    let now = jiffies();
    if now.wrapping_sub(bucket.since) >= u64::from(hertz()) / 10 {
        *bucket = Bucket { since: now, shown: 0 };
    }
    if bucket.shown >= EVENTS_PER_TENTH {
        tally(Tally::EventsSuppressed);
        return None;
    }
    bucket.shown += 1;
    let room = EVENTS.reserve::<Event>(0);
    if room.is_none() {
        tally(Tally::EventsFull);
    }
    room
}

/// The kernel's coarse clock: one load, where `bpf_ktime_get_ns` takes 40 ns.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_jiffies64() }
}

/// `CLOCK_MONOTONIC`. For examples only.
#[inline(always)]
pub(crate) fn nanoseconds() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The slot of an interface of the agent's namespace, if it is counted.
#[inline(always)]
pub(crate) fn slot_of(ifindex: u32) -> Option<&'static Slot> {
    let line = ifindex & (SLOT_LINES - 1);
    let first = SLOTS.get(line)?;
    if first.ifindex == ifindex {
        return Some(first);
    }
    let second = SLOTS.get(line + 1)?;
    (second.ifindex == ifindex).then_some(second)
}

/// This CPU's counters of a slot and direction.
#[inline(always)]
pub(crate) fn traffic(index: u32) -> Option<&'static mut Traffic> {
    // SAFETY: this CPU's entry; a hook is not interrupted by itself in the same direction.
    TRAFFIC.get_ptr_mut(index).map(|traffic| unsafe { &mut *traffic })
}

/// The places of a connection at this hook direction.
#[inline(always)]
pub(crate) fn flows(direction: Direction, index: u32) -> Option<&'static mut FlowSet> {
    let map = match direction {
        Direction::Ingress => &FLOWS_IN,
        Direction::Egress => &FLOWS_OUT,
    };
    // SAFETY: written by hooks of this direction only. A connection's packets come one after the other; where they do not
    // (another CPU takes over), both may write, each field whole: that is noticed and counted as `cpu_move`.
    map.get_ptr_mut(index).map(|set| unsafe { &mut *set })
}

/// Names of the connections at that place.
#[inline(always)]
pub(crate) fn flow_names(index: u32) -> Option<&'static mut FlowNames> {
    // SAFETY: both directions may write; their counters are apart, and the rest says the same.
    FLOW_NAMES.get_ptr_mut(index).map(|names| unsafe { &mut *names })
}

/// This CPU's ledger of a track point and direction.
#[inline(always)]
pub(crate) fn ledger(track: u8, direction: Direction) -> Option<&'static mut Ledger> {
    // SAFETY: as in `traffic`.
    LEDGERS.get_ptr_mut(ledger_index(track, direction)).map(|ledger| unsafe { &mut *ledger })
}

/// The CPU that this runs on.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// This CPU's scratch space.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's entry; tc programs run with bottom halves off, so no other one is in between.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// This CPU's scratch space, its cursor at the first byte of a frame.
#[inline(always)]
pub(crate) fn scratch_for(meta: &Meta) -> Option<&'static mut Scratch> {
    const WORDS: usize = size_of::<Cursor>() / size_of::<u64>();
    let scratch = scratch()?;
    // SAFETY: zeros are a cursor, as `Cursor::default()` is. The compiler must not know them: it would call a function
    // that writes them byte by byte.
    unsafe { (&raw mut scratch.cursor).cast::<[u64; WORDS]>().write([opaque::<0>() as u64; WORDS]) };
    scratch.cursor.meta = *meta;
    scratch.cursor.end = meta.frame_bytes;
    Some(scratch)
}

/// This CPU's state of drops, unless a program that is interrupted at this very moment is using it (possible before
/// 6.1). Ends with [`leave_storm`].
#[inline(always)]
pub(crate) fn enter_storm() -> Option<&'static mut Storm> {
    let storm = STORM.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry. An interruption ends before what it interrupts goes on: a plain word is a lock.
    unsafe {
        let busy = &raw mut (*storm).busy;
        if busy.read_volatile() != 0 {
            return None;
        }
        busy.write_volatile(1);
        Some(&mut *storm)
    }
}

#[inline(always)]
pub(crate) fn leave_storm(storm: &mut Storm) {
    // SAFETY: as above.
    unsafe { (&raw mut storm.busy).write_volatile(0) };
}

/// This CPU's drops of a reason that wait to be attributed. To be touched between [`enter_storm`] and [`leave_storm`].
#[inline(always)]
pub(crate) fn waiting(reason: u32) -> Option<&'static mut Waiting> {
    // SAFETY: this CPU's entry, under the lock.
    WAITING.get_ptr_mut(reason).map(|waiting| unsafe { &mut *waiting })
}

/// Adds one to a tally. `true` if it was the first on this CPU.
#[inline(always)]
pub(crate) fn tally(tally: Tally) -> bool {
    tally_by(tally, 1)
}

#[inline(always)]
pub(crate) fn tally_by(tally: Tally, amount: u64) -> bool {
    let Some(count) = TALLIES.get_ptr_mut(tally as u32) else { return false };
    add_to(count, amount);
    // SAFETY: this CPU's entry.
    unsafe { *count == amount }
}

/// Before 6.1 a tracing program can be interrupted by itself on the same CPU: the addition must be one instruction.
#[inline(always)]
fn add_to(count: *mut u64, amount: u64) {
    // SAFETY: adds to a value of a map, aligned to 8 bytes. By hand, because core offers this target no addition
    // without a compare-and-swap, which 5.10 does not have.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) amount, options(nostack)) };
}

/// Adds where another CPU may add, too.
#[inline(always)]
pub(crate) fn add_at_once(count: &mut i32, amount: i32) {
    let amount = u64::from(amount as u32);
    // SAFETY: adds to a value of a map, aligned to 4 bytes. By hand as above.
    unsafe { asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) &raw mut *count, in(reg) amount, options(nostack)) };
}

/// What became of a malformed frame's count.
pub(crate) enum Counted {
    /// It is counted; with whether the frame is to be kept as evidence.
    Kept(bool),
    /// It is lost; with whether it is the first on this CPU.
    Lost(bool),
}

#[inline(always)]
pub(crate) fn count_malformed(key: &MalformedKey) -> Counted {
    const EEXIST: i32 = -17;
    const E2BIG: i32 = -7;
    if let Some(is_wanted) = grow_malformed(key) {
        return Counted::Kept(is_wanted);
    }
    let first = MalformedCount { frames: 1, since: jiffies() as u32, kept: 1 };
    match MALFORMED.insert(key, first, u64::from(BPF_NOEXIST)) {
        Ok(()) => Counted::Kept(true),
        // Another CPU made it between the look and the insertion.
        Err(EEXIST) => match grow_malformed(key) {
            Some(is_wanted) => Counted::Kept(is_wanted),
            None => Counted::Lost(tally(Tally::MalformedBusy)),
        },
        Err(E2BIG) => Counted::Lost(tally(Tally::MalformedFull)),
        Err(_) => Counted::Lost(tally(Tally::MalformedBusy)),
    }
}

/// Adds one, where there is a counter. Returns whether the frame is to be kept: one in a second, and while somebody watches
/// as many as of other events.
#[inline(always)]
fn grow_malformed(key: &MalformedKey) -> Option<bool> {
    let count = MALFORMED.get_ptr_mut(key)?;
    // SAFETY: this CPU's entry; hooks do not interrupt each other. The counter is read by others, and one word.
    let count = unsafe { &mut *count };
    count.frames += 1;
    let (is_watched, now) = (is_watched(), jiffies() as u32);
    let (time, most) = if is_watched { (hertz() / 10, EVENTS_PER_TENTH as u32) } else { (hertz(), 1) };
    if now.wrapping_sub(count.since) >= time {
        (count.since, count.kept) = (now, 0);
    }
    let is_wanted = count.kept < most;
    if is_wanted {
        count.kept += 1;
    } else if is_watched {
        tally(Tally::EventsSuppressed);
    }
    Some(is_wanted)
}

/// Counts a malformed frame for whoever sent it last, in the set at `index`, or as one that nobody is named for.
#[inline(always)]
pub(crate) fn count_source(index: u32, tag: u64) {
    let Some(set) = SOURCES.get_ptr_mut(index) else { return };
    let now = jiffies();
    // SAFETY: any CPU may write: each word whole, and the counter by one instruction. Where two take one place at once, the
    // later one has it, and at most the counts of that moment are the other's.
    match source::admit(unsafe { &mut *set }, tag, now, hertz()) {
        Some((source, nameless)) => {
            source.last = now;
            add_to(&raw mut source.frames, 1);
            if nameless != 0 {
                tally_by(Tally::SendersReplaced, nameless);
            }
        }
        None => {
            tally(Tally::SendersFull);
        }
    }
}

/// Transport checksums at the ingress of a track point.
#[inline(always)]
pub(crate) fn checksums(track: u8) -> Option<&'static mut Checksums> {
    // SAFETY: as in `traffic`.
    CHECKSUMS.get_ptr_mut(u32::from(track) - 1).map(|checksums| unsafe { &mut *checksums })
}

/// This CPU's sum.
#[inline(always)]
pub(crate) fn sum() -> Option<&'static mut Sum> {
    // SAFETY: as in `scratch`.
    SUM.get_ptr_mut(0).map(|sum| unsafe { &mut *sum })
}

/// Hands a frame over, whose bytes `copy` brings and says how many. `false` if there is no room, or they cannot be had.
#[inline(always)]
pub(crate) fn keep<const N: usize>(about: About, copy: impl FnOnce(*mut [u8; N]) -> Option<u64>) -> bool {
    let Some(mut room) = EVIDENCE.reserve::<Evidence<N>>(0) else { return false };
    let evidence = room.as_mut_ptr();
    // SAFETY: the room is there; all of `about` is written, and of the bytes as many as it says.
    let copied = unsafe {
        (&raw mut (*evidence).about).write(about);
        let copied = copy(&raw mut (*evidence).bytes);
        (&raw mut (*evidence).about.captured_bytes).write(copied.unwrap_or(0) as u32);
        copied
    };
    if copied.is_none() {
        room.discard(NO_WAKEUP);
        return false;
    }
    room.submit(NO_WAKEUP);
    true
}

/// The agent looks by itself.
const NO_WAKEUP: u64 = 1;

#[inline(always)]
pub(crate) fn count_drop(key: &DropKey, segments: u64) -> bool {
    add(&DROPS, key, segments, Tally::DropsFull, Tally::DropsBusy)
}

#[inline(always)]
pub(crate) fn count_namespace(key: &NamespaceKey, segments: u64) -> bool {
    add(&NAMESPACES, key, segments, Tally::NamespacesFull, Tally::NamespacesBusy)
}

#[inline(always)]
pub(crate) fn count_retransmit(key: &RetransmitKey, segments: u64) -> bool {
    add(&RETRANSMITS, key, segments, Tally::RetransmitsFull, Tally::RetransmitsBusy)
}

#[inline(always)]
pub(crate) fn count_fault(key: &FaultKey, amount: u64) -> bool {
    add(&FAULTS, key, amount, Tally::FaultsFull, Tally::FaultsBusy)
}

/// Adds to a counter, making it where there is none. `true` if that failed for the first time on this CPU.
#[inline(always)]
fn add<K>(map: &PerCpuHashMap<K, u64>, key: &K, amount: u64, full: Tally, busy: Tally) -> bool {
    const EEXIST: i32 = -17;
    const E2BIG: i32 = -7;
    if grow(map, key, amount) {
        return false;
    }
    match map.insert(key, amount, u64::from(BPF_NOEXIST)) {
        Ok(()) => false,
        // Another CPU made it between the look and the insertion.
        Err(EEXIST) if grow(map, key, amount) => false,
        Err(E2BIG) => tally(full),
        Err(_) => tally(busy),
    }
}

#[inline(always)]
fn grow<K>(map: &PerCpuHashMap<K, u64>, key: &K, amount: u64) -> bool {
    let Some(count) = map.get_ptr_mut(key) else { return false };
    add_to(count, amount);
    true
}
