//! How much work a request is.
//!
//! A request brings draws, an endpoint turns them into time: the same request is a long one at every
//! endpoint, which is what makes arms comparable pair by pair.

use super::draws::Draws;
use crate::scenario::value::Span;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// The longest service time: the tails of the distributions have no end, an experiment has.
const LONGEST: f64 = 600.0;

/// How long a request keeps a slot busy, at speed 1.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceTime {
    /// Default `lognormal`: what request times of real services resemble.
    #[serde(default)]
    pub distribution: Distribution,
    /// The mean.
    pub mean: Span,
    /// Standard deviation / mean, of `lognormal` only. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub cv: f64,
}

/// A family of distributions.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// With mean and coefficient of variation.
    #[default]
    Lognormal,
    /// What a textbook's M/M/c queue has.
    Exponential,
    /// Always the mean.
    Fixed,
}

/// The draws of one attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    exponential: f64,
    normal: f64,
}

impl Work {
    /// That of the `attempt`-th try, from 0, of request number `request`. Each try is drawn anew: a
    /// retry meets another garbage collection, another cache.
    pub(crate) fn of(seed: u64, request: u64, attempt: u64) -> Self {
        let mut draws = Draws::new(seed, "work", request.wrapping_mul(64).wrapping_add(attempt));
        Self { exponential: draws.exponential(), normal: draws.normal() }
    }
}

impl ServiceTime {
    /// The mean, in seconds.
    pub(crate) fn mean(&self) -> f64 {
        self.mean.0.as_secs_f64()
    }

    /// The time that `work` takes at speed 1, in seconds.
    pub(crate) fn seconds(&self, work: Work) -> f64 {
        let seconds = match self.distribution {
            Distribution::Fixed => self.mean(),
            Distribution::Exponential => self.mean() * work.exponential,
            Distribution::Lognormal => {
                let variance = (1.0 + self.cv * self.cv).ln();
                self.mean() * (variance.sqrt() * work.normal - variance / 2.0).exp()
            }
        };
        seconds.min(LONGEST)
    }
}

/// Seconds as time, however many.
pub(crate) fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(distribution: Distribution, cv: f64) -> (f64, f64) {
        let time = ServiceTime { distribution, mean: Span(Duration::from_millis(40)), cv };
        let drawn: Vec<f64> =
            (0..200_000).map(|request| time.seconds(Work::of(1, request, 0)) * 1e3).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn the_distributions_have_their_mean_and_variation() {
        for (distribution, cv) in [
            (Distribution::Lognormal, 1.0),
            (Distribution::Lognormal, 0.5),
            (Distribution::Exponential, 1.0),
            (Distribution::Fixed, 0.0),
        ] {
            let (mean, variation) = moments(distribution, cv);
            assert!((mean - 40.0).abs() < 0.4, "{distribution:?}: {mean}");
            assert!((variation - cv).abs() < 0.03, "{distribution:?}: {variation}");
        }
    }

    #[test]
    fn a_retry_is_drawn_anew() {
        assert_eq!(Work::of(1, 5, 0), Work::of(1, 5, 0));
        assert_ne!(Work::of(1, 5, 0), Work::of(1, 5, 1));
        assert_ne!(Work::of(1, 5, 0), Work::of(1, 6, 0));
    }
}
