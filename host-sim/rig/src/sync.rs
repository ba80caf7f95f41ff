//! One way to take a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever happened to an earlier holder.
///
/// The rig guards counters and switches: a panic elsewhere leaves them usable, and a test that
/// failed for one reason should not report a second.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
