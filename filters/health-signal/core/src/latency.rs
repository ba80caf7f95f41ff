//! Smoothed latency: an exponentially weighted mean over time, not over samples.
//!
//! A mean over samples forgets at the speed of the traffic: a hundred requests in a second would
//! erase what a minute has taught. Here the weight of a sample is `1 - exp(-dt/tau)`, with `dt` the
//! time since the last one. `tau` is half as long while latency rises, so an endpoint that slows
//! down is noticed soon and one good answer does not clear it. It is no more uneven: an endpoint that
//! was slow gets few requests, and each must move the mean far enough to let it back in.

use core::time::Duration;
use shared_state::UnixNanos;

/// The smoothed latency of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    last: Option<(f64, UnixNanos)>,
}

impl Latency {
    /// Takes one sample; `tau` is the time in which an improvement is believed. After a step of the
    /// clock back a sample's weight is zero, and time starts anew.
    pub fn add(&mut self, sample: Duration, tau: Duration, now: UnixNanos) {
        let micros = sample.as_secs_f64() * 1e6;
        let smoothed = match self.last {
            None => micros,
            Some((mean, at)) => {
                let tau = if micros > mean { tau / 2 } else { tau };
                mean + decay_weight(now.since(at), tau) * (micros - mean)
            }
        };
        self.last = Some((smoothed, now));
    }

    /// In microseconds; 0 if there was no sample.
    pub fn micros(&self) -> u32 {
        // The cast saturates.
        self.last.map_or(0, |(mean, _)| (mean.round() as u32).max(1))
    }
}

/// The weight of a new value that arrives `elapsed` after the last: 0 at once, towards 1 later.
pub(crate) fn decay_weight(elapsed: Duration, tau: Duration) -> f64 {
    if tau.is_zero() { 1.0 } else { 1.0 - (-elapsed.as_secs_f64() / tau.as_secs_f64()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAU: Duration = Duration::from_secs(4);
    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_first_sample_is_taken_whole() {
        let mut latency = Latency::default();
        assert_eq!(latency.micros(), 0);
        latency.add(MS(10), TAU, UnixNanos::from_secs(1));
        assert_eq!(latency.micros(), 10_000);
    }

    #[test]
    fn worse_is_believed_faster_than_better() {
        let steady = |first, second| {
            let mut latency = Latency::default();
            latency.add(MS(first), TAU, UnixNanos::from_secs(1));
            latency.add(MS(second), TAU, UnixNanos::from_secs(2));
            f64::from(latency.micros()) / 1000.0
        };
        // One second later: 1 - exp(-1/2) = 39 % of the way up, 1 - exp(-1/4) = 22 % down.
        assert!((steady(10, 110) - 49.3).abs() < 0.1);
        assert!((steady(110, 10) - 87.9).abs() < 0.1);
    }

    #[test]
    fn a_clock_that_stepped_back_moves_nothing_and_freezes_nothing() {
        let mut latency = Latency::default();
        latency.add(MS(10), TAU, UnixNanos::from_secs(100));
        latency.add(MS(500), TAU, UnixNanos::from_secs(50));
        assert_eq!(latency.micros(), 10_000);
        latency.add(MS(500), TAU, UnixNanos::from_secs(150));
        assert_eq!(latency.micros(), 500_000);
    }

    proptest! {
        #[test]
        fn it_stays_between_the_least_and_the_greatest_sample(
            samples in proptest::collection::vec((0u64..10_000_000, 0u64..u64::MAX), 1..50)
        ) {
            let mut latency = Latency::default();
            for (micros, at) in &samples {
                latency.add(Duration::from_micros(*micros), TAU, UnixNanos::from_nanos(*at));
            }
            let least = samples.iter().map(|(micros, _)| *micros).min().unwrap();
            let most = samples.iter().map(|(micros, _)| *micros).max().unwrap();
            let smoothed = u64::from(latency.micros());
            prop_assert!((least..=most.max(1)).contains(&smoothed) || smoothed == 1);
        }
    }
}
