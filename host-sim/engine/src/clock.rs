//! The clock that drives timers and the one that plugins read.
//!
//! One source on purpose: a plugin that computes "in 100 ms" from
//! `proxy_get_current_time_nanoseconds` and a timer that fires at that moment must agree, or a
//! simulation shows races that no proxy has. They part only where a test steps the wall clock, which
//! in Envoy too moves what plugins read and not what timers wait for.

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, UTC. May step back between two reads, as wall clocks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// Time since `earlier`; zero when the clock has stepped back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixNanos {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for UnixNanos {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Source of time of an engine.
pub trait Clock: Send + Sync {
    /// Now, for timers.
    fn now(&self) -> UnixNanos;

    /// Now, for plugins. The same, unless the wall clock was stepped.
    fn wall(&self) -> UnixNanos {
        self.now()
    }
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixNanos {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos::default() + since_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stepped_back_yields_no_elapsed_time() {
        assert_eq!(UnixNanos(5).since(UnixNanos(9)), Duration::ZERO);
    }

    #[test]
    fn adding_for_ever_saturates() {
        assert_eq!(UnixNanos(1) + Duration::MAX, UnixNanos(u64::MAX));
    }
}
