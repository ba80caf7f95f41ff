//! The one compare-and-swap loop of the suite.
//!
//! Another worker may write between our read and our write; the host then refuses, and we decide
//! again on what is there now. The decision is `Fn`, not `FnMut`: it may run several times, so it
//! must not have effects. The loop is bounded, because a request path may not spin: who loses
//! [`MAX_CAS_ATTEMPTS`] times in a row is told so, and falls back to its configured failure mode.

use crate::{
    DecodeError, Expected, Key, Record, SetError, SharedStore, StoreError, decode, encode,
};

/// Attempts before [`UpdateError::Contended`]. An attempt that fails means that another worker
/// succeeded, so with `W` workers in step the last one needs `W`; 16 covers the usual machine, and
/// at 3-4 us an attempt bounds the worst case to about 60 us.
pub const MAX_CAS_ATTEMPTS: u32 = 16;

/// What a decision does to the record it was made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition<R, T> {
    /// Nothing: no write takes place.
    Keep(T),
    /// Replaces it.
    Store(R, T),
}

/// A decision that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated<T> {
    /// What was decided.
    pub value: T,
    /// Lost races before it stood.
    pub conflicts: u32,
    /// A record was there but did not decode, and was taken as absent. Count it.
    pub corrupt: Option<DecodeError>,
}

/// Why no decision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// Lost every race.
    Contended,
    /// The host failed.
    Store(StoreError),
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There are bytes, but not this record. Take it as absent, and count it.
    Corrupt(DecodeError),
    /// The host failed.
    Store(StoreError),
}

/// The record under `key`.
pub fn read<R: Record>(
    store: &(impl SharedStore + ?Sized),
    key: &Key<R>,
) -> Result<Option<R>, ReadError> {
    match store.get(key.as_str()) {
        Ok(None) => Ok(None),
        Ok(Some(found)) => decode(&found.bytes).map(Some).map_err(ReadError::Corrupt),
        Err(error) => Err(ReadError::Store(error)),
    }
}

/// Applies `decide` to the record under `key` and stores what it gives, atomically.
pub fn update<R: Record, T>(
    store: &impl SharedStore,
    key: &Key<R>,
    decide: impl Fn(Option<R>) -> Transition<R, T>,
) -> Result<Updated<T>, UpdateError> {
    let (mut corrupt, mut decided) = (None, None);
    let conflicts = update_bytes(store, key.as_str(), &mut |bytes| {
        let prior = match bytes.map(decode) {
            None => None,
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => {
                corrupt = Some(error);
                None
            }
        };
        match decide(prior) {
            Transition::Keep(value) => {
                decided = Some(value);
                None
            }
            Transition::Store(next, value) => {
                decided = Some(value);
                Some(encode(&next))
            }
        }
    })?;
    // What stands was decided at least once.
    let value = decided.ok_or(UpdateError::Contended)?;
    Ok(Updated { value, conflicts, corrupt })
}

/// What to store in place of a value; `None` to leave it.
type Decide<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>;

/// The loop itself, of which every module has one: gives the conflicts before a decision stood.
#[inline(never)]
fn update_bytes(
    store: &dyn SharedStore,
    key: &str,
    decide: Decide<'_>,
) -> Result<u32, UpdateError> {
    for conflicts in 0..MAX_CAS_ATTEMPTS {
        let found = store.get(key).map_err(UpdateError::Store)?;
        let expected =
            found.as_ref().map_or(Expected::Absent, |found| Expected::Version(found.cas));
        let Some(next) = decide(found.as_ref().map(|found| found.bytes.as_slice())) else {
            return Ok(conflicts);
        };
        match store.set(key, &next, expected) {
            Ok(()) => return Ok(conflicts),
            Err(SetError::Conflict) => {}
            Err(SetError::Store(error)) => return Err(UpdateError::Store(error)),
        }
    }
    Err(UpdateError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lease, MemoryStore, UnixNanos};

    fn key() -> Key<Lease> {
        Key::new("test", &["lease"])
    }

    fn count_up(prior: Option<Lease>) -> Transition<Lease, u64> {
        let owner = prior.map_or(0, |lease| lease.owner) + 1;
        Transition::Store(Lease { owner, term: 0, expires_at: UnixNanos::ZERO }, owner)
    }

    #[test]
    fn a_lost_race_is_decided_again_on_what_the_winner_left() {
        let store = MemoryStore::default();
        store.before_next_set(|store| {
            update(store, &key(), count_up).unwrap();
        });
        let won = update(&store, &key(), count_up).unwrap();
        assert_eq!((won.value, won.conflicts), (2, 1));
    }

    #[test]
    fn first_use_is_a_race_too_and_loses_no_update() {
        let store = MemoryStore::default();
        store.before_next_set(|store| {
            update(store, &key(), count_up).unwrap();
        });
        update(&store, &key(), count_up).unwrap();
        assert_eq!(read(&store, &key()).unwrap().unwrap().owner, 2);
    }

    #[test]
    fn a_corrupt_record_counts_as_absent_and_is_reported() {
        let store = MemoryStore::default();
        store.set(key().as_str(), b"somebody else's value", Expected::Any).unwrap();
        assert_eq!(read(&store, &key()), Err(ReadError::Corrupt(DecodeError::Magic)));
        let mended = update(&store, &key(), count_up).unwrap();
        assert_eq!((mended.value, mended.corrupt), (1, Some(DecodeError::Magic)));
        assert!(read(&store, &key()).unwrap().is_some());
    }

    #[test]
    fn the_loop_is_bounded() {
        let store = MemoryStore::default();
        store.refuse_sets(u32::MAX);
        assert_eq!(update(&store, &key(), count_up), Err(UpdateError::Contended));
        assert_eq!(store.sets_tried(), MAX_CAS_ATTEMPTS);
    }

    #[test]
    fn keeping_writes_nothing() {
        let store = MemoryStore::default();
        let kept = update(&store, &key(), |_| Transition::<Lease, _>::Keep(5)).unwrap();
        assert_eq!((kept.value, store.sets_tried()), (5, 0));
    }

    #[test]
    fn a_failing_host_is_an_error_not_a_decision() {
        let store = MemoryStore::default();
        store.fail_with(10);
        let failed = StoreError { status: 10 };
        assert_eq!(update(&store, &key(), count_up), Err(UpdateError::Store(failed)));
        assert_eq!(read(&store, &key()), Err(ReadError::Store(failed)));
    }
}
