//! A limit of concurrency that follows the latency.
//!
//! What is under way beyond what a server works on waits in a queue, and waiting is latency. So a
//! latency that grows says that too much is under way. Three ways to read it, all from Netflix's
//! concurrency-limits: `gradient2` compares short-term with long-term latency, `vegas` estimates the
//! queue from the least latency, `aimd` only minds what fails or takes too long. None of them stops
//! traffic to measure an idle server, as Envoy's adaptive concurrency does at every interval: the
//! long-term mean is pulled back when latency recovers, and Vegas' least latency is forgotten now and
//! then.
//!
//! While requests are held back there is a queue, and it is this limit's own: as long as the limit lets
//! it be. Who learned from that what latency is usual would let the queue grow, and learn the more:
//! within seconds of an overload the limit would be the largest. So what ends while others are held
//! back teaches five hundred times as slowly: enough for a server that became slower for good.
//!
//! An answer tells of the queue as it was when its request came, a round of answers ago. So it takes a
//! round of them to change the limit by what one of them says: a limit that follows each at once swings
//! between the least and the largest.
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
    /// How much of an estimate that is lower is taken in a round of answers, from 0 to 1.
    pub smoothing: f64,
    /// Requests that may queue.
    pub queue: u32,
    /// Samples of the long-term mean.
    pub long_window: u32,
}

/// What is cut off by a failure.
const BACKOFF: f64 = 0.9;

/// How much of what ends while others are held back is learned.
const OWN_QUEUE: f64 = 0.002;

/// Part of the long-term mean's samples after which it is one.
const ENOUGH: f64 = 0.1;

/// The limit of one subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    limit: f64,
    /// Seconds.
    long: f64,
    samples: f64,
    least: f64,
    until_forgotten: f64,
    /// So many are under way that were when one was held back.
    beside_held: u32,
}

impl Limit {
    pub(super) fn new(rule: Option<&Adaptive>) -> Self {
        let limit = rule.map_or(0.0, |rule| f64::from(rule.min));
        let (long, samples, least, until_forgotten) = (0.0, 0.0, 0.0, 0.0);
        Self { limit, long, samples, least, until_forgotten, beside_held: 0 }
    }

    /// Requests that may be under way.
    pub(crate) fn whole(&self) -> u32 {
        // A cast of a float saturates.
        self.limit as u32
    }

    /// A request is rejected, while so many are under way.
    pub(crate) fn hold_back(&mut self, in_flight: u32) {
        self.beside_held = in_flight;
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
        let part = if self.beside_held > 0 { OWN_QUEUE } else { 1.0 };
        self.beside_held = self.beside_held.saturating_sub(1);
        if overloaded {
            self.limit *= BACKOFF;
        } else if let Some(latency) = answered {
            let latency = latency.as_secs_f64().max(1e-6);
            let is_used = f64::from(in_flight) * 2.0 >= before;
            let next = match rule.algorithm {
                Algorithm::Gradient2 => self.gradient(rule, latency, part),
                Algorithm::Vegas => self.vegas(latency, draw, part),
                Algorithm::Aimd => before + 1.0 / before.max(1.0),
            };
            if is_used || next < before {
                self.limit = next;
            }
        }
        // Not `clamp`, whose panic prints floats: that alone would be 18 KiB of the module.
        self.limit = self.limit.max(f64::from(rule.min)).min(f64::from(rule.max));
    }

    fn gradient(&mut self, rule: &Adaptive, latency: f64, part: f64) -> f64 {
        let window = f64::from(rule.long_window);
        self.samples = (self.samples + 1.0).min(window);
        // Before there is a mean, everything makes it.
        let part = if self.samples < window * ENOUGH { 1.0 } else { part };
        let of = if part < 1.0 { window } else { self.samples };
        self.long += (latency - self.long) / of * part;
        // After an overload the mean is too high, and would tolerate the next one.
        if self.long / latency > 2.0 {
            self.long *= 1.0 - 0.05 * part;
        }
        let gradient = (rule.tolerance * self.long / latency).clamp(0.5, 1.0);
        let change = self.limit * gradient + f64::from(rule.queue) - self.limit;
        let taken = if change > 0.0 { 1.0 } else { rule.smoothing };
        self.limit + change * taken / self.limit.max(1.0)
    }

    fn vegas(&mut self, latency: f64, draw: u64, part: f64) -> f64 {
        self.until_forgotten -= part;
        if self.until_forgotten <= 0.0 || latency < self.least {
            self.least = latency;
            self.until_forgotten = (0.5 + crate::backoff::unit(draw) / 2.0) * 30.0 * self.limit;
        }
        let step = self.limit.log10().max(1.0);
        let queued = (self.limit * (1.0 - self.least / latency)).ceil();
        let change = if queued <= step {
            6.0 * step
        } else if queued < 3.0 * step {
            step
        } else if queued > 6.0 * step {
            -step
        } else {
            0.0
        };
        self.limit + change / self.limit.max(1.0)
    }
}
