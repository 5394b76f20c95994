//! Frames that nobody thought of: the rows, damaged and mended by a generator that makes the same frames every time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use probe_ebpf::{
    classify::{Cursor, FROM_WIRE, Finding, LOOPBACK, Layer, Meta, Packet, Transport, classify},
    fast::{self, Headers, Ordinary},
    reason::{Malformed, Severity},
    thorough::judge,
};

use tests::{guest::is_guest, run::is_full};

use super::{
    USER_SPACE, check_in_kernel,
    kernel::{self, Hook, Kernel},
    legal::ordinary,
    rows, window,
};

/// Tenfold with `LOSSPROBE_FULL=1`; a tenth in an emulated guest.
const KERNEL_FRAMES: usize = 100_000;
const HOST_FRAMES: usize = 300_000;

fn full(count: usize) -> usize {
    let count = if is_guest() { count / 10 } else { count };
    if is_full() { count * 10 } else { count }
}

/// What the fast path takes, the classifier calls well formed, with the same description; what was captured of a frame is
/// judged as the whole frame is, unless headers are missing from it; and user space never contradicts an error.
pub(super) fn fast_path_implies_classifier() -> Result<()> {
    let mut generator = Generator::new(1);
    let mut taken = BTreeMap::<_, usize>::new();
    let (mut findings, mut outcomes) = (BTreeSet::new(), [0_usize; Layer::Control as usize + 1]);
    for _ in 0..full(HOST_FRAMES) {
        let (frame, meta) = generator.next();
        let (cursor, outcome) = classify(&frame[..], meta);
        let about = || format!("{meta:?} {frame:02x?}");
        if let Some(ordinary) = fast::ordinary(&frame[..], &meta) {
            let seen = Ordinary { packet: cursor.packet, tunnel: cursor.tunnel };
            let agrees = outcome == Layer::End && cursor.finding().is_none() && seen == ordinary;
            ensure!(
                agrees,
                "the fast path takes {ordinary:?}, the classifier says {outcome:?} {cursor:?} of {}",
                about()
            );
            ensure!(fast::ordinary(window(&frame), &meta) == Some(ordinary), "the fast path looks behind the window");
            let Packet { network, transport, network_at, transport_at, .. } = ordinary.packet;
            if matches!(transport, Transport::Tcp | Transport::Udp) {
                let (network_at, transport_at) = (network_at.into(), transport_at.into());
                let headers = fast::headers(&frame[..], ordinary.tunnel);
                let are_there = headers == Some(Headers { network, network_at, transport_at });
                ensure!(are_there, "headers are said to be {headers:?} in {ordinary:?} of {}", about());
            }
            *taken.entry(Kind::of(&frame, &ordinary)).or_default() += 1;
        }
        let seen = classify(window(&frame), meta);
        ensure!(
            seen == (cursor, outcome) || seen.1 == Layer::Unseen,
            "from the window {seen:?}, else {cursor:?} of {}",
            about()
        );
        let judged = judge(&frame, meta);
        let agrees = (judged.packet, judged.outcome, judged.tunnel) == (cursor.packet, outcome, cursor.tunnel);
        ensure!(
            agrees && adds(cursor.finding(), judged.finding),
            "thoroughly {judged:?}, else {cursor:?} of {}",
            about()
        );
        findings.extend(judged.finding.map(|finding| finding.reason.id()));
        outcomes[seen.1 as usize] += 1;
    }
    let missing: Vec<_> = Malformed::ALL.iter().map(|reason| reason.id()).filter(|id| !findings.contains(id)).collect();
    ensure!(missing.is_empty(), "the generator makes no {missing:?}");
    let total = full(HOST_FRAMES);
    let (rare, of_kind) = ordinary()
        .iter()
        .filter_map(|(frame, meta)| Some(Kind::of(frame, &fast::ordinary(&frame[..], meta)?)))
        .map(|kind| (kind, taken.get(&kind).copied().unwrap_or(0)))
        .min_by_key(|(_, count)| *count)
        .context("nothing is ordinary")?;
    ensure!(of_kind * 3000 > total, "only {of_kind} of {total} frames took the fast path as {rare:?}");
    for outcome in [Layer::End, Layer::Other, Layer::Unseen, Layer::Control] {
        let count = outcomes[outcome as usize];
        ensure!(count * 1000 > total, "only {count} of {total} frames end in {outcome:?}");
    }
    Ok(())
}

