//! What this worker need not ask again.
//!
//! A refusal says when the bucket will next hold a token. Until then the answer is known, and a
//! client that floods costs this worker one look at its own memory and no shared-data call. The
//! memory is a fixed number of places; a key's place is named by its fingerprint, and the later
//! refusal of two keys with one place is kept. Forgetting costs a call, never a decision.

use core::time::Duration;
use shared_state::UnixNanos;

/// Places: 32 KB a worker.
const PLACES: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Denial {
    policy: usize,
    fingerprint: u64,
    until: UnixNanos,
}

/// Refusals that still hold.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// Empty until the first refusal.
    places: Vec<Option<Denial>>,
}

impl Denials {
    /// Remembers that the bucket holds no token before `until`.
    pub(crate) fn insert(&mut self, policy: usize, fingerprint: u64, until: UnixNanos) {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        if let Some(place) = self.places.get_mut(place_of(policy, fingerprint)) {
            *place = Some(Denial { policy, fingerprint, until });
        }
    }

    /// Forgets what is known of the bucket: tokens have come back to it.
    pub(crate) fn forget(&mut self, policy: usize, fingerprint: u64) {
        if let Some(place) = self.places.get_mut(place_of(policy, fingerprint)) {
            *place = None;
        }
    }

    /// How long the bucket is known to hold no token. A refusal that lies further ahead than
    /// `longest` is from before the clock stepped back, and holds no more.
    pub(crate) fn wait(
        &self,
        policy: usize,
        fingerprint: u64,
        now: UnixNanos,
        longest: Duration,
    ) -> Option<Duration> {
        let denial = (*self.places.get(place_of(policy, fingerprint))?)?;
        let known = denial.policy == policy
            && denial.fingerprint == fingerprint
            && denial.until > now
            && !denial.until.is_stale_deadline(now, longest);
        known.then(|| denial.until.since(now))
    }
}

fn place_of(policy: usize, fingerprint: u64) -> usize {
    // PLACES is a power of two, so truncation loses nothing. Keyless policies all have one
    // fingerprint: their number keeps them apart.
    (fingerprint as usize).wrapping_add(policy) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[test]
    fn a_refusal_holds_until_its_moment_and_not_then() {
        let mut denials = Denials::default();
        denials.insert(0, 7, at(105));
        assert_eq!(denials.wait(0, 7, at(102), LONGEST), Some(Duration::from_secs(3)));
        assert_eq!(denials.wait(0, 7, at(105), LONGEST), None);
        assert_eq!(denials.wait(1, 7, at(102), LONGEST), None);
        assert_eq!(denials.wait(0, 8, at(102), LONGEST), None);
        denials.forget(0, 7);
        assert_eq!(denials.wait(0, 7, at(102), LONGEST), None);
    }

    #[test]
    fn a_clock_that_stepped_back_ends_it() {
        let mut denials = Denials::default();
        denials.insert(0, 7, at(105));
        assert_eq!(denials.wait(0, 7, at(50), LONGEST), None);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_later_of_two() {
        let mut denials = Denials::default();
        for key in 0..5_000 {
            denials.insert(0, key, at(105));
        }
        assert_eq!(denials.places.len(), PLACES);
        assert_eq!(denials.wait(0, 4_999 - PLACES as u64, at(102), LONGEST), None);
        assert!(denials.wait(0, 4_999, at(102), LONGEST).is_some());
    }
}
