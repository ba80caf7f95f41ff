//! A proxy with plugins: the engine of the live proxy and of scenarios, as a bootstrap describes it,
//! with its workers, ticks and calls on the experiment's clock.
//!
//! Nothing of a plugin is imitated: the shipped module sees the requests, what comes back, and
//! whatever it calls. A request carries its number in a header, so that the endpoint can draw its
//! work; a call of a plugin's own carries none, and is answered at once and without a slot.

use super::draws::Draws;
use super::load_report::LoadReport;
use super::notices::{Notice, Notices};
use super::proxy::Proxy;
use super::reaper::Reaper;
use super::server::AttemptId;
use super::spec::arm::Plugins;
use super::spec::load::Clients;
use super::spec::{Arm, Experiment};
use super::world::{Load, Outcome, Try, World};
use crate::clock::{EPOCH, VirtualClock};
use crate::{ModuleCache, suite};
use host_sim_bootstrap::{
    self as bootstrap, Bootstrap, Configuration, ConfigurationKind, Discovery, HealthStatus,
    HttpFilter, HttpFilterConfig, Locality, Metadata, PluginConfig, Terminal,
};
use host_sim_engine::{
    self as engine, Clock, Downstream, Engine, EngineOptions, ExchangeId, Headers, Limits,
    Observer, Output, Protocol, UpstreamFailure, UpstreamFailureKind, UpstreamLink, Worker,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Carries the number of a request to its endpoint.
const NUMBER: &str = "x-experiment-request";

/// Our end of every connection to an endpoint.
const LOCAL_END: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

/// Where the proxies listen.
const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000);

/// What gRPC calls to endpoints are answered.
const UNIMPLEMENTED: &str = "12";

/// An arm's configuration, its modules compiled: each proxy of each seed is started from it.
pub(crate) struct Template {
    engine: Arc<Engine>,
    endpoints: HashMap<SocketAddr, usize>,
    listener: usize,
    /// Names of the plugins of its chains.
    plugins: Vec<String>,
}

impl Template {
    /// Of an arm with plugins. Runs the canary, so that what is wrong is told before anything runs.
    pub(crate) fn new(
        experiment: &Experiment,
        plugins: &Plugins,
        base: &Path,
        module_cache: ModuleCache,
    ) -> Result<Self, String> {
        let addresses: Vec<SocketAddr> = (0..experiment.servers().count()).map(address).collect();
        let (mut bootstrap, base_dir) = read(experiment, plugins, base, &addresses)?;
        populate(&mut bootstrap, experiment, &addresses)?;
        let plugins = configure(&mut bootstrap, plugins)?;
        let doomed = experiment.all_failures().filter_map(|failure| failure.vms_die.as_ref());
        exist("vms_die", doomed.flat_map(|failure| &failure.plugins), &plugins)?;
        let mut listeners = bootstrap.listeners.iter();
        let listener = listeners.position(|listener| listener.http().is_some());
        let listener = listener.ok_or("no listener of the bootstrap carries HTTP")?;
        let workers = u32::try_from(experiment.proxies.workers).unwrap_or(u32::MAX);
        let options = EngineOptions {
            clock: Arc::new(VirtualClock::default()),
            concurrency: workers,
            base_dir,
            limits: Limits::simulator(),
            module_cache,
            ..EngineOptions::default()
        };
        let engine = Engine::start(bootstrap, options).map_err(|error| error.to_string())?;
        let endpoints = addresses.into_iter().enumerate().map(|(at, address)| (address, at));
        Ok(Self { engine, endpoints: endpoints.collect(), listener, plugins })
    }