/// Whether the rules of user space have let a finding stand, or have found something graver.
fn adds(headers: Option<Finding>, thorough: Option<Finding>) -> bool {
    let severity = |finding: Option<Finding>| finding.map(|finding| finding.reason.severity());
    let is_theirs = thorough.is_some_and(|finding| USER_SPACE.contains(&finding.reason));
    thorough == headers || (is_theirs && severity(thorough) > severity(headers))
}

/// What the fast path tells apart: protocols, tags, and for TCP flags and the order of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Without its identifier.
    tunnel: u32,
    network: u8,
    transport: u8,
    network_at: u16,
    header_bytes: u16,
    tcp_flags: u8,
    /// The first half of the first four groups of four bytes.
    options: [[u8; 2]; 4],
}

impl Kind {
    fn of(frame: &[u8], Ordinary { packet, tunnel }: &Ordinary) -> Self {
        let at = usize::from(packet.transport_at);
        let is_tcp = packet.transport == Transport::Tcp;
        let group = |at: usize| match frame.get(at..at + 2) {
            Some(&[first, second]) if is_tcp && at < usize::from(packet.header_bytes) => [first, second],
            _ => [0; 2],
        };
        Self {
            tunnel: tunnel & !Cursor::IDENTIFIER,
            network: packet.network as u8,
            transport: packet.transport as u8,
            network_at: packet.network_at,
            header_bytes: packet.header_bytes,
            tcp_flags: if is_tcp { frame[at + 13] & 0x17 } else { 0 },
            options: [20, 24, 28, 32].map(|group_at| group(at + group_at)),
        }
    }
}

/// Host and kernel say the same of every frame: path, state of the walk, counters.
pub(super) fn in_the_kernel(hook: Hook) -> Result<()> {
    let mut generator = Generator::new(2);
    let mut expected = BTreeMap::<u8, u64>::new();
    let counted = Kernel::run(hook, |kernel| {
        let mut done = 0;
        while done < full(KERNEL_FRAMES) {
            let (frame, meta) = generator.next();
            let meta = Meta { tag_protocol: 0, tag_control: 0, first_protocol: 0, ..meta };
            if !kernel::can_run(hook, &frame, &meta) {
                continue;
            }
            let gso_segs = if meta.gso_size == 0 { 0 } else { generator.below(4) as u32 };
            let finding = check_in_kernel(kernel, "random frame", &frame, &meta, gso_segs)?;
            if let Some(finding) = finding.filter(|finding| finding.reason.severity() >= Severity::Warning) {
                *expected.entry(finding.reason as u8).or_default() += 1;
            }
            done += 1;
        }
        kernel.malformed()
    })?;
    ensure!(counted == expected, "counted {counted:?}\nexpected {expected:?}");
    ensure!(counted.len() > 60, "only {} reasons in the kernel", counted.len());
    Ok(())
}

