//! The sliding window of outcomes.
//!
//! Ten buckets, each a tenth of the window wide; the window moves on by whole buckets and its sums
//! are exact: an outcome counts fully until its bucket leaves. An exponentially weighted rate would
//! need less space, but never forgets a burst and says nothing about how many calls it is based on,
//! and two fixed windows side by side would forget everything at each boundary. After a gap longer
//! than the window nothing is left of it.

use core::time::Duration;
use shared_state::{BreakerWindow, UnixNanos, WINDOW_BUCKETS, WindowBucket};

/// Sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Successes.
    pub(crate) succeeded: u64,
    /// Failures.
    pub(crate) failed: u64,
}

impl Sums {
    /// All outcomes.
    pub(crate) const fn total(self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// The share of failures, in percent; zero without outcomes.
    pub(crate) fn failure_rate(self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.failed as f64 * 100.0 / self.total() as f64 }
    }
}

/// Counts one outcome at `now` in a window of `size`.
pub(crate) fn count(window: &mut BreakerWindow, size: Duration, now: UnixNanos, failed: bool) {
    advance(window, size, now);
    let slot = slot(window.newest);
    let Some(bucket) = window.buckets.get_mut(slot) else { return };
    let counter = if failed { &mut bucket.failed } else { &mut bucket.succeeded };
    *counter = counter.saturating_add(1);
}

/// The sums of a window, as of the last outcome.
pub(crate) fn sums(window: &BreakerWindow) -> Sums {
    window.buckets.iter().fold(Sums::default(), |sums, bucket| Sums {
        succeeded: sums.succeeded + u64::from(bucket.succeeded),
        failed: sums.failed + u64::from(bucket.failed),
    })
}

/// Drops what has left the window. Time that stepped back by less than the window counts on in the
/// newest bucket; by more, or with another width, nothing of the old window can be placed.
fn advance(window: &mut BreakerWindow, size: Duration, now: UnixNanos) {
    let width = size / WINDOW_BUCKETS as u32;
    let width_ns = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1);
    let current = now.as_nanos() / width_ns;
    let back = window.newest.saturating_sub(current);
    if window.width != width || back >= WINDOW_BUCKETS as u64 {
        *window = BreakerWindow { width, newest: current, ..BreakerWindow::default() };
        return;
    }
    let passed = current.saturating_sub(window.newest).min(WINDOW_BUCKETS as u64);
    for step in 1..=passed {
        let slot = slot(window.newest.saturating_add(step));
        if let Some(bucket) = window.buckets.get_mut(slot) {
            *bucket = WindowBucket::default();
        }
    }
    window.newest = window.newest.max(current);
}

fn slot(multiple: u64) -> usize {
    usize::try_from(multiple % WINDOW_BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Duration = Duration::from_secs(10);

    fn fail(window: &mut BreakerWindow, at_ms: u64) -> u64 {
        count(window, SIZE, UnixNanos::from_millis(at_ms), true);
        sums(window).failed
    }

    #[test]
    fn an_outcome_counts_fully_until_its_bucket_leaves() {
        let mut window = BreakerWindow::default();
        assert_eq!(fail(&mut window, 100_500), 1);
        assert_eq!(fail(&mut window, 109_999), 2);
        assert_eq!(fail(&mut window, 110_000), 2, "the first bucket has left");
    }

    #[test]
    fn a_gap_longer_than_the_window_clears_it() {
        let mut window = BreakerWindow::default();
        for at in 0..10 {
            fail(&mut window, 100_000 + at * 1000);
        }
        assert_eq!(fail(&mut window, 500_000), 1);
    }

    #[test]
    fn a_clock_that_steps_back_a_little_loses_nothing() {
        let mut window = BreakerWindow::default();
        fail(&mut window, 105_000);
        assert_eq!(fail(&mut window, 103_000), 2);
    }

    #[test]
    fn a_clock_that_steps_back_beyond_the_window_starts_anew() {
        let mut window = BreakerWindow::default();
        fail(&mut window, 105_000);
        assert_eq!(fail(&mut window, 5_000), 1);
    }

    #[test]
    fn a_window_of_another_size_starts_anew() {
        let mut window = BreakerWindow::default();
        fail(&mut window, 105_000);
        count(&mut window, SIZE * 2, UnixNanos::from_millis(105_000), true);
        assert_eq!(sums(&window).failed, 1);
    }

    #[test]
    fn the_ends_of_time_and_of_counting_are_no_trouble() {
        let mut window = BreakerWindow::default();
        let newest = UnixNanos::from_nanos(u64::MAX);
        count(&mut window, SIZE, newest, false);
        count(&mut window, SIZE, UnixNanos::ZERO, false);
        assert_eq!(sums(&window).total(), 1);
        window.buckets = [WindowBucket { succeeded: u32::MAX, failed: u32::MAX }; WINDOW_BUCKETS];
        count(&mut window, SIZE, UnixNanos::ZERO, true);
        assert_eq!(sums(&window).failure_rate(), 50.0);
    }

    proptest! {
        #[test]
        fn sums_equal_a_count_by_hand(steps in proptest::collection::vec((0u64..4_000, any::<bool>()), 1..200)) {
            let mut window = BreakerWindow::default();
            let mut log = Vec::new();
            let mut now = 1_000_000;
            for (step, failed) in steps {
                now += step;
                count(&mut window, SIZE, UnixNanos::from_millis(now), failed);
                log.push((now / 1000, failed));
                let within = |failure: bool| {
                    log.iter().filter(|(at, failed)| *at + 10 > now / 1000 && *failed == failure).count() as u64
                };
                let expected = Sums { succeeded: within(false), failed: within(true) };
                prop_assert_eq!(sums(&window), expected);
            }
        }
    }
}
