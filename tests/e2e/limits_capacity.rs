//! token-bucket: a rate that follows what health-signal knows of the cluster.

use anyhow::{Context, Result};
use host_sim_rig::endpoint::{EndpointOptions, Fault, LoadReport, ReportSource};
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use std::net::SocketAddr;
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

/// Four million tokens, none of which comes again within a test.
async fn protected(host: &Host, endpoints: &[SocketAddr], target: Option<f64>) -> Result<Running> {
    let addresses: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    Suite::new(endpoints)
        .filter(
            "token-bucket",
            json!({"ratelimit_headers": "always", "policies": [{
                "name": "protect",
                "capacity": {"cluster": "backend", "min_percent": 10, "endpoints": addresses,
                             "target_utilization": target},
                "token_bucket": {"max_tokens": 4_000_000, "tokens_per_fill": 1, "fill_interval": "60s"},
            }]}),
        )
        .filter(
            "health-signal",
            json!({"publish_interval": "0.1s", "clusters": [{
                "name": "backend",
                "endpoints": addresses,
                "active": {"kind": "http_json", "path": "/healthz", "interval": "1s",
                           "timeout": "0.9s", "min_timeout": "0.9s", "rise": 1, "fall": 1},
            }]}),
        )
        .start(host)
        .await
}

/// What the bucket says to be left.
async fn left(proxy: &Running) -> Result<u32> {
    let response = proxy.get("/").await?;
    let told = response.header("ratelimit").unwrap_or_default();
    let left = told.split("r=").nth(1).and_then(|rest| rest.split(';').next());
    Ok(left.unwrap_or_default().parse()?)
}

async fn until_left(
    proxy: &Running,
    what: &str,
    within: std::ops::RangeInclusive<u32>,
) -> Result<()> {
    let mut last = 0;
    eventually(what, async || {
        last = left(proxy).await?;
        Ok(within.contains(&last))
    })
    .await
    .with_context(|| format!("{last} are left"))
}

on_both_hosts! {
    async fn a_bucket_holds_the_share_that_its_cluster_has_of_its_endpoints(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = protected(&host, &fleet.addresses(), None).await?;
        until_left(&proxy, "all of it", 3_900_000..=4_000_000).await?;
        let sick = &fleet.endpoints()[1];
        sick.set_health_fault(Fault::respond(503));
        until_left(&proxy, "half of it: one of two is down", 1_900_000..=2_000_000).await?;
        fleet.endpoints()[0].set_degraded(true);
        until_left(&proxy, "an eighth: the other is degraded", 400_000..=500_000).await?;
        sick.set_health_fault(Fault::None);
        fleet.endpoints()[0].set_degraded(false);
        until_left(&proxy, "all of it again", 3_900_000..=4_000_000).await?;
        assert_eq!(proxy.metric("weir_degraded_total").await?.unwrap_or(0.0), 0.0);
    }
    async fn a_bucket_holds_less_while_an_endpoint_reports_more_load_than_the_target(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let report = |utilization| {
            let report =
                LoadReport { application_utilization: Some(utilization), ..LoadReport::default() };
            fleet.endpoints()[0].set_report(ReportSource::Fixed(report));
        };
        report(0.4);
        let proxy = protected(&host, &fleet.addresses(), Some(0.8)).await?;
        until_left(&proxy, "all of it", 3_900_000..=4_000_000).await?;
        report(1.6);
        until_left(&proxy, "less, and in the end half of it", 1_900_000..=2_400_000).await?;
        report(0.4);
        until_left(&proxy, "most of it again", 3_600_000..=4_000_000).await?;
        assert_eq!(proxy.metric("weir_degraded_total").await?.unwrap_or(0.0), 0.0);
    }
}
