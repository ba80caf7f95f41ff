//! The live proxy's clock: wall time that does not step.

use host_sim_engine::{Clock, SystemClock, UnixNanos};
use std::time::Instant;

/// Wall time read once, then advanced by the monotonic clock.
///
/// The engine has one clock for what plugins read and for timers. The machine's wall clock may
/// step: set back by an hour it would freeze every route timeout for an hour. This clock follows
/// the rate of the machine (NTP slews the monotonic clock too) and ignores its steps; the price is
/// that access-log times keep the offset of the start.
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