/// Splitmix64 over the rows' frames.
struct Generator {
    state: u64,
    pool: Vec<(Vec<u8>, Meta)>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut pool: Vec<_> = rows().into_iter().map(|row| (row.frame, row.meta)).collect();
        // At least one in five is what the fast path is for.
        let count = ordinary().len().max(pool.len() / 4);
        pool.extend(ordinary().into_iter().cycle().take(count));
        Self { state: seed, pool }
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn next(&mut self) -> (Vec<u8>, Meta) {
        let number = self.below(self.pool.len());
        let (mut frame, mut meta) = self.pool[number].clone();
        if self.one_in(50) {
            frame = (0..self.below(300)).map(|_| self.number() as u8).collect();
        }
        for _ in 0..self.pick(&[0, 1, 1, 1, 2, 3]) {
            self.damage(&mut frame);
        }
        if !self.one_in(4) {
            mend(&mut frame, self.one_in(2));
        }
        if self.one_in(3) {
            meta.flags = self.pick(&[0, 0, LOOPBACK, FROM_WIRE]);
            meta.gso_size = self.pick(&[0, 0, 0, 1, 100, 1448]);
            meta.mtu_bytes = self.pick(&[0, 1500, 1500, 68, 9000, 65_536]);
        }
        (frame.clone(), Meta { frame_bytes: frame.len() as u32, ..meta })
    }

    fn damage(&mut self, frame: &mut Vec<u8>) {
        // Types, lengths, next headers, data offsets, chunks, tunnels' flags: plain, behind one tag, behind IPv6.
        const FIELDS: [usize; 32] = [
            12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 30, 34, 35, 36, 37, 38, 39, 42, 45, 46, 47, 48, 49, 50, 54,
            55, 58, 59, 66, 67,
        ];
        const VALUES: [u8; 28] = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 0x0f, 0x20, 0x40, 43, 44, 0x45, 47, 0x50, 58, 59, 60, 0x80, 0x81,
            132, 0x88, 0xff,
        ];
        match self.below(8) {
            0 => {
                let at = self.below(frame.len().min(100));
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                let length = self.below(frame.len());
                frame.truncate(length);
            }
            2 => {
                let more = self.pick(&[1, 4, 6, 10, 60, 200]);
                frame.extend((0..more).map(|_| self.number() as u8));
            }
            3 | 4 => {
                let at = self.pick(&FIELDS);
                let value = self.pick(&VALUES);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            5 => {
                // Options of IPv4, IPv6, TCP over both: numbers that mean something there.
                const OPTIONS: [u8; 16] = [0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 10, 19, 29, 68, 131];
                let start = self.pick(&[34, 54, 56, 62, 74]);
                let length = self.below(24);
                for byte in frame.iter_mut().skip(start).take(length) {
                    *byte = self.pick(&OPTIONS);
                }
            }
            6 => {
                let (from, to) = (self.below(frame.len()), self.pick(&FIELDS));
                let length = self.below(16).min(frame.len() - from);
                let bytes = frame[from..from + length].to_vec();
                let to = to.min(frame.len());
                frame.splice(to..to, bytes);
            }
            _ => {
                let number = self.below(self.pool.len());
                let at = self.pick(&[14, 34, 54]).min(frame.len());
                let other = &self.pool[number].0;
                frame.truncate(at);
                frame.extend(&other[at.min(other.len())..]);
            }
        }
    }
}

/// Makes the lengths, if wanted, and the header checksum of an IP packet behind the Ethernet header right, so that what
/// is damaged behind them is looked at.
fn mend(frame: &mut [u8], lengths: bool) {
    let tags = frame[12.min(frame.len())..]
        .chunks_exact(4)
        .take_while(|tag| matches!(tag[..2], [0x81, 0] | [0x88, 0xa8]))
        .count();
    let at = 14 + 4 * tags;
    let Some(packet) = frame.get_mut(at..) else { return };
    let present = packet.len();
    match packet.first().map_or(0, |byte| byte >> 4) {
        4 if present >= 20 => {
            if lengths {
                packet[2..4].copy_from_slice(&(present as u16).to_be_bytes());
            }
            let header_bytes = (usize::from(packet[0] & 15) * 4).clamp(20, present) & !1;
            packet[10..12].fill(0);
            let words =
                packet[..header_bytes].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
            let sum = words.sum::<u32>();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            packet[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
        }
        6 if lengths && present >= 40 => {
            packet[4..6].copy_from_slice(&((present - 40) as u16).to_be_bytes());
        }
        _ => {}
    }
}
