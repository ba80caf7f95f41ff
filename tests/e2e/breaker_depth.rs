//! circuit-breaker where the proxy plays a part: what Envoy tells of slow answers, trailers and
//! clients that leave, and what it makes of the headers that a breaker writes.

use anyhow::Result;
use host_sim_rig::client::{Client, Exchange, Request, Response};
use host_sim_rig::endpoint::{EndpointOptions, Fault};
use host_sim_rig::fleet::Fleet;
use host_sim_rig::grpc::GrpcServer;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

async fn guarded(host: &Host, fleet: &Fleet, scope: Value) -> Result<Running> {
    let configuration = json!({"scopes": [scope]});
    Suite::new(&fleet.addresses()).filter("circuit-breaker", configuration).start(host).await
}

async fn transitions(proxy: &Running, to: &str) -> Result<f64> {
    Ok(proxy.metric_with("weir_breaker_transitions_total", &[("to", to)]).await?.unwrap_or(0.0))
}

async fn rejected(proxy: &Running) -> Result<f64> {
    Ok(proxy.metric("weir_breaker_rejected_total").await?.unwrap_or(0.0))
}

async fn of_tenant(proxy: &Running, tenant: &str) -> Result<Response> {
    let request = Request::get(proxy.url("/")).header("x-tenant", tenant);
    Ok(Client::new().send(request).await?)
}

/// How many requests the client test gives up: a thousand, or what `WEIR_ABORTS` says.
fn aborts() -> usize {
    std::env::var("WEIR_ABORTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

/// Says, as metric-router does, that the cluster can do without one endpoint.
const NEEDED: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $set_property {weir.spare} {1})) (i32.const 0))
"#;

