//! A simulated proxy: what a test does with it and sees of it.

mod behind;
mod crew;
mod drive;
mod endpoints;
mod grpc;
mod open;
mod suite;
mod tcp;
mod update;
mod wire;

use crate::capture::Capture;
use crate::endpoint::Behaviour;
use crate::lint::{Finding, Linter};
use crate::trace::Recorder;
use crate::{Observers, Received, Reply, Request, RequestId, Trace, VirtualClock, metric};
use bytes::Bytes;
use crew::Crew;
use drive::{Attempt, Event, What};
use endpoints::Endpoints;
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{
    AttemptId, Clock, ConnectionId, Downstream, Engine, EngineOptions, ExchangeId, Limits,
    ModuleCache, Observer, Protocol, UnixNanos, Worker,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use host_sim_engine::StartError;

/// How a simulation runs.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Logical workers; each has VMs of its own. At least 1, default 1.
    pub workers: usize,
    /// Fixes every random choice of the host.
    pub seed: u64,
    /// Base of relative module paths; the current directory if `None`.
    pub base_dir: Option<PathBuf>,
    /// Counts instructions of the plugins.
    pub fuel: bool,
    /// Keeps what endpoints received and what replies said besides their status. A long run
    /// without needs less time and memory.
    pub history: bool,
    /// What plugins may use up. Default [`Limits::simulator`], so that no test hangs.
    pub limits: Limits,
    /// Compiled modules on disk. Default [`ModuleCache::user`].
    pub module_cache: ModuleCache,
    /// Where everything that happens is written, line by line.
    pub trace: Option<Trace>,
    /// Whether plugins are watched for mistakes, see [`Host::findings`]. Default false: it takes
    /// about as long as the plugins themselves.
    pub findings: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            seed: 1,
            base_dir: None,
            fuel: false,
            history: true,
            limits: Limits::simulator(),
            module_cache: ModuleCache::user(),
            trace: None,
            findings: false,
        }
    }
}

/// A simulated proxy.
pub struct Host {
    clock: Arc<VirtualClock>,
    logs: Arc<Capture>,
    engine: Arc<Engine>,
    /// The workers, and the main thread last.
    workers: Vec<Worker>,
    endpoints: Endpoints,
    events: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    requests: Vec<Sent>,
    /// How many of the requests are not complete.
    incomplete: usize,
    history: bool,
    recorder: Option<Arc<Recorder>>,
    linter: Option<Arc<Linter>>,
    by_exchange: BTreeMap<(usize, ExchangeId), RequestId>,
    attempts: BTreeMap<(usize, AttemptId), Attempt>,
    tcp: tcp::Tcp,
    behind: behind::Behind,
    /// Number of the first listener that ends in HTTP: requests go there.
    http_listener: usize,
    /// Threads that run the workers; then `workers` is empty.
    crew: Option<Crew>,
}

struct Sent {
    /// As whoever sent it names it; on a thread of a crew not its position.
    id: RequestId,
    exchange: ExchangeId,
    /// The connection it goes on as bytes, before network filters, and whether in chunks.
    wire: Option<(ConnectionId, bool)>,
    at: UnixNanos,
    reply: Option<Reply>,
    complete: bool,
    /// Chunks of the body, each with the time since the one before.
    parts: Vec<(Duration, Bytes)>,
    trailers: Vec<(String, String)>,
    /// A crew's thread has told that it is complete.
    told: bool,
}

impl Host {
    /// Loads the modules, runs their canary, then starts the main thread and all workers.
    pub fn start(bootstrap: Bootstrap, options: HostOptions) -> Result<Self, StartError> {
        Self::start_observed(bootstrap, options, None)
    }

