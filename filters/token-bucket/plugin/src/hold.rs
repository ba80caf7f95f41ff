//! Requests that wait for their tokens, and the tick that lets them go.
//!
//! A held request is a paused stream; the root's tick lets it go on when it is due. Ticks are asked
//! for in the milliseconds until the next one is due, as far apart as idle permits may be kept while
//! there are any, and else once a second: there is no polling, and a request goes on less than two
//! milliseconds after its token has come. Before a new request is looked at, what is due goes on
//! first, so none is overtaken on its last millisecond.

use crate::metrics::PERIOD;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use shared_state::UnixNanos;
use token_bucket_core::{Admission, Queue};

/// The requests that a worker holds, and its ticks.
#[derive(Debug)]
pub(crate) struct Holds {
    queue: RefCell<Queue>,
    /// What streams hold that have gone on, until they ask for it. In order of stream.
    gone_on: RefCell<Vec<(u32, Admission)>>,
    /// Ticks come this far apart.
    period: Cell<Duration>,
    /// When the work of each second was done last.
    worked_at: Cell<UnixNanos>,
}

impl Holds {
    /// Without any, and with a tick each second.
    pub(crate) fn new(queue: Queue) -> Self {
        let (queue, worked_at) = (RefCell::new(queue), Cell::new(UnixNanos::ZERO));
        Self { queue, gone_on: RefCell::default(), period: Cell::new(PERIOD), worked_at }
    }

    /// True if another request can be held.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.try_borrow().is_ok_and(|queue| !queue.is_full())
    }

    /// Holds a stream until `due`, with what it holds itself. The error gives that back, if there is
    /// no room, or if the host takes no ticks and nobody would let the stream go.
    pub(crate) fn hold(
        &self,
        stream: u32,
        due: UnixNanos,
        admission: Admission,
        now: UnixNanos,
    ) -> Result<(), Admission> {
        let Ok(mut queue) = self.queue.try_borrow_mut() else { return Err(admission) };
        queue.push(due, stream, admission)?;
        // The tick that is under way would be too late for one that is due before all others.
        if queue.next_in(now) == Some(due.since(now)) {
            let period = period(&queue, now);
            if !plugin_kit::set_tick_period(period) {
                return queue.cancel(stream).map_or(Ok(()), Err);
            }
            self.period.set(period);
        }
        Ok(())
    }

    /// Forgets a stream that has ended while it was held; gives what is not needed any more.
    pub(crate) fn cancel(&self, stream: u32) -> Option<Admission> {
        self.queue.try_borrow_mut().ok()?.cancel(stream)
    }

    /// What a stream holds that was held itself, and has gone on.
    pub(crate) fn take(&self, stream: u32) -> Option<Admission> {
        let mut gone_on = self.gone_on.try_borrow_mut().ok()?;
        let at = gone_on.binary_search_by_key(&stream, |(stream, _)| *stream).ok()?;
        Some(gone_on.remove(at).1)
    }

    /// Lets go what is due.
    pub(crate) fn let_go(&self, now: UnixNanos) {
        let Ok(mut queue) = self.queue.try_borrow_mut() else { return };
        while let Some((stream, admission)) = queue.pop_due(now) {
            // One that is gone was not cancelled only if the host did not tell: its tokens are lost.
            if plugin_kit::resume_request_of(stream)
                && let Ok(mut gone_on) = self.gone_on.try_borrow_mut()
            {
                let at = gone_on.partition_point(|(before, _)| *before < stream);
                gone_on.insert(at, (stream, admission));
            }
        }
    }

    /// Whether the work of a second is to be done.
    pub(crate) fn is_second_over(&self, now: UnixNanos) -> bool {
        let last = self.worked_at.get();
        let is_over = last > now || now.since(last) >= PERIOD * 9 / 10;
        if is_over {
            self.worked_at.set(now);
        }
        is_over
    }

    /// Asks for the next tick, which comes within so long, if there is something to do by then.
    pub(crate) fn tick_next(&self, now: UnixNanos, within: Option<Duration>) {
        if let Ok(queue) = self.queue.try_borrow() {
            let period = period(&queue, now).min(within.map_or(PERIOD, whole_millis));
            if period != self.period.replace(period) {
                plugin_kit::set_tick_period(period);
            }
        }
    }

    /// Asks for a tick within so long, if none comes by then.
    pub(crate) fn tick_within(&self, within: Option<Duration>) {
        let Some(within) = within.map(whole_millis) else { return };
        if within < self.period.get() {
            self.period.set(within);
            plugin_kit::set_tick_period(within);
        }
    }
}

/// Time until the next tick: whole milliseconds, as the host counts them, and never too early.
fn period(queue: &Queue, now: UnixNanos) -> Duration {
    queue.next_in(now).map_or(PERIOD, whole_millis)
}

fn whole_millis(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1)).min(PERIOD)
}
