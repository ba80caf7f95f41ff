//! Names of DNS clusters, resolved by the system.

use host_sim_bootstrap::{Discovery, DnsLookupFamily};
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
    family: DnsLookupFamily,
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
        let mut addresses = of_family(self.family, found.collect());
        if self.first_only {
            addresses.truncate(1);
        }
        addresses.dedup();
        self.cluster.resolve(self.index, &addresses);
    }
}

/// The addresses that count, in the order the system gave them.
fn of_family(family: DnsLookupFamily, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v4, v6) = (found.iter().any(SocketAddr::is_ipv4), found.iter().any(SocketAddr::is_ipv6));
    match family {
        DnsLookupFamily::All => {}
        DnsLookupFamily::V4Only => found.retain(SocketAddr::is_ipv4),
        DnsLookupFamily::V6Only => found.retain(SocketAddr::is_ipv6),
        DnsLookupFamily::V4Preferred if v4 => found.retain(SocketAddr::is_ipv4),
        DnsLookupFamily::Auto if v6 => found.retain(SocketAddr::is_ipv6),
        DnsLookupFamily::V4Preferred | DnsLookupFamily::Auto => {}
    }
    found
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
                let (cluster, family) = (live.clone(), cluster.dns_lookup_family);
                names.push(Name { cluster, index, host, port, refresh, family, first_only });
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_family_decides_which_addresses_count() {
        let both: Vec<SocketAddr> =
            ["127.0.0.1:1", "[::1]:1"].map(|text| text.parse().unwrap()).to_vec();
        let [v4, v6] = [vec![both[0]], vec![both[1]]];
        let of = |family| of_family(family, both.clone());
        assert_eq!(of(DnsLookupFamily::All), both);
        assert_eq!(
            (of(DnsLookupFamily::V4Only), of(DnsLookupFamily::V6Only)),
            (v4.clone(), v6.clone())
        );
        assert_eq!((of(DnsLookupFamily::V4Preferred), of(DnsLookupFamily::Auto)), (v4.clone(), v6));
        assert_eq!(of_family(DnsLookupFamily::Auto, v4.clone()), v4);
        assert_eq!(of_family(DnsLookupFamily::V6Only, v4), []);
    }
}
