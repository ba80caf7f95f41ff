//! Counters of downstream connections, under Envoy's names.

use host_sim_engine::{Counter, Gauge, Stats};
use std::net::SocketAddr;

/// Handles of one listener and its connection manager.
#[derive(Clone)]
pub(crate) struct DownstreamStats {
    total: Vec<Counter>,
    destroyed: Vec<Counter>,
    active: Vec<Gauge>,
    tls: Counter,
    tls_active: Gauge,
    handshakes: Counter,
    handshake_errors: Counter,
    http1: Counter,
    http2: Counter,
}

/// Counts a connection as active while it lives.
pub(super) struct ActiveConnection {
    stats: DownstreamStats,
    tls: bool,
}

impl DownstreamStats {
    /// Makes the stats, so that they show from the start.
    pub(super) fn new(stats: &Stats, address: SocketAddr, prefix: Option<&str>) -> Self {
        let address = address.to_string().replace(':', "_");
        // A listener that carries bytes has no connection manager to count for.
        let http = |name: &str| prefix.map(|prefix| format!("http.{prefix}.{name}"));
        let both = |name: &str| {
            let listener = format!("listener.{address}.{name}");
            std::iter::once(listener).chain(http(name))
        };
        let counters = |name| both(name).map(|name| stats.counter(&name)).collect();
        let counter = |name| http(name).map_or_else(Counter::default, |name| stats.counter(&name));
        let gauge = |name| http(name).map_or_else(Gauge::default, |name| stats.gauge(&name));
        Self {
            total: counters("downstream_cx_total"),
            destroyed: counters("downstream_cx_destroy"),
            active: both("downstream_cx_active").map(|name| stats.gauge(&name)).collect(),
            tls: counter("downstream_cx_ssl_total"),
            tls_active: gauge("downstream_cx_ssl_active"),
            handshakes: stats.counter(&format!("listener.{address}.ssl.handshake")),
            handshake_errors: stats.counter(&format!("listener.{address}.ssl.connection_error")),
            http1: counter("downstream_cx_http1_total"),
            http2: counter("downstream_cx_http2_total"),
        }
    }

    pub(super) fn opened(&self, tls: bool) -> ActiveConnection {
        self.total.iter().for_each(Counter::inc);
        self.active.iter().for_each(|gauge| gauge.add(1));
        if tls {
            self.tls.inc();
            self.tls_active.add(1);
        }
        ActiveConnection { stats: self.clone(), tls }
    }

    pub(super) fn handshake(&self, succeeded: bool) {
        if succeeded { self.handshakes.inc() } else { self.handshake_errors.inc() }
    }

    pub(super) fn protocol(&self, http2: bool) {
        if http2 { self.http2.inc() } else { self.http1.inc() }
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.stats.destroyed.iter().for_each(Counter::inc);
        self.stats.active.iter().for_each(|gauge| gauge.add(-1));
        if self.tls {
            self.stats.tls_active.add(-1);
        }
    }
}
