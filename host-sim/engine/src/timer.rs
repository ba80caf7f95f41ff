//! Timers of a worker, ordered by time, then by the order they were set: replays are exact.

use crate::UnixNanos;
use crate::grpc::GrpcId;
use std::collections::BTreeMap;

/// Names a timer for cancelling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId(UnixNanos, u64);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// `proxy_on_tick` of a root context; `generation` tells a reloaded VM from its forerunner.
    Tick { vm: usize, root: u32, generation: u64 },
    /// The route's timeout of an exchange.
    RouteTimeout { exchange: u64 },
    /// The per-try timeout of an attempt.
    PerTryTimeout { exchange: u64 },
    /// The back-off before a retry is over.
    Retry { exchange: u64 },
    /// Nothing has moved on an exchange for too long, unless something has since it was set.
    StreamIdle { exchange: u64 },
    /// A request is not complete in time.
    RequestTimeout { exchange: u64 },
    /// An exchange lives for too long.
    MaxStreamDuration { exchange: u64 },
    /// Nothing has moved on a connection for too long, unless something has since it was set.
    ConnectionIdle { connection: u64 },
    /// A connection lives for too long.
    ConnectionLongest { connection: u64 },
    /// The timeout of a plugin's HTTP call.
    CallTimeout { call: u64 },
    /// The timeout of a plugin's gRPC call.
    GrpcTimeout { call: GrpcId },
}

/// Pending timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pending: BTreeMap<TimerId, Timer>,
    set: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: UnixNanos, timer: Timer) -> TimerId {
        self.set += 1;
        let id = TimerId(at, self.set);
        self.pending.insert(id, timer);
        id
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        self.pending.remove(&id);
    }

    pub(crate) fn next(&self) -> Option<UnixNanos> {
        self.pending.first_key_value().map(|(id, _)| id.0)
    }

    /// Takes the earliest timer if it is due.
    pub(crate) fn pop_due(&mut self, now: UnixNanos) -> Option<Timer> {
        let entry = self.pending.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Timer = Timer::Retry { exchange: 1 };
    const B: Timer = Timer::Retry { exchange: 2 };

    #[test]
    fn timers_of_one_moment_fire_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        timers.set(UnixNanos(5), B);
        timers.set(UnixNanos(5), A);
        assert_eq!(timers.pop_due(UnixNanos(4)), None);
        assert_eq!(timers.pop_due(UnixNanos(5)), Some(B));
        assert_eq!(timers.pop_due(UnixNanos(5)), Some(A));
    }

    #[test]
    fn a_cancelled_timer_does_not_fire() {
        let mut timers = Timers::default();
        let id = timers.set(UnixNanos(1), A);
        timers.cancel(id);
        timers.cancel(id);
        assert_eq!((timers.next(), timers.pop_due(UnixNanos(9))), (None, None));
    }
}
