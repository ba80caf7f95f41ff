//! What the root context and the streams of one VM have in common.

use crate::metrics::Metrics;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use health_signal_core::config::{Cluster, Mode};
use health_signal_core::{Config, FailureKind, Observer, Outcome};
use plugin_kit::Degraded;
use shared_state::{Endpoint, ReadError, UnixNanos, UpdateError, WorkerSlot};
use std::rc::Rc;

/// Most clusters that a `"*"` entry makes this VM watch. Names come from routes, but a
/// `cluster_header` route takes them from the client.
const MAX_CLUSTERS: usize = 64;

/// How long one named response proves that an upstream instance is there.
const NAMED_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) degraded: Degraded,
    pub(crate) slot: Cell<Option<WorkerSlot>>,
    watched: RefCell<Vec<Rc<Watched>>>,
}

/// One cluster, as this VM sees it.
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) config: Rc<Cluster>,
    observer: RefCell<Observer>,
    /// When a response last named its endpoint.
    named_at: Cell<UnixNanos>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        let shared = Self {
            metrics: Metrics::new(&config.name),
            degraded: Degraded::new(&config.name),
            slot: Cell::new(None),
            watched: RefCell::default(),
            config,
        };
        for cluster in &shared.config.clusters {
            if cluster.name != health_signal_core::config::ANY_CLUSTER {
                shared.watch(&cluster.name);
            }
        }
        shared
    }

    /// True unless the plugin is configured to do nothing at all.
    pub(crate) fn is_on(&self) -> bool {
        self.config.mode != Mode::Off
    }

    /// True if others may act on what this plugin finds.
    pub(crate) fn enforces(&self) -> bool {
        self.config.mode == Mode::Enforce
    }

    /// The cluster called `name`, if the configuration has an entry for it.
    pub(crate) fn watch(&self, name: &str) -> Option<Rc<Watched>> {
        let mut watched = self.watched.try_borrow_mut().ok()?;
        if let Some(cluster) = watched.iter().find(|cluster| cluster.name == name) {
            return Some(Rc::clone(cluster));
        }
        let config = self.config.cluster(name)?;
        if watched.len() >= MAX_CLUSTERS {
            self.degraded.note("too_many_clusters", format_args!("{name} is not watched"));
            return None;
        }
        let cluster = Rc::new(Watched {
            name: name.to_owned(),
            config: Rc::new(config.clone()),
            observer: RefCell::default(),
            named_at: Cell::new(UnixNanos::ZERO),
        });
        watched.push(Rc::clone(&cluster));
        Some(cluster)
    }

    pub(crate) fn clusters(&self) -> Vec<Rc<Watched>> {
        self.watched.try_borrow().map(|watched| watched.clone()).unwrap_or_default()
    }

    /// Counts an attempt at `endpoint`, and reports a failure without waiting for the tick.
    pub(crate) fn observe(
        &self,
        cluster: &Watched,
        endpoint: Endpoint,
        outcome: Outcome,
        now: UnixNanos,
    ) -> Option<FailureKind> {
        cluster.observing(|observer| observer.outcome(endpoint, outcome, now));
        let kind = outcome.failure()?;
        self.metrics.attempt_failed(&cluster.name, kind.name());
        if cluster.observing(|observer| observer.is_hasty(now)) {
            crate::worker::report(self, cluster, now);
        }
        Some(kind)
    }

    pub(crate) fn note_read(&self, error: ReadError, what: &str) {
        match error {
            ReadError::Corrupt(error) => {
                self.degraded.note("corrupt_record", format_args!("{what}: {error:?}"));
            }
            ReadError::Store(error) => {
                self.degraded.note("store_failed", format_args!("{what}: status {}", error.status));
            }
        }
    }

    pub(crate) fn note_update(&self, error: UpdateError, what: &str) {
        match error {
            UpdateError::Contended => self.degraded.note("contended", what),
            UpdateError::Store(error) => {
                self.degraded.note("store_failed", format_args!("{what}: status {}", error.status));
            }
        }
    }
}

impl Watched {
    /// Acts on what this VM sees of the cluster. Nobody else holds it: one VM runs one callback at
    /// a time. If somebody did, an observation would be lost, and not the VM.
    pub(crate) fn observing<T: Default>(&self, act: impl FnOnce(&mut Observer) -> T) -> T {
        self.observer.try_borrow_mut().map(|mut observer| act(&mut observer)).unwrap_or_default()
    }

    /// A response of this cluster named its endpoint: an upstream instance is there.
    pub(crate) fn named(&self, now: UnixNanos) {
        self.named_at.set(now);
    }

    /// True if an upstream instance counts the attempts of this cluster.
    pub(crate) fn has_upstream_instance(&self, now: UnixNanos) -> bool {
        let at = self.named_at.get();
        at != UnixNanos::ZERO && at <= now && now.since(at) < NAMED_FOR
    }
}
