//! metric-router: requests go to the endpoint it names, and nowhere a client names.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Suite, eventually, on_both_hosts};

/// Requests enough for a fallback to round robin to be seen at every endpoint.
const ROUNDS: usize = 60;

async fn three() -> anyhow::Result<Fleet> {
    Fleet::start(&EndpointOptions::named("e"), 3).await
}

fn learning(fleet: &Fleet) -> Suite {
    Suite::new(&fleet.addresses())
        .retries()
        .filter("metric-router", json!({"clusters": [{"name": "backend", "policy": "least_cost"}]}))
}

/// Knows one endpoint only: whatever reaches another one was not steered.
fn only(fleet: &Fleet, at: usize) -> Suite {
    Suite::new(&fleet.addresses()).retries().filter(
        "metric-router",
        json!({"clusters": [{
            "name": "backend",
            "policy": "least_cost",
            "endpoints": [fleet.addresses()[at].to_string()],
        }]}),
    )
}

on_both_hosts! {
    async fn a_request_goes_to_the_endpoint_that_was_picked(host: Host) {
        let fleet = three().await?;
        let proxy = only(&fleet, 1).start(&host).await?;
        for _ in 0..ROUNDS {
            let response = proxy.get("/").await?;
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[1].name()));
        }
    }

    async fn the_steering_header_does_not_reach_the_endpoint(host: Host) {
        let fleet = three().await?;
        let proxy = only(&fleet, 0).start(&host).await?;
        proxy.get("/").await?;
        let requests = fleet.endpoints()[0].requests();
        let received = requests.last().expect("the request arrived");
        assert_eq!(received.header("x-gateway-destination-endpoint"), None);
    }

    async fn a_clients_own_steering_header_is_ignored(host: Host) {
        let fleet = three().await?;
        let proxy = only(&fleet, 0).start(&host).await?;
        let wanted = fleet.addresses()[2].to_string();
        for _ in 0..ROUNDS {
            let request = Request::get(proxy.url("/"))
                .header("x-gateway-destination-endpoint", &wanted);
            let response = Client::new().send(request).await?;
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[0].name()));
        }
    }

    async fn a_clients_header_is_removed_where_the_router_makes_no_pick(host: Host) {
        let fleet = three().await?;
        let proxy = Suite::new(&fleet.addresses())
            .filter("metric-router", json!({"mode": "off", "clusters": [{"name": "backend", "policy": "least_cost"}]}))
            .start(&host)
            .await?;
        let wanted = fleet.addresses()[2].to_string();
        for _ in 0..ROUNDS {
            let request = Request::get(proxy.url("/"))
                .header("x-gateway-destination-endpoint", &wanted);
            Client::new().send(request).await?;
        }
        // Round robin went on as if the client had said nothing.
        for endpoint in fleet.endpoints() {
            assert!(endpoint.counters().served >= ROUNDS as u64 / 4, "{}", endpoint.name());
        }
    }

    async fn the_endpoints_are_learned_from_traffic(host: Host) {
        let fleet = three().await?;
        let proxy = learning(&fleet).start(&host).await?;
        eventually("three members are known", async || {
            proxy.get("/").await?;
            Ok(proxy.metric("weir_members").await? == Some(3.0))
        })
        .await?;
        // Picks are counted at the router's ticks.
        let before = proxy.metric("weir_picks_total").await?.unwrap_or(0.0);
        let mut sent = 0.0;
        eventually("four in five of at least sixty requests are steered", async || {
            assert_eq!(proxy.get("/").await?.status, 200);
            sent += 1.0;
            let picked = proxy.metric("weir_picks_total").await?.unwrap_or(0.0) - before;
            Ok(sent >= ROUNDS as f64 && picked >= sent * 0.8)
        })
        .await?;
    }

    async fn a_retry_goes_to_the_second_endpoint_of_the_list(host: Host) {
        let fleet = three().await?;
        let addresses = fleet.addresses();
        // Two of three are known; the third is reachable by the fallback policy only.
        let proxy = Suite::new(&addresses)
            .retries()
            .filter(
                "metric-router",
                json!({"clusters": [{
                    "name": "backend",
                    "policy": "least_cost",
                    "endpoints": [addresses[0].to_string(), addresses[1].to_string()],
                    "healthy_panic_threshold": 0,
                }]}),
            )
            .start(&host)
            .await?;
        fleet.endpoints()[0].kill().await?;
        for _ in 0..ROUNDS {
            let response = proxy.get("/").await?;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[1].name()));
        }
        assert_eq!(fleet.endpoints()[2].counters().served, 0);
    }

    async fn traffic_moves_away_from_a_slow_endpoint(host: Host) {
        let options = |name: &str, mean: u64| EndpointOptions {
            service_time: host_sim_rig::service_time::ServiceTime::Fixed(
                std::time::Duration::from_millis(mean),
            ),
            ..EndpointOptions::named(name)
        };
        let slow = host_sim_rig::endpoint::Endpoint::start(options("slow", 300)).await?;
        let fast = host_sim_rig::endpoint::Endpoint::start(options("fast", 2)).await?;
        let addresses = [slow.address(), fast.address()];
        let proxy = learning_of(&addresses).start(&host).await?;
        eventually("both members are known and measured", async || {
            proxy.get("/").await?;
            let both = slow.counters().served >= 3 && fast.counters().served >= 3;
            Ok(both && proxy.metric("weir_members").await? == Some(2.0))
        })
        .await?;
        let before = slow.counters().served;
        for _ in 0..200 {
            proxy.get("/").await?;
        }
        let share = (slow.counters().served - before) as f64 / 200.0;
        assert!(share <= 0.15, "the slow endpoint still gets {share}");
    }
}

fn learning_of(addresses: &[std::net::SocketAddr]) -> Suite {
    Suite::new(addresses)
        .filter("metric-router", json!({"clusters": [{"name": "backend", "policy": "least_cost"}]}))
}
