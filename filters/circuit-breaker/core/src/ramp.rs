//! How a breaker that has closed gets its traffic back.
//!
//! A few probes that succeeded say that a server is up, not that it can bear all of its load at
//! once: caches are cold, pools are empty, and whoever was kept waiting comes now. So after the
//! probes a growing share of requests passes, along the curve of Envoy's slow start:
//! `max(min_percent, (elapsed / window)^(1 / aggression))`. The share is drawn for each request, so
//! no counter has to be shared between workers.

use crate::backoff::unit;
use core::time::Duration;

/// The curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// How long it takes until all requests pass; zero for no ramp.
    pub window: Duration,
    /// Percent that pass at its beginning.
    pub min_percent: f64,
    /// 1 for a straight line; more begins steeper, less begins flatter.
    pub aggression: f64,
}

impl Ramp {
    /// None.
    pub const NONE: Self = Self { window: Duration::ZERO, min_percent: 10.0, aggression: 1.0 };

    /// The share of requests that pass so long after the ramp began, from 0 to 1.
    pub fn share(&self, elapsed: Duration) -> f64 {
        if elapsed >= self.window {
            return 1.0;
        }
        let line = elapsed.as_secs_f64() / self.window.as_secs_f64();
        let curve = if self.aggression == 1.0 { line } else { line.powf(1.0 / self.aggression) };
        curve.max(self.min_percent / 100.0).min(1.0)
    }

    /// Whether one request passes. `draw` is one uniform number.
    pub(crate) fn admits(&self, elapsed: Duration, draw: u64) -> bool {
        unit(draw) < self.share(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(aggression: f64) -> Ramp {
        Ramp { window: Duration::from_secs(30), min_percent: 10.0, aggression }
    }

    #[test]
    fn a_straight_line_begins_at_its_least_share_and_ends_at_all() {
        let share = |secs| ramp(1.0).share(Duration::from_secs(secs));
        assert_eq!([0, 3, 15, 30, 99].map(share), [0.1, 0.1, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn aggression_bends_the_line() {
        let half = |aggression| ramp(aggression).share(Duration::from_secs(15));
        assert!((half(2.0) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((half(0.5) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn without_a_window_everything_passes() {
        assert!(Ramp::NONE.admits(Duration::ZERO, u64::MAX));
    }

    proptest! {
        #[test]
        fn the_share_never_falls(aggression in 0.1f64..10.0, one in 0u64..40_000, two in 0u64..40_000) {
            let share = |millis| ramp(aggression).share(Duration::from_millis(millis));
            prop_assert!(share(one.min(two)) <= share(one.max(two)));
        }
    }
}
