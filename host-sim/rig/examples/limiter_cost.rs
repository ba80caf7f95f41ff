//! CPU time of a request in real Envoy: through no limiter, through Envoy's own, through token-bucket.
//!
//! `limiter_cost ENVOY MODULE [ROUNDS [REQUESTS]]`. One Envoy with one worker has a listener for each
//! arm, all with the same limit, which is never reached. Arms take turns, a bounded number of
//! requests each, on connections that stay open; the CPU time is that of the whole Envoy process, as
//! the kernel counts it. It is not the time that passes: what else the machine does shows as wider
//! ranges and not as a longer run. Prints median and range over the rounds, and what each limiter
//! adds to none.

use anyhow::{Context as _, ensure};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Connections of an arm.
const CONNECTIONS: usize = 4;

/// What is compared, in the order of a round.
const ARMS: [&str; 4] =
    ["no limiter", "local_ratelimit", "token-bucket", "token-bucket, no headers"];

/// A million tokens a second: enough for any machine.
fn bucket() -> Value {
    json!({"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"})
}

fn filter(arm: usize, module: &str) -> Option<Value> {
    if arm == 1 {
        let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
        return Some(json!({"name": "limiter", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limiter", "token_bucket": bucket(),
            "filter_enabled": always, "filter_enforced": always,
        }}));
    }
    let configuration = json!({
        "name": format!("arm{arm}"), "ratelimit_headers": if arm == 2 { "always" } else { "never" },
        "policies": [{"name": "all", "token_bucket": bucket()}],
    });
    let vm = json!({
        "vm_id": format!("arm{arm}"), "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": module}},
    });
    (arm > 1).then(|| {
        json!({"name": "limiter", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {"name": "limiter", "vm_config": vm, "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": configuration.to_string(),
            }},
        }})
    })
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(arm: usize, module: &str) -> Value {
    let router = json!({"name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let filters: Vec<_> = filter(arm, module).into_iter().chain([router]).collect();
    json!({
        "name": format!("arm{arm}"),
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": format!("arm{arm}"),
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "backend"}},
            ]}]},
            "http_filters": filters,
        }}]}],
    })
}

fn bootstrap(module: &str, backend: SocketAddr) -> Value {
    let listeners: Vec<_> = (0..ARMS.len()).map(|arm| listener(arm, module)).collect();
    json!({
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {"listeners": listeners, "clusters": [{
            "name": "backend", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(backend)}},
            ]}]},
        }]},
    })
}

/// Sends so many requests over the connections, and waits for all answers.
async fn send(listener: SocketAddr, requests: usize) -> anyhow::Result<()> {
    let url = format!("http://{listener}/");
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let mut session = Client::new().connect(&url).await?;
                for _ in 0..requests / CONNECTIONS {
                    let response = session.send(Request::get(&url)).await?;
                    ensure!(response.status == 200, "status {}", response.status);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for connection in connections {
        connection.await??;
    }
    Ok(())
}

/// Smallest, median and largest, in microseconds.
fn range(times: &mut [f64]) -> anyhow::Result<(f64, f64, f64)> {
    times.sort_by(f64::total_cmp);
    let (first, last) = (times.first().context("no round")?, times.last().context("no round")?);
    Ok((*first, *times.get(times.len() / 2).context("no round")?, *last))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(envoy), Some(module)) = (arguments.first(), arguments.get(1)) else {
        println!("SKIP the cost beside Envoy's local_ratelimit: no Envoy (make setup)");
        return Ok(());
    };
    let number = |at: usize, default: usize| match arguments.get(at) {
        Some(text) => text.parse().with_context(|| format!("'{text}' is no number")),
        None => Ok(default),
    };
    let (rounds, requests) = (number(2, 9)?, number(3, 4_000)?);
    let fleet = Fleet::start(&EndpointOptions::named("backend"), 1).await?;
    let backend = *fleet.addresses().first().context("no endpoint")?;
    let directory = tempfile::tempdir()?;
    let (file, admin) = (directory.path().join("envoy.json"), directory.path().join("admin"));
    std::fs::write(&file, bootstrap(module, backend).to_string())?;
    let options = ProcessOptions::new(envoy)
        .args(["--use-dynamic-base-id", "--log-level", "info", "--concurrency", "1", "-c"])
        .args([&file])
        .args(["--admin-address-path"])
        .args([&admin])
        .ready_when(Readiness::Line("starting main dispatch loop".to_owned()));
    let process = ProxyProcess::start(options).await?;
    let admin = std::fs::read_to_string(&admin)?;
    let told = Client::new().get(&format!("http://{}/listeners", admin.trim())).await?.text();
    let listener = |arm: usize| -> anyhow::Result<SocketAddr> {
        let name = format!("arm{arm}::");
        let line = told.lines().find_map(|line| line.strip_prefix(&name));
        Ok(line.with_context(|| format!("no listener {name}"))?.parse()?)
    };
    let cpu = || process.cpu_time().context("no CPU time: /proc does not tell");

    let mut times = ARMS.map(|_| Vec::new());
    // The first round warms up, and is not counted.
    for round in 0..=rounds {
        for (arm, times) in times.iter_mut().enumerate() {
            let before = cpu()?;
            send(listener(arm)?, requests).await?;
            let spent = cpu()?.saturating_sub(before);
            if round > 0 {
                times.push(spent.as_secs_f64() * 1e6 / requests as f64);
            }
        }
    }
    process.terminate(Duration::from_secs(10)).await?;

    println!("CPU time of Envoy per request, {rounds} rounds of {requests} requests, in us:");
    let mut medians = Vec::new();
    for (name, times) in ARMS.iter().zip(&mut times) {
        let (least, median, most) = range(times)?;
        let added = median - medians.first().copied().unwrap_or(median);
        medians.push(median);
        println!(
            "  {name:<26} median {median:6.1}  range {least:6.1} to {most:6.1}  adds {added:5.1}"
        );
    }
    if let [_, envoys, ours, bare] = medians[..] {
        let (ours, bare) = (ours / envoys, bare / envoys);
        println!("  token-bucket to local_ratelimit: {ours:.2}, without headers {bare:.2}");
    }
    Ok(())
}
