//! All four modules together, TLS in front.

use host_sim_rig::certificates;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::connect::Protocol;
use host_sim_rig::endpoint::{EndpointOptions, Fault, ReportSource};
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
        // What failed is asked again when its breaker has been open for its time, or by one of the few
        // requests that are left unsteered. A quick machine sends thousands a second meanwhile.
        let before = dead.counters().served;
        let mut asked = 0;
        while dead.counters().served < before + 20 {
            assert_eq!(proxy.get("/").await?.status, 200);
            asked += 1;
            assert!(asked < 200_000, "it serves again");
        }
    }

    async fn tls_is_terminated_and_both_versions_of_http_are_spoken_on_both_sides(host: Host) {
        let directory = tempfile::tempdir()?;
        let certificates = certificates::ensure(directory.path())?;
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let terminating = full_chain(&fleet).tls(&certificates);
        for suite in [terminating.clone(), terminating.upstream_http2()] {
            let proxy = suite.start(&host).await?;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = Client::new().tls(certificates.client_config()?).protocol(protocol);
                let response = client
                    .send(Request::post(proxy.https_url("/echo")).body("hello"))
                    .await?;
                assert_eq!(response.status, 200);
                assert_eq!(response.json()?["body"], "hello");
            }
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
            .filter("metric-router", json!({"access_log": "all", "clusters": [{
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

    async fn the_access_log_tells_why_a_request_was_rejected_and_a_report_refused(host: Host) {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("access.log");
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        endpoint.set_report(ReportSource::Raw("TEXT cpu_utilization=-1".to_owned()));
        let proxy = Suite::new(&fleet.addresses())
            .filter("circuit-breaker", json!({"scopes": [{"name": "route", "by": ["route"]}]}))
            .filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
            .access_log(path.clone())
            .start(&host)
            .await?;
        let is_logged = |status: &str, state: &str| {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            log.lines().any(|line| line.starts_with(status) && line.contains(state))
        };
        let refused = format!("{} orca_rejected=range", endpoint.address());
        eventually("the report is refused", async || {
            proxy.get("/").await?;
            Ok(is_logged("200|-|-|-|", &refused))
        })
        .await?;
        endpoint.set_fault(Fault::respond(500));
        eventually("a request is rejected", async || {
            proxy.get("/").await?;
            Ok(is_logged("503|-|-|rejected ", "route=backend cause=open retry_after="))
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
        for (module, plugin) in [
            ("token-bucket", "token_bucket"),
            ("metric-router", "metric_router"),
            ("circuit-breaker", "circuit_breaker"),
            ("health-signal", "health_signal"),
            ("health-signal", "health_signal_upstream"),
        ] {
            let info = [("module", module), ("plugin", plugin)];
            let known = proxy.metric_with("weir_config_info", &info).await?;
            assert_eq!(known, Some(1.0), "{plugin}");
        }
    }

    async fn each_module_says_at_its_start_what_it_is(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = full_chain(&fleet).start(&host).await?;
        for plugin in ["token_bucket", "metric_router", "circuit_breaker", "health_signal"] {
            let said = format!(" {} configured as '{plugin}', config hash ", env!("CARGO_PKG_VERSION"));
            assert!(proxy.log().contains(&said), "{said}: {}", proxy.log());
        }
    }
}
