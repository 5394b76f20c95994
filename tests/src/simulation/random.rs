//! Chance that can be repeated: the same seed, the same numbers.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea, Flood 2014), and what is drawn from it.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Below this mean each event is drawn by itself, above it their number is drawn as a normal one.
const FEW: f64 = 30.0;

impl Random {
    /// All that follows is told by the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From 0 to `bound`, which is excluded and not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Normally distributed, of mean 0 and variance 1.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }

    /// How many of independent events happen of which `mean` do on average.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= FEW {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// How many of so many come to pass.
    pub fn binomial(&mut self, trials: u64, probability: f64) -> u64 {
        if trials <= 64 {
            return (0..trials).filter(|_| self.happens(probability)).count() as u64;
        }
        let mean = trials as f64 * probability;
        let drawn = if mean < FEW {
            self.poisson(mean)
        } else {
            (mean + (mean * (1.0 - probability)).max(0.0).sqrt() * self.normal()).round().max(0.0) as u64
        };
        drawn.min(trials)
    }

    /// The length of so many trains together, geometric ones of this mean.
    pub fn trains(&mut self, count: u64, length: f64) -> u64 {
        if length <= 1.0 {
            count
        } else if count as f64 >= FEW {
            let (count, variance) = (count as f64, length * (length - 1.0));
            (count * length + (count * variance).sqrt() * self.normal()).round().max(count) as u64
        } else {
            let goes_on = (1.0 - 1.0 / length).ln();
            (0..count).map(|_| 1 + ((1.0 - self.unit()).ln() / goes_on) as u64).sum()
        }
    }
}
