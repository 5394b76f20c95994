//! What was lost on which side of a track point: raw events of its connections, less what this host itself has lost, as
//! counters that never fall. A pure function of readings.
//!
//! A loss counts two seconds after it was seen: until then what explains it may come (a receiver that had not needed the
//! retransmission, a drop on this host that is read later). What explains more than there is stays as a debt for ten
//! seconds: drops of packets that no followed connection sent must not excuse the network for ever.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a loss waits for what explains it.
pub const RIPENS_AFTER: Duration = Duration::from_secs(2);
/// How long an explanation waits for the loss that it explains, and how far back a ratio looks.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two readings at least; scrapes come as they like.
const READ_EVERY: Duration = Duration::from_millis(900);
/// 97.5 % quantile of the normal distribution, for intervals of 95 %.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// Where it was lost, as seen from one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum PathSide {
    /// Before it came in.
    NetworkIn = 0,
    /// After it had gone out.
    NetworkOut = 1,
    /// On this host's side of it: in a guest, or between it and this interface.
    Inside = 2,
}

impl PathSide {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NetworkIn, Self::NetworkOut, Self::Inside];

    /// The metric label `side`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::Inside => "inside",
        }
    }
}

/// Totals of one interface at one instant; pairs are by direction, ingress first. All in wire segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// TCP segments that were followed.
    pub followed: [u64; 2],
    /// All frames.
    pub frames: [u64; 2],
    /// Segments lost before this point.
    pub lost_before: [u64; 2],
    /// Of those, segments that came all the same, late.
    pub came_late: [u64; 2],
    /// Segments that passed again: lost behind this point, or not needed.
    pub seen_again: [u64; 2],
    /// Segments that passed again behind their acknowledgement, or were copies: never lost here, and never in `seen_again`.
    pub known_needless: [u64; 2],
    /// Segments of which the receiver says that it had not needed them; by the direction in which it says so.
    pub not_needed: [u64; 2],
    /// One of so many connections is followed, and of what this host has lost so large a part counts as theirs; 0: all.
    pub one_of: u64,
    /// What this host has lost between the wire and the ingress hook.
    pub host_before: u64,
    /// Between the egress hook and the wire.
    pub host_behind: u64,
    /// And of what has passed the ingress hook.
    pub host_within: u64,
}

/// A share of segments, with the interval in which it lies at 95 % (Wilson 1927).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share itself.
    pub ratio: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl Share {
    /// Of `part` in `whole`; `None` of nothing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "what passes in ten seconds is far below 2^53")]
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let (count, ratio) = (whole as f64, part.min(whole) as f64 / whole as f64);
        let square = QUANTILE * QUANTILE;
        let scale = 1.0 / (1.0 + square / count);
        let middle = scale * (ratio + square / (2.0 * count));
        let half = scale * QUANTILE * (ratio * (1.0 - ratio) / count + square / (4.0 * count * count)).sqrt();
        Some(Self { ratio, lower: (middle - half).max(0.0), upper: (middle + half).min(1.0) })
    }
}

/// What receivers say they had not needed, less what was known to be of no need.
#[derive(Clone, Debug, Default)]
struct Needless {
    known: VecDeque<(Instant, u64)>,
}

impl Needless {
    /// Of so many more that were `said`, when so many more are `known`: how many explain something else.
    fn add(&mut self, now: Instant, known: u64, said: u64) -> u64 {
        self.known.extend(Some((now, known)).filter(|_| known > 0));
        while self.known.front().is_some_and(|(since, _)| now.duration_since(*since) > WINDOW) {
            self.known.pop_front();
        }
        said - pay(&mut self.known, said)
    }
}

/// Takes as much of `amount` off the oldest as there is. Returns how much.
fn pay(open: &mut VecDeque<(Instant, u64)>, amount: u64) -> u64 {
    let mut left = amount;
    while let Some((_, front)) = open.front_mut() {
        let paid = left.min(*front);
        *front -= paid;
        left -= paid;
        if *front > 0 {
            break;
        }
        open.pop_front();
    }
    amount - left
}

