//! How long one request keeps a slot busy.

use std::str::FromStr;
use std::time::Duration;

use crate::draw::SplitMix64;
use crate::duration;

/// Longest service time a draw may give: the tails of the distributions have no end, a test run
/// has.
const MAX_SERVICE_TIME: Duration = Duration::from_secs(60);

/// The distribution of an endpoint's service times.
///
/// As text: `fixed:10ms`, `exponential:10ms`, `log_normal:10ms:1.0` (mean, then coefficient of
/// variation).
///
/// ```
/// use host_sim_rig::service_time::ServiceTime;
/// use std::time::Duration;
///
/// let parsed: ServiceTime = "log_normal:10ms:1.0".parse().unwrap();
/// assert_eq!(parsed, ServiceTime::LogNormal { mean: Duration::from_millis(10), cv: 1.0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Always the same. `Fixed(Duration::ZERO)`, the default, answers at once.
    Fixed(Duration),
    /// Exponential: what a textbook M/M/c queue has.
    Exponential {
        /// Mean service time.
        mean: Duration,
    },
    /// Log-normal: what request times of real services resemble.
    LogNormal {
        /// Mean service time.
        mean: Duration,
        /// Standard deviation / mean. 0 is the same as `Fixed`.
        cv: f64,
    },
}

impl Default for ServiceTime {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

impl ServiceTime {
    /// The mean, from which a utilization follows: rate * mean / slots.
    pub fn mean(&self) -> Duration {
        match *self {
            Self::Fixed(time) => time,
            Self::Exponential { mean } | Self::LogNormal { mean, .. } => mean,
        }
    }

    /// One service time.
    pub fn sample(&self, draws: &mut SplitMix64) -> Duration {
        let seconds = match *self {
            Self::Fixed(time) => return time,
            _ if self.mean().is_zero() => return Duration::ZERO,
            Self::Exponential { mean } => draws.exponential(mean.as_secs_f64()),
            Self::LogNormal { mean, cv } => draws.log_normal(mean.as_secs_f64(), cv),
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(MAX_SERVICE_TIME).min(MAX_SERVICE_TIME)
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let mean = duration::parse(parts.next().unwrap_or_default());
        let parsed = match (kind, parts.next(), parts.next()) {
            ("fixed", None, _) => Self::Fixed(mean?),
            ("exponential", None, _) => Self::Exponential { mean: mean? },
            ("log_normal", Some(cv), None) => Self::LogNormal { mean: mean?, cv: parse_cv(cv)? },
            _ => {
                return Err(format!(
                    "{text:?} is not a service time: write \"fixed:10ms\", \"exponential:10ms\" \
                     or \"log_normal:10ms:1.0\" (mean, coefficient of variation)"
                ));
            }
        };
        Ok(parsed)
    }
}

fn parse_cv(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cv) if (0.0..=100.0).contains(&cv) => Ok(cv),
        _ => {
            Err(format!("{text:?} is not a coefficient of variation: give a number from 0 to 100"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_MS: Duration = Duration::from_millis(10);

    #[test]
    fn the_same_seed_gives_the_same_service_times() {
        let time = ServiceTime::LogNormal { mean: TEN_MS, cv: 1.0 };
        let draw = |seed| {
            let mut draws = SplitMix64::new(seed);
            (0..8).map(|_| time.sample(&mut draws)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_mean_of_the_draws_is_the_mean() {
        for time in [
            ServiceTime::Fixed(TEN_MS),
            ServiceTime::Exponential { mean: TEN_MS },
            ServiceTime::LogNormal { mean: TEN_MS, cv: 1.0 },
        ] {
            let mut draws = SplitMix64::new(1);
            let total: Duration = (0..100_000).map(|_| time.sample(&mut draws)).sum();
            let mean_ms = duration::as_ms(total) / 100_000.0;
            assert!((mean_ms - 10.0).abs() < 0.2, "{time:?}: {mean_ms}");
        }
    }

    #[test]
    fn a_monstrous_draw_is_capped() {
        let time = ServiceTime::Exponential { mean: Duration::MAX };
        assert!(time.sample(&mut SplitMix64::new(1)) <= MAX_SERVICE_TIME);
    }

    #[test]
    fn text_that_is_no_service_time_is_refused() {
        for text in ["", "10ms", "fixed", "fixed:10ms:1", "log_normal:10ms", "log_normal:10ms:-1"] {
            assert!(text.parse::<ServiceTime>().is_err(), "{text}");
        }
    }
}
