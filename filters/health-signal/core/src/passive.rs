//! What ordinary requests have shown, as a state that the leader keeps.
//!
//! `fall` failures in a row take an endpoint down. It comes back by `rise` successes of ordinary
//! requests (some reach it still, by retries or the cluster's own policy), by as many good polls
//! as polls need after the last failure, or when the last failure is older than the staleness
//! limit: then it is tried again, and a single failure takes it down again, because the workers'
//! runs of failures have not been broken.
//!
//! A good poll alone does not bring it back at once. Envoy's outlier detection un-ejects an
//! endpoint on the first good active check, and an endpoint whose health page works while its
//! data path fails flaps for ever (envoyproxy/envoy#28303).

use crate::Evidence;
use crate::config::Passive;
use core::time::Duration;
use shared_state::{CLOCK_TOLERANCE, UnixNanos};

/// Whether ordinary requests have taken an endpoint down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassiveTrack {
    down: Option<Down>,
    /// Failures up to here have been answered for: a way back was found since.
    forgiven: UnixNanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Down {
    last_failure: UnixNanos,
    /// Count of successes when the last failure was seen.
    succeeded: u64,
    /// Good polls in a row since then.
    good_polls: u32,
}

impl PassiveTrack {
    /// True while the endpoint is down by what ordinary requests have shown.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Takes what the workers have seen by now. `staleness` is how long a failure counts.
    pub fn add(&mut self, seen: &Evidence, config: &Passive, staleness: Duration, now: UnixNanos) {
        let fresh = is_fresh(seen.last_failure, now, staleness);
        self.down = match self.down {
            None if fresh
                && seen.consecutive_failures >= config.fall
                && seen.last_failure != self.forgiven =>
            {
                Some(Down::new(seen))
            }
            None => None,
            Some(_) if !fresh => self.forgive(seen),
            Some(down) if down.last_failure != seen.last_failure => Some(Down::new(seen)),
            Some(down) => {
                // The sum falls when a worker ends.
                let since = down.succeeded.min(seen.succeeded);
                let back = seen.succeeded.saturating_sub(since) >= u64::from(config.rise);
                if back { self.forgive(seen) } else { Some(Down { succeeded: since, ..down }) }
            }
        };
    }

    /// Takes the result of a poll: `rise` good ones in a row bring the endpoint back.
    pub fn add_poll(&mut self, good: bool, rise: u32) {
        let Some(down) = &mut self.down else { return };
        down.good_polls = if good { down.good_polls.saturating_add(1) } else { 0 };
        if down.good_polls >= rise {
            self.forgiven = down.last_failure;
            self.down = None;
        }
    }

    fn forgive(&mut self, seen: &Evidence) -> Option<Down> {
        self.forgiven = seen.last_failure;
        None
    }
}

impl Down {
    fn new(seen: &Evidence) -> Self {
        let Evidence { last_failure, succeeded, .. } = *seen;
        Self { last_failure, succeeded, good_polls: 0 }
    }
}

/// True if something happened at `at`, and not longer than `limit` ago. A moment in the future is
/// from before the clock stepped back, and its age unknown: it is not fresh. But a worker may see
/// and report something after the leader has read its own clock, which is as fresh as can be.
pub(crate) fn is_fresh(at: UnixNanos, now: UnixNanos, limit: Duration) -> bool {
    let is_past = !at.is_stale_deadline(now, CLOCK_TOLERANCE);
    at != UnixNanos::ZERO && is_past && now.since(at) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatusRanges;

    const STALENESS: Duration = Duration::from_secs(60);

    fn config() -> Passive {
        Passive { enabled: true, fall: 3, rise: 2, failure_statuses: StatusRanges::default() }
    }

    fn seen(consecutive_failures: u32, last_failure: u64, succeeded: u64) -> Evidence {
        let last_failure = UnixNanos::from_secs(last_failure);
        Evidence { consecutive_failures, last_failure, succeeded, ..Evidence::default() }
    }

    fn add(track: &mut PassiveTrack, seen: &Evidence, now: u64) -> bool {
        track.add(seen, &config(), STALENESS, UnixNanos::from_secs(now));
        track.is_down()
    }

    fn fallen() -> PassiveTrack {
        let mut track = PassiveTrack::default();
        assert!(add(&mut track, &seen(3, 100, 10), 100));
        track
    }

    #[test]
    fn nothing_seen_is_not_down() {
        assert!(!add(&mut PassiveTrack::default(), &Evidence::default(), 100));
    }

    #[test]
    fn it_falls_on_the_third_failure_in_a_row_and_not_on_the_second() {
        let mut track = PassiveTrack::default();
        assert!(!add(&mut track, &seen(2, 100, 10), 100));
        assert!(add(&mut track, &seen(3, 101, 10), 101));
    }

    #[test]
    fn it_comes_back_by_successes_in_a_row() {
        let mut track = fallen();
        assert!(add(&mut track, &seen(0, 100, 11), 101));
        assert!(!add(&mut track, &seen(0, 100, 12), 102));
    }

    #[test]
    fn a_failure_in_between_starts_the_count_again() {
        let mut track = fallen();
        assert!(add(&mut track, &seen(0, 100, 11), 101));
        assert!(add(&mut track, &seen(1, 102, 11), 102));
        assert!(add(&mut track, &seen(0, 102, 12), 103));
        assert!(!add(&mut track, &seen(0, 102, 13), 104));
    }

    #[test]
    fn one_good_poll_does_not_bring_back_what_requests_took_down() {
        let mut track = fallen();
        track.add_poll(true, 2);
        track.add_poll(false, 2);
        track.add_poll(true, 2);
        assert!(track.is_down());
        track.add_poll(true, 2);
        assert!(!track.is_down());
        assert!(!add(&mut track, &seen(3, 100, 10), 101), "the same failures do not count twice");
        assert!(add(&mut track, &seen(4, 102, 10), 102), "one more failure does");
    }

    #[test]
    fn old_failures_are_forgiven_and_one_more_is_enough() {
        let mut track = fallen();
        assert!(add(&mut track, &seen(3, 100, 10), 160));
        assert!(!add(&mut track, &seen(3, 100, 10), 161));
        assert!(add(&mut track, &seen(4, 170, 10), 170));
    }

    #[test]
    fn a_worker_that_ended_does_not_hide_the_way_back() {
        let mut track = fallen();
        assert!(add(&mut track, &seen(3, 100, 4), 101));
        assert!(!add(&mut track, &seen(0, 100, 6), 102));
    }

    #[test]
    fn a_failure_that_a_worker_saw_after_the_leader_read_the_clock_is_no_way_back() {
        let mut track = fallen();
        let newer = UnixNanos::from_secs(101).plus(Duration::from_micros(50));
        let seen = Evidence { last_failure: newer, ..seen(4, 101, 10) };
        assert!(add(&mut track, &seen, 101));
        assert!(add(&mut PassiveTrack::default(), &seen, 101));
    }

    #[test]
    fn after_the_clock_stepped_back_old_failures_count_no_more() {
        let mut track = fallen();
        assert!(!add(&mut track, &seen(3, 100, 10), 50));
    }
}
