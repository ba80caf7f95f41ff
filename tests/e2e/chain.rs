//! All four modules together, TLS in front.

use host_sim_rig::certificates;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::connect::Protocol;
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Suite, eventually, on_both_hosts};

fn full_chain(fleet: &Fleet) -> Suite {
    Suite::new(&fleet.addresses())
        .retries()
        .filter("token-bucket", json!({"policies": [{
            "name": "all", "token_bucket": {"max_tokens": 5000, "tokens_per_fill": 5000, "fill_interval": "1s"},
        }]}))
        .filter("metric-router", json!({"clusters": [{"name": "backend", "policy": "least_cost"}]}))
        .filter("circuit-breaker", json!({"scopes": [
            {"name": "endpoint", "by": ["cluster", "endpoint"], "open": {"base": "0.3s", "max": "1s"}},
        ]}))
        .filter("health-signal", json!({"clusters": [{
            "name": "backend",
            "active": {"kind": "http_json", "path": "/healthz", "interval": "0.3s", "timeout": "0.2s"},
        }]}))
        .upstream_health_signal()
}

on_both_hosts! {
    async fn a_dead_endpoint_costs_no_client_an_error(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let proxy = full_chain(&fleet).start(&host).await?;
        eventually("the members are known", async || {
            proxy.get("/").await?;
            Ok(proxy.metric("weir_members").await? == Some(3.0))
        })
        .await?;
        let dead = &fleet.endpoints()[0];
        dead.kill().await?;
        for _ in 0..200 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        dead.revive(None).await?;
        eventually("it serves again", async || {
            assert_eq!(proxy.get("/").await?.status, 200);
            Ok(dead.counters().served > 100)
        })
        .await?;
    }

    async fn tls_is_terminated_for_both_versions_of_http(host: Host) {
        let directory = tempfile::tempdir()?;
        let certificates = certificates::ensure(directory.path())?;
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = full_chain(&fleet).tls(&certificates).start(&host).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new().tls(certificates.client_config()?).protocol(protocol);
            let response = client
                .send(Request::post(proxy.https_url("/echo")).body("hello"))
                .await?;
            assert_eq!(response.status, 200);
            assert_eq!(response.json()?["body"], "hello");
        }
    }

    async fn the_access_log_tells_what_a_filter_did(host: Host) {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("access.log");
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = Suite::new(&fleet.addresses())
            .filter("token-bucket", json!({"policies": [{
                "name": "fifty", "token_bucket": {"max_tokens": 50, "fill_interval": "3600s"},
            }]}))
            .filter("metric-router", json!({"clusters": [{
                "name": "backend", "policy": "least_cost",
                "endpoints": [fleet.addresses()[0].to_string()],
            }]}))
            .access_log(path.clone())
            .start(&host)
            .await?;
        eventually("a steered and a limited request are logged with the filters' state", async || {
            proxy.get("/").await?;
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let line = |status: &str, state: &str| {
                log.lines().any(|line| line.starts_with(status) && line.contains(state))
            };
            Ok(line("200|-|picked ", "policy=least_cost") && line("429|limited ", "policy=fifty"))
        })
        .await?;
    }

    async fn each_module_works_alone_when_nothing_is_shared(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = Suite::new(&fleet.addresses())
            .retries()
            .private_filter("token-bucket", json!({"policies": [{
                "name": "all", "token_bucket": {"max_tokens": 5000, "tokens_per_fill": 5000, "fill_interval": "1s"},
            }]}))
            .private_filter("metric-router", json!({"clusters": [{"name": "backend", "policy": "least_cost"}]}))
            .private_filter("circuit-breaker", json!({"scopes": [
                {"name": "endpoint", "by": ["cluster", "endpoint"]},
            ]}))
            .private_filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
            .start(&host)
            .await?;
        eventually("the router steers by what it learned itself", async || {
            assert_eq!(proxy.get("/").await?.status, 200);
            Ok(proxy.metric("weir_picks_total").await?.unwrap_or(0.0) >= 20.0)
        })
        .await?;
    }

    async fn metrics_carry_labels(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = full_chain(&fleet).start(&host).await?;
        proxy.get("/").await?;
        let info = [("module", "token-bucket"), ("plugin", "token_bucket")];
        assert_eq!(proxy.metric_with("weir_config_info", &info).await?, Some(1.0));
    }
}
