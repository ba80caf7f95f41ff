//! token-bucket: what a VM that dies leaves to the one in its place, in the middle of traffic.
//!
//! The shipped module has no way to trap that a request could reach. But a VM is shared by all plugins
//! of one `vm_id` and one code, and an HTTP plugin that is configured as a network filter too is asked
//! for a context that it cannot give: its first connection kills the VM of the worker.

use crate::raw::{bootstrap, listener, plugin};
use anyhow::Result;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions, Fault};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_tests::{Host, Running, eventually, module, on_both_hosts};

/// Ten tokens for all, and one request in flight for whom `x-client` names.
fn policies() -> Value {
    json!({
        "store": {"lease_time": "0s"},
        "policies": [
            {"name": "all", "token_bucket": {"max_tokens": 10, "fill_interval": "3600s"}},
            {"name": "one", "key": "header:x-client", "on_missing_key": "skip",
             "concurrency": {"max": 1, "lease": "10s"}},
        ],
    })
}

/// One worker, a listener with the limits, and one that kills their VM.
async fn start(host: &Host, endpoint: &Endpoint) -> Result<Running> {
    let (module, vm) = (module("token_bucket"), json!({"vm_id": "weir"}));
    let reload = json!({
        "failure_policy": "FAIL_RELOAD",
        "reload_config": {"backoff": {"base_interval": "0.01s"}},
    });
    let limits = plugin("limits", &module, &policies().to_string(), &reload, &vm);
    let mut killer = plugin("killer", &module, &policies().to_string(), &json!({}), &vm);
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    killer["@type"] = json!(format!("{network}.wasm.v3.Wasm"));
    let kill = json!({
        "name": "kill",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [
            {"name": "killer", "typed_config": killer},
            {"name": "tcp", "typed_config": {
                "@type": format!("{network}.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "kill",
                "cluster": "backend",
            }},
        ]}],
    });
    let weir = listener("weir", &[json!({"name": "limits", "typed_config": limits})]);
    let text = bootstrap(&[weir, kill], endpoint.address());
    Running::start_with(host, &text, NonZeroU32::MIN).await
}

/// Kills the VM, and waits until there is another.
async fn kill(proxy: &Running) -> Result<()> {
    let mut connection = TcpStream::connect(proxy.address("kill")).await?;
    // Whether it is reset or closed makes no difference.
    let _ = connection.write_all(b"x").await;
    let _ = connection.read(&mut [0]).await;
    eventually("the VM has been replaced", async || {
        // Whoever asks makes the proxy try; a request that is refused costs nothing.
        let request = Request::get(proxy.url("/")).header("x-client", "held");
        Client::new().send(request).await?;
        let reloads = proxy.metric("envoy_wasm_limits_vm_reload_success").await?;
        Ok(reloads.unwrap_or(0.0) >= 1.0)
    })
    .await
}

on_both_hosts! {
    async fn a_vm_that_dies_makes_no_token_and_no_permit_and_loses_none_for_good(host: Host) {
        let endpoint = Endpoint::start(EndpointOptions::named("e")).await?;
        let proxy = start(&host, &endpoint).await?;
        for _ in 0..4 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        endpoint.set_fault(Fault::Hang);
        let held = Request::get(proxy.url("/")).header("x-client", "held");
        let _held = Client::new().start(held.clone()).await?;
        eventually("it is in flight", async || Ok(endpoint.counters().in_flight == 1)).await?;
        endpoint.set_fault(Fault::None);

        kill(&proxy).await?;
        // Its permit is not back yet; five tokens are spent, and were not given anew.
        assert_eq!(Client::new().send(held.clone()).await?.status, 429);
        for _ in 0..4 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        eventually("the lease is over", async || {
            Ok(Client::new().send(held.clone()).await?.status == 200)
        })
        .await?;
        for _ in 0..5 {
            assert_eq!(proxy.get("/").await?.status, 429);
        }
    }
}
