//! Seeded draws: SplitMix64, and the distributions that experiments need.
//!
//! Streams have names, and what belongs to a request is drawn by the request's number. So one seed
//! gives every arm the same arrivals and the same work, whatever order its endpoints work in, and
//! another policy, retry or failure moves nobody else's draws: arms can be compared pair by pair.
//!
//! The generator is written out rather than taken from a crate because a seed is part of what is
//! published with a result: an upgrade of a dependency must not change what it means.

use host_sim_engine::rng::{GAMMA, mix};
use std::f64::consts::TAU;

/// A stream of draws.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of `seed` for what is called `name`, the `number`-th of its kind.
    pub(crate) fn new(seed: u64, name: &str, number: u64) -> Self {
        // FNV-1a: short names, and stable across compilers unlike the standard hasher.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self { state: mix(mix(seed ^ hash).wrapping_add(number.wrapping_mul(GAMMA))) }
    }

    /// 64 uniform bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..count`; 0 if there is nothing to draw from.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let product = u128::from(self.bits()) * count as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        // 1 - unit is in (0, 1]: its logarithm is finite.
        -(1.0 - self.unit()).ln()
    }

    /// Standard normal (Box-Muller; the second value is thrown away to keep one draw one step).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_name_and_number_each_give_another_stream() {
        let first = |seed, name, number| Draws::new(seed, name, number).bits();
        assert_eq!(first(1, "work", 7), first(1, "work", 7));
        assert_ne!(first(1, "work", 7), first(2, "work", 7));
        assert_ne!(first(1, "work", 7), first(1, "proxy", 7));
        assert_ne!(first(1, "work", 7), first(1, "work", 8));
    }

    #[test]
    fn first_draws_of_neighbouring_streams_are_uniform() {
        let first = |number| Draws::new(1, "work", number).unit();
        let mean = (0..100_000).map(first).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let both = (0..100_000).filter(|&n| first(n) < 0.5 && first(n + 1) < 0.5).count();
        assert!((both as f64 / 100_000.0 - 0.25).abs() < 0.01, "{both}");
    }

    #[test]
    fn a_choice_is_below_its_count_and_every_one_comes() {
        let mut draws = Draws::new(1, "choice", 0);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[draws.below(7)] += 1);
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        assert_eq!(draws.below(0), 0);
    }

    #[test]
    fn the_distributions_have_their_moments() {
        let mut draws = Draws::new(3, "moments", 0);
        let exponential = (0..200_000).map(|_| draws.exponential()).sum::<f64>() / 200_000.0;
        assert!((exponential - 1.0).abs() < 0.01, "{exponential}");
        let normals: Vec<f64> = (0..200_000).map(|_| draws.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 200_000.0;
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 200_000.0;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    }
}