/// One way of losing: what was lost so far, what ripens, and explanations to come.
#[derive(Clone, Debug, Default)]
struct Account {
    ripening: VecDeque<(Instant, u64)>,
    debts: VecDeque<(Instant, u64)>,
    lost: u64,
}

impl Account {
    /// `seen` more losses, `explained` more explanations.
    fn add(&mut self, now: Instant, seen: u64, explained: u64) {
        self.ripening.extend(Some((now, seen)).filter(|_| seen > 0));
        self.debts.extend(Some((now, explained)).filter(|_| explained > 0));
        while self.debts.front().is_some_and(|(since, _)| now.duration_since(*since) > WINDOW) {
            self.debts.pop_front();
        }
        while self.ripening.front().is_some_and(|(since, _)| now.duration_since(*since) >= RIPENS_AFTER) {
            let Some((_, seen)) = self.ripening.pop_front() else { break };
            self.lost += seen - pay(&mut self.debts, seen);
        }
    }
}

/// What one interface's connections have lost, by side.
#[derive(Clone, Debug, Default)]
pub struct PathLoss {
    last: Option<(Instant, Totals)>,
    network_in: Account,
    network_out: Account,
    inside_before: Account,
    inside_behind: Account,
    /// By the direction that was sent again.
    needless: [Needless; 2],
    /// Lost by side, and totals, of the last seconds.
    history: VecDeque<(Instant, [u64; 3], Totals)>,
}

impl PathLoss {
    /// Takes a reading. The first one is where counting begins; one that comes too soon is left out.
    pub fn add(&mut self, now: Instant, totals: Totals) {
        let Some((at, last)) = self.last else {
            self.last = Some((now, totals));
            self.history.push_back((now, [0; 3], totals));
            return;
        };
        if now.duration_since(at) < READ_EVERY {
            return;
        }
        self.last = Some((now, totals));
        let since = |of: fn(&Totals) -> u64| of(&totals).saturating_sub(of(&last));
        let one_of = totals.one_of.max(1);
        // Of totals, so that nothing is rounded off again and again.
        let own = |of: fn(&Totals) -> u64| (of(&totals) / one_of).saturating_sub(of(&last) / one_of);
        self.network_in.add(now, since(|t| t.lost_before[0]), since(|t| t.came_late[0]) + own(|t| t.host_before));
        let [in_again, out_again] = &mut self.needless;
        let out_needless = out_again.add(now, since(|t| t.known_needless[1]), since(|t| t.not_needed[0]));
        let in_needless = in_again.add(now, since(|t| t.known_needless[0]), since(|t| t.not_needed[1]));
        self.network_out.add(now, since(|t| t.seen_again[1]), out_needless + own(|t| t.host_behind));
        self.inside_behind.add(now, since(|t| t.seen_again[0]), in_needless + own(|t| t.host_within));
        self.inside_before.add(now, since(|t| t.lost_before[1]), since(|t| t.came_late[1]));
        self.history.push_back((now, PathSide::ALL.map(|side| self.lost(side)), totals));
        // One that is old enough stays as the beginning.
        while self.history.get(1).is_some_and(|(second, _, _)| now.duration_since(*second) >= WINDOW) {
            self.history.pop_front();
        }
    }

    /// Begins anew, because what passed meanwhile was not seen. What was lost stays.
    pub fn restart(&mut self) {
        self.last = None;
        self.history.clear();
    }

    /// Segments lost on this side so far.
    #[must_use]
    pub const fn lost(&self, side: PathSide) -> u64 {
        match side {
            PathSide::NetworkIn => self.network_in.lost,
            PathSide::NetworkOut => self.network_out.lost,
            PathSide::Inside => self.inside_before.lost + self.inside_behind.lost,
        }
    }