    /// The proxies of a run. They share nothing but the time.
    pub(crate) fn proxies(
        &self,
        experiment: &Experiment,
        seed: u64,
    ) -> Result<Vec<Box<dyn Proxy + '_>>, String> {
        let clock = Arc::new(VirtualClock::default());
        let proxy = |number: usize| -> Result<Box<dyn Proxy + '_>, String> {
            let notices = Arc::new(Notices::default());
            let reaper = experiment.kills_vms().then(|| Arc::new(Reaper::default()));
            let options = EngineOptions {
                clock: clock.clone(),
                log: notices.clone(),
                observer: reaper.clone().map(|reaper| reaper as Arc<dyn Observer>),
                seed: Draws::new(seed, "engine", number as u64).bits(),
                ..self.engine.options().clone()
            };
            let start = || -> Result<Vec<Worker>, engine::StartError> {
                let engine = self.engine.again(options)?;
                // Envoy's order: the main thread first.
                let main = engine.main_thread()?;
                let workers = 0..engine.options().concurrency;
                let mut workers =
                    workers.map(|at| engine.worker(at)).collect::<Result<Vec<_>, _>>()?;
                workers.push(main);
                Ok(workers)
            };
            let workers = start().map_err(|error| error.to_string())?;
            Ok(Box::new(Plugged {
                number,
                template: self,
                clock: clock.clone(),
                workers,
                exchanges: HashMap::new(),
                tries: HashMap::new(),
                attempts: HashMap::new(),
                started: HashMap::new(),
                refused: Vec::new(),
                notices,
                reaper,
            }))
        };
        (0..experiment.proxies.count).map(proxy).collect()
    }
}

/// Where the `number`-th endpoint is, for plugins.
fn address(number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits().saturating_add(number));
    SocketAddr::new(IpAddr::V4(ip), 8080)
}

/// The bootstrap that an arm names, or that of the proxies, and the base of its modules' paths.
fn read(
    experiment: &Experiment,
    plugins: &Plugins,
    base: &Path,
    addresses: &[SocketAddr],
) -> Result<(Bootstrap, Option<PathBuf>), String> {
    let proxies = &experiment.proxies;
    let (file, suite) = match (&plugins.bootstrap, &plugins.suite) {
        (None, None) => (&proxies.bootstrap, &proxies.suite),
        own => own,
    };
    if let Some(spec) = suite {
        let text = suite::bootstrap(spec, addresses, base)?;
        let read = Bootstrap::from_yaml(&text).map_err(|problems| problems.to_string())?;
        return Ok((read, None));
    }
    let path = base.join(file.as_ref().ok_or("neither bootstrap nor suite")?);
    let read = Bootstrap::from_file(&path);
    let read = read.map_err(|problems| format!("{}:\n{problems}", path.display()))?;
    Ok((read, path.parent().map(Path::to_owned)))
}

/// Gives the cluster the experiment's endpoints.
fn populate(
    bootstrap: &mut Bootstrap,
    experiment: &Experiment,
    addresses: &[SocketAddr],
) -> Result<(), String> {
    let name = &experiment.proxies.cluster;
    let cluster = bootstrap.clusters.iter_mut().find(|cluster| cluster.name == *name);
    let cluster = cluster.ok_or_else(|| {
        format!("the bootstrap has no cluster '{name}': name it, `proxies: {{cluster: ...}}`")
    })?;
    cluster.discovery = Discovery::Static;
    let endpoint = |((group, _), address): ((&super::spec::EndpointGroup, usize), &SocketAddr)| {
        bootstrap::Endpoint {
            address: bootstrap::Address { host: address.ip().to_string(), port: address.port() },
            hostname: String::new(),
            weight: group.weight,
            health: HealthStatus::Healthy,
            metadata: Metadata::default(),
            locality: Locality { zone: group.zone.clone(), ..Locality::default() },
        }
    };
    cluster.endpoints = experiment.servers().zip(addresses).map(endpoint).collect();
    Ok(())
}

/// Gives plugins the configurations that the arm has for them, and lists the plugins by name.
fn configure(bootstrap: &mut Bootstrap, plugins: &Plugins) -> Result<Vec<String>, String> {
    let mut known = Vec::new();
    let mut change = |plugin: &mut PluginConfig| {
        if let Some(document) = plugins.configuration.get(&plugin.name) {
            let bytes = suite::configuration(document).into_bytes();
            plugin.configuration = Configuration { bytes, kind: ConfigurationKind::String };
        }
        known.push(plugin.name.clone());
    };
    let mut filters: Vec<&mut HttpFilter> = Vec::new();
    for listener in &mut bootstrap.listeners {
        if let Terminal::Http(manager) = &mut listener.terminal {
            filters.extend(&mut manager.http_filters);
        }
    }
    filters.extend(bootstrap.clusters.iter_mut().flat_map(|own| &mut own.http.http_filters));
    for filter in filters {
        if let HttpFilterConfig::Wasm(plugin) = &mut filter.config {
            change(plugin);
        }
    }
    bootstrap.wasm_services.iter_mut().for_each(|service| change(&mut service.plugin));
    exist("configuration", plugins.configuration.keys(), &known)?;
    Ok(known)
}

