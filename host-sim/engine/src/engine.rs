//! What all workers share: compiled modules, shared data, stats, clusters, the parsed bootstrap.

use crate::config_update::Directory;
use crate::deadline::Ticker;
use crate::discovery::Subscription;
use crate::listener::Listener;
use crate::module::{Instrumentation, Source};
use crate::native_filter::{HeaderMutation, LocalRateLimit};
use crate::plugin_slot::{PluginSlot, Plugins, run_canary};
use crate::queue::SharedQueues;
use crate::{
    AccessLogSink, Clock, Cluster, Discard, Limits, LogSink, ModuleCache, Observer, SharedData,
    Stats, SystemClock, Worker,
};
use host_sim_bootstrap::{
    Bootstrap, ConfigDiscovery, HttpFilter, HttpFilterConfig, PluginConfig, StatefulSession,
};
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Process-wide state. Make one per configuration, then one [`Worker`] per thread.
pub struct Engine {
    bootstrap: Bootstrap,
    options: EngineOptions,
    stats: Stats,
    plugins: Plugins,
    slots: Vec<PluginSlot>,
    directory: Directory,
    subscriptions: Vec<Subscription>,
    clusters: Vec<Arc<Cluster>>,
    listeners: Vec<Listener>,
    downstream_filters: Vec<Vec<ChainFilter>>,
    upstream_filters: Vec<Vec<ChainFilter>>,
    network_filters: Vec<Vec<ChainFilter>>,
    /// Files of discovered configurations have been looked at.
    discovers: AtomicBool,
    /// Moves the epoch on while this engine lives, if its callbacks have a deadline.
    _ticker: Option<Arc<Ticker>>,
}

/// A filter of a configured chain.
pub(crate) enum ChainFilter {
    /// A plugin's place, by number.
    Wasm(usize),
    HeaderMutation(Arc<HeaderMutation>),
    LocalRateLimit(Arc<LocalRateLimit>),
    StatefulSession(Arc<StatefulSession>),
}

/// How an engine runs; `..EngineOptions::default()` fills in a live proxy's choices.
#[derive(Clone)]
pub struct EngineOptions {
    /// Time for plugins and timers.
    pub clock: Arc<dyn Clock>,
    /// Application log.
    pub log: Arc<dyn LogSink>,
    /// Access log.
    pub access_log: Arc<dyn AccessLogSink>,
    /// Seed of every random choice: load balancing, back-off, `random_get`, request ids. Worker
    /// number and seed together decide; equal inputs give equal outputs.
    pub seed: u64,
    /// Count executed instructions ([`Worker::fuel_consumed`]); costs about a tenth of speed.
    pub fuel: bool,
    /// Number of workers, for the `concurrency` gauge and drivers; plugins cannot see it.
    pub concurrency: u32,
    /// Base of relative module file names; `None` is the current directory.
    pub base_dir: Option<PathBuf>,
    /// Sees every callback and hostcall; `None` costs nothing.
    pub observer: Option<Arc<dyn Observer>>,
    /// What plugins may use up. The default is Envoy's: 1 GiB of memory, and time without end.
    pub limits: Limits,
    /// Compiled modules on disk. The default is the user's cache.
    pub module_cache: ModuleCache,
}

/// Where an engine's modules came from; each module counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleLoads {
    /// Compiled by this start.
    pub compiled: usize,
    /// Compiled by an earlier process, and found in the cache.
    pub from_disk: usize,
    /// Compiled or loaded before in this process.
    pub from_memory: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            log: Arc::new(Discard),
            access_log: Arc::new(Discard),
            seed: 0,
            fuel: false,
            concurrency: 1,
            base_dir: None,
            observer: None,
            limits: Limits::default(),
            module_cache: ModuleCache::default(),
        }
    }
}

/// Why a configuration was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// Which plugin; empty when no plugin is to blame.
    pub plugin: String,
    /// What happened.
    pub reason: String,
    /// The module's own last words at warn or above, oldest first.
    pub log: Vec<String>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plugin.is_empty() {
            write!(f, "{}", self.reason)?;
        } else {
            write!(f, "plugin {:?}: {}", self.plugin, self.reason)?;
        }
        self.log.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for StartError {}

impl Engine {
    /// What `envoy --mode validate` does: compiles every module and runs one canary VM per VM key
    /// through context_create, vm_start and configure. What the canary writes to shared data
    /// stays.
    ///
    /// # Errors
    /// When a module does not compile or link, traps, or rejects its configuration.
    pub fn start(bootstrap: Bootstrap, options: EngineOptions) -> Result<Arc<Self>, StartError> {
        let engine = Self::load(bootstrap, options, Plugins::default())?;
        engine.try_out()?;
        Ok(engine)
    }

