//! What the root context and the streams of one VM have in common.

use crate::destination::{Compass, Destination};
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
    /// When this VM last ticked, or was configured: now, as far as a quarter of a second does not matter.
    ticked_at: Cell<UnixNanos>,
    /// Every cluster that was lately used has an upstream instance.
    all_counted: Cell<bool>,
    pub(crate) compass: Compass,
    /// Reports that are accepted and not counted yet, and whether one was since the last tick.
    uncounted: Cell<u64>,
    has_counted: Cell<bool>,
}

/// One cluster, as this VM sees it.
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) config: Rc<Cluster>,
    observer: RefCell<Observer>,
    /// When a response last named its endpoint.
    named_at: Cell<UnixNanos>,
    /// When a response last came.
    used_at: Cell<UnixNanos>,
    /// When this upstream instance last named itself.
    vouched_at: Cell<UnixNanos>,
}

impl Shared {
    pub(crate) fn new(config: Config, now: UnixNanos) -> Self {
        let shared = Self {
            metrics: Metrics::new(&config.name),
            degraded: Degraded::new(&config.name),
            slot: Cell::new(None),
            watched: RefCell::default(),
            ticked_at: Cell::new(now),
            all_counted: Cell::new(false),
            compass: Compass::new(config.position),
            uncounted: Cell::new(0),
            has_counted: Cell::new(false),
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
            used_at: Cell::new(UnixNanos::ZERO),
            vouched_at: Cell::new(UnixNanos::ZERO),
        });
        watched.push(Rc::clone(&cluster));
        Some(cluster)
    }

    /// Where the request went whose callback runs.
    pub(crate) fn destination(&self) -> Option<Destination> {
        self.compass.destination()
    }

    /// A tick: how things are until the next one.
    pub(crate) fn ticked(&self, now: UnixNanos) {
        self.ticked_at.set(now);
        self.compass.tick();
        let uncounted = self.uncounted.take();
        if uncounted > 0 {
            self.metrics.orca_accepted.add(uncounted);
        }
        self.has_counted.set(false);
        let clusters = self.clusters();
        let mut used = clusters.iter().filter(|cluster| {
            let at = cluster.used_at.get();
            at != UnixNanos::ZERO && at <= now && now.since(at) < NAMED_FOR
        });
        let counted = |cluster: &Rc<Watched>| cluster.has_upstream_instance(now);
        self.all_counted.set(used.next().is_some_and(counted) && used.all(counted));
    }

    /// Counts a report that was accepted: the first at once, those that follow with the next tick.
    pub(crate) fn count_report(&self) {
        if self.has_counted.replace(true) {
            self.uncounted.set(self.uncounted.get().saturating_add(1));
        } else {
            self.metrics.orca_accepted.add(1);
        }
    }

    /// When this VM last ticked.
    pub(crate) fn ticked_at(&self) -> UnixNanos {
        self.ticked_at.get()
    }

    /// True if upstream instances count all attempts, so that nothing needs to be measured here.
    pub(crate) fn is_all_counted(&self) -> bool {
        self.all_counted.get()
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

    /// A response of this cluster came.
    pub(crate) fn used(&self, now: UnixNanos) {
        self.used_at.set(now);
    }

    /// Whether this upstream instance is to name itself: once a second is enough to be known.
    pub(crate) fn is_to_vouch(&self, now: UnixNanos) -> bool {
        let at = self.vouched_at.get();
        let due = at > now || now.since(at) >= Duration::from_secs(1);
        if due {
            self.vouched_at.set(now);
        }
        due
    }

    /// True if an upstream instance counts the attempts of this cluster.
    pub(crate) fn has_upstream_instance(&self, now: UnixNanos) -> bool {
        let at = self.named_at.get();
        at != UnixNanos::ZERO && at <= now && now.since(at) < NAMED_FOR
    }
}
