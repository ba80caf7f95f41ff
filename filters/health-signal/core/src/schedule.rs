//! When an endpoint is polled next: never in step with the others.
//!
//! Endpoints that are polled at the same instant slow down at the same instant, and so does the
//! proxy. The first poll is drawn from the whole interval, each gap from `interval` plus or minus
//! the jitter, and whoever takes over the duty draws anew.

use core::time::Duration;
use shared_state::UnixNanos;

/// The next poll of one endpoint. In order of when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Schedule {
    next: UnixNanos,
}

impl Schedule {
    /// The first poll lies anywhere within `interval` of `now`.
    pub fn first(now: UnixNanos, interval: Duration, draw: u64) -> Self {
        Self { next: now.plus(interval.mul_f64(fraction(draw))) }
    }

    /// True when the poll is due. A poll further ahead than the longest gap was planned before the
    /// clock stepped back: it is due too.
    pub fn is_due(self, now: UnixNanos, interval: Duration, jitter_percent: u32) -> bool {
        let longest = interval.mul_f64(1.0 + share(jitter_percent));
        now >= self.next || self.next.is_stale_deadline(now, longest)
    }

    /// The poll after this one, which is sent `now`. Counted from when it was due: a tick notices
    /// late, and gaps counted from the ticks would add up to fewer polls than configured. A poll
    /// that is late by an interval is not made up for.
    #[must_use]
    pub fn following(
        self,
        now: UnixNanos,
        interval: Duration,
        jitter_percent: u32,
        draw: u64,
    ) -> Self {
        let on_time = self.next <= now && now.since(self.next) < interval;
        let from = if on_time { self.next } else { now };
        let jitter = share(jitter_percent);
        let factor = 1.0 + jitter * (2.0 * fraction(draw) - 1.0);
        Self { next: from.plus(interval.mul_f64(factor)) }
    }
}

/// At most one, whatever the configuration says: a gap is never negative.
fn share(percent: u32) -> f64 {
    f64::from(percent.min(100)) / 100.0
}

/// From 0 to below 1.
fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(millis)
    }

    fn due_at(millis: u64) -> Schedule {
        Schedule { next: at(millis) }
    }

    #[test]
    fn ticks_that_notice_late_do_not_stretch_the_interval() {
        let mut schedule = due_at(100_001);
        let (mut polls, tick) = (0u64, 250);
        for millis in (100_000..200_000).step_by(tick) {
            if schedule.is_due(at(millis), INTERVAL, 0) {
                schedule = schedule.following(at(millis), INTERVAL, 0, 0);
                polls += 1;
            }
        }
        assert_eq!(polls, 20);
    }

    #[test]
    fn polls_that_were_missed_are_not_made_up_for() {
        let next = due_at(100_000).following(at(160_000), INTERVAL, 0, 0).next;
        assert_eq!(next, at(165_000));
    }

    #[test]
    fn the_first_poll_lies_within_the_interval() {
        let now = at(1_000_000);
        assert!(Schedule::first(now, INTERVAL, 0).is_due(now, INTERVAL, 20));
        let late = Schedule::first(now, INTERVAL, u64::MAX);
        assert!(!late.is_due(at(1_004_999), INTERVAL, 20));
        assert!(late.is_due(at(1_005_000), INTERVAL, 20));
    }

    #[test]
    fn a_clock_that_stepped_back_does_not_stop_the_polls() {
        let planned = due_at(1_000_000).following(at(1_000_000), INTERVAL, 20, 0);
        assert!(planned.is_due(at(500_000), INTERVAL, 20));
        let replanned = planned.following(at(500_000), INTERVAL, 20, 0);
        assert!(!replanned.is_due(at(500_001), INTERVAL, 20));
    }

    #[test]
    fn a_clock_far_ahead_overflows_nothing() {
        let end = UnixNanos::from_nanos(u64::MAX);
        let next = Schedule { next: end };
        let next = next.following(end, Duration::from_secs(86_400), 50, u64::MAX);
        assert!(next.is_due(end, INTERVAL, 50));
    }

    proptest! {
        #[test]
        fn every_gap_lies_within_the_jitter(draw: u64, jitter in 0u32..=50) {
            let now = at(1_000_000);
            let next = due_at(1_000_000).following(now, INTERVAL, jitter, draw).next;
            let gap = next.since(now).as_secs_f64() / INTERVAL.as_secs_f64();
            let share = f64::from(jitter) / 100.0;
            prop_assert!((1.0 - share..=1.0 + share).contains(&gap), "{}", gap);
        }
    }
}