/// An error if one of the names is no plugin's.
fn exist<'a>(
    what: &str,
    mut names: impl Iterator<Item = &'a String>,
    known: &[String],
) -> Result<(), String> {
    names.find(|name| !known.contains(name)).map_or(Ok(()), |name| {
        let meant = crate::problem::did_you_mean(name, known.iter().map(String::as_str));
        Err(format!("{what}: no plugin is called '{name}'{meant}"))
    })
}

/// One proxy.
struct Plugged<'a> {
    number: usize,
    template: &'a Template,
    clock: Arc<VirtualClock>,
    /// The workers, and the main thread last.
    workers: Vec<Worker>,
    exchanges: HashMap<(usize, ExchangeId), Exchange>,
    tries: HashMap<Try, (usize, ExchangeId)>,
    /// The engine's attempt, by the world's.
    attempts: HashMap<AttemptId, Attempt>,
    /// The world's attempt, by the engine's.
    started: HashMap<(usize, engine::AttemptId), AttemptId>,
    /// Attempts at addresses where nothing is.
    refused: Vec<(usize, engine::AttemptId)>,
    notices: Arc<Notices>,
    reaper: Option<Arc<Reaper>>,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    id: Try,
    status: u16,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    worker: usize,
    id: engine::AttemptId,
    grpc: bool,
}

impl Plugged<'_> {
    fn set_clock(&self, world: &World) {
        self.clock.advance_to(EPOCH + world.now());
    }

    /// Carries out what a worker asks for, until it asks for nothing.
    fn drain(&mut self, worker: usize, world: &mut World) {
        loop {
            while let Some(output) = self.workers[worker].poll_output() {
                self.carry_out(worker, output, world);
            }
            let Some((worker, id)) = self.refused.pop() else { return };
            self.workers[worker].upstream_failed(id, failure(Outcome::Refused));
        }
    }

    fn carry_out(&mut self, worker: usize, output: Output, world: &mut World) {
        match output {
            Output::StartAttempt { attempt, endpoint, headers, .. } => {
                self.start(worker, attempt, endpoint, &headers, world);
            }
            Output::CancelAttempt { attempt } => {
                if let Some(id) = self.started.remove(&(worker, attempt)) {
                    self.attempts.remove(&id);
                    world.cancel(id);
                }
            }
            Output::ResponseHeaders { exchange, headers, end_stream } => {
                if let Some(known) = self.exchanges.get_mut(&(worker, exchange)) {
                    known.status = headers.status().unwrap_or(0);
                }
                if end_stream {
                    self.complete(worker, exchange, world);
                }
            }
            Output::ResponseData { exchange, end_stream: true, .. }
            | Output::ResponseTrailers { exchange, .. } => self.complete(worker, exchange, world),
            Output::ResetExchange { exchange } => {
                if let Some(known) = self.exchanges.remove(&(worker, exchange)) {
                    self.tries.remove(&known.id);
                    world.reply(known.id, 0);
                }
            }
            // Bodies have no length here, and there are no connections of the TCP proxy.
            _ => {}
        }
    }

    fn start(
        &mut self,
        worker: usize,
        id: engine::AttemptId,
        address: SocketAddr,
        headers: &Headers,
        world: &mut World,
    ) {
        let Some(endpoint) = self.template.endpoints.get(&address).copied() else {
            return self.refused.push((worker, id));
        };
        let number = headers.get_str(NUMBER).and_then(|number| number.parse().ok());
        let load = number.map_or(Load::Poll, Load::Request);
        let grpc = headers.get("content-type").is_some_and(|t| t.starts_with(b"application/grpc"));
        let started = world.start(self.number, endpoint, load);
        self.attempts.insert(started, Attempt { worker, id, grpc });
        self.started.insert((worker, id), started);
    }

    fn complete(&mut self, worker: usize, exchange: ExchangeId, world: &mut World) {
        if let Some(known) = self.exchanges.remove(&(worker, exchange)) {
            self.tries.remove(&known.id);
            world.reply(known.id, known.status);
        }
        self.workers[worker].downstream_complete(exchange);
    }
}

