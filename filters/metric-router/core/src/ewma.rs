//! A mean that forgets: exponentially weighted, for samples at uneven intervals.
//!
//! A sample `dt` after the one before weighs `1 - exp(-dt / tau)`, so the mean forgets in time and
//! not in samples, and a burst does not wipe out what was known. The first samples weigh `1 / n`
//! instead: with the formula alone the very first one would count for a whole `tau`.
//!
//! The peak-sensitive variant of Finagle is [`Peak`]. It keeps the worst of the last `tau`, which a
//! sampler of two forgives, but a full scan follows the noise.

use core::time::Duration;
use shared_state::{CLOCK_TOLERANCE, UnixNanos};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ewma {
    value: f64,
    samples: f64,
    updated_at: UnixNanos,
}

impl Ewma {
    /// Takes up `sample`. A clock that stepped back counts as no time passed.
    pub(crate) fn record(&mut self, sample: f64, now: UnixNanos, tau: Duration) {
        if !sample.is_finite() {
            return;
        }
        self.samples += 1.0;
        // One that is as expected, as no failure mostly is, changes nothing, whatever it weighs.
        if sample != self.value {
            let gain = (1.0 - decay(now.since(self.updated_at), tau)).max(1.0 / self.samples);
            self.value += (sample - self.value) * gain;
        }
        self.updated_at = now;
    }

    /// The mean, or `None` before the first sample.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.samples > 0.0).then_some(self.value)
    }

    /// After a silence, goes on from what it had [faded](Self::faded) to.
    pub(crate) fn resume(&mut self, now: UnixNanos, tau: Duration) {
        if now.since(self.updated_at) > tau {
            self.value = self.faded(now, tau);
        }
    }

    /// The mean as if zeros had come in since the last sample.
    pub(crate) fn faded(&self, now: UnixNanos, tau: Duration) -> f64 {
        // Mostly there is nothing that could fade: an endpoint that works has no errors.
        if self.value == 0.0 {
            return 0.0;
        }
        self.value * decay(now.since(believable(self.updated_at, now)), tau)
    }
}

/// Finagle's peak-sensitive mean: follows a slow sample at once and a fast one with the time constant,
/// and fades while there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Peak {
    value: f64,
    updated_at: Option<UnixNanos>,
}

impl Peak {
    pub(crate) fn record(&mut self, sample: f64, now: UnixNanos, tau: Duration) {
        if !sample.is_finite() {
            return;
        }
        let kept = self.updated_at.map_or(0.0, |at| decay(now.since(at), tau));
        self.value = sample.max(sample + (self.value - sample) * kept);
        self.updated_at = Some(now);
    }

    /// The mean as if zeros had come in since the last sample; `None` before the first.
    pub(crate) fn value(&self, now: UnixNanos, tau: Duration) -> Option<f64> {
        let at = self.updated_at?;
        Some(self.value * decay(now.since(believable(at, now)), tau))
    }
}

/// `then`, or the distant past if it lies ahead of `now`: the clock has stepped back, and what was
/// seen before must not stay fresh until it has caught up.
pub(crate) fn believable(then: UnixNanos, now: UnixNanos) -> UnixNanos {
    if then.is_stale_deadline(now, CLOCK_TOLERANCE) { UnixNanos::ZERO } else { then }
}

/// What is left of a value after `elapsed`: 1 at once, towards 0.
pub(crate) fn decay(elapsed: Duration, tau: Duration) -> f64 {
    if elapsed.is_zero() {
        return 1.0;
    }
    (-elapsed.as_secs_f64() / tau.as_secs_f64().max(1e-9)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAU: Duration = Duration::from_secs(10);

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(Ewma::default().value(), None);
    }

    proptest! {
        #[test]
        fn a_sample_that_is_as_expected_may_as_well_be_weighed(
            samples in proptest::collection::vec((0u8..3, 0u64..20_000), 0..60),
        ) {
            let (mut mean, mut weighed) = (Ewma::default(), 0.0);
            let mut now = at(100);
            for (number, (sample, millis)) in samples.iter().enumerate() {
                let since = if number == 0 { UnixNanos::ZERO } else { now };
                now = now.plus(Duration::from_millis(*millis));
                let passed = (-now.since(since).as_secs_f64() / TAU.as_secs_f64()).exp();
                let gain = (1.0 - passed).max(1.0 / (number + 1) as f64);
                weighed += (f64::from(*sample) - weighed) * gain;
                mean.record(f64::from(*sample), now, TAU);
                prop_assert_eq!(mean.value().map(f64::to_bits), Some(weighed.to_bits()));
            }
        }
    }

    #[test]
    fn the_first_samples_are_averaged() {
        let mut mean = Ewma::default();
        for sample in [1.0, 2.0, 3.0] {
            mean.record(sample, at(100), TAU);
        }
        assert!((mean.value().unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn after_tau_a_new_level_has_replaced_two_thirds_of_the_old() {
        let mut mean = Ewma::default();
        for millis in 0..100_000 {
            mean.record(1.0, UnixNanos::from_millis(millis), TAU);
        }
        for millis in 100_000..110_000 {
            mean.record(0.0, UnixNanos::from_millis(millis), TAU);
        }
        assert!((mean.value().unwrap() - (-1.0f64).exp()).abs() < 0.01);
    }

    #[test]
    fn a_clock_that_steps_back_takes_the_sample_up_without_time() {
        let mut mean = Ewma::default();
        mean.record(1.0, at(1000), TAU);
        mean.record(3.0, at(10), TAU);
        assert!((mean.value().unwrap() - 2.0).abs() < 1e-9);
        // A second is how far the clocks of two callbacks may lie apart, and not a step.
        assert!((mean.faded(at(9), TAU) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_seen_before_the_clock_stepped_back_does_not_stay_fresh() {
        let mut mean = Ewma::default();
        mean.record(1.0, at(5000), TAU);
        assert!(mean.faded(at(1400), TAU) < 1e-9);
    }

    #[test]
    fn far_ahead_nothing_is_left() {
        let mut mean = Ewma::default();
        mean.record(1.0, at(1), TAU);
        assert_eq!(mean.faded(UnixNanos::from_nanos(u64::MAX), TAU), 0.0);
    }

    #[test]
    fn a_peak_is_followed_at_once_and_left_slowly() {
        let mut peak = Peak::default();
        assert_eq!(peak.value(at(1), TAU), None);
        peak.record(1.0, at(100), TAU);
        peak.record(5.0, at(101), TAU);
        assert_eq!(peak.value(at(101), TAU), Some(5.0));
        peak.record(1.0, at(111), TAU);
        let left = 1.0 + 4.0 * (-1.0f64).exp();
        assert!((peak.value(at(111), TAU).unwrap() - left).abs() < 1e-9);
        assert!(peak.value(at(200), TAU).unwrap() < 0.01);
        peak.record(1.0, at(5000), TAU);
        assert!(peak.value(at(1400), TAU).unwrap() < 1e-9, "the clock stepped back");
    }

    proptest! {
        #[test]
        fn the_mean_stays_between_its_samples(
            samples in proptest::collection::vec((0.0f64..1e6, any::<u64>()), 1..50),
        ) {
            let mut mean = Ewma::default();
            for (sample, nanos) in &samples {
                mean.record(*sample, UnixNanos::from_nanos(*nanos), TAU);
            }
            let value = mean.value().unwrap();
            let least = samples.iter().map(|(s, _)| *s).fold(f64::INFINITY, f64::min);
            let most = samples.iter().map(|(s, _)| *s).fold(0.0, f64::max);
            prop_assert!(value >= least - 1e-6 && value <= most + 1e-6);
        }
    }
}
