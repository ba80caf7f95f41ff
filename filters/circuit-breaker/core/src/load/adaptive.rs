//! A limit of concurrency that follows the latency.
//!
//! What is under way beyond what a server works on waits in a queue, and waiting is latency. So a
//! latency that grows says that too much is under way. Three ways to read it, all from Netflix's
//! concurrency-limits: `gradient2` compares short-term with long-term latency, `vegas` estimates the
//! queue from the least latency, `aimd` only minds what fails or takes too long. None of them stops
//! traffic to measure an idle server, as Envoy's adaptive concurrency does at every interval: the
//! long-term mean drifts with the load and is pulled back when latency recovers, and Vegas' least
//! latency is forgotten now and then.
//!
//! The limit grows only while at least half of it is used: an idle hour must not raise it without
//! end.

use core::time::Duration;

/// How the limit follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// By the ratio of long-term and recent latency.
    Gradient2,
    /// By an estimate of what is queued.
    Vegas,
    /// One more for each round of successes, a tenth less for what fails.
    Aimd,
}

/// A limit that follows the latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// How.
    pub algorithm: Algorithm,
    /// Least limit, which it begins with.
    pub min: u32,
    /// Largest limit.
    pub max: u32,
    /// By how much the recent latency may exceed the long-term one, as a factor.
    pub tolerance: f64,
    /// How much of a new estimate is taken, from 0 to 1.
    pub smoothing: f64,
    /// Requests that may queue.
    pub queue: u32,
    /// Samples of the long-term mean.
    pub long_window: u32,
}

/// What is cut off by a failure.
const BACKOFF: f64 = 0.9;

/// The limit of one subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    limit: f64,
    /// Seconds.
    long: f64,
    samples: f64,
    least: f64,
    until_forgotten: f64,
}

impl Limit {
    pub(super) fn new(rule: Option<&Adaptive>) -> Self {
        let limit = rule.map_or(0.0, |rule| f64::from(rule.min));
        Self { limit, long: 0.0, samples: 0.0, least: 0.0, until_forgotten: 0.0 }
    }

    /// Requests that may be under way.
    pub(crate) fn whole(&self) -> u32 {
        // A cast of a float saturates.
        self.limit as u32
    }

    /// Learns from the end of a request. `in_flight` were under way, itself included.
    pub(crate) fn observe(
        &mut self,
        rule: &Adaptive,
        answered: Option<Duration>,
        overloaded: bool,
        in_flight: u32,
        draw: u64,
    ) {
        let before = self.limit;
        if overloaded {
            self.limit *= BACKOFF;
        } else if let Some(latency) = answered {
            let latency = latency.as_secs_f64().max(1e-6);
            let is_used = f64::from(in_flight) * 2.0 >= before;
            let next = match rule.algorithm {
                Algorithm::Gradient2 => self.gradient(rule, latency),
                Algorithm::Vegas => self.vegas(latency, draw),
                Algorithm::Aimd => before + 1.0 / before.max(1.0),
            };
            if is_used || next < before {
                self.limit = next;
            }
        }
        self.limit = self.limit.clamp(f64::from(rule.min), f64::from(rule.max));
    }

    fn gradient(&mut self, rule: &Adaptive, latency: f64) -> f64 {
        self.samples = (self.samples + 1.0).min(f64::from(rule.long_window));
        self.long += (latency - self.long) / self.samples;
        // After an overload the mean is too high, and would tolerate the next one.
        if self.long / latency > 2.0 {
            self.long *= 0.95;
        }
        let gradient = (rule.tolerance * self.long / latency).clamp(0.5, 1.0);
        let next = self.limit * gradient + f64::from(rule.queue);
        self.limit * (1.0 - rule.smoothing) + next * rule.smoothing
    }

    fn vegas(&mut self, latency: f64, draw: u64) -> f64 {
        self.until_forgotten -= 1.0;
        if self.until_forgotten <= 0.0 || latency < self.least {
            self.least = latency;
            self.until_forgotten = (0.5 + crate::backoff::unit(draw) / 2.0) * 30.0 * self.limit;
        }
        let step = self.limit.log10().max(1.0);
        let queued = (self.limit * (1.0 - self.least / latency)).ceil();
        if queued <= step {
            self.limit + 6.0 * step
        } else if queued < 3.0 * step {
            self.limit + step
        } else if queued > 6.0 * step {
            self.limit - step
        } else {
            self.limit
        }
    }
}