    /// The share lost on this side in the last seconds: of what came in and what did not, of what went out, or of both.
    #[must_use]
    pub fn share(&self, side: PathSide) -> Option<Share> {
        let ((_, lost_before, first), (_, lost, last)) = (self.history.front()?, self.history.back()?);
        let lost = lost[side as usize].saturating_sub(lost_before[side as usize]);
        let [came, went] = [0, 1].map(|at: usize| last.followed[at].saturating_sub(first.followed[at]));
        let whole = match side {
            PathSide::NetworkIn => came + lost,
            PathSide::NetworkOut => went,
            PathSide::Inside => came + went,
        };
        Share::of(lost, whole)
    }

    /// The share of all frames of the last seconds whose connections were followed.
    #[must_use]
    pub fn judged(&self) -> Option<f64> {
        let ((_, _, first), (_, _, last)) = (self.history.front()?, self.history.back()?);
        let since = |of: fn(&Totals) -> [u64; 2]| -> u64 {
            (0..2).map(|at: usize| of(last)[at].saturating_sub(of(first)[at])).sum()
        };
        Share::of(since(|totals| totals.followed), since(|totals| totals.frames)).map(|share| share.ratio)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Lost on each side after these totals, a second apart, and some seconds of rest.
    fn after(readings: &[Totals], rest: u64) -> [u64; 3] {
        let (start, mut loss) = (Instant::now(), PathLoss::default());
        let mut second = 0;
        let mut sum = Totals::default();
        loss.add(start, sum);
        for more in readings.iter().copied().chain((0..rest).map(|_| Totals::default())) {
            second += 1;
            let pair = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
            sum = Totals {
                followed: pair(sum.followed, more.followed),
                frames: pair(sum.frames, more.frames),
                lost_before: pair(sum.lost_before, more.lost_before),
                came_late: pair(sum.came_late, more.came_late),
                seen_again: pair(sum.seen_again, more.seen_again),
                known_needless: pair(sum.known_needless, more.known_needless),
                not_needed: pair(sum.not_needed, more.not_needed),
                one_of: more.one_of.max(sum.one_of),
                host_before: sum.host_before + more.host_before,
                host_behind: sum.host_behind + more.host_behind,
                host_within: sum.host_within + more.host_within,
            };
            loss.add(start + Duration::from_secs(second), sum);
        }
        PathSide::ALL.map(|side| loss.lost(side))
    }

    #[test]
    fn sides() {
        let none = Totals::default();
        for (name, readings, expected) in [
            ("before us", vec![Totals { lost_before: [7, 0], ..none }], [7, 0, 0]),
            ("behind us", vec![Totals { seen_again: [0, 5], ..none }], [0, 5, 0]),
            (
                "inside, towards the guest and from it",
                vec![Totals { seen_again: [3, 0], lost_before: [0, 2], ..none }],
                [0, 0, 5],
            ),
            (
                "not needed",
                vec![Totals { seen_again: [0, 5], ..none }, Totals { not_needed: [4, 0], ..none }],
                [0, 1, 0],
            ),
            (
                "not needed, and known so",
                vec![
                    Totals { seen_again: [0, 5], known_needless: [0, 4], ..none },
                    Totals { not_needed: [6, 0], ..none },
                ],
                [0, 3, 0],
            ),
            ("late, and not lost", vec![Totals { lost_before: [7, 3], came_late: [6, 3], ..none }], [1, 0, 0]),
            ("ours: the ring", vec![Totals { lost_before: [9, 0], host_before: 9, ..none }], [0, 0, 0]),
            (
                "ours: the queue",
                vec![Totals { host_behind: 6, ..none }, Totals { seen_again: [0, 5], ..none }],
                [0, 0, 0],
            ),
            ("ours: the stack", vec![Totals { seen_again: [5, 0], host_within: 5, ..none }], [0, 0, 0]),
            (
                "ours, of a sample of connections",
                (1..=4).map(|_| Totals { lost_before: [2, 0], one_of: 10, host_before: 5, ..none }).collect::<Vec<_>>(),
                [6, 0, 0],
            ),
            (
                "an explanation of something else is forgotten",
                [
                    vec![Totals { host_behind: 1_000, ..none }],
                    vec![none; 11],
                    vec![Totals { seen_again: [0, 5], ..none }],
                ]
                .concat(),
                [0, 5, 0],
            ),
            (
                "an explanation is used once",
                vec![Totals { seen_again: [0, 5], host_behind: 5, ..none }, Totals { seen_again: [0, 5], ..none }],
                [0, 5, 0],
            ),
        ] {
            assert_eq!(after(&readings, 3), expected, "{name}");
        }
        assert_eq!(after(&[Totals { lost_before: [7, 0], ..none }], 1), [0; 3], "not ripe yet");
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

        /// Whatever the kernel counts, and whatever explains it when: no counter falls, and none is more than what was seen.
        #[test]
        fn what_is_lost_never_falls(readings in vec(any::<[u16; 12]>(), 1..40)) {
            let (start, mut loss) = (Instant::now(), PathLoss::default());
            let (mut sum, mut before) = (Totals::default(), [0; 3]);
            for (second, more) in readings.iter().enumerate() {
                // Many are nothing at all, as in life.
                let more = more.map(|count| u64::from(if count % 3 == 0 { 0 } else { count >> 6 }));
                let pair = |a: [u64; 2], at: usize| [a[0] + more[at], a[1] + more[at + 1]];
                sum = Totals {
                    lost_before: pair(sum.lost_before, 0),
                    came_late: pair(sum.came_late, 2),
                    seen_again: pair(sum.seen_again, 4),
                    known_needless: pair(sum.known_needless, 6),
                    not_needed: pair(sum.not_needed, 8),
                    host_before: sum.host_before + more[10],
                    host_behind: sum.host_behind + more[11],
                    host_within: sum.host_within + more[11],
                    one_of: 1 + more[10] % 3,
                    ..sum
                };
                loss.add(start + Duration::from_secs(second as u64), sum);
                let now = PathSide::ALL.map(|side| loss.lost(side));
                for (now, before) in now.iter().zip(before) {
                    prop_assert!(*now >= before, "{now} behind {before} in second {second}");
                }
                let seen = [sum.lost_before[0], sum.seen_again[1], sum.seen_again[0] + sum.lost_before[1]];
                for (now, seen) in now.iter().zip(seen) {
                    prop_assert!(*now <= seen, "{now} of {seen} in second {second}");
                }
                before = now;
            }
        }
    }

    #[test]
    fn shares() {
        let Some(share) = Share::of(10, 1_000) else { panic!("a share of something") };
        assert!((share.ratio - 0.01).abs() < 1e-12);
        // By the formula, with another calculator.
        assert!((share.lower - 0.005_440_754).abs() < 1e-9 && (share.upper - 0.018_309_469).abs() < 1e-9, "{share:?}");
        assert_eq!(Share::of(0, 0), None);
        assert_eq!(Share::of(0, 100).map(|share| (share.ratio, share.lower < 1e-12)), Some((0.0, true)));
        let (start, mut loss) = (Instant::now(), PathLoss::default());
        for second in 0..30 {
            let passed = second * 100;
            let totals = Totals {
                followed: [passed, passed],
                frames: [passed * 2, passed * 2],
                seen_again: [0, second],
                ..Totals::default()
            };
            loss.add(start + Duration::from_secs(second), totals);
        }
        assert_eq!(loss.share(PathSide::NetworkOut).map(|share| share.ratio), Some(0.01));
        assert_eq!(loss.judged(), Some(0.5));
        assert_eq!(loss.history.len(), 11, "bounded");
        loss.restart();
        assert_eq!((loss.share(PathSide::NetworkOut), loss.lost(PathSide::NetworkOut)), (None, 27));
    }
}
