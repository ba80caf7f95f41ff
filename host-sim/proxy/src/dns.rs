//! Names of DNS clusters, resolved by the system.

use host_sim_bootstrap::Discovery;
use host_sim_engine::{Cluster, Engine};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

/// How long the start waits for first answers. A name that does not resolve leaves its cluster
/// empty, which is not a reason to refuse to serve the others.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// An endpoint to look up.
struct Name {
    cluster: Arc<Cluster>,
    index: usize,
    host: String,
    port: u16,
    refresh: Duration,
    first_only: bool,
}

/// Looks every name up once, then keeps them fresh on the current event loop.
pub(crate) async fn start(engine: &Engine) {
    let mut first = Vec::new();
    for name in names(engine) {
        let (answered, answer) = tokio::sync::oneshot::channel();
        first.push(answer);
        tokio::task::spawn_local(async move {
            name.resolve().await;
            // The start may have given up on us.
            let _ = answered.send(());
            loop {
                sleep(name.refresh).await;
                name.resolve().await;
            }
        });
    }
    let all = async {
        for answer in first {
            // A task that is gone has been stopped with the proxy.
            let _ = answer.await;
        }
    };
    // Late answers are taken when they come.
    let _ = timeout(FIRST_ANSWER, all).await;
}

impl Name {
    /// Takes an answer; a failed look-up keeps the last one, as Envoy does.
    async fn resolve(&self) {
        let Ok(found) = lookup_host((self.host.as_str(), self.port)).await else { return };
        let mut addresses: Vec<SocketAddr> = found.collect();
        if self.first_only {
            addresses.truncate(1);
        }
        addresses.dedup();
        self.cluster.resolve(self.index, &addresses);
    }
}

fn names(engine: &Engine) -> Vec<Name> {
    let mut names = Vec::new();
    for cluster in &engine.bootstrap().clusters {
        let (refresh, first_only) = match cluster.discovery {
            Discovery::StrictDns { refresh_rate } => (refresh_rate, false),
            Discovery::LogicalDns { refresh_rate } => (refresh_rate, true),
            Discovery::Static | Discovery::OriginalDst { .. } => continue,
        };
        let Some(live) = engine.cluster(&cluster.name) else { continue };
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            // An IP address is its own answer, and the engine has it.
            if endpoint.address.to_socket_addr().is_none() {
                let (host, port) = (endpoint.address.host.clone(), endpoint.address.port);
                names.push(Name { cluster: live.clone(), index, host, port, refresh, first_only });
            }
        }
    }
    names
}
