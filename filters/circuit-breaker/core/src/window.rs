//! The sliding window of outcomes.
//!
//! By time it has ten buckets, each a tenth of the window wide; the window moves on by whole buckets
//! and its sums are exact: an outcome counts fully until its bucket leaves. By number it is a ring
//! of the last calls. An exponentially weighted rate would need less space, but never forgets a
//! burst and says nothing about how many calls it is based on, and two fixed windows side by side
//! would forget everything at each boundary. After a gap longer than a window of time nothing is
//! left of it; a window by number forgets nothing by time alone, as in resilience4j.

use core::time::Duration;
use shared_state::{
    BreakerWindow, CountWindow, TimeWindow, UnixNanos, WINDOW_BUCKETS, WindowBucket,
};

/// What rates are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The outcomes of so long.
    Time(Duration),
    /// So many last outcomes.
    Count(u16),
}

/// Sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// All outcomes.
    pub(crate) total: u64,
    /// Failures.
    pub(crate) failed: u64,
    /// Slow ones, be they successes or failures.
    pub(crate) slow: u64,
}

impl Sums {
    /// The share of failures, in percent; zero without outcomes.
    pub(crate) fn failure_rate(self) -> f64 {
        percent(self.failed, self.total)
    }

    /// The share of slow ones, in percent; zero without outcomes.
    pub(crate) fn slow_rate(self) -> f64 {
        percent(self.slow, self.total)
    }
}

fn percent(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 * 100.0 / total as f64 }
}

/// Counts one outcome at `now`. A window of another kind or size is begun anew.
pub(crate) fn count(
    stored: &mut BreakerWindow,
    rule: Window,
    now: UnixNanos,
    failed: bool,
    slow: bool,
) {
    match (rule, stored) {
        (Window::Time(size), BreakerWindow::Time(window)) => {
            advance(window, size, now);
            let Some(bucket) = window.buckets.get_mut(slot(window.newest)) else { return };
            let counter = if failed { &mut bucket.failed } else { &mut bucket.succeeded };
            *counter = counter.saturating_add(1);
            bucket.slow = bucket.slow.saturating_add(u32::from(slow));
        }
        (Window::Count(size), BreakerWindow::Count(window)) if window.size() == size => {
            window.push(failed, slow);
        }
        (Window::Time(_), stored) => {
            *stored = BreakerWindow::default();
            count(stored, rule, now, failed, slow);
        }
        (Window::Count(size), stored) => {
            let mut window = CountWindow::new(size);
            window.push(failed, slow);
            *stored = BreakerWindow::Count(window);
        }
    }
}

/// Counts successes at the moment of the outcome that was counted last.
pub(crate) fn count_successes(stored: &mut BreakerWindow, calls: u32) {
    match stored {
        BreakerWindow::Time(window) => {
            let Some(bucket) = window.buckets.get_mut(slot(window.newest)) else { return };
            bucket.succeeded = bucket.succeeded.saturating_add(calls);
        }
        BreakerWindow::Count(window) => (0..calls).for_each(|_| window.push(false, false)),
    }
}

/// The sums of a window, as of the last outcome.
pub(crate) fn sums(window: &BreakerWindow) -> Sums {
    match window {
        BreakerWindow::Time(window) => {
            window.buckets.iter().fold(Sums::default(), |sums, bucket| Sums {
                total: sums.total + u64::from(bucket.succeeded) + u64::from(bucket.failed),
                failed: sums.failed + u64::from(bucket.failed),
                slow: sums.slow + u64::from(bucket.slow),
            })
        }
        BreakerWindow::Count(window) => {
            let (total, failed, slow) = window.sums();
            Sums { total: total.into(), failed: failed.into(), slow: slow.into() }
        }
    }
}

