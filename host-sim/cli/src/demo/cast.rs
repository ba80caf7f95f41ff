//! Who plays: the endpoints and the clients, and what happens to them when.

use host_sim_rig::endpoint::{Cold, Endpoint, EndpointOptions};
use host_sim_rig::load::ClientProfile;
use host_sim_rig::service_time::ServiceTime;
use std::net::SocketAddr;
use std::time::Duration;

/// Names of the endpoints, in the order of the file.
pub(super) const NAMES: [&str; 5] = ["e1", "e2", "e3", "e4", "e5"];

/// This one is slow all the time.
pub(super) const SLOW: &str = "e1";

/// This one dies and comes back cold.
pub(super) const MORTAL: &str = "e5";

/// Mean service time of an endpoint that is well.
const SERVICE_TIME: Duration = Duration::from_millis(10);

/// How much slower the slow one is.
pub(super) const SLOW_FACTOR: f64 = 5.0;

/// How much slower the other one is when it has just come back, and for how long.
const COLD: Cold = Cold { factor: 6.0, duration: Duration::from_secs(3) };

/// When the mortal one dies and when it returns, as shares of the load's duration.
const DIES_AT: f64 = 0.35;
const RETURNS_AT: f64 = 0.6;

/// Clients that tell themselves apart by `x-client`. The first sends five times as much as each
/// other, which is more than the bucket of the file allows one client.
pub(super) fn clients() -> Vec<ClientProfile> {
    ClientProfile::population("x-client", 20, 5.0)
}

/// Starts the endpoints at these addresses.
pub(super) async fn endpoints(
    addresses: &[SocketAddr],
    seed: u64,
) -> anyhow::Result<Vec<Endpoint>> {
    let mut endpoints = Vec::with_capacity(addresses.len());
    for (name, address) in NAMES.iter().zip(addresses) {
        let endpoint = Endpoint::start(EndpointOptions {
            address: *address,
            slots: 8,
            service_time: ServiceTime::LogNormal { mean: SERVICE_TIME, cv: 0.5 },
            seed,
            keep_requests: 0,
            ..EndpointOptions::named(*name)
        })
        .await?;
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// Puts everyone where an arm begins.
pub(super) fn begin(endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        endpoint.recover();
        if endpoint.name() == SLOW {
            endpoint.set_slow_factor(SLOW_FACTOR);
        }
    }
}

/// Lets the mortal one die and return while the load runs.
pub(super) async fn fate(endpoints: &[Endpoint], duration: Duration) -> anyhow::Result<()> {
    let Some(mortal) = endpoints.iter().find(|endpoint| endpoint.name() == MORTAL) else {
        return Ok(());
    };
    let start = tokio::time::Instant::now();
    tokio::time::sleep_until(start + duration.mul_f64(DIES_AT)).await;
    mortal.kill().await?;
    tokio::time::sleep_until(start + duration.mul_f64(RETURNS_AT)).await;
    mortal.revive(Some(COLD)).await?;
    Ok(())
}
