//! Tokens that this worker has drawn ahead, for the keys that it sees often.
//!
//! One write of shared data for each request is what exactness costs, and for a key that is asked for
//! a thousand times a second it is much. While its bucket holds plenty, a worker draws several tokens
//! with one write and spends them on its own. How many and for how long follows what it has admitted
//! lately, so a key that is rarely asked for never has a lease, and what is lost with one is at most
//! the demand of the time that a lease lasts.
//!
//! The memory is a fixed number of places, and a key's place is named by its fingerprint. Of two keys
//! with one place the one that was there stays while it is asked for; the other spends without
//! leases, as exact as ever.

use crate::demand::Demand;
use crate::table::{Lease, Receipt, Wish};
use crate::{Gcra, Level};
use core::time::Duration;
use shared_state::UnixNanos;

/// Places: 120 KB a worker.
const PLACES: usize = 1024;

/// How many times as many as it gives a bucket keeps: a worker draws at most a fifth of what is there,
/// so what is left at the edge is spent one by one.
const KEEP: u32 = 4;

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Hot {
    policy: usize,
    fingerprint: u64,
    /// Tokens admitted.
    demand: Demand,
    lease: Option<Lease>,
}

/// A key, its bucket, and how long a lease of it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased<'a> {
    /// Index of the policy.
    pub(crate) policy: usize,
    /// Which of its buckets.
    pub(crate) fingerprint: u64,
    /// Rate and burst.
    pub(crate) bucket: &'a Gcra,
    /// Longest that a lease lasts; zero for no leases. Also the length of a period.
    pub(crate) time: Duration,
}

/// The leases of one worker.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Empty until a request is admitted.
    places: Vec<Option<Hot>>,
}

impl Leases {
    /// True if the lease holds so many tokens.
    pub(crate) fn holds(&self, key: Leased<'_>, cost: u32, now: UnixNanos) -> bool {
        let lease = self.find(key).and_then(|hot| hot.lease);
        lease.is_some_and(|lease| lease.is_live(now) && lease.left >= cost)
    }

    /// Spends from the lease, if it holds so many.
    pub(crate) fn spend(
        &mut self,
        key: Leased<'_>,
        cost: u32,
        now: UnixNanos,
    ) -> Option<(Receipt, Level)> {
        let lease = self.find_mut(key)?.lease.as_mut()?;
        if !lease.is_live(now) {
            return None;
        }
        lease.left = lease.left.checked_sub(cost)?;
        let given = (lease.receipt_for(cost), lease.level(key.bucket, now));
        self.count(key, cost, now);
        Some(given)
    }

    /// Puts tokens back into the lease that they are from. False if that is over.
    pub(crate) fn put_back(
        &mut self,
        key: Leased<'_>,
        receipt: &Receipt,
        tokens: u32,
        now: UnixNanos,
    ) -> bool {
        let Some(hot) = self.find_mut(key) else { return false };
        let Some(lease) = hot.lease.as_mut() else { return false };
        let same = lease.is_live(now) && lease.receipt.is_of(receipt);
        if same {
            lease.left = lease.left.saturating_add(tokens);
        }
        same
    }

    /// What to draw for a key, by what was admitted lately; nothing for one that is not asked for
    /// more than once in the time of a lease.
    pub(crate) fn wish(&self, key: Leased<'_>, now: UnixNanos) -> Option<Wish> {
        let hot = self.find(key)?;
        let (tokens, time) = hot.demand.expected(key.time, now);
        (tokens > 0).then_some(Wish { tokens, time, keep: KEEP })
    }

    /// For the tokens of a lease that the next spending may give back: there are too few left, or
    /// its time is over.
    pub(crate) fn unspent(&self, key: Leased<'_>) -> Option<Receipt> {
        let lease = self.find(key)?.lease?;
        (lease.left > 0).then(|| lease.receipt_for(lease.left))
    }

    /// Forgets the lease: what was left of it has been given back.
    pub(crate) fn end(&mut self, key: Leased<'_>) {
        if let Some(hot) = self.find_mut(key) {
            hot.lease = None;
        }
    }

    /// Counts tokens that were admitted, and keeps what was drawn with them.
    pub(crate) fn admitted(
        &mut self,
        key: Leased<'_>,
        cost: u32,
        lease: Option<Lease>,
        now: UnixNanos,
    ) {
        if key.time.is_zero() {
            return;
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let Some(place) = self.places.get_mut(place_of(key)) else { return };
        let taken =
            place.as_ref().is_some_and(|hot| !hot.is(key) && !hot.demand.is_over(key.time, now));
        if taken {
            return;
        }
        let hot = place.get_or_insert(Hot::new(key, now));
        if !hot.is(key) {
            *hot = Hot::new(key, now);
        }
        hot.lease = lease;
        self.count(key, cost, now);
    }

    fn count(&mut self, key: Leased<'_>, cost: u32, now: UnixNanos) {
        if let Some(hot) = self.find_mut(key) {
            hot.demand.count(cost, key.time, now);
        }
    }

    fn find(&self, key: Leased<'_>) -> Option<&Hot> {
        self.places.get(place_of(key))?.as_ref().filter(|hot| hot.is(key))
    }

    fn find_mut(&mut self, key: Leased<'_>) -> Option<&mut Hot> {
        self.places.get_mut(place_of(key))?.as_mut().filter(|hot| hot.is(key))
    }
}

impl Hot {
    fn new(key: Leased<'_>, now: UnixNanos) -> Self {
        let Leased { policy, fingerprint, .. } = key;
        Self { policy, fingerprint, demand: Demand::new(now), lease: None }
    }

