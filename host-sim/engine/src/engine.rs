//! What all workers share: compiled modules, shared data, stats, clusters, the parsed bootstrap.

use crate::{
    AccessLogSink, Clock, Cluster, Discard, LogSink, SharedData, Stats, SystemClock, Worker,
};
use host_sim_bootstrap::Bootstrap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Process-wide state. Make one per configuration, then one [`Worker`] per thread.
pub struct Engine {
    bootstrap: Bootstrap,
    options: EngineOptions,
    stats: Stats,
    shared_data: SharedData,
    clusters: Vec<Arc<Cluster>>,
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
    /// Reserved for compiled code on disk. Loading such files is `unsafe` in wasmtime, which this
    /// crate denies: modules are compiled once a process and kept in memory.
    pub cache_dir: Option<PathBuf>,
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
            cache_dir: None,
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
        Ok(Arc::new(Self {
            bootstrap,
            options,
            stats: Stats::default(),
            shared_data: SharedData::default(),
            clusters: Vec::new(),
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
        &self.shared_data
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
}
