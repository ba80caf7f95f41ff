//! A cluster at run time: its endpoints and the process-wide numbers that limit it.
//!
//! The host set is an immutable snapshot behind a version number: workers keep the snapshot they
//! balance over and look for a new one only when the version has moved. Requests in flight are
//! counted on the endpoint itself, across workers, because that is what `least_request` and the
//! circuit-breaker thresholds of Envoy read.

use crate::load_balancer::Host;
use crate::stats::{Counter, Gauge};
use crate::{Histogram, Stats};
use host_sim_bootstrap::{self as bootstrap, Discovery, HealthStatus};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A cluster and its state, shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    config: bootstrap::Cluster,
    index: usize,
    hosts: Mutex<Arc<HostSet>>,
    version: AtomicU64,
    /// In flight. One number each: no route that is simulated has another priority than DEFAULT.
    requests: AtomicU64,
    retries: AtomicU64,
    pub(crate) stats: ClusterStats,
    /// Counters of status codes, looked up when a code first occurs.
    codes: Box<[OnceLock<Counter>]>,
}

/// An endpoint and what is in flight to it.
#[derive(Debug)]
pub(crate) struct LiveHost {
    pub(crate) address: SocketAddr,
    weight: u32,
    configured: HealthStatus,
    /// What active health checks said last.
    failing: AtomicBool,
    pub(crate) active: AtomicU64,
}

/// The members of a cluster at one moment.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    pub(crate) hosts: Vec<Arc<LiveHost>>,
    /// Which configured endpoint each member stands for.
    origins: Vec<usize>,
}

macro_rules! cluster_stats {
    ($($field:ident: $kind:ty = $name:literal via $method:ident;)+) => {
        /// Envoy's stats of a cluster, as far as they mean something here.
        #[derive(Debug)]
        pub(crate) struct ClusterStats {
            prefix: String,
            $(pub(crate) $field: $kind,)+
        }

        impl ClusterStats {
            fn new(stats: &Stats, name: &str) -> Self {
                let prefix = format!("cluster.{name}.");
                Self {
                    $($field: stats.$method(&format!("{prefix}{}", $name)),)+
                    prefix,
                }
            }
        }
    };
}

cluster_stats! {
    rq_total: Counter = "upstream_rq_total" via counter;
    rq_active: Gauge = "upstream_rq_active" via gauge;
    rq_completed: Counter = "upstream_rq_completed" via counter;
    rq_2xx: Counter = "upstream_rq_2xx" via counter;
    rq_3xx: Counter = "upstream_rq_3xx" via counter;
    rq_4xx: Counter = "upstream_rq_4xx" via counter;
    rq_5xx: Counter = "upstream_rq_5xx" via counter;
    rq_retry: Counter = "upstream_rq_retry" via counter;
    rq_retry_success: Counter = "upstream_rq_retry_success" via counter;
    rq_retry_overflow: Counter = "upstream_rq_retry_overflow" via counter;
    rq_retry_limit_exceeded: Counter = "upstream_rq_retry_limit_exceeded" via counter;
    rq_timeout: Counter = "upstream_rq_timeout" via counter;
    rq_per_try_timeout: Counter = "upstream_rq_per_try_timeout" via counter;
    rq_rx_reset: Counter = "upstream_rq_rx_reset" via counter;
    rq_tx_reset: Counter = "upstream_rq_tx_reset" via counter;
    rq_pending_overflow: Counter = "upstream_rq_pending_overflow" via counter;
    rq_time: Histogram = "upstream_rq_time" via histogram;
    cx_connect_fail: Counter = "upstream_cx_connect_fail" via counter;
    cx_connect_timeout: Counter = "upstream_cx_connect_timeout" via counter;
    cx_none_healthy: Counter = "upstream_cx_none_healthy" via counter;
    membership_total: Gauge = "membership_total" via gauge;
    membership_healthy: Gauge = "membership_healthy" via gauge;
}

impl Cluster {
    pub(crate) fn new(config: bootstrap::Cluster, index: usize, stats: &Stats) -> Self {
        let stats = ClusterStats::new(stats, &config.stat_name);
        let cluster = Self {
            config,
            index,
            hosts: Mutex::default(),
            version: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            stats,
            codes: (0..600).map(|_| OnceLock::new()).collect(),
        };
        for (at, endpoint) in cluster.config.endpoints.iter().enumerate() {
            if let Some(address) = endpoint.address.to_socket_addr() {
                cluster.resolve(at, &[address]);
            }
        }
        cluster
    }

    /// As the file has it: TLS, protocol, timeouts.
    #[must_use]
    pub fn config(&self) -> &bootstrap::Cluster {
        &self.config
    }