    /// The same without the canaries, which [`Engine::main_thread`] runs: each right before the
    /// main thread's root of its plugin, as Envoy does that goes on to serve. Make the main thread
    /// before any worker.
    ///
    /// # Errors
    /// When a module does not compile.
    pub fn prepare(bootstrap: Bootstrap, options: EngineOptions) -> Result<Arc<Self>, StartError> {
        Self::load(bootstrap, options, Plugins::default())
    }

    /// A second process with the same configuration: nothing is shared with this one but the
    /// compiled modules, which are not read again. For searches that start thousands.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn again(&self, options: EngineOptions) -> Result<Arc<Self>, StartError> {
        let kind = |options: &EngineOptions| Instrumentation::of(options.fuel, &options.limits);
        let same = kind(&options) == kind(&self.options);
        let plugins = if same { Plugins::like(&self.slots) } else { Plugins::default() };
        let engine = Self::load(self.bootstrap.clone(), options, plugins)?;
        engine.try_out()?;
        Ok(engine)
    }

    /// All canaries, and the first look at files of discovered configurations.
    fn try_out(self: &Arc<Self>) -> Result<(), StartError> {
        for plugin in self.slots.iter().filter_map(PluginSlot::current) {
            run_canary(self, &plugin)?;
        }
        self.start_discovery()
    }

    fn load(
        bootstrap: Bootstrap,
        options: EngineOptions,
        plugins: Plugins,
    ) -> Result<Arc<Self>, StartError> {
        let stats = Stats::default();
        let clusters = bootstrap.clusters.iter().cloned().enumerate();
        let clusters = clusters.map(|(at, c)| Arc::new(Cluster::new(c, at, &stats))).collect();
        let listeners = bootstrap.listeners.iter().map(|config| Listener::new(config, &stats));
        let listeners = listeners.collect::<Result<_, _>>().map_err(StartError::host)?;
        let mut loader = Loader {
            options: &options,
            stats: &stats,
            plugins: &plugins,
            slots: Vec::new(),
            subscriptions: Vec::new(),
        };
        // Clusters first, then listeners, then services: in this order plugins start.
        let upstream = bootstrap.clusters.iter().map(|c| loader.chain(&c.http.http_filters));
        let upstream_filters = upstream.collect::<Result<_, _>>()?;
        let (mut network_filters, mut downstream_filters) = (Vec::new(), Vec::new());
        for listener in &bootstrap.listeners {
            let plugins = listener.network_filters.iter();
            let chain = plugins.map(|c| loader.plugin("", c, false).map(ChainFilter::Wasm));
            network_filters.push(chain.collect::<Result<_, _>>()?);
            let filters = listener.http().map(|manager| manager.http_filters.as_slice());
            downstream_filters.push(loader.chain(filters.unwrap_or_default())?);
        }
        for service in &bootstrap.wasm_services {
            loader.plugin("", &service.plugin, service.singleton)?;
        }
        let Loader { slots, subscriptions, .. } = loader;
        let code = slots.iter().find_map(PluginSlot::current);
        let code = code.filter(|_| options.limits.deadline.is_some());
        let ticker = code.map(|plugin| Ticker::shared(plugin.code.module.engine()));
        stats.gauge("server.concurrency").set(options.concurrency.into());
        Ok(Arc::new(Self {
            bootstrap,
            options,
            stats,
            plugins,
            slots,
            directory: Directory::default(),
            subscriptions,
            clusters,
            listeners,
            downstream_filters,
            upstream_filters,
            network_filters,
            discovers: AtomicBool::new(false),
            _ticker: ticker,
        }))
    }

    /// The main thread's VMs: they tick and answer their own calls, no requests.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn main_thread(self: &Arc<Self>) -> Result<Worker, StartError> {
        Worker::start(self, None)
    }

    /// A worker. Not `Send`: make it on its own thread.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn worker(self: &Arc<Self>, index: u32) -> Result<Worker, StartError> {
        Worker::start(self, Some(index))
    }

    /// Counters, gauges, histograms.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The plugins' shared data.
    #[must_use]
    pub fn shared_data(&self) -> &SharedData {
        &self.plugins.bases.data
    }

    /// The parsed file.
    #[must_use]
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// The options given at the start.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Clusters in file order.
    #[must_use]
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// The cluster of that name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.name() == name)
    }

    /// What the start has compiled, and what it has found compiled.
    #[must_use]
    pub fn module_loads(&self) -> ModuleLoads {
        let mut loads = ModuleLoads::default();
        let mut seen = HashSet::new();
        for plugin in self.slots.iter().filter_map(PluginSlot::current) {
            if seen.insert(plugin.code.hash) {
                *match plugin.code.source {
                    Source::Compiler => &mut loads.compiled,
                    Source::Disk => &mut loads.from_disk,
                    Source::Memory => &mut loads.from_memory,
                } += 1;
            }
        }
        loads
    }

    pub(crate) fn queues(&self) -> &SharedQueues {
        &self.plugins.bases.queues
    }

    pub(crate) fn listener(&self, index: usize) -> Option<&Listener> {
        self.listeners.get(index)
    }

    pub(crate) fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    pub(crate) fn slots(&self) -> &[PluginSlot] {
        &self.slots
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// True once.
    pub(crate) fn begins_discovery(&self) -> bool {
        !self.discovers.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn downstream_filters(&self) -> &[Vec<ChainFilter>] {
        &self.downstream_filters
    }

    pub(crate) fn network_filters(&self) -> &[Vec<ChainFilter>] {
        &self.network_filters
    }

    pub(crate) fn upstream_filters(&self) -> &[Vec<ChainFilter>] {
        &self.upstream_filters
    }
}

/// Builds chains, and numbers the places of plugins.
struct Loader<'a> {
    options: &'a EngineOptions,
    stats: &'a Stats,
    plugins: &'a Plugins,
    slots: Vec<PluginSlot>,
    subscriptions: Vec<Subscription>,
}

