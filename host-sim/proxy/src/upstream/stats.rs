//! Counters of upstream connections, under Envoy's names. Failures to connect are counted where
//! they are judged: in the engine.

use host_sim_engine::{Counter, Gauge, Stats};

/// Handles of one cluster.
#[derive(Clone)]
pub(crate) struct UpstreamStats {
    total: Counter,
    active: Gauge,
    destroyed: Counter,
    http1: Counter,
    http2: Counter,
    pub(super) max_requests: Counter,
    pub(super) idle_timeout: Counter,
}

/// Counts a connection as active while it lives.
pub(super) struct ActiveConnection(UpstreamStats);

impl UpstreamStats {
    /// Makes the stats, so that they show from the start.
    pub(crate) fn new(stats: &Stats, cluster: &str) -> Self {
        let counter = |name: &str| stats.counter(&format!("cluster.{cluster}.upstream_cx_{name}"));
        Self {
            total: counter("total"),
            active: stats.gauge(&format!("cluster.{cluster}.upstream_cx_active")),
            destroyed: counter("destroy"),
            http1: counter("http1_total"),
            http2: counter("http2_total"),
            max_requests: counter("max_requests"),
            idle_timeout: counter("idle_timeout"),
        }
    }

    /// Counts a connection that carries bytes and is about to be made.
    pub(super) fn opened_bytes(&self) -> ActiveConnection {
        self.total.inc();
        self.active.add(1);
        ActiveConnection(self.clone())
    }

    /// Counts a connection that is about to be made.
    pub(super) fn opened(&self, http2: bool) -> ActiveConnection {
        self.total.inc();
        self.active.add(1);
        if http2 {
            self.http2.inc()
        } else {
            self.http1.inc()
        }
        ActiveConnection(self.clone())
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.0.active.add(-1);
        self.0.destroyed.inc();
    }
}
