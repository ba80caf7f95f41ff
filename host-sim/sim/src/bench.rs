//! What a request costs: instructions and hostcalls by plugin and callback, on a virtual clock.
//!
//! Time says how fast a machine is; instructions and hostcalls say what a filter does. They do not
//! depend on the machine, the load or the moment, so a change of one per cent is a change of the
//! filter and not noise: a figure to compare between commits. Wall time is measured apart, by
//! [`speed`], in a run that counts nothing.
//!
//! The endpoints answer at every address the clusters name, with 200, a small JSON body and a load
//! report; names of DNS clusters stand for addresses made up here. Requests come at a constant rate
//! of virtual time, because what a filter does per second (ticks, leases, polls) is then spread
//! over the requests as in production. They go to the first listener, in turns over the workers.
//! Costs of the start and of the warm-up are left out: a bucket's first lease, a first log line.
//!
//! An instruction is a unit of wasmtime's fuel, about one WebAssembly operator. Work of the host is
//! not in it; hostcalls and the bytes copied for them stand for that.

mod cost;
mod recorder;

use crate::dns;
use crate::endpoint::{Answer, Behaviour};
use crate::{Host, HostOptions, Request, StartError};
pub use cost::{Background, CallbackCost, Costs, Instructions, PerRequest};
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{Limits, ModuleCache};
use recorder::Recorder;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many values `{n}` in a header takes.
const CLIENTS: usize = 100;

/// From a request to an endpoint's answer.
const SERVICE_TIME: Duration = Duration::from_millis(3);

/// How long to wait for the last answers, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// What to send.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Requests measured. Default 5000.
    pub requests: usize,
    /// Requests before, not measured. Default 1000.
    pub warm_up: usize,
    /// Requests a second of virtual time, at least 1. Default 1000.
    pub rate: u32,
    /// Workers, at least 1. Default 1.
    pub workers: usize,
    /// Fixes every random choice. Default 1.
    pub seed: u64,
    /// Path of the requests. Default `/`.
    pub path: String,
    /// Headers of the requests; `{n}` becomes a number below 100, another one each request.
    /// Default `x-client: client-{n}`, so that keyed policies have keys.
    pub headers: Vec<(String, String)>,
    /// Base of relative module paths; the current directory if `None`.
    pub base_dir: Option<PathBuf>,
    /// Compiled modules on disk. Default [`ModuleCache::user`].
    pub module_cache: ModuleCache,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            requests: 5000,
            warm_up: 1000,
            rate: 1000,
            workers: 1,
            seed: 1,
            path: "/".to_owned(),
            headers: vec![("x-client".to_owned(), "client-{n}".to_owned())],
            base_dir: None,
            module_cache: ModuleCache::user(),
        }
    }
}

/// How fast the simulator itself is, plugins included, on one thread of this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Requests and their responses a second of wall time.
    pub requests_per_second: f64,
}

/// How long a scenario takes to start: modules loaded, canaries run, workers and main thread up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Start {
    /// Wall time on this machine.
    pub milliseconds: f64,
    /// Modules that this start has compiled. 0 once they are in the cache.
    pub compiled: usize,
    /// Modules that an earlier process has compiled.
    pub from_cache: usize,
}

/// Starts as a scenario does, and stops again.
///
/// # Errors
/// As [`costs`].
pub fn startup(bootstrap: Bootstrap, options: &BenchOptions) -> Result<Start, StartError> {
    let began = Instant::now();
    let host = start(bootstrap, options, Some(Arc::default()))?;
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let loads = host.engine().module_loads();
    Ok(Start {
        milliseconds: (milliseconds * 10.0).round() / 10.0,
        compiled: loads.compiled,
        from_cache: loads.from_disk,
    })
}

/// Counts what requests cost. Equal inputs give equal results, on every machine.
///
/// # Errors
/// When the bootstrap has no listener, or a plugin rejects it.
pub fn costs(bootstrap: Bootstrap, options: &BenchOptions) -> Result<Costs, StartError> {
    counted(bootstrap, options).map(|(costs, _)| costs)
}

