//! Places for breakers whose number clients decide.
//!
//! Shared data forgets nothing, so what a client sends must not name a record. A scope by keys has a
//! fixed number of slots, and a key is known by 64 bits of a hash with a secret seed. The hash names
//! [`TRIES`] slots, and the first that is the key's own or free is its place. A slot is free if
//! nobody has written it, or if what is written there says nothing any more: a breaker that is
//! closed, whose back-off has forgotten its trips, and whose window has emptied; or one that nobody
//! has asked for ten minutes. So a flood of invented keys can fill the slots for the length of a
//! window, and never takes the place of a tenant that is open or in use.
//!
//! A place that was taken goes on counting epochs, so no permit of the old breaker is one of the new.

use super::{IDLE, KEYED_IDLE};
use crate::breaker::Rules;
use crate::config::{OnFull, Slots};
use crate::window::Window;
use shared_state::{
    BreakerRecord, BreakerState, CLOCK_TOLERANCE, Key, SharedStore, UnixNanos, read,
};

/// Slots that a key may have.
const TRIES: u32 = 4;

/// Who shares the last place.
const OVERFLOW: u64 = u64::MAX;

/// Where a breaker is kept, and as whose.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) key: Key<BreakerRecord>,
    pub(super) owner: u64,
}

/// What was found for a key.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Option<Placed>,
    /// No place of its own.
    pub(super) is_overflow: bool,
}

/// Finds a key's place.
pub(super) fn find(
    store: &impl SharedStore,
    scope: &str,
    slots: Slots,
    key: u64,
    rules: &Rules,
    now: UnixNanos,
) -> Found {
    // 0 says that a record is nobody's, and the greatest that it is everybody's.
    let owner = key.clamp(1, OVERFLOW - 1);
    let mut free = None;
    for turn in 0..TRIES {
        let slot = owner.rotate_left(16 * turn).checked_rem(slots.count.into()).unwrap_or(0);
        let key = BreakerRecord::key(scope, &["slot", &slot.to_string()]);
        // What cannot be read is asked again when it is used, and told of then.
        let record = read(store, &key).ok().flatten();
        if record.as_ref().is_some_and(|record| record.owner == owner) {
            return Found { place: Some(Placed { key, owner }), is_overflow: false };
        }
        if free.is_none() && record.is_none_or(|record| is_free(&record, rules, now)) {
            free = Some(Placed { key, owner });
        }
    }
    let is_overflow = free.is_none();
    let place = free.or_else(|| match slots.on_full {
        OnFull::Allow => None,
        OnFull::Share => {
            let key = BreakerRecord::key(scope, &["slot", "overflow"]);
            Some(Placed { key, owner: OVERFLOW })
        }
    });
    Found { place, is_overflow }
}

/// The record as `owner` may go on with it; `None` if it is another's.
pub(super) fn claim(
    prior: Option<BreakerRecord>,
    owner: u64,
    rules: &Rules,
    now: UnixNanos,
) -> Option<Option<BreakerRecord>> {
    let fresh = |epoch| Some(Some(BreakerRecord { owner, epoch, ..BreakerRecord::default() }));
    match prior {
        prior if owner == 0 => Some(prior),
        None => fresh(0),
        Some(record) if record.owner == owner => Some(Some(record)),
        Some(record) if is_free(&record, rules, now) => fresh(record.epoch.wrapping_add(1)),
        Some(_) => None,
    }
}

/// True if nothing is lost with it.
fn is_free(record: &BreakerRecord, rules: &Rules, now: UnixNanos) -> bool {
    // What was written in the future was written before the clock stepped back.
    let is_stale = record.written_at.is_stale_deadline(now, CLOCK_TOLERANCE);
    let age = now.since(record.written_at);
    let window = match rules.window {
        Window::Time(size) => size,
        Window::Count(_) => KEYED_IDLE,
    };
    let state = record.state_at(now);
    let is_blank = state == BreakerState::Closed && record.trips == 0 && age >= window;
    is_blank || (is_stale || age >= IDLE) && state != BreakerState::Open
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use shared_state::{Expected, MemoryStore, encode};

    const SLOTS: Slots = Slots { count: 4, on_full: OnFull::Allow };

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn owned(owner: u64, written_at: u64) -> BreakerRecord {
        BreakerRecord { owner, written_at: at(written_at), epoch: 7, ..BreakerRecord::default() }
    }

    fn full(written_at: u64) -> MemoryStore {
        let store = MemoryStore::default();
        for slot in 0..4u64 {
            let key = BreakerRecord::key("tenant", &["slot", &slot.to_string()]);
            let bytes = encode(&owned(100 + slot, written_at));
            store.set(key.as_str(), &bytes, Expected::Any).unwrap();
        }
        store
    }

    fn find_at(store: &MemoryStore, slots: Slots, secs: u64) -> Found {
        find(store, "tenant", slots, 5, &Rules::DEFAULT, at(secs))
    }

    #[test]
    fn a_key_finds_the_place_that_it_has() {
        let store = MemoryStore::default();
        let first = find_at(&store, SLOTS, 100).place.unwrap();
        store.set(first.key.as_str(), &encode(&owned(5, 100)), Expected::Any).unwrap();
        let again = find_at(&store, SLOTS, 100).place.unwrap();
        assert_eq!((first.key.as_str(), again.owner), (again.key.as_str(), 5));
    }

    #[test]
    fn places_in_use_are_left_alone_and_blank_ones_are_taken() {
        let store = full(100);
        let found = find_at(&store, SLOTS, 109);
        assert!(found.place.is_none() && found.is_overflow);
        assert!(find_at(&store, SLOTS, 110).place.is_some(), "the windows are empty");
        assert!(find_at(&store, SLOTS, 50).place.is_some(), "written in a future");
    }

    #[test]
    fn keys_without_a_place_may_share_one() {
        let share = Slots { on_full: OnFull::Share, ..SLOTS };
        let found = find_at(&full(100), share, 101);
        let place = found.place.unwrap();
        assert!(found.is_overflow && place.owner == OVERFLOW);
        assert_eq!(place.key.as_str(), "weir/2/breaker/tenant/slot/overflow");
    }

    #[test]
    fn an_open_breaker_keeps_its_place_and_an_abandoned_one_does_not() {
        let open = BreakerRecord {
            state: BreakerState::Open,
            changed_at: at(100),
            open_until: at(2000),
            trips: 9,
            ..owned(7, 100)
        };
        let is_free = |record: &BreakerRecord, secs| is_free(record, &Rules::DEFAULT, at(secs));
        assert!(!is_free(&open, 1999) && is_free(&open, 2000));
        let recovering = BreakerRecord { state: BreakerState::Closed, ..open };
        assert!(!is_free(&recovering, 699) && is_free(&recovering, 700));
    }

    #[test]
    fn a_place_that_was_taken_goes_on_counting_epochs() {
        let taken = claim(Some(owned(7, 100)), 8, &Rules::DEFAULT, at(200)).unwrap().unwrap();
        assert_eq!((taken.owner, taken.epoch), (8, 8));
        assert_eq!(claim(Some(owned(7, 100)), 8, &Rules::DEFAULT, at(101)), None);
        let day = Duration::from_secs(86_400);
        let named = owned(0, 100);
        assert_eq!(
            claim(Some(named.clone()), 0, &Rules::DEFAULT, at(100).plus(day)),
            Some(Some(named))
        );
    }
}
