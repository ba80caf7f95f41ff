//! One breaker that a worker follows.

use super::{Degradation, TICK_LAG, of_read};
use crate::breaker::Outcome;
use crate::config::Forced;
use core::time::Duration;
use shared_state::{BreakerRecord, BreakerState, Key, SharedStore, UnixNanos, read};

#[derive(Debug)]
pub(super) struct Followed {
    pub(super) key: Key<BreakerRecord>,
    /// What the record must say whose it is.
    pub(super) owner: u64,
    pub(super) forced: Option<Forced>,
    pub(super) record: Option<BreakerRecord>,
    pub(super) read_at: Option<UnixNanos>,
    pub(super) waiting: Vec<Outcome>,
    pub(super) waiting_since: UnixNanos,
    pub(super) used_at: UnixNanos,
    /// Requests since the last tick.
    pub(super) uses: u32,
    /// The subject has answered, so it exists. An endpoint that only a list names may not.
    pub(super) answered: bool,
}

impl Followed {
    /// True if it was read after `recent`, or not so long before. What was read in a future was read
    /// before the clock stepped back.
    pub(super) fn is_fresh(&self, recent: UnixNanos, patience: Duration) -> bool {
        let Some(read_at) = self.read_at else { return false };
        let is_later = read_at >= recent && !read_at.is_stale_deadline(recent, TICK_LAG);
        is_later || read_at < recent && recent.since(read_at) < patience
    }

    pub(super) fn refresh(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
    ) -> Option<Degradation> {
        self.read_at = Some(now);
        match read(store, &self.key) {
            Ok(record) => {
                self.record = record.filter(|record| record.owner == self.owner);
                None
            }
            Err(error) => {
                self.record = None;
                Some(of_read(error))
            }
        }
    }

    /// True if what is known of it is closed, and not only will be.
    pub(super) fn is_settled(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.state == BreakerState::Closed)
    }

    /// True if the oldest outcome has waited long enough; a clock that went back makes it so.
    pub(super) fn is_overdue(&self, now: UnixNanos, patience: Duration) -> bool {
        now < self.waiting_since || now.since(self.waiting_since) >= patience
    }
}
