//! Smoothed measures over unevenly spaced observations, as endpoints report them.

use std::time::Duration;

/// Exponentially weighted mean of a step function: time is the weight, not how often it is looked
/// at.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    tau: f64,
    at: Duration,
    value: f64,
}

impl Level {
    /// Zero at time zero; an old value's weight falls to 1/e in `tau`.
    pub(crate) fn new(tau: Duration) -> Self {
        Self { tau: tau.as_secs_f64(), at: Duration::ZERO, value: 0.0 }
    }

    /// The input was `level` from the last call until `now`.
    pub(crate) fn advance(&mut self, now: Duration, level: f64) {
        let weight = decay(now.saturating_sub(self.at), self.tau);
        self.value = level + (self.value - level) * weight;
        self.at = self.at.max(now);
    }

    /// As of the last call of `advance`.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }
}

/// Exponentially weighted rate of events.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    tau: f64,
    at: Duration,
    events: f64,
}

impl Rate {
    /// No events at time zero.
    pub(crate) fn new(tau: Duration) -> Self {
        Self { tau: tau.as_secs_f64(), at: Duration::ZERO, events: 0.0 }
    }

    /// One event happened.
    pub(crate) fn count(&mut self, now: Duration) {
        self.settle(now);
        self.events += 1.0;
    }

    /// Events per second.
    pub(crate) fn per_second(&mut self, now: Duration) -> f64 {
        self.settle(now);
        self.events / self.tau
    }

    fn settle(&mut self, now: Duration) {
        self.events *= decay(now.saturating_sub(self.at), self.tau);
        self.at = self.at.max(now);
    }
}

fn decay(elapsed: Duration, tau: f64) -> f64 {
    (-elapsed.as_secs_f64() / tau).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: Duration = Duration::from_secs(1);

    #[test]
    fn how_often_a_level_is_looked_at_does_not_change_it() {
        let (mut often, mut once) = (Level::new(TAU), Level::new(TAU));
        (1..=100).for_each(|at| often.advance(Duration::from_millis(10 * at), 1.0));
        once.advance(TAU, 1.0);
        assert!((often.value() - once.value()).abs() < 1e-9);
        assert!((once.value() - 0.632).abs() < 0.001);
    }

    #[test]
    fn a_steady_rate_is_measured_and_fades() {
        let mut rate = Rate::new(TAU);
        (1..=1000).for_each(|at| rate.count(Duration::from_millis(10 * at)));
        assert!((rate.per_second(Duration::from_secs(10)) - 100.0).abs() < 1.0);
        assert!(rate.per_second(Duration::from_secs(20)) < 0.01);
    }
}
