//! Time that moves when it is told to.

use host_sim_engine::{Clock, UnixNanos};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// When every simulation begins: 2026-01-01T00:00:00Z. Plugins see plausible wall-clock times.
pub(crate) const EPOCH: UnixNanos = UnixNanos(1_767_225_600_000_000_000);

/// A clock that stands still between events. Timers follow its steady time; plugins read its wall
/// time, which can be stepped back and forth as NTP does.
#[derive(Debug)]
pub struct VirtualClock {
    steady: AtomicU64,
    step: AtomicI64,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self { steady: AtomicU64::new(EPOCH.0), step: AtomicI64::new(0) }
    }
}

impl VirtualClock {
    /// Moves steady time forward to `time`; never back.
    pub fn advance_to(&self, time: UnixNanos) {
        self.steady.fetch_max(time.0, Ordering::Relaxed);
    }

    /// Steps wall time by `nanos`, back if negative. Timers do not notice.
    pub fn step_wall(&self, nanos: i64) {
        self.step.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        self.now().since(EPOCH)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.steady.load(Ordering::Relaxed))
    }

    fn wall(&self) -> UnixNanos {
        UnixNanos(self.now().0.saturating_add_signed(self.step.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_steps_back_and_steady_time_does_not() {
        let clock = VirtualClock::default();
        clock.advance_to(EPOCH + Duration::from_secs(10));
        clock.advance_to(EPOCH);
        clock.step_wall(-30_000_000_000);
        assert_eq!(clock.elapsed(), Duration::from_secs(10));
        assert_eq!(clock.wall().0, EPOCH.0 - 20_000_000_000);
    }
}
