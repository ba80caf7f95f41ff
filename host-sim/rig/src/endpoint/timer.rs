//! Timers that fire within some tens of microseconds.
//!
//! tokio's timers are made for timeouts: deadlines are rounded up to a millisecond, and so is the
//! wait for them, which adds 1.1 ms on average. At a mean service time of 10 ms that is more than
//! the difference between two load-balancing policies, and a simulation on a virtual clock could
//! never agree with it. A thread on a condition variable has the kernel's precision instead.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::sync::lock;

/// What endpoints wait with.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// tokio's clock, which tests can stop.
    #[cfg(test)]
    Tokio,
    /// A thread, which ends with the last clone.
    Precise(Arc<Alarm>),
}

impl Timer {
    /// Starts a thread that keeps time.
    pub(crate) fn precise() -> io::Result<Self> {
        let alarm = Alarm(Arc::default());
        let shared = Arc::clone(&alarm.0);
        thread::Builder::new().name("rig-timer".to_owned()).spawn(move || ring(&shared))?;
        Ok(Self::Precise(Arc::new(alarm)))
    }

    /// Waits until `at`; returns at once when that has passed.
    pub(crate) async fn wait_until(&self, at: tokio::time::Instant) {
        if at <= tokio::time::Instant::now() {
            return;
        }
        match self {
            #[cfg(test)]
            Self::Tokio => tokio::time::sleep_until(at).await,
            Self::Precise(alarm) => {
                // Fails when the thread is gone, which holds only while the process ends.
                let _ = alarm.set(at.into_std()).await;
            }
        }
    }
}

/// The handle of a timer thread.
#[derive(Debug)]
pub(crate) struct Alarm(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Soonest on top. Waits given up stay until they are due, which no service time is for long.
    waits: BinaryHeap<Reverse<Wait>>,
    next_number: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Wait {
    at: Instant,
    /// Waits for the same instant end in the order they began.
    number: u64,
    over: oneshot::Sender<()>,
}

impl Alarm {
    fn set(&self, at: Instant) -> oneshot::Receiver<()> {
        let (over, receiver) = oneshot::channel();
        let mut state = lock(&self.0.state);
        let number = state.next_number;
        state.next_number += 1;
        let soonest = state.waits.peek().is_none_or(|Reverse(wait)| at < wait.at);
        state.waits.push(Reverse(Wait { at, number, over }));
        drop(state);
        if soonest {
            self.0.changed.notify_one();
        }
        receiver
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        lock(&self.0.state).stopped = true;
        self.0.changed.notify_one();
    }
}

/// The thread: ends the waits that are due, sleeps until the next.
fn ring(shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.stopped {
        let now = Instant::now();
        while state.waits.peek().is_some_and(|Reverse(wait)| wait.at <= now) {
            if let Some(Reverse(wait)) = state.waits.pop() {
                // The waiter may have gone.
                let _ = wait.over.send(());
            }
        }
        let until_next =
            state.waits.peek().map(|Reverse(wait)| wait.at.saturating_duration_since(now));
        let woken = match until_next {
            Some(time) => shared.changed.wait_timeout(state, time).map(|(state, _)| state).ok(),
            None => shared.changed.wait(state).ok(),
        };
        // Poisoned: a holder panicked, and none of them can.
        let Some(woken) = woken else { return };
        state = woken;
    }
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Wait {}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wait {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn waits_end_in_order_and_never_early() {
        let timer = Timer::precise().unwrap();
        let start = tokio::time::Instant::now();
        let ended = Arc::new(Mutex::new(Vec::new()));
        let waits = [3, 1, 2].map(|ms| {
            let (timer, ended) = (timer.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                timer.wait_until(start + Duration::from_millis(ms)).await;
                lock(&ended).push(ms);
                start.elapsed() >= Duration::from_millis(ms)
            })
        });
        for wait in waits {
            assert!(wait.await.unwrap());
        }
        assert_eq!(*lock(&ended), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_wait_given_up_does_not_disturb_the_others() {
        let timer = Timer::precise().unwrap();
        let start = tokio::time::Instant::now();
        tokio::select! {
            biased;
            () = timer.wait_until(start + Duration::from_millis(5)) => panic!("far too early"),
            () = async {} => {}
        }
        let long = timer.wait_until(start + Duration::from_secs(3600));
        let short = timer.wait_until(start + Duration::from_millis(10));
        tokio::select! {
            () = long => panic!("the hour is not over"),
            () = short => {}
        }
    }

    #[tokio::test]
    async fn the_past_needs_no_wait() {
        Timer::precise().unwrap().wait_until(tokio::time::Instant::now()).await;
    }
}
