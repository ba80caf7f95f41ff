//! A station of bounded slots with a FIFO queue: the simulated work of an endpoint.
//!
//! A slot is held for a service time by waiting on a timer. Timers fire late, by little on an idle
//! machine and by milliseconds on a busy one, and if each slot became free only when its timer
//! fired, the lateness would eat capacity: 10 ms of work that takes 10.5 ms turns a utilization of
//! 90 % into 95 %, and doubles the queue. So every slot keeps the time at which its work *should*
//! have ended, and the next request's work starts then. Answers are late; capacity is exact.
//!
//! A request whose client goes away gives its slot or its place in the queue back at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::meter::Ewma;
use super::timer::Timer;
use crate::sync::lock;

/// The slots of one endpoint.
#[derive(Debug)]
pub(crate) struct Slots {
    /// tokio's semaphore hands permits out in the order of the waits: the FIFO queue.
    permits: Semaphore,
    state: Mutex<State>,
    count: usize,
    timer: Timer,
}

#[derive(Debug)]
struct State {
    /// When each free slot's last work ended. As many as there are permits not taken.
    free_since: BinaryHeap<Reverse<Instant>>,
    busy: usize,
    waiting: usize,
    started: Instant,
    busy_share: Ewma,
    demand_share: Ewma,
}

/// What the slots do at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Slots at work.
    pub(crate) busy: usize,
    /// Requests in the queue.
    pub(crate) waiting: usize,
    /// Smoothed busy / slots, 0 to 1.
    pub(crate) utilization: f64,
    /// Smoothed (busy + waiting) / slots: above 1 when requests queue.
    pub(crate) demand: f64,
}

impl Slots {
    /// `count` slots, at least one; shares are smoothed with the time constant `tau`.
    pub(crate) fn new(count: usize, tau: Duration, timer: Timer) -> Self {
        let count = count.max(1);
        let started = Instant::now();
        let state = State {
            free_since: (0..count).map(|_| Reverse(started)).collect(),
            busy: 0,
            waiting: 0,
            started,
            busy_share: Ewma::new(tau),
            demand_share: Ewma::new(tau),
        };
        Self { permits: Semaphore::new(count), state: Mutex::new(state), count, timer }
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What the slots do now.
    pub(crate) fn load(&self) -> Load {
        let mut state = lock(&self.state);
        self.settle(&mut state, |_| {});
        Load {
            busy: state.busy,
            waiting: state.waiting,
            utilization: state.busy_share.value(),
            demand: state.demand_share.value(),
        }
    }

    /// Waits for a slot, then keeps it for the time that `service_time` gives when work starts.
    pub(crate) async fn work(&self, service_time: impl FnOnce() -> Duration) {
        let arrived = Instant::now();
        let waiting = Waiting::join(self);
        // The semaphore is never closed; were it, working without a slot is the harmless answer.
        let Ok(_permit) = self.permits.acquire().await else { return };
        let freed = waiting.promote();
        let mut slot = Busy { slots: self, freed_at: None };
        let ends = freed.max(arrived) + service_time();
        self.timer.wait_until(ends).await;
        slot.freed_at = Some(ends);
        // `slot` drops before `_permit`: whoever gets the permit finds a free slot.
    }

    /// Applies a change after accounting for the time up to now.
    fn settle<T>(&self, state: &mut State, change: impl FnOnce(&mut State) -> T) -> T {
        let now = state.started.elapsed();
        let slots = self.count as f64;
        state.busy_share.advance(now, state.busy as f64 / slots);
        state.demand_share.advance(now, (state.busy + state.waiting) as f64 / slots);
        change(state)
    }
}

/// A place in the queue.
struct Waiting<'a> {
    slots: &'a Slots,
    promoted: bool,
}

impl<'a> Waiting<'a> {
    fn join(slots: &'a Slots) -> Self {
        slots.settle(&mut lock(&slots.state), |state| state.waiting += 1);
        Self { slots, promoted: false }
    }

