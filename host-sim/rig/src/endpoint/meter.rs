//! Smoothed measures over unevenly spaced observations. Pure: time is an argument.

use std::time::Duration;

/// Exponentially weighted mean of a step function.
///
/// Between two observations the value was what the first said, so time is its weight: a slot that
/// was busy for 1 ms counts a hundredth of one busy for 100 ms. Averaging samples instead would
/// weigh what happens often, which under load is the busy end.
#[derive(Debug)]
pub(crate) struct Ewma {
    tau: Duration,
    at: Duration,
    value: f64,
}

impl Ewma {
    /// Zero at time zero; an old value's weight falls to 1/e in `tau`.
    pub(crate) fn new(tau: Duration) -> Self {
        Self { tau, at: Duration::ZERO, value: 0.0 }
    }

    /// The input was `level` from the last call until `now`. A clock that went back adds nothing.
    pub(crate) fn advance(&mut self, now: Duration, level: f64) {
        let decay = decay(now.saturating_sub(self.at), self.tau);
        self.value = level + (self.value - level) * decay;
        self.at = self.at.max(now);
    }

    /// The mean as of the last call of `advance`.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }
}

/// Exponentially weighted rate of events, in events per second.
#[derive(Debug)]
pub(crate) struct Rate {
    tau: Duration,
    at: Duration,
    events: f64,
}

impl Rate {
    /// No events at time zero.
    pub(crate) fn new(tau: Duration) -> Self {
        Self { tau, at: Duration::ZERO, events: 0.0 }
    }

    /// One event happened.
    pub(crate) fn count(&mut self, now: Duration) {
        self.settle(now);
        self.events += 1.0;
    }

    /// Events per second.
    pub(crate) fn per_second(&mut self, now: Duration) -> f64 {
        self.settle(now);
        if self.tau.is_zero() { 0.0 } else { self.events / self.tau.as_secs_f64() }
    }

    fn settle(&mut self, now: Duration) {
        self.events *= decay(now.saturating_sub(self.at), self.tau);
        self.at = self.at.max(now);
    }
}

fn decay(elapsed: Duration, tau: Duration) -> f64 {
    if tau.is_zero() { 0.0 } else { (-elapsed.as_secs_f64() / tau.as_secs_f64()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_level_is_reached_with_the_time_constant() {
        let mut mean = Ewma::new(TAU);
        mean.advance(ms(1000), 1.0);
        assert!((mean.value() - 0.632).abs() < 0.001, "{}", mean.value());
        mean.advance(ms(9000), 1.0);
        assert!(mean.value() > 0.999);
    }

    #[test]
    fn how_often_it_is_observed_does_not_change_the_mean() {
        let mut often = Ewma::new(TAU);
        (1..=100).for_each(|i| often.advance(ms(10 * i), 1.0));
        let mut once = Ewma::new(TAU);
        once.advance(ms(1000), 1.0);
        assert!((often.value() - once.value()).abs() < 1e-9);
    }

    #[test]
    fn a_steady_rate_is_measured_and_fades_when_events_stop() {
        let mut rate = Rate::new(TAU);
        (1..=10_000).for_each(|i| rate.count(ms(10 * i)));
        assert!((rate.per_second(ms(100_000)) - 100.0).abs() < 1.0);
        assert!(rate.per_second(ms(110_000)) < 0.01);
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let mut mean = Ewma::new(TAU);
        mean.advance(ms(5000), 1.0);
        let before = mean.value();
        mean.advance(ms(1000), 0.0);
        assert_eq!(mean.value(), before);
    }
}
