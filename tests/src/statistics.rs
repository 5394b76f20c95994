//! What a few noisy measurements say: the median, and the interval in which the true one lies with 95 % confidence,
//! without any assumption about how the noise is distributed.

/// How often an interval may miss the true median.
const RISK: f64 = 0.05;

/// A median and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The middle of the measurements.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many measurements there were.
    pub rounds: usize,
}

impl Estimate {
    /// Of these measurements, in any order. Below six of them no interval is sure enough: it is everything.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let rounds = sorted.len();
        let (low, high) = match certain_rank(rounds) {
            0 => (f64::NEG_INFINITY, f64::INFINITY),
            rank => (sorted[rank - 1], sorted[rounds - rank]),
        };
        Self { median: median(&sorted), low, high, rounds }
    }

    /// Width of the interval as a share of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / self.median.abs()
    }
}

/// The median of measurements in any order; not a number when there are none.
#[must_use]
pub fn median_of(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}

fn median(sorted: &[f64]) -> f64 {
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (_, middle) => sorted[middle],
    }
}

/// The largest k for which the k-th smallest and the k-th largest of `count` measurements enclose the median with the
/// wanted confidence: each measurement is below it with probability 1/2, so the number below it is binomial.
fn certain_rank(count: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for rank in 0..=count / 2 {
        below += probability;
        if below > RISK / 2.0 {
            return rank;
        }
        probability *= (count - rank) as f64 / (rank + 1) as f64;
    }
    count / 2
}