impl Loader<'_> {
    fn chain(&mut self, filters: &[HttpFilter]) -> Result<Vec<ChainFilter>, StartError> {
        let mut chain = Vec::new();
        for filter in filters {
            chain.push(match &filter.config {
                HttpFilterConfig::Wasm(config) => {
                    ChainFilter::Wasm(self.plugin(&filter.name, config, false)?)
                }
                HttpFilterConfig::Discovered(discovery) => {
                    ChainFilter::Wasm(self.discovered(&filter.name, discovery)?)
                }
                HttpFilterConfig::HeaderMutation(config) => {
                    let compiled = HeaderMutation::new(config).map_err(StartError::host)?;
                    ChainFilter::HeaderMutation(Arc::new(compiled))
                }
                HttpFilterConfig::LocalRateLimit(config) if config.per_downstream_connection => {
                    let what = "local_rate_limit_per_downstream_connection is not simulated";
                    return Err(StartError::host(format!("filter {:?}: {what}", filter.name)));
                }
                HttpFilterConfig::LocalRateLimit(config) => {
                    let compiled = LocalRateLimit::new(config, self.stats);
                    ChainFilter::LocalRateLimit(Arc::new(compiled.map_err(StartError::host)?))
                }
                HttpFilterConfig::StatefulSession(config) => {
                    ChainFilter::StatefulSession(Arc::new(config.clone()))
                }
                HttpFilterConfig::Router | HttpFilterConfig::UpstreamCodec => continue,
            });
        }
        Ok(chain)
    }

    fn plugin(
        &mut self,
        filter: &str,
        config: &PluginConfig,
        singleton: bool,
    ) -> Result<usize, StartError> {
        let plugin = self.plugins.load(config, self.options, singleton)?;
        self.slots.push(PluginSlot::new(filter, singleton, Some(plugin)));
        Ok(self.slots.len() - 1)
    }

    /// A place whose plugin comes from a file; equal names from one file are one subscription.
    fn discovered(
        &mut self,
        filter: &str,
        discovery: &ConfigDiscovery,
    ) -> Result<usize, StartError> {
        let default = discovery.default.as_deref();
        let load = |config: &PluginConfig| self.plugins.load(config, self.options, false);
        let default = default.map(load).transpose()?;
        let at = self.slots.len();
        self.slots.push(PluginSlot::new(filter, false, default));
        let path = match &self.options.base_dir {
            Some(base) => base.join(&discovery.path),
            None => discovery.path.clone(),
        };
        let same = |s: &&mut Subscription| s.filter == filter && s.path == path;
        match self.subscriptions.iter_mut().find(same) {
            Some(known) => known.slots.push(at),
            None => {
                let mut subscription = Subscription::new(filter, path, self.stats);
                subscription.slots.push(at);
                self.subscriptions.push(subscription);
            }
        }
        Ok(at)
    }
}

impl StartError {
    pub(crate) fn host(error: impl fmt::Display) -> Self {
        Self { plugin: String::new(), reason: error.to_string(), log: Vec::new() }
    }
}