    fn is(&self, key: Leased<'_>) -> bool {
        self.policy == key.policy && self.fingerprint == key.fingerprint
    }
}

fn place_of(key: Leased<'_>) -> usize {
    // As in the memory of refusals: truncation loses nothing, PLACES being a power of two.
    (key.fingerprint as usize).wrapping_add(key.policy) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnFull;
    use crate::table::{Answer, Ask, Grant, Terms, spend};
    use shared_state::{SlotTable, Transition};

    const LEASE: Duration = Duration::from_millis(50);

    fn bucket() -> Gcra {
        Gcra::new(10_000, 1_000, Duration::from_secs(1)).unwrap()
    }

    fn key(bucket: &Gcra, fingerprint: u64) -> Leased<'_> {
        Leased { policy: 0, fingerprint, bucket, time: LEASE }
    }

    fn at(micros: u64) -> UnixNanos {
        UnixNanos::from_nanos(1_000_000_000_000 + micros * 1_000)
    }

    /// A worker with one table of its own.
    #[derive(Default)]
    struct Worker {
        leases: Leases,
        table: Option<SlotTable>,
        writes: u32,
    }

    impl Worker {
        /// Admits a request of this key, from the lease or from the table.
        fn admit(&mut self, fingerprint: u64, now: UnixNanos) -> Option<Grant> {
            let bucket = bucket();
            let key = key(&bucket, fingerprint);
            if self.leases.spend(key, 1, now).is_some() {
                return None;
            }
            let (wish, unspent) = (self.leases.wish(key, now), self.leases.unspent(key));
            let (longest_hold, longest_lease) = (Duration::ZERO, LEASE);
            let terms = Terms { room: 64, on_full: OnFull::Share, longest_hold, longest_lease };
            let bucket = &bucket;
            let ask = Ask { fingerprint, bucket, cost: 1, now, at: now, wish, unspent, terms };
            let Transition::Store(table, Answer::Admitted(grant)) = spend(self.table.take(), &ask)
            else {
                panic!("there are tokens")
            };
            self.table = Some(table);
            self.writes += 1;
            self.leases.end(key);
            self.leases.admitted(key, 1, grant.lease, now);
            Some(grant)
        }
    }

    #[test]
    fn what_is_asked_for_once_in_a_while_is_never_leased() {
        let mut worker = Worker::default();
        for turn in 0..20 {
            assert_eq!(worker.admit(7, at(turn * 100_000)).unwrap().lease, None);
        }
    }

    #[test]
    fn draws_double_until_one_lasts_for_its_time() {
        let mut worker = Worker::default();
        // A thousand a second for two seconds.
        for turn in 0..2_000 {
            worker.admit(7, at(turn * 1_000));
        }
        let writes = worker.writes;
        assert!((40..=2_000 / 16).contains(&writes), "{writes} writes");
    }

    #[test]
    fn a_burst_at_one_instant_is_leased_for_that_instant_and_nothing_is_lost() {
        let mut worker = Worker::default();
        for _ in 0..100 {
            worker.admit(7, at(0));
        }
        assert!(worker.writes < 10, "{} writes", worker.writes);
        // What was left of the lease comes back with the next spending.
        let level = worker.admit(7, at(500)).unwrap().level;
        assert_eq!(level.remaining, 10_000 - 101);
    }

    #[test]
    fn a_lease_ends_with_its_time_and_with_a_clock_that_steps_back() {
        let mut worker = Worker::default();
        for turn in 0..40 {
            worker.admit(7, at(turn * 1_000));
        }
        let bucket = bucket();
        let key = key(&bucket, 7);
        assert!(worker.leases.holds(key, 1, at(40_000)));
        assert!(!worker.leases.holds(key, 1, at(200_000)));
        assert!(!worker.leases.holds(key, 1, at(1_000)));
        assert!(!worker.leases.holds(key, 1_000, at(40_000)));
    }

    #[test]
    fn tokens_go_back_into_the_lease_that_they_are_from_and_into_no_other() {
        let mut worker = Worker::default();
        for turn in 0..10 {
            worker.admit(7, at(turn));
        }
        let bucket = bucket();
        let key = key(&bucket, 7);
        let (receipt, before) = worker.leases.spend(key, 1, at(10)).unwrap();
        assert!(worker.leases.put_back(key, &receipt, 1, at(10)));
        let (_, after) = worker.leases.spend(key, 1, at(10)).unwrap();
        assert_eq!(before, after);
        assert!(!worker.leases.put_back(key, &receipt, 1, at(100_000)), "it is over");
        worker.leases.end(key);
        assert!(!worker.leases.put_back(key, &receipt, 1, at(10)));
    }

    #[test]
    fn the_memory_is_bounded_and_who_was_there_first_keeps_the_place() {
        let mut worker = Worker::default();
        let other = 7 + PLACES as u64;
        for turn in 0..10 {
            worker.admit(7, at(turn * 10));
            worker.admit(other, at(turn * 10));
        }
        assert_eq!(worker.leases.places.len(), PLACES);
        let bucket = bucket();
        assert!(worker.leases.wish(key(&bucket, 7), at(100)).is_some());
        assert_eq!(worker.leases.wish(key(&bucket, other), at(100)), None);
        worker.admit(other, at(1_000_000));
        worker.admit(other, at(1_000_010));
        assert!(worker.leases.wish(key(&bucket, other), at(1_000_020)).is_some());
    }
}
