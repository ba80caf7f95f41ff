//! Envoy's `adaptive_concurrency`, the gradient controller: the limit follows the ratio of the latency
//! of an idle server to the latency of now. The former is measured at the beginning and from time to
//! time, by letting hardly anything pass for some requests.

use super::{End, Gate};
use crate::scenario::value::Span;
use crate::simulate::draws::Draws;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// So many updates in a row with the least limit have the idle latency measured anew.
const STUCK: u32 = 5;

/// With Envoy's fields and defaults, and the intervals of its documentation's example.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveConcurrency {
    /// Percentile of the latencies. Default 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 0, max = 100))]
    pub sample_aggregate_percentile: f64,
    /// Largest limit. Default 1000.
    #[serde(default = "a_thousand")]
    pub max_concurrency_limit: u32,
    /// How often the limit is changed. Default `100ms`.
    #[serde(default = "a_tenth")]
    pub concurrency_update_interval: Span,
    /// How often the idle latency is measured. Default `60s`.
    #[serde(default = "a_minute")]
    pub interval: Span,
    /// By how many requests. Default 50.
    #[serde(default = "fifty_requests")]
    #[schemars(range(min = 1))]
    pub request_count: usize,
    /// Percent of the interval that it is late at the most, by draw. Default 15.
    #[serde(default = "fifteen")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter: f64,
    /// The limit meanwhile, and the least limit. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1))]
    pub min_concurrency: u32,
    /// By how many percent the latency may exceed the idle one. Default 25.
    #[serde(default = "twenty_five")]
    #[schemars(range(min = 0, max = 100))]
    pub buffer: f64,
}

impl AdaptiveConcurrency {
    /// One that begins to measure.
    pub(crate) fn gate(&self) -> Box<dyn Gate> {
        let limit = self.min_concurrency;
        Box::new(Controller {
            rules: self.clone(),
            limit,
            kept: limit,
            measures_since: Some(Duration::ZERO),
            idle: 0.0,
            samples: Vec::new(),
            outstanding: 0,
            at_least: 0,
            updates_at: self.concurrency_update_interval.0,
            measures_at: Duration::MAX,
        })
    }
}

struct Controller {
    rules: AdaptiveConcurrency,
    limit: u32,
    /// What the limit was before the idle latency was measured.
    kept: u32,
    /// Of requests that started since, that is.
    measures_since: Option<Duration>,
    /// Seconds.
    idle: f64,
    samples: Vec<f64>,
    outstanding: u32,
    /// Updates in a row that gave the least limit.
    at_least: u32,
    updates_at: Duration,
    measures_at: Duration,
}

impl Controller {
    fn take_latency(&mut self) -> Option<f64> {
        let mut samples = std::mem::take(&mut self.samples);
        samples.sort_by(f64::total_cmp);
        let rank = self.rules.sample_aggregate_percentile / 100.0 * samples.len() as f64;
        samples.get((rank.ceil() as usize).saturating_sub(1)).copied()
    }

    fn begin_to_measure(&mut self, now: Duration) {
        self.samples.clear();
        self.measures_since = Some(now);
        self.kept = self.limit;
        self.limit = self.rules.min_concurrency;
        self.at_least = 0;
    }

    fn end_to_measure(&mut self, now: Duration, draws: &mut Draws) {
        let Some(idle) = self.take_latency() else { return };
        self.idle = idle;
        self.measures_since = None;
        self.limit = self.kept;
        let jitter = self.rules.interval.0.mul_f64(self.rules.jitter / 100.0 * draws.unit());
        self.measures_at = now + self.rules.interval.0 + jitter;
        self.updates_at = now + self.rules.concurrency_update_interval.0;
    }

    fn update(&mut self) {
        let Some(latency) = self.take_latency() else { return };
        let allowed = self.idle * (1.0 + self.rules.buffer / 100.0);
        let gradient = (allowed / latency.max(1e-9)).clamp(0.5, 2.0);
        let limit = gradient * f64::from(self.limit);
        let most = f64::from(self.rules.max_concurrency_limit);
        let least = f64::from(self.rules.min_concurrency);
        // A cast of a float saturates.
        self.limit = (limit + limit.sqrt()).clamp(least, most.max(least)) as u32;
        let is_least = self.limit == self.rules.min_concurrency;
        self.at_least = if is_least { self.at_least + 1 } else { 0 };
    }
}

impl Gate for Controller {
    fn admits(&mut self, _: Duration, _: &mut Draws) -> bool {
        let admits = self.outstanding < self.limit;
        self.outstanding += u32::from(admits);
        admits
    }

    fn ended(&mut self, end: &End, draws: &mut Draws) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let since = self.measures_since;
        if end.status.is_none() || since.is_some_and(|since| end.started < since) {
            return;
        }
        self.samples.push((end.now - end.started).as_secs_f64());
        if since.is_some() && self.samples.len() >= self.rules.request_count {
            self.end_to_measure(end.now, draws);
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.measures_since.is_none().then(|| self.updates_at.min(self.measures_at))
    }

    fn wake(&mut self, now: Duration, _: &mut Draws) {
        if self.measures_since.is_some() {
            return;
        }
        if self.updates_at <= now {
            self.updates_at = now + self.rules.concurrency_update_interval.0;
            self.update();
        }
        if self.measures_at <= now || self.at_least >= STUCK {
            self.begin_to_measure(now);
        }
    }
}

fn fifty() -> f64 {
    50.0
}

fn a_thousand() -> u32 {
    1000
}

fn a_tenth() -> Span {
    Span(Duration::from_millis(100))
}

fn a_minute() -> Span {
    Span(Duration::from_secs(60))
}

fn fifty_requests() -> usize {
    50
}

fn fifteen() -> f64 {
    15.0
}

fn three() -> u32 {
    3
}

fn twenty_five() -> f64 {
    25.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Lets in what it may at a time, and ends it some time later.
    fn round(gate: &mut dyn Gate, draws: &mut Draws, at: u64, takes: u64) -> usize {
        let passed = (0..2000).filter(|_| gate.admits(ms(at), draws)).count();
        let end = End { now: ms(at + takes), started: ms(at), status: Some(200) };
        (0..passed).for_each(|_| gate.ended(&end, draws));
        gate.wake(ms(at + 100), draws);
        passed
    }

    #[test]
    fn the_limit_is_least_while_the_idle_latency_is_measured_and_follows_the_latency_then() {
        let rules: AdaptiveConcurrency = serde_json::from_value(serde_json::json!({})).unwrap();
        let (mut gate, mut draws) = (rules.gate(), Draws::new(1, "gate", 0));
        let mut at = 0;
        let mut passes = |gate: &mut dyn Gate, takes| {
            at += 100;
            round(gate, &mut draws, at, takes)
        };
        assert!((0..17).all(|_| passes(&mut *gate, 10) == 3), "50 requests are wanted");
        let grown: Vec<usize> = (0..30).map(|_| passes(&mut *gate, 12)).collect();
        assert!(grown.is_sorted() && grown.last() > Some(&300), "{grown:?}");
        let shrunk: Vec<usize> = (0..10).map(|_| passes(&mut *gate, 100)).collect();
        assert!(shrunk.last() < Some(&10), "{shrunk:?}");
    }
}
