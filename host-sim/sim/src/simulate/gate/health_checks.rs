//! Envoy's active `health_checks` over HTTP. A check takes no slot of an endpoint and is answered at
//! once, so it finds what is dead and never what is merely slow: that is in favour of who relies on it.

use crate::scenario::value::Span;
use crate::simulate::draws::Draws;
use crate::simulate::server::AttemptId;
use crate::simulate::world::{Load, Outcome, World};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;

/// With Envoy's fields. Below half of the endpoints their health is ignored, as Envoy's panic
/// threshold has it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthChecks {
    /// From one check of an endpoint to the next. Default `5s`.
    #[serde(default = "five_seconds")]
    pub interval: Span,
    /// Refused checks in a row that make it unhealthy; an answer other than 200 does at once.
    /// Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    pub unhealthy_threshold: u32,
    /// Good checks in a row that make it healthy. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    pub healthy_threshold: u32,
}

/// What one proxy's checks have found.
pub(crate) struct Checked {
    rules: HealthChecks,
    endpoints: Vec<Endpoint>,
    under_way: HashMap<AttemptId, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Endpoint {
    is_healthy: bool,
    /// Checks in a row that say otherwise.
    doubts: u32,
    next: Duration,
}

impl HealthChecks {
    /// All are healthy; the first checks are spread over an interval.
    pub(crate) fn begin(&self, endpoints: usize, draws: &mut Draws) -> Checked {
        let endpoint = |_| {
            let next = self.interval.0.mul_f64(draws.unit());
            Endpoint { is_healthy: true, doubts: 0, next }
        };
        let endpoints = (0..endpoints).map(endpoint).collect();
        Checked { rules: self.clone(), endpoints, under_way: HashMap::new() }
    }
}

impl Checked {
    pub(crate) fn is_healthy(&self, endpoint: usize) -> bool {
        self.endpoints.get(endpoint).is_some_and(|endpoint| endpoint.is_healthy)
    }

    /// When the next check is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.endpoints.iter().map(|endpoint| endpoint.next).min()
    }

    /// Sends the checks that are due.
    pub(crate) fn wake(&mut self, proxy: usize, world: &mut World) {
        let now = world.now();
        for (at, endpoint) in self.endpoints.iter_mut().enumerate() {
            if endpoint.next <= now {
                endpoint.next = now + self.rules.interval.0;
                self.under_way.insert(world.start(proxy, at, Load::Poll), at);
            }
        }
    }

    /// An attempt has ended. Tells whether it was a check.
    pub(crate) fn answered(&mut self, attempt: AttemptId, outcome: Outcome) -> bool {
        let Some(at) = self.under_way.remove(&attempt) else { return false };
        self.learn(at, outcome);
        true
    }

    fn learn(&mut self, at: usize, outcome: Outcome) {
        let Some(endpoint) = self.endpoints.get_mut(at) else { return };
        let is_good = matches!(outcome, Outcome::Answer(200, _));
        if is_good == endpoint.is_healthy {
            endpoint.doubts = 0;
            return;
        }
        endpoint.doubts += 1;
        let enough = match outcome {
            _ if is_good => self.rules.healthy_threshold,
            Outcome::Answer(..) => 1,
            _ => self.rules.unhealthy_threshold,
        };
        if endpoint.doubts >= enough {
            endpoint.is_healthy = is_good;
            endpoint.doubts = 0;
        }
    }
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

fn two() -> u32 {
    2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_refused_checks_make_unhealthy_and_one_bad_answer_does_and_two_good_ones_make_healthy() {
        let rules: HealthChecks = serde_json::from_value(serde_json::json!({})).unwrap();
        let mut checked = rules.begin(2, &mut Draws::new(1, "checks", 0));
        assert!(checked.deadline() < Some(Duration::from_secs(5)));
        let good = Outcome::Answer(200, None);
        checked.learn(0, Outcome::Refused);
        checked.learn(0, good);
        checked.learn(0, Outcome::Refused);
        assert!(checked.is_healthy(0));
        checked.learn(0, Outcome::Refused);
        assert!(!checked.is_healthy(0) && checked.is_healthy(1));
        checked.learn(0, good);
        assert!(!checked.is_healthy(0));
        checked.learn(0, good);
        assert!(checked.is_healthy(0));
        checked.learn(0, Outcome::Answer(503, None));
        assert!(!checked.is_healthy(0));
    }
}
