//! The live proxy's clock: timers that no step of the wall clock disturbs.

use host_sim_engine::{Clock, SystemClock, UnixNanos};
use std::time::Instant;

/// For timers, wall time read once and then advanced by the monotonic clock; for plugins, the
/// machine's wall clock itself.
///
/// A wall clock may step: set back by an hour it would freeze every route timeout for an hour.
/// Plugins see the step all the same, as in Envoy.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    wall: UnixNanos,
    monotonic: Instant,
}

impl SteadyClock {
    /// A clock that agrees with the machine's at this moment.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: SystemClock.now(), monotonic: Instant::now() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> UnixNanos {
        self.wall + self.monotonic.elapsed()
    }

    fn wall(&self) -> UnixNanos {
        SystemClock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_wall_time_and_never_goes_back() {
        let before = SystemClock.now();
        let clock = SteadyClock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(before <= first && first <= second);
    }
}
