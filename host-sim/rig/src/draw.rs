//! Seeded draws: SplitMix64 and the distributions the rig needs.
//!
//! A generator of our own rather than a crate, because the traces are part of what is published
//! with a result: an upgrade of a dependency must not change what a seed means. SplitMix64 passes
//! BigCrush, has a period of 2^64 and every seed, zero included, is a good one.
//!
//! Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators",
//! OOPSLA 2014.

use std::f64::consts::TAU;

/// A stream of draws that a seed fixes.
///
/// ```
/// use host_sim_rig::draw::SplitMix64;
///
/// let mut one = SplitMix64::new(7);
/// let mut other = SplitMix64::new(7);
/// assert_eq!(one.next_u64(), other.next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of `seed` for one of several users, told apart by `name`.
    ///
    /// Endpoints that share a seed must not draw in lock-step.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a: short names, and stable across compilers unlike the standard hasher.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        Self::new(Self::new(seed ^ hash).next_u64())
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with this mean, in the mean's unit.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        // 1 - unit is in (0, 1]: its logarithm is finite.
        -mean * (1.0 - self.unit()).ln()
    }

    /// Standard normal (Box-Muller; the second value is thrown away to keep one draw one step).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// Log-normal with this mean and coefficient of variation (standard deviation / mean).
    pub fn log_normal(&mut self, mean: f64, cv: f64) -> f64 {
        let variance = (1.0 + cv * cv).ln();
        let location = mean.ln() - variance / 2.0;
        (location + variance.sqrt() * self.normal()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let samples: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let variance =
            samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / samples.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of the reference implementation for seed 1234567.
        let mut draws = SplitMix64::new(1_234_567);
        assert_eq!(draws.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(draws.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn names_separate_streams_of_one_seed() {
        let first = SplitMix64::named(1, "e1").next_u64();
        assert_eq!(first, SplitMix64::named(1, "e1").next_u64());
        assert_ne!(first, SplitMix64::named(1, "e2").next_u64());
        assert_ne!(first, SplitMix64::named(2, "e1").next_u64());
    }

    #[test]
    fn exponential_draws_have_their_mean_and_variation_one() {
        let mut draws = SplitMix64::new(1);
        let (mean, cv) = moments(|| draws.exponential(10.0));
        assert!((mean - 10.0).abs() < 0.1, "{mean}");
        assert!((cv - 1.0).abs() < 0.02, "{cv}");
    }

    #[test]
    fn log_normal_draws_have_their_mean_and_variation() {
        let mut draws = SplitMix64::new(2);
        let (mean, cv) = moments(|| draws.log_normal(10.0, 0.5));
        assert!((mean - 10.0).abs() < 0.1, "{mean}");
        assert!((cv - 0.5).abs() < 0.02, "{cv}");
    }

    #[test]
    fn unit_draws_stay_below_one() {
        let mut draws = SplitMix64::new(3);
        assert!((0..100_000).map(|_| draws.unit()).all(|x| (0.0..1.0).contains(&x)));
    }
}