    /// Name of the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Position in the file.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Replaces the addresses of the file's endpoint number `index` (position in
    /// `config().endpoints`): how a driver reports what DNS says. Known addresses keep their
    /// health and their requests in flight.
    pub fn resolve(&self, index: usize, addresses: &[SocketAddr]) {
        let Some(endpoint) = self.config.endpoints.get(index) else { return };
        let first = matches!(self.config.discovery, Discovery::LogicalDns { .. });
        let addresses = if first { addresses.get(..1).unwrap_or_default() } else { addresses };
        let mut current = self.lock();
        let mut next = HostSet::default();
        for (host, origin) in current.hosts.iter().zip(&current.origins) {
            if *origin < index {
                next.push(host.clone(), *origin);
            }
        }
        for address in addresses {
            let known = current.hosts.iter().find(|host| host.address == *address);
            let host = known.cloned().unwrap_or_else(|| LiveHost::new(*address, endpoint));
            if !next.hosts.iter().any(|member| member.address == *address) {
                next.push(host, index);
            }
        }
        for (host, origin) in current.hosts.iter().zip(&current.origins) {
            if *origin > index {
                next.push(host.clone(), *origin);
            }
        }
        *current = Arc::new(next);
        self.changed(&current);
    }

    /// Marks an endpoint as failing or passing its active health check.
    pub fn set_health(&self, endpoint: SocketAddr, healthy: bool) {
        let current = self.lock();
        for host in current.hosts.iter().filter(|host| host.address == endpoint) {
            host.failing.store(!healthy, Ordering::Relaxed);
        }
        self.changed(&current);
    }

    /// Addresses of all members, healthy or not.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.lock().hosts.iter().map(|host| host.address).collect()
    }

    /// Members with what balancing sees of them: health, weight, requests in flight.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        self.lock().hosts.iter().map(|host| host.view()).collect()
    }

    /// Number of members, healthy or not: the attribute `upstream.num_endpoints`.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.lock().hosts.len()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot(&self) -> Arc<HostSet> {
        self.lock().clone()
    }

    /// Whether the thresholds let one more request through.
    pub(crate) fn has_room(&self) -> bool {
        self.requests.load(Ordering::Relaxed) < u64::from(self.thresholds().max_requests)
    }

    /// Whether the thresholds let one more retry through.
    pub(crate) fn has_retry_room(&self) -> bool {
        self.retries.load(Ordering::Relaxed) < u64::from(self.thresholds().max_retries)
    }

    pub(crate) fn count_request(&self, retry: bool, begins: bool) {
        step(&self.requests, begins);
        if retry {
            step(&self.retries, begins);
        }
        self.stats.rq_active.add(if begins { 1 } else { -1 });
    }

    /// Counts a response by its class and by its code, `upstream_rq_503`.
    pub(crate) fn count_status(&self, stats: &Stats, status: u16) {
        self.stats.rq_completed.inc();
        if let Some(slot) = self.codes.get(usize::from(status)) {
            let name = || format!("{}upstream_rq_{status}", self.stats.prefix);
            slot.get_or_init(|| stats.counter(&name())).inc();
        }
        match status / 100 {
            2 => self.stats.rq_2xx.inc(),
            3 => self.stats.rq_3xx.inc(),
            4 => self.stats.rq_4xx.inc(),
            5 => self.stats.rq_5xx.inc(),
            _ => {}
        }
    }

    fn thresholds(&self) -> &bootstrap::Thresholds {
        &self.config.circuit_breakers.default
    }

    fn changed(&self, hosts: &HostSet) {
        let healthy = hosts.hosts.iter().filter(|h| h.view().health == HealthStatus::Healthy);
        self.stats.membership_total.set(hosts.hosts.len() as u64);
        self.stats.membership_healthy.set(healthy.count() as u64);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<HostSet>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostSet {
    fn push(&mut self, host: Arc<LiveHost>, origin: usize) {
        self.hosts.push(host);
        self.origins.push(origin);
    }
}

impl LiveHost {
    pub(crate) fn new(address: SocketAddr, endpoint: &bootstrap::Endpoint) -> Arc<Self> {
        Arc::new(Self {
            address,
            weight: endpoint.weight,
            configured: endpoint.health,
            failing: AtomicBool::new(false),
            active: AtomicU64::new(0),
        })
    }

    /// A host the request itself named (ORIGINAL_DST).
    pub(crate) fn original(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            weight: 1,
            configured: HealthStatus::Healthy,
            failing: AtomicBool::new(false),
            active: AtomicU64::new(0),
        })
    }

    pub(crate) fn view(&self) -> Host {
        let failing = self.failing.load(Ordering::Relaxed);
        Host {
            address: self.address,
            weight: self.weight,
            health: if failing { HealthStatus::Unhealthy } else { self.configured },
            active_requests: self.active.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn count(&self, begins: bool) {
        step(&self.active, begins);
    }
}

fn step(number: &AtomicU64, up: bool) {
    if up {
        number.fetch_add(1, Ordering::Relaxed);
    } else {
        number.fetch_sub(1, Ordering::Relaxed);
    }
}
