//! Addresses of the names in a bootstrap's clusters: nobody is asked here.
//!
//! A scenario says what DNS would. Where nobody says anything a cluster would be empty, and every
//! request a 503 that does not tell why: a scenario is refused then, and traffic that the simulator
//! makes itself gets addresses made up for it.

use host_sim_engine::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Gives names the addresses that a scenario tells.
///
/// # Errors
/// When a name has none, or one is told that no cluster has.
pub(crate) fn tell(
    clusters: &[Arc<Cluster>],
    names: &BTreeMap<String, Vec<IpAddr>>,
) -> Result<(), String> {
    let mut unused: BTreeSet<&str> = names.keys().map(String::as_str).collect();
    for (cluster, index, host, port) in unresolved(clusters) {
        unused.remove(host);
        let addresses = match names.get(host) {
            Some(addresses) => addresses.as_slice(),
            None if host == "localhost" => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            None => {
                let mend = format!("write 'names: {{{host}: [127.0.0.1]}}'");
                return Err(format!("cluster {}: '{host}' has no address; {mend}", cluster.name()));
            }
        };
        let at = |ip: &IpAddr| SocketAddr::new(*ip, port);
        cluster.resolve(index, &addresses.iter().map(at).collect::<Vec<_>>());
    }
    let Some(name) = unused.first() else { return Ok(()) };
    Err(format!("names: no cluster has an endpoint called '{name}'"))
}

/// Gives each name an address of 198.18.0.0/15, the block set aside for benchmarks, and tells every
/// address of every cluster.
pub(crate) fn make_up(clusters: &[Arc<Cluster>]) -> Vec<SocketAddr> {
    let first = Ipv4Addr::new(198, 18, 0, 1).to_bits();
    for ((cluster, index, _, port), ip) in unresolved(clusters).zip(first..) {
        cluster.resolve(index, &[(Ipv4Addr::from_bits(ip), port).into()]);
    }
    clusters.iter().flat_map(|cluster| cluster.endpoints()).collect()
}

/// Endpoints that are names: cluster, position in it, name, port.
fn unresolved(
    clusters: &[Arc<Cluster>],
) -> impl Iterator<Item = (&Arc<Cluster>, usize, &str, u16)> {
    clusters.iter().flat_map(|cluster| {
        let endpoints = cluster.config().endpoints.iter().map(|endpoint| &endpoint.address);
        let named = endpoints.enumerate().filter(|(_, own)| own.to_socket_addr().is_none());
        named.map(move |(index, own)| (cluster, index, own.host.as_str(), own.port))
    })
}
