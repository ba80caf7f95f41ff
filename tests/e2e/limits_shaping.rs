//! token-bucket: requests that wait for their token instead of being refused.

use anyhow::Result;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

async fn shaped(host: &Host, fleet: &Fleet, max_wait: &str, gcra: Value) -> Result<Running> {
    let policy = json!({"name": "shaped", "max_wait": max_wait, "gcra": gcra});
    Suite::new(&fleet.addresses())
        .filter("token-bucket", json!({"policies": [policy]}))
        .start(host)
        .await
}

on_both_hosts! {
    async fn what_comes_at_once_leaves_one_token_apart(host: Host) {
        const COUNT: u32 = 30;
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let running = Instant::now();
        let proxy = shaped(&host, &fleet, "5s", json!({"rate": 50, "burst": 1})).await?;
        let start = running.elapsed();
        let requests: Vec<_> = (0..COUNT)
            .map(|_| {
                let request = Request::post(proxy.url("/")).body("a body that waits, too");
                tokio::spawn(async move { Client::new().send(request).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await??.status, 200);
        }
        let mut arrived: Vec<_> =
            fleet.endpoints()[0].requests().iter().map(|request| request.at).collect();
        arrived.sort();
        assert_eq!(arrived.len(), COUNT as usize);
        // None goes before its token; how late one comes is the machine's business, but it is no second
        // for each. The clocks are two.
        let slack = Duration::from_millis(10);
        for (tokens, at) in (0..).zip(&arrived) {
            assert!(*at + slack >= start + Duration::from_millis(20) * tokens, "{arrived:?}");
        }
        assert!(arrived[arrived.len() - 1] - arrived[0] < Duration::from_secs(15), "{arrived:?}");
    }

    async fn a_client_that_leaves_while_it_is_held_leaves_its_token_to_the_next(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        // The second waits for a minute, a third would have to wait for two.
        let one = json!({"rate": 1, "per": "59s", "burst": 1});
        let proxy = shaped(&host, &fleet, "60s", one).await?;
        assert_eq!(proxy.get("/").await?.status, 200);
        let held = Client::new().start(Request::get(proxy.url("/"))).await?;
        let prefix = [("envoy_http_conn_manager_prefix", "weir")];
        eventually("one is held", async || {
            Ok(proxy.metric_with("envoy_http_downstream_rq_total", &prefix).await? == Some(2.0))
        })
        .await?;
        assert_eq!(proxy.get("/").await?.status, 429);
        held.abort();
        // Who is held now gives up at once, and leaves its token to the next as well.
        let hurried = Client::new().timeout(Duration::from_millis(300));
        for _ in 0..3 {
            eventually("the next is held", async || {
                Ok(hurried.send(Request::get(proxy.url("/"))).await.is_err())
            })
            .await?;
        }
        assert_eq!(fleet.counters()[0].served, 1);
    }
}
