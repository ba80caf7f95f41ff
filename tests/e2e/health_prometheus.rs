//! health-signal beside a real Prometheus server: it scrapes an endpoint, and what it knows is asked
//! of it; and its own page is one that somebody else wrote.

use anyhow::{Context as _, Result, ensure};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use weir_tests::{Suite, eventually, on_both_hosts};

/// The server, which ends with this.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `make prometheus` puts it; `None`, which is told, if it could not be fetched.
fn binary() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("target/prometheus/usr/bin/prometheus");
    if path.exists() {
        return Some(path);
    }
    println!("SKIP: {} is not there (make prometheus)", path.display());
    None
}

impl Prometheus {
    /// Starts a server that scrapes these endpoints each second, and itself.
    fn start(binary: &Path, endpoints: &[SocketAddr]) -> Result<Self> {
        // The server cannot be asked which port the kernel chose, so one is chosen for it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let targets: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
        let job = |name: &str, targets: &[String]| json!({"job_name": name, "static_configs": [{"targets": targets}]});
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [job("api", &targets), job("itself", &[address.to_string()])],
        });
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("prometheus.yaml");
        std::fs::write(&file, configuration.to_string())?;
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Prometheus does not start")?;
        Ok(Self { child, address, _directory: directory })
    }
}

fn configuration(endpoints: &[SocketAddr], active: &Value, limits: &Value) -> Value {
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    json!({"publish_interval": "0.1s", "clusters": [{
        "name": "backend", "endpoints": endpoints, "active": active, "limits": limits,
        "steering_header": "x-gateway-destination-endpoint",
    }]})
}

on_both_hosts! {
    async fn what_a_prometheus_server_has_scraped_takes_an_endpoint_out(host: Host) {
        let Some(binary) = binary() else { return Ok(()) };
        // What the endpoints' own pages say: one has far more places than the limit allows.
        let large = EndpointOptions { slots: 700, ..EndpointOptions::named("busy") };
        let busy = Endpoint::start(large).await?;
        let idle = Endpoint::start(EndpointOptions::named("idle")).await?;
        let addresses = [busy.address(), idle.address()];
        let server = Prometheus::start(&binary, &addresses)?;
        let active = json!([
            {"kind": "prometheus_query", "cluster": "prometheus", "query": "sum by (instance) (rig_slots{job=\"api\"})",
             "as": "queue_depth", "interval": "1s", "timeout": "0.5s"},
            {"kind": "http", "path": "/healthz", "interval": "1s", "timeout": "0.5s"},
        ]);
        let limits = json!({"queue_depth": {"unready_above": 100}});
        let proxy = Suite::new(&addresses)
            .cluster_of("prometheus", &[server.address])
            .filter("metric-router", json!({"clusters": [{
                "name": "backend", "endpoints": addresses.map(|address| address.to_string()),
            }]}))
            .filter("health-signal", configuration(&addresses, &active, &limits))
            .upstream_health_signal()
            .start(&host)
            .await?;
        let named = addresses.map(|address| address.to_string());
        eventually("the busy one is unready and the other healthy", async || {
            proxy.get("/").await?;
            let state = async |endpoint: &str| {
                proxy.metric_with("weir_endpoint_health", &[("endpoint", endpoint)]).await
            };
            Ok(state(&named[0]).await? == Some(2.0) && state(&named[1]).await? == Some(4.0))
        })
        .await?;
        eventually("requests pass it by", async || {
            let before = busy.counters().served;
            for _ in 0..20 {
                ensure!(proxy.get("/").await?.status == 200, "a request failed");
            }
            Ok(busy.counters().served == before)
        })
        .await?;
    }

    async fn the_page_of_a_prometheus_server_is_read(host: Host) {
        let Some(binary) = binary() else { return Ok(()) };
        let server = Prometheus::start(&binary, &[])?;
        // The server is the endpoint, and tells of itself some thousand lines.
        let active = json!({"kind": "prometheus", "interval": "1s", "timeout": "0.5s", "samples": [
            {"name": "process_open_fds", "as": "connections"},
            {"name": "prometheus_http_requests_total", "labels": {"handler": "/metrics"}, "as": "rps"},
            {"name": "go_goroutines", "type": "gauge", "as": "queue_depth"},
            {"name": "prometheus_http_request_duration_seconds", "labels": {"handler": "/metrics"},
             "quantile": 0.5, "scale": 1000, "as": "rif"},
        ]});
        let addresses = [server.address];
        let proxy = Suite::new(&addresses)
            .filter("health-signal", configuration(&addresses, &active, &json!({})))
            .upstream_health_signal()
            .start(&host)
            .await?;
        eventually("its goroutines, and a latency of its page, are known", async || {
            let goroutines = proxy.metric("weir_endpoint_queue_depth").await?;
            let latency = proxy.metric("weir_endpoint_rif").await?;
            Ok(goroutines.is_some_and(|count| count >= 5.0) && latency.is_some())
        })
        .await?;
    }
}