on_both_hosts! {
    async fn endpoints_that_are_needed_are_asked_before_their_time(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("needed.wasm");
        std::fs::write(&module, host_sim_guest::module(NEEDED))?;
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let breaker = json!({"scopes": [{
            "by": ["cluster", "endpoint"], "open": {"base": "300s"},
            "half_open": {"permitted_calls": 1},
        }]});
        let suite = Suite::new(&fleet.addresses()).foreign_filter(&module, "needed", "");
        let proxy = suite.filter("circuit-breaker", breaker).start(&host).await?;
        let to = |number: usize| {
            let fleet = &fleet;
            let addresses = [number, 2].map(|at| fleet.endpoints()[at].address().to_string());
            let list = addresses.join(",");
            Request::get(proxy.url("/")).header("x-gateway-destination-endpoint", &list)
        };
        let [first, second] = [0, 1].map(|at| &fleet.endpoints()[at]);
        for (at, endpoint) in [first, second].into_iter().enumerate() {
            endpoint.set_fault(Fault::respond(503));
            eventually("it opens", async || {
                Client::new().send(to(at)).await?;
                Ok(transitions(&proxy, "open").await? >= (at + 1) as f64)
            })
            .await?;
            endpoint.recover();
        }
        eventually("who opened first is asked, and is back", async || {
            Client::new().send(to(0)).await?;
            Ok(transitions(&proxy, "closed").await? >= 1.0)
        })
        .await?;
        eventually("every worker knows that the other one is out: one can be spared", async || {
            let before = second.counters().served;
            for _ in 0..20 {
                assert_eq!(Client::new().send(to(1)).await?.status, 200);
            }
            Ok(second.counters().served == before)
        })
        .await?;
        assert_eq!(transitions(&proxy, "half_open").await?, 1.0);
    }

    async fn answers_that_are_slow_open_the_route_though_all_succeed(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = guarded(&host, &fleet, json!({
            "by": ["route"],
            "window": {"minimum_number_of_calls": 5},
            "trip": {"slow_call_duration": "0.6s", "slow_call_rate_threshold": 60},
            "open": {"base": "0.3s", "max": "1s"}, "half_open": {"permitted_calls": 1},
        })).await?;
        let begun = Instant::now();
        for _ in 0..3 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        // A busy machine may have made slow ones of them.
        let all_were_quick = begun.elapsed() < Duration::from_millis(600);
        let after = Duration::from_millis(700);
        endpoint.set_fault(Fault::Respond { status: 200, after, fraction: 1.0 });
        let mut slow = 0;
        eventually("the slow calls open it", async || {
            slow += u32::from(proxy.get("/").await?.status == 200);
            Ok(transitions(&proxy, "open").await? >= 1.0)
        })
        .await?;
        let least = if all_were_quick { 5 } else { 2 };
        assert!((least..=6).contains(&slow), "five of eight are 60 percent, and {slow} were slow");
        endpoint.recover();
        eventually("it closes", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "closed").await? >= 1.0)
        })
        .await?;
    }

    async fn a_single_endpoint_opens_by_its_failure_rate(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = guarded(&host, &fleet, json!({
            "by": ["cluster"],
            "window": {"type": "count", "size": 40},
            "trip": {"failure_rate_threshold": 30, "consecutive_failures": 0},
            "open": {"base": "60s"},
        })).await?;
        endpoint.set_fault(Fault::Respond { status: 500, after: Duration::ZERO, fraction: 0.5 });
        eventually("half of the calls failing opens it", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "open").await? >= 1.0)
        })
        .await?;
        // Once another worker has noticed, nothing passes.
        eventually("everything is rejected", async || Ok(proxy.get("/").await?.status == 503)).await?;
        assert_eq!(transitions(&proxy, "open").await?, 1.0);
    }

    async fn traffic_comes_back_along_the_ramp(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = guarded(&host, &fleet, json!({
            "by": ["route"],
            "open": {"base": "0.3s", "max": "1s"}, "half_open": {"permitted_calls": 1},
            "ramp": {"window": "2s"},
        })).await?;
        endpoint.set_fault(Fault::respond(500));
        eventually("it opens", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "open").await? >= 1.0)
        })
        .await?;
        endpoint.recover();
        let (mut passed, mut held_back) = (0, 0);
        eventually("the ramp is over", async || {
            let status = proxy.get("/").await?.status;
            if transitions(&proxy, "ramping").await? >= 1.0 {
                passed += u32::from(status == 200);
                held_back += u32::from(status == 503);
            }
            Ok(transitions(&proxy, "closed").await? >= 1.0)
        })
        .await?;
        assert!(passed > 0 && held_back > 0, "{passed} passed and {held_back} were held back");
        for _ in 0..20 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        assert_eq!(transitions(&proxy, "open").await?, 1.0, "it did not trip again");
    }

    async fn the_failures_of_one_tenant_leave_the_others_untouched(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = guarded(&host, &fleet, json!({
            "name": "tenant", "by": ["route", "header:x-tenant"], "open": {"base": "60s"},
        })).await?;
        endpoint.set_fault(Fault::respond(500));
        eventually("the tenant's breaker opens", async || {
            Ok(of_tenant(&proxy, "acme").await?.status == 503)
        })
        .await?;
        endpoint.recover();
        eventually("every worker knows", async || {
            let mut all = true;
            for _ in 0..8 {
                all &= of_tenant(&proxy, "acme").await?.status == 503;
            }
            Ok(all)
        })
        .await?;
        for tenant in 0..50 {
            assert_eq!(of_tenant(&proxy, &format!("t{tenant}")).await?.status, 200);
        }
        assert_eq!(proxy.get("/").await?.status, 200, "who is nobody has no breaker");
        assert_eq!(transitions(&proxy, "open").await?, 1.0);
        assert!(!proxy.log().contains("acme"), "what a client sends is not logged");
    }

    async fn a_bulkhead_holds_over_all_workers_and_clients_that_leave_leak_nothing(host: Host) {
        let options = EndpointOptions { keep_requests: 0, ..EndpointOptions::named("e") };
        let fleet = Fleet::start(&options, 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = guarded(&host, &fleet, json!({
            "by": ["route"], "bulkhead": {"max_concurrent": 4},
        })).await?;
        endpoint.set_fault(Fault::Hang);
        let url = proxy.url("/");
        let mut given_up = 0;
        while given_up < aborts() {
            let before = rejected(&proxy).await?;
            let mut exchanges: Vec<Exchange> = Vec::new();
            for _ in 0..20 {
                exchanges.push(Client::new().start(Request::get(&url)).await?);
            }
            // All of them: one that is still on its way would come beside those of the next round.
            eventually("four are there and the others are rejected", async || {
                let others = rejected(&proxy).await? - before;
                Ok(others >= 16.0 && endpoint.counters().in_flight >= 4)
            })
            .await?;
            let counters = endpoint.counters();
            assert!(counters.max_in_flight <= 4, "{} at once", counters.max_in_flight);
            given_up += exchanges.len();
            exchanges.into_iter().for_each(Exchange::abort);
            eventually("the endpoint has seen them leave", async || {
                rejected(&proxy).await?;
                Ok(endpoint.counters().in_flight == 0)
            })
            .await?;
        }
        assert_eq!(endpoint.counters().max_in_flight, 4, "all four places were used");
        endpoint.recover();
        eventually("a request passes", async || Ok(proxy.get("/").await?.status == 200)).await?;
        for _ in 0..20 {
            assert_eq!(proxy.get("/").await?.status, 200, "no place was lost");
        }
        assert_eq!(transitions(&proxy, "open").await?, 0.0, "who leaves proves nothing");
    }

    async fn a_grpc_service_opens_by_its_trailers_and_is_answered_as_one(host: Host) {
        let service = GrpcServer::start().await?;
        let proxy = Suite::new(&[service.address()])
            .upstream_http2()
            .filter("circuit-breaker", json!({"scopes": [{
                "by": ["route"], "classify": {"grpc_failures": ["PERMISSION_DENIED"]},
                "trip": {"consecutive_failures": 3}, "open": {"base": "60s"},
            }]}))
            .start(&host)
            .await?;
        let call = async |method: &str| -> Result<Response> {
            let request = Request::get(proxy.url(&format!("/pkg.Svc/{method}")))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            Ok(Client::new().send(request).await?)
        };
        // Status 7 comes in trailers, after a good 200.
        let mut last = None;
        eventually("the trailers open it", async || {
            let response = call("Fail").await?;
            let is_rejection = response.header("x-envoy-overloaded").is_some();
            last = Some(response);
            Ok(is_rejection)
        })
        .await?;
        let rejection = last.expect("the last response");
        assert_eq!((rejection.status, rejection.header("grpc-status")), (200, Some("14")));
        assert_eq!(transitions(&proxy, "open").await?, 1.0);
    }

    async fn what_an_open_route_would_reject_goes_to_another_cluster(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let spare = Fleet::start(&EndpointOptions::named("spare"), 1).await?;
        let proxy = Suite::new(&fleet.addresses())
            .cluster_of("spare", &spare.addresses())
            .route("cluster", Value::Null)
            .route("cluster_header", json!("x-cluster"))
            .filter("circuit-breaker", json!({"scopes": [
                {"by": ["cluster", "endpoint"]},
                {"by": ["route"], "open": {"base": "60s"}, "action": "fallback_cluster",
                 "fallback_cluster": {"header": "x-cluster", "cluster": "spare"}},
            ]}))
            .start(&host)
            .await?;
        let get = async || -> Result<Response> {
            let request = Request::get(proxy.url("/")).header("x-cluster", "backend");
            Ok(Client::new().send(request).await?)
        };
        assert_eq!(get().await?.status, 200);
        fleet.endpoints()[0].set_fault(Fault::respond(500));
        eventually("the spare cluster serves", async || {
            get().await?;
            Ok(spare.endpoints()[0].counters().served > 0)
        })
        .await?;
        eventually("on every worker", async || {
            let mut all = true;
            for _ in 0..8 {
                all &= get().await?.status == 200;
            }
            Ok(all)
        })
        .await?;
    }

    async fn a_date_until_which_the_endpoint_asks_to_be_left_alone_is_honoured(host: Host) {
        // One says its time with every answer, as servers do; the clock of the other stands in 1994.
        let wrong = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        for headers in [
            &[("retry-after", in_an_hour.as_str())][..],
            &[("retry-after", "Sun, 06 Nov 1994 09:49:37 GMT"), wrong],
        ] {
            let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
            let endpoint = &fleet.endpoints()[0];
            let proxy = guarded(&host, &fleet, json!({
                "by": ["route"], "trip": {"consecutive_failures": 3},
                "open": {"base": "0.1s", "max": "7200s"}, "half_open": {"permitted_calls": 1},
            })).await?;
            endpoint.set_fault(Fault::respond(503));
            endpoint.set_response_headers(headers);
            let mut asked = None;
            eventually("it opens", async || {
                let response = proxy.get("/").await?;
                let is_rejection = response.header("x-envoy-overloaded").is_some();
                asked = response.header("retry-after").filter(|_| is_rejection).map(str::to_owned);
                Ok(is_rejection)
            })
            .await?;
            // For an hour and not a tenth of a second, and up to a tenth more is drawn.
            let seconds: u64 = asked.expect("retry-after").parse()?;
            assert!((3_000..=3_961).contains(&seconds), "{headers:?}: {seconds} s");
            assert_eq!(transitions(&proxy, "half_open").await?, 0.0, "nobody asks before");
        }
    }

    async fn a_probe_is_sent_once_whatever_the_route_would_retry(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = Suite::new(&fleet.addresses())
            .route("retry_policy", json!({"retry_on": "5xx", "num_retries": 3}))
            .filter("circuit-breaker", json!({"scopes": [{
                "by": ["route"], "trip": {"consecutive_failures": 2},
                "open": {"base": "0.5s", "multiplier": 1}, "half_open": {"permitted_calls": 1},
            }]}))
            .start(&host)
            .await?;
        endpoint.set_fault(Fault::respond(503));
        eventually("it opens", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "open").await? >= 1.0)
        })
        .await?;
        let before = endpoint.counters().failed;
        assert!(before >= 8, "two requests of four attempts each, and {before} came");
        eventually("a probe fails", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "open").await? >= 2.0)
        })
        .await?;
        let probes = transitions(&proxy, "half_open").await?;
        let more = endpoint.counters().failed - before;
        // A worker that has not noticed the trip yet may send one request more, with its retries.
        assert!(more as f64 <= probes + 4.0, "{more} attempts for {probes} probes");
        let settled = (endpoint.counters().failed, transitions(&proxy, "half_open").await?);
        eventually("more probes fail", async || {
            proxy.get("/").await?;
            Ok(transitions(&proxy, "half_open").await? >= settled.1 + 2.0)
        })
        .await?;
        let more = endpoint.counters().failed - settled.0;
        let probes = transitions(&proxy, "half_open").await? - settled.1;
        assert!((more as f64 - probes).abs() <= 1.0, "{more} attempts for {probes} probes");
    }
}
