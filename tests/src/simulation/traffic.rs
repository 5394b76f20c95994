//! How much passes in a second: a mean that wanders, a daily course, and chance.

use super::random::Random;

/// Connections' segments of one interface.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    /// Segments a second on average, in and out.
    mean: [f64; 2],
    /// Logarithm of how much busier than usual it is just now.
    level: f64,
}

/// Share of all frames that are segments of connections that are followed.
pub(super) const FOLLOWED: f64 = 0.8;
/// The level forgets in so many seconds and has this standard deviation.
const FORGETS_S: f64 = 60.0;
const SPREAD: f64 = 0.25;
const DAY_S: u64 = 86_400;

impl Traffic {
    /// So many segments a second on average, in and out.
    #[must_use]
    pub(super) const fn new(mean: [f64; 2]) -> Self {
        Self { mean, level: 0.0 }
    }

    /// What the next second wants to bring. `at` is the number of the second.
    pub(super) fn second(&mut self, at: u64, random: &mut Random) -> [u64; 2] {
        let kept = 1.0 - 1.0 / FORGETS_S;
        self.level = self.level * kept + SPREAD * (1.0 - kept * kept).sqrt() * random.normal();
        let hour = (at % DAY_S) as f64 / DAY_S as f64;
        let day = 1.0 - 0.5 * (std::f64::consts::TAU * hour).sin();
        let busy = (self.level - SPREAD * SPREAD / 2.0).exp() * day;
        self.mean.map(|mean| random.poisson(mean * busy))
    }
}
