//! The share of attempts that fail, smoothed over time, out of totals that only grow.

use crate::latency::decay_weight;
use core::time::Duration;
use shared_state::UnixNanos;

/// How fast old attempts are forgotten: as fast as an improvement of the latency is believed.
const TAU: Duration = Duration::from_secs(4);

/// The smoothed share of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorRatio {
    ratio: f64,
    last: Option<Totals>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Totals {
    succeeded: u64,
    failed: u64,
    at: UnixNanos,
}

impl ErrorRatio {
    /// Starts at a share that is known from elsewhere.
    pub fn starting(ratio: f32) -> Self {
        Self { ratio: f64::from(ratio).clamp(0.0, 1.0), last: None }
    }

    /// Takes the totals as they are now. Totals that fell lost a worker, and are a new beginning.
    pub fn add(&mut self, succeeded: u64, failed: u64, now: UnixNanos) {
        let totals = Totals { succeeded, failed, at: now };
        let Some(last) = self.last else {
            self.last = Some(totals);
            return;
        };
        let (Some(good), Some(bad)) =
            (succeeded.checked_sub(last.succeeded), failed.checked_sub(last.failed))
        else {
            self.last = Some(totals);
            return;
        };
        let attempts = good.saturating_add(bad);
        if attempts == 0 {
            return;
        }
        let share = bad as f64 / attempts as f64;
        self.ratio += decay_weight(now.since(last.at), TAU) * (share - self.ratio);
        self.last = Some(totals);
    }

    /// From 0 to 1.
    pub fn share(&self) -> f32 {
        self.ratio as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[(u64, u64, u64)]) -> f32 {
        let mut ratio = ErrorRatio::default();
        for (succeeded, failed, secs) in steps {
            ratio.add(*succeeded, *failed, UnixNanos::from_secs(*secs));
        }
        ratio.share()
    }

    #[test]
    fn what_was_before_the_first_look_does_not_count() {
        assert_eq!(after(&[(0, 100, 1)]), 0.0);
    }

    #[test]
    fn failures_raise_it_and_successes_lower_it() {
        let failing = after(&[(0, 0, 0), (0, 10, 10)]);
        assert!((failing - 0.918).abs() < 0.001, "{failing}");
        let mended = after(&[(0, 0, 0), (0, 10, 10), (10, 10, 20)]);
        assert!((mended - 0.075).abs() < 0.001, "{mended}");
    }

    #[test]
    fn silence_leaves_it_and_counts_as_time() {
        assert_eq!(after(&[(5, 0, 0), (5, 0, 100)]), 0.0);
        assert!(after(&[(5, 0, 0), (5, 0, 50), (5, 1, 100)]) > 0.99);
    }

    #[test]
    fn a_worker_that_ended_and_a_clock_that_stepped_back_change_nothing() {
        assert_eq!(after(&[(10, 10, 100), (4, 4, 101)]), 0.0);
        assert_eq!(after(&[(10, 10, 100), (10, 20, 50)]), 0.0);
    }
}
