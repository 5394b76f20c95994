//! What a path loses: Gilbert's two states (1960; Elliott's of 1963 with nothing lost in the good one and all in the bad).

use super::random::Random;

/// A path that loses in trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Share of segments lost.
    pub mean: f64,
    /// Segments lost in a row on average.
    pub burst: f64,
}

/// What is usual on the paths of the scenarios.
pub const BASELINES: [Loss; 12] = [
    Loss { mean: 1e-6, burst: 1.0 },
    Loss { mean: 1e-6, burst: 5.0 },
    Loss { mean: 1e-6, burst: 20.0 },
    Loss { mean: 1e-4, burst: 1.0 },
    Loss { mean: 1e-4, burst: 5.0 },
    Loss { mean: 1e-4, burst: 20.0 },
    Loss { mean: 1e-3, burst: 1.0 },
    Loss { mean: 1e-3, burst: 5.0 },
    Loss { mean: 1e-3, burst: 20.0 },
    Loss { mean: 3e-3, burst: 1.0 },
    Loss { mean: 3e-3, burst: 5.0 },
    Loss { mean: 3e-3, burst: 20.0 },
];

impl Loss {
    /// One by one.
    #[must_use]
    pub const fn single(mean: f64) -> Self {
        Self { mean, burst: 1.0 }
    }

    /// How many of so many segments it loses.
    pub fn of(&self, segments: u64, random: &mut Random) -> u64 {
        if self.burst <= 1.0 {
            return random.binomial(segments, self.mean);
        }
        let trains = random.poisson(segments as f64 * self.mean / self.burst);
        random.trains(trains, self.burst).min(segments)
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.0e} in trains of {}", self.mean, self.burst)
    }
}