    /// Leaves the queue for a slot; since when that slot has been free.
    fn promote(mut self) -> Instant {
        self.promoted = true;
        let slots = self.slots;
        slots.settle(&mut lock(&slots.state), |state| {
            state.waiting -= 1;
            state.busy += 1;
            state.free_since.pop().map_or_else(Instant::now, |Reverse(since)| since)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.promoted {
            self.slots.settle(&mut lock(&self.slots.state), |state| state.waiting -= 1);
        }
    }
}

/// A slot at work.
struct Busy<'a> {
    slots: &'a Slots,
    /// When the work ended by plan; absent when it was abandoned.
    freed_at: Option<Instant>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let freed_at = self.freed_at.unwrap_or_else(Instant::now);
        self.slots.settle(&mut lock(&self.slots.state), |state| {
            state.busy -= 1;
            state.free_since.push(Reverse(freed_at));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const TEN_MS: Duration = Duration::from_millis(10);

    /// Finishing times in milliseconds, in the order of arrival.
    async fn finish_times(slots: &Arc<Slots>, services_ms: &[u64]) -> Vec<u128> {
        let start = Instant::now();
        let tasks: Vec<_> = services_ms
            .iter()
            .map(|&ms| {
                let slots = Arc::clone(slots);
                tokio::spawn(async move {
                    slots.work(|| Duration::from_millis(ms)).await;
                    start.elapsed().as_millis()
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.push(task.await.unwrap());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_slots_wait_in_order_of_arrival() {
        let slots = Arc::new(Slots::new(2, TEN_MS, Timer::Tokio));
        // Two start at once; the third gets the slot freed at 10, the fourth the one freed at 30.
        assert_eq!(finish_times(&slots, &[10, 30, 40, 5]).await, [10, 30, 50, 35]);
    }

    #[tokio::test(start_paused = true)]
    async fn timer_lateness_costs_no_capacity() {
        let slots = Slots::new(1, TEN_MS, Timer::Tokio);
        let start = Instant::now();
        let odd = Duration::from_micros(10_100);
        // Each timer fires at the next full millisecond; ten of them must not add up to 110 ms.
        let jobs = (0..10).map(|_| slots.work(|| odd));
        let mut jobs: Vec<_> = jobs.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            jobs.retain_mut(|job| job.as_mut().poll(context).is_pending());
            if jobs.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert!(start.elapsed() <= Duration::from_millis(102), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_request_gives_its_slot_and_its_place_back() {
        let slots = Slots::new(1, TEN_MS, Timer::Tokio);
        let hour = Duration::from_secs(3600);
        let mut working = Box::pin(slots.work(|| hour));
        let mut queued = Box::pin(slots.work(|| hour));
        assert!(tokio::time::timeout(TEN_MS, &mut working).await.is_err());
        assert!(tokio::time::timeout(TEN_MS, &mut queued).await.is_err());
        assert_eq!((slots.load().busy, slots.load().waiting), (1, 1));
        drop(queued);
        drop(working);
        assert_eq!((slots.load().busy, slots.load().waiting), (0, 0));
        let start = Instant::now();
        slots.work(|| TEN_MS).await;
        assert_eq!(start.elapsed(), TEN_MS);
    }

    #[tokio::test(start_paused = true)]
    async fn utilization_follows_the_slots_and_demand_counts_the_queue() {
        let slots = Slots::new(2, Duration::from_millis(100), Timer::Tokio);
        let hour = Duration::from_secs(3600);
        let mut jobs: Vec<_> = (0..6).map(|_| Box::pin(slots.work(|| hour))).collect();
        for job in &mut jobs {
            assert!(tokio::time::timeout(Duration::from_secs(1), job).await.is_err());
        }
        let load = slots.load();
        assert_eq!((load.busy, load.waiting), (2, 4));
        assert!((load.utilization - 1.0).abs() < 0.01, "{load:?}");
        assert!((load.demand - 3.0).abs() < 0.1, "{load:?}");
        drop(jobs);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(slots.load().utilization < 0.01);
    }
}