impl Proxy for Plugged<'_> {
    fn request(&mut self, id: Try, client: &Clients, worker: u64, world: &mut World) {
        self.set_clock(world);
        let worker = (worker % self.workers.len().saturating_sub(1).max(1) as u64) as usize;
        let info = Downstream {
            remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000),
            local: LISTENER,
            tls: None,
            protocol: Protocol::Http11,
            connection_id: id.request as u64,
        };
        let exchange = self.workers[worker].start_exchange(self.template.listener, info);
        self.exchanges.insert((worker, exchange), Exchange { id, status: 0 });
        self.tries.insert(id, (worker, exchange));
        let number = id.request.to_string();
        let pseudo = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "experiment"),
            (":path", client.path.as_str()),
            (NUMBER, number.as_str()),
        ];
        let own = client.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let head = Headers::from_pairs(pseudo.into_iter().chain(own));
        self.workers[worker].request_headers(exchange, head, true);
        self.drain(worker, world);
    }

    fn answered(&mut self, attempt: AttemptId, outcome: Outcome, world: &mut World) {
        let Some(Attempt { worker, id, grpc }) = self.attempts.remove(&attempt) else { return };
        self.started.remove(&(worker, id));
        self.set_clock(world);
        let to = &mut self.workers[worker];
        match outcome {
            Outcome::Answer(status, report) => {
                let status = if grpc { "200".to_owned() } else { status.to_string() };
                let report = report.map(|report| (LoadReport::HEADER, report.text()));
                let grpc = grpc.then(|| {
                    let status = ("grpc-status", UNIMPLEMENTED.to_owned());
                    [("content-type", "application/grpc".to_owned()), status]
                });
                let head = std::iter::once((":status", status));
                let head = head.chain(report).chain(grpc.into_iter().flatten());
                to.attempt_connected(id, &UpstreamLink::plain(LOCAL_END));
                to.upstream_headers(id, Headers::from_pairs(head), true);
            }
            Outcome::Refused | Outcome::Reset => to.upstream_failed(id, failure(outcome)),
        }
        self.drain(worker, world);
    }

    fn abort(&mut self, id: Try, world: &mut World) {
        let Some((worker, exchange)) = self.tries.remove(&id) else { return };
        self.set_clock(world);
        self.exchanges.remove(&(worker, exchange));
        self.workers[worker].downstream_reset(exchange);
        self.drain(worker, world);
    }

    fn deadline(&mut self) -> Option<Duration> {
        let due = self.workers.iter_mut().filter_map(Worker::next_deadline).min();
        due.map(|due| due.since(EPOCH))
    }

    fn wake(&mut self, world: &mut World) {
        self.set_clock(world);
        for worker in 0..self.workers.len() {
            if self.workers[worker].next_deadline().is_some_and(|due| due <= self.clock.now()) {
                self.workers[worker].on_deadline();
                self.drain(worker, world);
            }
        }
    }

    fn kill_vms(&mut self, plugins: &[String]) {
        if let Some(reaper) = &self.reaper {
            // The main thread, the last, serves nobody.
            let workers = self.workers.len().saturating_sub(1);
            let wanted = |name: &&String| plugins.is_empty() || plugins.contains(name);
            reaper.arm(workers, self.template.plugins.iter().filter(wanted));
        }
    }

    fn notices(&mut self) -> Vec<Notice> {
        self.notices.take()
    }
}

/// How the engine is told that there is no answer.
fn failure(outcome: Outcome) -> UpstreamFailure {
    let (kind, detail) = match outcome {
        Outcome::Refused => (UpstreamFailureKind::ConnectFailure, "Connection refused"),
        _ => (UpstreamFailureKind::ResetBeforeHeaders, ""),
    };
    UpstreamFailure { kind, detail: detail.to_owned() }
}

/// The templates of an experiment's arms, in their order; none for arms with a policy.
///
/// # Errors
/// Which arm's bootstrap or plugins are rejected, and why.
pub(crate) fn templates(
    experiment: &Experiment,
    base: &Path,
    module_cache: &ModuleCache,
) -> Result<Vec<Option<Template>>, (String, String)> {
    let template = |arm: &Arm| {
        let plugins = arm.plugins.as_ref();
        let made = plugins.map(|own| Template::new(experiment, own, base, module_cache.clone()));
        made.transpose().map_err(|reason| (arm.name.clone(), reason))
    };
    experiment.arms.iter().map(template).collect()
}
