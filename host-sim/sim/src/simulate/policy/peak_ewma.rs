//! Two choices by peak latency, as in Finagle, tower and Linkerd: latency that rises at once and
//! falls slowly, times the requests in flight. Failures count with the time they took, as there.

use super::{Policy, PolicyKind, Scene, Seen};
use crate::scenario::value::Span;
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// tower's `PeakEwma`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeakEwma {
    /// How long a peak is remembered. Default `10s`.
    pub decay: Span,
    /// What is believed of an endpoint before its first answer. Default `30ms`.
    pub default_rtt: Span,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self { decay: Span(Duration::from_secs(10)), default_rtt: Span(Duration::from_millis(30)) }
    }
}

#[derive(Debug)]
struct Peaks {
    tau: f64,
    /// Seconds, and as of when.
    estimates: Vec<(f64, Duration)>,
}

impl PolicyKind for PeakEwma {
    fn policy(&self, endpoints: usize) -> Box<dyn Policy> {
        let estimate = (self.default_rtt.0.as_secs_f64(), Duration::ZERO);
        let tau = self.decay.0.as_secs_f64().max(f64::MIN_POSITIVE);
        Box::new(Peaks { tau, estimates: vec![estimate; endpoints] })
    }
}

impl Peaks {
    /// The estimate faded to now.
    fn faded(&self, now: Duration, endpoint: usize) -> f64 {
        let (estimate, at) = self.estimates[endpoint];
        estimate * (-now.saturating_sub(at).as_secs_f64() / self.tau).exp()
    }

    fn cost(&self, scene: &Scene<'_>, endpoint: usize) -> f64 {
        self.faded(scene.now, endpoint) * (f64::from(scene.active[endpoint]) + 1.0)
    }
}

impl Policy for Peaks {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        let count = scene.eligible.len();
        let first = draws.below(count);
        let one = *scene.eligible.get(first)?;
        if count < 2 {
            return Some(one);
        }
        // Another one: without replacement.
        let second = draws.below(count - 1);
        let other = scene.eligible[if second >= first { second + 1 } else { second }];
        let better = self.cost(scene, other) < self.cost(scene, one);
        Some(if better { other } else { one })
    }

    fn ended(&mut self, seen: &Seen) {
        let took = seen.took.as_secs_f64();
        let (estimate, at) = self.estimates[seen.endpoint];
        let weight = (-seen.now.saturating_sub(at).as_secs_f64() / self.tau).exp();
        let estimate =
            if took > estimate { took } else { estimate * weight + took * (1.0 - weight) };
        self.estimates[seen.endpoint] = (estimate, seen.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn latency_times_requests_in_flight_decides_between_two() {
        let mut stage = Stage::new(&PeakEwma::default(), 2);
        stage.ended(0, ms(100), None);
        stage.ended(1, ms(40), None);
        assert_eq!(stage.counts(100), [0, 100]);
        // 40 * 3 > 100 * 1.
        stage.active = vec![0, 2];
        assert_eq!(stage.counts(100), [100, 0]);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades_slowly() {
        let mut peaks = Peaks { tau: 10.0, estimates: vec![(0.030, Duration::ZERO)] };
        let report = None;
        peaks.ended(&Seen { now: ms(0), endpoint: 0, took: ms(500), report });
        assert_eq!(peaks.faded(ms(0), 0), 0.5);
        let now = Duration::from_secs(10);
        peaks.ended(&Seen { now, endpoint: 0, took: ms(100), report });
        let expected = 0.5 * (-1.0_f64).exp() + 0.1 * (1.0 - (-1.0_f64).exp());
        assert!((peaks.faded(now, 0) - expected).abs() < 1e-9);
    }
}
