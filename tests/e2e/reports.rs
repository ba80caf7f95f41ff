//! metric-router: where others send most of what the endpoints get, it goes by what they report.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Running, Suite, eventually, on_both_hosts};

const SECRET: &str = "0123456789abcdef";

/// Requests of a round through the proxy.
const ROUND: usize = 20;

/// Why so many requests went where they went. Before each of them, each of these endpoints gets some
/// from elsewhere.
async fn explanations(
    proxy: &Running,
    client: &Client,
    elsewhere: &[Endpoint],
) -> anyhow::Result<Vec<String>> {
    let mut explanations = Vec::new();
    for _ in 0..ROUND {
        for endpoint in elsewhere.iter().flat_map(|endpoint| [endpoint; 3]) {
            client.send(Request::get(endpoint.url("/"))).await?;
        }
        let request = Request::get(proxy.url("/")).header("x-filter-debug", SECRET);
        let response = client.send(request).await?;
        assert_eq!(response.status, 200);
        explanations.extend(response.header("x-metric-router-pick").map(str::to_owned));
    }
    Ok(explanations)
}

fn count(explanations: &[String], what: &str) -> usize {
    explanations.iter().filter(|text| text.contains(what)).count()
}

on_both_hosts! {
    // The upstream instance spares the others the clock: it must not make reports look old.
    async fn a_proxy_that_sees_a_slice_of_the_traffic_goes_by_reports_beside_an_upstream_instance(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 4).await?;
        let router = json!({
            "debug_header": {"enabled": true, "secret": SECRET},
            "clusters": [{
                "name": "backend",
                "learn": {"verification_percent": 0},
                // None is too old because the machine is busy.
                "hot_cold": {"max_report_age": "10s"},
            }],
        });
        let health = json!({"clusters": [{"name": "backend"}]});
        let proxy = Suite::new(&fleet.addresses())
            .filter("metric-router", router)
            .filter("health-signal", health)
            .upstream_health_signal()
            .start(&host)
            .await?;
        let client = Client::new();
        eventually("all endpoints are known, and all traffic comes from here", async || {
            let picks = explanations(&proxy, &client, &[]).await?;
            Ok(count(&picks, "policy=least_cost") == ROUND)
        })
        .await?;
        eventually("picks go by reports", async || {
            let picks = explanations(&proxy, &client, fleet.endpoints()).await?;
            let by_reports = count(&picks, "reason=cold") + count(&picks, "reason=least_hot");
            Ok(count(&picks, "policy=hot_cold") == ROUND && by_reports >= ROUND * 3 / 4)
        })
        .await?;
    }
}
