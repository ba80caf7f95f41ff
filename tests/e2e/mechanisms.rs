//! metric-router: every way to tell the proxy where to go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Suite, on_both_hosts};

const HEADER: &str = "x-gateway-destination-endpoint";

/// Requests enough for a policy that does not listen to be seen at every endpoint.
const ROUNDS: usize = 40;

/// Knows the endpoints at these places only.
fn steering(fleet: &Fleet, mechanism: &str, known: &[usize]) -> Suite {
    steering_by("least_cost", fleet, mechanism, known)
}

fn steering_by(policy: &str, fleet: &Fleet, mechanism: &str, known: &[usize]) -> Suite {
    let addresses = fleet.addresses();
    let endpoints: Vec<_> = known.iter().map(|at| addresses[*at].to_string()).collect();
    Suite::new(&addresses).retries().filter(
        "metric-router",
        json!({
            "steering": {"mechanism": mechanism},
            "clusters": [{"name": "backend", "policy": policy, "endpoints": endpoints}],
        }),
    )
}

on_both_hosts! {
    async fn a_session_filter_goes_where_the_pick_says(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let proxy = steering(&fleet, "stateful_session", &[1]).stateful_session().start(&host).await?;
        // Another endpoint, in base64, as a client that knows the trick would write it.
        let forged = STANDARD.encode(fleet.addresses()[2].to_string());
        for _ in 0..ROUNDS {
            let request = Request::get(proxy.url("/")).header(HEADER, &forged);
            let response = Client::new().send(request).await?;
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[1].name()));
            assert_eq!(response.header(HEADER), None);
        }
        let requests = fleet.endpoints()[1].requests();
        assert_eq!(requests.last().expect("requests came").header(HEADER), None);
    }

    async fn a_retry_of_a_session_is_the_clusters_own_and_is_not_shown(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = steering(&fleet, "stateful_session", &[0]).stateful_session().start(&host).await?;
        fleet.endpoints()[0].kill().await?;
        for _ in 0..ROUNDS {
            let response = proxy.get("/").await?;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[1].name()));
            assert_eq!(response.header(HEADER), None);
        }
    }

    async fn an_original_dst_cluster_connects_to_the_pick(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        // Both get their share, whichever of them happens to be faster.
        let suite = steering_by("random", &fleet, "original_dst", &[0, 2]);
        let proxy = suite.original_dst().start(&host).await?;
        for _ in 0..ROUNDS {
            // No header of a client has a say.
            let request = Request::get(proxy.url("/"))
                .header(HEADER, &fleet.addresses()[1].to_string());
            assert_eq!(Client::new().send(request).await?.status, 200);
        }
        let served: Vec<_> = fleet.endpoints().iter().map(|e| e.counters().served).collect();
        assert!(served[0] >= 10 && served[1] == 0 && served[2] >= 10, "{served:?}");
    }

    async fn an_original_dst_cluster_leaves_an_endpoint_that_died(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = steering(&fleet, "original_dst", &[0, 1]).original_dst().start(&host).await?;
        fleet.endpoints()[0].kill().await?;
        let mut failed = 0;
        for _ in 0..2 * ROUNDS {
            // A retry goes to the same address: what is learned here, is learned by failures.
            failed += usize::from(proxy.get("/").await?.status != 200);
        }
        assert!((1..=ROUNDS / 4).contains(&failed), "{failed} of {} failed", 2 * ROUNDS);
    }

    async fn advice_reaches_the_endpoint_and_steers_nothing(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let addresses = fleet.addresses();
        let configuration = json!({
            "steering": {"mechanism": "advisory", "header": "x-advice"},
            "clusters": [{"name": "backend", "endpoints": [addresses[0].to_string()]}],
        });
        let proxy =
            Suite::new(&addresses).filter("metric-router", configuration).start(&host).await?;
        for _ in 0..ROUNDS {
            let request = Request::get(proxy.url("/")).header("x-advice", "127.0.0.1:1");
            assert_eq!(Client::new().send(request).await?.status, 200);
        }
        for endpoint in fleet.endpoints() {
            assert!(endpoint.counters().served >= ROUNDS as u64 / 4, "{}", endpoint.name());
            for request in endpoint.requests() {
                assert_eq!(request.header("x-advice"), Some(addresses[0].to_string().as_str()));
            }
        }
    }

    async fn a_retry_of_a_request_with_advice_is_the_clusters_own(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let addresses = fleet.addresses();
        let configuration = json!({
            "steering": {"mechanism": "advisory", "header": "x-advice"},
            "clusters": [{"name": "backend", "endpoints": [addresses[0].to_string()]}],
        });
        let suite = Suite::new(&addresses).retries().filter("metric-router", configuration);
        let proxy = suite.start(&host).await?;
        fleet.endpoints()[0].kill().await?;
        for _ in 0..ROUNDS {
            let response = proxy.get("/").await?;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[1].name()));
        }
        // Whoever reads it is told the same, whichever attempt it is.
        for request in fleet.endpoints()[1].requests() {
            assert_eq!(request.header("x-advice"), Some(addresses[0].to_string().as_str()));
        }
    }
}
