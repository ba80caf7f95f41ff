//! The clusters of one worker.

use crate::worker::Worker;
use crate::{Cluster, Config, Mode, Note};
use core::time::Duration;
use shared_state::{SharedStore, UnixNanos};

/// Clusters that are followed at most. With `*` a name comes with a request; a route may let the
/// client choose it, and nothing a client can name may grow without bound.
pub const MAX_CLUSTERS: usize = 256;

/// Number of a cluster, valid for the life of its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(usize);

/// Everything one worker knows.
#[derive(Debug)]
pub struct Router {
    config: Config,
    clusters: Vec<Cluster>,
    worker: Worker,
}

impl Router {
    /// A worker that has seen nothing. Clusters that the configuration names are followed from the
    /// beginning, those that fall under `*` from their first request.
    pub fn new(config: Config, now: UnixNanos) -> Self {
        let most = config.steering.max_endpoints;
        let named = config.clusters.iter().filter(|_| config.mode != Mode::Off);
        let named = named.filter(|entry| entry.name != "*");
        let clusters =
            named.map(|entry| Cluster::new(&entry.name, entry.clone(), most, now)).collect();
        Self { clusters, worker: Worker::default(), config }
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How often [`Router::tick`] wants to be called.
    pub fn tick_period(&self) -> Duration {
        self.config.tick_period()
    }

    /// The cluster called `name`, if it is followed.
    pub fn find(&self, name: &str) -> Option<ClusterId> {
        self.clusters.iter().position(|cluster| cluster.name == name).map(ClusterId)
    }

    /// Begins to follow the cluster called `name`, which the proxy has confirmed to exist. `None`
    /// if the configuration has no entry for it, or there are too many.
    pub fn follow(&mut self, name: &str, now: UnixNanos) -> Option<ClusterId> {
        if let Some(found) = self.find(name) {
            return Some(found);
        }
        let entry = self.config.cluster(name)?;
        if self.clusters.len() >= MAX_CLUSTERS {
            return None;
        }
        let most = self.config.steering.max_endpoints;
        let cluster = Cluster::new(name, entry.clone(), most, now);
        self.clusters.push(cluster);
        Some(ClusterId(self.clusters.len() - 1))
    }

    /// The cluster with this number.
    pub fn cluster(&mut self, id: ClusterId) -> Option<&mut Cluster> {
        self.clusters.get_mut(id.0)
    }

    /// All clusters.
    pub fn clusters(&mut self) -> impl Iterator<Item = &mut Cluster> {
        self.clusters.iter_mut()
    }

    /// Does what is due: renews the worker's slot, tells what changed, rebuilds snapshots. `draw`
    /// decides where new schedules begin.
    pub fn tick(&mut self, store: &impl SharedStore, now: UnixNanos, draw: u64) {
        let has_news = self.clusters.iter().any(Cluster::has_news);
        let mut clusters =
            self.clusters.iter_mut().filter(|cluster| cluster.is_due(now)).peekable();
        if let Some(first) = clusters.peek_mut() {
            self.worker.refresh(store, has_news, now, &mut first.notes);
        }
        for cluster in clusters {
            cluster.publish(store, &self.worker, now);
            cluster.refresh(store, &self.worker, now, draw);
        }
    }

    /// What went wrong since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.clusters.iter_mut().flat_map(Cluster::take_notes).collect()
    }
}
