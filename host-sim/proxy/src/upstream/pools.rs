//! All pools of one worker.

use super::connect::Dialer;
use super::pool::Pool;
use super::stats::UpstreamStats;
use crate::ProxyError;
use crate::tls::ClientTls;
use host_sim_bootstrap::UpstreamProtocol;
use host_sim_engine::{Cluster, Engine};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// What connections to each cluster need, by name; shared by all workers.
pub(crate) type ClusterTransports = HashMap<String, ClusterTransport>;

/// How a cluster's endpoints are reached.
#[derive(Clone)]
pub(crate) struct ClusterTransport {
    tls: Option<ClientTls>,
    stats: UpstreamStats,
}

/// A worker's pools.
pub(crate) struct Upstreams {
    transports: Arc<ClusterTransports>,
    /// By the cluster's address: it lives as long as the engine.
    pools: RefCell<HashMap<(usize, SocketAddr), Rc<Pool>>>,
}

impl Upstreams {
    /// Reads the clusters' certificates.
    pub(crate) fn transports(
        engine: &Engine,
        base: Option<&Path>,
    ) -> Result<ClusterTransports, ProxyError> {
        let mut transports = ClusterTransports::new();
        for cluster in &engine.bootstrap().clusters {
            if cluster.http.protocol == UpstreamProtocol::SameAsDownstream {
                return Err(ProxyError::Unsupported {
                    place: format!("cluster {:?}", cluster.name),
                    reason: "the live proxy has no use_downstream_protocol_config; \
                             write explicit_http_config"
                        .to_owned(),
                });
            }
            let tls = ClientTls::of(cluster, base)?;
            let stats = UpstreamStats::new(engine.stats(), &cluster.stat_name);
            transports.insert(cluster.name.clone(), ClusterTransport { tls, stats });
        }
        Ok(transports)
    }

    /// No pools yet.
    pub(crate) fn new(transports: Arc<ClusterTransports>) -> Self {
        Self { transports, pools: RefCell::default() }
    }

    /// The pool of an endpoint; `None` for a cluster that the file does not have.
    pub(super) fn pool(&self, cluster: &Arc<Cluster>, endpoint: SocketAddr) -> Option<Rc<Pool>> {
        let key = (Arc::as_ptr(cluster).addr(), endpoint);
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(&key) {
            return Some(pool.clone());
        }
        let transport = self.transports.get(cluster.name())?.clone();
        let dialer = Dialer { endpoint, tls: transport.tls, stats: transport.stats };
        let http = &cluster.config().http;
        let pool = Rc::new(Pool::new(dialer, http.protocol, http.common, http.http2));
        pools.insert(key, pool.clone());
        Some(pool)
    }

    /// How to reach an endpoint without a pool: for connections that carry bytes.
    pub(crate) fn dialer(&self, cluster: &Cluster, endpoint: SocketAddr) -> Option<Dialer> {
        let transport = self.transports.get(cluster.name())?.clone();
        Some(Dialer { endpoint, tls: transport.tls, stats: transport.stats })
    }

    /// Closes idle connections in time, and forgets endpoints that are no longer used.
    pub(crate) async fn sweep(&self) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            // A pool that somebody else holds is about to be used.
            self.pools.borrow_mut().retain(|_, pool| !pool.expire() || Rc::strong_count(pool) > 1);
        }
    }
}

/// How late an idle connection may close. Envoy's idle timeouts are minutes to hours.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