    /// As [`Host::start`], with an observer of callbacks and hostcalls; [`Observers`] are several.
    ///
    /// [`Observers`]: crate::Observers
    pub fn start_observed(
        bootstrap: Bootstrap,
        options: HostOptions,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, StartError> {
        let clock = Arc::new(VirtualClock::default());
        let logs = Arc::new(Capture::default());
        let recorder = options.trace.map(|trace| Arc::new(Recorder::new(trace, clock.clone())));
        let mut observers = Observers::default();
        if let Some(observer) = observer {
            observers = observers.and(observer);
        }
        if let Some(recorder) = &recorder {
            observers = observers.and(recorder.clone());
        }
        let base_dir = options.base_dir.as_deref();
        let linter = options.findings.then(|| Arc::new(Linter::new(&bootstrap, base_dir)));
        if let Some(linter) = &linter {
            observers = observers.and(linter.clone());
        }
        let count = options.workers.max(1);
        let engine = Engine::prepare(
            bootstrap,
            EngineOptions {
                clock: clock.clone(),
                log: logs.clone(),
                access_log: logs.clone(),
                seed: options.seed,
                fuel: options.fuel,
                concurrency: u32::try_from(count).unwrap_or(u32::MAX),
                base_dir: options.base_dir,
                observer: observers.into_one(),
                limits: options.limits,
                module_cache: options.module_cache,
            },
        )?;
        // Envoy's order: the main thread first.
        let main = engine.main_thread()?;
        let mut workers = (0..count)
            .map(|index| engine.worker(u32::try_from(index).unwrap_or(u32::MAX)))
            .collect::<Result<Vec<_>, _>>()?;
        workers.push(main);
        let host = Self::bare(clock, logs, engine, options.history);
        Ok(Self { workers, recorder, linter, ..host })
    }

    /// Without workers.
    fn bare(
        clock: Arc<VirtualClock>,
        logs: Arc<Capture>,
        engine: Arc<Engine>,
        history: bool,
    ) -> Self {
        let mut listeners = engine.bootstrap().listeners.iter();
        let http_listener = listeners.position(|listener| listener.http().is_some()).unwrap_or(0);
        Self {
            clock,
            logs,
            engine,
            workers: Vec::new(),
            endpoints: Endpoints::default(),
            events: BinaryHeap::new(),
            sequence: 0,
            requests: Vec::new(),
            incomplete: 0,
            history,
            recorder: None,
            linter: None,
            by_exchange: BTreeMap::new(),
            attempts: BTreeMap::new(),
            tcp: tcp::Tcp::default(),
            behind: behind::Behind::default(),
            http_listener,
            crew: None,
        }
    }

    /// Number of workers, the main thread not counted.
    pub fn workers(&self) -> usize {
        self.staged_workers().unwrap_or_else(|| self.workers.len().saturating_sub(1))
    }

    /// What an endpoint does from now on, for all paths without an exception.
    pub fn behave(&mut self, endpoint: SocketAddr, behaviour: Behaviour) {
        self.endpoints.with(|all| all.entry(endpoint).or_default().usual = Arc::new(behaviour));
    }

    /// What an endpoint does for one path.
    pub fn behave_at(&mut self, endpoint: SocketAddr, path: &str, behaviour: Behaviour) {
        self.endpoints.with(|all| {
            let by_path = &mut all.entry(endpoint).or_default().by_path;
            by_path.retain(|(own, _)| own != path);
            by_path.push((path.to_owned(), Arc::new(behaviour)));
        });
    }

    /// What an endpoint does with its next requests, before its usual behaviour again.
    pub fn script(&mut self, endpoint: SocketAddr, next: impl IntoIterator<Item = Behaviour>) {
        let next = next.into_iter().map(Arc::new);
        self.endpoints.with(|all| all.entry(endpoint).or_default().script.extend(next));
    }

    /// Sends a request now. Whatever needs no time has happened when this returns.
    pub fn send(&mut self, request: &Request) -> RequestId {
        if self.crew.is_some() {
            return self.send_on_stage(request);
        }
        let worker = request.worker.unwrap_or(0) % self.workers();
        self.begin(worker, RequestId(self.requests.len()), request)
    }

    /// Sends a request on a worker; whoever sent it names it `named`.
    fn begin(&mut self, worker: usize, named: RequestId, request: &Request) -> RequestId {
        let id = RequestId(self.requests.len());
        let info = Downstream {
            remote: SocketAddr::new(request.source, 40_000),
            local: SocketAddr::from(([127, 0, 0, 1], 10_000)),
            tls: request.tls.clone(),
            protocol: Protocol::Http11,
            connection_id: named.0 as u64,
        };
        let wired = self.passes_network_filters();
        let exchange = if wired {
            // Until the codec has read a head there is none.
            ExchangeId(0)
        } else {
            self.workers[worker].start_exchange(self.http_listener, info.clone())
        };
        let at = self.clock.now();
        self.requests.push(Sent {
            id: named,
            exchange,
            wire: None,
            at,
            reply: None,
            complete: false,
            parts: request.body.clone(),
            trailers: request.trailers.clone(),
            told: false,
        });
        self.incomplete += 1;
        if !wired {
            self.by_exchange.insert((worker, exchange), id);
        }
        let ends_at_head = request.body.is_empty() && request.trailers.is_empty();
        let head = request.head();
        if let Some(recorder) = &self.recorder {
            let length = request.body.iter().map(|(_, chunk)| chunk.len()).sum();
            recorder.sent(self.number(worker), id.0, &head, length);
        }
        if wired {
            self.open_wire(worker, id, info, request);
        } else {
            self.workers[worker].request_headers(exchange, head, ends_at_head);
            self.drain(worker);
        }
        match request.body.first() {
            Some((pause, _)) if !pause.is_zero() => {
                self.schedule(*pause, worker, What::Send(id, 0));
            }
            _ => self.send_from(worker, id, 0),
        }
        if let Some(patience) = request.abort_after {
            self.schedule(patience, worker, What::Abort(id));
        }
        id
    }

    /// Lets time pass, with all that happens in it.
    pub fn advance(&mut self, span: Duration) {
        self.run_until(self.clock.now() + span);
    }

    /// Lets time pass until every request has its response, but no longer than `most`. Answers
    /// whether all have.
    pub fn settle(&mut self, most: Duration) -> bool {
        let end = self.clock.now() + most;
        if self.crew.is_some() && self.incomplete > 0 {
            return self.run_on_stage(end, true);
        }
        while self.incomplete > 0 {
            match self.next_time() {
                Some(time) if time <= end => self.step(time),
                _ => return false,
            }
        }
        true
    }

    /// Steps the wall clock that plugins read; timers do not notice.
    pub fn step_wall_clock(&mut self, nanos: i64) {
        self.clock.step_wall(nanos);
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The response, once its headers are there.
    pub fn reply(&self, id: RequestId) -> Option<&Reply> {
        self.requests.get(id.0)?.reply.as_ref()
    }

    /// Every request's response, in the order they were sent.
    pub(crate) fn replies(&self) -> impl Iterator<Item = Option<&Reply>> {
        self.requests.iter().map(|sent| sent.reply.as_ref())
    }

    /// True when the response has ended or was reset.
    pub fn is_complete(&self, id: RequestId) -> bool {
        self.requests.get(id.0).is_some_and(|sent| sent.complete)
    }

    /// How many requests have no complete response yet.
    pub fn unfinished(&self) -> usize {
        self.incomplete
    }

    /// What an endpoint has received.
    pub fn received(&self, endpoint: SocketAddr) -> &[Received] {
        self.endpoints.get(&endpoint).map_or(&[], |endpoint| &endpoint.received)
    }

    /// Sum of a plugin's metric over the label sets that hold these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metric::sum(self.engine.stats(), name, labels)
    }

    /// Lines of the application log.
    pub fn log(&self) -> Vec<String> {
        self.logs.application()
    }

    /// Lines of all access logs.
    pub fn access_log(&self) -> Vec<String> {
        self.logs.access()
    }

    /// What plugins have done wrong so far, the worst first; with [`HostOptions::findings`].
    pub fn findings(&self) -> Vec<Finding> {
        self.linter.as_ref().map(|linter| linter.findings()).unwrap_or_default()
    }

    /// Process-wide state: statistics, shared data, clusters.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Instructions that plugins have executed, with [`HostOptions::fuel`].
    pub fn fuel_consumed(&self) -> u64 {
        self.workers.iter().map(Worker::fuel_consumed).sum()
    }

    /// Linear memory of all VMs, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.workers.iter().map(Worker::memory_bytes).sum()
    }

    /// Hostcalls that plugins have made.
    pub fn hostcall_count(&self) -> u64 {
        self.workers.iter().map(Worker::hostcall_count).sum()
    }
}
