//! token-bucket: one client that floods, and what the others get.

use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::load::{self, ClientProfile, LoadOptions};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Duration;
use weir_tests::{Suite, on_both_hosts};

/// Jain's index: 1 if all have the same.
fn jain(got: &[f64]) -> f64 {
    let sum: f64 = got.iter().sum();
    let squares: f64 = got.iter().map(|one| one * one).sum();
    sum * sum / (got.len() as f64 * squares)
}

on_both_hosts! {
    async fn fifty_clients_of_whom_one_floods_get_equal_shares(host: Host) {
        let options = EndpointOptions { keep_requests: 0, ..EndpointOptions::named("e") };
        let fleet = Fleet::start(&options, 1).await?;
        // 200 a second for all: 4 for each. They ask for 8, and one of them for 160.
        let proxy = Suite::new(&fleet.addresses())
            .filter("token-bucket", json!({"policies": [
                {"name": "all", "gcra": {"rate": 200, "burst": 40}},
                {"name": "fair", "key": "header:x-client", "fair_share": {"of": "all"}},
            ]}))
            .start(&host)
            .await?;
        let load = LoadOptions {
            clients: ClientProfile::population("x-client", 50, 20.0),
            ..LoadOptions::at_rate(proxy.url("/"), 69.0 * 8.0, Duration::from_secs(10))
        };
        let result = load::run(&load, |_| ControlFlow::Continue(())).await?;
        let got: Vec<f64> = result.by_client.iter().map(|(_, passed)| *passed as f64).collect();
        let told = format!("{:?}, {:?}", result.by_client, result.by_status);
        assert_eq!(got.len(), 50, "{told}");
        let (flood, rest) = (got[0], &got[1..]);
        assert!(jain(rest) >= 0.95, "{} in {told}", jain(rest));
        let mean = rest.iter().sum::<f64>() / rest.len() as f64;
        assert!(flood <= 3.0 * mean, "{flood} against {mean} in {told}");
        // Little is left lying, and no more passes than may.
        let total: f64 = got.iter().sum();
        assert!((1_500.0..=2_040.0 + 200.0).contains(&total), "{total} in {told}");
    }
}
