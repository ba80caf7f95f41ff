//! circuit-breaker: opens on what fails, once, and lets it back in with care.

use host_sim_rig::endpoint::{EndpointOptions, Fault};
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Suite, eventually, on_both_hosts};

/// Of every proxy here.
const WORKERS: u64 = 2;

on_both_hosts! {
    async fn a_failing_route_is_rejected_and_recovers(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = Suite::new(&fleet.addresses())
            .filter("circuit-breaker", json!({"scopes": [{
                "name": "route",
                "by": ["route"],
                "trip": {"consecutive_failures": 5},
                // Long enough for the next request to find it open, on a busy machine too.
                "open": {"base": "2s", "max": "2s"},
                "half_open": {"permitted_calls": 2},
            }]}))
            .start(&host)
            .await?;
        assert_eq!(proxy.get("/").await?.status, 200);

        endpoint.set_fault(Fault::respond(500));
        let mut rejected = None;
        eventually("the breaker opens", async || {
            let response = proxy.get("/").await?;
            let open = response.status == 503;
            rejected = open.then_some(response);
            Ok(open)
        })
        .await?;
        let rejected = rejected.expect("the last response");
        assert_eq!(rejected.header("x-envoy-overloaded"), Some("true"));
        assert!(rejected.header("retry-after").is_some());
        let labels = [("scope", "route"), ("mode", "enforce"), ("plugin", "circuit_breaker")];
        let counted = proxy.metric_with("weir_breaker_rejected_total", &labels).await?;
        assert!(counted.is_some(), "every label is one, and none is left in the name");
        let failed = endpoint.counters().failed;
        // Successes wait a moment before they are told. So each other worker may tell of one from
        // before, which ends a run that is one short, and send one more before it hears of the trip.
        assert!((5..=5 * WORKERS).contains(&failed), "it took {failed} failures");

        endpoint.recover();
        eventually("the breaker closes", async || {
            proxy.get("/").await?;
            let closed = [("to", "closed"), ("scope", "route")];
            Ok(proxy.metric_with("weir_breaker_transitions_total", &closed).await? == Some(1.0))
        })
        .await?;
        for _ in 0..20 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let opened = [("to", "open"), ("scope", "route")];
        let opened = proxy.metric_with("weir_breaker_transitions_total", &opened).await?;
        assert_eq!(opened, Some(1.0), "one transition, whichever worker saw the failures");
    }

    async fn a_failing_endpoint_is_left_out_and_let_back_in(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let addresses: Vec<_> = fleet.addresses().iter().map(ToString::to_string).collect();
        let proxy = Suite::new(&fleet.addresses())
            .filter("metric-router", json!({"clusters": [{
                "name": "backend", "policy": "weighted_round_robin", "endpoints": addresses,
            }]}))
            .filter("circuit-breaker", json!({"scopes": [{
                "name": "endpoint",
                "by": ["cluster", "endpoint"],
                "trip": {"consecutive_failures": 3},
                "open": {"base": "0.3s", "max": "1s"},
                "half_open": {"permitted_calls": 2},
            }]}))
            .start(&host)
            .await?;
        let bad = &fleet.endpoints()[0];
        bad.set_fault(Fault::respond(500));
        let address = bad.address().to_string();
        let transitions = async |to: &str| {
            let labels = [("to", to), ("endpoint", address.as_str())];
            proxy.metric_with("weir_breaker_transitions_total", &labels).await
        };
        eventually("the endpoint's breaker opens", async || {
            proxy.get("/").await?;
            Ok(transitions("open").await?.is_some())
        })
        .await?;
        let failures = bad.counters().failed;
        // As above. Metrics are told by then, so the request that opened it was the last.
        assert!(failures <= 3 * WORKERS, "{failures} requests failed before it opened");

        bad.recover();
        eventually("the endpoint's breaker closes", async || {
            proxy.get("/").await?;
            Ok(transitions("closed").await?.is_some())
        })
        .await?;
        let before = bad.counters().served;
        eventually("it serves again, as its errors are forgotten", async || {
            assert_eq!(proxy.get("/").await?.status, 200);
            Ok(bad.counters().served >= before + 5)
        })
        .await?;
    }
}
