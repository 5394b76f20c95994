//! One run: ordinary time, in which the detectors learn; then something goes wrong for a while; then it is over.

use probe_user::detect::{
    alarm::Kind,
    verdict::{Affected, Name},
};

use super::{
    cause::{Cause, Effect},
    loss::Loss,
    node::Node,
    observer::Observer,
    random::Random,
    shape::{Card, blank},
};

/// What a run is of.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What the uplinks are.
    pub card: Card,
    /// What the paths usually lose.
    pub usual: Loss,
    /// Segments of connections a second, each way.
    pub segments: f64,
    /// All else.
    pub seed: u64,
}

/// A node whose detectors know what is usual.
#[derive(Clone, Debug)]
pub struct Warm {
    node: Node,
    observer: Observer,
    random: Random,
}

/// How long they learn; longer while anything is alarmed.
const LEARNS_S: u64 = 1_800;
/// How long something goes wrong, and how long it is looked at when it is over.
const LASTS_S: u64 = 40;
const AFTER_S: u64 = 20;
/// The time in which it has to be said whose fault it is.
pub(super) const JUDGED_S: u64 = 30;

/// What was said in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Seconds from the onset to the first alarm; at most `JUDGED_S`, else it was none.
    pub detected_s: Option<u64>,
    /// Seconds from the onset to what is right, if it was said in time.
    pub right_s: Option<u64>,
    /// What is wrong and was said at any time, with the second.
    pub wrong: Option<(u64, Name)>,
    /// What was said for the longest time in `JUDGED_S`, `none` left out; `none` if nothing else was said.
    pub said: Name,
    /// Seconds of the rest of `LASTS_S` in which what is right stood, of how many.
    pub held: (u64, u64),
    /// Simulated seconds.
    pub seconds: u64,
}

impl Warm {
    /// Lets the detectors learn.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let observer = Observer::new(blank(setting.card));
        let node = Node::new([setting.segments; 2], setting.usual);
        let mut warm = Self { node, observer, random: Random::new(setting.seed) };
        let mut is_alarmed = true;
        while warm.node.at < LEARNS_S || (is_alarmed && warm.node.at < 2 * LEARNS_S) {
            is_alarmed = warm.ordinary();
        }
        warm
    }

    /// An ordinary second. Whether anything is alarmed.
    fn ordinary(&mut self) -> bool {
        self.node.begin(&mut self.random);
        self.node.end();
        self.observer.look(&mut self.node)
    }

    /// Lets something go wrong that loses so much.
    #[must_use]
    pub fn play(&self, cause: &Cause, loss: Loss, seed: u64) -> Outcome {
        let Self { mut node, mut observer, .. } = self.clone();
        let (mut random, mut effect) = (Random::new(seed), Effect::default());
        observer.reshape(cause.blind());
        for _ in 0..cause.before_s {
            let sent = node.begin(&mut random);
            cause.act(&mut node, &mut effect, (0, Loss::single(0.0), sent), &mut random);
            node.end();
            observer.look(&mut node);
        }
        let (mut outcome, mut said) = (Outcome::default(), [0_u64; Name::ALL.len()]);
        for second in 0..LASTS_S + AFTER_S {
            let sent = node.begin(&mut random);
            if second < LASTS_S {
                cause.act(&mut node, &mut effect, (second, loss, sent), &mut random);
            } else {
                effect.gather(&mut random);
            }
            node.end();
            let is_alarmed = observer.look(&mut node);
            let verdict = observer.judge(Affected { peers: effect.peers, damaged: effect.damaged, is_pending: false });
            let (name, passed) = (verdict.verdict, second + 1);
            if is_alarmed && passed <= JUDGED_S {
                outcome.detected_s = outcome.detected_s.or(Some(passed));
            }
            let is_left_over = second >= LASTS_S && cause.left_over.contains(&name);
            if cause.is_wrong(name, &verdict.scope) && !is_left_over {
                outcome.wrong = outcome.wrong.or(Some((passed, name)));
            }
            let is_right = name != Name::None && cause.right.contains(&name);
            if is_right && passed <= JUDGED_S {
                outcome.right_s = outcome.right_s.or(Some(passed));
            }
            if outcome.right_s.is_some() && second < LASTS_S {
                outcome.held.0 += u64::from(is_right);
                outcome.held.1 += 1;
            }
            if passed <= JUDGED_S && name != Name::None {
                said[name as usize] += 1;
            }
        }
        let most = Name::ALL.into_iter().max_by_key(|name| said[*name as usize]).unwrap_or_default();
        outcome.said = if said[most as usize] == 0 { Name::None } else { most };
        outcome.seconds = LASTS_S + AFTER_S;
        outcome
    }
}

/// What an ordinary time has brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calm {
    /// Simulated seconds.
    pub seconds: u64,
    /// Times at which something was alarmed where nothing had been; malformed frames from far away, which never page, left
    /// out.
    pub alarms: u64,
    /// Of these, times at which somebody was named.
    pub accusations: u64,
    /// What was alarmed first, after how many seconds.
    pub first: Option<(u64, Kind)>,
}

impl Calm {
    /// Adds another one.
    pub fn add(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.alarms += more.alarms;
        self.accusations += more.accusations;
        self.first = self.first.or(more.first);
    }

    /// False alarms in a week.
    #[must_use]
    pub fn weekly(&self) -> f64 {
        self.alarms as f64 * 604_800.0 / self.seconds.max(1) as f64
    }
}

/// So many ordinary seconds behind those in which the detectors learn.
#[must_use]
pub fn calm(setting: Setting, seconds: u64) -> Calm {
    let mut warm = Warm::new(setting);
    let (mut calm, mut was_alarmed, mut was_accused) = (Calm { seconds, ..Calm::default() }, false, false);
    for second in 0..seconds {
        warm.ordinary();
        let alarmed = warm.observer.alarmed(|detector| detector.kind != Kind::MalformedPath);
        let is_alarmed = alarmed.is_some();
        calm.first = calm.first.or(alarmed.map(|kind| (second, kind)));
        calm.alarms += u64::from(is_alarmed && !was_alarmed);
        let is_accused = is_alarmed && warm.observer.judge(Affected::default()).verdict.accuses();
        calm.accusations += u64::from(is_accused && !was_accused);
        (was_accused, was_alarmed) = (is_accused || (was_accused && is_alarmed), is_alarmed);
    }
    calm
}