/// Measures how many requests a second the simulator does when it counts nothing.
///
/// # Errors
/// As [`costs`].
pub fn speed(bootstrap: Bootstrap, options: &BenchOptions) -> Result<Speed, StartError> {
    let mut host = start(bootstrap, options, None)?;
    let mut requests = variants(options);
    drive(&mut host, &mut requests, options.warm_up, options);
    let started = Instant::now();
    drive(&mut host, &mut requests, options.requests, options);
    let elapsed = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let rate = if elapsed > 0.0 { options.requests as f64 / elapsed } else { 0.0 };
    Ok(Speed { requests_per_second: rate.round() })
}

/// The engine's own counters over the same span, to hold the recorder to.
#[derive(Debug, PartialEq, Eq)]
struct Totals {
    instructions: u64,
    hostcalls: u64,
}

fn counted(bootstrap: Bootstrap, options: &BenchOptions) -> Result<(Costs, Totals), StartError> {
    let recorder = Arc::new(Recorder::default());
    let mut host = start(bootstrap, options, Some(recorder.clone()))?;
    let mut requests = variants(options);
    drive(&mut host, &mut requests, options.warm_up, options);
    let (began, before) = (host.elapsed(), totals(&host));
    recorder.clear();
    let statuses = drive(&mut host, &mut requests, options.requests, options);
    let (span, after) = (host.elapsed() - began, totals(&host));
    let totals = Totals {
        instructions: after.instructions - before.instructions,
        hostcalls: after.hostcalls - before.hostcalls,
    };
    Ok((recorder.costs(options, statuses, span), totals))
}

fn totals(host: &Host) -> Totals {
    Totals { instructions: host.fuel_consumed(), hostcalls: host.hostcall_count() }
}

fn start(
    bootstrap: Bootstrap,
    options: &BenchOptions,
    recorder: Option<Arc<Recorder>>,
) -> Result<Host, StartError> {
    if !bootstrap.listeners.iter().any(|listener| listener.http().is_some()) {
        let reason = "static_resources.listeners: there is none to send requests to".to_owned();
        return Err(StartError { plugin: String::new(), reason, log: Vec::new() });
    }
    let host_options = HostOptions {
        workers: options.workers,
        seed: options.seed,
        base_dir: options.base_dir.clone(),
        fuel: recorder.is_some(),
        history: false,
        // A scenario's, where instructions are counted anyway; nothing where speed is measured.
        limits: if recorder.is_some() { Limits::simulator() } else { Limits::default() },
        module_cache: options.module_cache.clone(),
        trace: None,
        findings: false,
    };
    let trace = recorder.map(|recorder| recorder as _);
    let mut host = Host::start_observed(bootstrap, host_options, trace)?;
    for endpoint in dns::make_up(host.engine().clusters()) {
        host.behave(endpoint, behaviour());
    }
    Ok(host)
}

fn behaviour() -> Behaviour {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![
        header("content-type", "application/json"),
        header("endpoint-load-metrics", "TEXT cpu_utilization=0.3, rps_fractional=200"),
    ];
    let answer = Answer { headers, body: b"{}".to_vec(), ..Answer::default() };
    Behaviour { latency: SERVICE_TIME, answer, ..Behaviour::default() }
}

/// One request for each value of `{n}`.
fn variants(options: &BenchOptions) -> Vec<Request> {
    let variant = |n: usize| {
        let request = Request::get(&options.path).header("user-agent", "host-sim-bench");
        options.headers.iter().fold(request.header("accept", "*/*"), |request, (name, value)| {
            request.header(name, &value.replace("{n}", &n.to_string()))
        })
    };
    (0..CLIENTS).map(variant).collect()
}

/// Sends `count` requests at the rate and waits for all responses; gives their statuses, 0 being
/// none.
fn drive(
    host: &mut Host,
    requests: &mut [Request],
    count: usize,
    options: &BenchOptions,
) -> BTreeMap<u16, u64> {
    let gap = Duration::from_secs(1) / options.rate.max(1);
    let workers = host.workers();
    let mut sent = Vec::with_capacity(count);
    for (n, at) in (0..requests.len()).cycle().take(count).enumerate() {
        host.advance(gap);
        let request = &mut requests[at];
        request.worker = Some(n % workers);
        sent.push(host.send(request));
    }
    host.settle(PATIENCE);
    let mut statuses = BTreeMap::new();
    for id in sent {
        *statuses.entry(host.reply(id).map_or(0, |reply| reply.status)).or_default() += 1;
    }
    statuses
}

#[cfg(test)]
mod tests;
