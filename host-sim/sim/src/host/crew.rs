//! A host whose workers run on threads of their own, one at a time as a stage directs them.
//!
//! For whoever holds it, it is the same simulated host: requests are sent, time passes, replies are
//! looked at. But requests that are sent at one moment run at once, interleaved hostcall by
//! hostcall. Each thread has a host of its own with one worker; endpoints, clock, logs and the
//! engine are shared.

use super::endpoints::{Endpoints, Shared};
use super::{Host, HostOptions, Sent};
use crate::capture::Capture;
use crate::explore::Stage;
use crate::{Observers, Reply, Request, RequestId, StartError};
use host_sim_engine::{Clock, Engine, EngineOptions, ExchangeId, UnixNanos};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The threads.
pub(super) struct Crew {
    stage: Arc<Stage>,
    workers: usize,
    endpoints: Shared,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stage.stop();
        for thread in self.threads.drain(..) {
            // What it had to say is among the stage's failures.
            let _ = thread.join();
        }
    }
}

impl Host {
    /// Starts a host on `stage` with the configuration and modules of `template`.
    pub(crate) fn on_stage(
        template: &Engine,
        options: &HostOptions,
        stage: &Arc<Stage>,
        observers: Observers,
    ) -> Result<Self, StartError> {
        let logs = Arc::new(Capture::default());
        let workers = options.workers.max(1);
        let engine = template.again(EngineOptions {
            clock: stage.clock().clone(),
            log: logs.clone(),
            access_log: logs.clone(),
            seed: options.seed,
            concurrency: u32::try_from(workers).unwrap_or(u32::MAX),
            observer: observers.and(stage.clone()).into_one(),
            ..template.options().clone()
        })?;
        let endpoints = Shared::default();
        let failed: Arc<Mutex<Option<StartError>>> = Arc::default();
        let thread = |lane: usize| {
            let (stage, engine) = (stage.clone(), engine.clone());
            let (logs, endpoints) = (logs.clone(), endpoints.clone());
            let failed = failed.clone();
            let history = options.history;
            let body = move || {
                let run = || {
                    if !stage.enter(lane) {
                        return;
                    }
                    let number = u32::try_from(lane).ok().filter(|_| lane < workers);
                    let started = match number {
                        Some(number) => engine.worker(number),
                        None => engine.main_thread(),
                    };
                    match started {
                        Ok(worker) => {
                            let mut host = Self::bare(stage.clock().clone(), logs, engine, history);
                            host.endpoints = Endpoints::shared(endpoints);
                            host.workers.push(worker);
                            host.act(lane, &stage);
                        }
                        Err(error) => {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            stage.broken("a worker did not start".to_owned());
                        }
                    }
                };
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    stage.broken(format!("the host panicked on worker {lane}"));
                }
            };
            std::thread::Builder::new().name(format!("lane {lane}")).spawn(body)
        };
        let threads = (0..=workers).map(thread).collect::<Result<Vec<_>, _>>();
        let threads = threads.map_err(|error| StartError {
            plugin: String::new(),
            reason: format!("cannot start a thread: {error}"),
            log: Vec::new(),
        })?;
        let mut host = Self::bare(stage.clock().clone(), logs.clone(), engine.clone(), true);
        host.crew = Some(Crew { stage: stage.clone(), workers, endpoints, threads });
        // Envoy's order: the main thread first.
        for lane in std::iter::once(workers).chain(0..workers) {
            stage.start(lane);
        }
        match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(host),
        }
    }

    /// A lane's life: do what is due, until all is over.
    fn act(&mut self, lane: usize, stage: &Arc<Stage>) {
        let waker = stage.clone();
        if let Some(worker) = self.workers.first_mut() {
            worker.set_waker(move || waker.wake(lane));
        }
        let next = self.next_time();
        let mut on = stage.started(lane, next);
        while on {
            on = if self.act_once(lane, stage) {
                stage.between(lane)
            } else {
                let next = self.next_time();
                stage.idle(lane, next, self.news())
            };
        }
    }

    /// Does one thing that is due. False if there is none.
    fn act_once(&mut self, lane: usize, stage: &Stage) -> bool {
        let now = self.clock.now();
        if let Some((id, request)) = stage.take(lane) {
            self.begin(0, id, &request);
        } else if self.events.peek().is_some_and(|event| event.0.at <= now) {
            if let Some(event) = self.events.pop() {
                self.happen(event.0);
            }
        } else {
            let Some(worker) = self.workers.first_mut() else { return false };
            if worker.next_deadline().is_none_or(|due| due > now) {
                return false;
            }
            worker.on_deadline();
            self.drain(0);
        }
        true
    }

    /// What clients have got since this was last asked.
    fn news(&mut self) -> Vec<(RequestId, Option<Reply>, bool)> {
        let open = self.requests.iter_mut().filter(|sent| !sent.told);
        let told = |sent: &mut Sent| {
            sent.told = sent.complete;
            (sent.id, sent.reply.clone(), sent.complete)
        };
        open.map(told).collect()
    }

    /// Hands a request to a lane.
    pub(super) fn send_on_stage(&mut self, request: &Request) -> RequestId {
        let id = RequestId(self.requests.len());
        let at = self.clock.now();
        self.requests.push(Sent {
            id,
            exchange: ExchangeId(0),
            wire: None,
            at,
            reply: None,
            complete: false,
            parts: Vec::new(),
            trailers: Vec::new(),
            told: false,
        });
        self.incomplete += 1;
        if let Some(crew) = &self.crew {
            crew.stage.send(request.worker.unwrap_or(0) % crew.workers, id, request.clone());
        }
        id
    }

    /// Lets lanes run. Answers whether every request has its response.
    pub(super) fn run_on_stage(&mut self, end: UnixNanos, settling: bool) -> bool {
        let Some(crew) = &self.crew else { return true };
        self.endpoints.swap(&crew.endpoints);
        let news = crew.stage.run(end, settling);
        self.endpoints.swap(&crew.endpoints);
        for (id, reply, complete) in news {
            let Some(sent) = self.requests.get_mut(id.0) else { continue };
            sent.reply = reply;
            if complete && !std::mem::replace(&mut sent.complete, true) {
                self.incomplete -= 1;
            }
        }
        self.incomplete == 0
    }

    pub(super) fn staged_workers(&self) -> Option<usize> {
        self.crew.as_ref().map(|crew| crew.workers)
    }
}
