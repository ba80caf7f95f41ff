//! One leader a duty and process, although every worker, and the main thread, ticks.
//!
//! Each VM asks for the lease; the one that holds it does what is to be done once for the process: it
//! polls, and publishes what it has found. The others ask again at a third of the lease: a leader that ended is replaced within
//! a lease and a third. A leader that cannot renew leads on until its lease runs out by its own
//! clock, and not longer, so there are never two.

use crate::{Key, Lease, LeaseOutcome, SharedStore, UnixNanos, UpdateError, Updated, update};
use core::time::Duration;

/// One VM's part in the election for one duty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    asked_at: Option<UnixNanos>,
    /// Until when this VM leads, and since when.
    held: Option<(UnixNanos, UnixNanos)>,
}

/// What asking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This VM leads, and did not before.
    Elected,
    /// This VM leads, as before.
    Leader,
    /// This VM led, and does not any more.
    Resigned,
    /// Another VM leads, as far as is known.
    Follower,
}

impl Leadership {
    /// True if this VM leads at `now`. A lease from the future is void: the clock stepped back.
    pub fn leads(&self, now: UnixNanos) -> bool {
        self.held.is_some_and(|(since, until)| since <= now && now < until)
    }

    /// Asks for the lease that is kept under `key`, or renews it, if that is due.
    pub fn stand(
        &mut self,
        store: &impl SharedStore,
        key: &Key<Lease>,
        owner: u64,
        now: UnixNanos,
        lease: Duration,
    ) -> (Standing, Result<(), UpdateError>) {
        let led = self.held.is_some();
        let mut outcome = Ok(());
        if self.is_due(now, lease) {
            self.asked_at = Some(now);
            match update(store, key, |prior| Lease::acquire(prior, owner, now, lease)) {
                Ok(Updated { value: LeaseOutcome::HeldByOther, .. }) => self.held = None,
                Ok(_) => self.held = Some((now, now.plus(lease))),
                Err(error) => outcome = Err(error),
            }
        }
        if !self.leads(now) {
            self.held = None;
        }
        let standing = match (led, self.held.is_some()) {
            (false, true) => Standing::Elected,
            (true, true) => Standing::Leader,
            (true, false) => Standing::Resigned,
            (false, false) => Standing::Follower,
        };
        (standing, outcome)
    }

    fn is_due(&self, now: UnixNanos, lease: Duration) -> bool {
        self.asked_at.is_none_or(|at| now.since(at) >= lease / 3 || at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expected, MemoryStore};

    const LEASE: Duration = Duration::from_secs(3);

    fn key() -> Key<Lease> {
        Key::new("test", &["leader", "backend"])
    }

    fn stand(store: &MemoryStore, vm: &mut Leadership, owner: u64, millis: u64) -> Standing {
        vm.stand(store, &key(), owner, UnixNanos::from_millis(millis), LEASE).0
    }

    #[test]
    fn of_two_that_ask_one_leads() {
        let store = MemoryStore::default();
        let (mut one, mut two) = (Leadership::default(), Leadership::default());
        assert_eq!(stand(&store, &mut one, 1, 10_000), Standing::Elected);
        assert_eq!(stand(&store, &mut two, 2, 10_000), Standing::Follower);
        assert_eq!(stand(&store, &mut one, 1, 12_000), Standing::Leader);
        assert_eq!(stand(&store, &mut two, 2, 12_000), Standing::Follower);
    }

    #[test]
    fn between_two_renewals_nothing_is_written() {
        let store = MemoryStore::default();
        let mut vm = Leadership::default();
        for millis in (10_000..11_000).step_by(250) {
            stand(&store, &mut vm, 1, millis);
        }
        assert_eq!(store.sets_tried(), 1);
        stand(&store, &mut vm, 1, 11_000);
        assert_eq!(store.sets_tried(), 2);
    }

    #[test]
    fn a_leader_that_ended_is_replaced() {
        let store = MemoryStore::default();
        let (mut ended, mut heir) = (Leadership::default(), Leadership::default());
        stand(&store, &mut ended, 1, 10_000);
        assert_eq!(stand(&store, &mut heir, 2, 12_999), Standing::Follower);
        assert_eq!(stand(&store, &mut heir, 2, 14_000), Standing::Elected);
        assert_eq!(stand(&store, &mut ended, 1, 14_000), Standing::Resigned);
    }

    #[test]
    fn a_leader_that_cannot_renew_resigns_when_its_lease_runs_out() {
        let store = MemoryStore::default();
        let mut vm = Leadership::default();
        stand(&store, &mut vm, 1, 10_000);
        store.fail_with(10);
        assert_eq!(stand(&store, &mut vm, 1, 12_999), Standing::Leader);
        assert_eq!(stand(&store, &mut vm, 1, 13_000), Standing::Resigned);
    }

    #[test]
    fn after_the_clock_stepped_back_one_leads_again_at_once() {
        let store = MemoryStore::default();
        let (mut one, mut two) = (Leadership::default(), Leadership::default());
        stand(&store, &mut one, 1, 1_000_000);
        stand(&store, &mut two, 2, 1_000_000);
        assert_eq!(stand(&store, &mut two, 2, 500_000), Standing::Elected);
        assert_eq!(stand(&store, &mut one, 1, 500_000), Standing::Resigned);
        assert_eq!(stand(&store, &mut two, 2, 501_000), Standing::Leader);
    }

    #[test]
    fn a_corrupt_lease_is_taken_over() {
        let store = MemoryStore::default();
        store.set(key().as_str(), b"nobody's", Expected::Any).unwrap();
        assert_eq!(stand(&store, &mut Leadership::default(), 1, 10_000), Standing::Elected);
    }

    #[test]
    fn a_lost_race_makes_a_follower() {
        let store = MemoryStore::default();
        store.before_next_set(|store| {
            stand(store, &mut Leadership::default(), 2, 10_000);
        });
        assert_eq!(stand(&store, &mut Leadership::default(), 1, 10_000), Standing::Follower);
    }

    #[test]
    fn endless_contention_is_told_and_nobody_leads_by_it() {
        let store = MemoryStore::default();
        store.refuse_sets(u32::MAX);
        let mut vm = Leadership::default();
        let (standing, outcome) = vm.stand(&store, &key(), 1, UnixNanos::from_secs(10), LEASE);
        assert_eq!((standing, outcome), (Standing::Follower, Err(UpdateError::Contended)));
    }
}
