//! Open-loop load: requests leave when they are due, whether or not earlier ones were answered.
//!
//! Latency counts from when a request was *due*. A generator that sends the next request after the
//! last answer measures a stalled server once per connection and skips all the requests that users
//! would have sent meanwhile; here a stall of one second at 1000 requests a second is a thousand
//! slow requests, as it is for the users ("coordinated omission", G. Tene).
//!
//! The offered load is bounded all the same: [`LoadOptions::max_in_flight`] limits memory and
//! sockets. What comes due beyond it is counted as `unsent`, never silently dropped or sent late.
//!
//! ```
//! use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
//! use host_sim_rig::load::{self, LoadOptions};
//! use std::ops::ControlFlow;
//! use std::time::Duration;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let endpoint = Endpoint::start(EndpointOptions::named("e1")).await?;
//! let options = LoadOptions::at_rate(endpoint.url("/"), 200.0, Duration::from_millis(100));
//! let result = load::run(&options, |progress| {
//!     println!("{:.1} s: {:.0}/s", progress.elapsed_seconds, progress.rate);
//!     ControlFlow::Continue(()) // Break ends the load early.
//! })
//! .await?;
//! assert_eq!(result.succeeded, result.requests);
//! assert_eq!(result.share["e1"], 1.0);
//! # anyhow::Ok(())
//! # })?;
//! # anyhow::Ok(())
//! ```

mod options;
mod pacer;
mod recorder;
mod result;
mod schedule;
mod transport;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

pub use options::{Arrivals, ClientProfile, Complete, LoadOptions, Phase, Steer};
pub use result::{LoadResult, Percentiles, Progress, Second};

use crate::connect::{ErrorKind, ExchangeError};
use crate::sync::lock;
use recorder::Recorder;
use schedule::{Due, Schedule};
use transport::{HttpTransport, Transport};

/// Time between two calls of the progress callback.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs a load to its end, or until `on_progress` (called every 250 ms) breaks it off.
///
/// Returns when every request has been answered or has timed out. Errors are mistakes in the
/// options; what goes wrong on the way is in the result.
pub async fn run(
    options: &LoadOptions,
    on_progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> anyhow::Result<LoadResult> {
    check(options)?;
    let transport = Arc::new(HttpTransport::new(options)?);
    let schedule = Schedule::new(
        options.phases.clone(),
        options.arrivals,
        client_weights(options).into_iter(),
        options.seed,
    );
    let start = Instant::now();
    let (_pacer, due) = pacer::start(schedule, start.into_std())?;
    Ok(Run::new(options, transport, start).until_done(due, on_progress).await)
}

fn client_weights(options: &LoadOptions) -> Vec<f64> {
    if options.clients.is_empty() {
        return vec![1.0];
    }
    options.clients.iter().map(|client| client.weight).collect()
}

fn check(options: &LoadOptions) -> anyhow::Result<()> {
    ensure!(!options.phases.is_empty(), "no phases: give at least one rate and duration");
    for phase in &options.phases {
        let rate = phase.rate;
        ensure!((0.0..=1e6).contains(&rate), "rate {rate}: give 0 to 1000000 requests a second");
    }
    let hour = Duration::from_secs(3600);
    ensure!(options.duration() <= hour, "{:?}: one run takes at most an hour", options.duration());
    let weights = client_weights(options);
    ensure!(
        weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
            && weights.iter().sum::<f64>() > 0.0,
        "client weights {weights:?}: give numbers from 0, and at least one above"
    );
    Ok(())
}

/// A load under way.
struct Run<T> {
    transport: Arc<T>,
    recorder: Arc<Mutex<Recorder>>,
    start: Instant,
    timeout: Duration,
    max_in_flight: u64,
    exchanges: JoinSet<()>,
}

impl<T: Transport> Run<T> {
    fn new(options: &LoadOptions, transport: Arc<T>, start: Instant) -> Self {
        Self {
            transport,
            recorder: Arc::new(Mutex::new(Recorder::new(
                options.clients.len().max(1),
                options.warmup,
            ))),
            start,
            timeout: options.timeout,
            max_in_flight: options.max_in_flight as u64,
            exchanges: JoinSet::new(),
        }
    }

    async fn until_done(
        mut self,
        mut due: mpsc::Receiver<Due>,
        mut on_progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> LoadResult {
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        let mut sending = true;
        while sending || !self.exchanges.is_empty() {
            tokio::select! {
                next = due.recv(), if sending => match next {
                    Some(due) => self.send(due),
                    None => sending = false,
                },
                Some(_) = self.exchanges.join_next(), if !self.exchanges.is_empty() => {}
                _ = ticks.tick() => {
                    let progress = lock(&self.recorder).progress(self.start.elapsed());
                    if on_progress(&progress).is_break() {
                        sending = false;
                    }
                }
            }
        }
        let elapsed = self.start.elapsed();
        let recorder =
            std::mem::replace(&mut *lock(&self.recorder), Recorder::new(0, Duration::ZERO));
        recorder.result(elapsed)
    }

    fn send(&mut self, due: Due) {
        let intended = self.start + due.at;
        {
            let mut recorder = lock(&self.recorder);
            if recorder.in_flight() >= self.max_in_flight {
                recorder.unsent();
                return;
            }
            recorder.sent(due.at);
        }
        let (transport, recorder) = (Arc::clone(&self.transport), Arc::clone(&self.recorder));
        let deadline = intended + self.timeout;
        self.exchanges.spawn(async move {
            // Here, and not where it was spawned: the task may have had to wait for its turn.
            lock(&recorder).left(due.at, intended.elapsed());
            let outcome = timeout_at(deadline, transport.exchange(due))
                .await
                .unwrap_or_else(|_| Err(ExchangeError::new(ErrorKind::Timeout, "timeout")));
            lock(&recorder).ended(due.at, due.client, intended.elapsed(), &outcome);
        });
    }
}

#[cfg(test)]
mod tests;
