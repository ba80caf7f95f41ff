//! token-bucket: one client that floods, and what the others get.

use anyhow::Result;
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::load::{self, ClientProfile, LoadOptions, LoadResult};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Duration;
use weir_tests::{Host, Suite, on_both_hosts};

/// How many times slower than at first, one run after the other, until one is as it should be: a machine
/// that is busy with other tests may not get as much to the proxy as it takes.
const SLOWER: [u32; 3] = [1, 2, 4];

/// What may pass at once, and in a second where nothing is slower.
const BURST: u32 = 40;
const RATE: u32 = 200;

/// Jain's index: 1 if all have the same.
fn jain(got: &[f64]) -> f64 {
    let sum: f64 = got.iter().sum();
    let squares: f64 = got.iter().map(|one| one * one).sum();
    sum * sum / (got.len() as f64 * squares)
}

/// 200 a second for all: 4 for each of fifty. They ask for 8, and one of them for 160.
async fn flooded(host: &Host, slower: u32) -> Result<LoadResult> {
    let options = EndpointOptions { keep_requests: 0, ..EndpointOptions::named("e") };
    let fleet = Fleet::start(&options, 1).await?;
    let proxy = Suite::new(&fleet.addresses())
        .filter(
            "token-bucket",
            json!({"policies": [
                {"name": "all", "gcra": {"rate": RATE / slower, "burst": BURST}},
                {"name": "fair", "key": "header:x-client", "fair_share": {"of": "all"}},
            ]}),
        )
        .start(host)
        .await?;
    let rate = 69.0 * 8.0 / f64::from(slower);
    let load = LoadOptions {
        clients: ClientProfile::population("x-client", 50, 20.0),
        ..LoadOptions::at_rate(proxy.url("/"), rate, Duration::from_secs(10) * slower)
    };
    load::run(&load, |_| ControlFlow::Continue(())).await
}

on_both_hosts! {
    async fn fifty_clients_of_whom_one_floods_get_equal_shares(host: Host) {
        let mut runs = Vec::new();
        for slower in SLOWER {
            let result = flooded(&host, slower).await?;
            let got: Vec<f64> = result.by_client.iter().map(|(_, passed)| *passed as f64).collect();
            let told = format!("{:?}, {:?}", result.by_client, result.by_status);
            assert_eq!(got.len(), 50, "{told}");
            let total: f64 = got.iter().sum();
            let most = f64::from(BURST) + f64::from(RATE / slower) * result.elapsed_seconds;
            assert!(total <= most, "{total} in {told}: no more passes than may");
            let (flood, rest) = (got[0], &got[1..]);
            let mean = rest.iter().sum::<f64>() / rest.len() as f64;
            let is_fair = jain(rest) >= 0.95 && flood <= 3.0 * mean;
            let is_little_left_lying = total >= 1_500.0;
            if is_fair && is_little_left_lying {
                break;
            }
            runs.push(format!("{}, {flood} against {mean}, {total} in {told}", jain(rest)));
            assert!(runs.len() < SLOWER.len(), "{runs:#?}");
        }
    }
}