/// The sums of a window that may have moved on since its last outcome.
pub(crate) fn sums_at(window: &BreakerWindow, rule: Window, now: UnixNanos) -> Sums {
    match (window, rule) {
        (BreakerWindow::Time(window), Window::Time(size)) => {
            let mut window = *window;
            advance(&mut window, size, now);
            sums(&BreakerWindow::Time(window))
        }
        _ => sums(window),
    }
}

/// Drops what has left the window. Time that stepped back by less than the window counts on in the
/// newest bucket; by more, or with another width, nothing of the old window can be placed.
fn advance(window: &mut TimeWindow, size: Duration, now: UnixNanos) {
    let width = size / WINDOW_BUCKETS as u32;
    let width_ns = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1);
    let current = now.as_nanos() / width_ns;
    let back = window.newest.saturating_sub(current);
    if window.width != width || back >= WINDOW_BUCKETS as u64 {
        *window = TimeWindow { width, newest: current, ..TimeWindow::default() };
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

    const SIZE: Window = Window::Time(Duration::from_secs(10));

    fn fail(window: &mut BreakerWindow, at_ms: u64) -> u64 {
        count(window, SIZE, UnixNanos::from_millis(at_ms), true, false);
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
        let twice = Window::Time(Duration::from_secs(20));
        count(&mut window, twice, UnixNanos::from_millis(105_000), true, false);
        assert_eq!(sums(&window).failed, 1);
        count(&mut window, Window::Count(3), UnixNanos::from_millis(105_000), true, true);
        assert_eq!(sums(&window), Sums { total: 1, failed: 1, slow: 1 });
        fail(&mut window, 105_000);
        assert_eq!(sums(&window).slow, 0);
    }

    #[test]
    fn the_last_calls_count_however_long_ago_they_were() {
        let mut window = BreakerWindow::default();
        for (at, failed) in [(1, true), (5_000_000, true), (9_000_000, false), (9_000_001, false)] {
            count(&mut window, Window::Count(3), UnixNanos::from_millis(at), failed, false);
        }
        assert_eq!(sums(&window), Sums { total: 3, failed: 1, slow: 0 });
    }

    #[test]
    fn the_ends_of_time_and_of_counting_are_no_trouble() {
        let mut window = BreakerWindow::default();
        let newest = UnixNanos::from_nanos(u64::MAX);
        count(&mut window, SIZE, newest, false, false);
        count(&mut window, SIZE, UnixNanos::ZERO, false, false);
        assert_eq!(sums(&window).total, 1);
        let full = WindowBucket { succeeded: u32::MAX, failed: u32::MAX, slow: u32::MAX };
        let BreakerWindow::Time(by_time) = &mut window else { panic!("{window:?}") };
        by_time.buckets = [full; WINDOW_BUCKETS];
        count(&mut window, SIZE, UnixNanos::ZERO, true, false);
        assert_eq!(sums(&window).failure_rate(), 50.0);
    }

    proptest! {
        #[test]
        fn sums_equal_a_count_by_hand(steps in proptest::collection::vec((0u64..4_000, any::<bool>(), any::<bool>()), 1..200)) {
            let mut window = BreakerWindow::default();
            let mut log = Vec::new();
            let mut now = 1_000_000;
            for (step, failed, slow) in steps {
                now += step;
                let at = UnixNanos::from_millis(now);
                count(&mut window, SIZE, at, failed, slow);
                log.push((now / 1000, failed, slow));
                let within = |of: fn(&(u64, bool, bool)) -> bool| {
                    let live = log.iter().filter(|(at, ..)| *at + 10 > now / 1000);
                    live.filter(|call| of(call)).count() as u64
                };
                let expected =
                    Sums { total: within(|_| true), failed: within(|c| c.1), slow: within(|c| c.2) };
                prop_assert_eq!(sums(&window), expected);
                prop_assert_eq!(sums_at(&window, SIZE, at), expected);
                let gone = sums_at(&window, SIZE, at.plus(Duration::from_secs(10)));
                prop_assert_eq!(gone.total, 0);
            }
        }
    }
}
