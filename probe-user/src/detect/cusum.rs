//! Page's cumulative sum (1954): evidence for one rate against another, piled up second by second and never below
//! zero, so that what was right for a year does not hide what is wrong now.
//!
//! If every second obeys the first rate, e^h of them pass on average before a sum of h is reached (Lorden 1971).

/// A sum, and since when it is above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cusum {
    score: f64,
    onset_ms: Option<u64>,
}

impl Cusum {
    /// Adds the evidence of a second that began at `began_ms`. A sum of more than `most` is of no further use: it would
    /// only take longer to come down.
    pub fn add(&mut self, began_ms: u64, evidence: f64, most: f64) {
        self.score = (self.score + evidence).clamp(0.0, most);
        self.onset_ms = if self.score > 0.0 { self.onset_ms.or(Some(began_ms)) } else { None };
    }

    /// The evidence so far.
    #[must_use]
    pub const fn score(&self) -> f64 {
        self.score
    }

    /// When the sum last left zero: the most likely instant at which the rate has changed.
    #[must_use]
    pub const fn onset_ms(&self) -> Option<u64> {
        self.onset_ms
    }
}

/// How much more likely (the logarithm of how many times) `hits` of `trials` are at a share of `unusual` than of `usual`.
/// Both lie between 0 and 1 and are neither.
#[must_use]
pub fn evidence(hits: f64, trials: f64, usual: f64, unusual: f64) -> f64 {
    hits * (unusual / usual).ln() + (trials - hits) * ((1.0 - unusual) / (1.0 - usual)).ln()
}

/// The share at which [`evidence`] is zero: more speaks for `unusual`, less for `usual`.
#[must_use]
pub fn break_even(usual: f64, unusual: f64) -> f64 {
    let against = ((1.0 - unusual) / (1.0 - usual)).ln();
    against / (against - (unusual / usual).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let mut sum = Cusum::default();
        for (second, (evidence, score, onset_ms)) in [
            (-1.0, 0.0, None),
            (2.0, 2.0, Some(1_000)),
            (-1.5, 0.5, Some(1_000)),
            (-0.5, 0.0, None),
            (3.0, 3.0, Some(4_000)),
            (9.0, 10.0, Some(4_000)),
            (-10.0, 0.0, None),
        ]
        .into_iter()
        .enumerate()
        {
            sum.add(second as u64 * 1_000, evidence, 10.0);
            assert_eq!((sum.score(), sum.onset_ms()), (score, onset_ms), "second {second}");
        }
    }

    #[test]
    fn for_and_against() {
        // By hand: 5·ln 10 + 495·ln(0.99/0.999).
        assert!((evidence(5.0, 500.0, 0.001, 0.01) - 7.033_2).abs() < 1e-3);
        assert!(evidence(0.0, 500.0, 0.001, 0.01) < -4.4);
        assert_eq!(evidence(0.0, 0.0, 0.001, 0.01), 0.0, "silence says nothing");
        for (usual, unusual) in [(1e-6, 1e-3), (5e-4, 1.5e-3), (0.2, 0.6)] {
            let share = break_even(usual, unusual);
            assert!(usual < share && share < unusual);
            assert!(evidence(share * 1e6, 1e6, usual, unusual).abs() < 1e-6);
        }
    }
}
