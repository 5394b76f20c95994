//! A loss and how sure it is.

use serde::Serialize;

/// The quantile of the normal distribution that leaves 2.5 % on either side.
const Z: f64 = 1.959_963_984_540_054;

/// So many of so many, with Wilson's 95 % interval for the ratio (Wilson 1927), which also holds where few or none were
/// lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Loss {
    /// Segments lost.
    pub lost: u64,
    /// Segments that could be lost.
    pub of: u64,
    /// Their ratio; absent of none.
    pub ratio: Option<f64>,
    /// Lower and upper end of the interval; absent of none.
    pub interval: Option<[f64; 2]>,
}

impl Loss {
    /// Of so many segments, the lost ones included.
    #[must_use]
    pub fn new(lost: u64, of: u64) -> Self {
        if of == 0 {
            return Self { lost, of, ratio: None, interval: None };
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio has no 53 bits worth showing")]
        let (share, count) = (lost.min(of) as f64 / of as f64, of as f64);
        let weight = 1.0 + Z * Z / count;
        let middle = (share + Z * Z / (2.0 * count)) / weight;
        let half = Z / weight * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        Self { lost, of, ratio: Some(share), interval: Some([(middle - half).max(0.0), (middle + half).min(1.0)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (lost, of, low, high) in [
            (0, 10, 0.0, 0.2775),
            (1, 10, 0.0179, 0.4042),
            (10, 10, 0.7225, 1.0),
            (10, 1000, 0.0054, 0.0183),
            (0, 1_000_000, 0.0, 0.000_003_842),
        ] {
            let loss = Loss::new(lost, of);
            let [seen_low, seen_high] = loss.interval.unwrap();
            assert!((seen_low - low).abs() < 6e-5 && (seen_high - high).abs() < 6e-5, "{lost} of {of}: {loss:?}");
        }
        assert_eq!(Loss::new(0, 0), Loss::default());
        assert_eq!(Loss::new(5, 3).ratio, Some(1.0), "never more than all");
    }
}
