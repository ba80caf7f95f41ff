//! metric-router, circuit-breaker and health-signal: VMs that die while requests pass.
//!
//! Eight of twenty endpoints answer 503 at once. Whoever knows it dies, one module after the other, and
//! is started anew (`FAIL_RELOAD`). At most it has to be learned anew, which takes a request or two to
//! each broken endpoint; requests go on to the others.

use anyhow::{Result, ensure};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions, Fault};
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

/// Endpoints, and how many of them are broken.
const ENDPOINTS: usize = 20;
const BROKEN: usize = 8;

/// Requests in a row that must succeed before it is believed that the broken ones are known: round
/// robin would meet one of them with every third.
const PROOF: usize = 30;

/// Requests after a death of which it is counted how many met a broken endpoint.
const ROUND: usize = 100;

/// How many may: half of what round robin would send them. To learn anew which are broken takes a
/// request or two each; and endpoints that failed are asked again after some seconds, which a busy
/// machine lets pass.
const FEW: u64 = 20;

/// The header that names the cluster.
const CLUSTER: &str = "x-cluster";

/// The chain of the quick start, for the broken cluster and for a `quiet` one: requests there make the
/// proxy start a dead VM anew and teach it nothing about the other.
fn suite(endpoints: &[SocketAddr], quiet: SocketAddr, is_private: bool) -> Suite {
    let clusters = json!({"clusters": [{"name": "backend"}, {"name": "quiet"}]});
    let suite =
        Suite::new(endpoints).cluster_header(CLUSTER).cluster_of("quiet", &[quiet]).reloads();
    let modules = [
        ("metric-router", &clusters),
        ("circuit-breaker", &json!({})),
        ("health-signal", &clusters),
    ];
    if is_private {
        let add = |suite: Suite, (name, own): (&str, &serde_json::Value)| {
            suite.private_filter(name, own.clone())
        };
        modules.into_iter().fold(suite, add).private_upstream_health_signal()
    } else {
        let add =
            |suite: Suite, (name, own): (&str, &serde_json::Value)| suite.filter(name, own.clone());
        modules.into_iter().fold(suite, add).upstream_health_signal()
    }
}

async fn get(proxy: &Running, cluster: &str) -> Result<u16> {
    let request = Request::get(proxy.url("/")).header(CLUSTER, cluster);
    Ok(Client::new().send(request).await?.status)
}

/// Kills a VM, and waits until another is in its place. What that has to know of the broken cluster it
/// must know with its first request.
async fn kill(proxy: &Running, killer: &str) -> Result<()> {
    let plugin = killer.trim_start_matches("kill-").replace('-', "_");
    let metric = format!("envoy_wasm_{plugin}_vm_reload_success");
    let reloads = proxy.metric(&metric).await?.unwrap_or(0.0);
    let mut connection = TcpStream::connect(proxy.address(killer)).await?;
    // Whether it is reset or closed, when that comes the VM is dead.
    let _ = connection.read(&mut [0]).await;
    eventually("the VM has been replaced", async || {
        get(proxy, if plugin == "health_signal_upstream" { "backend" } else { "quiet" }).await?;
        Ok(proxy.metric(&metric).await?.unwrap_or(0.0) > reloads)
    })
    .await
}

/// Requests pass, and none meets a broken endpoint.
async fn they_are_known(proxy: &Running) -> Result<()> {
    let mut in_a_row = 0;
    eventually("the broken endpoints are known", async || {
        in_a_row = if get(proxy, "backend").await? == 200 { in_a_row + 1 } else { 0 };
        Ok(in_a_row >= PROOF)
    })
    .await
}

fn met(fleet: &Fleet) -> u64 {
    fleet.counters().iter().map(|own| own.failed).sum()
}

async fn deaths(host: &Host, is_private: bool) -> Result<()> {
    let fleet = Fleet::start(&EndpointOptions::named("e"), ENDPOINTS).await?;
    let quiet = Endpoint::start(EndpointOptions::named("quiet")).await?;
    let suite = suite(&fleet.addresses(), quiet.address(), is_private);
    // One worker: with it dies all that a worker may know.
    let proxy = Running::start_with(host, &suite.bootstrap(), NonZeroU32::MIN).await?;
    for endpoint in fleet.endpoints().iter().take(BROKEN) {
        endpoint.set_fault(Fault::respond(503));
    }
    // Whoever is a member was met, the broken ones too.
    eventually("all are members", async || {
        get(&proxy, "backend").await?;
        let members = proxy.metric_with("weir_members", &[("cluster", "backend")]).await?;
        Ok(members == Some(ENDPOINTS as f64))
    })
    .await?;
    they_are_known(&proxy).await?;
    let killers = suite.killers();
    ensure!(killers.len() == 4, "{killers:?}");
    let learning = met(&fleet);
    ensure!(learning >= BROKEN as u64, "not all were broken: {learning}");
    let mut after = Vec::new();
    // Twice each: what came back is killed again.
    for killer in killers.iter().chain(&killers) {
        kill(&proxy, killer).await?;
        let before = met(&fleet);
        for _ in 0..ROUND {
            get(&proxy, "backend").await?;
        }
        after.push((killer, met(&fleet) - before));
    }
    ensure!(
        after.iter().all(|(_, few)| *few <= FEW),
        "{learning}, then {after:?}\n{}",
        proxy.log()
    );
    Ok(())
}

on_both_hosts! {
    async fn broken_endpoints_get_little_though_vms_die(host: Host) {
        deaths(&host, false).await?;
    }

    async fn broken_endpoints_get_little_though_private_vms_die(host: Host) {
        deaths(&host, true).await?;
    }
}
