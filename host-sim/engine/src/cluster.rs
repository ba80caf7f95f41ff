//! A cluster at run time: its endpoints and the process-wide numbers that limit it.

use host_sim_bootstrap as bootstrap;
use std::net::SocketAddr;

/// A cluster and its state, shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    config: bootstrap::Cluster,
}

impl Cluster {
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

    /// Replaces the addresses of the file's endpoint number `index` (position in
    /// `config().endpoints`): how a driver reports what DNS says.
    pub fn resolve(&self, index: usize, addresses: &[SocketAddr]) {
        let _ = (index, addresses);
    }

    /// Marks an endpoint as failing or passing its active health check.
    pub fn set_health(&self, endpoint: SocketAddr, healthy: bool) {
        let _ = (endpoint, healthy);
    }
}
