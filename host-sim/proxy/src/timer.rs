//! Runs the engine's deadlines with tokio's timers, and what other threads post.

use crate::driver::Driver;
use host_sim_engine::{UnixNanos, Worker};
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Wakes the timer when a deadline earlier than the one it sleeps for appears. Later ones, which
/// is what every request brings, cost a comparison.
#[derive(Default)]
pub(crate) struct Rearm {
    armed: Cell<Option<UnixNanos>>,
    earlier: Notify,
}

impl Rearm {
    /// Notes the worker's earliest deadline.
    pub(crate) fn consider(&self, next: Option<UnixNanos>) {
        let Some(next) = next else { return };
        if self.armed.get().is_none_or(|armed| next < armed) {
            self.armed.set(Some(next));
            self.earlier.notify_one();
        }
    }
}

/// Calls the worker at its deadlines, for ever.
pub(crate) async fn run(driver: Rc<Driver>) {
    let rearm = driver.rearm();
    loop {
        let deadline = driver.next_deadline();
        rearm.armed.set(deadline);
        let Some(deadline) = deadline else {
            tokio::select! {
                () = rearm.earlier.notified() => {}
                () = driver.posted() => {}
            }
            continue;
        };
        let wait = deadline.since(driver.now());
        if !wait.is_zero() {
            tokio::select! {
                () = sleep(wait) => {}
                () = rearm.earlier.notified() => continue,
                () = driver.posted() => continue,
            }
        }
        driver.input(Worker::on_deadline);
        // A plugin that asks for the shortest of ticks must not starve the connections.
        tokio::task::yield_now().await;
    }
}
