//! How much of a key this worker is asked for, as far as it matters for the next moments.

use core::time::Duration;
use shared_state::UnixNanos;

/// What was admitted of a key in this period, and in the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    /// When the period began.
    since: UnixNanos,
    admitted: u32,
    before: u32,
}

impl Demand {
    /// Nothing yet.
    pub(crate) fn new(now: UnixNanos) -> Self {
        Self { since: now, admitted: 0, before: 0 }
    }

    /// True if it says nothing of the present any more.
    pub(crate) fn is_over(&self, period: Duration, now: UnixNanos) -> bool {
        self.since > now || now.since(self.since) >= period.saturating_mul(2)
    }

    /// Counts what was admitted.
    pub(crate) fn count(&mut self, cost: u32, period: Duration, now: UnixNanos) {
        if self.since > now || now.since(self.since) >= period {
            self.before = if self.is_over(period, now) { 0 } else { self.admitted };
            self.admitted = 0;
            self.since = now;
        }
        self.admitted = self.admitted.saturating_add(cost);
    }

    /// What is likely to be asked for, and in how long; at most in one period.
    pub(crate) fn expected(&self, period: Duration, now: UnixNanos) -> (u32, Duration) {
        let passed = now.since(self.since);
        if self.is_over(period, now) {
            (0, period)
        } else if passed >= period {
            (self.admitted, period)
        } else if self.before > self.admitted {
            (self.before, period)
        } else {
            // So many more will take as long as those before, if they come as fast. Twice that is
            // enough, and ties up less of a burst that comes all at once.
            (self.admitted, period.min(passed.saturating_mul(2)))
        }
    }
}
