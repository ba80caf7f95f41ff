//! The moment, exact where that matters and at hand where it does not.

use super::PATIENCE;
use core::time::Duration;
use shared_state::UnixNanos;

/// The moment, in two qualities.
pub trait Clock: Copy {
    /// A moment that a callback of this worker read, at most [`PATIENCE`] ago where the host ticks.
    fn recent(self) -> UnixNanos;

    /// Now. May cost a hostcall.
    fn now(self) -> UnixNanos;

    /// How long before [`Clock::recent`] a state may have been read to be believed: not at all where
    /// that is itself as old as the last tick.
    fn patience(self) -> Duration;
}

/// A clock that was read.
impl Clock for UnixNanos {
    fn recent(self) -> UnixNanos {
        self
    }

    fn now(self) -> UnixNanos {
        self
    }

    fn patience(self) -> Duration {
        PATIENCE
    }
}
